"""Claim: pruning by a score, and search without training, save most of Optuna's training at little regret.

Every method searches the space of examples/al4.toml, serially and with equal seeds; equal configs have equal values
(one initialisation, few epochs), so that regret is that of the choice alone.  Pruned and plain Optuna see the same
number of candidates.  The winners are then trained five times.  Trainings are kept in FOLDER: a killed run goes on.

    python benchmarks/methods.py FOLDER [n_candidates=100] [n_seeds=5] [epochs=8] [processes=2]
"""

import hashlib
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dftune.platform.spec import StudySpec
from dftune.searchers import SEARCHERS
from dftune.searchers.method import SearchTask
from dftune.searchers.searcher import Pruned
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.files import write_text
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.epoch_report import EpochReport
from dftune.trainables.ldos.scores import SCORES
from dftune.trainables.ldos.training import train
from dftune.trainables.ldos.training_data import MiniBatch, TrainingData, read_training_data

METHODS = ("optuna", "optuna+rfr", "optuna+naswot", "rfr", "naswot")
WINNER_SEEDS = (101, 102, 103, 104, 105)


@cache
def spec() -> StudySpec:
    return StudySpec.read(Path(__file__).parents[1] / "examples" / "al4.toml")


@cache
def data() -> TrainingData:
    torch.set_num_threads(1)
    return read_training_data(Dataset.open(spec().dataset), spec().descriptors)


def trained(folder: Path, config: dict[str, Any], epochs: int, seeds: Sequence[int]) -> dict[str, Any]:
    """Validation losses and compute of a config, from FOLDER where it has been trained before."""
    full = SurrogateConfig.of({**spec().config, **config, "epochs": epochs, "batch_size": 256})
    key = json.dumps([full.model_dump(), list(seeds)])
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
    if not path.exists():
        started = time.process_time()
        reports: list[EpochReport] = []
        result = train(full, data(), seeds=seeds, report=reports.append)
        n_points = sum(len(shard) for s in data().train for shard in s.ldos)
        row = {"losses": result.best_loss, "cpu_s": time.process_time() - started}
        write_text(path, json.dumps(row | {"grid_points": n_points * reports[-1].epoch * len(seeds)}))
    return json.loads(path.read_text())


@cache
def batch(name: str, seed: int) -> MiniBatch:
    return data().sample(SCORES[name].n_points, np.random.default_rng([seed, 1]))


def search(folder: Path, name: str, seed: int, n_candidates: int, epochs: int) -> dict[str, Any]:
    """One method with one seed: what it trained, what it found, what it cost."""
    method, score_s = SEARCHERS[name], 0.0

    @cache
    def score_of(key: str) -> float:
        nonlocal score_s
        started = time.process_time()
        full = SurrogateConfig.of({**spec().config, **json.loads(key)})
        assert method.score is not None
        score = SCORES[method.score].function([full], batch(method.score, seed), seed)[0]
        score_s += time.process_time() - started
        return score

    options = {"calibration": 0} if name == "rfr" else {}
    task = SearchTask(
        spec().space,
        seed,
        lambda configs: [score_of(json.dumps(c)) for c in configs],
        direction="published" if method.score is None else SCORES[method.score].direction,
        seen=lambda config: spec().full(config).seen_by_scores,
    )
    searcher = method.build(task, method.options.model_validate(options))
    values, configs, cpu_s, points, asked, bests = [], [], 0.0, 0, 0, []
    while asked < n_candidates and (answer := searcher.ask(str(asked))) is not None:
        if not isinstance(answer, Pruned):
            assert isinstance(answer, dict)
            row = trained(folder, answer, epochs, [0])
            values.append(row["losses"][0])
            configs.append(answer)
            cpu_s, points = cpu_s + row["cpu_s"], points + row["grid_points"]
            searcher.tell(str(asked), values[-1])
        bests.append(min(values, default=float("nan")))
        asked += 1
    winner = configs[int(np.argmin(values))]
    again = trained(folder, winner, epochs, WINNER_SEEDS)["losses"]
    return {
        "method": name,
        "seed": seed,
        "asked": asked,
        "trained": len(values),
        "best": min(values),
        "values": [round(v, 5) for v in values],
        "winner_mean": statistics.mean(again),
        "winner_std": statistics.stdev(again),
        "winner": winner,
        "grid_points": points,
        "training_cpu_s": cpu_s,
        "scoring_cpu_s": score_s,
    }


def main() -> None:
    folder = Path(sys.argv[1])
    n_candidates, n_seeds, epochs, processes = (
        int(sys.argv[i]) if len(sys.argv) > i else default for i, default in enumerate((100, 5, 8, 2), start=2)
    )
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(processes) as pool:
        jobs = [
            pool.submit(search, folder, name, seed, n_candidates, epochs) for seed in range(n_seeds) for name in METHODS
        ]
        rows = []
        for job in jobs:
            rows.append(job.result())
            print(json.dumps(rows[-1]), flush=True)
    plain = {row["seed"]: row for row in rows if row["method"] == "optuna"}
    for name in METHODS:
        pairs = [(row, plain[row["seed"]]) for row in rows if row["method"] == name]
        summary = {
            "method": name,
            "n_seeds": len(pairs),
            "share_of_compute": statistics.mean(r["grid_points"] / p["grid_points"] for r, p in pairs),
            "share_of_cpu_with_scores": statistics.mean(
                (r["training_cpu_s"] + r["scoring_cpu_s"]) / p["training_cpu_s"] for r, p in pairs
            ),
            "regret": statistics.mean(r["best"] / p["best"] - 1 for r, p in pairs),
            "regrets": [round(r["best"] / p["best"] - 1, 4) for r, p in pairs],
            "winner_over_plain_winner": statistics.mean(r["winner_mean"] / p["winner_mean"] - 1 for r, p in pairs),
            "regret_of_first_3": statistics.mean(min(r["values"][:3]) / p["best"] - 1 for r, p in pairs),
            "regret_of_first_5": statistics.mean(min(r["values"][:5]) / p["best"] - 1 for r, p in pairs),
        }
        print(json.dumps(summary | {"torch": version("torch"), "cpus": os.cpu_count()}), flush=True)


if __name__ == "__main__":
    main()
