"""Figures of alloy networks: parity plots, errors against composition, learning curves."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from ..drawing import COLORS, MARKS, REFERENCE, SURROGATE, save
from .accuracy import UNITS
from .config import NAMES, TASKS

if TYPE_CHECKING:
    from .judgement import AlloyJudgement
    from .repeated import Repeated

LABELS = {"E": "formation energy", "C": "net charge", "M": "moment"}


def parity_figure(judgement: "AlloyJudgement", path: Path) -> Path:
    """Predicted against reference, a panel a quantity; predictions are means over the networks."""
    predicted = judgement.predicted
    figure = Figure(figsize=(4 * len(predicted), 4), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(predicted)))
    for axes, (task, values) in zip(panels, predicted.items(), strict=True):
        factor, unit = UNITS[task]
        expected, mean = judgement.reference.values[task].ravel() / factor, values.mean(axis=0).ravel() / factor
        ends = [min(expected.min(), mean.min()), max(expected.max(), mean.max())]
        axes.plot(ends, ends, color=REFERENCE, linewidth=0.8)
        axes.plot(expected, mean, "o", color=SURROGATE, markersize=3, alpha=0.6)
        axes.set_xlabel(f"reference {LABELS[task]} [{unit}]")
        axes.set_ylabel(f"predicted [{unit}]")
    save(figure, path)
    return path


def composition_figure(judgement: "AlloyJudgement", path: Path) -> Path:
    """Mean error of each configuration against its composition, a panel a quantity."""
    predicted = judgement.predicted
    figure = Figure(figsize=(4 * len(predicted), 3.5), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(predicted)))
    share = judgement.reference.species.mean(axis=1)
    for axes, (task, values) in zip(panels, predicted.items(), strict=True):
        factor, unit = UNITS[task]
        error = abs(values.mean(axis=0) - judgement.reference.values[task]).mean(axis=1) / factor
        axes.plot(share, error, "o", color=SURROGATE, markersize=4)
        axes.set_xlabel("share of the second element")
        axes.set_ylabel(f"mean error of the {NAMES[task]} [{unit}]")
        axes.set_ylim(bottom=0)
    save(figure, path)
    return path


def learning_curves(found: Sequence["Repeated"], path: Path) -> Path:
    """Errors against the number of orbits trained on, a panel a quantity.

    Args:
        found: models on several numbers of orbits.
        path: of the PNG file.
    """
    tasks = [task for task in TASKS if any(f"{NAMES[task]}_mae" in one.each for one in found)]
    figure = Figure(figsize=(4 * len(tasks), 4), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(tasks)))
    names = dict.fromkeys(one.name for one in found)
    for axes, task in zip(panels, tasks, strict=True):
        number = f"{NAMES[task]}_mae"
        for name, color, mark in zip(names, cycle(COLORS), cycle(MARKS), strict=False):
            some = [(one.orbits, *one.values[number]) for one in found if one.name == name and number in one.each]
            if some:
                orbits, mean, std = zip(*some, strict=True)
                axes.errorbar(orbits, mean, std, color=color, marker=mark, capsize=2, label=name)
        axes.set_xscale("log")
        axes.set_yscale("log")
        sizes = sorted({one.orbits for one in found if one.orbits is not None})
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
        axes.set_xlabel("orbits trained on")
        axes.set_ylabel(f"mean error of the {LABELS[task]} [{UNITS[task][1]}]")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(names), fontsize=8)
    save(figure, path)
    return path
