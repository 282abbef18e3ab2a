"""Claim: training-free scores rank configs by their trained error, at a small share of the cost of one training.

Trains random configs of examples/al4.toml (2 at a time on 2 cores) and scores the same configs; prints τ of each
score with accuracy, its standard error, and the cost of scoring over the cost of training the same config.

    python benchmarks/scores.py [n_configs=48] [seed=0]
"""

import json
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from dftune.platform.ledger.score_quality import score_quality
from dftune.platform.progress import Plain
from dftune.platform.spec import StudySpec
from dftune.platform.study.errors import StudyError
from dftune.platform.study.study import Study
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.scores import SCORES
from dftune.trainables.ldos.training_data import read_training_data


def main() -> None:
    n_configs = int(sys.argv[1]) if len(sys.argv) > 1 else 48
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    example = StudySpec.read(Path(__file__).parents[1] / "examples" / "al4.toml")
    spec = example.model_copy(
        update={
            "name": "scores",
            "method": "random",
            "options": {},
            "trials": n_configs,
            "seed": seed,
            "initializations": 1,
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        study = Study.from_spec(spec, Path(folder))
        study.run(progress=Plain())
        trials = [t for t in study.trials() if t.value is not None]
    if len(trials) < n_configs:
        raise StudyError(f"only {len(trials)} of {n_configs} trials finished")

    torch.set_num_threads(1)
    data = read_training_data(Dataset.open(spec.dataset), spec.descriptors)
    rng = np.random.default_rng([seed, 1])
    configs = [SurrogateConfig.of({**spec.config, **t.config}) for t in trials]
    values = [t.value for t in trials if t.value is not None]
    for name, score in SCORES.items():
        batch = data.sample(score.n_points, rng)
        score.function(configs[:1], batch, seed)  # warm-up
        scores, ratios = [], []
        for config, trial in zip(configs, trials, strict=True):
            started = time.perf_counter()
            scores += score.function([config], batch, seed)
            ratios.append((trial.seconds or float("nan")) / (time.perf_counter() - started))
        quality = score_quality(name, scores, values)
        row = {
            "score": name,
            "n": quality.n_trials,
            "tau": quality.tau,
            "tau_error": quality.tau_error,
            "regret": quality.regret,
            "training_over_scoring_median": statistics.median(ratios),
            "training_over_scoring_min": min(ratios),
            "value_min": min(values),
            "value_median": statistics.median(values),
        }
        print(json.dumps(row | {"torch": version("torch"), "seed": seed}), flush=True)


if __name__ == "__main__":
    main()
