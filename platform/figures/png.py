"""The figures of a study as PNG files, drawn without a display."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from ...trainables.drawing import BLUE, GREY, ORANGE
from .axes import BARS, LOOKS, STEPS, in_lines, value_axis, value_scale
from .slots import Slots
from .trials import UNSET, Compute, Curves, History, Importance, Parallel, Score
from .values import Values

WIDTH = 8.0  # inches, of a whole figure


def history_figure(data: History, value_label: str) -> Figure:
    """Value by trial number, the best so far, and in rows above it the trials without a value."""
    rows = len(data.others)
    figure = Figure(figsize=(WIDTH, 4.2 + 0.22 * rows), layout="constrained")
    grid = figure.add_gridspec(2 if rows else 1, 1, height_ratios=(0.055 * rows, 1) if rows else None, hspace=0.02)
    axes = figure.add_subplot(grid[-1, 0])
    for state, face, label in (("finished", BLUE, "finished"), ("stopped", "white", "stopped early, best reached")):
        some = [(t.number, v) for t, v in data.valued if t.state == state]
        if some:
            size = _size(len(data.valued))
            axes.plot(*zip(*some), "o", color=BLUE, markerfacecolor=face, markersize=size, label=label, zorder=3)
    if data.best:
        axes.step(*zip(*data.best), where="post", color=ORANGE, linewidth=1.6, label="best so far", zorder=4)
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(10, steps=STEPS, integer=True))
    value_axis(axes, [v for _, v in data.valued], value_label)
    figure.legend(loc="outside upper right", ncols=3, frameon=False)
    if rows:
        strip = figure.add_subplot(grid[0, 0], sharex=axes)
        for row, (state, trials) in enumerate(data.others.items()):
            look = LOOKS[state]
            strip.plot([t.number for t in trials], [row] * len(trials), look.png, color=look.color, markersize=6)
        strip.set_yticks(range(rows), [f"{state} ({len(trials)})" for state, trials in data.others.items()])
        strip.set_ylim(rows - 0.5, -0.5)
        strip.tick_params(left=False, bottom=False, labelbottom=False)
        strip.spines[:].set_visible(False)
    return figure


def compute_figure(panels: Sequence[Compute], value_label: str) -> Figure:
    """Value and best so far against compute, a panel a measure of it."""
    figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
    first: Axes | None = None
    for i, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), i + 1, sharey=first)
        first = first or axes
        for state, face in (("finished", BLUE), ("stopped", "white")):
            some = [(x, v) for t, x, v in panel.valued if t.state == state]
            if some:
                size = _size(len(panel.valued))
                axes.plot(*zip(*some), "o", color=BLUE, markerfacecolor=face, markersize=size, label=state, zorder=3)
        if panel.best:
            axes.step(*zip(*panel.best), where="post", color=ORANGE, linewidth=1.6, label="best so far", zorder=4)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=STEPS))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlabel(in_lines(panel.label))
        value_axis(axes, [v for _, _, v in panel.valued], value_label if i == 0 else "")
        if i:
            axes.tick_params(labelleft=False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=3, frameon=False)
    return figure


def curves_figure(data: Curves, value_label: str) -> Figure:
    """Value by epoch, a line a trial, the best in orange."""
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for trial, epochs, values in data.curves:
        best = trial.number == data.best
        color, width, label = (ORANGE, 2.2, f"best: trial {trial.number}") if best else (BLUE, 0.9, None)
        axes.plot(epochs, values, color=color, linewidth=width, alpha=1 if best else 0.45, label=label, zorder=2 + best)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(10, steps=STEPS, integer=True))
    value_axis(axes, [v for _, _, values in data.curves for v in values], value_label)
    figure.legend(loc="outside upper right", frameon=False)
    return figure


def score_figure(panels: Sequence[Score], value_label: str) -> Figure:
    """Value against each score with Kendall's τ, a panel a score (Fiedler et al. (2022), Fig. 4)."""
    figure = Figure(figsize=(max(WIDTH, 3.0 * len(panels)), 3.7), layout="constrained")
    first: Axes | None = None
    for i, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), i + 1, sharey=first)
        first = first or axes
        points = [(s, v) for _, s, v in panel.pairs]
        color = BLUE if panel.is_main else GREY
        size = _size(len(points))
        axes.plot(*zip(*points), "o", color=color, markersize=size, markeredgecolor="white", markeredgewidth=0.5)
        best = min(points, key=lambda point: point[1])
        axes.plot(*best, "o", markersize=10, markerfacecolor="none", color=ORANGE, markeredgewidth=1.5, label="best")
        if panel.pruned:
            foot = axes.get_xaxis_transform()
            axes.margins(y=0.1)
            some = [s for _, s in panel.pruned]
            label = f"pruned ({len(some)})"
            look = LOOKS["pruned"]
            axes.plot(some, [0.015] * len(some), look.png, color=look.color, markersize=8, transform=foot, label=label)
        axes.set_title(panel.quality.title, fontsize=10)
        axes.set_xlabel(in_lines(panel.label))
        if panel.is_trivial:
            value_scale(axes, "x", [s for s, _ in points] + [s for _, s in panel.pruned])
        else:
            axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
        value_axis(axes, [v for _, v in points], value_label if i == 0 else "")
        if i:
            axes.tick_params(labelleft=False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False)
    return figure


def importance_figure(data: Importance, value_label: str) -> Figure:
    """Share of each hyperparameter in what distinguishes the best trials."""
    figure = Figure(figsize=(WIDTH, 1.3 + 0.42 * len(data.names)), layout="constrained")
    axes = figure.add_subplot()
    rows = range(len(data.names))
    axes.barh(rows, data.shares, color=BLUE, height=0.6)
    axes.hlines(rows, data.low, data.high, color="black", linewidth=1.2)
    axes.set_yticks(rows, data.names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"importance: what distinguishes the best {data.n_best} of {data.n_trials} trials, shares of one")
    axes.tick_params(left=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def parallel_figure(data: Parallel, value_label: str) -> Figure:
    """Configs as lines through parallel axes to their value; the darker the better, the best in orange."""
    n = len(data.axes)
    figure = Figure(figsize=(max(WIDTH, 1.55 * n), 4.2), layout="constrained")
    axes = figure.add_subplot()
    lines = np.array([axis.positions for axis in data.axes]).T
    shades = colormaps["cividis"](0.92 * lines[:, -1])
    for line, shade in zip(lines[:-1], shades[:-1], strict=True):
        axes.plot(range(n), line, color=shade, linewidth=0.2 * _size(len(lines)), alpha=0.75)
    axes.plot(range(n), lines[-1], color=ORANGE, linewidth=2.2, label=f"best: trial {data.trials[-1].number}")
    has_unset = bool((lines == UNSET).any())
    for i, axis in enumerate(data.axes):
        axes.plot([i, i], [0, 1], color="black", linewidth=0.9, zorder=4)
        for place, text in axis.ticks:
            axes.plot([i, i + 0.03], [place, place], color="black", linewidth=0.9, zorder=4)
            box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
            axes.text(i + 0.05, place, text, fontsize=9, va="center", bbox=box, zorder=5)
    axes.set_xticks(range(n), [axis.name for axis in data.axes])
    axes.tick_params(bottom=False, left=False, labelleft=False)
    axes.set_ylim((UNSET if has_unset else 0) - 0.04, 1.04)
    axes.set_xlim(-0.1, n - 1 + 0.35)
    axes.spines[:].set_visible(False)
    figure.legend(loc="outside upper right", frameon=False)
    return figure


def values_figure(data: Values, value_label: str) -> Figure:
    """Numbers against each other, a panel a pair; the trials that none beats in all stand out.  Two have a line."""
    figure = Figure(figsize=(max(WIDTH, 3.6 * len(data.pairs)), 3.8), layout="constrained")
    size = _size(len(data.points))
    for axes, (i, j) in zip(np.atleast_1d(figure.subplots(1, len(data.pairs))), data.pairs, strict=True):
        if len(data.labels) == 2:
            line = sorted(row for (_, row), best in zip(data.points, data.front, strict=True) if best)
            axes.step(*zip(*line), where="post", color=ORANGE, linewidth=1.6, zorder=1)
        for front, color, label in ((False, BLUE, "finished trial"), (True, ORANGE, "Pareto front")):
            some = [(row[i], row[j]) for (_, row), best in zip(data.points, data.front, strict=True) if best is front]
            axes.plot(*np.reshape(some, (-1, 2)).T, "o", color=color, markersize=size, label=label)
        value_scale(axes, "x", [row[i] for _, row in data.points])
        value_scale(axes, "y", [row[j] for _, row in data.points])
        axes.set_xlabel(in_lines(data.labels[i]))
        axes.set_ylabel(in_lines(data.labels[j]))
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False)
    return figure


def slots_figure(data: Slots, value_label: str) -> Figure:
    """When each trial ran: a bar a trial, a row a slot."""
    figure = Figure(figsize=(WIDTH, 1.4 + 0.3 * data.n_rows), layout="constrained")
    axes = figure.add_subplot()
    for state in dict.fromkeys(trial.state for trial, *_ in data.bars):
        some = [(row, begin, end) for trial, row, begin, end in data.bars if trial.state == state]
        rows, begins, ends = np.array(some).T
        axes.barh(
            rows + 1,
            (ends - begins) / data.size,
            left=begins / data.size,
            height=0.8,
            color=BARS[state],
            edgecolor="white",
            linewidth=0.5,
            label=f"{state} ({len(some)})",
        )
    for pause in data.pauses:
        axes.axvline(pause / data.size, color="black", linestyle=":", linewidth=1.2)
    axes.set_xlim(left=0)
    axes.set_ylim(data.n_rows + 0.6, 0.4)
    axes.yaxis.set_major_locator(MaxNLocator(min(data.n_rows, 10), steps=STEPS, integer=True))
    axes.set_ylabel("slot")
    axes.set_xlabel(f"time in which trials ran [{data.unit}]")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper right", ncols=4, frameon=False)
    return figure


PNG: dict[str, Callable[[Any, str], Figure]] = {
    "history": history_figure,
    "compute": compute_figure,
    "curves": curves_figure,
    "score": score_figure,
    "importance": importance_figure,
    "parallel": parallel_figure,
    "pareto": values_figure,
    "values": values_figure,
    "slots": slots_figure,
}


def _size(n: int) -> float:
    """Of a mark [points], smaller where there are many."""
    return 5.5 if n <= 100 else 3.5
