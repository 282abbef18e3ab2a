"""Networks of alloys: the paper's layers, symmetry, training of many at once, accuracy."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from dftune.trainables.alloys.accuracy import accuracy_of, errors_of, one_minus_r2
from dftune.trainables.alloys.baselines import boosted_trees, composition, shell_model
from dftune.trainables.alloys.config import AlloyConfig
from dftune.trainables.alloys.inference import inference_time
from dftune.trainables.alloys.kind import AlloyKind
from dftune.trainables.alloys.linear_part import ridge
from dftune.trainables.alloys.network import Network, chains, n_parameters
from dftune.trainables.alloys.scores import SCORES
from dftune.trainables.alloys.splits import SplitSettings, images
from dftune.trainables.alloys.training import predict, train
from dftune.trainables.alloys.training_data import read_training_data
from dftune.trainables.errors import InputError
from dftune.trainables.kind import TrainingFailed


@pytest.fixture(scope="module")
def split(fept):
    return read_training_data(fept, SplitSettings(rows=30))


@pytest.fixture(scope="module")
def cuau_split(cuau):
    return read_training_data(cuau, SplitSettings(seed=1))


def config(**values):
    return AlloyConfig.of({"tasks": "ECM", "width": 12, "epochs": 3, "images": 2, **values})


# ---------------------------------------------------------------- configs and layers


def test_the_papers_networks_have_its_layers():
    two = chains(AlloyConfig.of({"tasks": "EC", "width": 200}), 32)
    assert two == {"trunk": (32, 200), "E": (200, 100, 1), "C": (200, 100, 32)}
    three = chains(AlloyConfig.of({"tasks": "ECM", "width": 300}), 32)
    assert three == {"trunk": (32, 300), **{t: (300, 100, n) for t, n in (("E", 1), ("C", 32), ("M", 32))}}
    alone = chains(AlloyConfig.of({"tasks": "M", "width": 300, "architecture": "single"}), 32)
    assert alone["M"] == (32, 300, 300, 32)


@pytest.mark.parametrize("architecture", ["single", "multi", "equivariant"])
@pytest.mark.parametrize("tasks", ["C", "EM", "ECM"])
def test_parameters_are_counted(fept, architecture, tasks):
    c = config(architecture=architecture, tasks=tasks, depth=3, shells=2)
    network = Network(c, fept.info.lattice, seeds=[0, 1])
    assert sum(w.numel() for w in network.weights.values()) == 2 * n_parameters(c, 32)


def test_weights_of_the_loss_sum_to_one():
    assert config(alpha_charge=3.0, alpha_moment=1.0).weights == {"E": 0.2, "C": 0.6, "M": 0.2}
    assert config(tasks="EC", alpha_moment=50.0).weights == {"E": 0.5, "C": 0.5}


@pytest.mark.parametrize(
    "values, text",
    [
        ({"widht": 3}, "unknown hyperparameter 'widht'; did you mean 'width'"),
        ({"tasks": "CE"}, "'tasks': Input should be 'E', 'C'"),
        ({"alpha_energy": 0.0}, "'alpha_energy': Input should be greater than 0"),
        ({"width": "200"}, "'width': Input should be a valid integer"),
        ({"width": 2}, "'width': Input should be greater than or equal to 3"),
    ],
)
def test_impossible_configs_are_refused(values, text):
    with pytest.raises(InputError, match=text):
        AlloyConfig.of(values)


@pytest.mark.parametrize(
    "space, held, text",
    [
        ({"shells"}, {}, "this architecture has no use for 'shells'"),
        ({"images"}, {"architecture": "equivariant"}, "an equivariant network has no use for 'images'"),
        ({"alpha_moment"}, {"tasks": "EC"}, "'alpha_moment' in .space. weighs a task that is not learnt"),
        ({"alpha_charge", "alpha_energy"}, {"tasks": "EC"}, "only ratios of weights count; hold one of"),
    ],
)
def test_spaces_with_useless_hyperparameters_are_refused(space, held, text):
    with pytest.raises(InputError, match=text):
        AlloyKind().refuse_space(space, held)
    AlloyKind().refuse_space(space | {"architecture", "tasks"}, held)


# ---------------------------------------------------------------- symmetry


def random_weights(network):
    with torch.no_grad():
        for weight in network.weights.values():
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)) / 4)


def test_no_symmetry_changes_an_equivariant_network(fept):
    c, lattice = config(architecture="equivariant", shells=3), fept.info.lattice
    network = Network(c, lattice, seeds=[0, 1], dtype=torch.float64)
    random_weights(network)
    sigma = torch.from_numpy(np.random.default_rng(0).choice([-1.0, 1.0], size=(1, 5, 32))).expand(2, 5, 32)
    with torch.no_grad():
        here = network(sigma)
        for p in lattice.permutations[[1, 77, 300, 511]]:
            moved = network(sigma[..., p])
            assert moved["E"] == pytest.approx(here["E"])
            assert moved["C"] == pytest.approx(here["C"][..., p])
            assert moved["M"] == pytest.approx(here["M"][..., p])
        assert here["C"].std() > 0.01
    other = Network(config(), lattice, seeds=[0, 1], dtype=torch.float64)  # what a test of nothing would pass, too
    with torch.no_grad():
        assert other(sigma[..., lattice.permutations[77]])["E"] != pytest.approx(other(sigma)["E"])


def test_an_equivariant_network_predicts_a_cell_made_of_two(fept):
    c, lattice = config(architecture="equivariant", shells=3), fept.info.lattice
    network = Network(c, lattice, seeds=[0], dtype=torch.float64)
    random_weights(network)
    species = np.random.default_rng(1).integers(2, size=32)
    atoms = lattice.atoms([("Fe", "Pt")[s] for s in species]).repeat((1, 2, 1))
    with torch.no_grad():
        small = network(torch.from_numpy(2.0 * species[None, None] - 1))
        network.to_lattice(type(lattice).of(atoms))
        large = network(torch.from_numpy(2.0 * (atoms.numbers == 78)[None, None] - 1))
    assert large["E"] == pytest.approx(small["E"])
    assert large["C"][0, 0] == pytest.approx(small["C"][0, 0].repeat(2))


# ---------------------------------------------------------------- training


@pytest.mark.parametrize("architecture", ["single", "multi", "equivariant"])
def test_many_splits_at_once_end_as_each_alone(cuau, architecture):
    c = AlloyConfig.of({"architecture": architecture, "width": 10, "epochs": 3, "images": 2, "batch_size": 24})
    sets = [read_training_data(cuau, SplitSettings(seed=s, rows=30))[0] for s in range(3)]
    together = train(c, sets, seeds=[5, 6, 7])
    for t, seed in enumerate((5, 6, 7)):
        alone = train(c, [sets[t]], seeds=[seed])
        sigma = sets[t].validation.sigma
        mine = predict(alone.network, alone.scaling, sigma)
        for task, values in predict(together.network, together.scaling, sigma).items():
            assert values[t] == pytest.approx(mine[task][0], rel=1e-3, abs=1e-5 + 1e-3 * mine[task].std())


def test_the_loss_is_the_weighted_sum_of_norms(split):
    """Eq. 9 formed here from the predictions before the first step."""
    data, _ = split
    c = config(epochs=1, images=0, batch_size=len(data.train), alpha_charge=4.0)
    reports = []
    train(c, [data], seeds=[3], report=reports.append)
    network = Network(c, data.lattice, seeds=[3])
    expected = 0.0
    with torch.no_grad():
        found = network(torch.from_numpy(data.train.sigma)[None])
    for task, alpha in (("E", 1 / 6), ("C", 4 / 6), ("M", 1 / 6)):
        mean, std = data.scaling[task]
        error = (data.train.values[task] - mean) / std - found[task][0].numpy()
        expected += alpha * np.linalg.norm(error) / np.sqrt(len(data.train))
    assert reports[0].train_loss == pytest.approx(expected, rel=1e-5)


def test_training_learns_and_keeps_the_best_weights(cuau_split):
    data, test = cuau_split
    reports = []
    c = AlloyConfig.of({"tasks": "C", "width": 60, "epochs": 25, "images": 4, "learning_rate": 1e-2})
    trained = train(c, [data], seeds=[0], report=reports.append)
    best = [r.best_geometric_error for r in reports]
    assert best == sorted(best, reverse=True)
    accuracy = accuracy_of(predict(trained.network, trained.scaling, test.sigma), test)
    assert accuracy.values["charge_r2"][0] > 0.8


def test_clusters_without_training_beat_the_shell_model_in_energy(cuau_split):
    data, test = cuau_split
    trained = train(AlloyConfig.of({"training": "none"}), [data], seeds=[0])
    accuracy = accuracy_of(predict(trained.network, trained.scaling, test.sigma), test)
    bar = shell_model(data, test, 0)
    assert accuracy.values["energy_mae"][0] < 0.2  # mRy/atom
    assert accuracy.values["charge_r2"][0] > 0.9999
    assert bar.values["energy_mae"][0] < 0.5
    line = composition(data, test, 0).values["energy_mae"][0]
    assert line > 5 * bar.values["energy_mae"][0]


def test_the_linear_part_is_a_ridge_regression(split):
    """As solved by least squares where the penalty hardly matters."""
    data, _ = split
    weights = ridge(data, "M", 1)
    sigma = 2.0 * data.train.species - 1
    _, (shell,) = data.lattice.shells(1)
    s = sigma[:, shell].mean(axis=2)
    m = np.broadcast_to(sigma.mean(axis=1)[:, None], s.shape)
    even = [np.ones_like(s), s, m, m * s, m * m, m * m * s, s * s]
    x = np.stack([*even, *(sigma * one for one in even)], axis=-1).reshape(-1, 14)
    mean, std = data.scaling["M"]
    exact = np.linalg.lstsq(x, (data.train.values["M"].ravel() - mean) / std, rcond=None)[0]
    assert x @ weights == pytest.approx(x @ exact, abs=0.02)


def test_tasks_that_do_not_vary_are_refused(cuau_split):
    with pytest.raises(InputError, match="the targets of 'moment' are all the same in this dataset"):
        train(config(), [cuau_split[0]], seeds=[0])


def test_a_training_that_diverges_says_so(split):
    with pytest.raises(TrainingFailed, match=r"the loss was .* after epoch 1 at learning rate 10"):
        train(config(learning_rate=10.0, activation="relu", depth=6, width=64), [split[0]], seeds=[0])


# ---------------------------------------------------------------- accuracy, scores, baselines


def test_r2_is_one_for_the_truth_and_zero_for_the_mean():
    y = np.random.default_rng(0).normal(size=(7, 3))
    mean = np.full_like(y, y.mean())
    assert one_minus_r2(np.stack([y, mean]), y) == pytest.approx([0, 1])


def test_each_quantity_counts_alike_in_the_error_however_well_it_is_known(split):
    """Half the deviation is a quarter of 1 - R²; of one among three, 4^(1/3) less error.  Exact ones do not warn."""
    data, _ = split
    off = {"E": 0.3, "C": 0.05, "M": 0.01}  # of their standard deviations

    def error(**changed):
        values = data.validation.values
        predicted = {t: y[None] + (off | changed)[t] * y.std() for t, y in values.items()}
        return errors_of(predicted, data.validation, data).error[0]

    assert error() == pytest.approx((0.3 * 0.05 * 0.01) ** (2 / 3))
    for task, part in off.items():
        assert error(**{task: part / 2}) == pytest.approx(error() / 4 ** (1 / 3))
    assert 0 < error(M=0.0) < 1e-8


def test_total_energies_have_an_r2_that_says_nothing(cuau_split):
    """A line in composition has 1 - R² below a millionth of a millionth; the energies it leaves are all that counts."""
    data, test = cuau_split
    line = composition(data, test, 0)
    assert line.composition_loss < 1e-11
    assert 1 - line.values["total_energy_r2"][0] < 1e-9
    assert line.values["energy_r2"][0] < 0.2
    assert any("a line in composition" in text for text in line.lines())


@pytest.mark.parametrize("architecture", ["multi", "equivariant"])
def test_scores_tell_networks_apart(split, architecture):
    batch = split[0].sample(64 if architecture == "multi" else 24, np.random.default_rng(0))
    configs = [
        config(architecture=architecture, activation=a, width=w)
        for a, w in itertools.product(["relu", "tanh"], [6, 48])
    ]
    for name in ("rfr", "naswot"):
        found = SCORES[name].function(configs, batch, 1)
        assert np.isfinite(found).all(), name
        assert len({round(score, 6) for score in found}) == 4
        assert SCORES[name].function(configs[:1], batch, 1) == pytest.approx(found[:1])
    assert SCORES["rfr"].function([configs[1]], batch, 1) != SCORES["rfr"].function([configs[1]], batch, 2)


def test_the_score_by_features_never_fits_an_image_of_what_it_judges(split):
    """Random targets of each configuration, the same for all its images, cannot be learnt from other configurations."""
    data, rng = split[0], np.random.default_rng(0)
    rows = np.repeat(np.arange(20), 8)
    batch = data.sample(len(rows), rng)
    target = rng.normal(size=(20, 1)).astype(np.float32)
    same = replace(batch, rows=rows, sigma=data.train.sigma[rows], values={**batch.values, "E": target[rows]})
    (score,) = SCORES["rfr"].function([config(tasks="E", width=400)], same, 1)
    assert np.exp(-score) > 0.7 * target.var()


def test_boosted_trees_need_their_package(cuau_split, monkeypatch):
    monkeypatch.setattr("dftune.trainables.alloys.baselines.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install xgboost-cpu"):
        boosted_trees(*cuau_split, 0)


def test_boosted_trees_learn_which_element_has_a_moment(split, monkeypatch):
    pytest.importorskip("xgboost")
    monkeypatch.setattr("dftune.trainables.alloys.baselines.ROUNDS", 15)
    data, test = split
    found = boosted_trees(data, test, 1)
    assert found.values["moment_r2"][0] > 0.98  # iron or platinum tells most of it
    assert found.values["moment_r2"][0] < shell_model(data, test, 0).values["moment_r2"][0]


def test_a_thousand_configurations_take_less_than_a_millisecond_each():
    assert inference_time(AlloyConfig.of({"tasks": "ECM", "width": 300}), 32) < 1000  # µs


def test_images_move_values_as_configurations(fept):
    rows = fept.info.lattice.permutations
    species = fept.all.species[:4]
    chosen = np.array([0, 5, 9, 100])
    assert (images(species, rows, chosen) == np.stack([s[rows[c]] for s, c in zip(species, chosen)])).all()
