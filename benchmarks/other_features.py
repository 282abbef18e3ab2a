"""Claim: no other features or rows of a readout beat one random layer of silu neurons at the same cost of a prediction.

A row of JSON for each set, kind of features and seed, with rows of energies and not of forces: the least validation
loss, which chooses among lengths; mean |A - A_DFT| and of the band energy [meV/atom], LDOS error (1 - R²) and that of
the DOS [1/(eV atom)] on test snapshots; CPU seconds of the fit, and microseconds a grid point from descriptors to
LDOS, the least of five.

- ``silu``: 1 x 1,024 as drawn, the default.
- ``cos L``: random Fourier features, cos(w·x + b) with normal w of standard deviation 1/L and even phases b.  They make
  a Gaussian kernel of length L (Rahimi and Recht, NIPS 20, 1177 (2007)).
- ``centres L``: Nyström features, that kernel between a grid point and 1,024 random ones of the training.
- ``silu and inputs``, ``two layers``, ``two layers and inputs``: the descriptors beside the neurons; the second of two
  layers as wide as costs the same; both layers and the descriptors.
- ``silu, DOS κ``: with rows of each training snapshot's DOS of that weight.
- ``adam``, ``adam, all``: 2 x 128 gelu after 4 epochs of Adam at 3e-3, the last layer from the last hidden one, and
  from all layers and inputs.

Sets are those of ``readout.py`` and table/make.py (../shared/data), and be2, MALA's two snapshots: one for the
training, the other for validation, and judged, too.

    python benchmarks/other_features.py [SET[:SEED] ...]     al4, be4, be2; all of them and three seeds by default
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from readout import SEEDS, SHARED, TEST, VALIDATION
from torch import Tensor, nn

from dftune.trainables.data.dataset import Dataset
from dftune.trainables.data.importing.importers import import_dataset
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.judgement import judge
from dftune.trainables.ldos.network import Network
from dftune.trainables.ldos.readout import fit as closed_form
from dftune.trainables.ldos.readout import penalty
from dftune.trainables.ldos.training import Trained, train
from dftune.trainables.ldos.training_data import TrainingData, read_split, read_training_data

WIDTH, LENGTHS = 1024, (5.0, 10.0, 20.0)
TWO = 270  # neurons in each of two layers
SETS = {  # folder, splits, descriptors
    "al4": ("al4", {"validation": VALIDATION, "test": TEST}, BispectrumSettings(cutoff=3.0, two_j_max=8)),
    "be4": ("be4", {"validation": ["002"], "test": ["003"]}, BispectrumSettings(cutoff=3.5, two_j_max=8)),
    "be2": ("mala_be2", {}, BispectrumSettings(cutoff=4.67637, two_j_max=10)),
}


class Features(Network):
    """A network whose last layer is linear in any features of the descriptors.

    made: of the hidden layers of a network and standardised descriptors, (T, n_points, n_features).
    """

    def __init__(
        self, base: Network, n_features: int, made: Callable[[list[Tensor], Tensor], Tensor], activation: object = None
    ) -> None:
        nn.Module.__init__(self)
        self.sizes = (base.sizes[0], n_features, base.sizes[-1])
        self.activation = base.activation if activation is None else activation  # type: ignore[assignment]
        last = torch.zeros(base.n_initializations, n_features, base.sizes[-1])
        self.weights = nn.ParameterList([*base.weights[:-1], last])
        self.biases = nn.ParameterList([*base.biases[:-1], last[:, :1]])
        self.register_buffer("reference", None)
        self.made = made

    def hidden_layers(self, x: Tensor) -> list[Tensor]:
        return [self.made(super().hidden_layers(x), x.expand(len(self.weights[0]), *x.shape[-2:]))]


def last_one(layers: list[Tensor], x: Tensor) -> Tensor:
    return layers[-1]


def all_of_them(layers: list[Tensor], x: Tensor) -> Tensor:
    return torch.cat([*layers, x], dim=-1)


def drawn(widths: Sequence[int], data: TrainingData, seed: int) -> Network:
    config = SurrogateConfig.of({"training": "none", "widths": tuple(widths)})
    return Network(config, len(data.scaling.descriptor_mean), len(data.scaling.ldos_mean), [seed])


def fourier(length: float, data: TrainingData, seed: int) -> Network:
    base, rng = drawn([WIDTH], data, seed), np.random.default_rng(seed)
    with torch.no_grad():
        base.weights[0].copy_(torch.from_numpy(rng.normal(0, 1 / length, base.weights[0].shape)))
        base.biases[0].copy_(torch.from_numpy(rng.uniform(0, 2 * np.pi, base.biases[0].shape)))
    return Features(base, WIDTH, last_one, torch.cos)


def centres(length: float, data: TrainingData, seed: int) -> Network:
    """exp(-|x - c|² / 2 l²), made of x·c / l² - |c|² / 2 l² of a layer and -|x|² / 2 l²."""
    base = drawn([WIDTH], data, seed)
    c = data.sample(WIDTH, np.random.default_rng(seed)).descriptors.T / length
    with torch.no_grad():
        base.weights[0].copy_(torch.as_tensor(c / length))
        base.biases[0].copy_(torch.as_tensor(-(c**2).sum(axis=0, keepdims=True) / 2))

    def kernel(layers: list[Tensor], x: Tensor) -> Tensor:
        return layers[-1].sub_((x**2).sum(dim=-1, keepdim=True), alpha=0.5 / length**2).exp_()

    return Features(base, WIDTH, kernel, torch.nn.Identity())


def kinds(data: TrainingData) -> dict[str, Callable[[int], Network]]:
    """Features by name, of a seed."""
    n_in = len(data.scaling.descriptor_mean)
    found: dict[str, Callable[[int], Network]] = {
        name: lambda seed: drawn([WIDTH], data, seed) for name in ("silu", "silu, DOS 1e6", "silu, DOS 1e7")
    }
    for length in LENGTHS:
        found[f"cos {length:g}"] = lambda seed, length=length: fourier(length, data, seed)
        found[f"centres {length:g}"] = lambda seed, length=length: centres(length, data, seed)
    found["silu and inputs"] = lambda seed: Features(drawn([WIDTH], data, seed), WIDTH + n_in, all_of_them)
    found["two layers"] = lambda seed: drawn([TWO + 34] * 2, data, seed)
    found["two layers and inputs"] = lambda seed: Features(drawn([TWO] * 2, data, seed), 2 * TWO + n_in, all_of_them)
    return found


def microseconds(network: Network) -> float:
    """A grid point, from standardised descriptors to the LDOS, in CPU time."""
    x, found = torch.randn(2048, network.sizes[0]), []
    with torch.no_grad():
        for _ in range(6):
            started = time.process_time()
            network(x)
            found.append(1e6 * (time.process_time() - started) / len(x))
    return min(found[1:])


def row(found: Trained, data: TrainingData, dataset: Dataset, settings: BispectrumSettings) -> dict[str, float]:
    test = read_split(dataset, settings, "test") or data.validation
    a = judge(found.network, data.scaling, data.energy_grid, test, ingredients=data.ingredients).accuracy
    errors = {
        "free_energy": a.free_energy_mae,
        "band_energy": a.band_energy_mae,
        "ldos": 1 - a.ldos_r2,
        "dos": a.dos_rmse,
    }
    loss = {"validation_loss": found.best_loss[0], "penalty": found.penalty}
    return {**loss, **errors, "us_a_point": microseconds(found.network)}  # type: ignore[dict-item]


def solved(network: Network, data: TrainingData, config: SurrogateConfig, kind: str = "") -> Trained:
    """The closed form of any features, of centres also with the smaller penalties that kernels of few points need."""
    penalties = (1e-8, 1e-6, 1e-4, *penalty.PENALTIES) if kind.startswith("centres") else penalty.PENALTIES
    dos_weight = float(kind.split()[-1]) if ", DOS" in kind else 0.0
    with (
        patch.object(closed_form, "random_network", lambda *_: network),
        patch.object(penalty, "PENALTIES", penalties),
    ):
        return closed_form.fit(config.model_copy(update={"dos_weight": dos_weight}), data, seeds=[0])


def main() -> None:
    if not SHARED.is_dir():
        raise SystemExit("the data of DFT are not here")
    torch.set_num_threads(1)
    none = SurrogateConfig.of({"training": "none", "force_weight": 0.0})
    adam = SurrogateConfig.of({"epochs": 4, "learning_rate": 3e-3, "readout": "never", "force_weight": 0.0})
    with tempfile.TemporaryDirectory() as temporary:
        for name, _, alone in (argument.partition(":") for argument in sys.argv[1:] or SETS):
            folder, splits, settings = SETS[name]
            dataset = import_dataset([SHARED / folder], Path(temporary) / name, source=name, **splits)  # type: ignore[arg-type]
            for s in dataset.without_descriptors(settings):
                dataset.write_descriptors(s, settings, bispectrum(s.cell, s.positions, s.numbers, s.grid, settings))
            data = read_training_data(dataset, settings)
            for seed in [int(alone)] if alone else SEEDS:
                for kind, make in kinds(data).items():
                    started = time.process_time()
                    found = solved(make(seed), data, none, kind)
                    about = {"set": name, "features": kind, "seed": seed, "cpu_s": time.process_time() - started}
                    print(json.dumps(about | row(found, data, dataset, settings)), flush=True)
                started = time.process_time()
                network = train(adam, data, seeds=[seed]).network
                spent = time.process_time() - started
                both = Features(network, sum(adam.hidden) + network.sizes[0], all_of_them)
                for kind, made in (("adam", network), ("adam, all", both)):
                    started = time.process_time()
                    found = solved(made, data, none)
                    about = {"set": name, "features": kind, "seed": seed}
                    about["cpu_s"] = spent + time.process_time() - started
                    print(
                        json.dumps(about | row(found, data, dataset, settings) | {"cpus": os.cpu_count()}), flush=True
                    )


if __name__ == "__main__":
    main()
