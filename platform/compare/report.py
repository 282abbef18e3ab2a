"""The report of a comparison: the same text, tables and figures as Markdown and as one HTML page."""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ...trainables.drawing import save
from ...trainables.files import write_text
from ...trainables.kind import Measure
from ..figures.document import document
from ..tables import Budget
from .figures import chosen_figure, compute_figure, methods_figure, score_figure, wall_figure, with_cost
from .outcome import Compared, Outcome


@dataclass(frozen=True)
class Block:
    """A piece of a report: a heading, a paragraph, a table or a figure."""

    heading: str = ""
    text: str = ""
    table: Sequence[Mapping[str, str]] = ()
    figure: str = ""


def write_report(compared: Compared) -> None:
    """Write ``report.md``, ``report.html`` and ``figures/`` into the comparison's folder.

    Raises:
        OSError: the folder cannot be written.
    """
    figures = compared.folder / "figures"
    figures.mkdir(exist_ok=True)
    work, first = compared.of_kind.compute, compared.first
    blocks = [
        Block(text=_introduction(compared)),
        Block("Methods", METHODS_TEXT.format(work=work.label), method_rows(compared)),
        Block("Without a search", BASELINES_TEXT, baseline_rows(compared)),
    ]
    if compared.scores:
        blocks.append(Block("Scores", SCORES_TEXT, score_rows(compared)))

    blocks += [Block(heading, text, rows) for heading, text, rows in tables_over_splits(compared)]

    def add(name: str, figure: Figure, heading: str, text: str) -> None:
        save(figure, figures / f"{name}.png")
        blocks.append(Block(heading, text, figure=name))

    if any(o.error(first) is not None for o in compared.outcomes):
        add("methods", methods_figure(compared), "Methods, the best first", DOTS_TEXT)
        add("compute", compute_figure(compared), "Error against compute", COMPUTE_TEXT)
        add("wall", wall_figure(compared), "Error against wall time", WALL_TEXT)
    if compared.scores:
        add("score", score_figure(compared), "Score against error", SCORE_TEXT)
    if compared.cost is not None and with_cost(compared, compared.cost):
        text = NETWORKS_TEXT.format(cost=compared.cost.label)
        add("networks", chosen_figure(compared, compared.cost), "Networks found", text)
    if compared.over_splits is not None:
        blocks += [Block(heading, text, figure=name) for name, heading, text in compared.over_splits.draw(figures)]
    if reasons := _reasons(compared):
        blocks.append(Block("Left out", "\n".join(f"- {reason}" for reason in reasons)))
    title = f"Comparison {compared.name}"
    write_text(compared.folder / "report.md", _markdown(title, blocks))
    write_text(compared.folder / "report.html", document(title, _html(blocks, figures)))


METHODS_TEXT = (
    "All methods have the same budget of training, and some end before it is used up. The winner of each is trained "
    "again from several initialisations and judged on the test data: mean, and in brackets the spread, the standard "
    "deviation over initialisations. With several seeds both are averaged over them. Compute is the share of the "
    "budget that was used; work counts {work}. The network is that of the best seed."
)
BASELINES_TEXT = "What comes without any search. A method that does not beat these has found nothing."
SCORES_TEXT = (
    "Training-free scores of all trained trials of all methods, on one mini-batch. τ is Kendall's rank correlation of "
    "score and accuracy, 1 where a higher score always meant a lower error; in brackets its standard error under no "
    "correlation. Regret is by how much the error of the best-scored trial exceeds the lowest. A trivial score costs "
    "nothing: any other must beat it."
)
DOTS_TEXT = (
    "Each mark is the winner of a method with one seed on the test data, with its spread over initialisations. A bar "
    "is the mean over the seeds. Lines are what comes without a search: `untuned` are the default hyperparameters."
)
COMPUTE_TEXT = (
    "Left: the lowest value reached by the trials so far. Right: the winner on the test data, with its spread over "
    "initialisations (as Fig. 2 of Fiedler et al. 2022)."
)
WALL_TEXT = (
    "The same against the time while trials ran. At each method's end stands its speed-up, seconds of training over "
    "wall seconds (as Fig. 3)."
)
SCORE_TEXT = "All trained trials (as Fig. 4)."
NETWORKS_TEXT = (
    "Error of the winners on the test data against the cost of using them: {cost} (as Fig. 5). The line joins the "
    "networks that no other network beats in both."
)


def _introduction(compared: Compared) -> str:
    seeds = sorted({o.seed for o in compared.outcomes})
    return (
        f"Dataset {Path(compared.dataset).name}; {len({o.method for o in compared.outcomes})} methods, seeds "
        f"{', '.join(map(str, seeds))}; budget of each: {describe_budget(compared.budget, compared.of_kind.compute)}; "
        f"minimised: {compared.value.axis}."
    )


def describe_budget(budget: Budget, work: Measure) -> str:
    """In words.

    Args:
        budget: of each method.
        work: what its first limit counts.
    """
    parts = []
    if budget.work is not None:
        parts.append(f"{budget.work:.3g} {work.label}")
    if budget.seconds is not None:
        parts.append(f"{budget.seconds:g} s of training")
    return " or ".join(parts)


def method_rows(compared: Compared) -> list[dict[str, str]]:
    """A row a method, the lowest test error first; means over its seeds."""
    groups = [
        [o for o in compared.outcomes if o.method == m] for m in dict.fromkeys(o.method for o in compared.outcomes)
    ]
    rows = [(_mean(o.error(compared.first) for o in group), _method_row(group, compared)) for group in groups]
    return [row for _, row in sorted(rows, key=lambda pair: float("inf") if pair[0] is None else pair[0])]


def _method_row(group: Sequence[Outcome], compared: Compared) -> dict[str, str]:
    budget = compared.budget
    if budget.work is not None:
        share = (_mean(o.work for o in group) or 0.0) / budget.work
    else:
        share = (_mean(o.training_seconds for o in group) or 0.0) / (budget.seconds or float("nan"))
    return {
        "method": group[0].method,
        "trained": f"{_mean(o.trained for o in group):g}",
        "pruned": f"{_mean(o.pruned for o in group):g}",
        "compute": f"{100 * share:.0f} %",
        "wall [s]": f"{_mean(o.wall_seconds for o in group):.0f}",
        "speed-up": _number(_mean(o.speed_up for o in group), ".2f"),
        "scores [CPU s]": _number(_mean(o.scoring_seconds for o in group), ".1f"),
        f"best value{compared.value.suffix}": _number(_mean(o.value for o in group), ".4g"),
        **_accuracy(group, compared),
    }


def baseline_rows(compared: Compared) -> list[dict[str, str]]:
    """A row a baseline."""
    return [
        {"baseline": o.method, "what it is": o.about}
        | {f"best value{compared.value.suffix}": _number(o.value, ".4g"), **_accuracy([o], compared)}
        for o in compared.baselines
    ]


def score_rows(compared: Compared) -> list[dict[str, str]]:
    """A row a score."""
    rows = []
    for name, scored in compared.scores.items():
        q = scored.quality
        rows.append(
            {
                "score": name,
                "what it is": scored.label + (" (trivial)" if scored.trivial else ""),
                "τ": "-" if q.tau is None else f"{q.tau:+.2f} ({q.tau_error:.2f})",
                "regret": "-" if q.regret is None else f"{100 * q.regret:.1f} %",
                "trials": str(q.n_trials),
            }
        )
    return rows


def tables_over_splits(compared: Compared) -> Sequence[tuple[str, str, list[dict[str, str]]]]:
    """Heading, text and rows of each table of what was repeated over splits."""
    return () if compared.over_splits is None else compared.over_splits.tables


def _accuracy(group: Sequence[Outcome], compared: Compared) -> dict[str, str]:
    """Numbers on the test data, means over the seeds; network and cost of the seed with the lowest error."""
    row = {
        measure.axis: _spread([(o.error(name), o.spread(name)) for o in group])
        for name, measure in compared.of_kind.judged.items()
    }
    errors = [(error, o) for o in group if (error := o.error(compared.first)) is not None]
    best = min(errors, key=lambda pair: pair[0])[1] if errors else None
    row["network"] = "-" if best is None else best.network or "-"
    if compared.cost is not None:
        cost = None if best is None else best.costs.get(compared.cost.report)
        row[compared.cost.axis] = _number(cost, ",.0f" if cost is None or cost == round(cost) else ".3g")
    return row


def _reasons(compared: Compared) -> list[str]:
    failed = [f"{o.study}: {o.failure}" for o in (*compared.outcomes, *compared.baselines) if o.failure]
    missing = [f"{m}: {reason}" for m, reason in compared.left_out.items()]
    return [*failed, *missing]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _spread(pairs: Sequence[tuple[float | None, float | None]]) -> str:
    mean, spread = _mean(m for m, _ in pairs), _mean(s for _, s in pairs)
    if mean is None:
        return "-"
    return f"{mean:.4g}" + ("" if spread is None else f" ({spread:.2g})")


def _markdown(title: str, blocks: Sequence[Block]) -> str:
    lines = [f"# {title}", ""]
    for block in blocks:
        if block.heading:
            lines += [f"## {block.heading}", ""]
        lines += [block.text, ""]
        if block.table:
            names = list(block.table[0])
            lines += [f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}"]
            lines += [f"| {' | '.join(row.get(n, '-') for n in names)} |" for row in block.table]
            lines.append("")
        if block.figure:
            lines += [f"![{block.heading}](figures/{block.figure}.png)", ""]
    return "\n".join(lines)


def _html(blocks: Sequence[Block], figures: Path) -> str:
    parts = []
    for block in blocks:
        if block.heading:
            parts.append(f"<h2>{html.escape(block.heading)}</h2>")
        parts.append("".join(f"<p>{html.escape(line.removeprefix('- '))}</p>" for line in block.text.splitlines()))
        if block.table:
            names = list(block.table[0])
            head = "".join(f"<th>{html.escape(n)}</th>" for n in names)
            rows = (
                "<tr>" + "".join(f"<td>{html.escape(row.get(n, '-'))}</td>" for n in names) + "</tr>"
                for row in block.table
            )
            parts.append(f"<table><tr>{head}</tr>{''.join(rows)}</table>")
        if block.figure:
            data = base64.b64encode((figures / f"{block.figure}.png").read_bytes()).decode()
            parts.append(f'<img alt="{html.escape(block.heading)}" src="data:image/png;base64,{data}">')
    return "\n".join(parts)
