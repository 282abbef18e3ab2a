"""One run of a study: data made ready, a search, the best config trained again and judged, the surrogate saved."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...cluster.connection import connected
from ...trainables.errors import DftuneError, one_line
from ...trainables.progress import Within
from ...trainables.temporary import temporary_folder
from ..bugs import bug_of
from ..ledger.lease import Lease, LeaseLost, held
from ..ledger.ledger import Ledger
from ..ledger.places import Place
from ..ledger.trial import LedgerTrial
from ..methods import Own
from ..objective import measure_of
from ..progress import Progress
from ..spec import UNTRAINED, StudySpec
from . import folder as folders
from .conclusion import Conclusion, best_of
from .defaults import default_config, too_costly, untrained_lines
from .errors import StudyError, StudyInterrupted
from .removal import clear, is_empty
from .trainer import Trainer, model_of, save, save_alone
from .untrained import FOLDER, is_better, keep_value, read, untrained_config, value_of
from .words import describe

if TYPE_CHECKING:
    from ...cluster.trials.gpu_packing import Placement
    from ...cluster.trials.retraining import Retrained
    from ...trainables.kind import TrialConfig


def begin(
    spec: StudySpec, own: Own, folder: Path, place: Place, address: str | None, progress: Progress, *, defaults: bool
) -> Conclusion:
    """Run a new study, or one whose earlier run came to no trial, as ``Study.run``."""
    if not is_empty(place, spec.name):
        folders.refuse_existing(folder, place, spec.name)
    data = _checked(spec, own)
    with _hold(spec, folder, place, progress) as lease:
        if is_empty(place, spec.name):
            clear(folder, place, spec.name)
        folders.refuse_existing(folder, place, spec.name)
        created = _created(spec, data, folder, place, lease, progress)
        return Session(spec, own, folder, created, data, lease, progress, defaults).run(address)


def go_on(
    spec: StudySpec, own: Own, folder: Path, place: Place, address: str | None, progress: Progress, *, defaults: bool
) -> Conclusion:
    """Go on with a study, as ``Study.resume``."""
    with _hold(spec, folder, place, progress) as lease, closing(Ledger.open(place, spec.name)) as ledger:
        ledger.claim(lease, progress.say)
        folders.own(folder, place, ledger.id)
        if (found := ledger.conclusion()) is not None:
            conclusion = Conclusion(**found)
            if (conclusion.folder(folder) / "model").is_dir():
                return conclusion
        data = _checked(spec, own)
        if data.fingerprint != ledger.dataset_sha256:
            raise StudyError(
                f"{data.location}: has changed since this study began, whose values would not compare; "
                "restore it or start a new study"
            )
        _refuse_other_values(spec, ledger)
        return Session(spec, own, folder, nullcontext(ledger), data, lease, progress, defaults).run(address)


def _refuse_other_values(spec: StudySpec, ledger: Ledger) -> None:
    """Refuse finished trials that did not report what is minimised: its meaning was another.  Raises StudyError."""
    reports = {name: measure_of(name, spec.of_kind).report for name in spec.minimized}
    for trial in ledger.trials():
        lacking = [name for name, report in reports.items() if report not in trial.result]
        if trial.value is not None and lacking:
            raise StudyError(
                f"trial {trial.number} was judged by another '{lacking[0]}' than this dftune computes, so further "
                "trials would not compare; go on with the dftune that began this study, or start a new one"
            )


@contextmanager
def _created(
    spec: StudySpec, data: Any, folder: Path, place: Place, lease: Lease, progress: Progress
) -> Iterator[Ledger]:
    """A new ledger."""
    with closing(Ledger.create(place, spec, data.fingerprint)) as ledger:
        ledger.claim(lease, progress.say)
        folders.own(folder, place, ledger.id)
        yield ledger


def _checked(spec: StudySpec, own: Own) -> Any:
    """Check everything that would make the study fail, and return the dataset."""
    spec.searcher(own=own)
    data = spec.of_kind.open(spec.dataset)
    spec.refuse(data)
    return data


@contextmanager
def _hold(spec: StudySpec, folder: Path, place: Place, progress: Progress) -> Iterator[Lease]:
    """Hold the study, in a folder that is there."""
    folders.make(folder)
    with closing(place.home(spec.name)) as home, held(home, progress.say) as lease:
        yield lease


@dataclass
class Session:
    """A process that runs a study.

    Args:
        spec: of the study.
        own: scores and searcher of the script.
        folder: of the study.
        opened: gives the ledger of the study, claimed; entered once Ray stands.
        data: the open dataset.
        lease: of the study.
        progress: where to say how far it is.
        defaults: whether to give what comes without a search, too.
    """

    spec: StudySpec
    own: Own
    folder: Path
    opened: AbstractContextManager[Ledger]
    data: Any
    lease: Lease
    progress: Progress
    defaults: bool
    ledger: Ledger = field(init=False)
    seconds: dict[str, float] = field(default_factory=dict)  # where the time went
    interrupted: Callable[[], bool] = lambda: False

    def run(self, address: str | None) -> Conclusion:
        """Run it to its end on the Ray cluster at an address, or an embedded one.

        Raises:
            StudyInterrupted: Ctrl-C, or somebody asked for it elsewhere.
            LeaseLost: another process has taken it over.
            InputError: dataset, specification, cluster or disk do not allow it.
            Bug: an error that nobody expected.
        """
        self.progress.say(f"study {self.spec.name}: method {self.spec.method}, dataset {self.data.location}")
        with closing(self.progress), self._interruptible():
            try:
                with (
                    connected(
                        address,
                        meanwhile=self._get_ready,
                        say=self.progress.say,
                        remedy=f"finished trials are kept, go on with `dftune study resume {self.spec.name}`",
                        log=self.folder / "ray.log",
                    ),
                    self.opened as self.ledger,
                ):
                    return self._run()
            except (DftuneError, OSError):
                raise
            except Exception as error:
                raise bug_of(error, self.folder) from error

    def _get_ready(self) -> None:
        """Import what takes seconds to import, while Ray starts."""
        from . import search  # noqa: F401

    def _run(self) -> Conclusion:
        import ray
        from ray import tune

        from ...cluster.resources import slots
        from ...cluster.trials.publish import published
        from .search import search

        spec, resources, started = self.spec, self.spec.resources, time.perf_counter()
        sizes = spec.of_kind.sizes(self.data, spec.settings)
        placement = self._place(sizes)
        concurrent = slots(resources.cpus, placement.gpus, resources.concurrent, memory=resources.memory)
        self.progress.say(f"{concurrent} trials at once; {placement.explanation}")
        self.ledger.placed({**asdict(placement), "concurrent": concurrent, "sizes": sizes})
        try:
            with (
                published(spec.of_kind, self.data, spec.settings, Within(self.progress, self._check)) as data,
                temporary_folder("scratch", self.folder) as scratch,
            ):
                self.seconds["data"] = time.perf_counter() - started

                def trainer() -> Trainer:  # where no trial is beside it
                    gpus = 1 if placement.gpus else 0
                    return Trainer(
                        spec, data, sizes, gpus=gpus, progress=self.progress, check=self._check, scratch=scratch
                    )

                untrained = self._untrained(trainer)
                searching = time.perf_counter()
                self.seconds["scores"] = search(
                    spec,
                    self.ledger,
                    data,
                    sizes=sizes,
                    concurrent=concurrent,
                    gpus=placement.gpus,
                    folder=self.folder,
                    interrupted=self.interrupted,
                    progress=self.progress,
                    own=self.own,
                )
                self._check()
                self.seconds["search"] = time.perf_counter() - searching
                best = best_of(self.ledger.trials(), spec.tolerance)
                with trainer() as train:
                    found = self._final(best, train)
                    defaults = self._without_search(best, found, train)
                    self.seconds |= train.seconds
                return self._conclude(best, found, defaults, untrained)
        except (ray.exceptions.RayError, tune.TuneError) as error:
            cause = one_line(error, 300)
            raise StudyError(
                f"Ray gave up: {cause}; finished trials are kept, with more memory or on another cluster go on "
                f"with `dftune study resume {spec.name}`"
            ) from error

    def _place(self, sizes: Mapping[str, int]) -> "Placement":
        """Where trials run on the nodes of the cluster."""
        from ...cluster.trials.gpu_packing import place_trials

        spec, kind, resources = self.spec, self.spec.of_kind, self.spec.resources
        config = spec.largest(lambda config: kind.memory(config, sizes).network)
        wanted = min(spec.trials, resources.concurrent or spec.trials)
        need = kind.memory(config, sizes)
        return place_trials(resources.gpus, resources.cpus, resources.memory, wanted, need, str(config))

    def _untrained(self, trainer: Callable[[], Trainer]) -> dict[str, Any] | None:
        """``Conclusion.untrained``: the surrogate that needs no training, made before the search and kept beside it."""
        import ray

        spec = self.spec
        if not self.defaults or spec.of_kind.untrained is None or spec.method == UNTRAINED:
            return None
        config, folder = untrained_config(spec, self.data), self.folder / FOLDER
        if (earlier := read(folder, spec, self.data, config)) is None:
            try:
                with trainer() as train:
                    self._first(config, train, folder)
                    found = train(config, "no training")
            except ray.exceptions.RayError as error:
                self.progress.end("no training")
                return self._said({"left_out": one_line(getattr(error, "cause", None) or error, 300)})
            self.lease.check()
            save(model_of(spec, self.data, config, found), folder, found)
            self.seconds |= train.seconds
            earlier = found.judgement.accuracy, value_of(spec, found.report)
            keep_value(folder, spec, earlier[1])
        accuracy, value = earlier
        about = {"network": str(config), "config": config.model_dump(mode="json"), "accuracy": accuracy.to_dict()}
        return self._said({**about, "value": value}, f"it is in {folder / 'model'}; the search goes on")

    def _first(self, config: "TrialConfig", train: Trainer, folder: Path) -> None:
        """Say what the first network without training is worth, and keep it until all of them are there."""
        spec = self.spec
        if (found := train.alone(config, "first network")) is None:
            return
        self.progress.say(f"one network without training ({config}), the first of {spec.initializations}:")
        for line in found.judgement.accuracy.lines():
            self.progress.say(line)
        self.lease.check()
        save_alone(model_of(spec, self.data, config, found), folder)

    def _said(self, untrained: dict[str, Any], *more: str) -> dict[str, Any]:
        """Say what came without training."""
        for line in [*untrained_lines(self.spec, untrained), *more]:
            self.progress.say(line)
        return untrained

    def _final(self, best: LedgerTrial, train: Trainer) -> "Retrained":
        """Train the best config T times, and judge it on the test data."""
        import ray

        spec, n = self.spec, self.spec.initializations
        self.progress.say(f"trial {best.number} is best: {describe(best.config)}; training {n} initialisations of it")
        try:
            return train(spec.full(best.config), "final")
        except ray.exceptions.RayError as error:
            cause = one_line(getattr(error, "cause", None) or error, 300)
            raise StudyError(
                f"retraining of trial {best.number} failed: {cause}; with more memory or fewer initializations, "
                f"go on with `dftune study resume {spec.name}`"
            ) from error

    def _without_search(self, best: LedgerTrial, final: "Retrained", train: Trainer) -> dict[str, Any] | None:
        """``Conclusion.defaults``: the default hyperparameters, trained as the best config was."""
        import ray

        if not self.defaults:
            return None
        config = self.spec.full(default_config(self.spec, self.ledger.defaults))
        about: dict[str, Any] = {"network": str(config), "config": config.model_dump(mode="json")}
        if config == self.spec.full(best.config):
            return {**about, "accuracy": final.judgement.accuracy.to_dict()}
        if reason := too_costly(self.spec, self.ledger.trials(), best):
            return {"left_out": reason}
        self.progress.say(f"training the defaults without a search in the same way: {config}")
        try:
            return {**about, "accuracy": train(config, "defaults").judgement.accuracy.to_dict()}
        except ray.exceptions.RayError as error:
            self.progress.end("defaults")
            return {"left_out": one_line(getattr(error, "cause", None) or error, 300)}

    def _conclude(
        self, best: LedgerTrial, found: "Retrained", defaults: dict[str, Any] | None, untrained: dict[str, Any] | None
    ) -> Conclusion:
        """Save the surrogate and the figures, and write down the study's result."""
        from ..figures.draw import draw

        spec, started = self.spec, time.perf_counter()
        config = spec.full(best.config)
        model = model_of(spec, self.data, config, found)
        self.lease.check()
        save(model, self.folder, found)
        assert best.value is not None
        final = value_of(spec, found.report)
        self.seconds["final"] += time.perf_counter() - started
        conclusion = Conclusion(
            trial=best.number,
            config=config.model_dump(mode="json"),
            value=best.value,
            accuracy=found.judgement.accuracy.to_dict(),
            seconds=self.seconds,
            defaults=defaults,
            untrained=untrained,
            surrogate="untrained" if is_better(spec, untrained, final) else "trial",
            final_value=final,
        )
        self.ledger.conclude(asdict(conclusion))
        draw(self.ledger.trials(), spec, self.folder / "figures", "png", names=["score"])
        return conclusion

    def _check(self) -> None:
        """Raise StudyInterrupted or LeaseLost if the session is to end."""
        if self.interrupted():
            self.lease.check()  # raises by itself where that is the reason
            raise StudyInterrupted(
                f"stopped; finished trials are kept, go on with `dftune study resume {self.spec.name}`", self._signal
            )

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Ask whether to stop: after Ctrl-C, when somebody asked for it elsewhere, or when the lease is lost.

        A second Ctrl-C ends the process at once, Ray's processes with it.
        """
        self._signal = int(signal.SIGINT)
        event, lease, progress, name = threading.Event(), self.lease, self.progress, self.spec.name

        def interrupted() -> bool:
            try:
                lease.check()
            except LeaseLost:
                return True
            if lease.stop is not None and not event.is_set():
                event.set()
                progress.say(f"asked to stop by {lease.stop}: stopping (Ctrl-C to kill) ...")
            return event.is_set()

        def on_signal(number: int, frame: object) -> None:
            if event.is_set():
                progress.say(f"killed; go on with `dftune study resume {name}`")
                os._exit(128 + number)  # as the command line says
            event.set()
            self._signal = number
            progress.say("stopping (Ctrl-C again to kill) ...")

        self.interrupted = interrupted
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {s: signal.signal(s, on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for s, handler in before.items():
                signal.signal(s, handler)
