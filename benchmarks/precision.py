"""Claim: products in TF32, as a GPU takes them for trials, rank configs as float32 does; is bfloat16 as good?

Random configs of examples/al4.toml are trained with equal seeds in each precision: float32, TF32 (both factors of every
product rounded to 10 bits of mantissa, forth and back, sums in float32), and bfloat16 (torch's autocast).  What float32
makes of other seeds is the bar: how much two trainings of one config differ anyway.  Weights, loss and validation are
float32 in all.  Both are computed on CPUs, where they are slow; how fast they are on a GPU says benchmarks/gpu.py.

    python benchmarks/precision.py [n_configs=24] [epochs=6] [seed=0] [processes=2]
"""

import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dftune.platform.ledger.score_quality import score_quality
from dftune.platform.spec import StudySpec
from dftune.searchers.space import draw
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.ldos import training
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.network import Network
from dftune.trainables.ldos.training_data import Scaling, SnapshotData, TrainingData

SEEDS, OTHER_SEEDS = (1, 2), (3, 4)
CASES = {
    "float32": ("float32", SEEDS),
    "tf32": ("tf32", SEEDS),
    "bfloat16": ("bfloat16", SEEDS),
    "float32, other seeds": ("float32", OTHER_SEEDS),
}


def to_tf32(values: Tensor) -> Tensor:
    """Rounded to 10 bits of mantissa, to nearest and away from zero between two, as the hardware does."""
    return ((values.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


class Product(torch.autograd.Function):
    """bias + x weight, with the factors of all three products rounded to TF32."""

    @staticmethod
    def forward(ctx: Any, bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        x, weight = to_tf32(x), to_tf32(weight)
        ctx.save_for_backward(x, weight)
        return torch.baddbmm(bias, x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        rounded = to_tf32(gradient)
        return gradient.sum(1, keepdim=True), rounded @ weight.mT, x.mT @ rounded


class Tf32Network(Network):
    """A network that is trained in TF32 and judged in float32."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return super().forward(x)
        layer = x.expand(self.n_initializations, *x.shape[-2:])
        *hidden, last = zip(self.biases, self.weights, strict=True)
        for bias, weight in hidden:
            layer = self.activation(Product.apply(bias, layer, weight))
        return Product.apply(last[0], layer, last[1])


class Bfloat16Network(Network):
    """A network that is trained in bfloat16 and judged in float32."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=torch.is_grad_enabled()):
            return super().forward(x).float()


NETWORKS = {"float32": Network, "tf32": Tf32Network, "bfloat16": Bfloat16Network}


@cache
def spec() -> StudySpec:
    return StudySpec.read(Path(__file__).parents[1] / "examples" / "al4.toml")


@cache
def data() -> TrainingData:
    """Descriptors of 2J_max = 8, every grid point of six snapshots to train on, two to validate with."""
    torch.set_num_threads(1)
    dataset, settings = Dataset.open(spec().dataset), BispectrumSettings(cutoff=4.68, two_j_max=8)

    def described(split: Any, n: int) -> list[SnapshotData]:
        return [
            SnapshotData(
                s, [bispectrum(s.cell, s.positions, s.numbers, s.grid, settings)], list(dataset.ldos(s).arrays())
            )
            for s in dataset.split(split)[:n]
        ]

    train = described("train", 6)
    torch.set_num_threads(1)  # LAMMPS has set it
    return TrainingData(train, described("validation", 2), dataset.info.energy_grid, Scaling.fit(train))


def trained(epochs: int, job: tuple[dict[str, Any], str]) -> tuple[list[float], float]:
    """Best validation loss of each initialisation, and the CPU seconds."""
    config, case = job
    precision, seeds = CASES[case]
    full = SurrogateConfig.of({**spec().config, **config, "epochs": epochs})
    data()
    training.Network, before = NETWORKS[precision], training.Network  # type: ignore[attr-defined, misc]
    try:
        started = time.process_time()
        found = training.train(full, data(), seeds=seeds)
        return list(found.best_loss), time.process_time() - started
    finally:
        training.Network = before  # type: ignore[attr-defined, misc]


def main() -> None:
    n_configs, epochs, seed, processes = (
        int(sys.argv[i]) if len(sys.argv) > i else default for i, default in enumerate((24, 6, 0, 2), start=1)
    )
    rng = np.random.default_rng(seed)
    configs = [draw(spec().space, rng) for _ in range(n_configs)]
    with ProcessPoolExecutor(processes) as pool:
        jobs = list(product(configs, CASES))
        found = dict(
            zip([(i, case) for i in range(n_configs) for case in CASES], pool.map(partial(trained, epochs), jobs))
        )
    losses = {case: np.array([found[i, case][0] for i in range(n_configs)]) for case in CASES}  # (config, seed)
    for case in list(CASES)[1:]:
        # Each initialisation as its counterpart in float32 ranks it.
        pairs = list(zip(losses["float32"].T, losses[case].T, strict=True))
        qualities = [score_quality(case, list(-ours), list(reference)) for reference, ours in pairs]
        ratios = losses[case] / losses["float32"]
        row = {
            "case": case,
            "n": n_configs,
            "epochs": epochs,
            "tau": [round(q.tau or float("nan"), 3) for q in qualities],
            "tau_error": qualities[0].tau_error,
            "regret": [q.regret for q in qualities],
            "loss_ratio_median": float(np.median(ratios)),
            "loss_ratio_range": [float(ratios.min()), float(ratios.max())],
            "cpu_s_over_float32": sum(found[i, case][1] for i in range(n_configs))
            / sum(found[i, "float32"][1] for i in range(n_configs)),
            "torch": version("torch"),
            "cpus": os.cpu_count(),
        }
        print(json.dumps(row), flush=True)
    print(json.dumps({name: values.tolist() for name, values in losses.items()}), file=sys.stderr)


if __name__ == "__main__":
    main()
