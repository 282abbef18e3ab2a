"""Figures of alloy networks: parity plots, errors against composition, learning curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..drawing import COLORS, MARKS, REFERENCE, SURROGATE, save
from .accuracy import UNITS
from .config import NAMES

if TYPE_CHECKING:
    from .judgement import AlloyJudgement

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


def learning_curve(curves: Mapping[str, Sequence[tuple[int, float, float]]], label: str, path: Path) -> Path:
    """Errors against the number of orbits trained on.

    Args:
        curves: name of a model -> (orbits, mean error, standard deviation over the splits).
        label: of the errors, with their unit.
        path: of the PNG file.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes: Axes = figure.subplots()
    for (name, points), color, mark in zip(curves.items(), COLORS, MARKS, strict=False):
        n, mean, std = zip(*points, strict=True)
        axes.errorbar(n, mean, std, color=color, marker=mark, capsize=2, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("orbits trained on")
    axes.set_ylabel(label)
    axes.legend()
    save(figure, path)
    return path
