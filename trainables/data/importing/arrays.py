"""Import of DFT results into a dataset: NNN.json with NNN.ldos.npy and, if there is one, NNN.dens.npy beside it.

docs/layout.md lists the keys of the JSON; ``_Record`` is what is read of it.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from ase.data import atomic_numbers
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from ...errors import DatasetError, one_line
from ...files import read_text
from ...physics.smearing import Kernel
from ...physics.units import K_B, RYDBERG
from ..energy_grid import EnergyGrid
from ..kohn_sham import KohnSham
from ..snapshot import Snapshot
from .importer import Found, FoundSnapshot, Report, Told
from .npy import npy_values
from .pseudopotentials import Calculation, Keys, kohn_sham

KEYS = Keys(cutoff="config.ecutrho_ry", pseudopotential="config.pseudo", unit=RYDBERG)

Vector = tuple[float, float, float]
FileName = Annotated[str, Field(pattern="^[ -~]{1,200}$")]


class _Part(BaseModel):
    """A part of the JSON of a snapshot: all numbers finite; what it says besides is left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Energies(_Part):
    emin: float
    spacing: PositiveFloat
    count: PositiveInt
    kernel: str | None = None
    width: PositiveFloat | None = None


class _Terms(BaseModel):
    """Terms of the energy; there may be more of them than these, such as a dispersion."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, float | None]

    one_electron: float | None = None
    hartree: float | None = None
    xc: float | None = None
    ewald: float | None = None


class _Config(_Part):
    cell_angstrom: tuple[Vector, Vector, Vector]
    positions_angstrom: list[Vector] = Field(min_length=1)
    symbol: str | None = None
    symbols: list[str] | None = None
    zval: PositiveFloat | dict[str, PositiveFloat]
    energy_grid_ev: _Energies
    displacement_sigma_angstrom: NonNegativeFloat | None = None
    pseudo: FileName | dict[str, FileName] | None = None
    ecutrho_ry: PositiveFloat | None = None

    @property
    def atoms(self) -> list[str]:
        """The symbol of each atom."""
        return self.symbols or [self.symbol or ""] * len(self.positions_angstrom)

    @property
    def valences(self) -> dict[str, float]:
        """Of each species."""
        of = self.zval if isinstance(self.zval, dict) else dict.fromkeys(self.atoms, self.zval)
        return {symbol: of[symbol] for symbol in sorted(set(self.atoms))}

    @property
    def pseudopotentials(self) -> dict[str, str | None]:
        """The file of each species; None: not said."""
        return {s: self.pseudo.get(s) if isinstance(self.pseudo, dict) else self.pseudo for s in self.valences}

    @model_validator(mode="after")
    def _says_each_species(self) -> Self:
        if (self.symbol is None) == (self.symbols is None):
            raise ValueError("give either symbol, of all atoms, or symbols, of each atom")
        if len(self.atoms) != len(self.positions_angstrom):
            raise ValueError(f"symbols of {len(self.atoms)} atoms, but positions of {len(self.positions_angstrom)}")
        species = sorted(set(self.atoms))
        if strange := [symbol for symbol in species if atomic_numbers.get(symbol, 0) < 1]:
            raise ValueError(f"{strange[0][:20]!r} is not a chemical symbol")
        for name, value in (("zval", self.zval), ("pseudo", self.pseudo)):
            if isinstance(value, dict):
                if missing := sorted(set(species) - set(value)):
                    raise ValueError(f"{name} has no {', '.join(missing)}")
            elif value is not None and len(species) > 1:
                raise ValueError(f"{name} of {', '.join(species)} must be {{symbol: value}}")
        return self


class _Record(_Part):
    """The JSON of a snapshot, see the head of this file."""

    config: _Config
    fft: tuple[PositiveInt, PositiveInt, PositiveInt]
    n_electrons: PositiveFloat
    temperature_k: NonNegativeFloat | None = None
    kt_ev: NonNegativeFloat | None = None
    fermi_ev: float | None = None
    band_energy_ev: float | None = None
    minus_ts_ev: float | None = None
    total_energy_ev: float | None = None
    qe_terms_ev: _Terms = Field(default_factory=lambda: _Terms.model_validate({}))
    ldos_unit: str | None = None
    forces_ev_per_angstrom: list[Vector] | None = None
    stress_ev_per_angstrom3: tuple[Vector, Vector, Vector] | None = None
    group: str | None = Field(default=None, min_length=1, max_length=200)

    @model_validator(mode="after")
    def _has_one_temperature(self) -> Self:
        said = [value for value in (self.temperature_k, self._from_energy) if value is not None]
        if not said:
            raise ValueError("says no temperature; give temperature_k or kt_ev")
        if abs(said[0] - said[-1]) > 1e-6 * said[0]:
            raise ValueError(f"temperature_k is {said[0]:g} K, but kt_ev {said[-1]:g} K")
        return self

    @property
    def _from_energy(self) -> float | None:
        return None if self.kt_ev is None else self.kt_ev / K_B

    @property
    def temperature(self) -> float:
        """τ [K]."""
        return self.temperature_k if self.temperature_k is not None else self._from_energy or 0.0


class Arrays:
    """The importer of this layout."""

    name = "arrays"
    about = "folders of NNN.json with NNN.ldos.npy, or the NNN.json files"

    def recognises(self, path: Path) -> bool:
        """Whether a snapshot lies there: a JSON file with an LDOS beside it."""
        return any(_ldos_file(file).exists() for file in (path.glob("*.json") if path.is_dir() else [path]))

    def read(self, sources: Sequence[Path], *, told: Told, report: Report) -> Found:
        """Find the snapshots of all sources; arguments and errors as ``Importer.read``."""
        files = _find(sources, report)
        records = [_read(file) for file in files]
        grids = [_energy_grid(file, record, told) for file, record in zip(files, records, strict=True)]
        snapshots = [_found(file, record, grid, told) for file, record, grid in zip(files, records, grids, strict=True)]
        by_file = zip(files, records, strict=True)
        calculations = [
            Calculation(file, record.config.ecutrho_ry, record.config.pseudopotentials) for file, record in by_file
        ]

        def dft(species: Mapping[str, float]) -> KohnSham | None:
            return kohn_sham(calculations, KEYS, species=species, folder=told.pseudopotentials, report=report)

        source = "imported from " + ", ".join(sorted({file.parent.name for file in files}))
        return Found(snapshots=snapshots, dft=dft, source=source)


ARRAYS = Arrays()


def _ldos_file(file: Path) -> Path:
    return file.with_name(f"{file.stem}.ldos.npy")


def _density_file(file: Path) -> Path:
    return file.with_name(f"{file.stem}.dens.npy")


def _find(sources: Sequence[Path], report: Report) -> list[Path]:
    files: list[Path] = []
    for place in sources:
        if place.is_dir():
            found = sorted(file for file in place.glob("*.json") if file.is_file())
            snapshots = [f for f in found if os.path.lexists(_ldos_file(f))]  # links that lead nowhere are missed later
            if not snapshots:
                raise DatasetError(f"{place}: holds no snapshot; give folders of NNN.json with NNN.ldos.npy beside it")
            for file in found:
                if file not in snapshots:
                    report(f"left out {file}: no {file.stem}.ldos.npy beside it")
            known = {_ldos_file(file) for file in snapshots}
            for ldos in sorted(set(place.glob("*.ldos.npy")) - known):
                report(f"left out {ldos}: no {ldos.name.removesuffix('.ldos.npy')}.json beside it")
            files += snapshots
        elif place.suffix == ".json":
            files.append(place)
        else:
            raise DatasetError(
                f"{place}: {'no snapshot' if place.exists() else 'missing'}; "
                "give folders or the NNN.json files of snapshots"
            )
    return files


def _read(file: Path) -> _Record:
    """The JSON of a snapshot, consistent in itself."""
    try:
        record = _Record.model_validate_json(read_text(file))
    except FileNotFoundError as error:
        raise DatasetError(f"{file}: missing; give the NNN.json of a snapshot, or their folder") from error
    except (ValueError, OSError) as error:
        what = one_line(error).removeprefix(f"{file}: ")
        raise DatasetError(f"{file}: {what}; docs/layout.md has its keys") from error
    return record


def _energy_grid(file: Path, record: _Record, told: Told) -> EnergyGrid:
    sampled = record.config.energy_grid_ev
    try:
        said = None if sampled.kernel is None else _kernel(sampled.kernel)
        kernel, width = told.broadening(said, sampled.width, where=file)
        return EnergyGrid(
            minimum=sampled.emin, spacing=sampled.spacing, n_energy=sampled.count, kernel=kernel, width=width
        )
    except DatasetError:
        raise
    except ValueError as error:
        raise DatasetError(f"{file}: {one_line(error)}; docs/layout.md has its keys") from error


def _found(file: Path, record: _Record, grid: EnergyGrid, told: Told) -> FoundSnapshot:
    config, terms, forces = record.config, record.qe_terms_ev, record.forces_ev_per_angstrom
    nx, ny, nz = record.fft
    sigma = config.displacement_sigma_angstrom
    snapshot = Snapshot(
        id=file.stem,
        group=record.group or ("all" if sigma is None else f"displacement {sigma:.2f} Å"),
        cell=np.array(config.cell_angstrom),
        positions=np.array(config.positions_angstrom),
        numbers=np.array([atomic_numbers[symbol] for symbol in config.atoms]),
        grid=(nx, ny, nz),
        temperature=record.temperature,
        n_electrons=record.n_electrons,
        total_energy=record.total_energy_ev,
        band_energy=record.band_energy_ev,
        entropy_term=record.minus_ts_ev,
        hartree_energy=terms.hartree,
        xc_energy=terms.xc,
        ewald_energy=terms.ewald,
        fermi_level=record.fermi_ev,
        forces=None if forces is None else np.array(forces),
        stress=None if record.stress_ev_per_angstrom3 is None else np.array(record.stress_ev_per_angstrom3),
    )
    density = _density_file(file)
    return FoundSnapshot(
        where=file,
        snapshot=snapshot,
        species=config.valences,
        energy_grid=grid,
        ldos=npy_values(_ldos_file(file), (nx, ny, nz, grid.n_energy), what="LDOS", factor=_factor(file, record, told)),
        density=npy_values(density, (nx, ny, nz), what="density") if os.path.lexists(density) else None,
        terms_error=_terms_error(record),
    )


def _terms_error(record: _Record) -> float | None:
    """Sum of the terms minus the total energy [eV]; None where not all are known."""
    terms = {"smearing": record.minus_ts_ev} | record.qe_terms_ev.model_dump()
    if record.total_energy_ev is None or None in terms.values():
        return None
    return float(sum(terms.values())) - record.total_energy_ev


def _factor(file: Path, record: _Record, told: Told) -> float:
    """What turns the LDOS into 1/(eV Å³).  Raises DatasetError: nothing says or shows its unit."""
    factor = told.ldos_factor(record.ldos_unit, where=file)
    if factor is not None:
        return factor
    known = (record.fermi_ev, record.band_energy_ev)
    if all(value is None for value in known) and not _density_file(file).exists():
        raise DatasetError(
            f"{file}: nothing shows whether the LDOS is in 1/(eV Å³); give fermi_ev, band_energy_ev or a density "
            "beside it, or say its unit, as ldos_unit in this file or with --unit"
        )
    return 1.0


def _kernel(text: str) -> Kernel:
    if text.startswith("gaussian"):
        return "gaussian"
    if text.startswith(("fd", "fermi")):
        return "fermi-dirac"
    raise ValueError(f"unknown kernel '{text}' of the LDOS; gaussian and fermi-dirac are known")
