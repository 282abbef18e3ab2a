"""Configs that come before a method's own: those that were good elsewhere, or that the user wants to see."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from .searcher import Explains, PastTrial, Pruned, Searcher, Wait
from .space import Config


@dataclass
class FirstThese:
    """Propose given configs, then what another searcher proposes.

    The other one is not told of theirs, so that it does what it does without them: an array stays an array.

    Args:
        searcher: the other one.
        configs: in the order in which they are proposed.
    """

    searcher: Searcher
    configs: Sequence[Config]
    _asked: list[str] = field(default_factory=list)  # trials of the configs proposed so far

    def ask(self, trial: str) -> Config | Pruned | Wait | None:
        if len(self._asked) < len(self.configs):
            self._asked.append(trial)
            return dict(self.configs[len(self._asked) - 1])
        return self.searcher.ask(trial)

    def tell(self, trial: str, value: float | None, *others: float) -> None:
        """As ``SeveralSearcher.tell``."""
        if trial not in self._asked:
            self.searcher.tell(trial, value, *others)

    def replay(self, history: Sequence[PastTrial]) -> None:
        n = len(self.configs)
        self._asked = [past.trial for past in history[:n]]
        self.searcher.replay(history[n:])

    def explanation(self) -> list[str]:
        """What the other searcher has to say."""
        return self.searcher.explanation() if isinstance(self.searcher, Explains) else []
