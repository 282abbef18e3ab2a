"""A study that runs elsewhere, watched and stopped through its ledger."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from ..ledger.lease import Sign, me
from ..ledger.ledger import Ledger, LedgerAway
from ..ledger.places import Place
from ..ledger.trial import LedgerTrial
from ..progress import Progress
from ..spec import StudySpec
from .errors import StudyError
from .words import seconds_left

ASK_SECONDS = 0.5  # between two looks whether a study has stopped


@dataclass(frozen=True)
class View:
    """How a study stands at one moment.

    ``state`` is ``running`` if a process holds it, ``stopped`` if nobody does, ``died`` if its process was killed or
    has given no sign of life for long, and ``ended`` if it has a conclusion.  ``holder`` has it, or had it last;
    ``held_by`` is the same in fields.
    ``age`` is the age of the holder's last heartbeat [s], None if the holder let it go.  ``stop`` is who asked it to
    stop.
    """

    state: Literal["running", "stopped", "died", "ended"]
    holder: str | None
    age: float | None
    stop: str | None
    trials: list[LedgerTrial]
    conclusion: dict[str, Any] | None
    seconds_left: float | None
    held_by: dict[str, Any] | None = None

    @property
    def best(self) -> LedgerTrial | None:
        """The finished trial of the lowest value."""
        return min((t for t in self.trials if t.value is not None), key=lambda t: t.value or 0.0, default=None)

    @property
    def counts(self) -> dict[str, int]:
        """How many trials are in each state."""
        return dict(Counter(t.state for t in self.trials))

    @property
    def last_sign(self) -> float | None:
        """When it last gave a sign of life [s of the epoch]."""
        if self.age is not None:
            return time.time() - self.age
        return max((t.ended_at or t.started_at for t in self.trials), default=None)


class Viewer:
    """Looks at a study again and again.

    Args:
        place: of the ledger of the study.
        spec: of the study.

    Raises:
        LedgerError: it has none, or it cannot be read.
    """

    def __init__(self, place: Place, spec: StudySpec) -> None:
        self._spec = spec
        self._ledger = Ledger.open(place, spec.name)
        self._ledger.patience = 0.0
        self._home = place.home(spec.name)

    def sign(self) -> Sign | None:
        """The latest lease.  Raises LedgerAway: it cannot be read now."""
        try:
            return self._home.look()
        except OSError as error:
            raise LedgerAway(f"{self._home}: {error.strerror or error}") from error

    def ask(self, number: int) -> None:
        """Ask the holder of the lease ``number`` to stop.  Raises LedgerAway: that cannot be written now."""
        try:
            self._home.ask(number, me())
        except OSError as error:
            raise LedgerAway(f"{self._home}: {error.strerror or error}") from error

    def look(self) -> View:
        """How it stands now.  Raises LedgerAway: the ledger cannot be read now."""
        sign, trials, conclusion = self.sign(), self._ledger.trials(), self._ledger.conclusion()
        running = sign is not None and sign.is_held
        if running:
            state: Literal["running", "stopped", "died", "ended"] = "running"
        elif conclusion is not None:
            state = "ended"
        else:
            state = "stopped" if sign is None or sign.free else "died"
        return View(
            state=state,
            holder=None if sign is None or sign.holder is None else str(sign.holder),
            age=None if sign is None or sign.free else max(sign.age, 0.0),
            stop=sign.stop if sign is not None and running else None,
            trials=trials,
            conclusion=conclusion,
            seconds_left=self._seconds_left(trials, sign) if running else None,
            held_by=None if sign is None or sign.holder is None else sign.holder.fields,
        )

    def _seconds_left(self, trials: list[LedgerTrial], sign: Sign | None) -> float | None:
        """The time that the trials still allowed take at the pace of the last ones."""
        since = 0.0 if sign is None or sign.holder is None else sign.holder.since  # earlier ones: another session
        trained = [t for t in trials if t.state in ("finished", "failed", "stopped")]
        ends = [t.ended_at for t in trained if t.ended_at is not None and t.ended_at > since]
        return seconds_left(ends, self._spec.trials - len(trained))

    def close(self) -> None:
        """Leave the ledger."""
        self._ledger.close()
        self._home.close()


@dataclass(frozen=True)
class Event:
    """Something that happened to a study.

    ``kind`` is ``study`` at the first look and ``progress`` at each later one; ``trial`` if a trial has ended;
    ``holder`` if another process has the study, or the holder is asked to stop; ``away`` and ``back`` if the ledger
    goes and comes back; ``end`` if nobody holds the study any more.
    """

    kind: Literal["study", "trial", "holder", "progress", "away", "back", "end"]
    view: View
    trial: LedgerTrial | None = None
    cause: str | None = None


def watch(place: Place, spec: StudySpec, interval: float) -> Iterator[Event]:
    """What happens to a study, as ``Study.watch``."""
    viewer = Viewer(place, spec)
    try:
        view = viewer.look()
        yield Event("study", view)
        away = False
        while view.state == "running":
            time.sleep(interval)
            before = view
            try:
                view = viewer.look()
            except LedgerAway as error:
                if not away:
                    yield Event("away", view, cause=str(error))
                away = True
                continue
            if away:
                yield Event("back", view)
            away = False
            if view.state == "running" and (view.holder, view.stop) != (before.holder, before.stop):
                yield Event("holder", view)
            known = {t.number for t in before.trials if t.state != "running"}
            for trial in view.trials:
                if trial.state != "running" and trial.number not in known:
                    yield Event("trial", view, trial)
            yield Event("progress", view)
        yield Event("end", view)
    finally:
        viewer.close()


def stop(place: Place, spec: StudySpec, timeout: float, progress: Progress) -> str:
    """Ask whoever runs a study to stop, and wait for it, as ``Study.stop``."""
    name, until = spec.name, time.monotonic() + timeout
    go_on = f"go on with `dftune study resume {name}`"
    viewer = Viewer(place, spec)
    try:
        view, sign = viewer.look(), viewer.sign()
        if view.state == "ended":
            return f"study {name} has ended; there is nothing to stop"
        if sign is None or not sign.is_held:
            died = f": {view.holder} has died" if view.state == "died" else ""
            return f"nobody runs study {name}{died}; {go_on}"
        asked, holder = sign.number, sign.holder or "a process that is just starting"
        viewer.ask(asked)
        progress.say(f"asked {holder} to stop")
        away = False
        while True:
            try:
                sign, away = viewer.sign(), False
                if sign is None or sign.number != asked:
                    other = sign.holder if sign is not None else None
                    raise StudyError(f"study {name} did stop, but {other or 'another process'} has gone on with it")
                if sign.free:
                    ended = viewer.look().conclusion is not None
                    return f"study {name} has ended" if ended else f"study {name} has stopped; {go_on}"
                if not sign.is_held:
                    return f"study {name} has no holder any more: {holder} has died; {go_on}"
            except LedgerAway as error:
                if not away:
                    progress.say(str(error))
                away = True
            if time.monotonic() >= until:
                age = "" if sign is None else f", gave its last sign of life {max(sign.age, 0):.0f} s ago"
                raise StudyError(
                    f"study {name} has not stopped in {timeout:.0f} s: {holder} is asked to{age}; "
                    f"see `dftune study watch {name}`"
                )
            time.sleep(ASK_SECONDS)
    finally:
        viewer.close()
