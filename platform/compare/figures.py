"""The figures of a comparison, as those of Fiedler et al. (2022).

Error against compute (Fig. 2) and wall time (Fig. 3), score against error (Fig. 4), networks found (Fig. 5).
"""

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...trainables.drawing import BLUE, COLORS, GREY, MARKS
from ...trainables.ldos.scores import TRIVIAL
from ..figures.png import value_axis, value_scale
from ..figures.trials import COMPUTE_LABELS, SCORE_LABELS, pareto_front
from .comparison import Compared, Outcome

TEST_LABEL = "test LDOS error, 1 - R²"


def compute_figure(compared: Compared, value_label: str) -> Figure:
    """Lowest value so far, and the winner's test error with its spread, against grid points x epochs."""
    return _two_panels(compared, value_label, COMPUTE_LABELS["grid_points"], lambda step: step[0], lambda o: "")


def wall_figure(compared: Compared, value_label: str) -> Figure:
    """As ``compute_figure``, against the wall time while trials ran, with the parallel speed-up of each method."""
    label = "seconds while trials ran"
    return _two_panels(
        compared,
        value_label,
        label,
        lambda step: step[1],
        lambda o: "" if o.speed_up is None else f"{o.speed_up:.1f}x",
    )


def _two_panels(
    compared: Compared,
    value_label: str,
    x_label: str,
    x_of: Callable[[tuple[float, float, float]], float],
    note: Callable[[Outcome], str],
) -> Figure:
    figure = Figure(figsize=(11.5, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    looks = _looks(compared)
    values: list[float] = []
    losses: list[float] = []
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
        if o.test_loss is None:
            continue
        right.errorbar(
            x[-1],
            o.test_loss,
            yerr=o.test_loss_std,
            fmt=mark,
            color=color,
            markersize=7,
            capsize=3,
            label=o.method if first else None,
        )
        losses.append(o.test_loss)
        if text := note(o):
            right.annotate(
                text, (x[-1], o.test_loss), xytext=(6, 5), textcoords="offset points", fontsize=8, color=color
            )
    _baselines(right, compared, losses)
    for axes, some, label in ((left, values, value_label), (right, losses, TEST_LABEL)):
        axes.set_xlabel(x_label)
        value_scale(axes, "x", xs)
        value_axis(axes, some, label)
    figure.legend(*right.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=9)
    return figure


def _baselines(axes: Axes, compared: Compared, losses: list[float]) -> None:
    """Horizontal lines of what comes without a search."""
    lines = [(o.method, o.test_loss) for o in compared.baselines]
    for (name, loss), style in zip(
        [*lines, ("kernel ridge", 1 - compared.kernel_ridge["ldos_r2"])], ("--", "-.", ":"), strict=True
    ):
        if loss is not None:
            axes.axhline(loss, color=GREY, linewidth=1, linestyle=style, label=name, zorder=0)
            losses.append(loss)


def score_figure(compared: Compared, value_label: str) -> Figure:
    """Every score against the value of all trained trials."""
    panels = compared.scores
    figure = Figure(figsize=(3.2 * len(panels) + 0.6, 3.6), layout="constrained")
    every = [v for scored in panels.values() for v in scored.values]
    for i, (name, scored) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), i + 1)
        axes.scatter(scored.scores, scored.values, s=18, color=GREY if name in TRIVIAL else BLUE)
        q = scored.quality
        title = (
            "too few trials"
            if q.tau is None
            else f"τ {q.tau:+.2f} ± {q.tau_error:.2f}, regret {100 * (q.regret or 0):.0f} %"
        )
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(SCORE_LABELS.get(name, name))
        value_axis(axes, every, value_label if i == 0 else "")
    return figure


def chosen_figure(compared: Compared) -> Figure:
    """Test error of the winners against the number of parameters, named by their architecture."""
    figure = Figure(figsize=(8.4, 4.8), layout="constrained")
    axes, looks = figure.subplots(), _looks(compared)
    found = [o for o in (*compared.outcomes, *compared.baselines) if o.test_loss is not None and o.n_parameters]
    points = [(float(o.n_parameters or 0), o.test_loss or 0.0) for o in found]
    front = [points[i] for i in pareto_front(points)]
    axes.plot(*zip(*front, strict=True), color=GREY, linewidth=1, zorder=0)
    named: set[str] = set()
    for o, (x, y) in zip(found, points, strict=True):
        color, mark = looks.get(o.method, (GREY, "p" if o.method == "largest" else "d"))
        axes.errorbar(
            x,
            y,
            yerr=o.test_loss_std,
            fmt=mark,
            color=color,
            markersize=7,
            capsize=3,
            label=None if o.method in named else o.method,
        )
        named.add(o.method)
        if (x, y) in front:
            axes.annotate(o.network, (x, y), xytext=(6, -11), textcoords="offset points", fontsize=8, color="#444444")
    axes.set_xlabel("parameters of the network")
    value_scale(axes, "x", [x for x, _ in points])
    value_axis(axes, [y for _, y in points], TEST_LABEL)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def _looks(compared: Compared) -> dict[str, tuple[str, str]]:
    """Colour and mark of each method."""
    methods = dict.fromkeys(o.method for o in compared.outcomes)
    return {m: (COLORS[i % len(COLORS)], MARKS[i % len(MARKS)]) for i, m in enumerate(methods)}
