"""Claim: a surrogate of aluminium and magnesium has LDOS and free energies of compositions and orders it has not seen.

Fitted without training (1 x 1024 silu, seed 7) to the training snapshots of examples/al_mg.tar.xz, or of DATASET, and
judged on its test snapshots by group: |error| of A [meV/atom], mean and largest, of forces [eV/Å], 1 - R² of the LDOS.
The first line is what the free energies of the DFT's own LDOS are off by.

    python benchmarks/species.py [DATASET]
"""

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dftune import BispectrumSettings
from dftune.tests.places import unpack
from dftune.trainables.data.composing.selection import take
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.kinds import KINDS
from dftune.trainables.ldos.judgement import judgement_of
from dftune.trainables.ldos.readout.fit import evaluated
from dftune.trainables.ldos.training_data import read_split, read_training_data, relative_to_fermi_levels

ROOT = Path(__file__).parents[1]
WEIGHTS = {"Al": 1.0, "Mg": 0.6}
BOTH = ("Al", "Mg")
CASES: dict[str, tuple[BispectrumSettings, dict[str, float]]] = {  # descriptors, and what the config says of the fit
    "weights, 4.0 Å, 2J 8": (BispectrumSettings(cutoff=4.0, two_j_max=8, weights=WEIGHTS), {}),
    "chem, 4.0 Å, 2J 4": (BispectrumSettings(cutoff=4.0, two_j_max=4, chem=BOTH), {}),
    "chem, 3.2 Å, 2J 6": (BispectrumSettings(cutoff=3.2, two_j_max=6, chem=BOTH), {}),
    "chem, 4.68 Å, 2J 4, penalty 100": (BispectrumSettings(cutoff=4.68, two_j_max=4, chem=BOTH), {"penalty": 100.0}),
    "chem, 4.68 and 3.2 Å, 2J 4, penalty 100": (
        BispectrumSettings(cutoff=4.68, two_j_max=4, chem=BOTH, inner=(3.2,)),
        {"penalty": 100.0},
    ),
    "chem, 6.0, 4.68 and 3.2 Å, 2J 4, 2,048 smooth neurons": (
        BispectrumSettings(cutoff=6.0, two_j_max=4, chem=BOTH, inner=(4.68, 3.2)),
        {"width": 2048, "weight_scale": 0.3, "penalty": 1.0},
    ),
    "chem, 4.68 Å, 2J 4, LDOS alone": (
        BispectrumSettings(cutoff=4.68, two_j_max=4, chem=BOTH),
        {"penalty": 1.0, "energy_weight": 0.0, "force_weight": 0.0},
    ),
}
KIND = KINDS["ldos"]


def bundled(folder: Path) -> Dataset:
    unpack(ROOT / "examples" / "al_mg.tar.xz", folder)
    return Dataset.open(str(folder / "al_mg"))


def judged(dataset: Dataset, settings: BispectrumSettings, fit: Mapping[str, float], energies: str) -> dict[str, str]:
    """Group of test snapshots -> what they are off by."""
    for s in dataset.without_descriptors(settings):
        dataset.write_descriptors(s, settings, bispectrum(s.cell, s.positions, s.numbers, s.grid, settings))
    config = KIND.config.of({"training": "none", "energies": energies, **fit})
    data, test = read_training_data(dataset, settings), read_split(dataset, settings, "test")
    trained = KIND.train(config, data, seeds=[7], device="cpu", memory=4e9, report=lambda epoch: None)
    if energies == "fermi":
        stored, data = data.energy_grid, data.relative_to_fermi_levels()
        test = relative_to_fermi_levels(test, stored, data.energy_grid)
    lines = {}
    for group in dict.fromkeys(d.snapshot.group for d in test):
        some = [d for d in test if d.snapshot.group == group]
        found = [evaluated(trained.network, d, data=data.about, forces=True) for d in some]
        accuracy = judgement_of(zip(some, found, strict=True), data.energy_grid).accuracy
        off = [abs(float(e.error(d).free_energy[0])) for d, e in zip(some, found, strict=True)]
        forces = np.mean([np.abs(e.forces).mean() for e in found if e.forces is not None])
        lines[f"{group} ({len(some)})"] = (
            f"A {np.mean(off):.2f} {max(off):.2f}, forces {forces:.4f}, 1 - R² {1 - accuracy.ldos_r2:.4f}"
        )
    return lines


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        given = Dataset.open(sys.argv[1]) if len(sys.argv) > 1 else bundled(Path(folder))
        dataset = take(given, Path(folder) / "described", [s.id for s in given.snapshots])
        totals = [report.total_error for report in dataset.check()]
        assert None not in totals
        print(f"{dataset}; A of its own LDOS off by at most {np.abs(totals).max():.2f} meV/atom")  # type: ignore[arg-type]
        for name, (settings, fit) in CASES.items():
            for energies in ("fermi", "absolute"):
                started = time.process_time()
                found = judged(dataset, settings, fit, energies)
                seconds = round(time.process_time() - started)
                print(json.dumps({"case": f"{name}, {energies}", **found, "CPU s": seconds}, ensure_ascii=False))


if __name__ == "__main__":
    main()
