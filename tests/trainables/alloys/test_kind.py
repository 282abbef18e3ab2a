"""The alloy kind keeps what kinds promise; its surrogates predict configurations, also of other cells."""

import json
import shutil

import ase
import ase.io
import numpy as np
import pytest
from click.testing import CliRunner

from dftune import Model, Study
from dftune.platform.cli.main import cli
from dftune.platform.compare.comparison import Comparison
from dftune.platform.spec import StudySpec
from dftune.platform.study.study_file import plan
from dftune.testing import check_kind
from dftune.tests.small_model import small_alloy
from dftune.tests.trainables.alloys.conftest import EXAMPLES
from dftune.trainables.alloys import training as training_module
from dftune.trainables.alloys.config import AlloyConfig
from dftune.trainables.alloys.data import AlloyData
from dftune.trainables.alloys.kind import AlloyKind
from dftune.trainables.alloys.network_energy import MeanEnergy, networks_of
from dftune.trainables.alloys.splits import SplitSettings, split_rows
from dftune.trainables.alloys.training import train
from dftune.trainables.alloys.transition import here
from dftune.trainables.errors import InputError, UnknownFormat
from dftune.trainables.kind import TrainingFailed
from dftune.trainables.progress import Silent

KIND, SMALL = AlloyKind(), {"width": 9, "epochs": 2, "images": 1}


@pytest.mark.parametrize("architecture", ["multi", "equivariant"])
def test_it_keeps_what_kinds_promise(architecture):
    impossible = ase.Atoms("Cu", cell=np.eye(3) * 3, pbc=True)
    how = {"architecture": architecture, "tasks": "ECM", "shells": 2, **SMALL}
    check_kind(KIND, EXAMPLES / "FePt", EXAMPLES / "FePt_B2.xyz", hyperparameters=how, impossible=impossible)


def run(data, settings, *, ranking):
    """A training of a moment as a study does it: the last report, and the number of networks."""
    training, _ = KIND.split_for_training(data, settings)
    reports, config = [], AlloyConfig.of(SMALL)
    how = {"device": "cpu", "memory": 1e9, "for_ranking": ranking}
    trained = KIND.train(config, training, seeds=[7], report=reports.append, **how)
    return reports[-1], len(trained.seeds)


def test_a_trial_in_folds_has_the_mean_of_trainings_that_each_leave_out_other_orbits(fept):
    settings = SplitSettings(folds=3, rows=30)
    found, n_networks = run(fept, settings, ranking=True)
    training, _ = KIND.split_for_training(fept, settings)
    alone = [train(AlloyConfig.of(SMALL), [fold], seeds=[7]).last for fold in training.folds]
    for name in ("best_geometric_error", "best_energy_mae", "best_charge_mae", "train_loss"):
        assert found[name] == pytest.approx(np.mean([getattr(one, name) for one in alone]), rel=1e-3)
    assert n_networks == 3
    assert found["configurations"] == 2 * KIND.epoch_work(AlloyConfig.of(SMALL), KIND.sizes(fept, settings), 99)
    final, n_networks = run(fept, settings, ranking=False)  # what the study hands over has its own validation data
    once, _ = run(fept, SplitSettings(rows=30), ranking=True)
    assert n_networks == 1
    assert {**final, "seconds": 0} == {**once, "seconds": 0}


def test_a_trial_fails_with_any_of_its_folds(fept, monkeypatch):
    """The mean of those that are left would be of other configurations than that of other trials."""
    errors_of = training_module.errors_of

    def diverged(predicted, reference, data):
        found = errors_of(predicted, reference, data)
        if reference.species.sum() == chosen.sum():
            found.error[:] = np.nan
        return found

    settings = SplitSettings(folds=3)
    chosen = KIND.split_for_training(fept, settings)[0].folds[1].validation.species
    monkeypatch.setattr(training_module, "errors_of", diverged)
    with pytest.raises(TrainingFailed):
        run(fept, settings, ranking=True)


def test_the_work_of_a_trial_counts_images_and_folds(tmp_path):
    """A comparison without a budget gives each method twenty trainings, and a check says how much work they are."""
    data, settings = AlloyData.open(EXAMPLES / "FePt"), {"seed": 1, "folds": 2}
    n_train = len(split_rows(data, SplitSettings(**settings))["train"])
    spec = {"name": "a", "dataset": str(EXAMPLES / "FePt"), "method": "random", "trials": 3, "splits": settings}
    spec["config"] = {"epochs": 4, "images": 3}
    assert plan(StudySpec.of(spec), tmp_path).work == 3 * 4 * 3 * 2 * n_train
    compared = StudySpec.of(spec | {"compare": {"methods": ["random"]}})
    assert Comparison(compared, tmp_path).budget.work == 20 * 4 * 3 * 2 * n_train


def made(data, folder, **values):
    """A surrogate trained here for a moment, saved and opened."""
    small_alloy(data, **values).save(folder)
    return folder


@pytest.fixture(scope="module")
def clusters(cuau, tmp_path_factory):
    return made(cuau, tmp_path_factory.mktemp("models") / "clusters", training="none")


@pytest.fixture(scope="module")
def paper(cuau, tmp_path_factory):
    return made(cuau, tmp_path_factory.mktemp("models") / "paper")


@pytest.fixture(scope="module")
def trained(cuau, tmp_path_factory):
    return made(cuau, tmp_path_factory.mktemp("models") / "trained", architecture="equivariant", epochs=1)


def test_atoms_species_and_digits_are_one_configuration(clusters):
    model, atoms = Model.open(clusters), ase.io.read(EXAMPLES / "CuAu_L10.xyz")
    found = model.predict(atoms).to_dict()
    assert found["formation_energy"] < -22.6  # mRy/atom; of LSMS' configurations, which lack it, the lowest has -22.56
    symbols = atoms.get_chemical_symbols()
    assert model.predict(" ".join(symbols)).to_dict() == found
    assert model.predict("".join("01"[s == "Au"] for s in symbols)).to_dict() == found
    order = np.random.default_rng(0).permutation(32)
    moved = model.predict(atoms[order]).to_dict()
    assert moved["charge"] == pytest.approx(np.array(found["charge"])[order])
    assert moved["total_energy"] == pytest.approx(found["total_energy"], abs=1e-6)


@pytest.mark.parametrize("repeat", [(2, 1, 1), (2, 2, 2)])
def test_an_equivariant_model_predicts_larger_cells(clusters, repeat):
    model, atoms = Model.open(clusters), ase.io.read(EXAMPLES / "CuAu_L10.xyz")
    small, large = (model.predict(a).to_dict() for a in (atoms, atoms.repeat(repeat)))
    assert large["n_atoms"] == 32 * np.prod(repeat)
    assert large["formation_energy"] == pytest.approx(small["formation_energy"], abs=1e-4)
    assert large["charge"][:32] == pytest.approx(small["charge"], abs=1e-5)


def test_the_networks_of_a_model_give_energies_to_the_monte_carlo(cuau, trained, paper):
    surrogate = Model.open(trained).surrogate
    networks, large = networks_of(surrogate, cuau), cuau.info.lattice.repeated((2, 1, 1))
    rows = cuau.all.species[5:9]
    for lattice, species in ((cuau.info.lattice, rows), (large, np.tile(rows, (1, 2)))):
        expected = surrogate.predict(species, lattice)["E"][:, :, 0] * lattice.n_sites
        assert np.array([energy(species) for energy in networks.on(lattice)]) == pytest.approx(expected, abs=1e-5)
    mean = MeanEnergy(networks.on(lattice))
    assert mean(species) == pytest.approx(expected.mean(axis=0), abs=1e-5)
    with pytest.raises(InputError, match="for its cell of 32 sites alone"):
        KIND.transition(cuau, {"copies": (2, 1, 1)}, here, Silent(), Model.open(paper).surrogate)


@pytest.mark.slow
def test_a_transition_by_networks_is_near_that_of_the_shell_model(cuau, trained):
    asked = {"copies": (1, 1, 1), "rounds": 100, "temperatures": 12, "draws": 2}
    of_networks = KIND.transition(cuau, asked, here, Silent(), Model.open(trained).surrogate)
    assert (of_networks.n_draws, of_networks.energies_by) == (2, "2 networks")
    assert of_networks.temperature == pytest.approx(KIND.transition(cuau, asked, here, Silent()).temperature, rel=0.2)


def test_a_model_that_cannot_give_energies_is_refused(cuau, fept, clusters, tmp_path):
    with pytest.raises(InputError, match="the model is of Cu-Au, and the data are of Fe-Pt"):
        networks_of(Model.open(clusters).surrogate, fept)
    charges = made(cuau, tmp_path / "charges", tasks="C", architecture="single")
    with pytest.raises(InputError, match="a model without training are all the same, and an interval lies between"):
        networks_of(Model.open(clusters).surrogate, cuau)
    with pytest.raises(InputError, match="does not predict energies; take one with E among its tasks"):
        networks_of(Model.open(charges).surrogate, cuau)


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda a: a.repeat((2, 1, 1)), "64 atoms, and the lattice has 32 sites"),
        (lambda a: a.symbols.__setitem__(0, "Pt"), "the model knows Cu, Au but not Pt"),
        (lambda a: a.positions.__setitem__((0, 0), 1.0), r"atom 0 \(Cu\) is 1.00 Å from the next site"),
        (lambda a: a.set_pbc(False), "not periodic"),
    ],
)
def test_structures_off_the_lattice_are_refused(paper, change, text):
    atoms = ase.io.read(EXAMPLES / "CuAu_L10.xyz")
    changed = change(atoms)
    with pytest.raises(InputError, match=text):
        Model.open(paper).predict(atoms if changed is None else changed)


def test_an_atom_off_the_lattice_is_named(clusters):
    """Also by a model that takes cells of any size."""
    atoms = ase.io.read(EXAMPLES / "CuAu_L10.xyz")
    atoms.positions[3] += 0.6
    with pytest.raises(
        InputError, match=r"atom 3 \(Cu\) is 1.04 Å from the next site .*; and as a cell of its own, sites"
    ):
        Model.open(clusters).predict(atoms)


def test_another_lattice_is_refused(clusters):
    bcc = ase.io.read(EXAMPLES / "FePt_B2.xyz")
    bcc.symbols = ["Cu", "Au"] * 16
    with pytest.raises(InputError, match=r"another lattice than the model's: neighbours at 2\.64, 3\.05"):
        Model.open(clusters).predict(bcc)


@pytest.mark.parametrize(
    "text, said",
    [
        ("Cu " * 31, "31 elements, and the lattice has 32 sites"),
        ("Cu Xx", "'Xx' is neither Cu nor Au"),
        ("01" * 17, "34 elements, and the lattice has 32 sites"),
        ("01102", "'2' is neither Cu nor Au, nor 0 or 1"),
        ("Ni.xyz", "no such file"),
    ],
)
def test_texts_that_are_no_configuration_are_refused(clusters, text, said):
    with pytest.raises(InputError, match=said):
        Model.open(clusters).predict(text)


def test_requests_are_structures_or_texts(clusters):
    surrogate = Model.open(clusters).surrogate
    xyz = (EXAMPLES / "CuAu_L10.xyz").read_bytes()
    structure, asked = surrogate.parse(xyz, "chemical/x-xyz", {})
    assert (len(structure), asked) == (32, {})
    body = json.dumps({"structure": "01" * 16}).encode()
    assert surrogate.parse(body, "application/json", {}) == ("01" * 16, {})
    assert len(surrogate.split(xyz + xyz, "chemical/x-xyz")) == 2
    two = json.dumps({"structures": ["01" * 16, "10" * 16]}).encode()
    assert len([*surrogate.split(two, "application/json")]) == 2
    with pytest.raises(InputError, match="temperature: this model can be asked for nothing but a structure"):
        surrogate.parse(xyz, "chemical/x-xyz", {"temperature": 1.0})
    with pytest.raises(UnknownFormat):
        surrogate.parse(xyz, "text/plain", {})


def test_the_commands_show_predict_and_check(clusters):
    def run(*arguments):
        result = CliRunner().invoke(cli, [str(a) for a in arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    assert "surrogate for CuAu on a lattice from study by-hand" in run("model", "show", clusters)
    told = run("model", "predict", clusters, EXAMPLES / "CuAu_L10.xyz", "--json")
    (found,), units = (json.loads(told)[name] for name in ("predictions", "units"))
    assert len(found["charge"]) == 32
    assert (units["formation_energy"], units["charge"]) == ("mRy/atom", "e")
    assert "formation energy -2" in run("model", "predict", clusters, EXAMPLES / "CuAu_L10.xyz")
    assert "the stated accuracy is confirmed" in run("model", "check", clusters, EXAMPLES / "CuAu")


def test_a_check_names_what_an_earlier_card_does_not_state(clusters, cuau, tmp_path):
    shutil.copytree(clusters, tmp_path / "early")
    file = tmp_path / "early" / "model.json"
    card = json.loads(file.read_text())
    for name in ("weights_sha256", "order", "contents"):
        del card[name]
    for name in ("charge_rmse", "charge_rmse_std"):
        del card["accuracy"][name]
    file.write_text(json.dumps(card))
    now, early = Model.open(clusters), Model.open(file.parent)
    found = now.check(cuau).accuracy
    assert (now.unchecked(found), early.differences(found)) == ([], [])
    of_training = [f"{what} of the training's configurations" for what in ("order", "contents")]
    assert early.unchecked(found) == ["charge_rmse", *of_training, "checksum of the weights"]
    said = CliRunner().invoke(cli, ["model", "check", str(file.parent), str(EXAMPLES / "CuAu")]).stdout
    assert "not checked: charge_rmse; the model does not state it" in said


def test_moments_are_learnt_where_there_are_some(cuau, fept):
    assert KIND.suited(cuau, {}, ()) == {}
    assert KIND.suited(fept, {}, ())["tasks"][0] == "ECM"
    assert KIND.suited(fept, {"tasks": "E"}, ()) == KIND.suited(fept, {}, {"tasks"}) == {}


def test_models_of_another_alloy_are_not_compared(clusters, fept):
    with pytest.raises(InputError, match="FePt by lsms, and the model is for CuAu by lsms"):
        Model.open(clusters).check(fept, progress=lambda *at: None)


def test_weights_of_another_network_are_refused(paper, clusters):
    card = Model.open(paper).card
    tensors = Model.open(clusters).surrogate.tensors()
    with pytest.raises(InputError, match="weights do not fit"):
        KIND.surrogate(card, tensors)


def test_the_example_studies_can_be_read():
    for name in ("CuAu", "FePt"):
        spec = StudySpec.read(EXAMPLES / f"{name}.toml")
        assert isinstance(spec, StudySpec)
        assert (spec.of_kind.name, spec.minimize[:2]) == ("alloys", ("energy_mae", "charge_mae"))


@pytest.mark.ray
def test_a_study_ends_with_a_model(local_ray, cuau, tmp_path):
    study = Study(
        "alloy", EXAMPLES / "CuAu", method="rfr", options={"candidates": 6, "top": 2, "calibration": 0},
        splits={"rows": 40}, config={"tasks": "EC", "epochs": 4, "images": 2}, initializations=2, studies=tmp_path,
        space={"width": {"type": "int", "low": 6, "high": 30}},
    )  # fmt: skip
    study.run()
    trials = study.trials()
    assert [t.state for t in trials if t.state != "pruned"] == ["finished"] * 2
    model = Model.open(tmp_path / "alloy" / "model")
    assert (model.card.n_initializations, model.card.splits.rows) == (2, 40)
    assert (tmp_path / "alloy" / "figures" / "parity.png").is_file()
    untrained = Model.open(tmp_path / "alloy" / "untrained" / "model")
    assert untrained.card.accuracy.values["energy_mae"][0] < model.card.accuracy.values["energy_mae"][0]
