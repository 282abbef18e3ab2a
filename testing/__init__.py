"""What dftune expects of other people's code, as functions to call in their tests; each raises AssertionError.

``check_searcher(build)`` is the contract of searchers.
"""

from .searchers import check_searcher

__all__ = ["check_searcher"]
