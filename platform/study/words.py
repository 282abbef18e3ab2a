"""Trials and configs in words, one line each."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..ledger.trial import LedgerTrial
from ..spec import StudySpec


def failures(trials: Sequence[LedgerTrial]) -> str:
    """How many trials are in each state, in brackets, and why the first that failed did."""
    states = ", ".join(f"{n} {state}" for state, n in Counter(t.state for t in trials).items())
    cause = next((f"; trial {t.number}: {t.failure}" for t in trials if t.failure), "")
    return f"({states or 'no trials'}){cause}"


def describe(config: Mapping[str, Any]) -> str:
    """A config in one line."""
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in config.items()
    )


def reached(spec: StudySpec, value: float) -> str:
    """A value with its name and unit."""
    return f"{spec.minimize} {value:.4g}{spec.value_measure.suffix}"


def ending(
    trial: int, spec: StudySpec, value: float | None, result: Mapping[str, Any], failure: str | None, *, stopped: bool
) -> str:
    """How a trial ended, in one line.

    Args:
        trial: its number.
        spec: of the study.
        value: what it reached, None if it failed.
        result: its last report.
        failure: why it failed.
        stopped: a scheduler stopped it.
    """
    if value is None:
        return f"trial {trial} failed: {failure}"
    early = f", stopped after epoch {result['epoch']}" if stopped else ""
    return f"trial {trial}: {reached(spec, value)} in {result.get('seconds', float('nan')):.1f} s{early}"
