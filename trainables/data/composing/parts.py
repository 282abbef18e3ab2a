"""A dataset made of snapshots of others.  Files that stay as they are become further links, which take no room."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ...files import atomic_folder, refuse_existing, write_text
from ...progress import Progress, Silent
from ..dataset import Dataset, descriptor_metadata, descriptor_path
from ..info import DatasetInfo
from ..shards import ShardFile, in_shards, to_batches, write_rows, write_with_checksums
from ..snapshot import SNAPSHOTS, Snapshot
from .align import Alignment


@dataclass(frozen=True)
class Part:
    """A snapshot of a dataset, and what it becomes.

    Attributes:
        dataset, old: where it is.
        new: it with its new id and split.
        alignment: to another energy grid; None: it has the new one.
    """

    dataset: Dataset
    old: Snapshot
    new: Snapshot
    alignment: Alignment | None = None


def compose(parts: Sequence[Part], info: DatasetInfo, destination: Path, progress: Progress | None = None) -> Dataset:
    """Write a dataset of parts, which appears whole or not at all.  One shard is held at once.

    Args:
        parts: in the order of the new table.
        info: its dataset.json.
        destination: a folder that does not exist.
        progress: told how many snapshots are done.

    Raises:
        InputError: the destination exists.
        DatasetError: a file of a part is missing or damaged.
    """
    refuse_existing(destination)
    told, rows = progress or Silent(), []
    with atomic_folder(destination) as folder:
        (folder / "ldos").mkdir(parents=True)
        for n, part in enumerate(parts):
            told.update("snapshots", n, len(parts), part.new.id)
            rows.append(_write(part, folder).to_row())
        told.update("snapshots", len(parts), len(parts))
        table = pa.Table.from_pylist(rows, schema=SNAPSHOTS)
        pq.write_table(table, folder / "snapshots.parquet", write_page_checksum=True)
        write_text(folder / "dataset.json", info.model_dump_json(indent=2) + "\n")
    told.end("snapshots")
    return Dataset.open(destination)


def _write(part: Part, folder: Path) -> Snapshot:
    """Write the files of a part; its row with their checksums."""
    old, new, renamed = part.old, part.new, part.old.id != part.new.id
    ldos = part.dataset.ldos(old)
    if part.alignment is not None or renamed:
        new = replace(new, ldos_sha256=_rewrite(ldos, folder / "ldos" / f"{new.id}.arrow", new, part.alignment))
    else:
        _link(ldos.path, folder / "ldos" / f"{new.id}.arrow")
    if old.density_sha256 is not None:
        density, path = part.dataset.density(old), folder / "density" / f"{new.id}.arrow"
        if renamed:
            new = replace(new, density_sha256=_rewrite(density, path, new, None))
        else:
            _link(density.path, path)
    for key in part.dataset.described():
        _take_descriptors(part, key, folder)
    return new


def _take_descriptors(part: Part, key: str, folder: Path) -> None:
    """Link or write the descriptors of a key that a part has."""
    path = part.dataset.path / "descriptors" / key / f"{part.old.id}.arrow"
    if not path.is_file():
        return
    if part.old.id == part.new.id:
        return _link(path, folder / "descriptors" / key / path.name)
    from ...descriptors.settings import BispectrumSettings

    with pa.memory_map(str(path)) as file:
        settings = BispectrumSettings.model_validate_json(pa.ipc.open_file(file).schema.metadata[b"settings"])
    metadata = descriptor_metadata(part.new, settings)
    shards = in_shards(part.dataset.descriptors(part.old, settings).arrays())
    batches = (to_batches(shard, "descriptor", metadata)[0] for shard in shards)
    write_with_checksums(descriptor_path(folder, settings, part.new.id), batches)


def _rewrite(file: ShardFile, path: Path, new: Snapshot, alignment: Alignment | None) -> str:
    """Write a file under another id or on another energy grid; its SHA-256."""
    metadata = file.metadata | {"snapshot": new.id}
    name = path.parent.name
    arrays = (array if alignment is None else alignment(array) for array in file.arrays())
    return write_rows(path, arrays, new.n_points, name, metadata)


def _link(source: Path, target: Path) -> None:
    """A further name of a file; where links are not possible, a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
