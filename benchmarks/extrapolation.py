"""Claim: of the predictions off by more than five times the stated test error, at least 95 % are flagged.

Surrogates trained on 18 cells of four aluminium atoms of one lattice constant (../shared/data/al4; those of
``surrogate.py``) predict cells that are strained, displaced more, larger, or have surfaces, vacancies or hardly any
atoms.  ``extrapolation.jsonl`` holds the free energies of the structures that are not in ../shared: Quantum ESPRESSO
6.7 as in ../shared/data/al4, but with a shifted mesh of 6 k-points for 4.05 Å, which is 5 meV/atom off the denser one.
Flagged: ``Prediction.outside_training`` is not empty.  A row for each structure, and one for each group and for all:
how many were bad, and good, and how many of each were flagged.

    python benchmarks/extrapolation.py [FOLDER]     models are kept in, or read from, FOLDER
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase
from surrogate import SETTINGS, SHARED, TEST, VALIDATION, trained_on

from dftune.platform.model.model import Model
from dftune.trainables.data.importing.importers import import_dataset

BAD = 5  # times the stated test error


def structures(sets: dict[str, Any]) -> Iterator[tuple[str, str, ase.Atoms, float]]:
    """Group, name, atoms and free energy of DFT [eV]."""
    for name, dataset in sets.items():
        for s in dataset.split("test") if name == "al4" else dataset.snapshots:
            size = s.group.removeprefix("displacement ")
            group = f"{name} {size}" if name == "al4" else name
            yield group, s.id, ase.Atoms(s.numbers, s.positions, cell=s.cell, pbc=True), s.total_energy
    for line in (Path(__file__).parent / "extrapolation.jsonl").read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        positions = one["positions"]
        atoms = ase.Atoms(["Al"] * len(positions), positions, cell=one["cell"], pbc=True)
        yield one["group"], one["name"], atoms, one["energy"]


def main() -> None:
    if not SHARED.is_dir():
        raise SystemExit("the raw data of aluminium are not here")
    with tempfile.TemporaryDirectory() as temporary:
        folder, sets = Path(sys.argv[1] if len(sys.argv) > 1 else temporary), {}
        for name in ("al4", "al8", "al8_more", "al16", "al32"):
            splits = {"validation": VALIDATION, "test": TEST} if name == "al4" else {}
            sets[name] = import_dataset(
                [SHARED / name], Path(temporary) / name, pseudopotentials=SHARED / "al4", source=name, **splits
            )
        for settings in SETTINGS:
            path = folder / f"al4-{settings.cutoff:g}-{settings.two_j_max}.model"
            if not path.is_dir():
                trained_on(sets["al4"], settings).save(path)
            judge(Model.open(path), path.stem, structures(sets))


def judge(model: Model, name: str, cells: Iterator[tuple[str, str, ase.Atoms, float]]) -> None:
    """Print a row for each structure, and the counts."""
    stated = model.card.accuracy.band_energy_mae
    counts: dict[str, dict[str, int]] = {}
    for group, which, atoms, energy in cells:
        row: dict[str, Any] = {"model": name, "group": group, "structure": which}
        try:
            found = model.predict(atoms)
            error, flagged = 1e3 * (found.free_energy - energy) / len(atoms), bool(found.outside_training)
            row |= {"expected": found.expected_errors, "distance": found.distance, "furthest": found.furthest}
        except ValueError as refusal:
            error, flagged = None, True
            row |= {"refused": str(refusal)}
        row |= {"error_mev_per_atom": error, "flagged": flagged}
        print(json.dumps(row, ensure_ascii=False), flush=True)
        bad = error is None or abs(error) > BAD * stated
        for part in (group, "all"):
            count = counts.setdefault(part, dict.fromkeys(("bad", "bad_flagged", "good", "good_flagged"), 0))
            count["bad" if bad else "good"] += 1
            count["bad_flagged" if bad else "good_flagged"] += flagged
    for group, count in counts.items():
        row = {"model": name, "stated_error_mev_per_atom": stated, "group": group}
        print(json.dumps(row | count, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
