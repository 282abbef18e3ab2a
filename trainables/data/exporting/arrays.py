"""Export to the layout that ``importing/arrays.py`` reads: JSON, and .npy files."""

import json
from pathlib import Path

from ase.data import chemical_symbols

from ...files import write_text
from ...physics.units import RYDBERG
from ..dataset import Dataset
from ..snapshot import Snapshot
from .npy import write_npy


def write_arrays(dataset: Dataset, snapshot: Snapshot, folder: Path) -> None:
    """Write one snapshot into a folder."""
    s, grid, info = snapshot, dataset.info.energy_grid, dataset.info
    symbols = [chemical_symbols[number] for number in s.numbers]
    record = {
        "config": {
            "cell_angstrom": s.cell.tolist(),
            "positions_angstrom": s.positions.tolist(),
            "symbols": symbols,
            "zval": {symbol: info.species[symbol] for symbol in sorted(set(symbols))},
            "energy_grid_ev": {
                "emin": grid.minimum,
                "spacing": grid.spacing,
                "count": grid.n_energy,
                "kernel": grid.kernel,
                "width": grid.width,
            },
            "ecutrho_ry": None if info.dft is None else info.dft.density_cutoff / RYDBERG,
        },
        "fft": list(s.grid),
        "ldos_unit": "1/(eV Å³)",
        "n_electrons": s.n_electrons,
        "temperature_k": s.temperature,
        "fermi_ev": s.fermi_level,
        "band_energy_ev": s.band_energy,
        "minus_ts_ev": s.entropy_term,
        "total_energy_ev": s.total_energy,
        "qe_terms_ev": {"hartree": s.hartree_energy, "xc": s.xc_energy, "ewald": s.ewald_energy},
        "forces_ev_per_angstrom": None if s.forces is None else s.forces.tolist(),
        "stress_ev_per_angstrom3": None if s.stress is None else s.stress.tolist(),
        "group": s.group,
    }
    write_text(folder / f"{s.id}.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    write_npy(folder / f"{s.id}.ldos.npy", (*s.grid, grid.n_energy), dataset.ldos(s).stored())
    if s.density_sha256 is not None:
        write_npy(folder / f"{s.id}.dens.npy", s.grid, dataset.density(s).stored())
