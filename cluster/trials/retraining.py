"""The chosen config on the cluster: trained again, with all initialisations at once, and judged."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from ...trainables.kind import Kind, StudyData
from ...trainables.progress import heard
from ...trainables.scratch import kept_in
from ..resources import MemoryShare, device_of_worker, use_cpus


@dataclass(frozen=True, eq=False)
class Retrained:
    """The chosen config, trained with T initialisations and judged on the test data.

    ``tensors`` are all numbers of the surrogate by name, ``seeds`` those of the initialisations that came to their end.
    """

    tensors: dict[str, Any]
    judgement: Any
    seeds: tuple[int, ...]


@ray.remote(max_concurrency=2)
class Retrainer:
    """Trains T initialisations at once while it can be asked how far it is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[str, Any] = {"epoch": 0}

    def progress(self) -> dict[str, Any]:
        """The last report, and after ``heard`` of one since then the ``step``: done, in all, and what it is."""
        with self._lock:
            return self._last

    def run(
        self,
        kind: Kind,
        config: dict[str, Any],
        sizes: Mapping[str, int],
        data: StudyData,
        seeds: Sequence[int],
        cpus: int,
        memory: MemoryShare,
        scratch: Path | None = None,
    ) -> Retrained:
        """Train and judge; what a later one would make again is kept in ``scratch``.  Errors as ``Kind.train``."""

        def report(epoch: Mapping[str, Any]) -> None:
            with self._lock:
                self._last = dict(epoch)

        def step(done: int, total: int, what: str) -> None:
            with self._lock:
                self._last = {**self._last, "step": (done, total, what)}

        report({"epoch": 0})  # not the last of the training before
        use_cpus(cpus)
        device = device_of_worker()
        chosen, training_data = kind.config.of(config), data.training_data()
        with heard(step), kept_in(scratch):
            trained = kind.train(
                chosen,
                training_data,
                seeds=seeds,
                device=device,
                memory=memory.bytes(device, kind.memory(chosen, sizes, len(seeds)).network),
                report=report,
            )
            judgement = kind.judge(trained, training_data, data.test())
        return Retrained(kind.tensors(trained), judgement, tuple(trained.seeds))
