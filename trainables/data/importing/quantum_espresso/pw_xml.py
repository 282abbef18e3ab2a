"""Reader of data-file-schema.xml, which pw.x writes into outdir/prefix.save (versions 6.3 and later).

The file has Hartree atomic units.  Source: the schema qes-1.0 of Quantum ESPRESSO.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from ....errors import DatasetError, one_line
from ....physics.units import BOHR, HARTREE
from .pw_run import Bands, PwRun, element, smearing

NAME = "data-file-schema.xml"
LARGEST = 500_000_000  # bytes; 20,000 k-points with 1,000 bands
_TERMS = {"ehart": "hartree", "etxc": "xc", "ewald": "ewald", "demet": "smearing"}
_KNOWN = {*_TERMS, "etot", "eband", "vtxc"}
_UNPOLARISED = "dftune knows electrons without spin polarisation, so run pw.x with nspin = 1"
AGAIN = "run pw.x again, or remove it if the whole log of that calculation is there"
_NO_SMEARING = "occupations '{}'"


@dataclass(frozen=True)
class Facts:
    """What decides whether wavefunctions give the LDOS.

    Attributes:
        ultrasoft: whether a pseudopotential is ultrasoft or PAW.
        spinors: whether states have two components.
        n_symmetries: of the crystal, that pw.x made use of.
    """

    ultrasoft: bool
    spinors: bool
    n_symmetries: int


def read_xml(path: Path) -> PwRun:
    """Read what pw.x found.

    Raises:
        DatasetError: damaged, written by half, of another program, or of a calculation that did not converge or is not
            covered.
    """
    return read_xml_with_facts(path)[0]


def read_xml_with_facts(path: Path) -> tuple[PwRun, Facts]:
    """The same, with what the wavefunctions beside it are."""
    if path.stat().st_size > LARGEST:
        raise DatasetError(f"{path}: larger than {LARGEST // 1_000_000} MB, more than any such file has; {AGAIN}")
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError, ValueError) as error:
        raise DatasetError(f"{path}: not a whole XML file ({one_line(error, 80)}); {AGAIN}") from error
    output = root.find("output")
    if not root.tag.endswith("espresso") or output is None:
        raise DatasetError(f"{path}: holds no output of pw.x; {AGAIN}")
    try:
        reader = _Reader(path, root, output)
        return reader.run(), reader.facts()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(
            f"{path}: damaged, or of a version that is not known ({one_line(error, 80)}); {AGAIN}"
        ) from error


class _Reader:
    """Looks up what stands in one file."""

    def __init__(self, path: Path, root: ElementTree.Element, output: ElementTree.Element) -> None:
        self.path, self.root, self.output = path, root, output

    def run(self) -> PwRun:
        bands = self.need("band_structure")
        calculation = self.root.findtext("input/control_variables/calculation", "scf").strip()
        self._refuse(calculation)
        structure = self.need("atomic_structure")
        atoms = structure.findall("atomic_positions/atom")
        species = self.output.findall("atomic_species/species")
        cell = np.array([_floats(structure.findtext(f"cell/a{i}")) for i in (1, 2, 3)]) * BOHR
        kind, width = self._occupations(bands)
        terms, total, beyond = self._energies()
        forces, stress = self.output.find("forces"), self.output.find("stress")
        fermi = bands.findtext("fermi_energy")
        return PwRun(
            where=self.path,
            version=self.root.find("general_info/creator").attrib.get("VERSION"),  # type: ignore[union-attr]
            calculation=calculation,
            cell=cell,
            positions=np.array([_floats(atom.text) for atom in atoms]) * BOHR,
            symbols=[element(atom.attrib["name"], self.path) for atom in atoms],
            pseudopotentials=self._files(species),
            n_electrons=float(bands.findtext("nelec", "")),
            grid=self._grid(),
            wave_cutoff=float(self.text("basis_set/ecutwfc")) * HARTREE,
            density_cutoff=float(self.text("basis_set/ecutrho")) * HARTREE,
            functional=self.text("dft/functional").strip(),
            smearing=kind,
            degauss=width,
            k_mesh=self._mesh(bands),
            terms=terms,
            total_energy=total if calculation == "scf" else None,
            fermi_level=None if fermi is None else float(fermi) * HARTREE,
            forces=None if forces is None else _floats(forces.text).reshape(-1, 3) * HARTREE / BOHR,
            stress=None if stress is None else -_floats(stress.text).reshape(3, 3) * HARTREE / BOHR**3,
            bands=self._bands(bands),
            beyond=beyond,
        )

    def facts(self) -> Facts:
        ultrasoft = any(
            (self.output.findtext(f"algorithmic_info/{name}") or "").strip() == "true" for name in ("uspp", "paw")
        )
        return Facts(ultrasoft, self._is("noncolin"), int(self.output.findtext("symmetries/nsym") or 1))

    def need(self, place: str) -> ElementTree.Element:
        found = self.output.find(place)
        if found is None:
            raise DatasetError(f"{self.path}: has no {place.split('/')[-1]} in its output; run pw.x to its end")
        return found

    def text(self, place: str) -> str:
        return self.need(place).text or ""

    def _refuse(self, calculation: str) -> None:
        """Raise DatasetError where it did not converge, or the physics is another."""
        achieved = self.output.findtext("convergence_info/scf_conv/convergence_achieved")
        if calculation != "nscf" and (achieved or "").strip() == "false":
            raise DatasetError(f"{self.path}: the SCF did not converge (convergence_achieved); run pw.x to convergence")
        if self._is("lsda"):
            raise DatasetError(f"{self.path}: spin-polarised (lsda); {_UNPOLARISED}")
        moment = self.output.findtext("magnetization/absolute")
        magnetic = self._is("do_magnetization") or abs(float(moment or 0)) > 1e-3
        if self._is("noncolin") and magnetic:
            raise DatasetError(f"{self.path}: non-collinear magnetism; {_UNPOLARISED}")

    def _is(self, name: str) -> bool:
        return (self.output.findtext(f"magnetization/{name}") or "").strip() == "true"

    def _occupations(self, bands: ElementTree.Element) -> tuple[str, float]:
        kind = (bands.findtext("occupations_kind") or "").strip()
        found = bands.find("smearing")
        if kind != "smearing" or found is None:
            return _NO_SMEARING.format(kind), 0.0
        return smearing(found.text or ""), float(found.attrib["degauss"]) * HARTREE

    def _files(self, species: Iterable[ElementTree.Element]) -> dict[str, str]:
        folder = self.need("atomic_species").attrib.get("pseudo_dir", "")
        found: dict[str, str] = {}
        for one in species:
            symbol, name = element(one.attrib["name"], self.path), (one.findtext("pseudo_file") or "").strip()
            if found.setdefault(symbol, folder + name) != folder + name:
                raise DatasetError(
                    f"{self.path}: {symbol} has two pseudopotentials, {found[symbol]} and {name}; one an element is "
                    "needed"
                )
        return found

    def _grid(self) -> tuple[int, int, int]:
        sizes = self.need("basis_set/fft_grid").attrib
        return int(sizes["nr1"]), int(sizes["nr2"]), int(sizes["nr3"])

    def _mesh(self, bands: ElementTree.Element) -> tuple[int, int, int] | None:
        found = bands.find("starting_k_points/monkhorst_pack")
        return None if found is None else (int(found.attrib["nk1"]), int(found.attrib["nk2"]), int(found.attrib["nk3"]))

    def _energies(self) -> tuple[dict[str, float], float | None, tuple[str, ...]]:
        """Known terms, the total, and what else is in it."""
        found = self.output.find("total_energy")
        if found is None:
            return {}, None, ()
        values = {term.tag: float(term.text or "nan") * HARTREE for term in found}
        terms = {name: values[tag] for tag, name in _TERMS.items() if tag in values}
        beyond = [f"a term {tag}" for tag, value in values.items() if tag not in _KNOWN and abs(value) > 1e-9]
        isolated = self.root.findtext("input/boundary_conditions/assume_isolated", "none").strip()
        if isolated != "none":
            beyond.append(f"assume_isolated = '{isolated}'")
        if self.output.find("dft/dftU") is not None:
            beyond.append("a Hubbard U")
        if self.output.find("dft/hybrid") is not None:
            beyond.append("exact exchange")
        if (vdw := self.output.find("dft/vdW")) is not None:
            beyond.append(f"a dispersion correction {(vdw.findtext('vdw_corr') or '').strip()}".rstrip())
        return terms, values.get("etot"), tuple(beyond)

    def _bands(self, bands: ElementTree.Element) -> Bands | None:
        points = bands.findall("ks_energies")
        if not points:
            return None
        energy = np.array([_floats(point.findtext("eigenvalues")) for point in points]) * HARTREE
        occupation = np.array([_floats(point.findtext("occupations")) for point in points])
        weight = np.array([float(point.find("k_point").attrib["weight"]) for point in points])  # type: ignore[union-attr]
        full = 1.0 if self._is("noncolin") else 2.0
        return Bands(energy, weight * full / weight.sum(), occupation if occupation.shape == energy.shape else None)


def _floats(text: str | None) -> NDArray[np.float64]:
    return np.array((text or "").split(), dtype=np.float64)
