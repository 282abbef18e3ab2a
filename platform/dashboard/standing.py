"""How a study stands, as values that a page shows: words, tables, and figures as Plotly takes them."""

import hashlib
import json
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.io

from ...trainables.progress import duration
from ..figures.draw import prepared
from ..figures.page import figure_of, overview
from ..figures.table import trial_table
from ..study.conclusion import Conclusion
from ..study.defaults import result_lines
from ..study.study import Study
from ..study.watch import View, Viewer


@dataclass(frozen=True)
class Standing:
    """What a page shows of a study: ``body`` is JSON, and ``stamp`` differs where anything in it does."""

    stamp: str
    body: bytes


class Standings:
    """Looks at studies for any number of browsers, at each study not more often than ``interval`` [s].

    Args:
        studies: folder of the studies.
        ledger: URL of a database that holds their ledgers instead.
        interval: between two looks.
    """

    def __init__(self, studies: Path, ledger: str | None = None, interval: float = 2.0) -> None:
        self.studies, self.ledger, self._interval = studies, ledger, interval
        self._seen: dict[str, tuple[float, Standing]] = {}
        self._one = threading.Lock()  # a look takes a core; many browsers at once must not take many

    def of(self, name: str) -> Standing:
        """How a study stands.  Raises InputError: there is none of that name, or its ledger cannot be read."""
        with self._one:
            at, found = self._seen.get(name, (-self._interval, None))
            if found is None or time.monotonic() - at >= self._interval:
                found = _look(Study.open(name, self.studies, self.ledger))
                self._seen[name] = (time.monotonic(), found)
            return found


def _look(study: Study) -> Standing:
    spec = study.spec
    with closing(Viewer(study.place, spec)) as viewer:
        view = viewer.look()
    ended = None if view.conclusion is None else Conclusion(**view.conclusion)
    shown, left_out = prepared(view.trials, spec)
    content = {
        "name": spec.name,
        "state": view.state,
        "words": words(view),
        "done": sum(t.state not in ("running", "pruned") for t in view.trials),
        "most": spec.trials,
        "overview": overview(view.trials, spec, result_lines(spec, ended)),
        "trials": trial_table(view.trials, spec),
        "figures": {name: _plain(figure_of(name, some, spec)) for name, some in shown.items()},
        "left_out": left_out,
    }
    body = json.dumps(content, separators=(",", ":")).encode()
    return Standing(hashlib.sha256(body).hexdigest()[:32], body)


def _plain(figure: dict[str, Any]) -> Any:
    """A figure without NumPy's numbers and arrays."""
    return json.loads(plotly.io.to_json(figure, validate=False))


def words(view: View) -> str:
    """How it stands, in a line."""
    reports = [f"trial {t.number} at epoch {t.reported[0]}" for t in view.trials if t.state == "running" and t.reported]
    said = {
        "running": f"held by {view.holder or 'a process that is just starting'}",
        "stopped": "nobody runs it; `dftune study resume` goes on",
        "died": f"{view.holder or 'its process'} gave no sign of life; `dftune study resume` goes on",
        "ended": "its result stands below",
    }[view.state]
    if view.stop is not None:
        said += f", asked to stop by {view.stop}"
    left = [] if view.seconds_left is None else [f"at most {duration(view.seconds_left)} of trials left"]
    return "; ".join([said, *reports[:4], *left])
