"""Claim: snapshots that a surrogate chooses bring it to 1 meV/atom in larger cells with fewer of them than random ones.

Real aluminium (../shared/data), whose DFT is done: a pool of 18 cells of 4 atoms, 5 of 8 and one of 16.  Two random
ones of 4 atoms come first; then each surrogate chooses from the pool (``LdosSurrogate.lessons``), or chance does, or
chance among the largest cells.  Judged by the mean |A - A_DFT| of two cells of 8 atoms and of one of 32, of which
nothing is known to the surrogate.
Cheap: 1 x 256 silu, one initialisation, 3.0 Å, 2J_max 8, and a penalty of 100, which larger cells choose where there
are some.

    python benchmarks/growth.py [--seeds 1 2 3] [--ways chosen random larger] [--figure FILE]
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from readout import SETTINGS, SHARED, described, snapshots

from dftune.trainables.data.dataset import Dataset
from dftune.trainables.data.structure_distance import atoms_of
from dftune.trainables.drawing import BLUE, GREY, ORANGE, save
from dftune.trainables.ldos.card import card_for
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.judgement import judge
from dftune.trainables.ldos.neighbours import Neighbours
from dftune.trainables.ldos.readout.fit import evaluated, fit
from dftune.trainables.ldos.surrogate import LdosSurrogate
from dftune.trainables.ldos.training_data import Scaling, SnapshotData, TrainingData

CONFIG = SurrogateConfig.of({"training": "none", "width": 256, "penalty": 100.0})
SIZES = (2, 4, 6, 8, 10, 12)
POOL = (("al4", "train"), *(("al8_more", f"{n:03d}") for n in range(1, 6)), ("al16", "000"))
JUDGES = (("al4", "006"),)
UNSEEN = {"al8": (("al8", "all"),), "al32": (("al32", "all"),)}
COLORS = {"chosen": ORANGE, "random": BLUE, "larger": GREY}


class Curve:
    """A surrogate that learns more and more of a pool."""

    def __init__(self, sets: dict[str, Dataset], seed: int) -> None:
        self.sets, self.seed, self.pool = sets, seed, snapshots(sets, POOL)
        self.judges = snapshots(sets, JUDGES)
        self.unseen = {name: snapshots(sets, parts) for name, parts in UNSEEN.items()}
        self.rng = np.random.default_rng(seed)
        self.known = [int(n) for n in self.rng.choice(18, 2, replace=False)]

    def learn(self) -> dict[str, Any]:
        """Fit what is known, and judge it."""
        started, some = time.process_time(), [self.pool[n] for n in self.known]
        info = self.sets["al4"].info
        scaling = Scaling.fit(some)
        data = TrainingData(some, self.judges, info.energy_grid, scaling, SETTINGS, info.species, info.dft)
        trained = fit(CONFIG, data, seeds=[self.seed], posterior=True)
        accuracy = judge(trained.network, scaling, data.energy_grid, self.judges, ingredients=data.ingredients).accuracy
        card = card_for("growth", CONFIG, [self.seed], self.sets["al4"], SETTINGS, accuracy)
        self.surrogate = LdosSurrogate(card, trained.network, scaling, Neighbours.fit(data), trained.posterior)
        errors = {name: _error(trained, data, unseen) for name, unseen in self.unseen.items()}
        atoms = sum(d.snapshot.n_atoms for d in some)
        return {"snapshots": len(some), "atoms": atoms, **errors, "cpu_s": time.process_time() - started}

    def grow(self, number: int, way: str) -> str:
        """Add so many of the pool, and say why."""
        left = [n for n in range(len(self.pool)) if n not in self.known]
        if way == "random":
            self.known += [int(n) for n in self.rng.choice(left, number, replace=False)]
            return ""
        if way == "larger":
            order = [int(n) for n in self.rng.permutation(left)]
            self.known += sorted(order, key=lambda n: -self.pool[n].snapshot.n_atoms)[:number]
            return ""
        found = self.surrogate.lessons([atoms_of(self.pool[n].snapshot) for n in left], number)
        self.known += [left[one.number] for one in found.chosen]
        return f"{', '.join(f'{one.n_atoms} atoms, {one.worth:.2f}' for one in found.chosen)}; {found.expected}"


def _error(trained: Any, data: TrainingData, unseen: Sequence[SnapshotData]) -> float:
    """Mean |error| of the free energy [meV/atom]."""
    return 1e3 * float(np.mean([np.abs(evaluated(trained.network, d, data=data).free_energy) for d in unseen]))


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """The curves, thin ones of each seed and a thick one of their median."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    panels = figure.subplots(1, len(UNSEEN), sharey=True)
    for panel, name in zip(panels, UNSEEN, strict=True):
        for way in dict.fromkeys(row["way"] for row in rows):
            mine = [row for row in rows if row["way"] == way]
            for seed in dict.fromkeys(row["seed"] for row in mine):
                one = [row for row in mine if row["seed"] == seed]
                panel.plot([r["snapshots"] for r in one], [r[name] for r in one], color=COLORS[way], alpha=0.3, lw=1)
            sizes = sorted({row["snapshots"] for row in mine})
            middle = [float(np.median([row[name] for row in mine if row["snapshots"] == n])) for n in sizes]
            panel.plot(sizes, middle, color=COLORS[way], marker="o", markersize=4, label=f"{way}, median")
        panel.axhline(1.0, color=GREY, linestyle="--", lw=1)
        panel.set(xlabel="training snapshots", title=f"{name.removeprefix('al')} atoms", yscale="log")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("error of the free energy [meV/atom]")
    panels[0].legend(frameon=False)
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--ways", nargs="+", default=list(COLORS))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--figure", type=Path)
    asked = parser.parse_args()
    if not SHARED.is_dir():
        raise SystemExit("the raw data of aluminium are not here")
    torch.set_num_threads(1)
    sets, rows = {}, []
    with tempfile.TemporaryDirectory() as temporary:
        for name in ("al4", "al8", "al8_more", "al16", "al32"):
            sets[name] = described(name, Path(temporary) / name)
        for seed in asked.seeds:
            for way in asked.ways:
                curve = Curve(sets, seed)
                for size in asked.sizes:
                    why = curve.grow(size - len(curve.known), way) if size > len(curve.known) else ""
                    rows.append({"way": way, "seed": seed, **curve.learn(), "chosen": why})
                    print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
    if asked.figure is not None:
        draw(rows, asked.figure)


if __name__ == "__main__":
    main()
