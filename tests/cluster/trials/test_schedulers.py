"""Ray Tune schedulers with every method, in Ray Tune: what ends early, what is told, and that it ends at all."""

import itertools
import json
import math
import time
from collections import defaultdict, namedtuple
from pathlib import Path

import pytest
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from dftune.cluster.trials.schedulers import asha, brackets, hyperband, median, pause_epochs
from dftune.platform.spec import SpecError, StudySpec
from dftune.searchers import SEARCHERS, SearchTask, scored_methods
from dftune.searchers.grid_search import GridSearch
from dftune.searchers.random_search import RandomSearch
from dftune.searchers.space import Choice, Float, Int
from dftune.searchers.tune_searcher import COMPLETE, FAILURE, TuneSearcher

EPOCHS = 4
SPACE = {
    "n_layers": Int(low=1, high=2),
    "width": Int(low=16, high=256, log=True, n_levels=3),
    "activation": Choice(values=("relu", "tanh")),
    "learning_rate": Float(low=1e-4, high=1e-2, log=True, n_levels=3),
}
SCHEDULERS = {
    "asha": lambda: asha("loss", EPOCHS, grace_epochs=1, reduction_factor=2),
    "median": lambda: median("loss", EPOCHS, grace_epochs=1),
    "hyperband": lambda: hyperband("loss", EPOCHS, reduction_factor=2, concurrent=2),
}
PAUSES = {"hyperband": pause_epochs(EPOCHS, 2)}
OPTIONS = {
    "naswot": {"candidates": 20, "top": 6, "calibration": 4},
    "rfr": {"candidates": 20, "top": 9},
    "rfr30": {"candidates": 20, "top": 9},
    "naswot>optuna": {"candidates": 20, "calibration": 4},
    "optuna+naswot": {"lookahead": 3},
    "optuna+rfr": {"lookahead": 3},
    "optuna+rfr30": {"lookahead": 3},
}
End = namedtuple("End", "value, epoch, failure, stopped")


def limit(config):
    """What the loss of a config comes to: bad far from a width of 90 and a rate of 1e-3."""
    return 0.1 + abs(math.log(config["width"] / 90)) + abs(math.log(config["learning_rate"] / 1e-3))


def scorer(configs):
    return [-abs(math.log(c["width"] / 90)) + 0.1 * c["n_layers"] for c in configs]


def seen(config):
    return config["n_layers"], config["width"], config["activation"]


def loss(config, epoch):
    return limit(config) * (1 + 1 / epoch)


def length(trial):
    """Every third trial is content before the last epoch."""
    return 3 if trial % 3 == 2 else EPOCHS


class Notebook:
    """A record that keeps what it is told."""

    def __init__(self):
        self.configs, self.epochs, self.ends = {}, defaultdict(list), {}

    def asked(self, trial, config):
        self.configs[trial] = config

    def pruned(self, trial, config):
        pass

    def reported(self, trial, result):
        self.epochs[trial].append(result["epoch"])

    def told(self, trial, value, result, failure, stopped):
        assert trial not in self.ends
        self.ends[trial] = End(value, result.get("epoch"), failure, stopped)

    @property
    def stopped(self):
        return {trial for trial, end in self.ends.items() if end.stopped}


def trainable(task):
    """Epochs of nothing; goes on from a checkpoint.  ``ends`` are the reports after the last epoch."""
    import tempfile

    started, epoch = time.time(), 0
    if (checkpoint := tune.get_checkpoint()) is not None:
        epoch = json.loads((Path(checkpoint.path) / "state.json").read_text())["epoch"]
    try:
        while epoch < task["length"]:
            epoch += 1
            with tempfile.TemporaryDirectory() as folder:
                (Path(folder) / "state.json").write_text(json.dumps({"epoch": epoch}))
                saved = tune.Checkpoint.from_directory(folder) if epoch in task["pauses"] else None
                tune.report({"epoch": epoch, "loss": task["limit"] * (1 + 1 / epoch)}, checkpoint=saved)
        if task["ending"] == "error":
            raise RuntimeError("broken on purpose")
        if task["ending"] == "failure":
            tune.report({FAILURE: "diverged"})
        else:
            tune.report({"epoch": epoch, "loss": task["limit"] * (1 + 1 / epoch), COMPLETE: True})
    finally:
        if task["log"]:
            with open(task["log"], "a") as log:
                log.write(f"{started} {time.time()}\n")


def fit(method, scheduler, folder, *, pauses=(), ending=lambda trial: "", log="", concurrent=2, **options):
    """The record of a search, which has ended."""
    notebook, started = Notebook(), time.monotonic()
    searcher = TuneSearcher(
        method, metric="loss", record=notebook, **options,
        package=lambda trial, config: {
            "limit": limit(config), "length": length(trial), "pauses": pauses, "ending": ending(trial), "log": str(log),
        },
    )  # fmt: skip
    results = tune.Tuner(
        tune.with_resources(trainable, {"CPU": 1}),
        tune_config=tune.TuneConfig(
            search_alg=searcher, scheduler=scheduler, num_samples=-1, max_concurrent_trials=concurrent,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder), verbose=0, checkpoint_config=tune.CheckpointConfig(num_to_keep=1)
        ),
    ).fit()  # fmt: skip
    assert time.monotonic() - started < 600, "it waited for nothing"
    assert searcher.error is None
    assert len(results) == len(notebook.configs) == len(notebook.ends)
    return notebook


DIRECTIONS = {"naswot": "learnt", "rfr": "published"}
METHODS = {**SEARCHERS, **scored_methods(DIRECTIONS)}
# Median stopping asks of a method no more than ASHA does, and HyperBand the same of many: those pairs are slow tests.
QUICK = {"asha": METHODS, "median": ("random", "oat"), "hyperband": ("random", "oat", "direct", "optuna+rfr")}
AT_ONCE = ("random", "oat", "direct")  # two trials at once with ASHA, as all with HyperBand; a process takes 2 s
PAIRS = [
    pytest.param(name, scheduler, marks=[] if name in QUICK[scheduler] else pytest.mark.slow)
    for name in METHODS
    for scheduler in SCHEDULERS
]


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("name, scheduler", PAIRS)
def test_every_scheduler_combines_with_every_method(name, scheduler, tmp_path):
    method = METHODS[name]
    more = {"direction": DIRECTIONS[method.score], "scorer": scorer, "seen": seen} if method.score else {}
    method = method.build(SearchTask(SPACE, 0, **more), method.options(**OPTIONS.get(name, {})))
    found = fit(
        method, SCHEDULERS[scheduler](), tmp_path, pauses=PAUSES.get(scheduler, ()), max_trials=10,
        concurrent=2 if scheduler == "hyperband" or (scheduler == "asha" and name in AT_ONCE) else 1,
    )  # fmt: skip
    assert len(found.ends) >= 8
    if scheduler != "median":  # which stops none before three have gone further
        assert found.stopped
    for trial, end in found.ends.items():
        assert end.failure is None
        assert end.value == loss(found.configs[trial], end.epoch)
        assert end.epoch < EPOCHS if trial in found.stopped else end.epoch == length(trial)
        assert all(a < b for a, b in itertools.pairwise(found.epochs[trial][:-1])), "no epoch is trained twice"
    best = min(found.configs, key=lambda trial: limit(found.configs[trial]))
    assert best not in found.stopped


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_trials_that_fail_are_not_stopped_and_stop_nothing(scheduler, tmp_path):
    endings = {0: "failure", 1: "error", 5: "failure"}
    found = fit(
        RandomSearch(SPACE, 0), SCHEDULERS[scheduler](), tmp_path, pauses=PAUSES.get(scheduler, ()), max_trials=8,
        ending=lambda trial: endings.get(trial, ""), concurrent=2 if scheduler == "hyperband" else 1,
    )  # fmt: skip
    for trial, end in found.ends.items():
        assert (end.failure is not None) == (trial in endings and trial not in found.stopped)
        assert (end.value is None) == (end.failure is not None)
    assert any(end.failure == "diverged" for end in found.ends.values())


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("concurrent", [1, 2])
def test_hyperband_halves_each_bracket_and_runs_no_more_at_once_than_it_may(concurrent, tmp_path):
    # 4 trials to 1, then 2 to 2, then 1 to all epochs; 3 to 2, then 2 to all; and 3 to all epochs.
    log = tmp_path / "log"
    scheduler = hyperband("loss", EPOCHS, reduction_factor=2, concurrent=concurrent)
    found = fit(
        RandomSearch(SPACE, 3), scheduler, tmp_path, pauses=pause_epochs(EPOCHS, 2), max_trials=10, log=log,
        concurrent=concurrent,
    )  # fmt: skip
    expected = {}
    for first, last, rungs in ((0, 4, (1, 2)), (4, 7, (2,)), (7, 10, ())):
        left = sorted(range(first, last), key=lambda trial: limit(found.configs[trial]))
        for epoch in rungs:
            keep = math.ceil(len(left) / 2)
            expected |= dict.fromkeys(left[keep:], epoch)
            left = left[:keep]
        expected |= {trial: length(trial) for trial in left}
    assert {trial: end.epoch for trial, end in found.ends.items()} == expected
    spans = [tuple(map(float, line.split())) for line in log.read_text().splitlines()]
    at_once = max(sum(start < other_start < end for start, end in spans) + 1 for other_start, _ in spans)
    assert at_once <= concurrent


@pytest.mark.usefixtures("local_ray")
def test_a_ray_user_plugs_in_rays_own_scheduler(tmp_path):
    scheduler = ASHAScheduler(time_attr="epoch", metric="loss", mode="min", max_t=EPOCHS, reduction_factor=2)
    found = fit(GridSearch(SPACE, 0), scheduler, tmp_path, max_trials=8)
    assert any(end.epoch == 1 for end in found.ends.values())
    assert all(end.value == loss(found.configs[trial], end.epoch) for trial, end in found.ends.items())


def test_the_brackets_are_those_of_the_paper():
    # Li et al. (2018), Table 1: R = 81, η = 3; n by the formula of Algorithm 1, which the table rounds otherwise.
    assert brackets(81, 3) == [(81, (1, 3, 9, 27)), (34, (3, 9, 27)), (15, (9, 27)), (8, (27,)), (5, ())]
    assert brackets(40, 3) == [(27, (1, 4, 13)), (12, (4, 13)), (6, (13,)), (4, ())]
    assert brackets(1, 3) == brackets(2, 3) == [(1, ())]
    assert pause_epochs(40, 3) == [1, 4, 13]


@pytest.mark.parametrize("epochs", [1, 2, 7, 40, 243, 1000])
@pytest.mark.parametrize("reduction_factor", [2, 3, 4])
def test_all_brackets_train_about_equally_much(epochs, reduction_factor):
    # The idea of HyperBand: B = (s_max + 1) R each, when no trial is rounded up.
    for n, rungs in brackets(epochs, reduction_factor):
        assert all(1 <= a < b for a, b in itertools.pairwise((*rungs, epochs)))
        total, before = 0, 0
        for epoch in (*rungs, epochs):
            total, before, n = total + n * (epoch - before), epoch, math.ceil(n / reduction_factor)
        most = len(brackets(epochs, reduction_factor)) * epochs
        assert 0.4 * most <= total <= 2 * most


@pytest.mark.parametrize(
    "scheduler, message",
    [
        ({"type": "asho"}, r"key 'scheduler.type': Input should be 'asha', 'median' or 'hyperband', got 'asho'"),
        ({}, r"key 'scheduler.type' is missing"),
        ({"type": "asha", "grace_epoch": 2}, r"unknown key 'scheduler.grace_epoch'; did you mean 'grace_epochs'"),
        ({"type": "asha", "grace_epochs": 0}, r"key 'scheduler.grace_epochs': .* greater than or equal to 1, got 0"),
        ({"type": "asha", "reduction_factor": 1}, r"key 'scheduler.reduction_factor': .* or equal to 2, got 1"),
        ({"type": "asha", "grace_epochs": 9}, r"first compares after 9 epochs, but a trial has 9; nothing"),
        ({"type": "median", "reduction_factor": 3}, r"'reduction_factor' has no use with type 'median'"),
        ({"type": "hyperband", "grace_epochs": 3}, r"'grace_epochs' has no use with type 'hyperband'"),
    ],
)
def test_a_scheduler_that_cannot_work_is_refused(scheduler, message):
    with pytest.raises(SpecError, match=message):
        StudySpec.of({"name": "a", "dataset": "d", "config": {"epochs": 9}, "scheduler": scheduler})


def test_epochs_to_compare_at_must_be_those_of_every_trial():
    space = {"epochs": {"type": "int", "low": 5, "high": 20}}
    with pytest.raises(SpecError, match=r"move epochs from \[space\] to \[config\]"):
        StudySpec.of({"name": "a", "dataset": "d", "space": space, "scheduler": {"type": "asha"}})
    assert StudySpec.of({"name": "a", "dataset": "d", "scheduler": {"type": "asha"}}).epochs == 4
