"""Parquet tables read, and that of a dataset, snapshots.parquet, checked row by row."""

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DatasetError, one_line
from .snapshot import SNAPSHOTS, Snapshot
from .snapshot_check import check_snapshot, first_repeated


def read_table(source: Path | BinaryIO) -> pa.Table:
    """A table of one file, whose pages are compared with their checksums where it has them.

    Not ``pq.read_table``, which is for tables of many files and imports pandas where that is installed: 0.3 s.

    Raises:
        OSError, pa.ArrowException, UnicodeDecodeError: it is missing or damaged.
    """
    with pq.ParquetFile(source, page_checksum_verification=True) as file:
        return file.read()


def read_snapshots(path: Path, species: Mapping[str, float]) -> list[Snapshot]:
    """The snapshots of a table.

    Args:
        path: the file.
        species: of the dataset; chemical symbol -> valence electrons.

    Raises:
        DatasetError: it is missing, damaged or empty, or a row is none that a dataset may have.
    """
    try:
        table = read_table(path)
        if "stress" not in table.column_names:  # datasets made before it was kept
            place = SNAPSHOTS.get_field_index("stress")
            table = table.add_column(place, SNAPSHOTS.field(place), pa.nulls(len(table), SNAPSHOTS.field(place).type))
        rows = table.to_pylist()
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: missing or damaged; import the dataset again") from error
    if not table.schema.equals(SNAPSHOTS):
        raise DatasetError(f"{path}: columns differ from this version's; import the dataset again")
    try:
        snapshots = [Snapshot.from_row(row) for row in rows]
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{path}: damaged ({one_line(error)}); import the dataset again") from error
    if not snapshots:
        raise DatasetError(f"{path}: holds no snapshot; import the dataset again")
    for snapshot in snapshots:
        check_snapshot(snapshot, species, where=f"{path}: snapshot {snapshot.id[:80]!r}")
    if (twice := first_repeated(s.id for s in snapshots)) is not None:
        raise DatasetError(f"{path}: snapshot '{twice}' stands there twice; import the dataset again")
    return snapshots
