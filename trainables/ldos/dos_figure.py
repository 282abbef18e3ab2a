"""The DOS of test snapshots as a surrogate predicts it, beside the reference.  eV."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..drawing import GREY, REFERENCE, SURROGATE, save
from .accuracy import SnapshotError


def dos_comparison(
    energy: NDArray[np.float64],
    curves: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
    errors: Sequence[SnapshotError],
    path: Path,
    *,
    relative: bool = False,
    of: str = "",
) -> None:
    """Predicted (mean and spread over T initialisations) and true DOS of the test snapshots, with their difference.

    Args:
        energy: (n_energy,) [eV].
        curves: (predicted (T, n_energy), true (n_energy,)) of each snapshot [1/eV].
        errors: one a snapshot, for the titles.
        path: PNG file to write.
        relative: energies relative to the Fermi level of each snapshot.
        of: what the titles say of the snapshots, before that word, where they are not for testing.
    """
    shown = min(len(curves), 6)
    figure = Figure(figsize=(4.2 * shown, 4.4), layout="constrained")
    grid = figure.add_gridspec(2, shown, height_ratios=(3, 1))
    first: tuple[Axes, Axes] | None = None
    for i, ((predicted, true), error) in enumerate(zip(curves[:shown], errors[:shown], strict=True)):
        n_atoms, level = error.snapshot.n_atoms, error.snapshot.fermi_level
        mean, spread = predicted.mean(axis=0) / n_atoms, predicted.std(axis=0) / n_atoms
        zero = level if relative and level is not None else 0.0
        # One scale for all snapshots, so that the one that is off stands out.
        upper = figure.add_subplot(grid[0, i], sharey=first[0] if first else None)
        lower = figure.add_subplot(grid[1, i], sharey=first[1] if first else None)
        first = first or (upper, lower)
        x = energy - zero
        upper.plot(x, true / n_atoms, color=REFERENCE, linewidth=1.2, label="DFT")
        upper.plot(x, mean, color=SURROGATE, linewidth=1.4, linestyle="--", label="surrogate")
        lower.axhline(0, color="black", linewidth=0.6)
        lower.plot(x, mean - true / n_atoms, color=SURROGATE, linewidth=1.2)
        for axes, centre in ((upper, mean), (lower, mean - true / n_atoms)):
            axes.fill_between(x, centre - spread, centre + spread, color=SURROGATE, alpha=0.25, linewidth=0)
            if level is not None:
                axes.axvline(level - zero, color=GREY, linewidth=0.8, linestyle=":")
            axes.spines[["top", "right"]].set_visible(False)
        title = f"{of}snapshot {error.snapshot.id}, {error.snapshot.group}"
        if np.isfinite(error.band_energy).all():
            title += (
                f"\nband energy off by {error.band_energy.mean():+.1f} meV/atom, spread {error.band_energy.std():.1f}"
            )
        upper.set_title(title, fontsize=10)
        upper.tick_params(labelbottom=False)
        lower.set_xlabel("energy above the Fermi level [eV]" if relative and level is not None else "energy [eV]")
        if i == 0:
            upper.set_ylabel("DOS [1/(eV atom)]")
            lower.set_ylabel("difference")
            upper.legend(frameon=False, fontsize=9)
        else:
            upper.tick_params(labelleft=False)
            lower.tick_params(labelleft=False)
    save(figure, path)
