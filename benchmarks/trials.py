"""Claim: energies and forces after four epochs of Adam at 3e-3 and a readout are those after 40 epochs at 1e-3.

Two sets of aluminium: ``example``, examples/al4 (4.68 Å, 2J_max 10), and ``al4``, ../shared/data/al4 as in
``readout.py`` (3.0 Å, 2J_max 8).  A row of JSON a network, with CPU seconds of its training and of its readout, one
thread, and errors of unseen snapshots: LDOS (1 - R²), A and band energy [meV/atom], forces [eV/Å].

- ``epochs``: the default network by epochs, learning rate and grid points a step, three seeds.
- ``ranking``: random configs of the default space, each a trial and a final training from another seed.  The last rows
  have Kendall's τ of what a trial may be valued by with the errors of the final networks, the regret of its lowest
  value, and the median seconds that it takes where derivatives of the descriptors are there already.

What is done is kept in FOLDER: a killed run goes on.

    python benchmarks/trials.py FOLDER [example] [al4] [epochs] [ranking]     all by default
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from readout import SEEDS, described, with_descriptors
from readout import SETTINGS as OF_AL4
from scipy.stats import kendalltau
from without_training import SETTINGS as OF_EXAMPLE
from without_training import errors

from dftune.searchers import SEARCHERS
from dftune.searchers.method import SearchTask
from dftune.searchers.space import SPACE
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.files import write_text
from dftune.trainables.kinds import KINDS
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.readout.fit import fit, with_free_energy
from dftune.trainables.ldos.training import train
from dftune.trainables.ldos.training_data import SnapshotData, TrainingData, read_split, read_training_data

ROOT = Path(__file__).parents[1]
SETTINGS = {"example": OF_EXAMPLE, "al4": OF_AL4}
LENGTHS = ((4, 3e-3, 256), (4, 3e-3, 128), (40, 1e-3, 256))  # epochs, learning rate, grid points a step
N_CONFIGS = 16
TRIAL, FINAL = 0, 1  # seeds
WITHOUT, READOUT, ENERGIES = "no readout", "readout", "readout of energies"
JUDGED = ("ldos", "free_energy", "band_energy", "forces")


def read(name: str, folder: Path) -> tuple[TrainingData, list[SnapshotData]]:
    """A set with descriptors."""
    settings, place = SETTINGS[name], ROOT / "examples" / "al4" if name == "example" else folder / name
    found = with_descriptors(Dataset.open(place), settings) if place.is_dir() else described(name, place)
    return read_training_data(found, settings), read_split(found, settings, "test")


def trained(
    config: SurrogateConfig, data: TrainingData, test: list[SnapshotData], seed: int, ends: Sequence[str]
) -> dict[str, Any]:
    """What training and then a readout give: values of validation snapshots, errors of test snapshots, CPU seconds."""
    started = time.process_time()
    found = train(config, data, seeds=[seed])
    row: dict[str, Any] = {"train_s": time.process_time() - started, "loss": found.best_loss[0], "seed": seed}
    row["validation_free_energy"] = with_free_energy(found, data).last.best_free_energy_mae
    row["config"] = config.model_dump(include={"n_layers", "width", "activation", "learning_rate"})
    if WITHOUT in ends:
        row[WITHOUT] = errors(found, data, test)
    for end in ends:
        if end == WITHOUT:
            continue
        weight = config.force_weight if end == READOUT else 0.0
        started = time.process_time()
        solved = fit(config.model_copy(update={"force_weight": weight}), data, seeds=[seed], trained=found)
        row[end] = {"cpu_s": time.process_time() - started, "loss": solved.last.best_loss}
        row[end] |= {"validation_free_energy": solved.last.best_free_energy_mae}
        if end == READOUT:
            row[end] |= errors(solved, data, test)
    return row


def kept(path: Path, *arguments: Any) -> dict[str, Any]:
    """What a file holds, or what is made now and written there."""
    if not path.exists():
        write_text(path, json.dumps(trained(*arguments)))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def epochs(name: str, folder: Path, data: TrainingData, test: list[SnapshotData]) -> None:
    for number, rate, batch in LENGTHS:
        config = SurrogateConfig(epochs=number, learning_rate=rate, batch_size=batch)
        about: dict[str, Any] = {"set": name, "epochs": number, "learning_rate": rate, "batch_size": batch}
        rows = []
        for seed in SEEDS:
            file = folder / f"{name}-{number}-{rate:g}-{batch}-{seed}.json"
            rows.append(kept(file, config, data, test, seed, (WITHOUT, READOUT)))
            print(json.dumps({**about, **rows[-1]}), flush=True)
        about["train_s"] = np.mean([row["train_s"] for row in rows])
        for end in (WITHOUT, READOUT):
            many = {n: [row[end][n] for row in rows] for n in JUDGED}
            means = {n: [float(np.mean(v)), float(np.std(v))] for n, v in many.items()}
            print(json.dumps({**about, "end": end, **means}), flush=True)


def ranking(name: str, folder: Path, data: TrainingData, test: list[SnapshotData]) -> None:
    method = SEARCHERS["random"]
    searcher = method.build(SearchTask(SPACE.validate_python(KINDS["ldos"].space), 0), method.options())
    trials, finals = [], []
    for n in range(N_CONFIGS):
        asked = searcher.ask(str(n))
        assert isinstance(asked, dict)
        config = SurrogateConfig.of({"epochs": 4, **asked})
        trials.append(kept(folder / f"{name}-{n}-trial.json", config, data, test, TRIAL, (READOUT, ENERGIES)))
        finals.append(kept(folder / f"{name}-{n}-final.json", config, data, test, FINAL, (READOUT,))[READOUT])
        print(json.dumps({"set": name, **trials[-1], "final": finals[-1]}), flush=True)
    values = {"loss": [(t["loss"], 0.0) for t in trials], "A": [(t["validation_free_energy"], 0.0) for t in trials]}
    for end in (READOUT, ENERGIES):
        values[f"loss, {end}"] = [(t[end]["loss"], t[end]["cpu_s"]) for t in trials]
        values[f"A, {end}"] = [(t[end]["validation_free_energy"], t[end]["cpu_s"]) for t in trials]
    train_s = np.mean([t["train_s"] for t in trials])
    for value, some in values.items():
        tau, regret, numbers = {}, {}, [number for number, _ in some]
        for error in ("loss", *JUDGED):
            reached = [final[error] for final in finals]
            tau[error] = float(kendalltau(numbers, reached).statistic)
            regret[error] = reached[int(np.argmin(numbers))] / min(reached) - 1
        spent = {"train_s": train_s, "readout_s": np.median([seconds for _, seconds in some])}
        print(json.dumps({"set": name, "value": value, **spent, "tau": tau, "regret": regret}))


def main() -> None:
    torch.set_num_threads(1)
    folder, words = Path(sys.argv[1]), set(sys.argv[2:])
    folder.mkdir(parents=True, exist_ok=True)
    for name in [n for n in SETTINGS if n in words] or SETTINGS:
        data, test = read(name, folder)
        for job in [f for f in (epochs, ranking) if f.__name__ in words] or (epochs, ranking):
            job(name, folder, data, test)


if __name__ == "__main__":
    main()
