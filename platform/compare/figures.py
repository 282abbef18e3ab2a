"""The figures of a comparison, as those of Fiedler et al. (2022).

Error against compute (Fig. 2) and wall time (Fig. 3), score against error (Fig. 4), networks found (Fig. 5).
"""

from collections.abc import Callable
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...trainables.drawing import BLUE, COLORS, GREY, MARKS
from ...trainables.kind import Measure
from ..figures.axes import in_lines, value_axis, value_scale
from ..figures.trials import pareto_front
from .outcome import Compared, Outcome

BASELINE_LINES = ("--", "-.", ":")
BASELINE_MARKS = "dpH8"


def methods_figure(compared: Compared) -> Figure:
    """Test error of each method's winners, the best method first; what comes without a search as lines."""
    groups: dict[str, list[tuple[float, float | None]]] = {}
    for o in compared.outcomes:
        if (error := o.error(compared.first)) is not None:
            groups.setdefault(o.method, []).append((error, o.spread(compared.first)))
    means = {method: float(np.mean([error for error, _ in some])) for method, some in groups.items()}
    order = sorted(groups, key=lambda method: means[method])
    figure = Figure(figsize=(8.4, 1.5 + 0.36 * len(order)), layout="constrained")
    axes, looks = figure.subplots(), _looks(compared)
    errors: list[float] = []
    for row, method in enumerate(order):
        color, mark = looks[method]
        for error, spread in groups[method]:
            axes.errorbar(error, row, xerr=spread, fmt=mark, color=color, markersize=6, capsize=2)
            errors.append(error)
        if len(groups[method]) > 1:
            axes.plot(means[method], row, "|", color="black", markersize=14, zorder=4)
    for (name, error), style in zip(_without_search(compared), cycle(BASELINE_LINES), strict=False):
        axes.axvline(error, color=GREY, linewidth=1.2, linestyle=style, label=name, zorder=0)
        errors.append(error)
    axes.set_yticks(range(len(order)), order)
    axes.set_ylim(len(order) - 0.5, -0.5)
    value_scale(axes, "x", errors)
    axes.set_xlabel(compared.of_kind.judged[compared.first].axis)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(left=False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    if compared.baselines:
        figure.legend(loc="outside upper right", ncols=4, frameon=False, fontsize=9)
    return figure


def compute_figure(compared: Compared) -> Figure:
    """Lowest value so far, and the winner's test error with its spread, against the work of training."""
    return _two_panels(compared, compared.of_kind.compute.label, lambda step: step[0], lambda o: "")


def wall_figure(compared: Compared) -> Figure:
    """As ``compute_figure``, against the wall time while trials ran, with the parallel speed-up of each method."""
    return _two_panels(
        compared,
        "seconds while trials ran",
        lambda step: step[1],
        lambda o: "" if o.speed_up is None else f"{o.speed_up:.1f}x",
    )


def _two_panels(
    compared: Compared,
    x_label: str,
    x_of: Callable[[tuple[float, float, float]], float],
    note: Callable[[Outcome], str],
) -> Figure:
    figure = Figure(figsize=(11.5, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    looks = _looks(compared)
    values: list[float] = []
    errors: list[float] = []
    xs: list[float] = []
    for o in compared.outcomes:
        if not o.trace:
            continue
        color, mark = looks[o.method]
        x, y = [x_of(step) for step in o.trace], [step[2] for step in o.trace]
        first = o.seed == min(other.seed for other in compared.outcomes)
        left.step(x, y, where="post", color=color, linewidth=1.4, alpha=0.9)
        left.plot(x[-1], y[-1], mark, color=color, markersize=6)
        values, xs = values + y, xs + x
        if (error := o.error(compared.first)) is None:
            continue
        right.errorbar(
            x[-1],
            error,
            yerr=o.spread(compared.first),
            fmt=mark,
            color=color,
            markersize=7,
            capsize=3,
            label=o.method if first else None,
        )
        errors.append(error)
        if text := note(o):
            right.annotate(text, (x[-1], error), xytext=(6, 5), textcoords="offset points", fontsize=8, color=color)
    errors += _baselines(right, compared)
    tested = compared.of_kind.judged[compared.first]
    for axes, some, label in ((left, values, compared.value.axis), (right, errors, tested.axis)):
        axes.set_xlabel(in_lines(x_label))
        value_scale(axes, "x", xs)
        value_axis(axes, some, label)
    figure.legend(*right.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=9)
    return figure


def _baselines(axes: Axes, compared: Compared) -> list[float]:
    """Draw what comes without a search as horizontal lines, and return where they are."""
    known = _without_search(compared)
    for (name, error), style in zip(known, cycle(BASELINE_LINES), strict=False):
        axes.axhline(error, color=GREY, linewidth=1, linestyle=style, label=name, zorder=0)
    return [error for _, error in known]


def _without_search(compared: Compared) -> list[tuple[str, float]]:
    """What comes without a search, with its test error."""
    return [(o.method, error) for o in compared.baselines if (error := o.error(compared.first)) is not None]


def score_figure(compared: Compared) -> Figure:
    """Every score against the value of all trained trials."""
    panels = compared.scores
    figure = Figure(figsize=(3.2 * len(panels) + 0.6, 3.6), layout="constrained")
    every = [v for scored in panels.values() for v in scored.values]
    for i, scored in enumerate(panels.values()):
        axes = figure.add_subplot(1, len(panels), i + 1)
        axes.scatter(scored.scores, scored.values, s=18, color=GREY if scored.trivial else BLUE)
        q = scored.quality
        title = (
            "too few trials"
            if q.tau is None
            else f"τ {q.tau:+.2f} (standard error {q.tau_error:.2f}), regret {100 * (q.regret or 0):.0f} %"
        )
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(scored.label)
        value_axis(axes, every, compared.value.axis if i == 0 else "")
    return figure


def chosen_figure(compared: Compared, cost: Measure) -> Figure:
    """Test error of the winners against a cost of using them; those on the front are named by their network."""
    figure = Figure(figsize=(8.4, 4.8), layout="constrained")
    axes, looks = figure.subplots(), _looks(compared)
    looks |= {o.method: (GREY, mark) for o, mark in zip(compared.baselines, cycle(BASELINE_MARKS), strict=False)}
    found = with_cost(compared, cost)
    points = [(x, y) for _, x, y in found]
    front = [points[i] for i in pareto_front(points)]
    axes.plot(*zip(*front, strict=True), color=GREY, linewidth=1, zorder=0)
    named: set[str] = set()
    for o, x, y in found:
        color, mark = looks[o.method]
        axes.errorbar(
            x,
            y,
            yerr=o.spread(compared.first),
            fmt=mark,
            color=color,
            markersize=7,
            capsize=3,
            label=None if o.method in named else o.method,
        )
        named.add(o.method)
        if (x, y) in front:
            axes.annotate(o.network, (x, y), xytext=(6, -11), textcoords="offset points", fontsize=8, color="#444444")
    axes.set_xlabel(cost.axis)
    value_scale(axes, "x", [x for x, _ in points])
    value_axis(axes, [y for _, y in points], compared.of_kind.judged[compared.first].axis)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def with_cost(compared: Compared, cost: Measure) -> list[tuple[Outcome, float, float]]:
    """Methods and baselines that have a cost and a test error, with both."""
    return [
        (o, o.costs[cost.report], error)
        for o in (*compared.outcomes, *compared.baselines)
        if cost.report in o.costs and (error := o.error(compared.first)) is not None
    ]


def _looks(compared: Compared) -> dict[str, tuple[str, str]]:
    """Colour and mark of each method."""
    methods = dict.fromkeys(o.method for o in compared.outcomes)
    return {m: (COLORS[i % len(COLORS)], MARKS[i % len(MARKS)]) for i, m in enumerate(methods)}
