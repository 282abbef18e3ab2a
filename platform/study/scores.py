"""Training-free scores of a study: those known so far, and those that are being computed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...cluster.trials.scoring import ClusterScorer
from ...searchers.searcher import Scorer, no_scores
from ...searchers.space import Config
from ...trainables.kind import TrainingData
from ..ledger.ledger import Ledger
from ..methods import NOTHING, Own, score_of
from ..progress import Progress
from ..spec import StudySpec
from .known_scores import SavedScores


class StudyScores:
    """The score that a study's method asks for, and the trivial ones that stand beside it.

    Args:
        spec: of the study.
        ledger: of the study; it has the scores of its trials.
        data: to score with.
        path: JSON file of the scores known so far, kept so that a study killed now does not compute them again.
        own: what the script brings along.
        interrupted: once True, nothing is kept any more.
        progress: where to say how far it is.
    """

    def __init__(
        self,
        spec: StudySpec,
        ledger: Ledger,
        data: TrainingData,
        path: Path,
        *,
        own: Own = NOTHING,
        interrupted: Callable[[], bool] = lambda: False,
        progress: Progress,
    ) -> None:
        self._spec, self._saved = spec, SavedScores(path)
        self._interrupted, self._progress = interrupted, progress
        method = spec.method_of(own)
        self._name, self._along_the_way = method.score, method.goes_on
        rng = np.random.default_rng([spec.seed, 1])
        trivial = {name: score for name, score in spec.of_kind.scores.items() if score.trivial}
        mine = {} if method.score is None else {method.score: score_of(spec.of_kind, method.score, own)}
        batches = {name: data.sample(score.n_points, rng) for name, score in {**mine, **trivial}.items()}
        self._trivial = [(name, score, batches[name]) for name, score in trivial.items()]
        self._scorer: ClusterScorer | None = None
        if method.score is not None:
            known = self._saved.read() | {
                spec.full(t.config).seen_by_scores: t.scores[method.score]
                for t in ledger.trials()
                if method.score in t.scores
            }
            self._scorer = ClusterScorer(
                mine[method.score],
                batches[method.score],
                spec.full,
                spec.seed,
                known=known,
                beside_trials=method.goes_on,
                progress=self._scored,
            )

    @property
    def scorer(self) -> Scorer:
        """What the method asks."""
        return self._scorer or no_scores

    @property
    def seconds(self) -> float:
        """CPU seconds that the scores took."""
        return 0.0 if self._scorer is None else self._scorer.seconds

    def of(self, config: Config) -> dict[str, float]:
        """The scores of a config, as far as they are known, by name."""
        full = self._spec.full(config)
        found = {name: score.function([full], batch, self._spec.seed)[0] for name, score, batch in self._trivial}
        if self._scorer is not None and self._name is not None:
            score = self._scorer.score_of(config)
            if score is not None:
                found[self._name] = score
        return found

    def close(self) -> None:
        """End the processes that score."""
        if self._scorer is not None:
            self._scorer.close()

    def _scored(self, done: int, total: int) -> None:
        if self._along_the_way:  # the ledger has those
            return
        self._progress.update("scores", done, total)
        if self._scorer is not None and not self._interrupted():
            self._saved.write(self._scorer.known, at_once=done == total)
        if done == total:
            self._progress.end("scores")
