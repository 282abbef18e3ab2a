"""Work that takes turns: one at a time in a thread, a bounded number waits, and what nobody waits for is ended."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from fastapi import HTTPException

from ...trainables.kind import Tell
from ...trainables.memory import give_back, keep_little
from .settings import RETRY_AFTER

T = TypeVar("T")
# Memory is given back when no work has ended for REST, and every SOON while work goes on [s].  That takes 3 to 20 ms,
# and the next work 20 ms more, to take it again.
REST, SOON = 1.0, 5.0
worked = threading.Event()  # set where memory may be left


class _GivenUp(Exception):
    """Nobody waits for this any more."""


class Places:
    """A bounded number of requests at once.

    Args:
        most: so many.
        doing: what they do, for who is turned away.
    """

    def __init__(self, most: int, doing: str) -> None:
        self._most, self._doing, self._taken, self._lock = most, doing, 0, threading.Lock()

    def refuse_if_taken(self) -> None:
        """Raises HTTPException: 503, all are taken."""
        if self._taken >= self._most:
            raise HTTPException(
                503,
                f"{self._taken} requests {self._doing} already; try again in {RETRY_AFTER} s",
                {"Retry-After": str(RETRY_AFTER)},
            )

    def take(self) -> None:
        """Raises as ``refuse_if_taken``."""
        with self._lock:
            self.refuse_if_taken()
            self._taken += 1

    def give_back(self, _: Any = None) -> None:
        with self._lock:
            self._taken -= 1

    @contextmanager
    def one(self) -> Iterator[None]:
        """A place inside the block; raises as ``take``."""
        self.take()
        try:
            yield
        finally:
            self.give_back()


class Turns:
    """One thing at a time, and so many that wait.

    Args:
        queue: so many.
        doing: what they do or wait for, for who is turned away.
    """

    def __init__(self, queue: int, doing: str) -> None:
        self._places, self._worker = Places(1 + queue, doing), ThreadPoolExecutor(1, "turns")
        self.refuse_if_taken = self._places.refuse_if_taken

    async def run(self, work: Callable[[Tell], T]) -> T:
        """The result of some work, when its turn has come and it is done.

        It is ended, at the next progress that it tells, when nobody waits for it any more.

        Raises:
            HTTPException: 503, as many wait as may.
        """
        self._places.take()
        given_up = threading.Event()

        def progress(what: str, done: int, total: int) -> None:
            if given_up.is_set():
                raise _GivenUp

        future = self._worker.submit(work, progress)
        future.add_done_callback(self._places.give_back)  # not before the thread is free
        future.add_done_callback(lambda _: worked.set())
        try:
            return await asyncio.wrap_future(future)
        finally:
            given_up.set()
            # It holds the error, whose frames hold it: arrays in them would stay until garbage is collected.
            del future


def give_back_after_work() -> None:
    """Leave no memory behind, as long as this process lives: start it once, in a thread of its own.

    Five predictions on up to 500,000 grid points at once left 400 MB that nothing used and the C library kept.  One on
    8,000 points (two layers of 256, T = 5) leaves 60 MB, in parts of 2 to 3 MB.
    """
    keep_little()
    while True:
        worked.wait()
        end = time.monotonic() + SOON
        while worked.is_set() and time.monotonic() < end:
            worked.clear()  # so that it is given back once more after what ends from here on
            time.sleep(REST)
        give_back()
