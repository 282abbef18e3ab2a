import dataclasses
import math

import numpy as np
import pytest

from dftune.tests.small_model import as_test
from dftune.tests.trainables.ldos.readout.errors import mean_errors
from dftune.trainables.errors import InputError
from dftune.trainables.kinds import KINDS
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.readout import fit as fitting
from dftune.trainables.ldos.readout import weighted
from dftune.trainables.ldos.readout.electrons import Ions
from dftune.trainables.ldos.readout.evaluate import evaluate
from dftune.trainables.ldos.readout.fit import fit
from dftune.trainables.progress import heard


def config(**values):
    return SurrogateConfig.of({"training": "none", "width": 32, "force_weight": 0, "penalty": 1e-2} | values)


def free_energies(trained, data, snapshots):
    """|Errors| of A [meV/atom], (n_snapshots, T)."""
    found = [
        evaluate(trained.network, data.scaling, d, Ions(d.snapshot, data.energy_grid, data.dft, data.species))
        for d in snapshots
    ]
    return 1e3 * np.abs([e.free_energy for e in found])


def check_same_networks(ours, theirs):
    """Sums of float32 features round otherwise where more networks share them, and the solve makes more of it."""
    for values, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


@pytest.fixture(scope="module")
def fitted(data):
    return fit(config(), data, seeds=[1, 2])


def test_the_training_snapshots_free_energies_are_right_with_rows_and_not_without(fitted, data):
    without = fit(config(energy_weight=0), data, seeds=[1])
    assert free_energies(without, data, data.train).max() > 2
    assert free_energies(fitted, data, data.train).max() < 0.05
    assert fitted.last.train_loss < 1.05 * without.last.train_loss  # and the LDOS hardly worse


def test_moving_the_targets_removes_the_error_of_the_linear_rows(data, monkeypatch, fitted):
    monkeypatch.setattr(fitting, "CHORDS", 0)
    linear = fit(config(), data, seeds=[1, 2])
    assert free_energies(linear, data, data.train).max() > 20 * free_energies(fitted, data, data.train).max()


def test_the_training_snapshots_forces_are_right_with_rows_and_not_without(data):
    one = dataclasses.replace(data, train=data.train[1:2])
    with_rows, without = (fit(config(width=64, force_weight=weight), one, seeds=[1]) for weight in (1e6, 0))
    errors = [
        np.abs(fitting.evaluated(n.network, one.train[0], data=one, forces=True).forces) for n in (with_rows, without)
    ]
    assert errors[0].mean() < 0.1 * errors[1].mean()
    assert 0 < with_rows.last.best_forces_mae < 1
    assert free_energies(with_rows, one, one.train).max() < 0.3


def test_the_training_snapshots_stresses_are_right_with_rows_and_not_without(data):
    """pw.x gives this stress of the snapshot with the settings that its LDOS was computed with."""
    stress = np.array([[27.227, 1.889, 4.122], [1.889, 24.819, -1.353], [4.122, -1.353, 19.989]]) * 1e-3  # eV/Å³
    known = dataclasses.replace(data.train[1], snapshot=dataclasses.replace(data.train[1].snapshot, stress=stress))
    one = dataclasses.replace(data, train=[known])
    for energies, worst in (("absolute", 2e-3), ("fermi", 1e-3)):
        some = one.relative_to_fermi_levels() if energies == "fermi" else one
        with_rows, without = (
            fit(config(width=64, stress_weight=weight, penalty=1.0, energies=energies), some, seeds=[1])
            for weight in (1e8, 0)
        )
        errors = [
            mean_errors([fitting.evaluated(n.network, some.train[0], data=some, forces=True)])
            for n in (with_rows, without)
        ]
        assert errors[0]["stress_mae"] < worst < 0.1 < errors[1]["stress_mae"]  # eV/Å³
        assert errors[0]["free_energy_mae"] < 0.5
        assert with_rows.fitted.startswith("fitted to LDOS, free energies and stresses of 1 snapshots")


def test_each_initialisation_is_what_it_is_alone(fitted, data):
    alone = fit(config(), data, seeds=[2])
    arrays = alone.network.arrays()
    check_same_networks([fitted.network.arrays()[name][1:] for name in arrays], arrays.values())


@pytest.mark.parametrize("values", [{"penalty": None}, {"energies": "fermi"}])
def test_networks_that_come_after_the_first_one_are_what_they_are_all_at_once(data, values):
    kind, about = KINDS["ldos"], {"device": "cpu", "memory": 1e9, "report": lambda epoch: None}
    data, values = dataclasses.replace(data, train=data.train[:1]), config(**values)
    first, judged = kind.alone(values, data, as_test(data.validation), seed=1, device="cpu")
    found = kind.train(values, data, seeds=[1, 2, 3], begun=first, **about)
    together = kind.train(values, data, seeds=[1, 2, 3], **about)
    assert (found.seeds, found.fitted, found.penalty) == (together.seeds, together.fitted, together.penalty)
    check_same_networks(found.network.arrays().values(), together.network.arrays().values())
    assert found.best_loss == pytest.approx(together.best_loss, rel=1e-5)
    assert found.last.train_loss == pytest.approx(together.last.train_loss, rel=1e-5)
    for name, ours in found.posterior.tensors().items():
        assert ours.shape == together.posterior.tensors()[name].shape
    whole, brief = kind.judge(first, data, as_test(data.validation)).accuracy, judged.accuracy
    assert (brief.ldos_r2, brief.dos_rmse, brief.error_bars) == (whole.ldos_r2, whole.dos_rmse, {})
    assert (brief.free_energy_mae, brief.band_energy_mae) == pytest.approx(
        (whole.free_energy_mae, whole.band_energy_mae), rel=1e-4
    )
    assert brief.splits == {"test": brief.means()}, "no forces"
    assert "which has no spread" in brief.lines()[0]
    assert not any("(0.0" in line for line in brief.lines())


def test_a_report_has_the_errors_of_the_validation_snapshots(fitted, data):
    last = fitted.last
    assert (last.epoch, last.grid_points, fitted.seeds) == (1, 24_000, (1, 2))
    assert 0 < last.readout_solve < last.readout_sums < last.seconds
    assert last.readout_sums + last.readout_solve == pytest.approx(last.seconds)
    assert last.best_free_energy_mae == pytest.approx(free_energies(fitted, data, data.validation).mean())
    judged = KINDS["ldos"].judge(fitted, data, data.validation).accuracy
    assert last.best_band_energy_mae == pytest.approx(judged.band_energy_mae, rel=1e-6)
    assert last.train_loss < last.best_loss < 0.2
    assert {name for name, v in fitted.last_report.items() if not math.isfinite(v)} == {"best_forces_mae"}


def test_without_the_dft_band_energies_are_right(data):
    blind = dataclasses.replace(data, dft=None)
    errors = []
    for weight in (0, 1e8):
        trained = fit(config(energy_weight=weight), blind, seeds=[1])
        errors.append(KINDS["ldos"].judge(trained, blind, data.train).accuracy.band_energy_mae)
        assert math.isnan(trained.last.best_free_energy_mae)
    assert errors[0] > 2 > 0.05 > errors[1]


def test_training_by_the_kind_reports_once(data):
    reports = []
    trained = KINDS["ldos"].train(
        config(), data, seeds=[1], device="cpu", memory=1e9, report=reports.append, for_ranking=True
    )
    assert reports == [trained.last_report]
    assert trained.neighbours is None


def test_fewer_grid_points_than_features_are_refused(data):
    few = dataclasses.replace(
        data,
        train=[
            dataclasses.replace(
                data.train[0],
                snapshot=dataclasses.replace(data.train[0].snapshot, grid=(2, 2, 2)),
                descriptors=[data.train[0].descriptors[0][:8]],
                ldos=[data.train[0].ldos[0][:8]],
            )
        ],
    )
    with pytest.raises(InputError, match="has 33 features and the training 8 grid points, fewer; lower width"):
        fit(config(), few, seeds=[1])


def test_more_rows_than_memory_holds_are_refused_before_they_are_made(data, monkeypatch):
    monkeypatch.setattr(weighted, "free_memory", lambda: 16 * 39**2 - 1)
    message = r"of 3 training snapshots need 0.0 GB of memory, and 0.0 GB are free here; set force_weight = 0"
    with pytest.raises(InputError, match=message):
        fit(config(force_weight=1e6), data, seeds=[1])
    weighted.refuse_too_many_rows(config(), data)
    monkeypatch.setattr(weighted, "free_memory", lambda: 16 * 39**2)
    weighted.refuse_too_many_rows(config(force_weight=1e6), data)
    with pytest.raises(InputError, match="dos_weight = 0"):
        weighted.refuse_too_many_rows(config(dos_weight=1.0), data)  # 37 energies of each are as many


def test_the_training_snapshots_dos_is_right_with_its_rows_and_not_without(data):
    """And it is said; such rows are linear, so they stand alone without iterations."""
    alone = {"energy_weight": 0.0, "force_weight": 0.0, "penalty": 1e2}
    fits = [fit(config(**alone, dos_weight=weight), data, seeds=[1, 2]) for weight in (0.0, 1e12)]
    with_rows, without = ([evaluate_dos(f, data, d) for d in data.train] for f in reversed(fits))
    assert np.max(with_rows) < 1e-4 < 4e-4 < np.min(without)  # 1/(eV atom)
    assert [f.fitted.partition(" of ")[0] for f in fits] == ["fitted to LDOS", "fitted to LDOS and DOS"]


def evaluate_dos(trained, data, snapshot):
    """Root mean square error of the DOS of each network."""
    return fitting.evaluated(trained.network, snapshot, data=data).error(snapshot).dos_rmse


def test_a_config_without_training_has_one_wide_layer_and_one_epoch():
    plain = SurrogateConfig.of({"training": "none", "epochs": 30})
    assert (plain.hidden, plain.activation, plain.epochs, plain.readout) == ((1024,), "silu", 1, "always")
    assert SurrogateConfig.of(plain.model_dump()) == plain
    assert SurrogateConfig.of({}).training == "adam"
    with pytest.raises(InputError, match="training"):
        SurrogateConfig.of({"training": "some"})


def test_a_fit_says_its_steps_to_whoever_listens(data):
    said = []
    with heard(lambda *step: said.append(step)):
        trained = fit(config(penalty=None, width=8), data, seeds=[1])
        KINDS["ldos"].judge(trained, data, as_test(data.validation))
    fit(config(width=8), data, seeds=[1])  # nobody listens
    fitting_steps, judging = said[:-3], said[-3:]
    assert [done for done, *_ in fitting_steps] == sorted(done for done, *_ in fitting_steps)
    assert {total for _, total, _ in fitting_steps} == {6}
    assert fitting_steps[0] == (0, 6, "sums over grid points")
    tried = [what for *_, what in fitting_steps if "penalties" in what]
    assert tried[0] == "penalties 0.01, 0.1, 1, 10, 100, 1e+03"
    assert len(tried) == 2
    assert fitting_steps[-1][2] == "errors of validation snapshots"
    assert judging == [
        (k, 3, f"errors of {name} snapshots") for k, name in enumerate(("test", "validation", "training"))
    ]
