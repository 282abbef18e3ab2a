"""Claim: trials that share a GPU train more grid points a second together than one alone, within the memory foretold.

Where torch finds a CUDA GPU: 1, 2, 4 and 8 processes train on it at once, in float32 and TF32 as `train` does and under
bfloat16's autocast; rows give the grid points a second of all together, the memory of each beside what
`training_memory` foretells, and what CUDA takes for a process before its first tensor.  No step may wait for the GPU:
torch raises where one does.  Elsewhere one row says that no GPU was there.

    python benchmarks/gpu.py [width=256] [epochs=5] [grid_points=200000]
"""

import json
import multiprocessing
import os
import sys
import time
from contextlib import nullcontext
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from dftune.cluster.resources import CONTEXT
from dftune.cluster.trials.gpu_packing import MOST
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.grid_points import Resident
from dftune.trainables.ldos.training import _multiplied, _State, _steps
from dftune.trainables.ldos.training_data import Scaling, SnapshotData, TrainingData
from dftune.trainables.ldos.training_memory import training_memory

N_IN, N_OUT = 91, 73


def training(config: SurrogateConfig, n_points: int, precision: str, device: str, barrier: Any, results: Any) -> None:
    """Train in this process, when all others are ready; put grid points a second and the bytes that torch took."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((n_points, n), dtype=np.float32) for n in (N_IN, N_OUT)]
    snapshot = SnapshotData(None, *([array] for array in arrays))  # type: ignore[arg-type]
    data = TrainingData([snapshot], [], None, Scaling.fit([snapshot]))  # type: ignore[arg-type]
    on_gpu = device != "cpu"
    state, points = _State(config, data, [1], device), Resident([snapshot], data.scaling, device)

    def epoch(number: int) -> None:
        batches = points.shuffled(number, config.batch_size)
        rates = [config.learning_rate] * -(-n_points // config.batch_size)
        # Autocast would keep the weights of the first step for all.
        bfloat16 = torch.autocast(device, torch.bfloat16, cache_enabled=False)
        autocast = bfloat16 if precision == "bfloat16" else nullcontext()
        with _multiplied(precision == "tf32"), autocast:
            total = _steps(state.network, state.optimizer, batches, rates)
        if on_gpu:
            torch.cuda.set_sync_debug_mode("default")
        assert np.isfinite(total.item())

    epoch(1)  # warm-up
    barrier.wait()
    started = time.perf_counter()
    for number in range(2, config.epochs + 2):
        if on_gpu:
            torch.cuda.set_sync_debug_mode("error")
        epoch(number)
    seconds = time.perf_counter() - started
    results.put((n_points * config.epochs / seconds, torch.cuda.max_memory_allocated() if on_gpu else 0))


def context() -> float:
    """Bytes that a process takes of the GPU before its first tensor of any size."""
    before = torch.cuda.mem_get_info()[0]
    spawning = multiprocessing.get_context("spawn")
    ready, done = spawning.Event(), spawning.Event()
    other = spawning.Process(target=hold, args=(ready, done))
    other.start()
    ready.wait()
    taken = before - torch.cuda.mem_get_info()[0]
    done.set()
    other.join()
    return float(taken)


def hold(ready: Any, done: Any) -> None:
    a = torch.ones(8, 8, device="cuda")
    torch.cuda.synchronize()
    assert (a @ a).sum() > 0  # cuBLAS has its own
    ready.set()
    done.wait()


def main() -> None:
    width, epochs, n_points = (
        int(sys.argv[i]) if len(sys.argv) > i else default for i, default in enumerate((256, 5, 200_000), start=1)
    )
    versions = {"torch": version("torch"), "cpus": os.cpu_count()}
    if not torch.cuda.is_available():
        return print(json.dumps({"case": "gpu", "gpu": None, "why": "torch finds no CUDA GPU here", **versions}))
    name = torch.cuda.get_device_properties(0).name
    config = SurrogateConfig(n_layers=2, width=width, batch_size=256, epochs=epochs, schedule="constant")
    need = training_memory(config, N_IN, N_OUT, n_train=n_points, n_validation=0)
    print(json.dumps({"case": "context", "gpu": name, "bytes": context(), "assumed": CONTEXT, **versions}))
    spawning = multiprocessing.get_context("spawn")
    for precision in ("float32", "tf32", "bfloat16"):
        alone = 0.0
        for n in (1, 2, 4, MOST):
            barrier, results = spawning.Barrier(n), spawning.Queue()
            arguments = (config, n_points, precision, "cuda", barrier, results)
            processes = [spawning.Process(target=training, args=arguments) for _ in range(n)]
            for process in processes:
                process.start()
            found = [results.get(timeout=600) for _ in processes]
            for process in processes:
                process.join()
            together = sum(rate for rate, _ in found)
            alone = alone or together
            row = {
                "case": "gpu",
                "gpu": name,
                "precision": precision,
                "trials": n,
                "points_per_second": together,
                "over_one_trial": together / alone,
                "bytes": max(taken for _, taken in found),
                "foretold": need.network + need.points,
            }
            print(json.dumps(row | versions), flush=True)


if __name__ == "__main__":
    main()
