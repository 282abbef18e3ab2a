"""`dftune study`: run, resume, watch and stop studies, show them, export their surrogates, delete them."""

from pathlib import Path
from typing import Literal

import click

from .options import address_option, folder_argument, json_option, ledger_option, studies_option, study_argument
from .show_study import show_conclusion, show_study, show_trials
from .study_file import study_check, study_delete, study_new
from .submit import study_submit
from .tables import echo, print_json, print_table
from .watch import study_watch


@click.group()
def study() -> None:
    """Studies: search for a surrogate, watch, take the result."""


for command in (study_new, study_check, study_submit, study_watch, study_delete):
    study.add_command(command)


@study.command("run")
@click.argument("spec", type=click.Path(path_type=Path, dir_okay=False))
@studies_option
@ledger_option
@address_option
@json_option
def study_run(spec: Path, studies: Path, ledger: str | None, address: str | None, as_json: bool) -> None:
    """Run the study that the TOML file SPEC describes, to its end.

    It computes missing descriptors, chooses and trains configs, trains the best one again from several initialisations,
    and judges it on the test snapshots.  Ctrl-C stops it; `dftune study resume` goes on.

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

    Finished trials stay as they are; trials that were running start again.

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
    """List the studies, and who runs each.

    \b
    The states:
      running     a process runs it
      stopped     nobody runs it
      died        its process was killed, or gives no sign of life any more
      ended       it has a result
      unreadable  its ledger is damaged, or of another version; a line below says what is wrong

    \b
    Example:
      dftune study list
      DFTUNE_LEDGER=postgresql://ada@db.example.org/dftune dftune study list
    """
    from dataclasses import asdict

    from ..study.listing import listed

    found = listed(studies, ledger)
    if as_json:
        return print_json({"studies": [asdict(one) for one in found]})
    if found:
        rows = [asdict(one) | {"last_sign": _ago(one.last_sign)} for one in found]
        print_table([{key: value for key, value in row.items() if key not in ("problem", "held_by")} for row in rows])
        for one in found:
            if one.problem is not None:
                echo(f"study {one.name}: {one.problem}", err=True)
    else:
        echo(f"no study in {studies if ledger is None else 'this ledger'}; start one with `dftune study run`")


@study.command("stop")
@study_argument
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    help="Seconds to wait until it has stopped.",
)
@studies_option
@ledger_option
def study_stop(name: str, timeout: float, studies: Path, ledger: str | None) -> None:
    """Stop study NAME on whatever host it runs.  The command waits until it has stopped.

    It stops as by Ctrl-C there, and can be resumed.

    \b
    Example:
      dftune study stop al4
    """
    from ..progress import for_terminal
    from ..study.study import Study

    echo(Study.open(name, studies, ledger).stop(timeout=timeout, progress=for_terminal()))


@study.command("show")
@study_argument
@studies_option
@ledger_option
@json_option
def study_show(name: str, studies: Path, ledger: str | None, as_json: bool) -> None:
    """Show trials and result of study NAME.  It also says how well the score ranked the trials.

    Two numbers compare each training-free score with the trained trials.  Kendall's τ is 1 if a higher score always
    meant a lower error, and 0 if the score says nothing.  The regret is the share by which the error of the best-scored
    trial exceeds the lowest error.

    \b
    Example:
      dftune study show al4
    """
    from dataclasses import asdict

    from ..study.study import Study

    found = Study.open(name, studies, ledger)
    with found.reading() as opened:
        trials, conclusion = found.trials(), found.conclusion()
        if as_json:
            return print_json(
                {
                    "spec": found.spec.model_dump(mode="json"),
                    "placement": opened.placement(),
                    "trials": [asdict(t) for t in trials],
                    "scores": [asdict(q) for q in found.score_qualities()],
                    "conclusion": None if conclusion is None else asdict(conclusion),
                },
                found.spec.of_kind.units,
            )
        show_trials(trials, found.spec)
        show_study(found, conclusion)


@study.command("plot")
@study_argument
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the figures; by default `figures` in the study's folder.",
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
    """Draw the figures of study NAME, also while it runs.

    They are PNG files, and a page that shows the trial under the pointer.

    The figures: history, value against compute, learning curves, score against value, importance of hyperparameters,
    configs side by side, value against the cost of use with its Pareto front, values against each other, and
    slots over time.  The page also has the accuracy, the best config as TOML, and a table of the trials that sorts by a
    click.

    \b
    Example:
      dftune study plot al4
    """
    from ..study.study import Study

    drawn = Study.open(name, studies, ledger).plot(output, form)
    for path in drawn.paths:
        echo(path)
    for figure, reason in drawn.left_out.items():
        echo(f"left out: {figure}: {reason}", err=True)


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
    echo(f"model in {destination}; try `dftune model show {destination}`")


def _ago(time: str | None) -> str | None:
    """How long ago a time in ISO format was."""
    from datetime import UTC, datetime

    from ...trainables.progress import duration

    if time is None:
        return None
    return f"{duration(max((datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds(), 0.0))} ago"
