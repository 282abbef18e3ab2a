"""From what an importer found to a dataset folder: splits, checks, checksums.  Energies in eV, lengths in Å.

What every importer owes its users stands here once: unique ids, one energy grid, one valence a species, neutral cells,
an LDOS and a density that agree with the DFT, a folder that appears whole or not at all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...errors import DatasetError, InputError, did_you_mean
from ...files import atomic, sha256, write_text
from ...physics.quadrature import RULES, Rule
from ..check import LdosCheck, SnapshotReport
from ..checked import summarise
from ..dataset import Dataset
from ..energy_grid import EnergyGrid
from ..geometry_check import check_geometry
from ..info import DatasetInfo
from ..shards import ShardFile, in_shards, to_batches, write
from ..snapshot import SNAPSHOTS, Snapshot, Split
from ..snapshot_check import check_snapshot, first_repeated
from .importer import Found, FoundSnapshot, GridValues, Report

MOST_TERMS_ERROR = 1.0  # [meV/atom]; QE prints them to 1e-4


def write_dataset(
    found: Found,
    destination: Path,
    *,
    validation: Sequence[str] | None = None,
    test: Sequence[str] | None = None,
    source: str | None = None,
    rule: Rule | None = None,
    report: Report = lambda line: None,
) -> Dataset:
    """Write a dataset; arguments and errors as ``import_dataset``."""
    refuse_existing(destination)
    ids = _unique_ids(found.snapshots)
    _refuse_repeated(found.snapshots)
    splits = _splits(ids, validation, test)
    for one in found.snapshots:
        check_snapshot(one.snapshot, one.species, where=one.where)
    grid, species = _shared_grid(found.snapshots), _shared_species(found.snapshots)
    grid = _with_rule(grid, rule, report)
    dft = found.dft(species)
    with atomic(destination) as folder:
        for name in ("ldos", "density"):
            (folder / name).mkdir(parents=True)
        rows, reports = [], []
        for one in found.snapshots:
            snapshot, checked = _write_one(one, grid, folder, splits[one.snapshot.id])
            rows.append(snapshot.to_row())
            reports.append(checked)
            report(_line(snapshot, checked))
        checks = summarise(reports)
        if not any((folder / "density").iterdir()):
            (folder / "density").rmdir()
        table = pa.Table.from_pylist(rows, schema=SNAPSHOTS)
        pq.write_table(table, folder / "snapshots.parquet", write_page_checksum=True)
        info = DatasetInfo(species=species, energy_grid=grid, dft=dft, source=source or found.source, checks=checks)
        write_text(folder / "dataset.json", info.model_dump_json(indent=2) + "\n")
    for check in checks:
        report(check.line())
    return Dataset.open(destination)


def refuse_existing(destination: Path) -> None:
    """Raise DatasetError if the destination exists."""
    if destination.exists():
        raise DatasetError(f"{destination}: exists already; choose another name or remove it first")


def _shared_grid(snapshots: Sequence[FoundSnapshot]) -> EnergyGrid:
    """The energy grid of all snapshots.  Raises DatasetError if they differ."""
    first = snapshots[0]
    for one in snapshots:
        if one.energy_grid != first.energy_grid:
            raise DatasetError(f"{one.where}: energy grid differs from that of {first.where}; a dataset has one grid")
    return first.energy_grid


def _with_rule(grid: EnergyGrid, rule: Rule | None, report: Report) -> EnergyGrid:
    """The grid with the rule that was asked for, or the better one; says which it is, and how far off both may be."""
    if rule not in (None, *RULES):
        raise InputError(f"there is no rule '{rule}'; {did_you_mean(str(rule), RULES)}")
    chosen: Rule = rule or grid.better_rule
    errors = ", ".join(f"{one} {1e3 * grid.rule_error(one).band_energy:.3g}" for one in RULES)
    report(
        f"rule of integration: {chosen}{'' if rule is None else ', as asked for'}; estimated error of a band energy "
        f"[meV per electron]: {errors}"
    )
    return grid.model_copy(update={"rule": chosen})


def _shared_species(snapshots: Sequence[FoundSnapshot]) -> dict[str, float]:
    """Chemical symbol -> valence electrons of all snapshots.  Raises InputError if they differ."""
    merged: dict[str, float] = {}
    for one in snapshots:
        for symbol, valence in one.species.items():
            if merged.setdefault(symbol, valence) != valence:
                raise InputError(
                    f"{one.where}: {symbol} has {valence:g} valence electrons here and {merged[symbol]:g} before"
                )
    return merged


def _unique_ids(snapshots: Sequence[FoundSnapshot]) -> list[str]:
    ids = [one.snapshot.id for one in snapshots]
    if not ids:
        raise DatasetError("nothing to import: the importer found no snapshot")
    if (twice := first_repeated(ids)) is not None:
        raise DatasetError(f"snapshot '{twice}' is given twice; ids within a dataset are unique")
    return ids


def _refuse_repeated(snapshots: Sequence[FoundSnapshot]) -> None:
    """Raise DatasetError if a structure is there twice at one temperature: splits would know of each other."""
    seen: dict[tuple[str, float], FoundSnapshot] = {}
    for one in snapshots:
        first = seen.setdefault((one.snapshot.structure_hash, round(one.snapshot.temperature, 3)), one)
        if first is not one:
            raise DatasetError(
                f"{one.where}: has the same atoms as {first.where}, at the same temperature; leave one of them out"
            )


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


def _write_one(one: FoundSnapshot, grid: EnergyGrid, folder: Path, split: Split) -> tuple[Snapshot, SnapshotReport]:
    """Write the arrays of a snapshot, and check them on the way.  No more than a shard is held at once."""
    snapshot = replace(one.snapshot, split=split)
    about = {"snapshot": snapshot.id, "grid": str(snapshot.grid), "axes": "grid point (C order), energy"}

    def write_shards(name: str, shards: Iterator[NDArray[np.floating]], unit: str) -> str:
        path = folder / name / f"{snapshot.id}.arrow"
        write(path, (to_batches(shard, name, about | {"unit": unit})[0] for shard in shards))
        return sha256(path)

    check = LdosCheck(snapshot, grid, where=str(one.ldos.where))
    ldos = _shards(one.ldos, snapshot.n_points, (grid.n_energy,))
    ldos_sha256 = write_shards("ldos", map(check.add, ldos), "1/(eV Å³), both spins summed")
    density_sha256 = None
    report = check.report()
    if one.density is not None:
        electrons = _DensityCheck(snapshot, one.density.where)
        density = _shards(one.density, snapshot.n_points, ())
        density_sha256 = write_shards("density", map(electrons.add, density), "1/Å³")
        electrons.finish()
    snapshot = replace(snapshot, ldos_sha256=ldos_sha256, density_sha256=density_sha256)
    return snapshot, _with_geometry(report, one, snapshot, check.dos, grid, folder)


def _with_geometry(
    report: SnapshotReport,
    one: FoundSnapshot,
    snapshot: Snapshot,
    dos: NDArray[np.float64],
    grid: EnergyGrid,
    folder: Path,
) -> SnapshotReport:
    """The report of the LDOS, with what the files that were just written say of the geometry."""

    def written(name: str, n: int) -> ShardFile:
        path = folder / name / f"{snapshot.id}.arrow"
        return ShardFile(path, name, n_points=snapshot.n_points, n=n, remedy="import again")

    geometry = check_geometry(
        snapshot,
        grid,
        dos,
        written("ldos", grid.n_energy).arrays(),
        None if one.density is None else written("density", 0).array(),
        snapshot.valences(one.species),
        where=str(one.where),
    )
    terms = None if one.terms_error is None else 1e3 * one.terms_error / snapshot.n_atoms
    if terms is not None and abs(terms) > MOST_TERMS_ERROR:
        raise DatasetError(
            f"{one.where}: the terms of the energy sum up to {one.terms_error:+.4f} eV more than the total energy; "
            "they are of different calculations or units"
        )
    return replace(report, **vars(geometry), terms_error=terms)


class _DensityCheck:
    """Counts the electrons of a density that comes in shards."""

    def __init__(self, snapshot: Snapshot, where: Path) -> None:
        self._snapshot, self._where, self._sum = snapshot, where, 0.0

    def add(self, shard: NDArray[np.floating]) -> NDArray[np.floating]:
        """Count in a shard, and pass it on."""
        if not np.isfinite(shard).all():
            raise DatasetError(f"{self._where}: values are not finite; run the DFT post-processing again")
        self._sum += float(shard.sum(dtype=float))
        return shard

    def finish(self) -> None:
        """Raise DatasetError if the electrons are not those of the DFT."""
        s = self._snapshot
        counted = self._sum / s.n_points * s.volume
        if abs(counted - s.n_electrons) > 0.01 * s.n_electrons:
            raise DatasetError(
                f"{self._where}: integrates to {counted:.3f} electrons, the DFT has {s.n_electrons:g}; "
                "check that its unit is 1/Å³"
            )


def _shards(values: GridValues, n_points: int, shape: tuple[int, ...]) -> Iterator[NDArray[np.floating]]:
    """Blocks of any length, checked for their shape, as shards of a file."""

    def blocks() -> Iterator[NDArray[np.floating]]:
        n = 0
        for block in values.blocks():
            if block.shape[1:] != shape or not np.issubdtype(block.dtype, np.floating):
                raise DatasetError(
                    f"{values.where}: has values {block.shape[1:]} of {block.dtype} at each grid point, "
                    f"expected {shape} floating-point numbers"
                )
            n += len(block)
            # In this machine's byte order, too: a file may come from one of the other.
            yield block.astype(np.float16 if block.dtype.itemsize == 2 else np.float32, copy=False)
        if n != n_points:
            raise DatasetError(f"{values.where}: has {n} grid points, but the snapshot {n_points}")

    return in_shards(blocks())


def _line(snapshot: Snapshot, checked: SnapshotReport) -> str:
    line = f"{snapshot.id}  {snapshot.split:10s} {snapshot.n_atoms} atoms, grid {snapshot.grid}, {snapshot.group}"
    if checked.band_energy_error is None:
        return line
    return f"{line}, band energy from the LDOS {checked.band_energy_error:+.2f} meV/atom off the DFT's"
