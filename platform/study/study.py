"""A study: the handle to run it, to watch it, to read its results and to export its surrogate."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...searchers.method import SearchTask
from ...searchers.searcher import Searcher
from ...trainables.data.location import absolute
from ...trainables.kind import Data, Score
from ..ledger.ledger import Ledger
from ..ledger.places import Database
from ..ledger.score_quality import ScoreQuality, qualities
from ..ledger.trial import LedgerTrial
from ..methods import NOTHING, Own
from ..progress import Progress, default_progress
from ..spec import StudySpec
from . import folder as folders
from .conclusion import Conclusion

if TYPE_CHECKING:
    import pandas

    from ..figures.draw import Drawn, Form
    from ..model.model import Model
    from .watch import Event, View


class Study:
    """A study: a ledger, and a folder with model and figures.

    Args:
        name: of the study and of its folder.
        dataset: folder, URL or open dataset.
        method: name of a method; or a searcher of your own that has not been asked yet, or a function or class that
            makes one of a ``SearchTask``.  By default that of the first score of the dataset's kind.
        scores: training-free scores of your own; a score "mine" makes the methods "mine", "optuna+mine", "mine>optuna".
        studies: folder that holds the studies' folders.
        ledger: URL of a PostgreSQL database that holds the ledgers of many studies; by default it is the file
            ``ledger.db`` in the study's folder.
        **settings: further keys of a study file, as ``StudySpec``: minimize, seed, trials, space, ...

    Raises:
        SpecError: a setting is unknown or wrong.
        LedgerError: ``ledger`` is not such a URL.
    """

    _reading: Ledger | None = None  # the ledger while ``reading``

    def __init__(
        self,
        name: str,
        dataset: str | Path | Data,
        *,
        method: str | Searcher | Callable[[SearchTask], Searcher] | None = None,
        scores: Mapping[str, Score] | None = None,
        studies: str | Path = folders.STUDIES,
        ledger: str | None = None,
        **settings: Any,
    ) -> None:
        location = absolute(dataset) if isinstance(dataset, (str, Path)) else dataset.location
        own = Own(scores or {}, None if isinstance(method, str) else method)
        chosen = {} if method is None else {"method": method if isinstance(method, str) else own.name}
        self._setup(StudySpec.of({"name": name, "dataset": location, **chosen, **settings}, own), studies, ledger, own)

    def _setup(self, spec: StudySpec, studies: str | Path, ledger: str | None, own: Own) -> None:
        self.spec, self.own = spec, own
        self.folder = Path(studies).expanduser().resolve() / spec.name
        self.place = folders.place_of(self.folder, ledger)

    @classmethod
    def from_spec(
        cls, spec: StudySpec, studies: str | Path = folders.STUDIES, ledger: str | None = None, own: Own = NOTHING
    ) -> "Study":
        """The study of a specification; it may not have been run yet."""
        study = cls.__new__(cls)
        study._setup(spec, studies, ledger, own)
        return study

    @classmethod
    def open(
        cls, name: str, studies: str | Path = folders.STUDIES, ledger: str | None = None, own: Own = NOTHING
    ) -> "Study":
        """A study that has been run, or is running.

        Raises:
            LedgerError: there is none of that name, or its ledger cannot be read.
        """
        folder = folders.of_name(name, studies)
        return cls.from_spec(folders.spec_of(folder, folders.place_of(folder, ledger), name), studies, ledger, own)

    @staticmethod
    def names(studies: str | Path = folders.STUDIES, ledger: str | None = None) -> list[str]:
        """Names of the studies in a folder, or in a PostgreSQL database.

        Raises:
            LedgerError: ``ledger`` is not a URL of one, or it cannot be read.
        """
        if ledger is not None:
            return Database(ledger).names()
        return folders.names_in(Path(studies).expanduser())

    @staticmethod
    def delete(name: str, studies: str | Path = folders.STUDIES, ledger: str | None = None) -> None:
        """Delete a study: its ledger, and its folder with model and figures.

        Raises:
            StudyError: there is none of that name, or it cannot be removed.
            Held: a process runs it.
        """
        from .removal import delete

        folder = folders.of_name(name, studies)
        delete(folder, folders.place_of(folder, ledger), name)

    def run(self, *, address: str | None = None, progress: Progress | None = None, defaults: bool = True) -> Conclusion:
        """Run a new study to its end.

        Args:
            address: of a Ray cluster; by default RAY_ADDRESS, or an embedded local Ray.
            progress: where to say how far it is; by default on a terminal and in a notebook, else nowhere.
            defaults: give what comes without a search, too, to compare with: first the surrogate that needs no
                training, and last the default hyperparameters, trained; these not where that would take longer than the
                search, or more than its budget.

        Raises:
            StudyError: it exists already, or all its trials failed.
            StudyInterrupted: Ctrl-C; ``resume`` goes on.
            InputError: dataset, specification, cluster or disk do not allow it.
        """
        from .session import begin
        from .suited import as_kept

        progress = progress or default_progress()
        self.spec = as_kept(self.spec, self.folder, self.place, progress.say)
        return begin(self.spec, self.own, self.folder, self.place, address, progress, defaults=defaults)

    def resume(
        self, *, address: str | None = None, progress: Progress | None = None, defaults: bool = True
    ) -> Conclusion:
        """Go on with a study that was stopped or killed: finished trials stay, unfinished ones run again.

        Arguments and errors as ``run``; a study that has ended is not run again, unless its model is gone.  With its
        ledger in a database it can go on in another folder, on another host.
        """
        from .session import go_on
        from .suited import as_begun

        with self.reading() as ledger:  # a study that does not exist is held by nobody either
            self.spec = as_begun(self.spec, ledger.spec)
        progress = progress or default_progress()
        return go_on(self.spec, self.own, self.folder, self.place, address, progress, defaults=defaults)

    @contextmanager
    def reading(self) -> Iterator[Ledger]:
        """Keep the ledger open within: opening it takes most of the time of a question.  Errors as ``open``."""
        if self._reading is not None:
            yield self._reading
            return
        with closing(Ledger.open(self.place, self.spec.name)) as self._reading:
            try:
                yield self._reading
            finally:
                self._reading = None

    @property
    def begun(self) -> bool:
        """Whether it has been run, or is running: it has a ledger."""
        return self.place.holds(self.spec.name)

    def trials(self) -> list[LedgerTrial]:
        """All trials by number.  Errors as ``open``."""
        with self.reading() as ledger:
            return ledger.trials()

    def conclusion(self) -> Conclusion | None:
        """Its result, or None while it has not ended.  Errors as ``open``."""
        with self.reading() as ledger:
            found = ledger.conclusion()
        return None if found is None else Conclusion(**found)

    def look(self) -> "View":
        """How it stands at this moment, whoever runs it.  Errors as ``open``."""
        from .watch import Viewer

        with closing(Viewer(self.place, self.spec)) as viewer:
            return viewer.look()

    def watch(self, interval: float = 5.0) -> "Iterator[Event]":
        """What happens to it, wherever it runs, until it has ended or nobody holds it any more.

        Args:
            interval: between two looks [s].

        Yields:
            Events.  The first says how it stands; the last is ``end``, and says how it was left.

        Raises:
            LedgerError: as ``open``; a ledger that goes away later is waited for.
        """
        from .watch import watch

        return watch(self.place, self.spec, interval)

    def stop(self, *, timeout: float = 600.0, progress: Progress | None = None) -> str:
        """Ask whoever runs it, on whatever host, to stop as Ctrl-C does, and wait until that is done.

        Args:
            timeout: how long to wait [s].
            progress: where to say what is waited for; by default as ``run``.

        Returns:
            A line that says what happened, or that it was not running.

        Raises:
            StudyError: it did not stop in time, or another process went on with the study.
            LedgerError: the ledger cannot be read or written.
        """
        from .watch import stop

        return stop(self.place, self.spec, timeout, progress or default_progress())

    def model(self) -> "Model":
        """The surrogate it hands over: that of the best trial, or the one without training if that is better.

        Raises:
            StudyError: it has not ended, or its folder is not here.
        """
        from ..model.model import Model

        conclusion = self.conclusion()
        folder = None if conclusion is None else conclusion.folder(self.folder)
        return Model.open(folders.model_of(self.folder, self.place, self.spec.name, folder))

    def export(self, path: str | Path) -> "Model":
        """Write the surrogate to a folder of its own.  Raises StudyError before the study has ended."""
        model = self.model()
        model.save(path)
        return model

    def plot(self, output: str | Path | None = None, form: "Form" = "both") -> "Drawn":
        """Draw the figures of its trials so far, also while it runs.

        Args:
            output: folder to write to; by default ``figures`` in the study's folder.
            form: NAME.png for each figure, one page ``plots.html`` with all, or both.

        Raises:
            StudyError: no trial has a value yet, or there is no such folder.
        """
        from .drawing import draw_study

        return draw_study(self, None if output is None else Path(output), form)

    def pareto_front(self) -> list[LedgerTrial]:
        """Finished trials that no other beats in all that is minimised, the lowest value first.

        Of a study that minimises one value it is the best trial, or several equally good ones.
        """
        from ..figures.trials import pareto_front

        done = [t for t in self.trials() if t.value is not None]
        return [done[i] for i in pareto_front([t.objectives for t in done])]

    def score_qualities(self) -> list[ScoreQuality]:
        """How well each score ranks the trials trained so far; the method's own score first."""
        return qualities(self.trials(), self.spec.score(self.own))

    @property
    def best_trial(self) -> LedgerTrial | None:
        """The finished trial of the lowest value, None while there is none.  Errors as ``open``."""
        return min((t for t in self.trials() if t.value is not None), key=lambda t: t.value or 0.0, default=None)

    @property
    def best_config(self) -> dict[str, Any] | None:
        """The hyperparameters of ``best_trial``, those held at one value included."""
        best = self.best_trial
        return None if best is None else {**self.spec.config, **best.config}

    def dataframe(self) -> "pandas.DataFrame":
        """A row a trial: number, state, what is minimised, seconds, hyperparameters and scores.  Errors as ``open``."""
        import pandas

        from .notebook import rows

        return pandas.DataFrame(rows(self.trials(), self.spec))

    def __repr__(self) -> str:
        from .notebook import in_a_line

        return in_a_line(self)

    def _repr_html_(self) -> str:
        from .notebook import as_html

        return as_html(self)
