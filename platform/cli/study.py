"""`dftune study`: run, resume, watch, stop, look at, take out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from .options import (
    address_option,
    folder_argument,
    json_option,
    ledger_option,
    print_json,
    print_table,
    studies_option,
)
from .submit import study_submit

if TYPE_CHECKING:
    from ..ledger.ledger import LedgerTrial
    from ..progress import Progress
    from ..spec import StudySpec
    from ..study.study import Conclusion, Study
    from ..study.watch import Event, View


def _study_names(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    import os

    from ...trainables.errors import InputError
    from ..study.study import Study

    studies = Path(ctx.params.get("studies") or os.environ.get("DFTUNE_STUDIES") or "studies")
    try:
        names = Study.names(studies, ctx.params.get("ledger") or os.environ.get("DFTUNE_LEDGER") or None)
    except InputError:
        return []
    return [n for n in names if n.startswith(incomplete)]


study_argument = click.argument("name", shell_complete=_study_names)


@click.group()
def study() -> None:
    """Studies: search for a surrogate, look at the search, take the surrogate out."""


study.add_command(study_submit)


@study.command("run")
@click.argument("spec", type=click.Path(path_type=Path, dir_okay=False))
@studies_option
@ledger_option
@address_option
@json_option
def study_run(spec: Path, studies: Path, ledger: str | None, address: str | None, as_json: bool) -> None:
    """Run the study that the TOML file SPEC describes, to its end.

    Descriptors are computed where missing, configs chosen and trained, the best one trained again with several
    initialisations and judged on the test snapshots.  Ctrl-C stops it; `dftune study resume` goes on.

    \b
    Example:
      dftune study run examples/al4.toml
    """
    from ..progress import for_terminal
    from ..spec import StudySpec
    from ..study.study import Study

    found = Study.from_spec(StudySpec.read(spec), studies, ledger)
    show_conclusion(found, found.run(address=address, progress=for_terminal()), as_json)


@study.command("resume")
@study_argument
@studies_option
@ledger_option
@address_option
@json_option
def study_resume(name: str, studies: Path, ledger: str | None, address: str | None, as_json: bool) -> None:
    """Go on with study NAME after it was stopped or killed.

    Finished trials stay as they are; those that were running start again.

    \b
    Example:
      dftune study resume al4
    """
    from ..progress import for_terminal
    from ..study.study import Study

    found = Study.open(name, studies, ledger)
    show_conclusion(found, found.resume(address=address, progress=for_terminal()), as_json)


@study.command("list")
@studies_option
@ledger_option
@json_option
def study_list(studies: Path, ledger: str | None, as_json: bool) -> None:
    """List the studies there are, and who runs them.

    running: a process holds it; stopped: none does; died: its process was killed, or has given no sign of life for
    long; ended: it has come to its result.

    \b
    Example:
      dftune study list
      DFTUNE_LEDGER=postgresql://ada@db.example.org/dftune dftune study list
    """
    from datetime import UTC, datetime

    from ...trainables.data.mirror import name_of
    from ...trainables.errors import InputError
    from ..study.study import Study

    rows: list[dict[str, Any]] = []
    for name in Study.names(studies, ledger):
        try:
            found = Study.open(name, studies, ledger)
            view = found.look()
        except InputError as error:
            click.echo(f"warning: {error}", err=True)
            continue
        at = view.last_sign
        rows.append(
            {
                "name": name,
                "state": view.state,
                "method": found.spec.method,
                "dataset": name_of(found.spec.dataset),
                "trials": len(view.trials),
                "best": None if view.best is None else view.best.value,
                "minimizes": found.spec.minimize,
                "holder": view.holder if view.state in ("running", "died") else None,
                "last_sign": None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds"),
            }
        )
    if as_json:
        return print_json(rows)
    if rows:
        print_table([row | {"last_sign": _ago(row["last_sign"])} for row in rows])
    else:
        click.echo(f"no study in {studies if ledger is None else 'this ledger'}; start one with `dftune study run`")


@study.command("watch")
@study_argument
@click.option(
    "--interval", type=click.FloatRange(min=0.1), default=5.0, show_default=True, help="Seconds between two looks."
)
@studies_option
@ledger_option
@json_option
def study_watch(name: str, interval: float, studies: Path, ledger: str | None, as_json: bool) -> None:
    """Follow study NAME, which another process runs, on this host or another, until it has ended.

    Only reads.  Ctrl-C stops watching, and the study goes on.  Exit code 0 when the study has ended, 1 when nobody runs
    it.  With --json, one object a line for each event.

    \b
    Example:
      dftune study watch al4
    """
    from ..progress import for_terminal
    from ..study.study import Study

    found, end = Study.open(name, studies, ledger), None
    progress = for_terminal()
    try:
        for event in found.watch(interval):
            if as_json:
                click.echo(json.dumps(_values(event), ensure_ascii=False))
            else:
                _say(event, found, progress)
            end = event
    except KeyboardInterrupt:
        progress.close()
        return click.echo("no longer watched; the study goes on", err=True)
    finally:
        progress.close()
    if end is not None and end.view.state != "ended":
        raise click.ClickException(f"study {name} {_left(end.view)}; go on with `dftune study resume {name}`")
    if not as_json:
        _show_study(found, found.conclusion())


@study.command("stop")
@study_argument
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    help="Seconds to wait until it is done.",
)
@studies_option
@ledger_option
def study_stop(name: str, timeout: float, studies: Path, ledger: str | None) -> None:
    """Stop study NAME, whoever runs it, on this host or another, as Ctrl-C there does; and wait until that is done.

    \b
    Example:
      dftune study stop al4
    """
    from ..progress import for_terminal
    from ..study.study import Study

    click.echo(Study.open(name, studies, ledger).stop(timeout=timeout, progress=for_terminal()))


@study.command("show")
@study_argument
@studies_option
@ledger_option
@json_option
def study_show(name: str, studies: Path, ledger: str | None, as_json: bool) -> None:
    """Show the trials of study NAME, how far its score is to be trusted, and what it came to.

    \b
    Example:
      dftune study show al4
    """
    from dataclasses import asdict

    from ..study.study import Study

    found = Study.open(name, studies, ledger)
    trials, conclusion = found.trials(), found.conclusion()
    if as_json:
        return print_json(
            {
                "spec": found.spec.model_dump(mode="json"),
                "placement": found.placement(),
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
@ledger_option
def study_plot(
    name: str, output: Path | None, form: Literal["png", "html", "both"], studies: Path, ledger: str | None
) -> None:
    """Draw the figures of study NAME, also while it runs: PNG files, and a page on which hovering shows each trial.

    History, value against compute, score against value, importance of the hyperparameters, configs side by side, and
    value against the cost of use with its Pareto front.

    \b
    Example:
      dftune study plot al4
    """
    from ..study.study import Study

    drawn = Study.open(name, studies, ledger).plot(output, form)
    for path in drawn.paths:
        click.echo(path)
    for figure, reason in drawn.left_out.items():
        click.echo(f"left out: {figure}: {reason}", err=True)


@study.command("export")
@study_argument
@folder_argument("destination")
@studies_option
@ledger_option
def study_export(name: str, destination: Path, studies: Path, ledger: str | None) -> None:
    """Write the surrogate of study NAME to the folder DESTINATION.

    \b
    Example:
      dftune study export al4 al4.model
    """
    from ..study.study import Study

    Study.open(name, studies, ledger).export(destination)
    click.echo(f"model in {destination}; try `dftune model show {destination}`")


def show_conclusion(found: "Study", conclusion: "Conclusion", as_json: bool) -> None:
    """The result of a study, for people or programs."""
    from dataclasses import asdict

    if as_json:
        return print_json(asdict(conclusion))
    _show_study(found, conclusion)


def _ago(time: str | None) -> str | None:
    """How long ago a time in ISO format was."""
    from datetime import UTC, datetime

    if time is None:
        return None
    seconds = (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


def _left(view: "View") -> str:
    """In what state nobody runs a study any more."""
    if view.state == "stopped":
        return "was stopped"
    silent = "" if view.age is None else f", last sign of life {view.age:.0f} s ago"
    return f"has died: {view.holder or 'its process'}{silent}"


def _say(event: "Event", found: "Study", progress: "Progress") -> None:
    """An event, for people."""
    from ..study.study import ending

    view, best = event.view, event.view.best
    if event.kind == "study":
        progress.say(f"study {found.spec.name}: method {found.spec.method}, dataset {found.spec.dataset}")
        if view.trials:
            progress.say(f"so far: {_counted(view)}{'' if best is None else f', best is trial {best.number}'}")
    if event.kind in ("study", "holder") and view.state == "running":
        asked = "" if view.stop is None else f"; asked to stop by {view.stop}"
        progress.say(f"held by {view.holder or 'a process that is just starting'}{asked}")
    if event.kind in ("away", "back"):
        progress.say(f"{event.cause}; waiting for it" if event.cause else "the ledger can be used again")
    if event.trial is not None:
        trial = event.trial
        if trial.state == "pruned":
            progress.say(f"candidate {trial.number} pruned by its score")
        else:
            value = trial.reached(found.spec.metric)
            stopped = trial.state == "stopped"
            progress.say(ending(trial.number, found.spec, value, trial.result, trial.failure, stopped=stopped))
    if event.kind == "progress":
        ended = sum(t.state not in ("running", "pruned") for t in view.trials)
        reports = [
            f"trial {t.number}: epoch {t.reported[0]}" for t in view.trials if t.state == "running" and t.reported
        ]
        best_said = [] if best is None else [f"best {best.value:.4g} of trial {best.number}"]
        left = [] if view.seconds_left is None else [f"at most {view.seconds_left / 60:.0f} min of trials left"]
        beat = [] if view.age is None else [f"heartbeat {view.age:.0f} s ago"]
        progress.update("trials", ended, None, "; ".join([_counted(view), *best_said, *reports[-1:], *left, *beat]))


def _counted(view: "View") -> str:
    return ", ".join(f"{n} {state}" for state, n in view.counts.items()) or "no trials"


def _values(event: "Event") -> dict[str, Any]:
    """An event, for programs."""
    from dataclasses import asdict

    view, best = event.view, event.view.best
    values = {
        "event": event.kind,
        "state": view.state,
        "holder": view.holder,
        "heartbeat_age": view.age,
        "stop": view.stop,
        "trials": view.counts,
        "best": None if best is None else {"trial": best.number, "value": best.value},
        "seconds_left": view.seconds_left,
    }
    if event.trial is not None:
        values["trial"] = asdict(event.trial)
    if event.cause is not None:
        values["cause"] = event.cause
    if event.kind == "end":
        values["conclusion"] = view.conclusion
    return values


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
    from ...trainables.ldos.accuracy import Accuracy
    from ..spec import UNITS
    from ..study.study import describe, streamed

    if placement := found.placement():
        click.echo(f"\n{placement['concurrent']} trials at once; {placement['explanation']}")
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
    click.echo("\n".join(["", *Accuracy(**conclusion.accuracy).lines()]))
    spent = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in conclusion.seconds.items())
    click.echo(f"\ntime: {spent}")
    if (found.folder / "model").is_dir():
        click.echo(f"model:   {found.folder / 'model'}\nfigures: {found.folder / 'figures'}")
    click.echo(f"ledger:  {found.place}")
