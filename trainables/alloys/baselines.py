"""What networks of alloys must beat: a line in composition, the neighbour-shell model, boosted trees."""

from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .accuracy import AlloyAccuracy, accuracy_of
from .config import TASKS, Task
from .shell_model import ShellModel, SiteModel
from .splits import images
from .training_data import Targets, TrainingData

IMAGES = 8  # of each configuration, that the trees are fitted to
ROUNDS = 100  # the default of XGBRegressor, which needs scikit-learn


def composition(data: TrainingData, test: Targets, seed: int) -> AlloyAccuracy:
    """A straight line in composition for the energy; for charges and moments the mean of each element."""
    x = data.train.species.mean(axis=1)
    line = np.polynomial.Polynomial.fit(x, data.train.values["E"][:, 0], 1)
    found: dict[Task, NDArray[np.float64]] = {"E": line(test.species.mean(axis=1))[None, :, None]}
    for task in data.varying:
        if task != "E":
            of_element = [data.train.values[task][data.train.species == s].mean() for s in (0, 1)]
            found[task] = np.array(of_element)[test.species][None]
    return accuracy_of(found, test)


def shell_model(data: TrainingData, test: Targets, seed: int) -> AlloyAccuracy:
    """The linear neighbour-shell model, its number of shells by evidence."""
    n, lattice = data.lattice.n_sites, data.lattice
    model = ShellModel.fit(lattice, data.train.species, n * data.train.values["E"][:, 0])
    found: dict[Task, NDArray[np.float64]] = {"E": model.energy(lattice, test.species)[None, :, None] / n}
    for task in data.varying:
        if task != "E":
            sites = SiteModel.fit(lattice, data.train.species, data.train.values[task], n_shells=model.n_shells)
            found[task] = sites.predict(lattice, test.species)[None]
    return accuracy_of(found, test)


def boosted_trees(data: TrainingData, test: Targets, seed: int) -> AlloyAccuracy:
    """XGBoost with its default settings, on symmetry images, a model an output.

    Raises:
        InputError: it is not installed.
    """
    if find_spec("xgboost") is None:
        raise InputError("XGBoost is not installed; `pip install xgboost-cpu` (the package xgboost brings CUDA)")
    from xgboost import DMatrix
    from xgboost import train as boost

    rng, permutations = np.random.default_rng(seed), data.lattice.permutations
    rows = np.tile(np.arange(len(data.train)), IMAGES)
    chosen = rng.integers(len(permutations), size=len(rows))
    x, found = images(data.train.sigma[rows], permutations, chosen), dict[Task, NDArray[np.float64]]()
    for task in data.varying:
        some = data.train.values[task][rows]
        y = some[:, 0] if task == "E" else images(some, permutations, chosen)
        trees = boost({"seed": seed, "nthread": 1}, DMatrix(x, y), num_boost_round=ROUNDS)
        found[task] = np.asarray(trees.predict(DMatrix(test.sigma)), dtype=np.float64).reshape(1, len(test), -1)
    return accuracy_of({task: found[task] for task in TASKS if task in found}, test)
