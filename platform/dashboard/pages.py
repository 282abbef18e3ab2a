"""The live pages as HTML: the list of studies, and a study."""

import html
import json
from collections.abc import Sequence
from urllib.parse import quote

from ..figures.draw import FIGURES
from ..figures.page import CONFIG
from ..study.listing import Listed

STYLE = """
:root { color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  body { background: #161616; color: #dddddd; } p, dt { color: #a8a8a8; } pre { background: #222222; }
  th, td { border-color: #3a3a3a; } .trials .best td { background: #4a2a1a; } a { color: #7db8ea; }
}
.state { display: inline-block; padding: 0 .6rem; border-radius: 1rem; color: white; background: #5f5f5f; }
.state.running { background: #1f6fb4; } .state.ended { background: #3a7a3a; }
.state.died, .state.unreadable { background: #b0431a; }
progress { width: 16rem; vertical-align: middle; } #trouble { color: #b0431a; font-weight: 600; min-height: 1.4em; }
"""


def study_page(name: str) -> str:
    """The page of a study, empty until its script has the first news."""
    sections = "".join(
        f'<section data-figure="{figure}"><h2>{about.title}</h2><p>{about.caption}</p><p class=reason></p>'
        f'<div id="{figure}" hidden></div></section>'
        for figure, about in FIGURES.items()
    )
    return (
        '<p><a href="/">all studies</a></p>'
        "<p aria-live=polite><span id=state class=state>looking</span> <span id=words></span></p>"
        "<p><progress id=progress value=0 max=1 aria-label='trials'></progress> <span id=count></span></p>"
        "<p id=trouble role=status></p><noscript><p>This page needs JavaScript.</p></noscript>"
        f"<div id=overview></div>{sections}<div id=trials></div>"
        f"<script type='application/json' id=options>{json.dumps(CONFIG)}</script>"
    )


def list_page() -> str:
    """The list of studies, empty until its script has the first news."""
    return "<p id=trouble role=status></p><div id=studies><p>Looking.</p></div>"


def rows(found: Sequence[Listed]) -> str:
    """The studies as a table."""
    if not found:
        return "<p>No study is here yet; <code>dftune study run</code> starts one.</p>"
    lines = "".join(
        f'<tr><td><a href="/studies/{quote(one.name, safe="")}">{html.escape(one.name)}</a>'
        f'<td><span class="state {one.state}">{one.state}</span>'
        + "".join(f"<td>{html.escape(text)}" for text in _cells(one))
        for one in found
    )
    head = "".join(f"<th>{title}" for title in ("study", "state", "method", "dataset", "trials", "best", "held by"))
    return f"<table><thead><tr>{head}</thead><tbody>{lines}</tbody></table>"


def _cells(one: Listed) -> list[str]:
    if one.problem is not None:
        return [one.problem, "", "", "", ""]
    best = "" if one.best is None else f"{one.minimizes} {one.best:.4g}"
    return [one.method or "", one.dataset or "", str(one.trials), best, one.holder or ""]
