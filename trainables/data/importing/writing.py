"""From what an importer found to a dataset folder: splits, checks, checksums.  Energies in eV, lengths in Å.

What every importer owes its users stands here once: unique ids, one energy grid, one valence a species, neutral cells,
an LDOS and a density that agree with the DFT, a folder that appears whole or not at all.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...descriptors.settings import BispectrumSettings
from ...errors import DatasetError, unreadable
from ...files import atomic_folder, refuse_existing, write_text
from ..check import Fail, LdosCheck, SnapshotReport
from ..checked import compared, summarise
from ..dataset import Dataset, descriptor_metadata, descriptor_path
from ..forces_check import check_forces
from ..geometry_check import check_geometry
from ..info import NO_DFT, DatasetInfo
from ..shards import ShardFile, in_shards, to_batches, write_rows, write_with_checksums
from ..snapshot import SNAPSHOTS, Snapshot
from ..states_check import check_states
from .importer import OTHER, FoundDescriptors, FoundSnapshot, GridValues, Report
from .planning import Plan
from .precomputed import DescriptorCheck

MOST_TERMS_ERROR = 1.0  # [meV/atom]; QE prints them to 1e-4


def write_dataset(
    plan: Plan, destination: Path, *, source: str | None = None, report: Report = lambda line: None
) -> Dataset:
    """Write what was planned as a dataset; arguments and errors as ``import_dataset``."""
    refuse_existing(destination)
    with atomic_folder(destination) as folder:
        for name in ("ldos", "density"):
            (folder / name).mkdir(parents=True)
        snapshots, reports = [], []
        for one in plan.found.snapshots:
            snapshot, checked = _write_one(one, plan, folder)
            snapshots.append(snapshot)
            reports.append(checked)
            report(_line(snapshot))
        # Last, as wrong positions and energies have better words.
        forces = check_forces(snapshots, [one.where for one in plan.found.snapshots], fail=plan.fail)
        reports = [replace(one, forces_error=off) for one, off in zip(reports, forces, strict=True)]
        checks = summarise(reports)
        if not any((folder / "density").iterdir()):
            (folder / "density").rmdir()
        table = pa.Table.from_pylist([s.to_row() for s in snapshots], schema=SNAPSHOTS)
        pq.write_table(table, folder / "snapshots.parquet", write_page_checksum=True)
        info = DatasetInfo(
            species=dict(plan.species),
            energy_grid=plan.grid,
            dft=plan.dft,
            source=source or plan.found.source,
            checks=checks,
            descriptors=_shared_descriptors(plan.found.snapshots),
            warnings=tuple(plan.warnings),
        )
        write_text(folder / "dataset.json", info.model_dump_json(indent=2) + "\n")
    for line in compared(reports):
        report(line)
    for one_check in checks:
        report(one_check.line())
    if plan.dft is None:
        report(NO_DFT)
    return Dataset.open(destination)


def _shared_descriptors(snapshots: Sequence[FoundSnapshot]) -> BispectrumSettings | None:
    """Settings of the descriptors that came with all snapshots; None: some have none, or other ones."""
    settings = {None if one.descriptors is None else one.descriptors.settings for one in snapshots}
    return settings.pop() if len(settings) == 1 else None


def _write_one(one: FoundSnapshot, plan: Plan, folder: Path) -> tuple[Snapshot, SnapshotReport]:
    """Write the arrays of a snapshot, and check them on the way.  No more than some rows of an LDOS are held."""
    snapshot, grid = replace(one.snapshot, split=plan.splits[one.snapshot.id]), plan.grid
    about = {"snapshot": snapshot.id, "grid": str(snapshot.grid), "axes": "grid point (C order), energy"}

    def write_file(name: str, arrays: Iterator[NDArray[np.floating]], unit: str) -> str:
        path = folder / name / f"{snapshot.id}.arrow"
        return write_rows(path, arrays, snapshot.n_points, name, about | {"unit": unit})

    check = LdosCheck(snapshot, grid, where=str(one.ldos.where), fail=plan.fail)
    ldos = _blocks(one.ldos, snapshot.n_points, (grid.n_energy,), check.add)
    ldos_sha256 = write_file("ldos", ldos, "1/(eV Å³), both spins summed")
    density_sha256 = None
    report = check.report()
    if one.states is not None:
        where = str(one.ldos.where)
        report = replace(report, dos_error=check_states(check.dos, one.states, grid, where=where, fail=plan.fail))
    if one.density is not None:
        electrons = _DensityCheck(snapshot, one.density.where, plan.fail)
        density = _blocks(one.density, snapshot.n_points, (), electrons.add)
        density_sha256 = write_file("density", density, "1/Å³")
        electrons.finish()
    if one.descriptors is not None:
        _write_descriptors(one.descriptors, snapshot, folder)
    snapshot = replace(snapshot, ldos_sha256=ldos_sha256, density_sha256=density_sha256)
    return snapshot, _with_geometry(report, one, snapshot, check.dos, plan, folder)


def _write_descriptors(found: FoundDescriptors, snapshot: Snapshot, folder: Path) -> None:
    """Write descriptors that came with the data, once some of them are known to be right."""
    check = DescriptorCheck(snapshot, found)
    blocks = _blocks(found.values, snapshot.n_points, (found.settings.n_components,), check.add)
    metadata = descriptor_metadata(snapshot, found.settings)
    shards = in_shards(block.astype(np.float32, copy=False) for block in blocks)
    batches = (to_batches(shard, "descriptor", metadata)[0] for shard in shards)
    write_with_checksums(descriptor_path(folder, found.settings, snapshot.id), batches)


def _with_geometry(
    report: SnapshotReport,
    one: FoundSnapshot,
    snapshot: Snapshot,
    dos: NDArray[np.float64],
    plan: Plan,
    folder: Path,
) -> SnapshotReport:
    """The report of the LDOS, with what the files that were just written say of the geometry."""

    def written(name: str, n: int) -> ShardFile:
        path = folder / name / f"{snapshot.id}.arrow"
        return ShardFile(path, name, n_points=snapshot.n_points, n=n, remedy="import again")

    geometry = check_geometry(
        snapshot,
        plan.grid,
        dos,
        written("ldos", plan.grid.n_energy).stored(),
        None if one.density is None else written("density", 0).array(),
        snapshot.valences(one.species),
        dft=plan.dft,
        where=str(one.where),
        fail=plan.fail,
    )
    terms = None if one.terms_error is None else 1e3 * one.terms_error / snapshot.n_atoms
    if terms is not None and abs(terms) > MOST_TERMS_ERROR:
        plan.fail(
            f"{one.where}: the terms of the energy sum up to {one.terms_error:+.4f} eV more than the total energy; "
            "they are of different calculations or units"
        )
    return replace(report, id=snapshot.id, **vars(geometry), terms_error=terms)


class _DensityCheck:
    """Counts the electrons of a density that comes in shards."""

    def __init__(self, snapshot: Snapshot, where: Path, fail: Fail) -> None:
        self._snapshot, self._where, self._fail, self._sum = snapshot, where, fail, 0.0

    def add(self, shard: NDArray[np.floating]) -> NDArray[np.floating]:
        """Count in a shard, and pass it on."""
        if not np.isfinite(shard).all():
            raise DatasetError(f"{self._where}: values are not finite; run the DFT post-processing again")
        self._sum += float(shard.sum(dtype=float))
        return shard

    def finish(self) -> None:
        """Fail if the electrons are not those of the DFT."""
        s = self._snapshot
        counted = self._sum / s.n_points * s.volume
        if abs(counted - s.n_electrons) > 0.01 * s.n_electrons:
            self._fail(
                f"{self._where}: integrates to {counted:.3f} electrons, the DFT has {s.n_electrons:g}; "
                "check that its unit is 1/Å³"
            )


def _blocks(
    values: GridValues,
    n_points: int,
    shape: tuple[int, ...],
    check: Callable[[NDArray[np.floating]], NDArray[np.floating]],
) -> Iterator[NDArray[np.floating]]:
    """Blocks of any length, of the right shape and type; each goes through ``check`` while it is in the cache."""

    def blocks() -> Iterator[NDArray[np.floating]]:
        n = 0
        for block in _read(values):
            if block.shape[1:] != shape or not np.issubdtype(block.dtype, np.floating):
                raise DatasetError(
                    f"{values.where}: has values {block.shape[1:]} of {block.dtype} at each grid point, "
                    f"expected {shape} floating-point numbers; {OTHER}"
                )
            n += len(block)
            # In this machine's byte order, too: a file may come from one of the other.
            with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as such
                block = block.astype(np.float16 if block.dtype.itemsize == 2 else np.float32, copy=False)
            yield block
        if n != n_points:
            raise DatasetError(f"{values.where}: has {n} grid points, but the snapshot {n_points}; {OTHER}")

    return map(check, blocks())


def _read(values: GridValues) -> Iterator[NDArray[np.floating]]:
    """The blocks of values.  An error of a reader's own is one of its file, and not of what is written."""
    try:
        yield from values.blocks()
    except OSError as error:
        raise unreadable(values.where, error) from error


def _line(snapshot: Snapshot) -> str:
    return f"{snapshot.id}  {snapshot.split:10s} {snapshot.n_atoms} atoms, grid {snapshot.grid}, {snapshot.group}"
