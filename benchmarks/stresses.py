"""Claim: stresses of one volume teach the readout how energies change with the volume.

1 x 1024 silu, 3.0 Å, 2J_max 8, seed 7; six training snapshots of examples/al4, or with them cells of other volumes of
examples/al_volumes.tar.xz, and the stresses of Quantum ESPRESSO in tests/data/al_stresses.json.  One row of JSON a
case: penalty, CPU seconds of the fit, and errors of A [meV/atom], forces [eV/Å] and stress [GPa] on test snapshots at
the volume of the training, crystals strained by up to 2 %, and larger cells where ../shared/data has them.

    python benchmarks/stresses.py [CASE ...]     numbers of cases, counted from 0; all by default
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dftune.tests.places import unpack
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.data.importing.importers import import_dataset
from dftune.trainables.data.snapshot import Snapshot
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.prediction import GPA
from dftune.trainables.ldos.readout.fit import evaluated, fit
from dftune.trainables.ldos.training_data import Scaling, SnapshotData, TrainingData

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
SETTINGS = BispectrumSettings(cutoff=3.0, two_j_max=8)
# What the stress of pw.x lacks to the slope of its energies, times the volume of an atom [eV]: 2/3 E ∂A/∂E an atom, of
# the crystal at 14.5 and 15.5 Ry.
FEW_WAVES = 2 / 3 * 15 * (-228.02272 + 227.98018) / 4
VOLUMES = ("ideal+00", "ideal-12", "ideal-09", "ideal-06", "ideal-03", "ideal+05", "ideal+08", "sheared-06")
STRAINED = ("ideal-3.969", "ideal-4.0095", "ideal-4.05", "ideal-4.0905", "ideal-4.131")
# Further cells, energies, weight of stresses, and share of ``FEW_WAVES`` that is added to them.
CASES: tuple[tuple[tuple[str, ...], str, float, float], ...] = (
    ((), "absolute", 0.0, 0.0),
    ((), "absolute", 1e11, 0.0),
    ((), "fermi", 0.0, 0.0),
    ((), "fermi", 1e8, 0.0),
    ((), "fermi", 1e11, 0.0),
    ((), "fermi", 1e11, 1.0),
    (VOLUMES, "fermi", 0.0, 0.0),
    (VOLUMES, "fermi", 1e8, 0.0),
    (VOLUMES, "fermi", 1e11, 0.0),
    (VOLUMES, "fermi", 1e11, 1.0),
)


class Cells:
    """Snapshots of all sets, with descriptors, each made once."""

    def __init__(self, folder: Path) -> None:
        self.known = json.loads((ROOT / "tests" / "data" / "al_stresses.json").read_text())["cells"]
        self.al4 = Dataset.open(str(ROOT / "examples" / "al4"))
        unpack(ROOT / "examples" / "al_volumes.tar.xz", folder)
        self.volumes = Dataset.open(str(folder / "al_volumes"))
        self.larger = {}
        for name in ("al8", "al8_more", "al16", "al32"):
            if (SHARED / name).is_dir():
                made = import_dataset([SHARED / name], folder / name, pseudopotentials=SHARED / "al4", source=name)
                self.larger[name] = [self._data(s) for s in made.snapshots]

    def _data(self, s: Snapshot, ds: Dataset | None = None) -> SnapshotData:
        b = bispectrum(s.cell, s.positions, s.numbers, s.grid, SETTINGS)
        return SnapshotData(s, [b], () if ds is None else ds.ldos(s).stored())

    def of_al4(self, names: Iterable[str]) -> list[SnapshotData]:
        return [self._data(self.al4[name], self.al4) for name in names]

    def stressed(self, data: Iterable[SnapshotData], share: float) -> list[SnapshotData]:
        """With what pw.x gives, and a share of what it lacks."""
        found = []
        for d in data:
            s, one = d.snapshot, self.known.get(d.snapshot.id) or self.known[f"al4-{d.snapshot.id}"]
            more = share * FEW_WAVES * s.n_atoms / s.volume * np.eye(3)
            found.append(replace(d, snapshot=replace(s, stress=np.array(one["stress"]) + more)))
        return found

    def strained(self, names: Iterable[str]) -> list[SnapshotData]:
        found = []
        for name in names:
            one = self.known[name]
            arrays = {key: np.array(one[key]) for key in ("cell", "positions", "forces", "stress")}
            s = replace(self.al4["000"], id=name, total_energy=one["total_energy"], band_energy=None, **arrays)
            found.append(self._data(s))
        return found


def errors(network: Any, data: TrainingData, some: list[SnapshotData]) -> dict[str, Any]:
    found = [evaluated(network, d, data=data, forces=True, ldos=False) for d in some]
    stress = [GPA * float(np.abs(e.stress).mean()) for e in found if e.stress is not None]
    return {
        "free_energy": [round(1e3 * float(e.free_energy[0]), 2) for e in found],
        "forces": [round(float(np.abs(e.forces).mean()), 4) for e in found if e.forces is not None],
    } | ({"stress": [round(x, 2) for x in stress]} if stress else {})


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        cells = Cells(Path(temporary))
        six, validation = (cells.of_al4(ids) for ids in ([f"00{i}" for i in range(6)], ("006", "007", "008")))
        others = [cells._data(s, cells.volumes) for s in cells.volumes.snapshots if s.id in VOLUMES]
        judged = {
            "same volume": cells.of_al4(("009", "010", "011")),
            "strained": cells.strained(STRAINED),
            "sheared, stretched": cells.strained(("ideal-shear", "ideal-uni")),
            "displaced, -2 %": cells.strained(("al4-009-0.02",)),
            **cells.larger,
        }
        info = cells.al4.info
        for number in map(int, sys.argv[1:] or range(len(CASES))):
            further, energies, weight, share = CASES[number]
            train = cells.stressed(six + (others if further else []), share)
            about = SETTINGS, info.species, info.dft
            data = TrainingData(train, validation, info.energy_grid, Scaling.fit(train), *about)
            data = data.relative_to_fermi_levels() if energies == "fermi" else data
            config = SurrogateConfig.of({"training": "none", "energies": energies, "stress_weight": weight})
            started = time.process_time()
            made = fit(config, data, seeds=[7])
            row = {"case": number, "training": len(train), "energies": energies, "weight": weight, "share": share}
            row |= {"cpu_s": round(time.process_time() - started, 1), "penalty": made.penalty}
            row |= {"training errors": errors(made.network, data, list(data.train))}
            print(
                json.dumps(row | {name: errors(made.network, data, some) for name, some in judged.items()}), flush=True
            )


if __name__ == "__main__":
    main()
