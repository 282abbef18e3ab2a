"""The chosen config on the cluster: trained again, with all initialisations at once, and judged."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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

    ``tensors`` are all numbers of the surrogate by name, ``seeds`` those of the initialisations that came to their end,
    and ``report`` is the last one, as trials give it.
    """

    tensors: dict[str, Any]
    judgement: Any
    seeds: tuple[int, ...]
    report: dict[str, Any]


@ray.remote(max_concurrency=2)
class Retrainer:
    """Trains T initialisations at once while it can be asked how far it is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[str, Any] = {"epoch": 0}
        self._begun: Any = None  # what ``alone`` gave, for the next ``run``

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
        """Train and judge; what a later one would make again is kept in ``scratch``.  Errors as ``Kind.train``.

        After ``alone`` the config is that one's, and so is the first seed.
        """
        chosen, training_data = kind.config.of(config), data.training_data()
        with self._heard(cpus, scratch) as device:
            trained = kind.train(
                chosen,
                training_data,
                seeds=seeds,
                device=device,
                memory=memory.bytes(device, kind.memory(chosen, sizes, len(seeds)).network),
                report=self._report,
                begun=self._begun,
            )
            self._begun = None
            judgement = kind.judge(trained, training_data, data.test())
        return Retrained(kind.tensors(trained), judgement, tuple(trained.seeds), trained.last_report)

    def alone(
        self,
        kind: Kind,
        config: dict[str, Any],
        data: StudyData,
        seed: int,
        cpus: int,
        scratch: Path | None = None,
    ) -> Retrained | None:
        """As ``Kind.alone``; the next ``run`` goes on from it."""
        with self._heard(cpus, scratch) as device:
            given = kind.config.of(config), data.training_data(), data.test()
            found = kind.alone(*given, seed=seed, device=device)
        if found is None:
            return None
        self._begun, judgement = found
        return Retrained(kind.tensors(self._begun), judgement, (seed,), self._begun.last_report)

    @contextmanager
    def _heard(self, cpus: int, scratch: Path | None) -> Iterator[str]:
        """The device, where ``progress`` tells of what is done inside."""
        self._report({"epoch": 0})  # not the last of the training before
        use_cpus(cpus)
        with heard(self._step), kept_in(scratch):
            yield device_of_worker()

    def _report(self, epoch: Mapping[str, Any]) -> None:
        with self._lock:
            self._last = dict(epoch)

    def _step(self, done: int, total: int, what: str) -> None:
        with self._lock:
            self._last = {**self._last, "step": (done, total, what)}
