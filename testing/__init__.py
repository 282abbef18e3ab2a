"""What dftune expects of other people's code, as functions to call in their tests; each raises AssertionError.

``check_searcher(build)`` is the contract of searchers: of what ``build(space, seed)`` makes.
``check_score(score, kind, data)`` is the contract of training-free scores: of ``score`` on training data of a kind.
``check_kind(kind, location, structure)`` is the contract of kinds of surrogates: ``kind`` opens the dataset at
``location``, trains on it for a moment, and predicts ``structure``.
``check_importer(importer, sources)`` is the contract of importers: of ``importer`` on small files of its own.

All work in this process, without Ray's processes; a check takes seconds.
"""

from typing import TYPE_CHECKING

from .kinds import check_kind
from .scores import check_score
from .searchers import check_searcher

if TYPE_CHECKING:
    from .importers import check_importer

__all__ = ["check_importer", "check_kind", "check_score", "check_searcher"]


def __getattr__(name: str) -> object:
    """``check_importer``, when it is first used: readers load ASE, which the other checks do without."""
    if name == "check_importer":
        from .importers import check_importer

        return check_importer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
