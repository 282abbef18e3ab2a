"""Training-free scores on the cluster: long-lived scorer actors, asked ahead, in batches of a quarter second."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import ray

from ...trainables.kind import Score
from ..resources import slots, use_cpus

BATCH_SECONDS = 0.25  # a batch of a few milliseconds would be eaten by the call itself
AHEAD = 8  # batches before each actor: Ray Tune asks once a second while nothing runs
START_SECONDS = 3.0  # until an actor has started; another one where there is as much work for each
BRIEFLY = 0.3  # seconds that a call may wait for the score it needs first, rather than leave a slot idle for longer


@ray.remote(max_restarts=3, max_task_retries=3)
class ScorerActor:
    """Scores batches of configs; started again, elsewhere, when it dies, as it remembers nothing."""

    def __init__(self) -> None:
        use_cpus(1)

    def score(self, score: Score, batch: Any, seed: int, configs: Sequence[Any]) -> tuple[list[float], float]:
        """Scores of full configs on a mini-batch, and the CPU seconds they took."""
        started = time.process_time()
        return score.function(configs, batch, seed), time.process_time() - started


class ClusterScorer:
    """A scorer (see ``searchers.searcher.Scorer``) that does not wait: actors work while Ray Tune goes on.

    Args:
        score: the score.
        batch: mini-batch for it.
        full: makes a full config, with ``seen_by_scores``, of what a method proposes.
        seed: of the initialisations.
        known: scores of an earlier session, by what a score sees of a config.
        beside_trials: candidates come all along the search: one actor, which takes no slot away from the trials; and a
            call waits a moment for the score it asks for first.
        progress: called with (scored, asked for) as batches come back.
    """

    def __init__(
        self,
        score: Score,
        batch: Any,
        full: Callable[[Mapping[str, Any]], Any],
        seed: int,
        *,
        known: Mapping[Hashable, float] | None = None,
        beside_trials: bool = False,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self._score, self._batch, self._seed, self._progress = score, batch, seed, progress
        self._shared: ray.ObjectRef | None = None  # the mini-batch, once it is needed
        self._full, self._beside_trials = full, beside_trials
        self.known: dict[Hashable, float] = dict(known or {})
        self.seconds, self._scored = 0.0, 0
        self._keys: dict[tuple[tuple[str, Any], ...], Hashable] = {}
        self._most: int | None = None  # actors that fit on the cluster
        self._actors: list[Any] = []
        self._idle: list[Any] = []
        self._queue: list[Mapping[str, Any]] = []
        self._asked: set[Hashable] = set(self.known)
        self._running: dict[ray.ObjectRef, tuple[Any, Sequence[Mapping[str, Any]]]] = {}

    def __call__(self, configs: Sequence[Mapping[str, Any]]) -> list[float | None]:
        keys = [self._key(config) for config in configs]
        if self._beside_trials:  # candidates that are no longer asked for would keep the others waiting
            left = {self._key(c) for c in self._queue} - set(keys)
            self._asked -= left
            self._queue = [c for c in self._queue if self._key(c) not in left]
        for key, config in zip(keys, configs, strict=True):
            if key not in self._asked:
                self._asked.add(key)
                self._queue.append(config)
        self._collect()
        self._submit()
        if self._beside_trials and self._scored and keys and keys[0] not in self.known:
            until = time.monotonic() + BRIEFLY
            while keys[0] not in self.known and self._running and (rest := until - time.monotonic()) > 0:
                ray.wait(list(self._running), num_returns=1, timeout=rest)
                self._collect()
                self._submit()
        return [self.known.get(key) for key in keys]

    def score_of(self, config: Mapping[str, Any]) -> float | None:
        """The score of a config, or None while it is not known."""
        return self.known.get(self._key(config))

    def _key(self, config: Mapping[str, Any]) -> Hashable:
        items = tuple(config.items())
        if items not in self._keys:
            self._keys[items] = self._full(config).seen_by_scores
        return self._keys[items]

    def _collect(self) -> None:
        if not self._running:
            return
        done, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        for ref in done:
            actor, configs = self._running.pop(ref)
            values, seconds = ray.get(ref)
            self.seconds, self._scored = self.seconds + seconds, self._scored + len(configs)
            self.known.update({self._key(c): v for c, v in zip(configs, values, strict=True)})
            self._idle.append(actor)
        if done:
            self._progress(len(self.known), len(self._asked))
        if not self._beside_trials and not self._queue and not self._running:
            self.close()

    def _submit(self) -> None:
        for _ in range(self._actors_wanted() - len(self._actors)):
            self._shared = ray.put(self._batch) if self._shared is None else self._shared
            actor = ScorerActor.options(num_cpus=0 if self._beside_trials else 1).remote()  # type: ignore[attr-defined]
            self._actors.append(actor)
            # An actor stands here once for each batch it may still take.
            self._idle += [actor] * (2 if self._beside_trials else AHEAD)
        while self._queue and self._idle:
            actor, size = self._idle.pop(0), self._batch_size()
            configs, self._queue = self._queue[:size], self._queue[size:]
            full = [self._full(config) for config in configs]
            self._running[actor.score.remote(self._score, self._shared, self._seed, full)] = (actor, configs)

    def _actors_wanted(self) -> int:
        """One where there is work, and more once it is known to take longer than their start."""
        if not self._queue:
            return 0
        if self._beside_trials:
            return 1
        self._most = slots(1) if self._most is None else self._most
        return min(self._most, max(1, int(len(self._queue) * self._seconds_each() / START_SECONDS)))

    def _seconds_each(self) -> float:
        return self.seconds / self._scored if self._scored else 0.0

    def _batch_size(self) -> int:
        """Configs for BATCH_SECONDS of work, as far as earlier batches tell; few where one score is waited for."""
        if self._beside_trials:
            return 2
        return 4 if not self.seconds else max(1, round(BATCH_SECONDS / self._seconds_each()))

    def close(self) -> None:
        """Give the CPUs of the actors back to the trials."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors, self._idle = [], []
