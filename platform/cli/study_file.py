"""`dftune study new`, `check` and `delete`: before the first run, and after the last."""

from pathlib import Path

import click

from .options import dataset_argument, json_option, ledger_option, studies_option, study_argument
from .tables import echo, print_json


@click.command("new")
@dataset_argument
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--name", help="Name of the study.  [default: that of the dataset]")
def study_new(dataset: str, file: Path | None, name: str | None) -> None:
    """Write a study file for DATASET, with plain defaults.

    It is FILE, by default NAME.toml, and says what each key means.

    \b
    Example:
      dftune study new examples/al4 al4-quick.toml
    """
    from ...trainables.data.location import name_of
    from ...trainables.errors import InputError
    from ...trainables.files import write_text
    from ..study.study_file import study_file

    name = name or (name_of(dataset.rstrip("/")) if file is None else file.stem)
    file = file or Path(f"{name}.toml")
    if file.exists():
        raise InputError(f"{file}: is there already; remove it, or give another FILE")
    write_text(file, study_file(dataset, name, file.parent))
    echo(f"{file}; try `dftune study check {file}`")


@click.command("check")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@studies_option
@ledger_option
@json_option
def study_check(file: Path, studies: Path, ledger: str | None, as_json: bool) -> None:
    """Check a study file, and say what its run will do.

    The dataset of FILE is checked, too.  It says how many trials there are, and what they cost.

    Nothing is computed, and Ray is not started.  The time is known if an earlier study was on the same dataset.

    \b
    Example:
      dftune study check examples/al4.toml
    """
    from dataclasses import asdict

    from ..spec import StudySpec
    from ..study.study_file import plan

    found = plan(StudySpec.read(file), studies, ledger)
    if as_json:
        return print_json(asdict(found))
    for line in found.lines():
        echo(line)


@click.command("delete")
@study_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@studies_option
@ledger_option
def study_delete(name: str, yes: bool, studies: Path, ledger: str | None) -> None:
    """Delete study NAME with its ledger, model and figures.  A study that runs is not deleted.

    \b
    Example:
      dftune study delete al4
    """
    from ..study.study import Study

    if not yes:
        click.confirm(
            f"delete study {name} with all its trials, its model and its folder {studies / name}?", abort=True
        )
    Study.delete(name, studies, ledger)
    echo(f"study {name} is deleted")
