"""What lies beside MALA's arrays: info.json or a log of pw.x, and parameters.  eV, Å, K."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from ...errors import DatasetError, InputError, one_line
from ...files import read_text
from ...physics.smearing import Kernel
from ...physics.units import K_B, RYDBERG
from ..pseudopotential import read_upf
from ..snapshot import Snapshot, Split
from .importer import OTHER
from .quantum_espresso.pw_run import FERMI_DIRAC, PwRun

Vector = tuple[float, float, float]
SAME = 1e-3  # [Å]; a log rounds to 1e-6
SPLIT_OF: dict[str, Split] = {"tr": "train", "va": "validation", "te": "test"}


class _Part(BaseModel):
    """All numbers finite; what it says besides is left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Atoms(_Part):
    numbers: list[PositiveInt] = Field(min_length=1)
    positions: list[Vector]
    cell: tuple[Vector, Vector, Vector]
    pbc: tuple[bool, bool, bool] = (True, True, True)


class Ours(_Part):
    """What dftune adds where it exports a dataset, under the key "dftune"."""

    group: str = "all"
    kernel: Kernel | None = None
    width: PositiveFloat | None = None


class Info(_Part):
    """NAME.info.json: what MALA kept of the DFT calculation."""

    atoms: _Atoms
    grid_dimensions: tuple[PositiveInt, PositiveInt, PositiveInt]
    temperature: NonNegativeFloat
    number_of_electrons_exact: PositiveFloat
    fermi_energy_dft: float | None = None
    band_energy_dft_calculation: float | None = None
    total_energy_dft_calculation: float | None = None
    entropy_contribution_dft_calculation: float | None = None
    one_electron_contribution: float | None = None
    hartree_contribution: float | None = None
    xc_contribution: float | None = None
    ewald_contribution: float | None = None
    ecutrho: PositiveFloat | None = None
    pseudopotentials: dict[str, str] = {}
    atomic_forces_dft: list[Vector] | None = None
    dftune: Ours = Ours()

    @classmethod
    def read(cls, file: Path, run: PwRun | None) -> "Info":
        """From a file, or from the log of pw.x if there is no such file.

        Args:
            file: NAME.info.json.
            run: what the log beside it says; None where there is none.

        Raises:
            DatasetError: both are missing, the file is damaged or lacks something, or they contradict each other.
        """
        try:
            info = cls.model_validate_json(read_text(file))
        except FileNotFoundError as error:
            if run is not None:
                return cls.from_run(run)
            raise DatasetError(
                f"{file}: missing, and no log of pw.x beside it; MALA writes it from the log (DataConverter, "
                "simulation_output_type)"
            ) from error
        except InputError as error:
            raise DatasetError(str(error)) from error
        except (ValueError, OSError) as error:
            raise DatasetError(f"{file}: {one_line(error)}; write it again") from error
        if not all(info.atoms.pbc):
            raise DatasetError(f"{file}: pbc is {list(info.atoms.pbc)}; only cells periodic in all directions are read")
        if max(info.atoms.numbers) >= len(chemical_symbols):
            raise DatasetError(f"{file}: atomic numbers are 1 to {len(chemical_symbols) - 1}; write it again")
        if run is not None and (other := info.differs_from(run)):
            raise DatasetError(f"{run.where}: {other} beside it; they are of different snapshots, so {OTHER}")
        return info

    @classmethod
    def from_run(cls, run: PwRun) -> "Info":
        """What MALA would have kept of a log.  Raises DatasetError: states were not occupied by Fermi-Dirac."""
        if run.smearing != FERMI_DIRAC:
            raise DatasetError(
                f"{run.where}: states are occupied by {run.smearing}; a temperature needs smearing = 'fermi-dirac'"
            )
        temperature = run.degauss / K_B
        band = None if run.bands is None else run.bands.energies(electrons=run.n_electrons, temperature=temperature)
        atoms = {"numbers": run.numbers.tolist(), "positions": run.positions.tolist(), "cell": run.cell.tolist()}
        return cls.model_validate(
            {
                "atoms": atoms,
                "grid_dimensions": run.grid,
                "temperature": temperature,
                "number_of_electrons_exact": run.n_electrons,
                "fermi_energy_dft": run.fermi_level,
                "band_energy_dft_calculation": None if band is None else band.band,
                "total_energy_dft_calculation": run.total_energy,
                "entropy_contribution_dft_calculation": run.terms.get("smearing"),
                **{f"{name}_contribution": run.terms.get(name) for name in ("one_electron", "hartree", "xc", "ewald")},
                "ecutrho": run.density_cutoff / RYDBERG,
                "pseudopotentials": {symbol: Path(name).name for symbol, name in run.pseudopotentials.items()},
                "atomic_forces_dft": None if run.forces is None else run.forces.tolist(),
            }
        )

    def differs_from(self, run: PwRun) -> str:
        """How a log of pw.x differs, in words; empty if it does not."""
        symbols = [chemical_symbols[number] for number in self.atoms.numbers]
        if list(run.symbols) != symbols:
            return f"has the atoms {' '.join(run.symbols)[:60]}, but the info.json has {' '.join(symbols)[:60]}"
        if (off := np.abs(run.cell - self.atoms.cell).max()) > SAME:
            return f"its cell vectors differ by {off:.4f} Å from those in the info.json"
        level, known = run.fermi_level, self.fermi_energy_dft
        if level is not None and known is not None and abs(level - known) > 1e-3:
            return f"has a Fermi level of {level:.4f} eV, but the info.json {known:.4f}"
        temperature, error = run.degauss / K_B, 1.01 * run.degauss_error / K_B + 1.0
        if run.smearing == FERMI_DIRAC and abs(temperature - self.temperature) > error:
            return f"has a temperature of {temperature:.0f} K, but the info.json {self.temperature:.0f} K"
        return ""

    @property
    def symbols(self) -> list[str]:
        """Its elements."""
        return sorted({chemical_symbols[number] for number in self.atoms.numbers})

    @property
    def named_pseudopotentials(self) -> dict[str, str | None]:
        """Chemical symbol -> name of a UPF file; None where it is not said."""
        return {symbol: self.pseudopotentials.get(symbol) for symbol in self.symbols}

    @property
    def terms_error(self) -> float | None:
        """Sum of the terms minus the total energy [eV]; None where not all are known."""
        terms = (
            self.one_electron_contribution,
            self.hartree_contribution,
            self.xc_contribution,
            self.ewald_contribution,
            self.entropy_contribution_dft_calculation,
        )
        known = [term for term in terms if term is not None]
        if self.total_energy_dft_calculation is None or len(known) < len(terms):
            return None
        return sum(known) - self.total_energy_dft_calculation

    def snapshot(self, name: str) -> Snapshot:
        """The snapshot of that id."""
        forces = self.atomic_forces_dft
        return Snapshot(
            id=name,
            group=self.dftune.group,
            cell=np.array(self.atoms.cell),
            positions=np.array(self.atoms.positions),
            numbers=np.array(self.atoms.numbers),
            grid=self.grid_dimensions,
            temperature=self.temperature,
            n_electrons=self.number_of_electrons_exact,
            total_energy=self.total_energy_dft_calculation,
            band_energy=self.band_energy_dft_calculation,
            entropy_term=self.entropy_contribution_dft_calculation,
            hartree_energy=self.hartree_contribution,
            xc_energy=self.xc_contribution,
            ewald_energy=self.ewald_contribution,
            fermi_level=self.fermi_energy_dft,
            forces=None if forces is None else np.array(forces),
        )

    def species(self, folders: Sequence[Path], *, where: Path) -> dict[str, float]:
        """Chemical symbol -> valence electrons: from the number of electrons, or for several species from UPF files.

        Raises:
            DatasetError: several species, and a pseudopotential is not in the folders.
        """
        symbols = self.symbols
        if len(symbols) == 1:
            return {symbols[0]: self.number_of_electrons_exact / len(self.atoms.numbers)}
        valences = {}
        for symbol in symbols:
            name = self.pseudopotentials.get(symbol)
            files = [folder / name for folder in folders if name and (folder / name).is_file()]
            if not files:
                raise DatasetError(
                    f"{where}: has {', '.join(symbols)}, and nothing says the valence electrons of {symbol}; give the "
                    "folder of its pseudopotential with --pseudopotentials"
                )
            valences[symbol] = read_upf(files[0]).valence
        return valences


@dataclass(frozen=True)
class Parameters:
    """What parameters that MALA saved say of a project; nothing where there are none.

    Attributes:
        where: the file.
        cutoff: R_cut of the bispectrum [Å].
        units: name of an LDOS file -> its unit.
        splits: name of an LDOS file -> what it is for.
    """

    where: Path | None = None
    cutoff: float | None = None
    units: dict[str, str] = field(default_factory=dict)
    splits: dict[str, Split] = field(default_factory=dict)


def parameters_in(folders: Sequence[Path], told: Path | None) -> Parameters:
    """The parameters that a user names, or that lie in a folder of the snapshots.

    Raises:
        DatasetError: a folder has several that say different things.
    """
    files = [told] if told is not None and told.suffix == ".json" else []
    if not files or told is None:
        files += [file for folder in folders for file in sorted(folder.glob("*params.json")) if file.is_file()]
    found = [parameters for file in files if (parameters := _parameters(file)) is not None]
    for other in found[1:]:
        if (other.cutoff, other.units, other.splits) != (found[0].cutoff, found[0].units, found[0].splits):
            raise DatasetError(f"{other.where}: differs from {found[0].where}; choose one with --energies")
    return found[0] if found else Parameters()


def _parameters(file: Path) -> Parameters | None:
    """The parameters of a file; None: it is another JSON."""
    try:
        content = json.loads(read_text(file))
    except InputError as error:
        raise DatasetError(str(error)) from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{file}: no JSON ({one_line(error)}); write it again, or remove it") from error
    if not isinstance(content, dict) or not isinstance(content.get("targets"), dict):
        return None
    descriptors = _dict(content.get("descriptors"))
    cutoff = descriptors.get("bispectrum_cutoff", descriptors.get("rcutfac"))
    listed = _dict(content.get("data")).get("snapshot_directories_list") or []
    snapshots = [_dict(_dict(entry).get("data")) for entry in listed] if isinstance(listed, list) else []
    units = {str(s.get("output_npy_file")): str(s["output_units"]) for s in snapshots if s.get("output_units")}
    splits = {
        str(s.get("output_npy_file")): SPLIT_OF[str(s.get("snapshot_function"))]
        for s in snapshots
        if s.get("snapshot_function") in SPLIT_OF
    }
    known = float(cutoff) if isinstance(cutoff, (int, float)) and 0 < cutoff <= 20 else None
    return Parameters(file, known, units, splits)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
