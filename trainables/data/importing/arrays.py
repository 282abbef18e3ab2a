"""Import of DFT results into a dataset: NNN.json with NNN.ldos.npy and, if there is one, NNN.dens.npy beside it.

The JSON gives, in eV, Å and K: config.cell_angstrom, config.positions_angstrom, config.symbol, config.zval,
config.energy_grid_ev {emin, spacing, count, kernel, width}, fft, n_electrons, kt_ev, and optionally fermi_ev,
band_energy_ev, minus_ts_ev, total_energy_ev, qe_terms_ev, forces_ev_per_angstrom, config.displacement_sigma_angstrom,
and for total free energies config.pseudo (name of the UPF file of the pseudopotential) and config.ecutrho_ry [Ry].
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ase.data import atomic_numbers
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from ...errors import DatasetError, InputError, one_line
from ...files import atomic, sha256, write_text
from ...physics.smearing import Kernel
from ...physics.units import K_B, RYDBERG
from ..check import SnapshotReport, check_ldos
from ..dataset import Dataset, DatasetInfo
from ..energy_grid import EnergyGrid
from ..kohn_sham import KohnSham
from ..pseudopotential import Pseudopotential, UnsupportedPseudopotential, read_upf
from ..shards import to_batches, write
from ..snapshot import SNAPSHOTS, Snapshot, Split

Vector = tuple[float, float, float]


class _Part(BaseModel):
    """A part of the JSON of a snapshot: all numbers finite; what it says besides is left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Energies(_Part):
    emin: float
    spacing: PositiveFloat
    count: PositiveInt
    kernel: str
    width: PositiveFloat


class _Terms(_Part):
    hartree: float | None = None
    xc: float | None = None
    ewald: float | None = None


class _Config(_Part):
    cell_angstrom: tuple[Vector, Vector, Vector]
    positions_angstrom: list[Vector] = Field(min_length=1)
    symbol: str
    zval: PositiveFloat
    energy_grid_ev: _Energies
    displacement_sigma_angstrom: NonNegativeFloat | None = None
    pseudo: str | None = Field(default=None, pattern="^[ -~]{1,200}$")
    ecutrho_ry: PositiveFloat | None = None


class _Record(_Part):
    """The JSON of a snapshot, see the head of this file."""

    config: _Config
    fft: tuple[PositiveInt, PositiveInt, PositiveInt]
    n_electrons: PositiveFloat
    kt_ev: NonNegativeFloat
    fermi_ev: float | None = None
    band_energy_ev: float | None = None
    minus_ts_ev: float | None = None
    total_energy_ev: float | None = None
    qe_terms_ev: _Terms = _Terms()
    forces_ev_per_angstrom: list[Vector] | None = None


def import_arrays(
    sources: Iterable[Path],
    destination: Path,
    *,
    validation: Sequence[str] | None = None,
    test: Sequence[str] | None = None,
    source: str | None = None,
    pseudopotentials: Path | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Dataset:
    """Import snapshots into a new dataset folder, which appears whole or not at all.

    Args:
        sources: JSON files of the snapshots, or folders that hold them.
        destination: the folder to make; it must not exist.
        validation, test: ids of the snapshots of these splits; by default the last quarter is for testing and the
            quarter before it for validation.
        source: a note on the origin of the data for dataset.json; by default the folders' names.
        pseudopotentials: folder of the UPF files that the snapshots name; by default they are looked for beside the
            snapshots, and where they are not, or are PAW or of another functional, the dataset has no ``dft``.
        report: called with one line a snapshot, and one that says why there is no ``dft``.

    Raises:
        InputError: a file is missing, or what it holds is inconsistent; names file and reason.
    """
    sources = list(sources)
    files = _find(sources, report)
    if destination.exists():
        raise DatasetError(f"{destination}: exists already; choose another name or remove it first")
    splits = _splits([f.stem for f in files], validation, test)
    records = [_read(file) for file in files]
    grid = _shared_grid(files, records)
    species = _merge_species(files, [{r.config.symbol: r.config.zval} for r in records])
    dft = _kohn_sham(files, [r.config for r in records], species, pseudopotentials, report)
    with atomic(destination) as folder:
        for name in ("ldos", "density"):
            (folder / name).mkdir(parents=True)
        rows = []
        for file, record in zip(files, records, strict=True):
            snapshot, checked = _import_one(file, record, grid, folder, splits[file.stem])
            rows.append(snapshot.to_row())
            line = (
                f"{snapshot.id}  {snapshot.split:10s} {snapshot.n_atoms} atoms, grid {snapshot.grid}, {snapshot.group}"
            )
            if checked.band_energy_error is not None:
                line += f", band energy from the LDOS {checked.band_energy_error:+.2f} meV/atom off the DFT's"
            report(line)
        if not any((folder / "density").iterdir()):
            (folder / "density").rmdir()
        table = pa.Table.from_pylist(rows, schema=SNAPSHOTS)
        pq.write_table(table, folder / "snapshots.parquet", write_page_checksum=True)
        info = DatasetInfo(
            species=species,
            energy_grid=grid,
            dft=dft,
            source=source or "imported from " + ", ".join(sorted({f.parent.name for f in files})),
        )
        write_text(folder / "dataset.json", info.model_dump_json(indent=2) + "\n")
    return Dataset.open(destination)


def _find(sources: Sequence[Path], report: Callable[[str], None]) -> list[Path]:
    files: list[Path] = []
    for place in sources:
        if place.is_dir():
            found = sorted(place.glob("*.json"))
            snapshots = [f for f in found if f.with_name(f"{f.stem}.ldos.npy").exists()]
            if not snapshots:
                raise DatasetError(f"{place}: holds no snapshot (a NNN.json with a NNN.ldos.npy beside it)")
            for file in found:
                if file not in snapshots:
                    report(f"left out {file}: no {file.stem}.ldos.npy beside it")
            files += snapshots
        elif place.suffix == ".json":
            files.append(place)
        else:
            raise DatasetError(
                f"{place}: {'no snapshot' if place.exists() else 'missing'}; "
                "give folders or the NNN.json files of snapshots"
            )
    if not files:
        raise DatasetError("nothing to import: give folders or the NNN.json files of snapshots")
    names = [f.stem for f in files]
    if repeated := sorted({n for n in names if names.count(n) > 1}):
        raise DatasetError(f"snapshot '{repeated[0]}' is given twice; ids within a dataset are unique")
    return files


def _splits(ids: list[str], validation: Sequence[str] | None, test: Sequence[str] | None) -> dict[str, Split]:
    quarter = max(1, len(ids) // 4) if len(ids) >= 3 else 0
    if validation is None and test is None and quarter:
        validation, test = ids[-2 * quarter : -quarter], ids[-quarter:]
    validation, test = list(validation or []), list(test or [])
    if unknown := [i for i in validation + test if i not in ids]:
        raise DatasetError(f"no snapshot '{unknown[0]}' to put into a split; there are {', '.join(ids)}")
    if both := sorted(set(validation) & set(test)):
        raise DatasetError(f"snapshot '{both[0]}' cannot be in validation and in test")
    return {i: "validation" if i in validation else "test" if i in test else "train" for i in ids}


def _load(path: Path, shape: tuple[int, ...], *, what: str) -> NDArray[np.floating]:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: missing; every snapshot needs its {what}") from error
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f"{path}: not a whole .npy file; copy it again") from error
    if values.shape != shape:
        raise DatasetError(f"{path}: has shape {values.shape}, but the JSON beside it says {shape}")
    if values.dtype not in (np.float16, np.float32, np.float64):
        raise DatasetError(f"{path}: holds {values.dtype}, not floating-point numbers")
    return values if values.dtype != np.float64 else values.astype(np.float32)


def _read(file: Path) -> _Record:
    """The JSON of a snapshot, consistent in itself."""
    try:
        record = _Record.model_validate_json(file.read_bytes())
        _energy_grid(record)
    except FileNotFoundError as error:
        raise DatasetError(f"{file}: missing") from error
    except (ValueError, OSError) as error:
        raise DatasetError(f"{file}: {one_line(error)}; see `dftune data import --help`") from error
    config = record.config
    if config.symbol not in atomic_numbers:
        raise DatasetError(f"{file}: '{config.symbol}' is not a chemical symbol")
    n_atoms, forces = len(config.positions_angstrom), record.forces_ev_per_angstrom
    if forces is not None and len(forces) != n_atoms:
        raise DatasetError(f"{file}: has forces of {len(forces)} atoms, but positions of {n_atoms}")
    if abs(config.zval * n_atoms - record.n_electrons) > 1e-6:
        raise DatasetError(
            f"{file}: {n_atoms} {config.symbol} with {config.zval:g} valence electrons each are not the "
            f"{record.n_electrons:g} electrons it gives; charged cells are not supported"
        )
    if np.linalg.det(np.array(config.cell_angstrom)) <= 0:
        raise DatasetError(f"{file}: the cell vectors are left-handed or coplanar; reorder them to a positive volume")
    return record


def _energy_grid(record: _Record) -> EnergyGrid:
    sampled = record.config.energy_grid_ev
    return EnergyGrid(
        minimum=sampled.emin,
        spacing=sampled.spacing,
        n_energy=sampled.count,
        kernel=_kernel(sampled.kernel),
        width=sampled.width,
    )


def _shared_grid(files: Sequence[Path], records: Sequence[_Record]) -> EnergyGrid:
    grid = _energy_grid(records[0])
    for file, record in zip(files, records, strict=True):
        if _energy_grid(record) != grid:
            raise DatasetError(f"{file}: energy grid differs from that of {files[0]}; a dataset has one grid")
    return grid


def _import_one(
    file: Path, record: _Record, grid: EnergyGrid, folder: Path, split: Split
) -> tuple[Snapshot, SnapshotReport]:
    config, terms, forces = record.config, record.qe_terms_ev, record.forces_ev_per_angstrom
    nx, ny, nz = record.fft
    sigma = config.displacement_sigma_angstrom
    values = _load(file.with_name(f"{file.stem}.ldos.npy"), (nx, ny, nz, grid.n_energy), what="LDOS")
    density_file = file.with_name(f"{file.stem}.dens.npy")
    snapshot = Snapshot(
        id=file.stem,
        split=split,
        group="all" if sigma is None else f"displacement {sigma:.2f} Å",
        cell=np.array(config.cell_angstrom),
        positions=np.array(config.positions_angstrom),
        numbers=np.full(len(config.positions_angstrom), atomic_numbers[config.symbol]),
        grid=(nx, ny, nz),
        temperature=record.kt_ev / K_B,
        n_electrons=record.n_electrons,
        total_energy=record.total_energy_ev,
        band_energy=record.band_energy_ev,
        entropy_term=record.minus_ts_ev,
        hartree_energy=terms.hartree,
        xc_energy=terms.xc,
        ewald_energy=terms.ewald,
        fermi_level=record.fermi_ev,
        forces=None if forces is None else np.array(forces),
        ldos_sha256="",
        density_sha256=None,
    )
    flat = values.reshape(snapshot.n_points, grid.n_energy)
    checked = check_ldos(flat, snapshot, grid, where=str(file.with_name(f"{file.stem}.ldos.npy")))
    about = {"snapshot": snapshot.id, "grid": str(snapshot.grid), "axes": "grid point (C order), energy"}
    hashes = {}
    path = folder / "ldos" / f"{snapshot.id}.arrow"
    write(path, to_batches(flat, "ldos", about | {"unit": "1/(eV Å³), both spins summed"}))
    hashes["ldos_sha256"] = sha256(path)
    if density_file.exists():
        density = _load(density_file, (nx, ny, nz), what="density").reshape(-1)
        if not np.isfinite(density).all():
            raise DatasetError(f"{density_file}: values are not finite; run the DFT post-processing again")
        counted = float(density.mean(dtype=float) * snapshot.volume)
        if abs(counted - snapshot.n_electrons) > 0.01 * snapshot.n_electrons:
            raise DatasetError(
                f"{density_file}: integrates to {counted:.3f} electrons, the DFT has {snapshot.n_electrons:g}; "
                "check that its unit is 1/Å³"
            )
        path = folder / "density" / f"{snapshot.id}.arrow"
        write(path, to_batches(density, "density", about | {"unit": "1/Å³"}))
        hashes["density_sha256"] = sha256(path)
    return Snapshot.from_row(snapshot.to_row() | hashes), checked


def _kernel(text: str) -> Kernel:
    if text.startswith("gaussian"):
        return "gaussian"
    if text.startswith(("fd", "fermi")):
        return "fermi-dirac"
    raise ValueError(f"unknown kernel '{text}' of the LDOS; gaussian and fermi-dirac are known")


def _merge_species(files: Sequence[Path], found: Sequence[dict[str, float]]) -> dict[str, float]:
    merged: dict[str, float] = {}
    for file, species in zip(files, found, strict=True):
        for symbol, valence in species.items():
            if merged.setdefault(symbol, valence) != valence:
                raise InputError(
                    f"{file}: {symbol} has {valence:g} valence electrons here and {merged[symbol]:g} before"
                )
    return merged


T = TypeVar("T")


class _Unknown(Exception):
    """Why a DFT calculation cannot be known well enough for its total free energy, in words."""


def _kohn_sham(
    files: Sequence[Path],
    configs: Sequence[_Config],
    species: dict[str, float],
    folder: Path | None,
    report: Callable[[str], None],
) -> KohnSham | None:
    """The DFT as its pseudopotentials tell; None, and a line that says why, where nobody asked and they cannot."""
    try:
        cutoff = _one_value(files, [c.ecutrho_ry for c in configs], "config.ecutrho_ry")
        used = {}
        for symbol in species:
            of_it = [(f, c.pseudo) for f, c in zip(files, configs, strict=True) if c.symbol == symbol]
            name = _one_value([f for f, _ in of_it], [pseudo for _, pseudo in of_it], "config.pseudo")
            used[symbol] = _pseudopotential(Path(name).name, [folder] if folder else [f.parent for f, _ in of_it])
        return KohnSham.from_pseudopotentials(used, species=species, density_cutoff=cutoff * RYDBERG)
    except (_Unknown, UnsupportedPseudopotential) as error:
        if folder is not None:
            remedy = "or import without --pseudopotentials, for the LDOS and the band energy alone"
            raise InputError(f"{error}; {remedy}") from error
        report(f"no total free energies from this dataset: {error}")
        return None


def _one_value(files: Sequence[Path], values: Sequence[T | None], key: str) -> T:
    known = [(file, value) for file, value in zip(files, values, strict=True) if value is not None]
    for file, value in known:
        if value != known[0][1]:
            raise DatasetError(f"{file}: {key} is {value}, but {known[0][1]} in {known[0][0]}; a dataset needs one")
    if len(known) < len(files):
        without = files[list(values).index(None)]
        raise _Unknown(f"{without} gives no {key}; add it and import again")
    return known[0][1]


def _pseudopotential(name: str, folders: Sequence[Path]) -> Pseudopotential:
    """The one of that name in any of the folders, where all that have it have the same."""
    places = list(dict.fromkeys(folder / name for folder in folders))
    found = [place for place in places if place.is_file()]
    if not found:
        where = ", ".join(str(place.parent) for place in places)
        raise _Unknown(f"{name} is not in {where}; give its folder with --pseudopotentials")
    read = [read_upf(place) for place in found]
    if different := [place for place in found[1:] if sha256(place) != sha256(found[0])]:
        raise DatasetError(f"{different[0]}: differs from {found[0]}; a dataset needs one pseudopotential an element")
    return read[0]
