"""Claim: with energies relative to the Fermi level, cells of other volumes cost no free energy in larger cells.

That is so where a cell of 16 atoms chooses the penalty; by cells of 4 atoms they cost 2 meV/atom.  Forces get worse,
less so where the random weights are smaller.

Trained on 18 cells of 4 aluminium atoms (../shared/data), alone or with the twelve training cells of
examples/al_volumes.tar.xz, and with two of 8 atoms; 37 energies, 1 x 512 silu, 3.0 Å, 2J_max 8, seed 7, the penalty
chosen by validation snapshots of 4 or of 16 atoms.  Judged on cells of 4, 8, 16 and 32 atoms at 4.05 Å, on ideal cells
of other volumes, on the energies of twelve volumes and of strains of 2 %, where these were trained on.  One row of JSON
a training.

    python benchmarks/volumes_and_sizes.py
"""

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch
from readout import SETTINGS, SHARED, described, snapshots, with_descriptors
from volumes import ROOT

from dftune import Model
from dftune.tests.places import unpack
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.ldos.card import card_for
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.judgement import judgement_of
from dftune.trainables.ldos.readout.fit import evaluated, fit
from dftune.trainables.ldos.training_data import (
    Scaling,
    SnapshotData,
    TrainingData,
    read_split,
    relative_to_fermi_levels,
)

# Energies, what is trained on beside the cells of 4 atoms, whose snapshots choose the penalty, and weight_scale.
CASES: tuple[tuple[str, tuple[str, ...], str, float], ...] = (
    ("fermi", (), "al4", 1.0),
    ("fermi", ("volumes",), "al4", 1.0),
    ("fermi", ("al8",), "al4", 1.0),
    ("fermi", ("volumes", "al8"), "al4", 1.0),
    ("absolute", (), "al4", 1.0),
    ("absolute", ("volumes", "al8"), "al4", 1.0),
    ("fermi", ("al8",), "al16", 1.0),
    ("fermi", ("volumes", "al8"), "al16", 1.0),
    ("fermi", ("al8",), "al16", 0.3),
    ("fermi", ("volumes", "al8"), "al16", 0.3),
)
UNSEEN = {
    "al4": (("al4", "test"),),
    "al8": (("al8_more", "004"), ("al8_more", "005")),
    "al16": (("al16", "all"),),
    "al32": (("al32", "all"),),
}


def at_37_energies(some: Sequence[SnapshotData]) -> list[SnapshotData]:
    """Every second of 73 energies: those of the cells of other volumes."""
    return [SnapshotData(d.snapshot, d.descriptors, [shard[:][:, ::2].copy() for shard in d.ldos]) for d in some]


def judged(trained: Any, data: TrainingData, some: Sequence[SnapshotData], stored: Any) -> dict[str, Any]:
    """Errors of A [meV/atom], forces [eV/Å] and the LDOS, 1 - R²."""
    if data.train[0].reference is not None:
        some = relative_to_fermi_levels(some, stored, data.energy_grid)
    found = [evaluated(trained.network, d, data=data, forces=True) for d in some]
    accuracy = judgement_of(zip(some, found, strict=True), data.energy_grid).accuracy
    each = [round(1e3 * float(e.free_energy[0]), 2) for e in found]
    forces = np.mean([np.abs(e.forces).mean() for e in found if e.forces is not None])
    row = {"A": each, "mean": np.mean(np.abs(each)), "forces": forces, "ldos": 1 - accuracy.ldos_r2}
    return row | {name: round(float(row[name]), 4) for name in ("mean", "forces", "ldos")}


def along(model: Model, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A - A_DFT over twelve volumes, and of strains of 2 % beyond that of the unstrained cell [meV/atom]."""
    off = {}
    for row in rows:
        atoms = ase.Atoms("Al4", row["positions"], cell=row["cell"], pbc=True)
        predicted = model.predict(atoms, grid=(20, 20, 20)).free_energy
        off[row["name"]] = 250 * (predicted - row["total_energy_ev"])
    strained = {name: round(off[name] - off["minimum"], 2) for name in off if name.endswith("0.02")}
    volumes = [value for name, value in off.items() if name.startswith("volume")]
    return {"volumes, largest": round(float(np.abs(volumes).max()), 2), "strains of 2 %": strained}


def main() -> None:
    if not SHARED.is_dir():
        raise SystemExit("the raw data of aluminium are not here")
    torch.set_num_threads(1)
    rows = json.loads((ROOT / "tests" / "data" / "al_volumes.json").read_text())
    rows = [row for row in rows if row["name"].startswith(("volume", "minimum")) or row["name"].endswith("0.02")]
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        sets = {name: described(name, place / name) for name in ("al4", "al8", "al8_more", "al16", "al32")}
        unpack(ROOT / "examples" / "al_volumes.tar.xz", place)
        bundle = with_descriptors(Dataset.open(str(place / "al_volumes")))
        info = bundle.info
        ideal = read_split(bundle, SETTINGS, "test")
        parts = {
            "al4": at_37_energies(snapshots(sets, (("al4", "train"),))),
            "al8": at_37_energies(snapshots(sets, (("al8", "all"),))),
            "volumes": read_split(bundle, SETTINGS, "train"),
        }
        judges = {
            "al4": at_37_energies(snapshots(sets, (("al4", "validation"),))),
            "al16": at_37_energies(snapshots(sets, (("al16", "all"),))),
        }
        unseen = {name: at_37_energies(snapshots(sets, some)) for name, some in UNSEEN.items()} | {"ideal": ideal}
        for energies, more, judge, scale in CASES:
            started = time.process_time()
            train = [d for name in ("al4", *more) for d in parts[name]]
            own = judges[judge] + (read_split(bundle, SETTINGS, "validation") if "volumes" in more else [])
            data = TrainingData(train, own, info.energy_grid, Scaling.fit(train), SETTINGS, info.species, info.dft)
            data = data.relative_to_fermi_levels() if energies == "fermi" else data
            config = SurrogateConfig.of({"training": "none", "width": 512, "energies": energies, "weight_scale": scale})
            trained = fit(config, data, seeds=[7])
            row = {"energies": energies, "with": more, "judged by": judge, "scale": scale}
            row["fitted"] = trained.fitted.split("; ")[1]
            row |= {name: judged(trained, data, some, info.energy_grid) for name, some in unseen.items()}
            if "volumes" in more:  # the card takes its energies from the bundle, whose Fermi levels are the highest
                pairs = ((d, evaluated(trained.network, d, data=data)) for d in data.validation)
                accuracy = judgement_of(pairs, data.energy_grid).accuracy
                card = card_for("benchmarks/volumes_and_sizes.py", config, [7], bundle, SETTINGS, accuracy)
                row |= along(Model.assemble(card, trained.network.arrays() | data.scaling.tensors()), rows)
            row["CPU s"] = round(time.process_time() - started)
            print(json.dumps(row, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
