"""`dftune data` for datasets of LDOS alone: export, and what chooses, divides and joins snapshots."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .data import ids_of
from .options import dataset_argument, json_option
from .tables import echo, print_json

if TYPE_CHECKING:
    from ...trainables.data.dataset import Dataset


def _open(dataset: str) -> "Dataset":
    """A dataset of LDOS.  Raises DatasetError: it is of another kind."""
    from ...trainables.data.dataset import Dataset

    return Dataset.open(dataset)


@click.command("export")
@dataset_argument
@click.argument("destination", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    default="arrays",
    show_default=True,
    metavar="NAME",
    help="arrays (our own layout), mala, parquet or extxyz.",
)
@click.option("--snapshots", metavar="ID,ID,...", help="Snapshots to write.  [default: all]")
@json_option
def data_export(dataset: str, destination: Path, form: str, snapshots: str | None, as_json: bool) -> None:
    """Write DATASET for other programs to DESTINATION, a new folder; for extxyz a new file.

    arrays is the layout that `dftune data import` reads: NNN.json and NNN.ldos.npy.  mala has the descriptors, too, if
    the dataset has them of one setting.  parquet has a table of the snapshots, and for each one of its grid points.
    extxyz has structures, energies and forces.  arrays and mala come back by an import as they were.

    \b
    Example:
      dftune data export al4 al4-mala --format mala
      dftune data export al4 al4.xyz --format extxyz
    """
    from ...trainables.data.exporting.exporters import export_dataset
    from ..progress import for_terminal

    opened = _open(dataset)
    chosen = opened.only([opened[name] for name in ids_of(snapshots) or [s.id for s in opened]])
    with closing(for_terminal()) as progress:
        export_dataset(chosen, destination, form, progress=progress)
    if as_json:
        return print_json({"path": str(destination), "format": form, "snapshots": [s.id for s in chosen]})
    echo(f"{len(chosen)} snapshots in {destination}")


COMMANDS = (data_export,)
