"""`dftune model`: show a surrogate, predict with it, check it."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import SYMBOLS, ListOf, dataset_argument, folder_argument, json_option
from .predict_there import predict_there
from .tables import echo, print_json, print_table

if TYPE_CHECKING:
    from ...trainables.data.exporting.starting_density import StartingDensity
    from ...trainables.kind import Job, Prediction
    from ..model.model import Model

PATIENCE = 10.0  # s: what takes longer is foretold


@dataclass(frozen=True)
class _Asked:
    """A structure to predict.

    name: its file, and its number among the frames.  stem: of the files written of it.
    """

    name: str
    stem: str
    structure: Any
    job: "Job"


@dataclass(frozen=True)
class _Found:
    """What is printed of a prediction.  The prediction itself is let go: many densities would fill the memory."""

    name: str
    values: dict[str, Any]
    lines: list[str]
    row: dict[str, Any]
    units: Mapping[str, str]
    warnings: list[str]
    files: list[Path]

    @classmethod
    def of(cls, name: str, prediction: "Prediction", files: list[Path]) -> "_Found":
        first, *rest = prediction.lines()
        return cls(
            name,
            {"structure": name, **prediction.to_dict(), "files": list(map(str, files))},
            [f"{name}: {first.strip()}", *rest],
            {"structure": name, **prediction.row()},
            prediction.units,
            prediction.warnings,
            files,
        )


@click.group()
def model() -> None:
    """Surrogates: show one, predict with it, check its accuracy."""


@model.command("show")
@folder_argument("model")
@json_option
def model_show(model: Path, as_json: bool) -> None:
    """Show what the surrogate in folder MODEL is.  Also how accurate it was on its test snapshots, or on which others.

    \b
    Example:
      dftune model show al4.model
    """
    from ..model.model import Model

    opened = Model.open(model)
    card = opened.card
    if as_json:
        return print_json(card.model_dump(mode="json"), opened.kind.units)
    echo(*card.lines())


@model.command("predict")
@folder_argument("model")
@click.argument("structures", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--temperature", type=click.FloatRange(min=0), help="Electronic temperature [K].  [default: as trained]")
@click.option(
    "--temperatures",
    type=ListOf("temperatures", "300,1000,5000"),
    metavar="K,K,...",
    help="Also a table of free energy, entropy and heat capacity of the electrons at these temperatures.",
)
@click.option(
    "--frames",
    help="Structures of each file: -1 the last, : all, 0:100:10 every tenth of the first 100.  [default: -1]",
)
@click.option(
    "--format", "form", metavar="NAME", help="Format of the files, as ASE names it.  [default: by its content]"
)
@click.option(
    "--types",
    type=SYMBOLS,
    metavar="SYMBOL,...",
    help="Elements of LAMMPS' atom types 1, 2, ..., where its files do not say them.",
)
@click.option(
    "--forces",
    is_flag=True,
    help="Also predict forces and their spread, which takes as long as one more energy for each network.",
)
@click.option("--stress", is_flag=True, help="Also predict the stress, and the forces with it.")
@click.option(
    "--grid",
    type=click.IntRange(min=1),
    nargs=3,
    metavar="NX NY NZ",
    help="Points along the cell vectors; give it to compare cells, as for an equation of state.  "
    "[default: no coarser than in the training]",
)
@click.option(
    "--save",
    "names",
    multiple=True,
    metavar="NAME",
    help="Also write density.cube [1/bohr³], density.npy or .arrow [1/Å³], CHGCAR, ldos.npy or .arrow [1/(eV Å³)], or "
    "draw dos.png; may be repeated.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    show_default=True,
    help="Folder for --save; files are named after their structure.",
)
@click.option(
    "--save-qe",
    "qe",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="PREFIX.save",
    help="Also replace the density in this folder of a pw.x run in the same cell, for startingpot = 'file'.",
)
@click.option(
    "--db",
    "database",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also add structures with energies, forces and stress as rows to FILE.db, which `ase db` reads.",
)
@click.option("--url", help="Endpoint of `dftune serve` that predicts; MODEL is then the name of a model there.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File (mode 0600) with the endpoint's token; by default it is in DFTUNE_TOKEN.",
)
@json_option
def model_predict(
    model: Path,
    structures: tuple[Path, ...],
    temperature: float | None,
    temperatures: list[float] | None,
    frames: str | None,
    form: str | None,
    types: list[str] | None,
    forces: bool,
    stress: bool,
    grid: tuple[int, int, int] | None,
    names: tuple[str, ...],
    output: Path,
    qe: Path | None,
    database: Path | None,
    url: str | None,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Predict energies, Fermi level and DOS of STRUCTURES.  These are files of any format that ASE reads.

    Each number is the mean over the model's trainings, with their spread.  Energies, forces and DOS have error bars.
    A warning says when a structure is unlike those the model was trained on.  --json adds the DOS and the time spent.

    \b
    Example:
      dftune model predict al4.model POSCAR --forces
      dftune model predict al4.model md.traj --frames ::100 --json > energies.json
      dftune model predict al4.model POSCAR --temperatures 1000,3000,5000
      dftune model predict al4.model dump.lammpstrj --types Al
      dftune model predict al4.model POSCAR --save density.cube --save dos.png
      dftune model predict al4.model md.traj --frames : --forces --db al4.db
      dftune model predict al4.model pw.in --save-qe tmp/pwscf.save
      dftune model predict al4 POSCAR --url http://127.0.0.1:8000
    """
    from ...trainables.errors import InputError
    from ..model.database import PredictionDatabase
    from ..model.model import Model, ModelError
    from ..progress import for_terminal

    given = {
        "temperature": temperature,
        "temperatures": temperatures,
        "forces": forces or None,
        "stress": stress or None,
        "grid": grid,
    }
    wishes = {name: wish for name, wish in given.items() if wish is not None}
    how: dict[str, Any] = {} if form is None else {"format": form}
    if types is not None:
        how["types"] = types
    if url is not None:
        if names:
            raise click.UsageError("--save writes files of a model in a folder; from an endpoint take Client.array")
        if database is not None:
            raise click.UsageError("--db takes predictions of a model in a folder; leave out --url")
        if qe is not None:
            raise click.UsageError("--save-qe takes the density of a model in a folder; leave out --url")
        return predict_there(
            url, str(model), structures, frames=frames, how=how, wishes=wishes, token_file=token_file, as_json=as_json
        )
    opened = Model.open(model)
    for name in names:
        if name not in opened.surrogate.files:
            offered = ", ".join(opened.surrogate.files) or "nothing"
            raise ModelError(f"this model writes no '{name}'; it writes {offered}")
    rows = None if database is None else PredictionDatabase(database, opened)
    asked = _prepared(opened, structures, frames, wishes, how)
    stems = [one.stem for one in asked]
    if names and (twice := next((stem for stem in stems if stems.count(stem) > 1), None)):
        raise InputError(f"two structures are named {twice}: predict them apart, each with an --output of its own")
    start = None if qe is None else _starting_density(opened, asked, qe)
    _say_forecast(asked, opened.surrogate.size_unit)
    found: list[_Found] = []
    failed: Exception | None = None
    with closing(for_terminal()) as progress:
        for one in asked:

            def show(what: str, done: int, total: int, name: str = one.name) -> None:
                progress.update(what, done, total, name)

            try:
                if names:
                    prediction, files = one.job.save(output / one.stem, names, progress=show)
                else:
                    prediction, files = one.job.run(progress=show), []
                if start is not None:
                    start.put(prediction.density)
                    files = [*files, start.path]
                if rows is not None:
                    rows.add(one.name, one.structure, prediction)
            except InputError as error:
                failed = InputError(f"{one.name}: {error}")
                break
            except KeyboardInterrupt:
                failed = click.Abort()
                break
            found.append(_Found.of(one.name, prediction, files))
    _print_found(found, opened.kind.units if as_json else None, in_full=temperatures is not None)
    if rows is not None and rows.added:
        echo(f"written: {rows.path}, {rows.added} row{'s' if rows.added > 1 else ''} more", err=True)
    for note in (*opened.surrogate.notes, *(opened.surrogate.of_tables if len(found) > 1 else ())):
        echo(note, err=True)
    if failed is not None:  # what was finished before is not lost
        raise failed


def _starting_density(model: "Model", asked: Sequence[_Asked], folder: Path) -> "StartingDensity":
    """Where the density of a structure is put.  Raises InputError: there is none, or nowhere to put it."""
    from ...trainables.data.exporting.starting_density import StartingDensity
    from ...trainables.errors import InputError, ModelError

    if "density" not in model.surrogate.quantities:
        raise ModelError("this model predicts no density that pw.x could start from")
    if len(asked) != 1:
        raise InputError(f"--save-qe takes the density of one structure, and there are {len(asked)}")
    return StartingDensity(folder, asked[0].structure.cell.array)


def _prepared(
    model: "Model", paths: Sequence[Path], frames: str | None, wishes: dict[str, Any], how: dict[str, Any]
) -> list[_Asked]:
    """The structures of files, read as ``how`` says, all checked before the first is predicted.

    By default it is the last of each file, and of a file with several that is said.

    Raises:
        InputError: a file cannot be read, or a structure not be predicted; the message names the file and the frame.
    """
    from ...trainables.errors import InputError

    model.options(**wishes)
    asked = []
    for path in paths:
        read = model.read(path, "-2:" if frames is None else frames, **how)
        if frames is None and len(read) > 1:
            echo(f"{path}: holds several structures; the last is taken (--frames : takes all)", err=True)
            read = read[-1:]
        for number, structure in enumerate(read, 1):
            which, file = ("", "") if len(read) == 1 else (f" {number}/{len(read)}", f"-{number}")
            try:
                job = model.prepare(structure, **wishes)
            except InputError as error:
                raise InputError(f"{path}{which}: {error}") from error
            asked.append(_Asked(f"{path}{which}", path.name + file, structure, job))
    return asked


def _say_forecast(asked: Sequence[_Asked], unit: str) -> None:
    """Say what the predictions will take, if that is much.  Raises TooLarge: this machine has not got it."""
    from ...trainables.errors import InputError

    largest = max(asked, key=lambda one: one.job.size)
    size, of_all = largest.job.size, sum(one.job.size for one in asked)
    try:
        expected = largest.job.forecast()
    except InputError as error:
        raise InputError(f"{largest.name}: {error}") from error
    if size:
        expected = replace(expected, seconds=expected.seconds * of_all / size)
    if expected.seconds > PATIENCE:
        together = f" for all {len(asked)}" if len(asked) > 1 else ""
        echo(f"{largest.name}: {size:,} {unit}; {expected}{together}", err=True)


def _print_found(found: list[_Found], of_kind: Mapping[str, str] | None, *, in_full: bool) -> None:
    """Predictions for people, several as a table or in full, or for programs with the units of their kind."""
    if of_kind is not None:
        units = {**of_kind, **{name: unit for one in found for name, unit in one.units.items()}}
        return print_json({"predictions": [one.values for one in found]}, units)
    if len(found) == 1 or in_full:
        for n, one in enumerate(found):
            echo(*([""] if n else []), *one.lines)
    elif found:
        print_table([one.row for one in found], units=found[0].units)
    for one in found:
        for file in one.files:
            echo(f"written: {file}")
        for text in one.warnings:
            echo(f"warning: {one.name}: {text}", err=True)


@model.command("check")
@folder_argument("model")
@dataset_argument
@click.option("--forces", is_flag=True, help="Also compare forces, which takes three times as long.")
@click.option("--figure", type=click.Path(path_type=Path, dir_okay=False), help="PNG file to draw the comparison to.")
@json_option
def model_check(model: Path, dataset: str, forces: bool, figure: Path | None, as_json: bool) -> None:
    """Compare MODEL with the DFT of DATASET, term by term.  Its stated accuracy is computed again.

    On the dataset of its training, it predicts the test snapshots; if the stated accuracy does not come out again, the
    exit code is 1.  On any other dataset it predicts all snapshots.  Errors of energies are those of the mean over the
    initialisations, which `model predict` gives.

    \b
    Example:
      dftune model check al4.model examples/al4 --figure check.png
      dftune model check al4.model al32 --forces
    """
    from ..model.model import Model
    from ..progress import for_terminal

    opened = Model.open(model)
    reference = opened.kind.open(dataset)
    wishes = {"forces": True} if forces else {}
    with closing(for_terminal()) as progress:
        check = opened.check(reference, progress=lambda *at: progress.update("compared", *at), **wishes)
    same = opened.is_trained_on(reference)
    differences = opened.differences(check.accuracy) if same else []
    unchecked = opened.unchecked(check.accuracy) if same else []
    if as_json:
        values = {"same_dataset": same, "differences": differences, "unchecked": unchecked, **check.to_dict()}
        print_json(values, {**opened.kind.units, **check.units})
    else:
        echo("mean |prediction - reference|:", "")
        print_table(check.rows())
        echo("", *check.accuracy.lines())
        if not same:
            echo("another dataset than the one it was trained on: nothing stated to compare with")
        elif not differences:
            echo("the stated accuracy is confirmed")
        for name in unchecked:
            echo(f"not checked: {name}; the model does not state it")
        for note in opened.surrogate.notes:
            echo(note, err=True)
    if figure is not None:
        check.draw(figure)
        echo(f"written: {figure}", err=True)
    if differences:
        raise click.ClickException(f"the stated accuracy is not confirmed: {'; '.join(differences)}")
