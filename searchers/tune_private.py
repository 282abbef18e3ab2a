"""The one private part of Ray Tune that the adapter looks at: what ``tune.TuneConfig`` asks for.

Ray Tune tells a searcher its metric and mode (``set_search_properties``) only if the Tuner has a ``param_space``, which
ours has no use for.  So they are looked up where Ray Tune keeps them while it runs; where it no longer does, nothing is
found.  Seen in Ray 2.60.
"""

import sys
from dataclasses import dataclass
from pathlib import PurePath


@dataclass(frozen=True)
class Asked:
    """What a TuneConfig says: None for what it leaves open."""

    metric: str | None
    mode: str | None
    num_samples: int


def asked_by_tune() -> Asked | None:
    """What the Ray Tune that is calling was asked for; None if it is not, or cannot be seen."""
    frame = sys._getframe()
    while frame is not None:
        place = PurePath(frame.f_code.co_filename).parts[-3:]
        found = frame.f_locals
        if place == ("ray", "tune", "tune.py") and {"metric", "mode", "num_samples", "search_alg"} <= found.keys():
            return Asked(found["metric"], found["mode"], found["num_samples"])
        frame = frame.f_back  # type: ignore[assignment]
    return None
