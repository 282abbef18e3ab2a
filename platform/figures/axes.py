"""Scales, ticks and looks that the figures of studies, comparisons and plans share, on paper and on a page."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ...trainables.drawing import BLUE, GREY, ORANGE
from ..ledger.trial import State

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEPS = [1, 2, 5, 10]  # of ticks, times powers of ten
# Ticks of a logarithmic axis of fewer decades than these.
DIGITS: tuple[tuple[float, tuple[float, ...]], ...] = (
    (0.8, (1, 1.5, 2, 3, 4, 5, 7)),
    (1.3, (1, 2, 3, 5)),
    (2.5, (1, 2, 5)),
    (math.inf, (1,)),
)
LINE = 42  # characters of an axis' title that stand beside three inches
THOUSANDS = 999  # numbers that are all above it are written with k, M and so on


@dataclass(frozen=True)
class Look:
    """How the trials of a state are marked.

    Args:
        png: mark of matplotlib.
        page: symbol of Plotly.
        color: of both.
    """

    png: str
    page: str
    color: str


VALUED: tuple[State, State] = ("finished", "stopped")  # the states in which a trial has reached a value
# Shapes differ as well as colours.
LOOKS: Mapping[State, Look] = {
    "finished": Look("o", "circle", BLUE),
    "stopped": Look("o", "circle-open", BLUE),
    "failed": Look("x", "x", ORANGE),
    "pruned": Look("|", "line-ns-open", GREY),
    "running": Look(">", "triangle-right", BLUE),
}

# Of the bars of trials; there is nothing to tell shapes by, so they differ in lightness.
BARS: Mapping[State, str] = {"finished": BLUE, "stopped": "#8fc3e8", "failed": ORANGE, "running": GREY}


def number(value: float) -> str:
    """A number at a tick: three digits, and never as a power of ten between 0.0001 and a million."""
    if value == 0 or not 1e-4 <= abs(value) < 1e6:
        return f"{value:.3g}"
    return np.format_float_positional(value, precision=3, fractional=False, trim="-")


def in_lines(title: str, end: str = "\n") -> str:
    """An axis' title in lines that fit, each but the last with such an end."""
    return end.join(textwrap.wrap(title, LINE))


def is_log(values: Iterable[float]) -> bool:
    """Whether numbers are best shown on a logarithmic axis: positive, and more than a factor of 3 apart."""
    some = list(values)
    return bool(some) and min(some) > 0 and max(some) > 3 * min(some)


def ticks_between(low: float, high: float, log: bool, whole: bool = False) -> list[float]:
    """Round numbers from low to high: 1, 2, 5 times powers of ten, finer where that leaves few, coarser where many."""
    if high <= low:
        return [low]
    if not log:
        from matplotlib.ticker import MaxNLocator

        found = MaxNLocator(6, steps=STEPS, integer=whole).tick_values(low, high)
        slack = 1e-9 * (high - low)
        return [float(v) for v in found if low - slack <= v <= high + slack]
    span = math.log10(high / low)
    step = max(1, round(span / 7))
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1, step)
    digits = next(some for most, some in DIGITS if span < most)
    found = [d * 10.0**k for k in decades for d in digits]
    return [v for v in found if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]


def value_axis(axes: "Axes", values: Sequence[float], label: str) -> None:
    """The vertical axis of values, with lines to read them by."""
    from matplotlib.ticker import MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(6, steps=STEPS))
    value_scale(axes, "y", values)
    axes.set_ylabel(in_lines(label))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)


def value_scale(axes: "Axes", which: Literal["x", "y"], values: Iterable[float]) -> None:
    """A logarithmic axis where the numbers ask for one, with round numbers at its ticks."""
    from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, NullFormatter

    some = [v for v in values if math.isfinite(v)]
    if not is_log(some):
        return
    room = max(1.15, (max(some) / min(some)) ** 0.05)
    low, high = min(some) / room, max(some) * room
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(ticks_between(low, high, log=True)))
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(EngFormatter(sep="") if min(some) > THOUSANDS else FuncFormatter(lambda v, _: number(v)))
