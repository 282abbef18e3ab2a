import dataclasses
from functools import reduce
from operator import add

import numpy as np
import pytest

from dftune.trainables.errors import InputError
from dftune.trainables.ldos.accuracy import Accuracy, SnapshotError, snapshot_error, summarize
from dftune.trainables.ldos.error_bars import ErrorBar, calibrated, estimated, left_open
from dftune.trainables.ldos.training_data import Moments


def total_variance(shards):
    return reduce(add, map(Moments.of, shards)).total


def judged(al4, snapshot, predicted):
    """The errors of DOS curves (T, n_energy) on a snapshot."""
    true = al4.dos(snapshot)
    return snapshot_error(
        snapshot,
        al4.info.energy_grid,
        predicted_dos=predicted,
        true_dos=true,
        squared_error=np.zeros(len(predicted)),
    )


def error(snapshot, band, squares=(0.0, 0.0), rmse=(0.0, 0.0), free=None):
    """``free``: errors of the free energy, by default not known."""
    unknown = np.full(len(band), np.nan) if free is None else np.array(free, dtype=float)
    return SnapshotError(snapshot, np.array(band, dtype=float), np.array(rmse), np.array(squares), unknown)


def bars_of(errors):
    return calibrated(errors)["band_energy"]


def test_the_true_dos_has_no_error_but_that_of_the_quadrature(al4):
    report = next(al4.check())
    found = judged(al4, al4["000"], np.stack([al4.dos(al4["000"])] * 2))
    np.testing.assert_allclose(found.band_energy, report.band_energy_error)
    np.testing.assert_array_equal(found.dos_rmse, 0.0)


def test_a_dos_shifted_in_energy_shifts_the_band_energy_by_as_much_an_electron(al4):
    # 12 electrons in 4 atoms: 10 meV an electron are 30 meV/atom.  Shifted to first order, by the derivative.
    snapshot, grid = al4["000"], al4.info.energy_grid
    dos = al4.dos(snapshot)
    shifted = np.interp(grid.energy - 0.01, grid.energy, dos)
    expected = 30.0
    found = judged(al4, snapshot, np.stack([dos, shifted])).band_energy
    assert found[1] - found[0] == pytest.approx(expected, rel=0.05)


def test_the_dos_error_is_the_root_mean_square_an_atom(al4):
    dos = al4.dos(al4["000"])
    offsets = np.stack([dos + 0.4, dos + 0.8 * np.where(np.arange(37) == 5, 1, 0)])
    np.testing.assert_allclose(judged(al4, al4["000"], offsets).dos_rmse, [0.1, 0.2 / np.sqrt(37)])


def test_a_dos_that_cannot_hold_the_electrons_has_no_band_energy(al4):
    dos = al4.dos(al4["000"])
    found = judged(al4, al4["000"], np.stack([0.1 * dos, dos, np.full(37, np.nan)]))
    assert np.isnan(found.band_energy).tolist() == [True, False, True]


def test_without_a_dft_band_energy_there_is_no_error(al4):
    snapshot = dataclasses.replace(al4["000"], band_energy=None)
    assert np.isnan(judged(al4, snapshot, al4.dos(snapshot)[None]).band_energy).all()


def test_errors_of_opposite_sign_do_not_cancel(al4):
    # A signed mean error can be "minimised" to -76 meV/atom.
    found = summarize([error(al4["000"], [5.0, 3.0]), error(al4["003"], [-5.0, -1.0])], total_variance=1.0)
    assert found.band_energy_mae == pytest.approx((5.0 + 2.0) / 2)
    assert found.band_energy_mae_std == pytest.approx(1.5)  # of 5 and 2, over the initialisations
    assert (found.n_snapshots, found.n_initializations) == (2, 2)
    mean_size, mean_error = found.by_group["displacement 0.05 Å"]
    assert (mean_size, mean_error) == pytest.approx((3.5, 0.5))


def test_errors_are_told_apart_by_group(al4):
    found = summarize([error(al4["000"], [1.0, -1.0]), error(al4["002"], [-7.0, -9.0])], total_variance=1.0)
    assert found.by_group == {"displacement 0.05 Å": (1.0, 0.0), "displacement 0.15 Å": (8.0, -8.0)}


def test_an_undefined_error_is_never_a_number(al4):
    found = summarize([error(al4["000"], [1.0, np.nan]), error(al4["002"], [-7.0, -9.0])], total_variance=1.0)
    assert found.band_energy_mae is None
    assert found.band_energy_mae_std is None
    assert found.by_group == {"displacement 0.15 Å": (8.0, -8.0)}


def test_r2_is_one_for_the_truth_and_zero_for_the_mean(al4):
    ldos = [al4.ldos(al4[i]).array() for i in ("000", "001")]
    everything = np.concatenate(ldos).astype(float)
    mean = everything.mean(axis=0)
    errors = [
        error(al4[i], [0.0, 0.0], squares=(0.0, ((values.astype(float) - mean) ** 2).sum()), rmse=(0.1, 0.3))
        for i, values in zip(("000", "001"), ldos, strict=True)
    ]
    found = summarize(errors, total_variance(ldos))
    assert found.ldos_r2 == pytest.approx(0.5)  # the mean over the two
    assert found.ldos_r2_std == pytest.approx(0.5)
    assert found.dos_rmse == pytest.approx(0.2)
    assert found.dos_rmse_std == pytest.approx(0.1)


def test_the_variance_over_shards_is_that_of_all_points(al4):
    ldos = al4.ldos(al4["000"]).array()
    expected = (ldos.astype(float).var(axis=0) * 8000).sum()
    assert total_variance([ldos[:100], ldos[100:5000], ldos[5000:]]) == pytest.approx(expected, rel=1e-12)


def with_spread(snapshot, n, factor, rng):
    """``n`` snapshots whose mean band energy over T = 2 is off by ``factor`` times the spread, normally distributed."""
    spreads = rng.uniform(0.5, 3.0, n)
    means = factor * spreads * rng.normal(size=n)
    return [error(snapshot, (m - s, m + s)) for m, s in zip(means, spreads, strict=True)]


def test_the_spread_times_its_factor_covers_68_percent(al4):
    rng = np.random.default_rng(0)
    bar = bars_of(with_spread(al4["000"], 4000, 12.0, rng))
    assert (bar.factor, bar.snapshots, bar.posterior) == (pytest.approx(12.0, rel=0.05), 4000, False)
    judged = summarize(with_spread(al4["000"], 4000, 12.0, rng), 1.0, {"band_energy": bar})
    found = judged.error_bars["band_energy"]
    assert (found.within_1, found.within_2) == (pytest.approx(0.683, abs=0.03), pytest.approx(0.954, abs=0.01))
    about = f"error bar, band energy: {bar.factor:.1f} times the spread, calibrated on 4000 snapshots"
    assert any(about in line and "of 4000 test snapshots" in line for line in judged.lines())
    worse = summarize(with_spread(al4["000"], 400, 60.0, rng), 1.0, {"band_energy": bar})
    assert any("not the 66 to 70 % of a right estimate" in line for line in worse.lines())


def test_the_free_energy_has_an_error_and_an_error_bar_of_its_own(al4):
    """The band energy is here ten times better; what is said of A must not be its."""
    rng, snapshot = np.random.default_rng(1), al4["000"]

    def some(n):
        pairs = zip(with_spread(snapshot, n, 3.0, rng), with_spread(snapshot, n, 30.0, rng), strict=True)
        return [error(snapshot, band.band_energy, free=free.band_energy) for band, free in pairs]

    bars = calibrated(some(2000))
    factors = {name: bar.factor for name, bar in bars.items()}
    assert factors == {"free_energy": pytest.approx(30, rel=0.05), "band_energy": pytest.approx(3, rel=0.05)}
    judged = summarize(some(2000), 1.0, bars)
    assert judged.error_bars["free_energy"].within_1 == pytest.approx(0.683, abs=0.03)
    assert judged.free_energy_mae > 5 * judged.band_energy_mae
    assert judged.stated_error.startswith(f"on 2000 test snapshots free energy off by {judged.free_energy_mae:.1f} meV")
    assert estimated(bars, "free_energy", 0.1, {}) == pytest.approx(3.0, rel=0.05)
    assert estimated(bars, "forces", 0.1, {}) is None
    assert sum("error bar" in line for line in judged.lines()) == 2
    assert Accuracy.of_dict(judged.to_dict() | {"spread_factor": 3.0}) == judged
    with pytest.raises(InputError, match="unknown accuracy volume_mae; a later version of dftune may know it"):
        Accuracy.of_dict(judged.to_dict() | {"volume_mae": 3.0})


def test_what_validation_judges_is_said_to_be_better_than_it_is(al4):
    errors = with_spread(al4["000"], 2, 12.0, np.random.default_rng(0))
    bars = bars_of(errors)
    found = summarize(errors, 1.0, {"band_energy": bars}, "validation")
    said = "on 2 validation snapshots (none are for testing; these also chose the penalty or the weights, so expect"
    assert found.stated_error.startswith(said)
    assert found.lines()[0].startswith(said)
    assert found.beside_spread.startswith(f"the spread of 2 trainings is no error bar; validation error: {said}")
    assert found.error_bars == {"band_energy": bars}, "those that it was calibrated on cannot say how well it holds"
    assert "test snapshot" not in "".join([found.stated_error, *found.lines()])
    assert Accuracy.of_dict(found.to_dict()) == found
    old = {name: value for name, value in found.to_dict().items() if name != "judged_on"}
    assert Accuracy.of_dict(old).judged_on == "test", "as all were judged before"


def test_without_a_spread_there_is_no_error_bar(al4):
    one = [error(al4["000"], (3.0,), squares=(0.0,), rmse=(0.0,))]
    assert calibrated(one) == {}
    assert calibrated([]) == {}
    assert calibrated([error(al4["000"], (1.0, np.nan))]) == {}
    assert summarize(one, 1.0).error_bars == {}
    assert not any("error bar" in line for line in summarize(one, 1.0).lines())


def test_spread_and_last_layer_add_up_and_validation_only_widens(al4):
    rng = np.random.default_rng(2)

    def some(n, factor):
        """σ is 5 of spread and last layer, errors of the mean ``factor`` times that."""
        means = factor * 5 * rng.normal(size=n)
        off = [error(al4["000"], (m - 3, m + 3)) for m in means]
        return [dataclasses.replace(e, std={"band_energy": np.array([4.0])}) for e in off]

    wide, narrow = bars_of(some(4000, 2.0)), bars_of(some(4000, 0.2))
    assert (wide.factor, narrow.factor) == (pytest.approx(2, rel=0.05), 1.0)
    assert (wide.largest, wide.posterior) == (pytest.approx(5), True)
    untold = error(al4["000"], (30.0, 30.1))  # a DOS too far off for a posterior: the spread alone says 0.05
    told = some(100, 2.0)
    assert bars_of([untold, *told]) == bars_of(told)
    found = summarize(some(4000, 2.0), 1.0, {"band_energy": wide}).error_bars["band_energy"]
    assert found.within_1 == pytest.approx(0.683, abs=0.03)
    assert "2.0 times what spread and last layer leave open" in found.holds(4000)
    assert "on only 3 snapshots" in dataclasses.replace(found, snapshots=3).holds(4)
    # a prediction of 4 atoms [eV per cell], without and with what the last layer leaves open
    assert estimated({"band_energy": wide}, "band_energy", 0.003, {}) is None
    error_bar = estimated({"band_energy": wide}, "band_energy", 0.3, {"band_energy": np.array(0.4)})
    assert error_bar == pytest.approx(wide.factor * 0.5)
    assert left_open({"band_energy": wide}, {"band_energy": float(error_bar)}, 4) == ("band_energy", pytest.approx(25))
    assert left_open({"band_energy": ErrorBar(1.0, 9, 5.0)}, {"band_energy": 1.0}, 4) is None


def test_of_many_numbers_those_within_the_error_bar_are_counted(al4):
    """Forces of four atoms: a snapshot is one in the calibration, and twelve in what holds."""
    rng = np.random.default_rng(3)
    means = 3.0 * rng.normal(size=(300, 1, 4, 3))
    one = error(al4["000"], (1.0, 2.0))
    some = [dataclasses.replace(one, forces=m + np.array([-1.0, 1.0])[:, None, None]) for m in means]
    bar = calibrated(some)["forces"]
    assert (bar.factor, bar.snapshots) == (pytest.approx(3.0, rel=0.05), 300)
    assert summarize(some, 1.0, {"forces": bar}).error_bars["forces"].within_1 == pytest.approx(0.683, abs=0.03)
