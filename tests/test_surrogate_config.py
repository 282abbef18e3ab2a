import pytest
from pydantic import ValidationError

from dftune.trainables.errors import InputError
from dftune.trainables.surrogate_config import SurrogateConfig


def test_hidden_layers_are_equal_or_given_one_by_one():
    assert SurrogateConfig(n_layers=3, width=64).hidden == (64, 64, 64)
    assert SurrogateConfig(n_layers=3, width=64, widths=(8, 16)).hidden == (8, 16)


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
    ],
)
def test_a_bad_hyperparameter_is_refused_by_its_name(values, message):
    with pytest.raises(InputError, match=message):
        SurrogateConfig.of(values)


def test_a_config_does_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        SurrogateConfig().width = 3
