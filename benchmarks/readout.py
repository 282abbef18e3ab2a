"""Claim: a random network with a last layer in closed form is right to half a meV/atom, in about half a minute.

1 x 1024 silu at 3.0 Å, 2J_max 8, unless a case says another, on aluminium (../shared/data), and a network trained by
Adam beside it; each case for three seeds, one row of JSON a seed: CPU seconds from descriptors to model, the penalty,
and errors on unseen snapshots: mean |A - A_DFT| [meV/atom], mean |force component| [eV/Å], LDOS error, 1 - R², and that
of the DOS [1/(eV atom)].

    python benchmarks/readout.py [CASE[:SEED] ...]     cases as in CASES; all of them and three seeds by default
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
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
from dftune.trainables.ldos.readout import motions
from dftune.trainables.ldos.readout.fit import evaluated, fit
from dftune.trainables.ldos.training import Trained, train
from dftune.trainables.ldos.training_data import Scaling, SnapshotData, TrainingData

SHARED = Path(__file__).parents[2] / "shared" / "data"
SETTINGS = BispectrumSettings(cutoff=3.0, two_j_max=8)
SEEDS = (7, 8, 9)
VALIDATION, TEST = ["006", "007", "008", "018", "019", "020"], ["009", "010", "011", "021", "022", "023"]
Parts = Sequence[tuple[str, str]]  # (set, split or id or "all")
SMALL, OF_SMALL, UNSEEN = (("al4", "train"),), (("al4", "validation"),), {"al4": (("al4", "test"),)}
AL8, AL16, AL32 = (("al8", "all"), ("al8_more", "all")), (("al16", "all"),), {"al32": (("al32", "all"),)}
# Of eight cells of 8 atoms two are displaced by 0.15 Å, the others by 0.05 and 0.10.
MILD = (("al8", "all"), *(("al8_more", name) for name in ("000", "001", "003", "004")))
HARD = {"al8 at 0.15": (("al8_more", "002"), ("al8_more", "005"))}
TRAINED = {"training": "adam", "n_layers": 2, "width": 256, "activation": "silu", "learning_rate": 1e-3, "epochs": 30}
LDOS_ALONE: dict[str, Any] = {"energy_weight": 0.0, "force_weight": 0.0}
SMALLER: dict[str, Any] = {"weight_scale": 0.3}
SMOOTH = SMALLER | {"penalty": 0.1}
OTHERS = UNSEEN | AL32 | {"al8 to 0.10": MILD} | HARD
COLD = (("al4_933K", "all"),)
# Case -> config beyond the defaults, training, validation, and what is judged.
CASES: dict[str, tuple[dict[str, Any], Parts, Parts, dict[str, Parts]]] = {
    "al4": ({}, SMALL, OF_SMALL, OTHERS),
    "al4, LDOS alone": (LDOS_ALONE, SMALL, OF_SMALL, UNSEEN),
    "al4, energies": ({"force_weight": 0.0}, SMALL, OF_SMALL, UNSEEN),
    "al4, forces": ({"energy_weight": 0.0}, SMALL, OF_SMALL, UNSEEN),
    "al4, trained": (TRAINED, SMALL, OF_SMALL, UNSEEN | AL32),
    "al4, width 512": ({"width": 512}, SMALL, OF_SMALL, UNSEEN),
    "al4, width 1280, penalty 0.1": ({"width": 1280, "penalty": 0.1}, SMALL, OF_SMALL, UNSEEN),
    "with al8": ({}, (*SMALL, *AL8), AL16, UNSEEN | {"al16": AL16} | AL32),
    "with al8, chosen by al4": ({}, (*SMALL, *AL8), OF_SMALL, UNSEEN | {"al16": AL16} | AL32),
    "with al16": ({}, (*SMALL, *AL16), OF_SMALL, OTHERS),
    "with al8 to 0.10": ({}, (*SMALL, *MILD), OF_SMALL, UNSEEN | HARD | AL32),
    "with al8 to 0.10 and al16": ({}, (*SMALL, *MILD, *AL16), OF_SMALL, UNSEEN | HARD | AL32),
    "al4, DOS 1e6": ({"dos_weight": 1e6}, SMALL, OF_SMALL, UNSEEN),
    "al4, DOS 1e7": ({"dos_weight": 1e7}, SMALL, OF_SMALL, UNSEEN),
    "al4, LDOS and DOS 1e7 alone": (LDOS_ALONE | {"dos_weight": 1e7}, SMALL, OF_SMALL, UNSEEN),
    "al4, smaller weights": (SMALLER, SMALL, OF_SMALL, OTHERS),
    "al4, smaller weights, two cutoffs": (SMALLER, SMALL, OF_SMALL, OTHERS),
    "with al16, smaller weights": (SMALLER, (*SMALL, *AL16), OF_SMALL, OTHERS),
    "with al16, smaller weights, 4.2 and 3.0": (SMALLER, (*SMALL, *AL16), OF_SMALL, OTHERS),
    "with al16, smaller weights, two cutoffs": (SMALLER, (*SMALL, *AL16), OF_SMALL, OTHERS),
    "to 933 K": ({}, SMALL, OF_SMALL, {"al4_933K": COLD}),
    "to 933 K, three cutoffs": ({}, SMALL, OF_SMALL, {"al4_933K": COLD}),
    "to 933 K, two cutoffs": (SMOOTH, SMALL, OF_SMALL, {"al4_933K": COLD}),
    "from 933 K": ({}, (("al4_933K", "000"), ("al4_933K", "001")), (("al4_933K", "002"),), UNSEEN),
    "from 933 K, three cutoffs": ({}, (("al4_933K", "000"), ("al4_933K", "001")), (("al4_933K", "002"),), UNSEEN),
    "from all at 933 K, two cutoffs": (SMOOTH, COLD, (("al4_933K", "002"),), UNSEEN),
}
# What follows a comma in a case's name -> its descriptors, SETTINGS by default.
DESCRIPTORS = {
    "three cutoffs": BispectrumSettings(cutoff=4.2, inner=(3.6, 3.0), two_j_max=8),
    "two cutoffs": BispectrumSettings(cutoff=6.0, inner=(4.2,), two_j_max=8),
    "4.2 and 3.0": BispectrumSettings(cutoff=4.2, inner=(3.0,), two_j_max=8),
}


def described(name: str, place: Path) -> Dataset:
    """A set of the raw data, with descriptors."""
    splits = {"validation": VALIDATION, "test": TEST} if name == "al4" else {}
    found = import_dataset([SHARED / name], place, pseudopotentials=SHARED / "al4", source=name, **splits)
    return with_descriptors(found)


def with_descriptors(found: Dataset, settings: BispectrumSettings = SETTINGS) -> Dataset:
    for s in found.without_descriptors(settings):
        found.write_descriptors(s, settings, bispectrum(s.cell, s.positions, s.numbers, s.grid, settings))
    return found


def snapshots(sets: dict[str, Dataset], parts: Parts, settings: BispectrumSettings = SETTINGS) -> list[SnapshotData]:
    """The snapshots of some parts of the sets, in files."""
    found = []
    for name, which in parts:
        ds = with_descriptors(sets[name], settings)
        chosen = ds.split(which) if which in ("train", "validation", "test") else ds.snapshots  # type: ignore[arg-type]
        chosen = chosen if which in ("train", "validation", "test", "all") else [ds[which]]
        found += [SnapshotData(s, ds.descriptors(s, settings).stored(), ds.ldos(s).stored()) for s in chosen]
    return found


def made(config: SurrogateConfig, data: TrainingData, seed: int) -> Iterator[tuple[str, Trained, float]]:
    """Network and CPU seconds; a trained one first with its trained last layer, and then with that solved."""
    motions._kept.clear()  # derivatives of descriptors, which each makes for itself
    started = time.process_time()
    if config.training == "none":
        yield "", fit(config, data, seeds=[seed]), time.process_time() - started
        return
    trained = train(config, data, seeds=[seed])
    spent = time.process_time() - started
    yield "", trained, spent
    started = time.process_time()
    yield ", then solved", fit(config, data, seeds=[seed], trained=trained), spent + time.process_time() - started


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
        "dos": accuracy.dos_rmse,
        "each": {d.snapshot.id: round(value, 2) for d, value in zip(some, free, strict=True)},
    }


def main() -> None:
    if not SHARED.is_dir():
        raise SystemExit("the raw data of aluminium are not here")
    torch.set_num_threads(1)
    chosen = [argument.partition(":")[::2] for argument in sys.argv[1:] or CASES]
    with tempfile.TemporaryDirectory() as temporary:
        sets = {}
        used = {
            name for case, _ in chosen for parts in (*CASES[case][1:3], *CASES[case][3].values()) for name, _ in parts
        }
        for name in sorted(used):
            sets[name] = described(name, Path(temporary) / name)
        about = {n: version(n) for n in ("torch", "numpy")} | {"cpus": os.cpu_count()}
        for case, alone in chosen:
            values, *parts, judged = CASES[case]
            config = SurrogateConfig.of({"training": "none", **values})
            settings = DESCRIPTORS.get(case.rpartition(", ")[2], SETTINGS)
            train, validation = (snapshots(sets, part, settings) for part in parts)
            info = sets[parts[0][0][0]].info
            for seed in [int(alone)] if alone else SEEDS:
                data = TrainingData(
                    train, validation, info.energy_grid, Scaling.fit(train), settings, info.species, info.dft
                )
                for way, trained, spent in made(config, data, seed):
                    row = {"case": case + way, "seed": seed, "cpu_s": spent, "fitted": trained.fitted}
                    row |= {
                        name: errors(trained, data, snapshots(sets, some, settings)) for name, some in judged.items()
                    }
                    print(json.dumps(row | about, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
