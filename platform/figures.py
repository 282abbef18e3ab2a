"""The figures of a study, as PNG files, drawn without a display."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..trainables.accuracy import SnapshotError
from ..trainables.files import atomic
from .ledger import LedgerTrial
from .score_quality import qualities

mpl.use("Agg")
BLUE, ORANGE, GREY = "#1f6fb4", "#d9622b", "#8a8a8a"
SCORE_NAMES = {
    "rfr": "random-feature readout  -log E",
    "naswot": "NASWOT  S'",
    "first_width": "width of the first layer",
    "n_parameters": "log(number of parameters)",
}


def score_against_value(trials: Sequence[LedgerTrial], main: str | None, value_label: str, path: Path) -> None:
    """Score against trained value of the finished trials, a panel a score, with Kendall's τ (paper Fig. 4).

    Args:
        trials: of a study.
        main: the score the study searched by, drawn first.
        value_label: axis label with unit.
        path: PNG file to write.
    """
    done = [t for t in trials if t.value is not None]
    panels = qualities(done, main)
    figure = Figure(figsize=(4.2 * max(len(panels), 1), 3.6), layout="constrained")
    for i, quality in enumerate(panels):
        name, axes = quality.name, figure.add_subplot(1, len(panels), i + 1)
        pairs = [(t.scores[name], t.value) for t in done if name in t.scores and t.value is not None]
        scores, values = (list(column) for column in zip(*pairs))
        axes.scatter(scores, values, s=28, color=BLUE if name == main else GREY, edgecolor="white", linewidth=0.5)
        best = int(np.argmin(values))
        axes.scatter(
            scores[best], values[best], s=90, facecolor="none", edgecolor=ORANGE, linewidth=1.5, label="chosen"
        )
        tau = "" if quality.tau is None else f"τ = {quality.tau:+.2f} ± {quality.tau_error:.2f}, n = {quality.n_trials}"
        axes.set_title(tau, fontsize=10)
        axes.set_yscale("log")
        axes.set_xlabel(SCORE_NAMES.get(name, name))
        if i == 0:
            axes.set_ylabel(value_label)
            axes.legend(frameon=False, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def dos_comparison(
    energy: NDArray[np.float64],
    curves: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
    errors: Sequence[SnapshotError],
    path: Path,
) -> None:
    """Predicted (mean and spread over T initialisations) and true DOS of the test snapshots, with their difference.

    Args:
        energy: (n_energy,) [eV].
        curves: (predicted (T, n_energy), true (n_energy,)) of each snapshot [1/eV].
        errors: one a snapshot, for the titles.
        path: PNG file to write.
    """
    shown = min(len(curves), 6)
    figure = Figure(figsize=(4.2 * shown, 4.4), layout="constrained")
    grid = figure.add_gridspec(2, shown, height_ratios=(3, 1))
    for i, ((predicted, true), error) in enumerate(zip(curves[:shown], errors[:shown], strict=True)):
        n_atoms, level = error.snapshot.n_atoms, error.snapshot.fermi_level
        mean, spread = predicted.mean(axis=0) / n_atoms, predicted.std(axis=0) / n_atoms
        upper, lower = figure.add_subplot(grid[0, i]), figure.add_subplot(grid[1, i])
        upper.plot(energy, true / n_atoms, color="black", linewidth=1.2, label="DFT")
        upper.plot(energy, mean, color=ORANGE, linewidth=1.4, linestyle="--", label="surrogate")
        lower.axhline(0, color="black", linewidth=0.6)
        lower.plot(energy, mean - true / n_atoms, color=ORANGE, linewidth=1.2)
        for axes, centre in ((upper, mean), (lower, mean - true / n_atoms)):
            axes.fill_between(energy, centre - spread, centre + spread, color=ORANGE, alpha=0.25, linewidth=0)
            if level is not None:
                axes.axvline(level, color=GREY, linewidth=0.8, linestyle=":")
            axes.spines[["top", "right"]].set_visible(False)
        title = f"snapshot {error.snapshot.id}, {error.snapshot.group}"
        if np.isfinite(error.band_energy).all():
            title += f"\nband energy {error.band_energy.mean():+.1f} ± {error.band_energy.std():.1f} meV/atom"
        upper.set_title(title, fontsize=10)
        upper.tick_params(labelbottom=False)
        lower.set_xlabel("energy [eV]")
        if i == 0:
            upper.set_ylabel("DOS [1/(eV atom)]")
            lower.set_ylabel("difference")
            upper.legend(frameon=False, fontsize=9)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=140)
