"""A trial as the ledger has it."""

from dataclasses import dataclass, field
from typing import Any, Literal

from optuna.trial import FrozenTrial, TrialState

from ...searchers.space import Config

State = Literal["running", "finished", "failed", "pruned", "stopped"]
_STATES: dict[TrialState, State] = {TrialState.COMPLETE: "finished", TrialState.FAIL: "failed"}


@dataclass(frozen=True)
class LedgerTrial:
    """One trial as the ledger has it.

    ``pruned`` by its score, it was never trained; ``stopped`` by a scheduler, it did not come to its end, and has no
    value to compare.  ``others`` are further objectives of a finished one.  ``scores`` are training-free scores by
    name; ``result`` is the last report of a trial that ended.  ``started_at`` and ``ended_at`` are seconds since 1970.
    ``lost`` says why it was begun again: each time that its process or node was lost.  ``curve`` has the epochs that
    were recorded, and the value of each; ``reported`` is the last of them.
    """

    number: int
    config: Config
    state: State
    value: float | None = None
    others: tuple[float, ...] = ()
    scores: dict[str, float] = field(default_factory=dict)
    seed: int | None = None
    seconds: float | None = None
    failure: str | None = None
    result: dict[str, Any] = field(default_factory=dict)
    started_at: float = 0.0
    ended_at: float | None = None
    lost: tuple[str, ...] = ()
    curve: tuple[tuple[int, float], ...] = ()

    @property
    def objectives(self) -> tuple[float, ...]:
        """All that is minimised, of a finished trial; else nothing."""
        return () if self.value is None else (self.value, *self.others)

    @property
    def reported(self) -> tuple[int, float] | None:
        """The last epoch that was recorded, and its value."""
        return self.curve[-1] if self.curve else None

    def reached(self, metric: str) -> float | None:
        """Its value; of a stopped trial the best of the ``metric`` that it had reported."""
        return self.result.get(metric) if self.state == "stopped" else self.value


def from_optuna(trial: FrozenTrial) -> LedgerTrial:
    """The trial of a row of Optuna's.  Raises KeyError, TypeError: somebody has damaged it."""
    attributes = trial.user_attrs
    if trial.state == TrialState.PRUNED:
        state: State = "stopped" if "result" in attributes else "pruned"
    else:
        state = _STATES.get(trial.state, "running")
    values = trial.values if trial.state == TrialState.COMPLETE else []
    return LedgerTrial(
        number=trial.number,
        config=dict(trial.params),
        state=state,
        value=values[0] if values else None,
        others=tuple(values[1:]),
        scores={k.removeprefix("score:"): v for k, v in attributes.items() if k.startswith("score:")},
        seed=attributes.get("seed"),
        seconds=attributes.get("result", {}).get("seconds"),
        failure=attributes.get("failure") if trial.state == TrialState.FAIL else None,
        result=attributes.get("result", {}),
        started_at=trial.datetime_start.timestamp() if trial.datetime_start else float("nan"),
        ended_at=trial.datetime_complete.timestamp() if trial.datetime_complete else None,
        lost=tuple(attributes.get("lost", ())),
        curve=tuple(sorted(trial.intermediate_values.items())),
    )
