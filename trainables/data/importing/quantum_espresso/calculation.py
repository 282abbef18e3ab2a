"""What the calculations of one snapshot say together: an SCF, perhaps an nscf after it, each by a log or by XML."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ....errors import DatasetError, InputError
from ....physics.smearing import Kernel
from ....physics.units import K_B
from ...energy_grid import EnergyGrid
from ...pseudopotential import read_upf
from ...snapshot import Snapshot
from ...states_check import States
from ..importer import Report
from ..pseudopotentials import Calculation
from .inputs import PwInput
from .ldos_files import LdosFiles
from .pw_run import FERMI_DIRAC, TERMS, PwRun
from .pw_xml import NAME

KEEP_ONE = "keep files of one calculation"
MOST_DIFFERENCE = 1e-4  # [eV] between the energies of log and XML, which the log rounds
SAME_LEVEL = 1e-3  # [eV]
MOST_FORCES = 1e-3  # [eV/Å] between those of two files
MOST_MISCOUNTED = 0.01  # share of the electrons; right files: 1e-4
TAIL = 4.0  # widths that a kernel reaches; a Gaussian is 1e-7 there
# What pp.x takes from the smearing of the calculation before it; without one, its default is a Gaussian.
_KERNELS: dict[str, Kernel] = {"fermi-dirac": "fermi-dirac", "gaussian": "gaussian"}


@dataclass(frozen=True)
class Reference:
    """What the DFT says of the electrons [eV]; None where it does not."""

    fermi_level: float | None
    band: float | None
    entropy: float | None


class Together:
    """The calculations of a snapshot.

    Args:
        runs: logs and XML of one structure.
        inputs: of pw.x, wherever they are.

    Raises:
        DatasetError: no SCF is among them, two disagree, or states were not occupied by Fermi-Dirac.
    """

    def __init__(self, runs: Sequence[PwRun], inputs: Sequence[PwInput]) -> None:
        self._runs, self._inputs = runs, inputs
        scf = [run for run in runs if run.is_scf and run.total_energy is not None] or [r for r in runs if r.is_scf]
        if not scf:
            raise DatasetError(
                f"{runs[0].where}: an {runs[0].calculation} calculation; keep the log of the scf before it, as it has "
                "the temperature and the energies"
            )
        self._logs = [run for run in scf if run.where.name != NAME]
        xml = [run for run in scf if run.where.name == NAME]
        self.scf = (xml or self._logs)[0]
        self.structure = next((run for run in runs if run.where.name == NAME), self.scf)  # a log rounds it
        for run in scf:
            self._refuse_other(run)
        nscf = [run for run in runs if not run.is_scf]
        self.last = ([run for run in nscf if run.where.name == NAME] or nscf or [self.scf])[0]
        kind = (self._logs or [self.scf])[0]
        occupied = kind.smearing if self._logs else self.scf.occupied_by
        if occupied != FERMI_DIRAC:
            raise DatasetError(
                f"{kind.where}: states are occupied by {occupied}, where dftune knows electrons at a temperature; run "
                "pw.x with occupations = 'smearing', smearing = 'fermi-dirac', and degauss the temperature"
            )

    def _refuse_other(self, run: PwRun) -> None:
        """Raise DatasetError if a calculation is another one than the SCF."""
        first = self.scf
        if abs(run.degauss - first.degauss) > 1.01 * (run.degauss_error + first.degauss_error):
            raise DatasetError(
                f"{run.where}: degauss is {run.degauss:.4g} eV, but {first.degauss:.4g} in {first.where}; {KEEP_ONE}"
            )
        for name in ("n_electrons", "grid", "wave_cutoff", "density_cutoff"):
            a, b = getattr(run, name), getattr(first, name)
            if a != b and (name == "grid" or abs(a - b) > 1e-3):
                raise DatasetError(f"{run.where}: {name} is {a}, but {b} in {first.where}; {KEEP_ONE}")
        if None not in (run.total_energy, first.total_energy):
            off = abs(run.total_energy - first.total_energy)  # type: ignore[operator]
            if off > MOST_DIFFERENCE:
                raise DatasetError(
                    f"{run.where}: its total energy is {off:.4f} eV off that in {first.where}; {KEEP_ONE}"
                )
        if None not in (run.fermi_level, first.fermi_level) and not (
            abs(run.fermi_level - first.fermi_level) <= SAME_LEVEL  # type: ignore[operator]
        ):
            raise DatasetError(
                f"{run.where}: fermi_level is {run.fermi_level:.4f} eV, but {first.fermi_level:.4f} in {first.where}; "
                f"{KEEP_ONE}"
            )
        if run.forces is not None and first.forces is not None:
            off = float(np.abs(run.forces - first.forces).max())
            if not off <= MOST_FORCES:
                raise DatasetError(
                    f"{run.where}: forces are up to {off:.3g} eV/Å off those in {first.where}; {KEEP_ONE}"
                )

    @property
    def version(self) -> str:
        """Of pw.x."""
        return next((run.version for run in self._runs if run.version), "of an unknown version")

    @property
    def files(self) -> str:
        """The files that it is read from, in words."""
        return ", ".join(run.where.name for run in self._runs)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Of the density."""
        return self.last.grid

    @cached_property
    def _degauss(self) -> tuple[float, float]:
        """Width of the smearing and its error [eV], by the file that rounds it least."""
        said = [(run.degauss_error, run.degauss) for run in (self.scf, *self._logs)]
        error, width = min(said)
        if error > 0:
            exact = {i.degauss for i in self._near_inputs if i.degauss and abs(i.degauss - width) <= 1.01 * error}
            if len(exact) == 1:
                return exact.pop(), 0.0
        return width, error

    @property
    def temperature(self) -> float:
        """Of the electrons [K]."""
        return self._degauss[0] / K_B

    @property
    def _near_inputs(self) -> list[PwInput]:
        folders = {run.where.parent for run in self._runs}
        return [one for one in self._inputs if one.where.parent in folders]

    @property
    def k_mesh(self) -> tuple[int, int, int] | None:
        """Of the calculation that the LDOS is of."""
        inputs = {one.k_mesh for one in self._near_inputs}
        return self.last.k_mesh or (inputs.pop() if len(inputs) == 1 else None)

    @cached_property
    def reference(self) -> Reference:
        """Of the calculation that the LDOS is of, at the temperature of the SCF."""
        same = [self.last, *(self._logs if self.last.is_scf else [])]
        for run in same:
            if run.bands is not None:
                found = run.bands.energies(electrons=run.n_electrons, temperature=self.temperature)
                if found is not None:
                    return Reference(found.fermi_level, found.band, found.entropy)
        if not self.last.is_scf:
            return Reference(None, None, None)
        return Reference(self.scf.fermi_level, None, self.scf.terms.get("smearing"))

    def check_bands(self) -> None:
        """Compare what the files say of the electrons with their own eigenvalues.

        Raises:
            DatasetError: the Fermi level does not give their electrons, or the entropy term is of another temperature.
        """
        for run in self._runs:
            if run.bands is None or run.degauss <= 0:
                continue
            if run.fermi_level is not None:
                counted = run.bands.electrons(fermi_level=run.fermi_level, temperature=run.degauss / K_B)
                if not abs(counted - run.n_electrons) <= MOST_MISCOUNTED * run.n_electrons:
                    raise DatasetError(
                        f"{run.where}: at its Fermi level of {run.fermi_level:.4f} eV its eigenvalues hold "
                        f"{counted:.3f} electrons, not {run.n_electrons:g}; {KEEP_ONE}"
                    )
        said, found = self.scf.terms.get("smearing"), self.reference.entropy
        if self.last.is_scf and None not in (said, found):
            width, error = self._degauss
            most = (0.05 + 3 * error / width) * abs(said) + MOST_DIFFERENCE  # type: ignore[arg-type]
            if abs(found - said) > most:  # type: ignore[operator]
                raise DatasetError(
                    f"{self.scf.where}: at {self.temperature:.0f} K its eigenvalues give an entropy term of "
                    f"{found:.4f} eV, but it says {said:.4f}; its temperature (degauss) is of another calculation"
                )

    @property
    def states(self) -> States | None:
        """Eigenvalues of the calculation that the LDOS is of."""
        for run in [self.last, *(self._logs if self.last.is_scf else [])]:
            if run.bands is not None:
                weight = np.repeat(run.bands.weight, run.bands.energy.shape[1])
                return States(run.where, run.bands.energy.ravel(), weight)
        return None

    @property
    def terms_error(self) -> float | None:
        """Sum of the terms that a log prints, minus its total energy [eV]."""
        for run in self._logs:
            if run.total_energy is not None and set(TERMS) <= set(run.terms):
                return sum(run.terms.values()) - run.total_energy
        return None

    @property
    def beyond(self) -> tuple[str, ...]:
        """What is in the total energy besides the known terms."""
        return tuple(dict.fromkeys(words for run in self._runs for words in run.beyond))

    @property
    def checksums(self) -> Mapping[str, str]:
        """Chemical symbol -> MD5 of its pseudopotential."""
        return {symbol: md5 for run in self._runs for symbol, md5 in run.checksums.items()}

    @property
    def pseudopotentials(self) -> Mapping[str, str]:
        """Chemical symbol -> path of its pseudopotential, as pw.x was told it."""
        return {symbol: path for run in self._runs for symbol, path in run.pseudopotentials.items()}

    def pseudopotential_folders(self, sources: Sequence[Path]) -> list[Path]:
        """Where UPF files may be: beside the files, in outdir/prefix.save, where pw.x found them, up to the sources."""
        tops, found = {source.resolve() for source in sources}, list[Path]()
        for run in self._runs:
            folder = run.where.resolve().parent
            found.append(folder)
            found += [(folder / path).parent for path in run.pseudopotentials.values()]
            while folder not in tops and folder != folder.parent and any(top in folder.parents for top in tops):
                folder = folder.parent
                found.append(folder)
        return list(dict.fromkeys(found))

    def valences(self, told: Path | None) -> dict[str, float]:
        """Chemical symbol -> valence electrons: as a log says, else as the pseudopotentials do.

        Raises:
            DatasetError: no file says it.
        """
        said = {symbol: valence for run in self._runs for symbol, valence in run.valences.items()}
        symbols = set(self.scf.symbols)
        if symbols <= set(said):
            return {symbol: said[symbol] for symbol in sorted(symbols)}
        if len(symbols) == 1:
            return {symbol: self.scf.n_electrons / len(self.scf.symbols) for symbol in symbols}
        found = {}
        for symbol, path in self.pseudopotentials.items():
            places = [told] if told is not None else self.pseudopotential_folders([])
            files = [folder / Path(path).name for folder in places if (folder / Path(path).name).is_file()]
            if not files:
                raise DatasetError(
                    f"{self.scf.where}: does not say the valence of {symbol}, and {Path(path).name} is not there; keep "
                    "the log of pw.x, or give the folder of the UPF files with --pseudopotentials"
                )
            try:
                found[symbol] = read_upf(files[0]).valence
            except InputError as error:
                raise DatasetError(f"{self.scf.where}: does not say the valence of {symbol}: {error}") from error
        return found

    @property
    def formula(self) -> str:
        """How many atoms of which element, in words."""
        return " ".join(f"{n} {symbol}" for symbol, n in Counter(self.scf.symbols).items())

    def snapshot(self, name: str, group: str) -> Snapshot:
        """Its numbers; the writer of datasets sets the split and the checksums."""
        scf, numbers = self.scf, self.reference
        return Snapshot(
            id=name,
            group=group,
            cell=self.structure.cell,
            positions=self.structure.positions,
            numbers=scf.numbers,
            grid=self.grid,
            temperature=self.temperature,
            n_electrons=scf.n_electrons,
            total_energy=scf.total_energy,
            band_energy=numbers.band,
            entropy_term=numbers.entropy,
            hartree_energy=scf.terms.get("hartree"),
            xc_energy=scf.terms.get("xc"),
            ewald_energy=scf.terms.get("ewald"),
            fermi_level=numbers.fermi_level,
            forces=scf.forces,
            stress=scf.stress,
        )

    def calculation(self, folders: Sequence[Path]) -> Calculation:
        """What total free energies need to know of it; UPF files are looked for in the folders."""
        return Calculation(
            where=self.scf.where,
            cutoff=round(self.scf.density_cutoff, 6),
            pseudopotentials={symbol: Path(name).name for symbol, name in self.pseudopotentials.items()},
            folders=folders,
            checksums=self.checksums,
            functional=self.scf.functional,
            beyond=self.beyond,
        )

    def kernel(self, ldos: LdosFiles) -> tuple[Kernel | None, Kernel | None]:
        """The kernel that an input of pp.x says, and that which pp.x takes from the smearing before it."""
        if ldos.gaussian is not None:
            return "gaussian", None
        return None, _KERNELS.get(self.last.smearing)

    def say(self, name: str, grid: EnergyGrid, report: Report) -> None:
        """Report what limits the LDOS or its references."""
        width, error = self._degauss
        if error > 0.005 * width:
            report(
                f"{name}: temperature {self.temperature:.0f} ± {error / K_B:.0f} K, as the log rounds it; with "
                f"{NAME} or the input of pw.x beside it, it would be exact"
            )
        bands = self.last.bands
        if bands is not None and bands.complete_to < (top := float(grid.energy[-1]) + TAIL * grid.width):
            report(
                f"{name}: the bands are complete to {bands.complete_to:.2f} eV, and an LDOS up to "
                f"{grid.energy[-1]:g} eV needs them to {top:.2f}; states are missing "
                "above, so compute more bands (nbnd) if that matters"
            )
