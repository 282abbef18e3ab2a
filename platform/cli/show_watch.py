"""The events of a watched study, in words for people and in values for programs."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..progress import Progress
    from ..study.study import Study
    from ..study.watch import Event, View


def left(view: "View") -> str:
    """How a study was left that nobody runs any more."""
    if view.state == "stopped":
        return "was stopped"
    silent = "" if view.age is None else f", last sign of life {view.age:.0f} s ago"
    return f"has died: {view.holder or 'its process'}{silent}"


def say(event: "Event", found: "Study", progress: "Progress") -> None:
    """Say an event to people."""
    from ..study.words import ending

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
        from ...trainables.progress import duration

        ended = sum(t.state not in ("running", "pruned") for t in view.trials)
        reports = [
            f"trial {t.number}: epoch {t.reported[0]}" for t in view.trials if t.state == "running" and t.reported
        ]
        best_said = [] if best is None else [f"best {best.value:.4g} of trial {best.number}"]
        left = [] if view.seconds_left is None else [f"at most {duration(view.seconds_left)} of trials left"]
        beat = [] if view.age is None else [f"heartbeat {view.age:.0f} s ago"]
        progress.update(
            "trials", ended, found.spec.trials, "; ".join([_counted(view), *best_said, *reports[-1:], *left, *beat])
        )


def _counted(view: "View") -> str:
    return ", ".join(f"{n} {state}" for state, n in view.counts.items()) or "no trials"


def as_values(event: "Event") -> dict[str, Any]:
    """An event as plain values, for programs."""
    from dataclasses import asdict

    view, best = event.view, event.view.best
    values = {
        "event": event.kind,
        "state": view.state,
        "holder": view.holder,
        "held_by": view.held_by,
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
