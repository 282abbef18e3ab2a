"""`dftune study`: run, resume, look at, take out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from .cli_shared import (
    address_option,
    folder_argument,
    json_option,
    print_json,
    print_table,
    show_accuracy,
    studies_option,
)
from .cli_submit import study_submit

if TYPE_CHECKING:
    from .ledger import LedgerTrial
    from .spec import StudySpec
    from .study import Conclusion, Study


def _study_names(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from .study import Study

    return [n for n in Study.names(Path(ctx.params.get("studies") or "studies")) if n.startswith(incomplete)]


study_argument = click.argument("name", shell_complete=_study_names)


@click.group()
def study() -> None:
    """Studies: search for a surrogate, look at the search, take the surrogate out."""


study.add_command(study_submit)


@study.command("run")
@click.argument("spec", type=click.Path(path_type=Path, dir_okay=False))
@studies_option
@address_option
@json_option
def study_run(spec: Path, studies: Path, address: str | None, as_json: bool) -> None:
    """Run the study that the TOML file SPEC describes, to its end.

    Descriptors are computed where missing, configs chosen and trained, the best one trained again with several
    initialisations and judged on the test snapshots.  Ctrl-C stops it; `dftune study resume` goes on.

    \b
    Example:
      dftune study run examples/al4.toml
    """
    from .progress import for_terminal
    from .spec import StudySpec
    from .study import Study

    found = Study.from_spec(StudySpec.read(spec), studies)
    show_conclusion(found, found.run(address=address, progress=for_terminal()), as_json)


@study.command("resume")
@study_argument
@studies_option
@address_option
@json_option
def study_resume(name: str, studies: Path, address: str | None, as_json: bool) -> None:
    """Go on with study NAME after it was stopped or killed.

    Finished trials stay as they are; those that were running start again.

    \b
    Example:
      dftune study resume al4
    """
    from .progress import for_terminal
    from .study import Study

    found = Study.open(name, studies)
    show_conclusion(found, found.resume(address=address, progress=for_terminal()), as_json)


@study.command("list")
@studies_option
@json_option
def study_list(studies: Path, as_json: bool) -> None:
    """List the studies there are.

    \b
    Example:
      dftune study list
    """
    from ..trainables.errors import InputError
    from ..trainables.mirror import name_of
    from .study import Study

    rows: list[dict[str, Any]] = []
    for name in Study.names(studies):
        try:
            found = Study.open(name, studies)
            trials, conclusion = found.trials(), found.conclusion()
        except InputError as error:
            click.echo(f"warning: {error}", err=True)
            continue
        best = min((t.value for t in trials if t.value is not None), default=None)
        rows.append(
            {
                "name": name,
                "state": "ended" if conclusion else "unfinished",
                "method": found.spec.method,
                "dataset": name_of(found.spec.dataset),
                "trials": len(trials),
                "best": best,
                "minimizes": found.spec.minimize,
            }
        )
    if as_json:
        return print_json(rows)
    if rows:
        print_table(rows)
    else:
        click.echo(f"no study in {studies}; start one with `dftune study run`")


@study.command("show")
@study_argument
@studies_option
@json_option
def study_show(name: str, studies: Path, as_json: bool) -> None:
    """Show the trials of study NAME, how far its score is to be trusted, and what it came to.

    \b
    Example:
      dftune study show al4
    """
    from dataclasses import asdict

    from .study import Study

    found = Study.open(name, studies)
    trials, conclusion = found.trials(), found.conclusion()
    if as_json:
        return print_json(
            {
                "spec": found.spec.model_dump(mode="json"),
                "trials": [asdict(t) for t in trials],
                "scores": [asdict(q) for q in found.score_qualities()],
                "conclusion": None if conclusion is None else asdict(conclusion),
            }
        )
    _show_trials(trials, found.spec)
    _show_study(found, conclusion)


@study.command("plot")
@study_argument
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the figures; by default `figures` in the study's own.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["png", "html", "both"]),
    default="both",
    show_default=True,
    help="PNG files, one HTML page, or both.",
)
@studies_option
def study_plot(name: str, output: Path | None, form: Literal["png", "html", "both"], studies: Path) -> None:
    """Draw the figures of study NAME, also while it runs: PNG files, and a page on which hovering shows each trial.

    History, value against compute, score against value, importance of the hyperparameters, configs side by side, and
    value against the cost of use with its Pareto front.

    \b
    Example:
      dftune study plot al4
    """
    from .study import Study

    drawn = Study.open(name, studies).plot(output, form)
    for path in drawn.paths:
        click.echo(path)
    for figure, reason in drawn.left_out.items():
        click.echo(f"left out: {figure}: {reason}", err=True)


@study.command("export")
@study_argument
@folder_argument("destination")
@studies_option
def study_export(name: str, destination: Path, studies: Path) -> None:
    """Write the surrogate of study NAME to the folder DESTINATION.

    \b
    Example:
      dftune study export al4 al4.model
    """
    from .study import Study

    Study.open(name, studies).export(destination)
    click.echo(f"model in {destination}; try `dftune model show {destination}`")


def show_conclusion(found: "Study", conclusion: "Conclusion", as_json: bool) -> None:
    """The result of a study, for people or programs."""
    from dataclasses import asdict

    if as_json:
        return print_json(asdict(conclusion))
    _show_study(found, conclusion)


def _show_trials(trials: Sequence["LedgerTrial"], spec: "StudySpec") -> None:
    rows = [
        {
            **{"trial": t.number, "state": t.state, spec.minimize: t.value},
            **({} if spec.cost is None else {spec.cost: t.cost}),
            "seconds": t.seconds,
            **{name: t.config.get(name) for name in spec.space},
            **t.scores,
        }
        for t in trials
    ]
    if rows:
        print_table(rows)
    for trial in trials:
        if trial.failure:
            click.echo(f"trial {trial.number} failed: {trial.failure}")


def _show_study(found: "Study", conclusion: "Conclusion | None") -> None:
    from ..trainables.accuracy import Accuracy
    from .spec import UNITS
    from .study import describe, streamed

    if said := streamed(t.result for t in found.trials()):
        click.echo(f"\n{said}")
    qualities = found.score_qualities()
    if qualities:
        click.echo("\nhow far scores are to be trusted (τ = 1: a higher score always meant a lower error;")
        click.echo("regret: by how much the value of the best-scored trial exceeds the best):")
        for quality in qualities:
            click.echo(f"  {quality}")
    if found.spec.cost is not None and (front := found.pareto_front()):
        click.echo(f"\nPareto front: no trial is both better and cheaper than one of these ({len(front)}):")
        rows = [{found.spec.cost: t.cost, found.spec.minimize: t.value, "trial": t.number, **t.config} for t in front]
        units: dict[str, str] = {
            name: unit.strip() for name in (found.spec.cost, found.spec.minimize) if (unit := UNITS[name])
        }
        print_table(rows, units)
    if explanation := found.explanation():
        click.echo("\n" + "\n".join(explanation))
    if conclusion is None:
        return click.echo(f"\nnot ended; go on with `dftune study resume {found.spec.name}`")
    minimize = found.spec.minimize
    click.echo(f"\nchosen: trial {conclusion.trial} ({minimize} {conclusion.value:.4g}{UNITS[minimize]})")
    click.echo(f"  {describe(found.trials()[conclusion.trial].config)}")
    show_accuracy(Accuracy(**conclusion.accuracy))
    spent = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in conclusion.seconds.items())
    click.echo(f"\ntime: {spent}")
    click.echo(
        f"model:   {found.folder / 'model'}\nfigures: {found.folder / 'figures'}\nledger:  {found.folder / 'ledger.db'}"
    )
