"""The contract of training-free scores: what every score promises whatever it looks at.

def test_my_score():
    check_score(MY_SCORE, kind, kind.split_for_training(kind.open("al4"), settings)[0])
"""

import math
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..searchers.space import SPACE, probes
from ..trainables.kind import Kind, Score, TrainingData

Scored = Callable[[Sequence[Any]], list[float]]  # configs -> scores, on one mini-batch with one seed
DIRECTIONS = ("published", "learnt")


def check_score(
    score: Score, kind: Kind, data: TrainingData, configs: Sequence[Any] | None = None, seed: int = 0
) -> None:
    """All promises of a training-free score.

    Args:
        score: the score.
        kind: whose configs it scores.
        data: gives the mini-batch.
        configs: full configs to score; by default those of the kind's space with one hyperparameter changed at a time.
        seed: of the mini-batch and of the initialisations.

    Raises:
        AssertionError: a promise is not kept; the message says which.
    """
    configs = configs_of(kind) if configs is None else configs
    check_description(score, kind)
    batch = data.sample(score.n_points, np.random.default_rng(seed))
    check_inputs(score, batch, configs, seed)  # first: the others would see what it changed

    def scored(some: Sequence[Any]) -> list[float]:
        return score.function(some, batch, seed)

    values = scored(configs)
    check_numbers(values, configs)
    check_repetition(scored, configs, values)
    check_independence(scored, configs, values)
    check_what_it_sees(configs, values)
    check_travel(score, batch, configs, seed, values)


def configs_of(kind: Kind) -> list[Any]:
    """Full configs of a kind's own space: one hyperparameter changed at a time."""
    space = SPACE.validate_python(kind.space) if kind.space else {}
    return [kind.config.of(config) for config in probes(space)] or [kind.config.of({})]


def check_description(score: Score, kind: Kind) -> None:
    """It says what it is, which way it points, and whose configs it scores."""
    assert isinstance(score, Score), f"{score!r} is no Score of dftune.trainables.kind"
    assert score.direction in DIRECTIONS, f"direction '{score.direction}' is neither of {', '.join(DIRECTIONS)}"
    assert score.label, "it needs a label, for axes and tables"
    assert score.n_points >= 1, f"a mini-batch of {score.n_points} points is none"
    assert score.kind == kind.name, f"it says kind = '{score.kind}', and this one is '{kind.name}'"


# Below, ``values`` are the scores of the configs, all together: what one call of the score gave.


def check_numbers(values: list[float], configs: Sequence[Any]) -> None:
    """One number for each config: finite, or NaN where there is none, and not for all of them."""
    assert len(values) == len(configs), f"{len(values)} scores of {len(configs)} configs"
    for config, value in zip(configs, values, strict=True):
        assert isinstance(value, (float, int)), f"{value!r} of {config} is no plain number; take float(value)"
        assert not math.isinf(value), f"{value} of {config}; a score that cannot be formed is NaN"
    assert not all(map(math.isnan, values)), "it has a score for no config"


def check_repetition(scored: Scored, configs: Sequence[Any], values: list[float]) -> None:
    """Equal seeds give equal scores."""
    for config, one, other in zip(configs, values, scored(configs), strict=True):
        assert _same(one, other, 0.0), f"with one seed {config} has the scores {one} and {other}"


def check_independence(scored: Scored, configs: Sequence[Any], values: list[float]) -> None:
    """The score of a config does not depend on the others: not on their order, not on their number."""
    for config, one, other in zip(configs, values, scored(configs[::-1])[::-1], strict=True):
        assert _same(one, other), f"{config} has the score {one}, and {other} with the configs in another order"
        (alone,) = scored([config])
        assert _same(one, alone), f"{config} has the score {one} among others, and {alone} alone"


def check_what_it_sees(configs: Sequence[Any], values: list[float]) -> None:
    """Configs that look the same to scores have the same score: it is computed once for all of them."""
    first: dict[Any, tuple[Any, float]] = {}
    for config, value in zip(configs, values, strict=True):
        other, known = first.setdefault(config.seen_by_scores, (config, value))
        assert _same(known, value), (
            f"{other!r} has the score {known} and {config!r} {value}, but scores see the same of both: "
            f"{config.seen_by_scores}"
        )


def check_inputs(score: Score, batch: Any, configs: Sequence[Any], seed: int) -> None:
    """It leaves mini-batch and configs as they are: all scores of a process share them."""
    before, described = pickle.dumps(batch), [config.model_dump() for config in configs]
    score.function(configs, batch, seed)
    assert pickle.dumps(batch) == before, "it changes its mini-batch; work on a copy"
    assert [config.model_dump() for config in configs] == described, "it changes its configs"


def check_travel(score: Score, batch: Any, configs: Sequence[Any], seed: int, values: list[float]) -> None:
    """It can be sent to other processes, and gives the same scores there."""
    from ..cluster.study_data import travelled

    try:
        there = travelled(score)
    except Exception as error:  # whatever the objects that it holds raise
        raise AssertionError(f"it cannot be sent to another process: {type(error).__name__}: {error}") from error
    for config, one, other in zip(configs, values, there.function(configs, batch, seed), strict=True):
        assert _same(one, other), f"{config} has the score {one} here, and {other} once it was sent"


def _same(one: float, other: float, tolerance: float = 1e-6) -> bool:
    """Equal but for rounding, or both none."""
    return math.isclose(one, other, rel_tol=tolerance, abs_tol=1e-9 * (tolerance > 0)) or (
        math.isnan(one) and math.isnan(other)
    )
