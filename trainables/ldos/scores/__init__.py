"""Training-free scores of an LDOS network, by name; the default one first.

To add one: write the function, as ``Score`` describes it, in a file of its own, and give it a line in SCORES.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from ...kind import Score


def _from(module: str) -> Callable[[Sequence[Any], Any, int], list[float]]:
    """The function of a module here that has the module's name.  It is imported when called: torch takes seconds."""

    def score(configs: Sequence[Any], batch: Any, seed: int) -> list[float]:
        return getattr(import_module(f".{module}", __name__), module)(configs, batch, seed)

    return score


SCORES: dict[str, Score] = {
    "rfr": Score(_from("rfr"), 900, "random-feature readout, -log E", about="random-feature readout"),
    "rfr30": Score(
        _from("rfr30"), 900, "readout after 30 steps, -log E", about="random-feature readout after 30 steps"
    ),
    "naswot": Score(_from("naswot"), 256, "NASWOT, S'", direction="learnt", about="NASWOT"),
    "first_width": Score(_from("first_width"), 1, "width of the first layer", trivial=True),
    "n_parameters": Score(_from("n_parameters"), 1, "number of parameters", trivial=True),
}
