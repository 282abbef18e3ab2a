"""The contract of searchers: what every method promises whatever it learns from.

    def test_my_search():
        check_searcher(lambda space, seed: MySearch(space, seed))

A method with a training-free score may take ``scorer`` for it, and ``seen`` as what that score sees of a config.
"""

import math
import random
from collections.abc import Callable, Sequence

from ..searchers.searcher import PastTrial, Pruned, Searcher, Wait
from ..searchers.space import Choice, Config, Float, Int, Space

Build = Callable[[Space, int], Searcher]  # (space, seed) -> a fresh searcher
Answer = Config | Pruned

PLAIN: Space = {
    "n_layers": Int(low=1, high=3),
    "width": Int(low=16, high=256, log=True),
    "activation": Choice(values=("relu", "tanh")),
    "learning_rate": Float(low=1e-4, high=1e-2, log=True),
}
# Widths for each layer, and a weight decay for the one optimizer that has its own.
CONDITIONAL: Space = {
    "n_layers": Int(low=1, high=3),
    "width": Int(low=16, high=256, log=True),
    "width_2": Int(low=16, high=256, log=True, when={"n_layers": (2, 3)}),
    "width_3": Int(low=16, high=256, levels=(16, 64, 256), when={"n_layers": (3,)}),
    "optimizer": Choice(values=("adam", "adamw")),
    "weight_decay": Float(low=1e-6, high=1e-2, log=True, when={"optimizer": ("adamw",)}),
    "learning_rate": Float(low=1e-4, high=1e-2, log=True),
}
SPACES = {"plain": PLAIN, "conditional": CONDITIONAL}
MOST = 18  # proposals in a run; methods with an end may reach it earlier


def true_value(config: Config) -> float:
    """A smooth value to minimise, with its optimum inside the spaces."""
    rate, n_layers = float(config["learning_rate"]), int(config["n_layers"])
    return 0.1 + _too_wide(config) + abs(math.log(rate / 1e-3)) / n_layers


def scorer(configs: Sequence[Config]) -> list[float | None]:
    """A score of the architecture that knows something: higher is better."""
    return [-_too_wide(c) + 0.1 * int(c["n_layers"]) for c in configs]


def seen(config: Config) -> tuple:
    """What ``scorer`` sees of a config: layers, widths and activation."""
    return tuple((name, v) for name, v in config.items() if name in ("n_layers", "activation") or "width" in name)


def check_searcher(build: Build) -> None:
    """All promises of a searcher, in a plain and in a conditional space.

    Args:
        build: (space, seed) -> a fresh searcher.

    Raises:
        AssertionError: a promise is not kept; the message says which.
    """
    for space in SPACES.values():
        alone = run(build(space, 0))
        check_configs(space, alone)
        check_seeds(build, space, alone)
        for parallel in (2, 5):
            check_parallel_trials(build, space, alone, parallel)
        check_end(build, space, alone)
        for finished in (0, 1, 3, 5):
            check_replay(build, space, alone, finished)
        check_unfinished_trial(build, space, alone)
        check_failed_trials(build, space)
    check_impossible_condition(build)


# Below, ``alone`` is what the searcher of seed 0 proposes to one trial after the other: ``run(build(space, 0))``.


def check_configs(space: Space, alone: list[Answer]) -> None:
    """Every config lies in the space: all that exists in it, in the order of the space, and nothing else."""
    assert alone, "it proposed nothing"
    for config in map(_config, alone):
        exists = [name for name in space if _exists(space, name, config)]
        assert list(config) == exists, f"{config} needs the hyperparameters {', '.join(exists)}, in this order"
        outside = [f"{name} = {value}" for name, value in config.items() if not space[name].holds(value)]
        assert not outside, f"outside of its range: {', '.join(outside)}"


def check_seeds(build: Build, space: Space, alone: list[Answer]) -> None:
    """Equal seeds propose equal configs, and other seeds others."""
    assert run(build(space, 0)) == alone, "equal seeds and values gave other configs"
    assert run(build(space, 1)) != alone, "two seeds gave the same configs"


def check_parallel_trials(build: Build, space: Space, alone: list[Answer], parallel: int) -> None:
    """Trials in parallel are fed to the end: as many as one after the other."""
    n = len(run(build(space, 0), parallel))
    assert n == len(alone), f"{parallel} trials in parallel end after {n} proposals, one by one after {len(alone)}"


def check_end(build: Build, space: Space, alone: list[Answer]) -> None:
    """Asking on after the end says so again."""
    if len(alone) < MOST:
        searcher = build(space, 0)
        run(searcher)
        assert searcher.ask("beyond") is None, "it goes on after its end"
        assert searcher.ask("beyond") is None, "it goes on after its end"


def check_replay(build: Build, space: Space, alone: list[Answer], finished: int) -> None:
    """A replayed history of ``finished`` trials is continued as if nothing had happened."""
    history = [_past(str(n), answer) for n, answer in enumerate(alone[:finished])]
    searcher = build(space, 0)
    searcher.replay(history)
    again = run(searcher, history=history)
    assert again == alone[finished:], f"after a replay of {finished} trials it goes on otherwise"


def check_unfinished_trial(build: Build, space: Space, alone: list[Answer]) -> None:
    """An unfinished trial of a replayed history is not proposed again, and may be told."""
    first, second = alone[0], alone[1]
    assert not isinstance(first, Pruned), "the first candidate must be trained"
    assert not isinstance(second, Pruned), "the second candidate must be trained"
    history = [PastTrial("0", first, True, true_value(first)), PastTrial("1", second, False, None)]
    searcher = build(space, 0)
    searcher.replay(history)
    searcher.tell("1", true_value(second))
    again = run(searcher, history=history)
    assert again == alone[2:], "after the replay of an unfinished trial it goes on otherwise"


def check_failed_trials(build: Build, space: Space) -> None:
    """Failed trials do not end the search."""
    searcher, asked = build(space, 0), 0
    while asked < 8 and (config := searcher.ask(str(asked))) is not None:
        assert not isinstance(config, Wait), "it waits although no trial is under way"
        searcher.tell(str(asked), None)
        asked += 1
    assert asked >= 5, f"it ends after {asked} failed trials"


def check_impossible_condition(build: Build) -> None:
    """A condition that cannot hold is refused when the searcher is made."""
    space = CONDITIONAL | {"batch_size": Int(low=1, high=9, when={"n_layers": (7,)})}
    wanted = "when of 'batch_size' names 'n_layers' with the value 7, which it never has"
    refusal = "nothing"
    try:
        build(space, 0)
    except ValueError as error:
        refusal = str(error)
    assert wanted in refusal, (
        f"of a condition that cannot hold it says {refusal}; call `checked` of dftune.searchers.space with the space"
    )


def run(searcher: Searcher, parallel: int = 1, seed: int = 0, history: Sequence[PastTrial] = ()) -> list[Answer]:
    """Ask and tell with ``parallel`` trials under way, ending in random order: the proposals in the order of asking."""
    order, asked, ended = random.Random(seed), list[Answer](), False
    running: list[tuple[str, Config]] = []
    number = len(history)
    while True:
        while len(running) < parallel and not ended and number < MOST:
            answer = searcher.ask(str(number))
            if isinstance(answer, Wait):
                assert running, "a method may wait only for trials under way"
                break
            if answer is None:
                ended = True
                break
            asked.append(answer)
            if not isinstance(answer, Pruned):
                running.append((str(number), answer))
            number += 1
        if not running:
            return asked
        trial, config = running.pop(order.randrange(len(running)))
        searcher.tell(trial, true_value(config))


def _past(trial: str, answer: Answer) -> PastTrial:
    """A proposal as history: pruned, or trained to its value."""
    if isinstance(answer, Pruned):
        return PastTrial(trial, answer.config, True, None, pruned=True)
    return PastTrial(trial, answer, True, true_value(answer))


def _config(answer: Answer) -> Config:
    return answer.config if isinstance(answer, Pruned) else answer


def _exists(space: Space, name: str, config: Config) -> bool:
    return all(config.get(parent) in some for parent, some in (space[name].when or {}).items())


def _too_wide(config: Config) -> float:
    """How far the widths are from 90, in the mean over those that the config has."""
    widths = [float(value) for name, value in config.items() if name.startswith("width")]
    return sum(abs(math.log(width / 90)) for width in widths) / len(widths)
