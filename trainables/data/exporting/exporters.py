"""The formats a dataset can be exported to, and the export, which appears whole or not at all."""

from collections.abc import Callable
from pathlib import Path

from ...errors import InputError, did_you_mean
from ...files import atomic, atomic_folder, refuse_existing
from ...progress import Progress, Silent
from ..dataset import Dataset
from ..snapshot import Snapshot
from .arrays import write_arrays
from .mala import settings_of, write_mala, write_parameters
from .tables import write_extxyz, write_parquet, write_table

FORMATS = {
    "arrays": "our own layout: NNN.json, NNN.ldos.npy, NNN.dens.npy",
    "mala": "files of MALA: NAME.in.npy with descriptors if there are any, .out.npy, .dens.npy, .info.json, parameters",
    "parquet": "a table of the snapshots, and one of grid points for each",
    "extxyz": "one file of structures, energies, forces and stresses in extended XYZ",
}


def export_dataset(dataset: Dataset, destination: Path, form: str, *, progress: Progress | None = None) -> Path:
    """Write a dataset for other programs.  One shard is held at once.

    Args:
        dataset: with the snapshots to write; ``Dataset.only`` leaves others out.
        destination: a folder that does not exist; for extxyz a file that does not.
        form: one of FORMATS.
        progress: told how many snapshots are written.

    Returns:
        The destination.

    Raises:
        InputError: there is no such format, the destination exists or cannot be written, or the format cannot hold
            the data.
        DatasetError: a file of the dataset is missing or damaged.
    """
    if form not in FORMATS:
        raise InputError(f"there is no format '{form}'; {did_you_mean(form, FORMATS)}")
    refuse_existing(destination)
    if form == "extxyz":
        with atomic(destination) as temporary:
            write_extxyz(dataset, temporary)
        return destination
    write_one, finish = _writers(dataset, form)
    told = progress or Silent()
    with atomic_folder(destination) as folder:
        folder.mkdir()
        for n, snapshot in enumerate(dataset.snapshots):
            told.update("snapshots", n, len(dataset), snapshot.id)
            write_one(snapshot, folder)
        told.update("snapshots", len(dataset), len(dataset))
        finish(folder)
    told.end("snapshots")
    return destination


def _writers(dataset: Dataset, form: str) -> tuple[Callable[[Snapshot, Path], None], Callable[[Path], None]]:
    """What writes a snapshot into a folder, and what finishes the folder."""
    if form == "mala":
        settings = settings_of(dataset)
        return (
            lambda snapshot, folder: write_mala(dataset, snapshot, folder, settings),
            lambda folder: write_parameters(dataset, folder, settings),
        )
    if form == "parquet":
        return lambda s, folder: write_parquet(dataset, s, folder), lambda folder: write_table(dataset, folder)
    return lambda s, folder: write_arrays(dataset, s, folder), lambda folder: None
