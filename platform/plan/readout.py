"""What the readout of the final training takes on other numbers of slots, from the trials that had one.  Seconds.

Sums over the training's snapshots are shared by slots, a snapshot at least each; the sums of the slots are added two by
two; one process solves.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ..ledger.trial import LedgerTrial
from .costs import Evidence

NETWORK = 1e9  # bytes a second from node to node: 10 Gbit/s, assumed


@dataclass(frozen=True)
class ReadoutPlan:
    """The readout of the final training.

    sums: seconds of the sums on one slot.  solve: seconds of what one process does alone.
    parts: as many slots can share the sums.  megabytes: of what a slot sends.
    seconds: of it all, by number of slots.
    """

    sums: float
    solve: float
    parts: int
    megabytes: float
    seconds: dict[int, float]


def readout_plan(study: Evidence, slots: Sequence[int], start: float) -> ReadoutPlan | None:
    """That of a study, None where no trial had a readout, or the kind has none that is shared.

    Args:
        study: the one to plan.
        slots: numbers of slots.
        start: seconds until a new process computes.
    """
    spec = study.spec
    trials = [t for t in study.trials if math.isfinite(t.result.get("readout_sums") or math.nan)]
    if not trials:
        return None
    best = min(trials, key=lambda t: _value(t, spec.metric))
    shared = spec.of_kind.shared(spec.full(best.config), study.sizes, spec.initializations)
    if shared is None:
        return None
    alike = [t for t in trials if t.config == best.config]
    sums, solve = (
        spec.initializations * median(t.result[name] for t in alike) for name in ("readout_sums", "readout_solve")
    )
    parts, size = shared

    def seconds(n: int) -> float:
        used = min(n, parts)
        meanwhile = 0.0 if used == 1 else start + math.ceil(math.log2(used)) * size / NETWORK
        return sums * math.ceil(parts / used) / parts + meanwhile + solve

    return ReadoutPlan(sums, solve, parts, size / 1e6, {n: seconds(n) for n in slots})


def _value(trial: LedgerTrial, metric: str) -> float:
    value = trial.reached(metric)
    return math.inf if value is None else value
