"""Runs of the DFT as Ray tasks, wherever the cluster has the CPUs.  Results come to the process that asks."""

import shutil
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from ...trainables.data.generating.computing import FAILURE, Kept, Order, Part, compute
from ...trainables.data.generating.results import Runs
from ...trainables.errors import one_line
from ...trainables.files import atomic
from ...trainables.progress import Progress, duration
from ...trainables.temporary import temporary_folder
from ..resources import slots, use_cpus

MOST_LOSSES = 3  # of the workers or nodes of one run
AHEAD = 2  # runs that wait on the cluster beyond those that it has room for
IN_FLIGHT = 4  # parts of a run that wait for this process; each is a file, or up to half a gigabyte
STAGE = "dft"


@ray.remote(max_retries=0, num_returns="streaming", _generator_backpressure_num_objects=IN_FLIGHT)
def _compute(order: Order) -> Iterator[Part]:
    use_cpus(1)
    with temporary_folder("qe") as folder:
        yield from compute(order, folder)


class Runner:
    """Computes what is not there yet, as many at once as fit.

    Args:
        runs: where results are kept.
        ranks: CPUs of a run.
        progress: how far it is.
    """

    def __init__(self, runs: Runs, ranks: int, progress: Progress) -> None:
        self._runs, self._ranks, self._progress = runs, ranks, progress
        self._at_once = slots(ranks, what="a DFT run", remedy="lower [run] ranks")

    def run(self, orders: Sequence[Order], *, stage: str = STAGE, give_up: int | None = None) -> dict[str, str]:
        """Compute some orders.

        Args:
            orders: finished ones are passed over.
            stage: its name.
            give_up: after so many failures without a success no other run is begun.

        Returns:
            Failed ones: name -> why.

        Raises:
            InputError: a result is of another specification, or cannot be written.
        """
        waiting = deque((order, 0) for order in orders if not self._runs.is_finished(order))
        if not waiting:
            return {}
        done, began, failed = len(orders) - len(waiting), time.monotonic(), dict[str, str]()
        here, total = 0, len(orders)
        self._progress.update(stage, done, total, "beginning")
        under_way: dict[Any, _UnderWay] = {}
        try:
            while waiting or under_way:
                hopeless = give_up is not None and not done and len(failed) >= give_up
                while waiting and len(under_way) < self._at_once + AHEAD and not hopeless:
                    order, losses = waiting.popleft()
                    parts = _compute.options(num_cpus=self._ranks).remote(order)
                    under_way[parts] = _UnderWay(order, losses, self._runs)
                if not under_way:
                    self._progress.say(f"gave up: the first {len(failed)} runs have failed")
                    break
                ready, _ = ray.wait(list(under_way), num_returns=1, timeout=1.0)
                for parts in ready:
                    one = under_way[parts]
                    ended = one.take(parts)
                    if ended is None:
                        continue
                    del under_way[parts]
                    if ended is LOST and one.losses + 1 < MOST_LOSSES:
                        self._progress.say(f"{one.order.id}: its worker was lost ({one.reason}); it is computed again")
                        waiting.append((one.order, one.losses + 1))
                        continue
                    if ended is FINISHED:
                        done, here = done + 1, here + 1
                    else:
                        failed[one.order.id] = one.reason
                        self._progress.say(f"{one.order.id} failed: {one.reason}")
                    left = total - done - len(failed)
                    each = (time.monotonic() - began) / max(here + len(failed), 1)
                    text = f"{one.order.id}, {duration(left * each)} left" if left else one.order.id
                    self._progress.update(stage, done, total, text)
        finally:
            for parts, one in under_way.items():
                with suppress(RayError):
                    ray.cancel(parts, force=True)
                one.drop()
            self._progress.end(stage)
        return failed


FINISHED, NO_RESULT, LOST = "finished", "no result", "lost"


class _UnderWay:
    """One run, whose parts are written as they come."""

    def __init__(self, order: Order, losses: int, runs: Runs) -> None:
        self.order, self.losses, self.reason = order, losses, ""
        self._runs = runs
        self._place = atomic(runs.path(order.id))
        self._folder = self._place.__enter__()
        self._folder.mkdir()
        self._kept = Kept(self._folder)

    def take(self, parts: Any) -> str | None:
        """Take the next part of a task.  Says how it has ended, None if it goes on."""
        with self._runs.writing():
            try:
                part = ray.get(next(parts))
            except StopIteration:
                return self._end()
            except RayTaskError as error:
                self.reason = one_line(error.cause or error, 300)
                return self._lose(NO_RESULT)
            except RayError as error:
                self.reason = one_line(error, 120)
                return self._lose(LOST)
            self._kept.add(part)
            return None

    def _end(self) -> str:
        self._kept.close()
        if self._kept.failure is not None:
            self.reason = f"{self._kept.failure}; its logs are in {self._runs.failed(self.order.id)}"
            return self._lose(NO_RESULT)
        self._place.__exit__(None, None, None)
        self._runs.forget_failure(self.order.id)
        return FINISHED

    def _lose(self, ended: str) -> str:
        if ended == NO_RESULT:
            (self._folder / FAILURE).write_text(f"{self.reason}\n", encoding="utf-8")
            self._runs.keep_failure(self.order.id, self._folder)
        self.drop()
        return ended

    def drop(self) -> None:
        """Forget what has come so far."""
        self._kept.close()
        if self._folder.exists():
            shutil.rmtree(self._folder, ignore_errors=True)
