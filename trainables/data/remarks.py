"""What stands out among the snapshots of a dataset: outliers, near duplicates; and their DOS as a figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .snapshot import Snapshot
from .structure_distance import atoms_of, near_duplicates, radial_distribution

if TYPE_CHECKING:
    from .dataset import Dataset

FEWEST = 6  # snapshots, below which nothing is an outlier
FAR = 6.0  # median deviations; of 1,000 normal values none is as far
# Quantity -> its value of a snapshot, by an atom where the size of the cell counts; None where it is not known.
_QUANTITIES = {
    "volume of an atom": lambda s: s.volume / s.n_atoms,
    "free energy of an atom": lambda s: None if s.total_energy is None else s.total_energy / s.n_atoms,
    "band energy of an atom": lambda s: None if s.band_energy is None else s.band_energy / s.n_atoms,
    "Fermi level": lambda s: s.fermi_level,
    "largest force": lambda s: None if s.forces is None else float(np.abs(s.forces).max()),
}


def outliers(snapshots: Sequence[Snapshot]) -> list[str]:
    """A line for each snapshot that is far from the others of its group and temperature in some quantity."""
    lines, groups = list[str](), dict[tuple[str, float], list[Snapshot]]()
    for s in snapshots:
        groups.setdefault((s.group, round(s.temperature, 1)), []).append(s)
    for members in groups.values():
        for what, quantity in _QUANTITIES.items():
            known = [(s, value) for s in members if (value := quantity(s)) is not None]
            if len(known) < FEWEST:
                continue
            values = np.array([value for _, value in known])
            middle = float(np.median(values))
            usual = 1.4826 * float(np.median(np.abs(values - middle)))  # the standard deviation of a normal spread
            for s, value in known:
                if abs(value - middle) > FAR * max(usual, 1e-6 * abs(middle), 1e-12):
                    lines.append(
                        f"outlier: the {what} of snapshot '{s.id}' is {value:.5g}, of the others {middle:.5g} ± "
                        f"{usual:.2g}"
                    )
    return lines


def remarks(snapshots: Sequence[Snapshot]) -> list[str]:
    """Outliers, and structures that are nearly the same, for people."""
    named = ((s.id, radial_distribution(atoms_of(s))) for s in snapshots)
    twins = [
        f"near duplicates: snapshots '{a}' and '{b}' have radial distribution functions {100 * off:.2g} % apart"
        for a, b, off in near_duplicates(named)
    ]
    return [*outliers(snapshots), *twins]


def draw_dos(dataset: "Dataset", path: Path) -> None:
    """Draw the DOS of an atom of all snapshots and their spread, relative to their Fermi levels, as a PNG file.

    Raises:
        InputError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    from ..drawing import BLUE, GREY, ORANGE, save

    grid = dataset.info.energy_grid
    curves = np.array([dataset.dos(s) / s.n_atoms for s in dataset])
    levels = [dataset.energies(s).fermi_level if s.fermi_level is None else s.fermi_level for s in dataset]
    figure = Figure(figsize=(7, 6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for curve in curves:
        top.plot(grid.energy, curve, color=GREY, linewidth=0.6, alpha=0.6)
    top.plot(grid.energy, curves.mean(axis=0), color=BLUE, label=f"mean of {len(curves)} snapshots")
    top.axvspan(min(levels), max(levels) + 1e-9, color=ORANGE, alpha=0.3, label="Fermi levels")
    top.set_ylabel("DOS [1/(eV atom)]")
    top.legend(frameon=False)
    bottom.plot(grid.energy, curves.std(axis=0), color=BLUE)
    bottom.set_ylabel("spread [1/(eV atom)]")
    bottom.set_xlabel("energy [eV]")
    figure.suptitle(f"{dataset.name}: DOS of each snapshot, and their standard deviation")
    save(figure, path)
