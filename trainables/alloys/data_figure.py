"""What a dataset of an alloy holds, as a figure."""

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..drawing import REFERENCE, save
from .units import MRY

if TYPE_CHECKING:
    from .data import AlloyData


def draw_data(data: "AlloyData", path: Path) -> Path:
    """Formation energies of all configurations against composition."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes: Axes = figure.subplots()
    n = data.info.lattice.n_sites
    axes.plot(data.all.n_second / n, data.formation_energies / n / MRY, "o", color=REFERENCE, markersize=4)
    axes.set_xlabel(f"share of {data.info.symbols[1]}")
    axes.set_ylabel("formation energy [mRy/atom]")
    axes.axhline(0, color="grey", linewidth=0.8)
    save(figure, path)
    return path
