"""What the tests of our methods as Ray Tune searchers share: a record, a Tuner, and asking as Ray Tune does."""

from ray import tune

from dftune.searchers import scored_methods
from dftune.searchers.space import Float
from dftune.searchers.tune_searcher import COMPLETE, TuneSearcher

SPACE = {"x": Float(low=-1, high=1)}


class Notebook:
    """A record that keeps what it is told, in order."""

    def __init__(self):
        self.events = []

    def asked(self, trial, config):
        self.events.append(("asked", trial, config["x"]))

    def pruned(self, trial, config):
        self.events.append(("pruned", trial, config["x"]))

    def reported(self, trial, result):
        self.events.append(("reported", trial))

    def told(self, trial, value, result, failure, stopped):
        self.events.append(("told", trial, value, failure))

    def of(self, kind):
        return [event[1:] for event in self.events if event[0] == kind]


def fit(searcher, trainable, folder, **config):
    """One trial at a time, unless told otherwise: Ray starts a process for each that runs at once."""
    settings = {"num_samples": -1, "max_concurrent_trials": 1, "reuse_actors": True} | config
    return tune.Tuner(
        tune.with_resources(trainable, {"CPU": 1}),
        tune_config=tune.TuneConfig(search_alg=searcher, **settings),
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0),
    ).fit()


def drive(searcher, report_of):
    """Ask and tell as Ray Tune does with one slot, without processes: the configs of the trials.

    Args:
        searcher: a ``TuneSearcher``.
        report_of: the one report of a config's trial.
    """
    configs = []
    while (config := searcher.suggest(f"trial-{len(configs)}")) != TuneSearcher.FINISHED:
        if config is not None:
            report = report_of(config)
            searcher.on_trial_result(f"trial-{len(configs)}", report)
            searcher.on_trial_complete(f"trial-{len(configs)}", report | {COMPLETE: True})
            configs.append(config)
    return configs


def square(config):
    return {"loss": config["x"] ** 2}


def parabola(config):
    tune.report(square(config))


def near_zero(configs):
    """A score that knows where the parabola is low."""
    return [-abs(c["x"]) for c in configs]


SCORED = scored_methods(["score"])
