"""A transition as a figure: heat capacity, order and short-range order against temperature."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..drawing import BLUE, COLORS, GREY, MARKS, ORANGE, save
from .lattice import Float64

if TYPE_CHECKING:
    from .transition import Transition

BAND = (0.025, 0.975)  # of the drawn models
SEEN = 0.9  # of the drawn models must have been simulated where the band is drawn


def draw_transition(found: "Transition", path: str | Path) -> None:
    """Write it as a PNG file.

    Lines and points are of the model of the largest evidence, with the errors of its simulation.  Bands hold 95 % of
    the drawn models, and so does the interval of the transition.  Raises InputError: the file cannot be written.
    """
    figure = Figure(figsize=(6.4, 8.2), layout="constrained")
    heat, order, near = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2.4, 2.4))
    at, errors, fine = found.thermodynamics.at, found.thermodynamics.errors, found.thermodynamics.fine
    low, high = found.interval
    for axes, name, label in (
        (heat, "heat_capacity", r"heat capacity [$k_\mathrm{B}$ per site]"),
        (order, "order", "long-range order"),
    ):
        _band(axes, fine.temperatures, getattr(found.curves, name))
        axes.plot(fine.temperatures, getattr(fine, name), color=BLUE, linewidth=1.4, label="most likely model")
        axes.errorbar(
            at.temperatures, getattr(at, name), getattr(errors, name), fmt="o", markersize=3, color=BLUE, capsize=2
        )
        axes.set_ylabel(label)
    heat.set_ylim(bottom=0)
    order.set_ylim(0, 1.05)
    shells = zip(found.chain.short_range_order.T, found.model.radii, COLORS, MARKS, strict=False)
    for number, (values, radius, color, mark) in enumerate(shells, 1):
        label = f"shell {number}, {radius:.2f} Å"
        near.plot(at.temperatures, values, marker=mark, markersize=3.5, linewidth=1, color=color, label=label)
    near.axhline(0, color=GREY, linewidth=0.7)
    near.set(ylabel="short-range order (Warren-Cowley)", xlabel="temperature [K]")
    for axes in (heat, order, near):
        axes.axvspan(low, high, color=ORANGE, alpha=0.2, linewidth=0, label=f"transition, {100 * found.level:.0f} %")
        axes.axvline(found.temperature, color=ORANGE, linewidth=1)
        axes.spines[["top", "right"]].set_visible(False)
    heat.legend(frameon=False, fontsize=8)
    near.legend(frameon=False, fontsize=8)
    heat.set_title(
        f"order is lost at {found.temperature:.0f} K ({100 * found.level:.0f} %: {low:.0f} to {high:.0f} K)\n"
        f"{found.n_configurations} configurations, {found.chain.n_sites} sites, "
        f"{100 * found.chain.content[0, 0]:.3g} % {found.symbols[1]}",
        fontsize=10,
    )
    save(figure, Path(path))


def _band(axes: Axes, temperatures: Float64, rows: Float64) -> None:
    seen = np.isfinite(rows).mean(axis=0) >= SEEN
    if seen.any():
        low, high = np.nanquantile(rows[:, seen], BAND, axis=0)
        axes.fill_between(
            temperatures[seen], low, high, color=BLUE, alpha=0.2, linewidth=0, label="95 % of drawn models"
        )
