import numpy as np
import pytest
import torch
from torch import nn

from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.inference import summed
from dftune.trainables.ldos.network import ACTIVATIONS, Network, n_parameters

MODULES = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
CONFIG = SurrogateConfig(widths=(7, 5))


def points(n_points=50, n_in=14):
    return torch.randn(n_points, n_in, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def sequential(network, t, activation):
    """Initialisation ``t`` as torch's own layers."""
    layers = []
    for weight, bias in zip(network.weights, network.biases, strict=True):
        linear = nn.Linear(*weight.shape[1:], dtype=weight.dtype)
        linear.weight.data, linear.bias.data = weight[t].T.detach(), bias[t, 0].detach()
        layers += [linear, MODULES[activation]()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("widths", [(6,), (7, 5), (3, 4, 5, 6)])
def test_a_network_is_torchs_own_layers_with_the_same_weights(activation, widths):
    config = SurrogateConfig(widths=widths, activation=activation)
    network = Network(config, 14, 37, seeds=[3, 4], dtype=torch.float64)
    found = network(points())
    assert found.shape == (2, 50, 37)
    for t in range(2):
        expected = sequential(network, t, activation)(points())
        torch.testing.assert_close(found[t], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_hidden_layer_is_followed_by_its_activation(activation):
    # A lone hidden layer left linear is easy to miss: its network would be affine, f(x) + f(-x) = 2 f(0).
    network = Network(SurrogateConfig(widths=(9,), activation=activation), 14, 3, seeds=[0], dtype=torch.float64)
    x = points()
    assert (network(x) + network(-x) - 2 * network(0 * x)).abs().max() > 1e-3
    (hidden,) = network.hidden_layers(x)
    expected = MODULES[activation]()(x @ network.weights[0][0] + network.biases[0][0])
    torch.testing.assert_close(hidden[0], expected)


def test_stacked_networks_are_the_separate_ones():
    stacked = Network(CONFIG, 14, 37, seeds=[5, 6, 7], dtype=torch.float64)
    assert stacked.n_initializations == 3
    for t, seed in enumerate([5, 6, 7]):
        alone = Network(CONFIG, 14, 37, seeds=[seed], dtype=torch.float64)
        for many, one in zip(stacked.parameters(), alone.parameters(), strict=True):
            assert torch.equal(many[t], one[0])
        torch.testing.assert_close(stacked(points())[t], alone(points())[0], rtol=1e-12, atol=1e-12)


def test_each_initialisation_may_see_inputs_of_its_own():
    network = Network(CONFIG, 14, 37, seeds=[5, 6], dtype=torch.float64)
    x = torch.stack([points(), 2 * points()])
    found = network(x)
    torch.testing.assert_close(found[0], network(x[0])[0])
    torch.testing.assert_close(found[1], network(x[1])[1])


def test_equal_seeds_give_equal_weights_and_others_different_ones():
    first, second = (Network(CONFIG, 14, 37, seeds=s) for s in ([1, 2, 1], [2, 8]))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a[0], a[2])
        assert torch.equal(a[1], b[0])
        assert not torch.equal(a[0], a[1])
        assert not torch.equal(b[0], b[1])


def test_weights_do_not_depend_on_the_global_random_state():
    networks = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        networks.append(Network(CONFIG, 14, 37, seeds=[1]))
    assert torch.equal(networks[0].weights[0], networks[1].weights[0])


def test_initial_weights_are_spread_like_those_of_torchs_linear_layer():
    network = Network(SurrogateConfig(widths=(200,)), 100, 150, seeds=range(40))
    torch.manual_seed(0)
    for weight, bias, fan_in in zip(network.weights, network.biases, (100, 200), strict=True):
        theirs = nn.Linear(fan_in, 5000)
        for ours, reference in ((weight, theirs.weight), (bias, theirs.bias)):
            ours, reference = ours.detach().numpy(), reference.detach().numpy()
            assert np.abs(ours).max() <= fan_in**-0.5
            assert ours.std() == pytest.approx(reference.std(), rel=0.03)  # 1/√(3 fan_in)
            assert abs(ours.mean()) < 0.03 * fan_in**-0.5


@pytest.mark.parametrize("widths", [(6,), (7, 5), (3, 4, 5, 6)])
def test_parameters_are_counted_as_they_are(widths):
    config = SurrogateConfig(widths=widths)
    one = Network(config, 91, 37, seeds=[0])
    assert n_parameters(config, 91, 37) == sum(p.numel() for p in one.parameters())
    assert n_parameters(config, 91, 37) == sum(p.numel() for p in sequential(one, 0, "gelu").parameters())


def test_hidden_layers_are_the_features_below_the_linear_readout():
    network = Network(CONFIG, 14, 37, seeds=[5, 6], dtype=torch.float64)
    layers = network.hidden_layers(points())
    assert [tuple(layer.shape) for layer in layers] == [(2, 50, 7), (2, 50, 5)]
    readout = np.einsum("tnw,two->tno", layers[-1].detach(), network.weights[-1].detach())
    np.testing.assert_allclose(network(points()).detach(), readout + network.biases[-1].detach().numpy(), rtol=1e-12)


def test_sums_over_grid_points_are_those_of_a_copy_in_float64():
    rng = np.random.default_rng(0)
    hidden, factors = rng.normal(size=(2, 150, 5)).astype(np.float32), rng.normal(size=(3, 150))
    exact = hidden.astype(np.float64)
    np.testing.assert_allclose(summed(torch.from_numpy(hidden)), exact.sum(axis=1), rtol=1e-12)
    expected = np.einsum("kr,tri->tki", factors, exact)
    np.testing.assert_allclose(summed(torch.from_numpy(hidden), factors), expected, rtol=1e-12, atol=1e-12)
