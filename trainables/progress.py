"""How far a long task is: the protocol for it, the progress that says nothing, times in words, who does its parts."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

# (work, its tasks) -> number of a task and its result, as they are done
Execute = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[tuple[int, Any]]]


def duration(seconds: float) -> str:
    """A time in its largest unit, rounded."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}" if seconds >= 10 * size else f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


class Progress(Protocol):
    """Where a long task says how far it is."""

    def say(self, text: str) -> None:
        """A line that stays."""
        ...

    def update(self, stage: str, done: int, total: int | None, text: str = "") -> None:
        """``stage`` has done ``done`` of ``total``; ``text`` says what last.  What it raises ends the task."""
        ...

    def end(self, stage: str) -> None:
        """``stage`` is over."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was, whatever is under way."""
        ...


class Silent:
    """No progress: for programs."""

    def say(self, text: str) -> None:
        pass

    def update(self, stage: str, done: int, total: int | None, text: str = "") -> None:
        pass

    def end(self, stage: str) -> None:
        pass

    def close(self) -> None:
        pass


class Within:
    """The progress of one of several tasks, which stays open when the task ends.

    Args:
        outer: where it is said.
        check: called at each step; what it raises ends the task.
    """

    def __init__(self, outer: Progress, check: Callable[[], None] = lambda: None) -> None:
        self._outer, self._check = outer, check
        self.say, self.end = outer.say, outer.end

    def update(self, stage: str, done: int, total: int | None, text: str = "") -> None:
        self._outer.update(stage, done, total, text)
        self._check()

    def close(self) -> None:
        pass


Listener = Callable[[int, int, str], None]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def heard(listener: Listener) -> Iterator[None]:
    """Inside, and in this thread, ``listener`` is told of the ``Steps`` of a task: done, in all, and what comes now."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class Steps:
    """Tells whoever listens how far a task without epochs is.

    Args:
        total: how many steps it takes.
    """

    def __init__(self, total: int) -> None:
        self._done, self._total = 0, total

    def __call__(self, what: str) -> None:
        """A step begins, and the one before it is done."""
        if (listener := _listener.get()) is not None:
            listener(min(self._done, self._total), self._total, what)
        self._done += 1
