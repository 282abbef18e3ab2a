"""A sampler for Optuna as other people write one; the tests name it as "package:Class"."""

from optuna.samplers import BaseSampler, RandomSampler


class NearTheBest(BaseSampler):
    """Draw at random; from the third value on, take one hyperparameter's value from the best trial."""

    def __init__(self, kept, seed=None):
        if not isinstance(kept, str):
            raise TypeError(f"kept must be a name, not {kept!r}")
        self.kept, self._random = kept, RandomSampler(seed=seed)

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}

    def sample_independent(self, study, trial, param_name, param_distribution):
        told = [t for t in study.get_trials(deepcopy=False) if t.values is not None]
        if param_name == self.kept and len(told) >= 3:
            return min(told, key=lambda t: t.values[0]).params[param_name]
        return self._random.sample_independent(study, trial, param_name, param_distribution)


class Counting(RandomSampler):
    """Random, and counts in itself the trials that it was told of."""

    def __init__(self, seed=None):
        super().__init__(seed=seed)
        self.told = 0

    def after_trial(self, study, trial, state, values):
        self.told += 1
        super().after_trial(study, trial, state, values)


class NoSampler:
    """Is no sampler."""
