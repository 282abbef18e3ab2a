"""The learning curve: error against DFT runs that have a result, their atoms and CPU time."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter

from ...trainables.drawing import BLUE, GREY, ORANGE, save
from .record import Result

UNITS = (("h", 3600.0), ("min", 60.0), ("s", 1.0))  # of the CPU time, and its seconds


def draw(results: Sequence[Result], asked: float | None, path: Path) -> None:
    """Draw the rounds, and the error that was asked for [meV/atom], to a PNG file.  Raises InputError."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    unit, scale = next(((u, s) for u, s in UNITS if results[-1].cpu_seconds > 2 * s), UNITS[-1])
    against = {
        "DFT runs": [float(one.runs) for one in results],
        "atoms computed": [float(one.atoms) for one in results],
        f"CPU time of these runs [{unit}]": [one.cpu_seconds / scale for one in results],
    }
    for panel, (label, places) in zip(panels, against.items(), strict=True):
        for split, color, mark in (("test", ORANGE, "o"), ("validation", BLUE, "s")):
            errors = [one.free_energy(split) for one in results]
            known = [(x, y) for x, y in zip(places, errors, strict=True) if y is not None]
            panel.plot([x for x, _ in known], [y for _, y in known], marker=mark, color=color, label=split)
        if asked is not None:
            panel.axhline(asked, color=GREY, linestyle="--", label="asked for")
        panel.set_xlabel(label)
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=panel is not panels[-1]))
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter(ScalarFormatter())
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("error of the free energy [meV/atom]")
    panels[0].legend(frameon=False)
    save(figure, path)
