"""Import of DFT results into a dataset: NNN.json with NNN.ldos.npy and, if there is one, NNN.dens.npy beside it.

The JSON gives, in eV, Å and K: config.cell_angstrom, config.positions_angstrom, config.symbol, config.zval,
config.energy_grid_ev {emin, spacing, count, kernel, width}, fft, n_electrons, kt_ev, and optionally fermi_ev,
band_energy_ev, minus_ts_ev, total_energy_ev, qe_terms_ev, forces_ev_per_angstrom, config.displacement_sigma_angstrom.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ase.data import atomic_numbers
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from .dataset import SNAPSHOTS, Dataset, DatasetInfo, Snapshot, SnapshotReport, Split, check_ldos, one_line
from .energy_grid import EnergyGrid
from .errors import DatasetError, InputError
from .files import atomic, sha256, write_text
from .physics.smearing import Kernel
from .physics.units import K_B
from .shards import to_batches, write

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
    report: Callable[[str], None] = lambda line: None,
) -> Dataset:
    """Import snapshots into a new dataset folder, which appears whole or not at all.

    Args:
        sources: JSON files of the snapshots, or folders that hold them.
        destination: the folder to make; it must not exist.
        validation, test: ids of the snapshots of these splits; by default the last quarter is for testing and the
            quarter before it for validation.
        source: a note on the origin of the data for dataset.json; by default the folders' names.
        report: called with one line a snapshot.

    Raises:
        DatasetError: a file is missing, or what it holds is inconsistent; names file and reason.
    """
    sources = list(sources)
    files = _find(sources, report)
    if destination.exists():
        raise DatasetError(f"{destination}: exists already; choose another name or remove it first")
    splits = _splits([f.stem for f in files], validation, test)
    with atomic(destination) as folder:
        for name in ("ldos", "density"):
            (folder / name).mkdir(parents=True)
        infos: list[tuple[EnergyGrid, dict[str, float]]] = []
        rows = []
        for file in files:
            snapshot, grid, species, checked = _import_one(
                file, folder, splits[file.stem], (files[0], infos[0][0]) if infos else None
            )
            infos.append((grid, species))
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
            species=_merge_species(files, [s for _, s in infos]),
            energy_grid=infos[0][0],
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


def _import_one(
    file: Path, folder: Path, split: Split, first: tuple[Path, EnergyGrid] | None
) -> tuple[Snapshot, EnergyGrid, dict[str, float], SnapshotReport]:
    try:
        record = _Record.model_validate_json(file.read_bytes())
        config, terms, sampled = record.config, record.qe_terms_ev, record.config.energy_grid_ev
        grid = EnergyGrid(
            minimum=sampled.emin,
            spacing=sampled.spacing,
            n_energy=sampled.count,
            kernel=_kernel(sampled.kernel),
            width=sampled.width,
        )
    except FileNotFoundError as error:
        raise DatasetError(f"{file}: missing") from error
    except (ValueError, OSError) as error:
        raise DatasetError(f"{file}: {one_line(error)}; see `dftune data import --help`") from error
    if first is not None and first[1] != grid:
        raise DatasetError(f"{file}: energy grid differs from that of {first[0]}; a dataset has one grid")
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
        numbers=np.full(n_atoms, atomic_numbers[config.symbol]),
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
    finished = Snapshot.from_row(snapshot.to_row() | hashes)
    return finished, grid, {config.symbol: config.zval}, checked


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
