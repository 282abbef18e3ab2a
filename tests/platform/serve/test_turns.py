"""Work that takes its turn leaves no memory behind."""

import asyncio
import importlib.util
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from dftune.platform.serve import turns
from dftune.platform.serve.turns import Turns
from dftune.trainables.errors import InputError
from dftune.trainables.memory import give_back

MB = 2**20


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def in_pieces(small: list[bytes]) -> list[bytes]:
    """200 MB, with small pieces between that stay, so that the C library gives nothing back by itself."""
    large = []
    for _ in range(2000):
        large.append(b"x" * 100_000)
        small.append(b"y" * 600)
    return large


@pytest.mark.parametrize("fails", [False, True])
def test_memory_of_large_work_goes_back_to_the_system(fails, monkeypatch):
    monkeypatch.setattr(turns, "REST", 0.05)
    small: list[bytes] = []

    def work(tell):
        large = in_pieces(small)
        assert resident() > before + 150 * MB
        if fails:
            raise InputError("no")
        return len(large)

    async def twice():
        for _ in range(2):
            try:
                assert await row.run(work) == 2000
            except InputError:
                assert fails
            await asyncio.to_thread(until, lambda: resident() < before + 20 * MB)

    give_back()  # what other tests have left, which this one would use
    row, before = Turns(1, "wait"), resident()
    threading.Thread(target=turns.give_back_after_work, daemon=True).start()
    asyncio.run(twice())


def test_memory_goes_back_a_moment_after_the_last_work_and_seldom_before():
    """Each time costs what it frees: work that follows work would take it again."""
    spec = importlib.util.find_spec(turns.__name__)
    assert spec is not None
    assert spec.loader is not None
    alone = importlib.util.module_from_spec(spec)  # threads of other tests go on with the one that they have
    spec.loader.exec_module(alone)
    now, given = 0.0, list[float]()

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        if now < 10.5:
            alone.worked.set()  # something ends each second, the last of it after ten

    def wait() -> None:
        if not alone.worked.is_set():
            raise InterruptedError("nothing works any more")

    alone.keep_little, alone.give_back = (lambda: None), (lambda: given.append(now))
    alone.time = SimpleNamespace(monotonic=lambda: now, sleep=sleep)
    alone.worked.wait = wait
    alone.worked.set()
    with pytest.raises(InterruptedError):
        alone.give_back_after_work()
    assert given == [5.0, 10.0, 11.0]


def until(so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.01)
