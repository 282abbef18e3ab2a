"""One function on many inputs, a Ray task each; results back as they come."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from ..trainables.errors import InputError, one_line
from .resources import slots


def as_done(
    work: Callable[..., Any],
    tasks: Sequence[Any],
    *shared: Any,
    name: Callable[[Any], str] = lambda task: "",
    cpus: int = 1,
    meanwhile: Callable[[], None] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Do tasks, as many at once as the cluster has CPUs, the first ones first; those under way end with the iteration.

    Args:
        work: a function of a module of ours, which the workers import.
        tasks: its first arguments, small enough to be sent; each is asked for when it is begun.
        shared: its other arguments, equal for all tasks; what ``ray.put`` gives is taken from there.
        name: how an error calls a task, followed by a colon; by default it does not.
        cpus: that a task takes, on one node.
        meanwhile: what is called about every second while none is done.

    Returns:
        The number of each task with its result, as they are done.

    Raises:
        InputError: what a task raised, or its worker died.
        ClusterError: no node has so many CPUs.
    """
    do = ray.remote(num_cpus=cpus)(work)
    at_once, started, running = slots(cpus, what="a task", remedy="give it fewer CPUs"), 0, dict[ray.ObjectRef, int]()
    try:
        while running or started < len(tasks):
            while started < len(tasks) and len(running) < at_once:
                running[do.remote(tasks[started], *shared)] = started
                started += 1
            while not (found := ray.wait(list(running), timeout=None if meanwhile is None else 1.0)[0]):
                assert meanwhile is not None
                meanwhile()
            (done,) = found
            number = running.pop(done)
            try:
                result = ray.get(done)
            except RayTaskError as error:
                if isinstance(error.cause, InputError):
                    raise _of(name(tasks[number]), one_line(error.cause)) from error
                raise
            except RayError as error:  # a lost node or a worker killed for memory, after Ray's own retries
                said = f"a worker died ({one_line(error)[:200]}); repeat the command"
                raise _of(name(tasks[number]), said) from error
            yield number, result
    finally:
        for ref in running:
            ray.cancel(ref, force=True)


def _of(name: str, said: str) -> InputError:
    return InputError(f"{name}: {said}" if name else said)
