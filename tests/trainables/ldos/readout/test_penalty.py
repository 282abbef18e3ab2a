import dataclasses

import numpy as np
import pytest

from dftune.trainables.errors import InputError
from dftune.trainables.kinds import KINDS
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.readout.fit import fit
from dftune.trainables.ldos.readout.gram import Gram
from dftune.trainables.ldos.readout.penalty import PENALTIES, choose, judges
from dftune.trainables.ldos.readout.rows import Rows
from dftune.trainables.ldos.readout.solve import Solver


def larger(data, factor):
    cell = data.snapshot.cell * np.array([[factor], [1], [1]])
    return dataclasses.replace(data, snapshot=dataclasses.replace(data.snapshot, cell=cell))


def test_validation_snapshots_of_larger_cells_judge_where_there_are_any(data):
    same, large = data.validation[0], larger(data.validation[0], 2)
    assert judges(data.train, [same, large, same]) == ([large], True)
    assert judges(data.train, [same, larger(same, 1.001), larger(same, 0.5)])[1] is False
    assert len(judges(data.train, [same, same])[0]) == 2


def test_forces_choose_where_there_are_any_and_else_free_energies(rng):
    """The rows that judge are right at other penalties for forces than for free energies."""
    phi = rng.normal(size=(1, 40, 6))
    y = rng.normal(size=(40, 3))
    sums = Gram(40, phi.swapaxes(1, 2) @ phi, phi.swapaxes(1, 2) @ y, float((y**2).sum()))
    none = Rows((), np.zeros((1, 0, 2, 6)), np.zeros((0, 2, 3)), np.zeros(0))
    left, right = rng.normal(size=(1, 2, 2, 6)), rng.normal(size=(2, 2, 3))
    best = {"forces": PENALTIES[4], "free_energy": PENALTIES[3]}
    target = np.zeros(2)
    for k, penalty in enumerate(best.values()):
        target[k] = Rows(tuple(best), left, right, target).of(Solver(sums, none, penalty).solve({}))[0, k]
    seen = Rows(tuple(best), left, right, target)
    assert choose(sums, none, {}, seen, None).penalty == PENALTIES[4]
    only = Rows(("free_energy",), left[:, 1:], right[1:], target[1:])
    found = choose(sums, none, {}, only, None)
    assert (found.penalty, found.about) == (PENALTIES[3], "chosen by free energies")
    # Without rows the LDOS chooses, here that of the training; of penalties that are as good the smallest is taken.
    assert choose(sums, none, {}, none, sums).penalty == PENALTIES[0]
    with pytest.raises(InputError, match="not finite"):
        choose(sums, none, {}, none, dataclasses.replace(sums, y_y=np.nan))


def test_what_the_last_layer_was_fitted_to_is_said(data):
    config = SurrogateConfig.of({"training": "none", "width": 16, "force_weight": 0})
    trained = fit(config, data, seeds=[1])
    assert "fitted to LDOS and free energies of 3 snapshots, all of cells shorter than twice the cutoff of 3 Å" in (
        trained.fitted
    )
    assert "chosen by free energies of 1 validation snapshots of cells no larger than the training's" in trained.fitted
    given = fit(SurrogateConfig.of({**config.model_dump(), "penalty": 7.0, "energy_weight": 0}), data, seeds=[1])
    assert given.fitted.startswith("fitted to LDOS of 3 snapshots, all of")
    assert given.fitted.endswith("penalty 7, as given")
    accuracy = KINDS["ldos"].judge(trained, data, data.validation).accuracy
    assert accuracy.fitted == trained.fitted
    splits = accuracy.splits
    assert splits["test"] == splits["validation"]
    assert splits["test"]["free_energy_mae"] == pytest.approx(trained.last.best_free_energy_mae)
    assert splits["training"]["free_energy_mae"] < 0.5 * splits["test"]["free_energy_mae"]
    assert 0.01 < splits["training"]["forces_mae"] < 1
    assert KINDS["ldos"].accuracy(accuracy.to_dict()).to_dict() == accuracy.to_dict()
    lines = "\n".join(accuracy.lines())
    assert "free-energy error  test" in lines
    assert "force error" in lines
    assert trained.fitted in lines
