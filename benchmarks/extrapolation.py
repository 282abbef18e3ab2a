"""Claim: of the predictions off by more than five times the stated test error, at least 95 % are flagged.

Surrogates trained on 18 cells of four aluminium atoms of one lattice constant (../shared/data/al4; those of
``surrogate.py``, or with ``--quick`` of three trainings of 12 epochs) predict cells that are strained, displaced more,
larger, or have surfaces, vacancies or hardly any atoms.  ``extrapolation.jsonl`` holds the free energies of the
structures that are not in ../shared: Quantum ESPRESSO 6.7 as in ../shared/data/al4, but with a shifted mesh of 6
k-points for 4.05 Å, which is 5 meV/atom off the denser one.

Flagged: ``Prediction.outside_training`` is not empty.  A row for each structure, and one for each group and for all:
how many were bad, and good, and how many of each were flagged.  Then the same with the limit of the distance (``NEAR``)
chosen elsewhere, as the largest that flags 95 % of the bad ones: on a random half of the structures and judged on the
other half, 200 times, and on all groups but one and judged on that one.

    python benchmarks/extrapolation.py [FOLDER] [--quick]     models are kept in, or read from, FOLDER
    python benchmarks/extrapolation.py --model MODEL          of one surrogate of al4, untrained/model of the demo say
"""

import argparse
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import numpy as np
from surrogate import CONFIG, SETTINGS, SHARED, TEST, VALIDATION, trained_on

from dftune.platform.model.model import Model
from dftune.trainables.data.importing.importers import import_dataset
from dftune.trainables.ldos.prediction import FAR

BAD = 5  # times the stated test error
WANTED = 0.95  # of the bad ones are to be flagged
LIMITS = np.arange(1.0, 4.0, 0.01)
SPLITS = 200


@dataclass(frozen=True)
class Judged:
    """A predicted structure: whether it is bad, flagged, and flagged whatever its distance, and that distance."""

    group: str
    bad: bool
    flagged: bool
    anyway: bool
    distance: float

    def beyond(self, limit: float) -> bool:
        """Whether it is flagged with another limit of the distance."""
        return self.anyway or self.distance > limit


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--model", type=Path)
    arguments = parser.parse_args()
    if not SHARED.is_dir():
        raise SystemExit("the raw data of aluminium are not here")
    how = (CONFIG.model_copy(update={"epochs": 12}), range(3)) if arguments.quick else (CONFIG, range(5))
    with tempfile.TemporaryDirectory() as temporary:
        folder, sets = arguments.folder or Path(temporary), {}
        for name in ("al4", "al8", "al8_more", "al16", "al32"):
            splits = {"validation": VALIDATION, "test": TEST} if name == "al4" else {}
            sets[name] = import_dataset(
                [SHARED / name], Path(temporary) / name, pseudopotentials=SHARED / "al4", source=name, **splits
            )
        paths = {} if arguments.model else {s: folder / f"al4-{s.cutoff:g}-{s.two_j_max}.model" for s in SETTINGS}
        for settings, path in paths.items():
            if not path.is_dir():
                trained_on(sets["al4"], settings, *how).save(path)
        for path in [arguments.model] if arguments.model else paths.values():
            model = Model.open(path)
            found = judge(model, path.stem, structures(sets))
            about = {"model": path.stem, "stated_error_mev_per_atom": stated(model)}
            for group in [*dict.fromkeys(one.group for one in found), "all"]:
                print_row({**about, "group": group, **counts([j for j in found if group in (j.group, "all")])})
            for row in chosen_elsewhere(found):
                print_row(about | row)


def print_row(row: dict[str, Any]) -> None:
    print(json.dumps(row, ensure_ascii=False), flush=True)


def stated(model: Model) -> float:
    """The test error of the free energy [meV/atom]."""
    error = model.card.accuracy.free_energy_mae
    assert error is not None
    return error


def judge(model: Model, name: str, cells: Iterable[tuple[str, str, ase.Atoms, float]]) -> list[Judged]:
    """Predict all structures; print a row for each."""
    found = []
    for group, which, atoms, energy in cells:
        row: dict[str, Any] = {"model": name, "group": group, "structure": which}
        try:
            p = model.predict(atoms)
        except ValueError as refusal:
            found.append(Judged(group, bad=True, flagged=True, anyway=True, distance=np.inf))
            print_row(row | {"refused": str(refusal)})
            continue
        assert p.free_energy is not None
        assert p.distance is not None
        error = 1e3 * (p.free_energy - energy) / len(atoms)
        one = Judged(
            group,
            bad=abs(error) > BAD * stated(model),
            flagged=bool(p.outside_training),
            anyway=bool(p.unlike) or p.furthest > FAR,
            distance=p.distance,
        )
        row |= {"expected": p.expected_errors, "distance": p.distance, "furthest": p.furthest, "anyway": one.anyway}
        print_row(row | {"error_mev_per_atom": error, "bad": one.bad, "flagged": one.flagged})
        found.append(one)
    return found


def counts(some: Sequence[Judged], limit: float | None = None) -> dict[str, int]:
    """How many are bad, and good, and how many of each are flagged, by the product or with another limit."""
    flagged = [j.flagged if limit is None else j.beyond(limit) for j in some]
    bad = [j.bad for j in some]
    return {
        "bad": sum(bad),
        "bad_flagged": sum(b and f for b, f in zip(bad, flagged, strict=True)),
        "good": len(bad) - sum(bad),
        "good_flagged": sum(not b and f for b, f in zip(bad, flagged, strict=True)),
    }


def best_limit(some: Sequence[Judged]) -> float:
    """The largest limit that flags as many of the bad ones as are wanted; the smallest one where none does."""
    bad = [j for j in some if j.bad]
    enough = [limit for limit in LIMITS if np.mean([j.beyond(limit) for j in bad] or [True]) >= WANTED]
    return float(max(enough, default=LIMITS[0]))


def chosen_elsewhere(found: Sequence[Judged]) -> Iterator[dict[str, Any]]:
    """Rows of limits that were chosen on other structures than they are judged on."""
    rng, n, totals, limits = np.random.default_rng(0), len(found), dict[str, int](), []
    for _ in range(SPLITS):
        order = rng.permutation(n)
        limits.append(best_limit([found[i] for i in order[: n // 2]]))
        for name, value in counts([found[i] for i in order[n // 2 :]], limits[-1]).items():
            totals[name] = totals.get(name, 0) + value
    spread = [float(np.quantile(limits, q)) for q in (0.1, 0.5, 0.9)]
    yield {"chosen on": "a random half", "splits": SPLITS, "limits_10_50_90_percent": spread, **totals}
    for group in dict.fromkeys(j.group for j in found):
        limit = best_limit([j for j in found if j.group != group])
        yield {"chosen on": f"all but {group}", "limit": limit, **counts([j for j in found if j.group == group], limit)}


if __name__ == "__main__":
    main()
