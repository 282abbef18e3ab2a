from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError

from dftune.searchers.space import Choice, Float, Int, draw
from dftune.trainables.errors import InputError
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.network import Network, n_parameters
from dftune.trainables.ldos.scores import SCORES
from dftune.trainables.ldos.training import train
from dftune.trainables.ldos.training_data import Scaling, SnapshotData, TrainingData


def test_hidden_layers_are_equal_or_given_one_by_one():
    assert SurrogateConfig(n_layers=3, width=64).hidden == (64, 64, 64)
    assert SurrogateConfig(n_layers=3, width=64, widths=(8, 16)).hidden == (8, 16)


@pytest.mark.parametrize(
    "values, hidden",
    [
        ({"n_layers": 3, "width": 64, "width_2": 8}, (64, 8, 64)),
        ({"n_layers": 2, "width_1": 16, "width_2": 8}, (16, 8)),
        ({"width_2": 8}, (128, 8)),
        ({"n_layers": 1, "width_1": 5}, (5,)),
        ({"n_layers": 20, "width": 3, "width_20": 4}, (3,) * 19 + (4,)),
    ],
)
def test_a_layer_has_its_own_width_or_that_of_all(values, hidden):
    config = SurrogateConfig.of(values)
    assert config.hidden == hidden
    assert SurrogateConfig.of(config.model_dump()) == config, "as a model's card has it"
    network = Network(config, 7, 3, seeds=[0])
    assert network.sizes == (7, *hidden, 3)
    assert n_parameters(config, 7, 3) == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    "values, message",
    [
        ({"lr": 0.1}, "unknown hyperparameter 'lr'; there are n_layers, width, widths, activation, learning_rate"),
        ({"width": 0}, "hyperparameter 'width': Input should be greater than or equal to 1, got 0"),
        ({"learning_rate": 11}, "hyperparameter 'learning_rate': Input should be less than or equal to 10, got 11"),
        ({"learning_rate": float("nan")}, "hyperparameter 'learning_rate': Input should be .*, got nan"),
        ({"activation": "step"}, "hyperparameter 'activation': Input should be 'relu', .*, got 'step'"),
        ({"widths": ()}, r"hyperparameter 'widths': .* at least 1 item .*, got \(\)"),
        ({"widths": (8, 0)}, "hyperparameter 'widths, layer 2': Input should be greater than or equal to 1, got 0"),
        ({"n_layers": 2, "width_3": 8}, "'width_3' is of a layer that a network with n_layers = 2 has not; give it in"),
        ({"widths": (8, 8), "width_1": 8}, "'widths' says the neurons of all layers; leave it or 'width_1' out"),
        ({"n_layers": 2, "width_2": 0}, "hyperparameter 'width_2': Input should be greater than or equal to 1, got 0"),
        ({"width_1": "8"}, "hyperparameter 'width_1': Input should be a valid integer, got '8'"),
        ({"width_0": 8}, "unknown hyperparameter 'width_0'; layers have width_1 to width_20"),
        ({"width_21": 8}, "unknown hyperparameter 'width_21'; layers have width_1 to width_20"),
        ({"widht": 8}, "unknown hyperparameter 'widht'; did you mean 'width'?"),
        ({"n_layers": "2"}, "hyperparameter 'n_layers': Input should be a valid integer, got '2'"),
        ({"n_layers": True}, "hyperparameter 'n_layers': Input should be a valid integer, got True"),
        ({"batch_size": 64.0}, "hyperparameter 'batch_size': Input should be a valid integer, got 64.0"),
        ({"weight_decay": True}, "hyperparameter 'weight_decay': Input should be a valid number, got True"),
    ],
)
def test_a_bad_hyperparameter_is_refused_by_its_name(values, message):
    with pytest.raises(InputError, match=message):
        SurrogateConfig.of(values)


def test_a_config_does_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        SurrogateConfig().width = 3


@pytest.fixture(scope="module")
def data(al4):
    """Every 64th grid point of three snapshots; five random projections of the LDOS for descriptors."""
    projection = np.random.default_rng(0).normal(size=(37, 5))

    def few(name):
        ldos = al4.ldos(al4[name]).array()[::64].astype(np.float32)
        return SnapshotData(al4[name], [(ldos @ projection).astype(np.float32)], [ldos])

    snapshots = [few(name) for name in ("000", "001", "006")]
    return TrainingData(snapshots[:2], snapshots[2:], al4.info.energy_grid, Scaling.fit(snapshots[:2]))


SPACE = {
    "n_layers": Int(low=1, high=3),
    "width": Int(low=4, high=16),
    "width_2": Int(low=4, high=16, when={"n_layers": (2, 3)}),
    "width_3": Int(low=4, high=16, when={"n_layers": (3,)}),
    "activation": Choice(values=("gelu", "tanh")),
    "learning_rate": Float(low=1e-3, high=1e-2, log=True),
    "batch_size": Int(low=16, high=128, levels=(16, 128)),
    "optimizer": Choice(values=("adam", "adamw", "sgd")),
    "weight_decay": Float(low=1e-3, high=1e-1, log=True, when={"optimizer": ("adamw", "sgd")}),
    "schedule": Choice(values=("constant", "cosine")),
}


@pytest.mark.parametrize("seed", range(8))
def test_every_config_of_a_space_is_scored_and_trained(data, seed):
    drawn = draw(SPACE, np.random.default_rng(seed))
    config = SurrogateConfig.of({**drawn, "epochs": 2})
    hidden = tuple(drawn.get(f"width_{k}", drawn["width"]) for k in range(1, drawn["n_layers"] + 1))
    batch = data.sample(100, np.random.default_rng(0))
    scores = {name: score.function([config], batch, 0)[0] for name, score in SCORES.items()}
    assert all(np.isfinite(list(scores.values())))
    assert scores["first_width"] == hidden[0]
    assert scores["n_parameters"] == pytest.approx(sum((a + 1) * b for a, b in pairwise((5, *hidden, 37))))
    found = train(config, data, seeds=[0])
    assert found.network.sizes == (5, *hidden, 37)
    assert 0 < found.best_loss[0] < 10


def test_every_hyperparameter_makes_a_difference_to_the_training(data):
    base = {"n_layers": 2, "width": 8, "width_2": 6, "activation": "gelu", "learning_rate": 1e-2, "batch_size": 64}
    base |= {"optimizer": "adamw", "weight_decay": 0.1, "schedule": "constant", "epochs": 2}
    others = {"n_layers": 3, "width": 9, "width_2": 7, "activation": "tanh", "learning_rate": 5e-3, "batch_size": 32}
    others |= {"optimizer": "adam", "weight_decay": 0.2, "schedule": "cosine"}
    losses = [
        train(SurrogateConfig.of(base | change), data, seeds=[0]).best_loss[0]
        for change in ({}, *({name: value} for name, value in others.items()))
    ]
    assert len(set(losses)) == len(losses)
