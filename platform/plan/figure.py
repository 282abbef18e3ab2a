"""The figure of a plan: times in the unit that suits the longest, slot-hours or GPU-hours reserved."""

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from ...trainables.drawing import COLORS, MARKS
from ..figures.axes import value_axis
from .plan import Plan


def plan_figure(found: Plan) -> Figure:
    """Time to result and reserved slot-hours against slots, a line a method (Fiedler et al. (2022), Fig. 3)."""
    figure = Figure(figsize=(11.5, 4.4), layout="constrained")
    panels = figure.subplots(1, 2)
    scale, unit = found.time_unit
    labels = (f"time to result [{unit}]", "GPU-hours reserved" if found.gpus else "slot-hours reserved")
    for axes, label, of in zip(
        panels,
        labels,
        (lambda t: t.seconds / scale, lambda t: t.reserved / 3600 * (found.gpus or 1)),
        strict=True,
    ):
        every: list[float] = []
        for i, (method, some) in enumerate(found.timings.items()):
            numbers = [of(t) for t in some]
            look = {"color": COLORS[i % len(COLORS)], "marker": MARKS[i % len(MARKS)]}
            axes.plot([t.slots for t in some], numbers, **look, markersize=5, linewidth=1.4, label=method)
            every += numbers
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(f"slots of {found.slot}")
        value_axis(axes, every, label)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=9)
    return figure
