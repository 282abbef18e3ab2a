import dataclasses

import numpy as np
import pytest

from dftune.tests.small_model import as_test
from dftune.trainables.errors import InputError
from dftune.trainables.kinds import KINDS
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.readout import fit as fitting
from dftune.trainables.ldos.readout.fit import fit
from dftune.trainables.ldos.readout.penalty import JUDGES, PENALTIES, Chosen, choose, judges


def larger(data, factor):
    cell = data.snapshot.cell * np.array([[factor], [1], [1]])
    return dataclasses.replace(data, snapshot=dataclasses.replace(data.snapshot, cell=cell))


def test_validation_snapshots_of_larger_cells_judge_where_there_are_any(data):
    same, large = data.validation[0], larger(data.validation[0], 2)
    assert judges(data.train, [same, large, same]) == ([large], "larger")
    assert judges(data.train, [same, larger(same, 1.001), larger(same, 0.5)])[1] == "one size"
    assert len(judges(data.train, [same, same])[0]) == 2
    assert judges([*data.train, large], [same])[1] == "one size"  # of as many atoms
    atoms = {name: np.concatenate([getattr(large.snapshot, name)] * 2) for name in ("numbers", "positions")}
    twice = dataclasses.replace(large, snapshot=dataclasses.replace(large.snapshot, **atoms))
    assert judges([*data.train, twice], [same])[1] == "several sizes"
    many = [same] * (2 * JUDGES + 1)
    assert len(judges(data.train, many)[0]) == 3  # every third


def table(**errors):
    """Errors at each penalty of 1e-2, 1e-1 ... 1e3, the same up to the next one, by kind."""

    def errors_at(penalties):
        asked.extend(penalties)
        steps = [int(np.floor(np.log10(penalty) + 2 + 1e-9)) for penalty in penalties]
        return [{kind: values[k] for kind, values in errors.items()} for k in steps]

    asked = []
    return errors_at, asked


FORCES = [0.046, 0.0345, 0.0345, 0.0271, 0.0228, 0.0268]
NAN = [np.nan] * 6


def test_the_smallest_penalty_that_is_as_good_is_taken():
    errors_at, asked = table(forces=FORCES, ldos=[1.0] * 6)
    assert choose(errors_at, "larger") == Chosen(100, ("ldos", "forces"))
    np.testing.assert_allclose(asked, [*PENALTIES, 100 / np.sqrt(10), 100 * np.sqrt(10)])
    assert choose(table(forces=[0.0235, *FORCES[1:]], ldos=[1.0] * 6)[0], "one size").penalty == 1e-2


def test_with_several_sizes_and_none_larger_the_largest_that_is_as_good_is_taken():
    assert choose(table(forces=FORCES, ldos=[1.0] * 6)[0], "several sizes").penalty == 1000
    worse_at_last = table(forces=[*FORCES[:5], 0.08], ldos=[1.0] * 6)[0]
    assert choose(worse_at_last, "several sizes").penalty == pytest.approx(316.2, rel=1e-3)


def test_with_several_sizes_forces_alone_do_not_choose():
    """Forces gain a fifth by a penalty at which the LDOS is three times worse."""
    forces, ldos = [0.013, 0.012, 0.012, 0.012, 0.011, 0.010], [1.0, 1.0, 1.05, 1.3, 2.0, 3.0]
    assert choose(table(forces=forces, ldos=ldos)[0], "several sizes").penalty == 100


def test_with_rows_of_stresses_the_largest_as_good_by_stresses_is_taken():
    """Of 18 snapshots of Al4 the errors of stresses fall like this, and so do those at other volumes."""
    worse, stress = [1.0, 1.05, 1.1, 2.0, 4.0, 8.0], [0.42, 0.3, 0.168, 0.12, 0.085, 0.073]
    both = table(stress=stress, forces=FORCES, ldos=worse)[0]
    assert choose(both, "one size", stresses=True) == Chosen(1000, ("stress",))
    assert choose(table(forces=FORCES, ldos=worse)[0], "one size", stresses=True) == Chosen(1000, ("forces",))


def test_an_ldos_that_gets_worse_counts_as_much_as_forces_that_get_better():
    worse = [1.0, 1.05, 1.1, 2.0, 4.0, 8.0]  # squared
    assert choose(table(forces=FORCES, ldos=worse)[0], "one size").penalty == 0.1


def test_energies_count_down_to_what_chance_gives():
    free = [9e-4, 6e-4, 1e-5, 2e-4, 3e-4, 9e-4]  # eV/atom: 0.01 meV/atom is no better than 0.3
    even = {"ldos": [1.0] * 6, "forces": [0.02] * 6}
    found = choose(table(free_energy=free, **even)[0], "one size")
    assert found == Chosen(1, ("ldos", "free_energy", "forces"))
    assert choose(table(free_energy=free, **even)[0], "several sizes").penalty == 100


def test_a_penalty_between_two_is_found():
    def errors_at(penalties):
        return [{"forces": 1 + np.log10(penalty / 250) ** 2, "ldos": 1.0} for penalty in penalties]

    assert choose(errors_at, "larger").penalty == pytest.approx(100 * np.sqrt(10))


def test_all_kinds_of_errors_that_are_known_choose():
    some = [3.0, 2, 1, 4, 5, 6]
    better, ldos = [6.0, 5, 4, 3, 2, 1], [1.0] * 6
    all_of_them = table(ldos=ldos, free_energy=some, forces=some)[0]
    assert choose(all_of_them, "one size") == Chosen(1, ("ldos", "free_energy", "forces"))
    unknown = table(ldos=ldos, band_energy=some, free_energy=NAN)[0]
    assert choose(unknown, "one size") == Chosen(1, ("ldos", "band_energy"))
    assert choose(table(ldos=better)[0], "one size") == Chosen(1000, ("ldos",))


def test_penalties_without_finite_errors_are_passed_over_and_all_of_them_refused():
    assert choose(table(forces=[np.nan, np.inf, np.nan, 3, 2, 4], ldos=[1.0] * 6)[0], "one size") == Chosen(
        100, ("ldos", "forces")
    )

    def singular(penalties):
        return [InputError(f"singular at {p:g}") if p < limit else {"ldos": p} for p in penalties]

    limit = 0.5
    assert choose(singular, "one size").penalty == 1
    limit = 1e9
    with pytest.raises(InputError, match=r"singular at 0\.01"):
        choose(singular, "one size")
    with pytest.raises(InputError, match="not finite"):
        choose(table(ldos=NAN)[0], "one size")


def test_penalties_are_judged_by_actual_errors_after_an_iteration(data, monkeypatch):
    """The errors of each are those of a readout with that penalty."""
    found = {}

    def spied(errors_at, cells, *, stresses):
        assert (cells, stresses) == ("one size", False)
        found.update(zip((0.1, 30.0), errors_at((0.1, 30.0)), strict=True))
        return Chosen(0.1, ("ldos", "free_energy"))

    monkeypatch.setattr(fitting, "choose", spied)
    monkeypatch.setattr(fitting, "CHORDS", fitting.TRIED)
    config = {"training": "none", "width": 16, "force_weight": 0}
    fitted = fit(SurrogateConfig.of(config), data, seeds=[1]).fitted
    assert "penalty 0.1, chosen by LDOS and free energies of 1 validation" in fitted
    for penalty, errors in found.items():
        last = fit(SurrogateConfig.of({**config, "penalty": penalty}), data, seeds=[1]).last
        assert 1e3 * errors["free_energy"] == pytest.approx(last.best_free_energy_mae, rel=1e-4)
        assert set(errors) == {"free_energy", "ldos"}  # what there are rows of
    assert abs(found[0.1]["free_energy"] / found[30.0]["free_energy"] - 1) > 1e-3


def test_what_the_last_layer_was_fitted_to_is_said(data):
    config = SurrogateConfig.of({"training": "none", "width": 16, "force_weight": 0})
    trained = fit(config, data, seeds=[1])
    assert "fitted to LDOS and free energies of 3 snapshots, all of cells shorter than twice the cutoff of 3 Å" in (
        trained.fitted
    )
    by = "chosen by LDOS and free energies of 1 validation snapshots of cells no larger than the training's"
    assert by in trained.fitted
    given = fit(SurrogateConfig.of({**config.model_dump(), "penalty": 7.0, "energy_weight": 0}), data, seeds=[1])
    assert given.fitted.startswith("fitted to LDOS of 3 snapshots, all of")
    assert given.fitted.endswith("penalty 7, as given")
    accuracy = KINDS["ldos"].judge(trained, data, as_test(data.validation)).accuracy
    assert accuracy.fitted == trained.fitted
    splits = accuracy.splits
    assert splits["test"] == splits["validation"]
    assert splits["test"]["free_energy_mae"] == pytest.approx(trained.last.best_free_energy_mae, rel=1e-4)
    assert splits["training"]["free_energy_mae"] < 0.5 * splits["test"]["free_energy_mae"]
    assert 0.01 < splits["training"]["forces_mae"] < 1
    assert KINDS["ldos"].accuracy(accuracy.to_dict()).to_dict() == accuracy.to_dict()
    lines = "\n".join(accuracy.lines())
    assert "free-energy error  test" in lines
    assert "force error" in lines
    assert trained.fitted in lines


def test_the_first_initialisation_alone_chooses(data):
    small = dataclasses.replace(data, train=data.train[:1])
    both, one = (
        fit(SurrogateConfig.of({"training": "none", "width": 16}), small, seeds=seeds) for seeds in ([5, 6], [5])
    )
    assert both.fitted == one.fitted
    for (name, of_both), (_, alone) in zip(both.network.arrays().items(), one.network.arrays().items(), strict=True):
        np.testing.assert_allclose(of_both[:1], alone, rtol=1e-4, atol=1e-5 * np.abs(alone).max(), err_msg=name)
