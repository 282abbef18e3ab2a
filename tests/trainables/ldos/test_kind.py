"""What the LDOS kind says of a study before it starts."""

from dataclasses import replace

import numpy as np
import pytest

from dftune import BispectrumSettings, StudySpec
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.errors import DatasetError, InputError
from dftune.trainables.kinds import KINDS
from dftune.trainables.ldos.judgement import judge

KIND = KINDS["ldos"]


@pytest.mark.parametrize(
    "config, space",
    [({}, ()), ({"readout": "always"}, ("readout",)), ({"readout": "always", "force_weight": 0}, ()),
     ({"readout": "final", "training": "adam"}, ("width",))],
    ids=str,
)  # fmt: skip
def test_forces_are_not_minimised_where_trials_have_no_error_of_them(al4, config, space):
    with pytest.raises(InputError, match=r"'forces_mae' needs trials whose last layer.*readout = 'always' or training"):
        KIND.refuse_config(al4, config, space, ["validation_loss", "forces_mae"])
    KIND.refuse_config(al4, config, space, ["free_energy_mae"])


@pytest.mark.parametrize("config", [{"readout": "always"}, {"training": "none"}], ids=str)
def test_forces_are_minimised_where_trials_end_with_a_readout(al4, config):
    KIND.refuse_config(al4, config, ["width"], ["forces_mae"])


def test_energies_that_are_not_those_of_the_ldos_stop_a_study_before_it_starts(al4, monkeypatch):
    wrong = al4.split("train")[1]
    moved = {wrong.id: 0.08}

    def split(self, name, before=Dataset.split):
        return [replace(s, total_energy=s.total_energy + moved.get(s.id, 0.0)) for s in before(self, name)]

    monkeypatch.setattr(Dataset, "split", split)
    for config in ({}, {"training": "none"}, {"readout": "always", "force_weight": 0}):
        with pytest.raises(DatasetError, match=rf"snapshot {wrong.id}: its free energy .* from that of its own LDOS"):
            KIND.refuse_config(al4, config, (), ["validation_loss"])
    for config in ({"readout": "never"}, {"energy_weight": 0, "force_weight": 0}):
        KIND.refuse_config(al4, config, (), ["validation_loss"])
    spec = StudySpec.of({"name": "s", "dataset": str(al4.location)})
    with pytest.raises(DatasetError, match="from that of its own LDOS"):
        spec.refuse(al4)


def test_rows_of_stresses_that_nobody_knows_are_refused(al4, monkeypatch):
    asked = {"training": "none", "stress_weight": 1e6}
    for config, space in ((asked, ()), ({"training": "none"}, ("stress_weight",))):
        with pytest.raises(InputError, match=r"stress_weight asks .*but no training snapshot has a stress.*tstress"):
            KIND.refuse_config(al4, config, space, ())
    KIND.refuse_config(al4, asked | {"stress_weight": 0}, (), ())
    known = [replace(s, stress=1e-3 * np.eye(3)) for s in al4.split("train")[:1]]
    monkeypatch.setattr(Dataset, "split", lambda self, name: known)
    KIND.refuse_config(al4, asked, (), ())
    linear = al4.info.energy_grid.model_copy(update={"rule": "linear"})
    for update, why in (({"energy_grid": linear}, "by the linear rule"), ({"dft": None}, "--pseudopotentials")):
        with monkeypatch.context() as patch:
            patch.setattr(al4, "info", al4.info.model_copy(update=update))
            with pytest.raises(InputError, match=why):
                KIND.refuse_config(al4, asked, (), ())


def test_rows_of_stresses_want_relative_energies(al4):
    for config, space in (({"stress_weight": 1e8}, ()), ({}, ("stress_weight",))):
        assert KIND.suited(al4, config, space) == {"energies": ("fermi", "the readout has rows of stresses")}
    assert KIND.suited(al4, {"stress_weight": 1e8, "energies": "absolute"}, ()) == {}


@pytest.fixture
def volumes(al4, monkeypatch):
    """al4 with its second training snapshot 3 % larger."""
    swollen = al4.split("train")[1].id

    def split(self, name, before=Dataset.split):
        return [replace(s, cell=1.01 * s.cell) if s.id == swollen else s for s in before(self, name)]

    monkeypatch.setattr(Dataset, "split", split)
    return al4


def test_volumes_want_energies_relative_to_the_fermi_level(volumes):
    ((name, (value, why)),) = KIND.suited(volumes, {}, ["width"]).items()
    assert (name, value) == ("energies", "fermi")
    assert why == "the training snapshots have 16.61 to 17.11 Å³ an atom"
    assert KIND.config.of({"energies": value}).energies == "fermi"


@pytest.mark.parametrize(
    "config, space",
    [({"energies": "absolute"}, ()), ({}, ("energies",)), ({"readout": "never"}, ()), ({}, ("readout",))],
    ids=str,
)
def test_what_is_said_of_energies_or_the_readout_stands(volumes, config, space):
    assert KIND.suited(volumes, config, space) == {}


def test_one_volume_or_data_that_do_not_allow_it_leave_energies_absolute(al4, volumes, monkeypatch):
    wider = al4.info.energy_grid.model_copy(update={"spacing": 0.6})
    unknown = [replace(s, fermi_level=None) for s in al4.snapshots]
    for name, value in (("info", al4.info.model_copy(update={"energy_grid": wider})), ("snapshots", unknown)):
        with monkeypatch.context() as changed:
            changed.setattr(al4, name, value)
            assert KIND.suited(volumes, {}, ()) == {}
    assert KIND.suited(volumes, {}, ()) != {}
    monkeypatch.undo()
    assert KIND.suited(al4, {}, ()) == {}


def test_time_without_training_has_no_steps_and_grows_with_pairs_of_features():
    sizes = {"n_in": 14, "n_out": 37}
    small, wide = (KIND.terms(KIND.config.of({"training": "none", "width": w}), sizes) for w in (100, 400))
    assert (small[1], wide[4] / small[4]) == (0.0, pytest.approx(16))
    assert KIND.terms(KIND.config.of({}), sizes)[4] == 0.0


def test_a_surrogate_of_two_snapshots_is_judged_by_that_of_validation(described):
    settings = BispectrumSettings(cutoff=4.0, two_j_max=4)
    two = described.only([described.split("train")[0], described.split("validation")[0]])
    KIND.refuse(two, settings, "validation_loss")
    training, test = KIND.split_for_training(two, settings)
    config = KIND.config.of({"width": 8, "epochs": 1, "readout": "never"})
    trained = KIND.train(config, training, seeds=[1], device="cpu", memory=1e9, report=lambda report: None)
    found = KIND.judge(trained, training, test).accuracy
    assert (found.judged_on, found.n_snapshots, set(found.splits)) == ("validation", 1, {"validation", "training"})
    assert found.free_energy_mae == found.splits["validation"]["free_energy_mae"]
    learnt = judge(trained.network, trained.scaling, training.energy_grid, training.train).accuracy
    own = found.splits["training"]
    assert (own["ldos_r2"], own["dos_rmse"], own["band_energy_mae"]) == pytest.approx(
        (learnt.ldos_r2, learnt.dos_rmse, learnt.band_energy_mae), rel=1e-5
    )
    text = f"LDOS R²            {found.ldos_r2:.4f}; training {learnt.ldos_r2:.4f}"
    assert text in [line.strip() for line in found.lines()]
