"""`dftune data` for datasets of LDOS alone: export, and what chooses, divides and joins snapshots."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import IDS, dataset_argument, dataset_type, folder_argument, json_option
from .tables import echo, print_json

if TYPE_CHECKING:
    from ...trainables.data.dataset import Dataset
    from ..progress import Progress


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
@click.option("--snapshots", type=IDS, metavar="ID,ID,...", help="Snapshots to write.  [default: all]")
@json_option
def data_export(dataset: str, destination: Path, form: str, snapshots: list[str] | None, as_json: bool) -> None:
    """Write DATASET for other programs.  DESTINATION is a new folder; for extxyz a new file.

    arrays is the layout that `dftune data import` reads: NNN.json and NNN.ldos.npy.  mala adds the descriptors, if the
    dataset has those of one setting only.  parquet is a table of the snapshots, and a table of the grid points of each.
    extxyz has structures, energies and forces.  An import of arrays or mala gives the same numbers again, without what
    is known of the DFT itself (dft in dataset.json); arrays does not keep the splits either.

    \b
    Example:
      dftune data export al4 al4-mala --format mala
      dftune data export al4 al4.xyz --format extxyz
    """
    from ...trainables.data.exporting.exporters import export_dataset
    from ..progress import for_terminal

    opened = _open(dataset)
    chosen = opened.only([opened[name] for name in snapshots or [s.id for s in opened]])
    with closing(for_terminal()) as progress:
        export_dataset(chosen, destination, form, progress=progress)
    if as_json:
        return print_json({"path": str(destination), "format": form, "snapshots": [s.id for s in chosen]})
    echo(f"{len(chosen)} snapshots in {destination}")


@click.command("split")
@dataset_argument
@folder_argument("destination")
@click.option(
    "--by",
    default="random",
    show_default=True,
    metavar="WAY",
    help="random (of each group its share), group (whole groups), temperature (the hottest for testing) or structure "
    "(those least like the others for testing).",
)
@click.option("--validation", default=0.25, show_default=True, help="Share of the snapshots that trials are judged by.")
@click.option("--test", default=0.25, show_default=True, help="Share that the surrogate is judged by.")
@click.option("--seed", default=0, show_default=True, help="Seed of the order, for random and group.")
@json_option
def data_split(
    dataset: str, destination: Path, by: str, validation: float, test: float, seed: int, as_json: bool
) -> None:
    """Split the snapshots of DATASET anew.  DESTINATION becomes a dataset with the new splits.

    Files are linked, not copied, where the file system allows it.

    \b
    Example:
      dftune data split al4 al4-hot --by temperature --test 0.2
    """
    from ...trainables.data.composing.split import split_dataset
    from ..progress import for_terminal

    with closing(for_terminal()) as progress:
        made = split_dataset(
            _open(dataset),
            destination,
            by,  # type: ignore[arg-type]  # a way that is none is refused with those there are
            validation=validation,
            test=test,
            seed=seed,
            progress=progress,
        )
    _show(made, as_json)


@click.command("merge")
@click.argument("datasets", nargs=-1, required=True, type=dataset_type)
@folder_argument("destination")
@click.option("--width", type=float, metavar="EV", help="Broaden all LDOS to this width [eV], so that more grids fit.")
@json_option
def data_merge(datasets: tuple[str, ...], destination: Path, width: float | None, as_json: bool) -> None:
    """Merge DATASETS into a new one, DESTINATION.

    They need the same valences and one functional.

    If the energy grids differ, all LDOS are interpolated on a common grid.  This needs a broadening that is wide enough
    for errors below 1 % of a state's peak; the command says how large they are.  Snapshots of the same id get the name
    of their dataset as well.

    \b
    Example:
      dftune data merge al4 al8 al
    """
    from ...trainables.data.composing.merge import merge
    from ..progress import for_terminal

    with closing(for_terminal()) as progress:
        made = merge([_open(one) for one in datasets], destination, width=width, report=progress.say, progress=progress)
    _show(made, as_json)


@click.command("select")
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.argument("destination", type=click.Path(path_type=Path))
@click.option("--number", "-n", type=int, help="How many structures to choose.")
@click.option(
    "--by",
    metavar="WAY",
    help="farthest (as different as possible) or decorrelated (frames in equilibrium that know nothing of each other)"
    ".  [default: farthest]",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="Choose those that teach this model most, in place of --by.",
)
@click.option("--snapshots", type=IDS, metavar="ID,ID,...", help="Take these snapshots of a dataset.")
@json_option
def data_select(
    source: Path,
    destination: Path,
    number: int | None,
    by: str | None,
    model: Path | None,
    snapshots: list[str] | None,
    as_json: bool,
) -> None:
    """Choose few of many structures of SOURCE.  It is a trajectory of any format that ASE reads, or a dataset.

    Structures of a trajectory are written to DESTINATION as extended XYZ, to be computed by DFT; those of a dataset
    become a new dataset.  Structures are compared by their radial distribution functions.

    With --model the command chooses those that teach the model most: fitted again with them, it would know the free
    energies of all structures best.  A model of `dftune fit` knows how certain its last layer is, and so what that
    would be; for another model it chooses what is farthest from the training.  It says how well the model knows each
    structure when it is chosen, and all of them before and after.

    \b
    Example:
      dftune data select md.traj chosen.xyz -n 20
      dftune data select md.traj chosen.xyz -n 20 --by decorrelated
      dftune data select md.traj chosen.xyz -n 20 --model al.model
      dftune data select al4 al4-small --snapshots 000,003,007
    """
    from ...trainables.data.composing.selection import select_frames, select_snapshots, take
    from ...trainables.errors import InputError
    from ..progress import for_terminal

    if (number is None) == (snapshots is None):
        raise InputError("give --number of structures to choose, or --snapshots of a dataset")
    if model is not None and (snapshots or by) is not None:
        raise InputError("--model chooses by itself; leave out --by and --snapshots")
    with closing(for_terminal()) as progress:
        if snapshots is not None:
            return _show(take(_open(str(source)), destination, snapshots, progress), as_json)
        if model is not None:
            return _show_lessons(source, destination, number or 0, model, progress, as_json)
        way: Any = by or "farthest"  # one that is none is refused with those there are
        if source.is_dir():
            selection, _ = select_snapshots(_open(str(source)), destination, number or 0, way, progress)
        else:
            selection = select_frames(source, destination, number or 0, way, progress)
    if as_json:
        return print_json({"path": str(destination), **asdict(selection)})
    if selection.step is not None:
        echo(f"in equilibrium from {selection.first} on; every {selection.step} frames they know nothing of each other")
    echo(f"chosen: {', '.join(map(str, selection.frames))} of {selection.n}, in {destination}")


def _show_lessons(
    source: Path, destination: Path, number: int, model: Path, progress: "Progress", as_json: bool
) -> None:
    """Choose what teaches a model most, and print why."""
    from ...trainables.data.composing.selection import take, take_frames
    from ...trainables.data.structure_distance import atoms_of
    from ..model.model import Model
    from ..teaching import lessons_of, said

    asked, found = Model.open(model), list[Any]()

    def choose(structures: Sequence[Any]) -> list[int]:
        found.append(lessons_of(asked, structures, number, progress=progress))
        return [one.number for one in found[0].chosen]

    if source.is_dir():
        dataset = _open(str(source))
        names = [s.id for s in dataset]
        take(dataset, destination, [names[n] for n in sorted(choose([atoms_of(s) for s in dataset]))], progress)
    else:
        take_frames(source, destination, choose)
        names = [f"frame {n}" for n in range(found[0].n)]
    if as_json:
        return print_json({"path": str(destination), **found[0].to_dict()})
    for line in said(found[0], names):
        echo(line)
    echo(f"in {destination}")


def _show(made: "Dataset", as_json: bool) -> None:
    """What a command that makes a dataset prints."""
    from ...trainables.kind import SPLITS

    splits = {split: [s.id for s in made if s.split == split] for split in SPLITS}
    if as_json:
        return print_json({"path": str(made.path), "splits": splits})
    for split, ids in splits.items():
        echo(f"{split:10s} {', '.join(ids) or '-'}")
    echo(f"{len(made)} snapshots in {made.path}")


COMMANDS = (data_export, data_split, data_merge, data_select)
