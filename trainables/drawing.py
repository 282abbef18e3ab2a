"""What all figures share: colours, marks, and how a figure becomes a PNG file without a display."""

from pathlib import Path
from typing import TYPE_CHECKING

from .files import atomic

# Whoever draws imports Matplotlib then: it takes 0.3 s, which no training and no prediction needs.
if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colour-blind people tell these apart too.  Shapes differ as well.
BLUE, ORANGE, GREY = "#1f6fb4", "#d9622b", "#8a8a8a"
REFERENCE, SURROGATE = "black", ORANGE  # the same in every figure that shows both
# For lines that are compared: the colours of Okabe & Ito and some more, each with a mark of its own for print.
COLORS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#8C564B",
    "#882255",
    "#5E3C99",
    "#A6761D",
)
MARKS = "osD^vP*X<>h"
DPI = 140


def save(figure: "Figure", path: Path) -> None:
    """Write a PNG file, whole or not at all.

    A ``matplotlib.figure.Figure`` made without pyplot draws itself, so the caller's choice of a backend is left alone.

    Raises:
        InputError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with atomic(path) as temporary:
        figure.set_dpi(DPI)
        canvas = FigureCanvasAgg(figure)
        if engine := figure.get_layout_engine():
            engine.execute(figure)
            figure.set_layout_engine("none")
        canvas.print_png(temporary)  # ``savefig`` draws a figure that has a layout twice
