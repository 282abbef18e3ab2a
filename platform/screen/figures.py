"""The figures of a descriptor screen, as PNG files: scores against the cutoff, and against the trained error."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ...trainables.drawing import GREY, ORANGE, save
from .result import TOLERANCE, Screen

NAMES = {
    "kernel_ridge": "kernel ridge  1 - R²",
    "acsd": "ACSD",
    "acsd_clipped": "ACSD, clipped",
    "trained_error": "trained network  validation loss",
}
MARK: dict[str, Any] = {"marker": "o", "markeredgecolor": "white", "markeredgewidth": 0.5}


def score_against_cutoff(found: Screen, path: Path) -> None:
    """Each score, and the trained error where there is one, against R_cut, a line a 2J_max (paper Fig. 6).

    The recommended setting is circled, the dashed line is what counts as good: 1.5 times the best of the score chosen.
    """
    decides = "kernel_ridge" if found.score == "kernel-ridge" else _acsd(found)
    kinds = ["kernel_ridge", _acsd(found)]
    if any(row.trained_error is not None for row in found.rows):
        kinds.append("trained_error")
    figure = Figure(figsize=(4.0 * len(kinds), 3.6), layout="constrained")
    colours = _colours(found)
    for i, kind in enumerate(kinds):
        axes = figure.add_subplot(1, len(kinds), i + 1)
        for two_j_max, colour in colours.items():
            rows = [r for r in found.rows if r.two_j_max == two_j_max and getattr(r, kind) is not None]
            axes.plot(
                [r.cutoff for r in rows],
                [getattr(r, kind) for r in rows],
                color=colour,
                markersize=5,
                linewidth=1.3,
                label=f"{two_j_max}",
                **MARK,
            )
        if getattr(found.recommended, kind) is not None:
            _circle(axes, found.recommended.cutoff, getattr(found.recommended, kind))
        if kind == decides:
            best = min(getattr(r, kind) for r in found.rows)
            axes.axhline(TOLERANCE * best, color=GREY, linewidth=0.9, linestyle="--")
            axes.annotate(
                f"{TOLERANCE:g} x best", (1, TOLERANCE * best), xycoords=("axes fraction", "data"), xytext=(0, 2),
                textcoords="offset points", ha="right", va="bottom", fontsize=8, color=GREY,
            )  # fmt: skip
        axes.set_yscale("log")
        _log_ticks(axes.yaxis)
        axes.set_xlabel(r"cutoff $R_\mathrm{cut}$ [Å]")
        axes.set_title(NAMES[kind], fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        if i == 0:
            _legend(axes)
    save(figure, path)


def score_against_trained(found: Screen, path: Path) -> None:
    """Each score against the trained error with Kendall's τ (paper Fig. 7); colour is 2J_max."""
    trained = {r: r.trained_error for r in found.rows if r.trained_error is not None}
    colours, taus = _colours(found), {q.name: q for q in found.qualities}
    kinds = {"kernel_ridge": "kernel-ridge", "acsd": "acsd", "acsd_clipped": "acsd clipped"}
    figure = Figure(figsize=(4.0 * len(kinds), 3.7), layout="constrained")
    for i, (kind, name) in enumerate(kinds.items()):
        axes = figure.add_subplot(1, len(kinds), i + 1)
        for two_j_max, colour in colours.items():
            some = [r for r in trained if r.two_j_max == two_j_max]
            axes.errorbar(
                [getattr(r, kind) for r in some],
                [trained[r] for r in some],
                yerr=[r.trained_std or 0.0 for r in some],
                color=colour,
                linestyle="none",
                markersize=6,
                elinewidth=0.8,
                label=f"{two_j_max}",
                **MARK,
            )
        if found.recommended in trained:
            _circle(axes, getattr(found.recommended, kind), trained[found.recommended])
        quality = taus[name]
        if quality.tau is not None:
            axes.set_title(quality.title, fontsize=10)
        axes.set_xscale("log")
        axes.set_yscale("log")
        _log_ticks(axes.xaxis)
        _log_ticks(axes.yaxis)
        axes.set_xlabel(NAMES[kind])
        axes.spines[["top", "right"]].set_visible(False)
        if i == 0:
            axes.set_ylabel("validation loss of the trained network")
            _legend(axes)
    save(figure, path)


def _acsd(found: Screen) -> str:
    return "acsd" if found.variant == "paper" else "acsd_clipped"


def _colours(found: Screen) -> dict[int, tuple[float, ...]]:
    """2J_max -> blue, the darker the larger."""
    names = sorted({r.two_j_max for r in found.rows})
    return dict(zip(names, colormaps["Blues"](np.linspace(0.4, 1.0, len(names))).tolist(), strict=True))


def _circle(axes: Axes, x: float, y: float) -> None:
    axes.plot(
        [x], [y], "o", markersize=11, markerfacecolor="none", markeredgecolor=ORANGE, markeredgewidth=1.6, zorder=3,
        label="recommended",
    )  # fmt: skip


def _legend(axes: Axes) -> None:
    labelled = sorted(zip(*axes.get_legend_handles_labels(), strict=True), key=lambda pair: pair[1] == "recommended")
    handles, labels = (list(column) for column in zip(*labelled, strict=True))
    axes.legend(
        handles, labels, frameon=False, fontsize=9, title=r"$2J_\mathrm{max}$", title_fontsize=9, alignment="left"
    )


def _log_ticks(axis: Axis) -> None:
    """0.02, 0.05, 0.1 where the numbers span less than two decades, else powers of ten."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
