"""Claim: the band energy from the true LDOS meets the DFT's to 1 meV/atom, mean and mean |error|, by least squares.

LDOS on energies 0.5 eV apart (37 for Al), broadened by a Gaussian of 0.5 eV; the linear rule stands beside it.

    python benchmarks/band_energy.py
"""

import json
import os
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

from dftune.trainables.data.dataset import Dataset
from dftune.trainables.data.energy_grid import EnergyGrid
from dftune.trainables.data.importing.importers import import_dataset
from dftune.trainables.physics.energies import energies

ROOT = Path(__file__).resolve().parents[1]
SPACING = 0.5  # eV; finer grids are thinned to it
VERSIONS = {"numpy": version("numpy"), "scipy": version("scipy"), "cpus": os.cpu_count()}


def rows(dataset: Dataset, name: str) -> None:
    """One row a rule and spacing."""
    stored = dataset.info.energy_grid
    curves = [dataset.dos(s) for s in dataset.snapshots]
    for step in sorted({1, round(SPACING / stored.spacing)}, reverse=True):
        n_energy = len(range(0, stored.n_energy, step))
        grid = EnergyGrid.model_validate(stored.model_dump() | {"spacing": step * stored.spacing, "n_energy": n_energy})
        for rule in ("least-squares", "linear"):
            errors = []
            for s, dos in zip(dataset.snapshots, curves, strict=True):
                found = energies(dos[::step], grid.quadrature(rule), electrons=s.n_electrons, temperature=s.temperature)
                errors.append(1e3 * (found.band - s.band_energy) / s.n_atoms)
            row = {
                "case": "band energy",
                "dataset": name,
                "n_snapshots": len(errors),
                "rule": rule,
                "n_energy": n_energy,
                "spacing_ev": grid.spacing,
                "width_ev": grid.width,
                "temperature_k": round(dataset.snapshots[0].temperature),
                "mean_mev_atom": np.mean(errors),
                "mean_abs_mev_atom": np.abs(errors).mean(),
                "max_abs_mev_atom": np.abs(errors).max(),
                "claimed": 1.0 if rule == "least-squares" and grid.spacing == SPACING else None,
            }
            print(json.dumps(row | VERSIONS), flush=True)


def main() -> None:
    rows(Dataset.open(ROOT / "examples" / "al4"), "examples/al4")
    for name in ("al4", "al4_933K", "be4"):
        source = ROOT.parent / "shared" / "data" / name
        if not source.is_dir():
            print(
                json.dumps({"case": "band energy", "dataset": f"shared/data/{name}", "skipped": "not here"} | VERSIONS)
            )
            continue
        with tempfile.TemporaryDirectory() as folder:
            rows(import_dataset([source], Path(folder) / name), f"shared/data/{name}")


if __name__ == "__main__":
    main()
