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
from ...trainables.ldos.scores import TRIVIAL
from ..figures.trials import SCORE_LABELS, VALUE_LABELS
from ..spec import UNITS, Budget
from .comparison import BASELINES, Compared, Outcome
from .figures import chosen_figure, compute_figure, score_figure, wall_figure

STYLE = """
body { font: 16px/1.45 system-ui, sans-serif; max-width: 1060px; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; } img { max-width: 100%; }
table { border-collapse: collapse; font-size: 0.86rem; display: block; overflow-x: auto; }
th, td { padding: 0.25rem 0.7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
"""


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
    blocks = [Block(text=_introduction(compared)), Block("Methods", METHODS_TEXT, method_rows(compared))]
    blocks.append(Block("Without a search", BASELINES_TEXT, baseline_rows(compared)))
    if compared.scores:
        blocks.append(Block("Scores", SCORES_TEXT, score_rows(compared)))

    def add(name: str, figure: Figure, heading: str, text: str) -> None:
        save(figure, figures / f"{name}.png")
        blocks.append(Block(heading, text, figure=name))

    label, ended = VALUE_LABELS[compared.minimize], any(o.test_loss is not None for o in compared.outcomes)
    if ended:
        add("compute", compute_figure(compared, label), "Error against compute", COMPUTE_TEXT)
        add("wall", wall_figure(compared, label), "Error against wall time", WALL_TEXT)
    if compared.scores:
        add("score", score_figure(compared, label), "Score against error", SCORE_TEXT)
    if ended:
        add("networks", chosen_figure(compared), "Networks found", NETWORKS_TEXT)
    if reasons := _reasons(compared):
        blocks.append(Block("Left out", "\n".join(f"- {reason}" for reason in reasons)))
    title = f"Comparison {compared.name}"
    write_text(compared.folder / "report.md", _markdown(title, blocks))
    write_text(compared.folder / "report.html", _html(title, blocks, figures))


METHODS_TEXT = (
    "Each method with the same budget of training, and an end of its own if it comes sooner. The winner of each is "
    "trained again from several initialisations and judged on the test snapshots: mean ± standard deviation over "
    "initialisations, of several seeds the mean of both. Compute counts grid points x epochs of all trials of the "
    "search, in shares of the budget; the network is that of the best seed."
)
BASELINES_TEXT = "What comes without any search. A method that does not beat these has found nothing."
SCORES_TEXT = (
    "Training-free scores of all trained trials of all methods, on one mini-batch. τ is Kendall's rank correlation of "
    "score and accuracy, 1 where a higher score always meant a lower error; ± its standard error under no correlation; "
    "regret is by how much the error of the best-scored trial exceeds the lowest. Width and number of parameters are "
    "the trivial scores that any other must beat."
)
COMPUTE_TEXT = (
    "Left: the lowest value reached by the trials so far. Right: the winner on the test snapshots, with its spread "
    "over initialisations (as Fig. 2 of Fiedler et al. 2022)."
)
WALL_TEXT = (
    "The same against the time while trials ran; at each method's end the speed-up, seconds of training over wall "
    "seconds (as Fig. 3)."
)
SCORE_TEXT = "All trained trials (as Fig. 4)."
NETWORKS_TEXT = (
    "Error of the winners against the size of their networks (as Fig. 5); the line joins those than which none is "
    "both smaller and better."
)


def _introduction(compared: Compared) -> str:
    budget, seeds = compared.budget, sorted({o.seed for o in compared.outcomes})
    return (
        f"Dataset {Path(compared.dataset).name}; {len({o.method for o in compared.outcomes})} methods, seeds "
        f"{', '.join(map(str, seeds))}; budget of each: {describe_budget(budget)}; minimised: "
        f"{VALUE_LABELS[compared.minimize]}."
    )


def describe_budget(budget: Budget) -> str:
    """In words."""
    parts = []
    if budget.grid_points is not None:
        parts.append(f"{budget.grid_points:.3g} grid points x epochs")
    if budget.seconds is not None:
        parts.append(f"{budget.seconds:g} s of training")
    return " or ".join(parts)


def method_rows(compared: Compared) -> list[dict[str, str]]:
    """A row a method, the lowest test error first; means over its seeds."""
    groups = [
        [o for o in compared.outcomes if o.method == m] for m in dict.fromkeys(o.method for o in compared.outcomes)
    ]
    rows = [(_mean(o.test_loss for o in group), _method_row(group, compared)) for group in groups]
    return [row for _, row in sorted(rows, key=lambda pair: float("inf") if pair[0] is None else pair[0])]


def _method_row(group: Sequence[Outcome], compared: Compared) -> dict[str, str]:
    budget = compared.budget
    if budget.grid_points is not None:
        share = (_mean(o.grid_points for o in group) or 0.0) / budget.grid_points
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
        f"best value{UNITS[compared.minimize]}": _number(_mean(o.value for o in group), ".4g"),
        **_accuracy(group),
    }


def baseline_rows(compared: Compared) -> list[dict[str, str]]:
    """The baselines, kernel ridge the last."""
    rows = [
        {"baseline": o.method, "what it is": BASELINES[o.method]}
        | {f"best value{UNITS[compared.minimize]}": _number(o.value, ".4g"), **_accuracy([o])}
        for o in compared.baselines
    ]
    found = compared.kernel_ridge
    ridge = Outcome("", 0, "", test_loss=1 - found["ldos_r2"], band_energy_mae=found["band_energy_mae"])
    return [*rows, {"baseline": "kernel ridge", "what it is": "closed form, 1,000 grid points", **_accuracy([ridge])}]


def score_rows(compared: Compared) -> list[dict[str, str]]:
    """A row a score."""
    rows = []
    for name, scored in compared.scores.items():
        q = scored.quality
        rows.append(
            {
                "score": name,
                "what it is": SCORE_LABELS.get(name, name) + (" (trivial)" if name in TRIVIAL else ""),
                "τ": "-" if q.tau is None else f"{q.tau:+.2f} ± {q.tau_error:.2f}",
                "regret": "-" if q.regret is None else f"{100 * q.regret:.1f} %",
                "trials": str(q.n_trials),
            }
        )
    return rows


def _accuracy(group: Sequence[Outcome]) -> dict[str, str]:
    losses = [o for o in group if o.test_loss is not None]
    best = min(losses, key=lambda o: o.test_loss or 0.0, default=None)
    return {
        "test 1 - R²": _spread([(o.test_loss, o.test_loss_std) for o in group], ".4f"),
        "test band energy [meV/atom]": _spread([(o.band_energy_mae, o.band_energy_mae_std) for o in group], ".1f"),
        "network": "-" if best is None or not best.hidden else best.network,
        "parameters": "-" if best is None or best.n_parameters is None else f"{best.n_parameters:,}",
    }


def _reasons(compared: Compared) -> list[str]:
    failed = [f"{o.study}: {o.failure}" for o in (*compared.outcomes, *compared.baselines) if o.failure]
    missing = [f"{m}: {reason}" for m, reason in compared.left_out.items()]
    return [*failed, *missing]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _spread(pairs: Sequence[tuple[float | None, float | None]], form: str) -> str:
    mean, spread = _mean(m for m, _ in pairs), _mean(s for _, s in pairs)
    if mean is None:
        return "-"
    return format(mean, form) + ("" if spread is None else f" ± {format(spread, form)}")


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


def _html(title: str, blocks: Sequence[Block], figures: Path) -> str:
    parts = [f"<h1>{html.escape(title)}</h1>"]
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
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,"><style>{STYLE}</style>'
        "</head><body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )
