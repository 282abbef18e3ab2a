"""Scores of candidates in a JSON file: a study that was killed finds them again."""

import json
import math
import time
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from ...trainables.files import write_text
from .errors import SearchStopped

SAVE_SECONDS = 2.0  # between two writes


class SavedScores:
    """Scores by what a score sees of a config.

    Args:
        path: the file; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, -math.inf

    def read(self) -> dict[Hashable, float]:
        """All scores there are.  Raises SearchStopped: the file is damaged, or of an earlier version."""
        try:
            rows = json.loads(self._path.read_text(encoding="utf-8"))
            return {to_key(row["seen"]): float(row["score"]) for row in rows}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SearchStopped(f"{self._path}: damaged; remove it to have the scores computed again") from error

    def write(self, known: Mapping[Hashable, float], *, at_once: bool) -> None:
        """Write all of them, whole or not at all, no more often than every SAVE_SECONDS unless ``at_once``."""
        if at_once or time.monotonic() - self._at > SAVE_SECONDS:
            write_text(self._path, json.dumps([{"seen": seen, "score": score} for seen, score in known.items()]))
            self._at = time.monotonic()


def to_key(value: Any) -> Hashable:
    """Nested lists, as JSON has them, as the nested tuples that they were."""
    return tuple(map(to_key, value)) if isinstance(value, list) else value
