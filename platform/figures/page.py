"""The figures of a study as one HTML page that needs nothing else: open it without a network, hover to see a trial."""

import html
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from ...trainables.data.location import name_of
from ...trainables.drawing import BLUE, GREY, ORANGE
from ...trainables.files import write_text
from ..ledger.trial import LedgerTrial
from ..spec import StudySpec
from .axes import BARS, LOOKS, THOUSANDS, VALUED, Look, in_lines, is_log
from .document import document
from .slots import Slots
from .table import SORT, toml, trial_table
from .trials import UNSET, Compute, Curves, History, Importance, Parallel, Score
from .values import Values

# Nothing leaves the page: Plotly's own button uploads a figure to its makers' servers.
CONFIG = {"displaylogo": False, "showSendToCloud": False, "plotlyServerURL": "", "responsive": True}


@dataclass(frozen=True)
class Section:
    """A figure on the page.

    Args:
        name: of the figure, as in ``HTML``.
        title: its heading.
        caption: what to see in it.
        shown: the numbers to draw; None if it is left out.
        reason: why it is left out.
    """

    name: str
    title: str
    caption: str
    shown: Any = None
    reason: str = ""


def write_page(
    sections: Sequence[Section],
    trials: Sequence[LedgerTrial],
    spec: StudySpec,
    path: Path,
    result: Sequence[str] = (),
) -> None:
    """Write the page.

    Args:
        sections: the figures, from top to bottom.
        trials: all trials of the study.
        spec: of the study.
        path: HTML file to write.
        result: what an ended study has come to, in lines for people.

    Raises:
        InputError: it cannot be written.
    """
    parts = [overview(trials, spec, result), *(_section(section, spec) for section in sections)]
    parts.append(trial_table(trials, spec))
    write_text(path, document(f"Study {spec.name}", "\n".join(parts), script=get_plotlyjs() + SORT))


def overview(trials: Sequence[LedgerTrial], spec: StudySpec, result: Sequence[str] = ()) -> str:
    """What stands above the figures, as HTML: facts, accuracy, and the best config, to copy into a study file."""
    facts = "".join(f"<dt>{k}</dt><dd>{html.escape(v)}</dd>" for k, v in _facts(trials, spec).items())
    found = f"<dl>{facts}</dl>"
    if result:
        found += f"<h2>Accuracy</h2><pre>{html.escape(chr(10).join(result))}</pre>"
    if done := [t for t in trials if t.value is not None]:
        best = min(done, key=lambda t: (t.value or 0.0, t.number))
        config = toml("config", {**spec.config, **best.config})
        found += f"<h2>Config of the best trial</h2><pre>{html.escape(config)}</pre>"
    return found


def figure_of(name: str, shown: Any, spec: StudySpec) -> dict[str, Any]:
    """A figure of ``HTML`` of what it shows, in the looks of the page, as Plotly's plain values."""
    figure = HTML[name](shown, spec).update_layout(font_size=13).to_dict()
    figure["layout"]["template"] = _template()  # the figure itself would check and copy all of it
    return figure


@cache
def _template() -> dict[str, Any]:
    return plotly.io.templates["simple_white"].to_plotly_json()


def _section(section: Section, spec: StudySpec) -> str:
    if section.shown is None:
        return f"<section><h2>{section.title}</h2><p>Left out: {html.escape(section.reason)}.</p></section>"
    figure = figure_of(section.name, section.shown, spec)
    body = plotly.io.to_html(
        figure,
        full_html=False,
        include_plotlyjs=False,
        div_id=section.name,
        config=dict(CONFIG),
        validate=False,
    )
    return f"<section><h2>{section.title}</h2><p>{section.caption}</p>{body}</section>"


def _facts(trials: Sequence[LedgerTrial], spec: StudySpec) -> dict[str, str]:
    counts: dict[str, int] = {}
    for trial in trials:
        counts[trial.state] = counts.get(trial.state, 0) + 1
    facts = {
        "method": spec.method,
        "dataset": name_of(spec.dataset),
        "minimises": "; ".join(measure.axis for measure in (spec.value_measure, *spec.other_measures)),
        "trials": f"{len(trials)}: " + ", ".join(f"{n} {state}" for state, n in counts.items()),
    }
    done = [(t.value, t.number, t) for t in trials if t.value is not None]
    if done:
        value, number, best = min(done, key=lambda some: some[:2])
        config = ", ".join(_entry(name, some) for name, some in best.config.items())
        facts["best"] = f"{value:.4g}{spec.value_measure.suffix}, trial {number}: {config}"
    return facts


def hover(trial: LedgerTrial, spec: StudySpec) -> str:
    """What a trial is, in lines for a box at the pointer."""
    lines = [f"<b>trial {trial.number}</b>, {trial.state}"]
    lines += [html.escape(_entry(name, value)) for name, value in trial.config.items()]
    if (reached := trial.reached(spec.metric)) is not None:
        lines.append(f"{spec.value_name} {reached:.4g}{spec.value_measure.suffix}")
    for measure, value in zip(spec.other_measures, trial.others):
        lines.append(f"{measure.report} {value:.4g}{measure.suffix}")
    if "epoch" in trial.result and trial.seconds is not None:
        lines.append(f"{trial.result['epoch']:.0f} epochs, {trial.seconds:.1f} s")
    lines += [f"score {html.escape(name)} {score:.4g}" for name, score in trial.scores.items()]
    if trial.failure:
        lines.append(html.escape(trial.failure[:120]))
    return "<br>".join(lines)


def history_page(data: History, spec: StudySpec) -> go.Figure:
    """As ``png.history_figure``."""
    rows = len(data.others)
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.02, row_heights=[0.06 * rows + 0.001, 1 - 0.06 * rows]
    )
    for state, label in zip(VALUED, ("finished", "stopped early, best reached"), strict=True):
        some = [(t, t.number, v) for t, v in data.valued if t.state == state]
        _add_points(figure, some, spec, label, LOOKS[state], row=2, col=1)
    _add_steps(figure, data.best, "best so far", row=2, col=1)
    for state, trials in data.others.items():
        label = f"{state} ({len(trials)})"
        _add_points(figure, [(t, t.number, label) for t in trials], spec, "", LOOKS[state], row=1, col=1)
    figure.update_yaxes(row=1, col=1, autorange="reversed", ticks="", showline=False, visible=bool(rows))
    figure.update_xaxes(row=1, col=1, ticks="", showline=False, showticklabels=False)
    figure.update_xaxes(row=2, col=1, title="trial", minallowed=-1, tickformat="d")
    if max(t.number for t, _ in data.valued) < 10:
        figure.update_xaxes(row=2, col=1, tick0=0, dtick=1)
    _value_axis(figure, [v for _, v in data.valued], spec, row=2, col=1)
    return _legend_above(figure, 460)


def compute_page(panels: Sequence[Compute], spec: StudySpec) -> go.Figure:
    """As ``png.compute_figure``."""
    figure = make_subplots(rows=1, cols=len(panels), shared_yaxes=True, horizontal_spacing=0.04)
    for i, panel in enumerate(panels, start=1):
        for state in VALUED:
            some = [(t, x, v) for t, x, v in panel.valued if t.state == state]
            _add_points(figure, some, spec, state if i == 1 else "", LOOKS[state], row=1, col=i)
        _add_steps(figure, panel.best, "best so far" if i == 1 else "", row=1, col=i)
        figure.update_xaxes(row=1, col=i, title=in_lines(panel.label, "<br>"), tickformat="~s", rangemode="tozero")
        _value_axis(figure, [v for _, _, v in panel.valued], spec, title=i == 1, row=1, col=i)
    return _legend_above(figure, 420)


def curves_page(data: Curves, spec: StudySpec) -> go.Figure:
    """As ``png.curves_figure``."""
    figure = make_subplots(rows=1, cols=1)
    for trial, epochs, values in sorted(data.curves, key=lambda some: some[0].number == data.best):
        best = trial.number == data.best
        line = go.Scatter(
            x=epochs,
            y=values,
            mode="lines",
            name=f"best: trial {trial.number}" if best else "",
            showlegend=best,
            line={"color": ORANGE if best else BLUE, "width": 2.5 if best else 1},
            opacity=1 if best else 0.5,
            hovertext=hover(trial, spec),
            hoverinfo="text",
        )
        figure.add_trace(line, row=1, col=1)
    figure.update_xaxes(title="epoch")
    _value_axis(figure, [v for _, _, values in data.curves for v in values], spec, row=1, col=1)
    return _legend_above(figure, 440)


def score_page(panels: Sequence[Score], spec: StudySpec) -> go.Figure:
    """As ``png.score_figure``; pruned trials stand at the foot."""
    figure = make_subplots(rows=1, cols=len(panels), shared_yaxes=True, horizontal_spacing=0.04)
    values = [v for panel in panels for _, _, v in panel.pairs]
    for i, panel in enumerate(panels, start=1):
        look = replace(LOOKS["finished"], color=BLUE if panel.is_main else GREY)
        _add_points(figure, [(t, s, v) for t, s, v in panel.pairs], spec, "", look, row=1, col=i)
        some = [(t, s, min(values) / 1.1) for t, s in panel.pruned]
        label = f"pruned ({len(some)})" if i == 1 else ""
        _add_points(figure, some, spec, label, LOOKS["pruned"], row=1, col=i)
        best = min(panel.pairs, key=lambda some: some[2])
        _add_rings(figure, [best[1:]], "best" if i == 1 else "", row=1, col=i)
        figure.add_annotation(
            text=panel.quality.title, x=0.5, y=1.06, xref="x domain", yref="y domain", showarrow=False, row=1, col=i
        )
        shown = [s for _, s, _ in panel.pairs] if panel.is_trivial else []
        figure.update_xaxes(row=1, col=i, title=in_lines(panel.label, "<br>"), **_scale(shown))
        _value_axis(figure, values, spec, title=i == 1, row=1, col=i)
    return _legend_above(figure, 440)


def importance_page(data: Importance, spec: StudySpec) -> go.Figure:
    """As ``png.importance_figure``."""
    above = [h - s for h, s in zip(data.high, data.shares, strict=True)]
    below = [s - x for x, s in zip(data.low, data.shares, strict=True)]
    bars = go.Bar(
        x=data.shares,
        y=data.names,
        orientation="h",
        marker_color=BLUE,
        error_x={"type": "data", "array": above, "arrayminus": below, "thickness": 1.5, "width": 0},
        hovertemplate="%{y}: %{x:.2f}<extra></extra>",
    )
    figure = go.Figure(bars)
    figure.update_yaxes(autorange="reversed", ticks="", automargin=True)
    label = f"importance: what distinguishes the best {data.n_best} of {data.n_trials} trials, shares of one"
    figure.update_xaxes(title=label, range=[0, 1])
    return figure.update_layout(height=120 + 44 * len(data.names), margin={"l": 70, "r": 20, "t": 20, "b": 60})


def parallel_page(data: Parallel, spec: StudySpec) -> go.Figure:
    """As ``png.parallel_figure``, with the trial number as an axis: lines cannot show a box at the pointer."""
    numbers = [t.number for t in data.trials]
    foot = UNSET if any(UNSET in axis.positions for axis in data.axes) else 0.0
    axes: list[dict[str, Any]] = [{"label": "trial", "values": numbers}]
    for axis in data.axes:
        places, texts = zip(*axis.ticks)
        axes.append(
            {
                "label": axis.name,
                "values": axis.positions,
                "range": [foot, 1],
                "tickvals": places,
                "ticktext": texts,
            }
        )
    line = {"color": data.axes[-1].positions, "colorscale": "Cividis", "cmin": 0, "cmax": 1.08}
    figure = go.Figure(go.Parcoords(line=line, dimensions=axes))
    return figure.update_layout(height=460, margin={"l": 60, "r": 110, "t": 60, "b": 40})


def values_page(data: Values, spec: StudySpec) -> go.Figure:
    """As ``png.values_figure``."""
    figure = make_subplots(rows=1, cols=len(data.pairs), horizontal_spacing=0.1)  # for the titles between
    both = list(zip(data.points, data.front, strict=True))
    for col, (i, j) in enumerate(data.pairs, start=1):
        points = [(trial, row[i], row[j]) for trial, row in data.points]
        front = [(row[i], row[j]) for (_, row), best in both if best]
        label = "" if col > 1 else "finished trial"
        if len(data.labels) == 2:
            _add_steps(figure, sorted(front), "", row=1, col=col)
        _add_points(figure, points, spec, label, LOOKS["finished"], row=1, col=col)
        _add_rings(figure, front, "" if col > 1 else "Pareto front", row=1, col=col)
        for update, k in ((figure.update_xaxes, i), (figure.update_yaxes, j)):
            update(title=in_lines(data.labels[k], "<br>"), **_scale([row[k] for _, row in data.points]), row=1, col=col)
    return _legend_above(figure, 420)


def slots_page(data: Slots, spec: StudySpec) -> go.Figure:
    """As ``png.slots_figure``."""
    figure = make_subplots(rows=1, cols=1)
    for state in dict.fromkeys(trial.state for trial, *_ in data.bars):
        some = [bar for bar in data.bars if bar[0].state == state]
        bars = go.Bar(
            x=[(end - begin) / data.size for _, _, begin, end in some],
            base=[begin / data.size for _, _, begin, _ in some],
            y=[row + 1 for _, row, _, _ in some],
            orientation="h",
            name=f"{state} ({len(some)})",
            marker={"color": BARS[state], "line": {"color": "white", "width": 0.5}},
            hovertext=[hover(trial, spec) for trial, *_ in some],
            hoverinfo="text",
        )
        figure.add_trace(bars, row=1, col=1)
    for pause in data.pauses:
        figure.add_vline(pause / data.size, line={"color": "black", "width": 1.2, "dash": "dot"})
    figure.update_xaxes(title=f"time in which trials ran [{data.unit}]", rangemode="tozero")
    figure.update_yaxes(title="slot", autorange="reversed", tickformat="d", dtick=max(1, -(-data.n_rows // 10)))
    return _legend_above(figure, 170 + 30 * min(data.n_rows, 20)).update_layout(barmode="overlay", showlegend=True)


HTML: dict[str, Callable[[Any, StudySpec], go.Figure]] = {
    "history": history_page,
    "compute": compute_page,
    "curves": curves_page,
    "score": score_page,
    "importance": importance_page,
    "parallel": parallel_page,
    "pareto": values_page,
    "values": values_page,
    "slots": slots_page,
}


def _add_points(
    figure: go.Figure,
    points: Iterable[tuple[LedgerTrial, Any, Any]],
    spec: StudySpec,
    label: str,
    look: Look,
    **place: int,
) -> None:
    """Trials as marks that say what they are; without a label not in the legend, without points not at all."""
    some = list(points)
    if some:
        trials, x, y = zip(*some)
        text = [hover(t, spec) for t in trials]
        width = 1.5 if "open" in look.page else 0
        marker = {"symbol": look.page, "color": look.color, "size": 9, "line": {"width": width}}
        found = go.Scatter(
            x=x,
            y=y,
            mode="markers",
            name=label,
            showlegend=bool(label),
            hovertext=text,
            hoverinfo="text",
            marker=marker,
        )
        figure.add_trace(found, **place)


def _add_steps(figure: go.Figure, points: Sequence[tuple[float, float]], label: str, **place: int) -> None:
    if points:
        x, y = zip(*points)
        line = {"shape": "hv", "color": ORANGE, "width": 2}
        found = go.Scatter(x=x, y=y, mode="lines", name=label, showlegend=bool(label), hoverinfo="skip", line=line)
        figure.add_trace(found, **place)


def _add_rings(figure: go.Figure, points: Sequence[tuple[float, float]], label: str, **place: int) -> None:
    x, y = zip(*points)
    marker = {"symbol": "circle-open", "size": 15, "color": ORANGE, "line": {"width": 2}}
    found = go.Scatter(x=x, y=y, mode="markers", name=label, showlegend=bool(label), hoverinfo="skip", marker=marker)
    figure.add_trace(found, **place)


def _value_axis(figure: go.Figure, values: Sequence[float], spec: StudySpec, title: bool = True, **place: int) -> None:
    figure.update_yaxes(showgrid=True, **_scale(values), **place)
    if min(values) == max(values):  # Plotly would show -1 to 1
        figure.update_yaxes(range=[0, 2 * values[0] or 1], **place)
    if title:
        figure.update_yaxes(title=in_lines(spec.value_measure.axis, "<br>"), automargin=True, **place)


def _scale(values: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis where the numbers ask for one; its ticks so few that Plotly labels 1, 2 and 5 only."""
    if not is_log(values):
        return {"type": "linear"}
    decades = math.log10(max(values) / min(values))
    n_ticks = 7 if decades < 0.7 else max(3, int(decades / 0.32))
    return {"type": "log", "nticks": n_ticks, "tickformat": "~s" if min(values) > THOUSANDS else "~g"}


def _legend_above(figure: go.Figure, height: int) -> go.Figure:
    legend = {"orientation": "h", "yanchor": "bottom", "y": 1.08, "xanchor": "left", "x": 0}
    margin = {"l": 70, "r": 20, "t": 50, "b": 60}
    return figure.update_layout(height=height, legend=legend, margin=margin, hoverlabel_align="left")


def _entry(name: str, value: object) -> str:
    return f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
