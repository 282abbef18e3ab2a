"""Progress while you wait: a bar on a terminal, plain lines elsewhere.  Written to stderr, never to stdout."""

import math
import sys
import time
from collections.abc import Callable

from ..trainables.errors import printed_line
from ..trainables.progress import Progress as Progress
from ..trainables.progress import Silent as Silent


class Terminal:
    """A bar a stage."""

    def __init__(self) -> None:
        from rich.console import Console  # in a script nobody sees bars
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        self._bars = Bars(
            TextColumn("{task.description:12s}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[text]}"),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, int] = {}

    def say(self, text: str) -> None:
        self._bars.console.print(printed_line(text), markup=False, highlight=False)

    def update(self, stage: str, done: int, total: int | None, text: str = "") -> None:
        if stage not in self._tasks:
            self._bars.start()
            self._tasks[stage] = self._bars.add_task(stage, total=total, text="")
        self._bars.update(self._tasks[stage], completed=done, total=total, text=printed_line(text))  # type: ignore[arg-type]

    def end(self, stage: str) -> None:
        self._tasks.pop(stage, None)
        if not self._tasks:
            self._bars.stop()

    def close(self) -> None:
        self._tasks.clear()
        self._bars.stop()


class Plain:
    """A line an event.  How far a stage is, is said where nothing else is for a while, and at its end.

    A stage that moves on is said after ``SECONDS``, one that stands after ``BEAT``.
    """

    SECONDS, BEAT = 5.0, 60.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started, self._spoke = clock(), -math.inf
        self._done: dict[str, int] = {}

    def say(self, text: str) -> None:
        self._spoke = self._clock()
        print(f"[{self._spoke - self._started:5.0f} s] {printed_line(text)}", file=sys.stderr, flush=True)

    def update(self, stage: str, done: int, total: int | None, text: str = "") -> None:
        moved, self._done[stage] = done != self._done.get(stage), done
        silent = self._clock() - self._spoke
        if silent < (self.SECONDS if moved else self.BEAT) and not (moved and done == total):
            return
        self.say(f"{stage}: {done}{'' if total is None else f' of {total}'}{f' ({text})' if text else ''}")

    def end(self, stage: str) -> None:
        self._done.pop(stage, None)

    def close(self) -> None:
        pass


def for_terminal() -> Progress:
    """Bars when stderr is a terminal, else plain lines."""
    return Terminal() if sys.stderr.isatty() else Plain()


def default_progress() -> Progress:
    """What a call from Python shows if nothing is said: bars on a terminal, lines in a notebook, else nothing."""
    if sys.stderr.isatty():
        return Terminal()
    in_notebook = "ipykernel" in sys.modules
    return Plain() if in_notebook else Silent()
