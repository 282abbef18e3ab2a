"""Claim: a random network with a last layer in closed form is right to half a meV/atom, in about half a minute.

1 x 1024 silu at 3.0 Å, 2J_max 8, on aluminium (../shared/data); each case for three seeds, one row of JSON a seed:
CPU seconds from descriptors to model, the penalty, and errors on unseen snapshots: mean |A - A_DFT| [meV/atom], mean
|force component| [eV/Å], and LDOS error, 1 - R².

    python benchmarks/readout.py [CASE ...]     cases as in CASES; all by default
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dftune.trainables.data.dataset import Dataset
from dftune.trainables.data.importing.importers import import_dataset
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.judgement import judge
from dftune.trainables.ldos.readout.fit import evaluated, fit
from dftune.trainables.ldos.training_data import Scaling, SnapshotData, TrainingData

SHARED = Path(__file__).parents[2] / "shared" / "data"
SETTINGS = BispectrumSettings(cutoff=3.0, two_j_max=8)
SEEDS = (7, 8, 9)
VALIDATION, TEST = ["006", "007", "008", "018", "019", "020"], ["009", "010", "011", "021", "022", "023"]
SMALL = (("al4", "train"),)
Parts = Sequence[tuple[str, str]]  # (set, split or id or "all")
# Case -> config beyond the defaults, training, validation, and what is judged.
CASES: dict[str, tuple[dict[str, Any], Parts, Parts, dict[str, Parts]]] = {
    "al4": ({}, SMALL, (("al4", "validation"),), {"al4": (("al4", "test"),)}),
    "al4, LDOS alone": (
        {"energy_weight": 0.0, "force_weight": 0.0},
        SMALL,
        (("al4", "validation"),),
        {"al4": (("al4", "test"),)},
    ),
    "al4, energies": ({"force_weight": 0.0}, SMALL, (("al4", "validation"),), {"al4": (("al4", "test"),)}),
    "al4, forces": ({"energy_weight": 0.0}, SMALL, (("al4", "validation"),), {"al4": (("al4", "test"),)}),
    "al4, width 512": ({"width": 512}, SMALL, (("al4", "validation"),), {"al4": (("al4", "test"),)}),
    "with al8": (
        {},
        (*SMALL, ("al8", "all"), ("al8_more", "all")),
        (("al16", "all"),),
        {"al16": (("al16", "all"),), "al32": (("al32", "all"),)},
    ),
    "with al16": ({}, (*SMALL, ("al16", "all")), (("al4", "validation"),), {"al32": (("al32", "all"),)}),
    "to 933 K": ({}, SMALL, (("al4", "validation"),), {"al4_933K": (("al4_933K", "all"),)}),
    "from 933 K": (
        {},
        (("al4_933K", "000"), ("al4_933K", "001")),
        (("al4_933K", "002"),),
        {"al4": (("al4", "test"),)},
    ),
    "to al8": ({}, SMALL, (("al4", "validation"),), {"al8": (("al8", "all"), ("al8_more", "all"))}),
}


def described(name: str, place: Path) -> Dataset:
    """A set of the raw data, with descriptors."""
    splits = {"validation": VALIDATION, "test": TEST} if name == "al4" else {}
    found = import_dataset([SHARED / name], place, pseudopotentials=SHARED / "al4", source=name, **splits)
    return with_descriptors(found)


def with_descriptors(found: Dataset) -> Dataset:
    for s in found.without_descriptors(SETTINGS):
        found.write_descriptors(s, SETTINGS, bispectrum(s.cell, s.positions, s.numbers, s.grid, SETTINGS))
    return found


def snapshots(sets: dict[str, Dataset], parts: Parts) -> list[SnapshotData]:
    """The snapshots of some parts of the sets, in files."""
    found = []
    for name, which in parts:
        ds = sets[name]
        chosen = ds.split(which) if which in ("train", "validation", "test") else ds.snapshots  # type: ignore[arg-type]
        chosen = chosen if which in ("train", "validation", "test", "all") else [ds[which]]
        found += [SnapshotData(s, ds.descriptors(s, SETTINGS).stored(), ds.ldos(s).stored()) for s in chosen]
    return found


def errors(trained: Any, data: TrainingData, some: Sequence[SnapshotData]) -> dict[str, Any]:
    """Errors over some snapshots, and of A one by one."""
    found = [evaluated(trained.network, d, data=data, forces=True) for d in some]
    free = [1e3 * float(e.free_energy[0]) for e in found]
    forces = [float(np.abs(e.forces).mean()) for e in found if e.forces is not None]
    accuracy = judge(trained.network, data.scaling, data.energy_grid, some).accuracy
    return {
        "free_energy": float(np.mean(np.abs(free))),
        "forces": float(np.mean(forces)) if forces else None,
        "ldos": 1 - accuracy.ldos_r2,
        "band_energy": accuracy.band_energy_mae,
        "each": {d.snapshot.id: round(value, 2) for d, value in zip(some, free, strict=True)},
    }


def main() -> None:
    if not SHARED.is_dir():
        raise SystemExit("the raw data of aluminium are not here")
    torch.set_num_threads(1)
    chosen = sys.argv[1:] or list(CASES)
    with tempfile.TemporaryDirectory() as temporary:
        sets = {}
        used = {name for case in chosen for parts in (*CASES[case][1:3], *CASES[case][3].values()) for name, _ in parts}
        for name in sorted(used):
            sets[name] = described(name, Path(temporary) / name)
        about = {n: version(n) for n in ("torch", "numpy")} | {"cpus": os.cpu_count()}
        for case in chosen:
            values, *parts, judged = CASES[case]
            train, validation = (snapshots(sets, part) for part in parts)
            info = sets[parts[0][0][0]].info
            for seed in SEEDS:
                started = time.process_time()
                data = TrainingData(
                    train, validation, info.energy_grid, Scaling.fit(train), SETTINGS, info.species, info.dft
                )
                trained = fit(SurrogateConfig.of({"training": "none", **values}), data, seeds=[seed])
                row = {"case": case, "seed": seed, "cpu_s": time.process_time() - started, "fitted": trained.fitted}
                row |= {name: errors(trained, data, snapshots(sets, some)) for name, some in judged.items()}
                print(json.dumps(row | about, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
