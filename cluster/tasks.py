"""One function on many inputs, a Ray task each; results back as they come."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from ..trainables.errors import InputError, one_line
from .resources import slots


def as_done(work: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """Do tasks, one on each CPU of the cluster at a time, the first ones first; those under way end with the iteration.

    Args:
        work: a function of a module of ours, which the workers import.
        tasks: its inputs, small enough to be sent.

    Returns:
        The number of each task with its result, as they are done.

    Raises:
        InputError: what a task raised, or its worker died.
        ClusterError: no node has a CPU.
    """
    do = ray.remote(num_cpus=1)(work)
    at_once, started, running = slots(1), 0, dict[ray.ObjectRef, int]()
    try:
        while running or started < len(tasks):
            while started < len(tasks) and len(running) < at_once:
                running[do.remote(tasks[started])] = started
                started += 1
            (done,), _ = ray.wait(list(running), num_returns=1)
            number = running.pop(done)
            try:
                result = ray.get(done)
            except RayTaskError as error:
                if isinstance(error.cause, InputError):
                    raise InputError(one_line(error.cause)) from error
                raise
            except RayError as error:  # a lost node or a worker killed for memory, after Ray's own retries
                raise InputError(f"a worker died ({one_line(error)[:200]}); repeat the command") from error
            yield number, result
    finally:
        for ref in running:
            ray.cancel(ref, force=True)
