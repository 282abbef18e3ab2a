"""A study and its result, as commands print them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .tables import echo, print_json, print_table

if TYPE_CHECKING:
    from ..ledger.trial import LedgerTrial
    from ..spec import StudySpec
    from ..study.conclusion import Conclusion
    from ..study.study import Study


def show_conclusion(found: "Study", conclusion: "Conclusion", as_json: bool) -> None:
    """Print the result of a study, for people or programs."""
    from dataclasses import asdict

    if as_json:
        return print_json(asdict(conclusion), found.spec.of_kind.units)
    show_study(found, conclusion)


def show_trials(trials: Sequence["LedgerTrial"], spec: "StudySpec") -> None:
    """Print a table of trials, and why some failed."""
    from ..study.notebook import rows

    if trials:
        print_table(rows(trials, spec))
    for trial in trials:
        if trial.failure:
            echo(f"trial {trial.number} failed: {trial.failure}")


def show_study(found: "Study", conclusion: "Conclusion | None") -> None:
    """Print where a study's trials ran, how its scores did, its Pareto front, and its result."""
    from ..study.defaults import without_search
    from ..study.words import describe, explained, reached

    spec, kind = found.spec, found.spec.of_kind
    with found.reading() as ledger:
        trials, placement, explanation = ledger.trials(), ledger.placement(), explained(ledger, found.own)
        qualities = found.score_qualities()
        front = found.pareto_front() if len(spec.minimize) > 1 else []
    if placement:
        echo("", f"{placement['concurrent']} trials at once; {placement['explanation']}")
    if said := kind.remark(t.result for t in trials):
        echo("", said)
    if qualities:
        echo("", "how far scores are to be trusted (τ = 1: a higher score always meant a lower error;")
        echo("regret: by how much the value of the best-scored trial exceeds the best):")
        for quality in qualities:
            echo(f"  {quality}")
    if front:
        echo("", f"Pareto front: no trial is better in all that is minimised than one of these ({len(front)}):")
        rows = [{**dict(zip(spec.minimize, t.objectives)), "trial": t.number, **t.config} for t in front]
        measures = zip(spec.minimize, (spec.value_measure, *spec.other_measures))
        units = {name: measure.unit for name, measure in measures if measure.unit}
        print_table(rows, units)
    if explanation:
        echo("", *explanation)
    if conclusion is None:
        return echo("", f"not ended; go on with `dftune study resume {spec.name}`")
    echo("", f"chosen: trial {conclusion.trial} ({reached(spec, conclusion.value)})")
    echo(f"  {describe(trials[conclusion.trial].config)}")
    echo("", *kind.accuracy(conclusion.accuracy).lines())
    for beside in without_search(spec, conclusion):
        echo("", *beside)
    spent = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in conclusion.seconds.items())
    echo("", f"time: {spent}")
    if ((folder := conclusion.folder(found.folder)) / "model").is_dir():
        figures = dict.fromkeys(str(f / "figures") for f in (folder, found.folder))
        echo(f"model:   {folder / 'model'}", f"figures: {', '.join(figures)}")
    echo(f"ledger:  {found.place}")
