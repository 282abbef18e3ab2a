"""The models of an endpoint: by name and version, loaded when they are asked for, and watched.

The folder of a name is a model, or it holds a folder for each version.  The version of a model alone is the beginning
of its checksum.  Of several versions the last one answers, in the order of the numbers in their names, unless a request
says NAME@VERSION.  A folder that is put beside them, or in the place of one, is loaded while the one before answers; it
answers from then on.  A request is answered by the model that it was asked of.
"""

import hashlib
import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...trainables.errors import InputError, ModelError, did_you_mean, one_line
from ...trainables.kind import Kind, Surrogate
from ..model.model import Model
from .settings import NAME, EndpointSettings

LOOK = 2.0  # seconds from one look at the folders to the next
LOG = logging.getLogger("ray.serve")  # whose lines Serve writes to the file of a replica

Mark = tuple[int, ...]  # changes when a model is put in the place of another one


class UnknownModel(InputError):
    """No model of this name or version is here."""


@dataclass(frozen=True)
class Version:
    """A model's folder, and what distinguishes it from another one that is put in its place."""

    name: str
    folder: Path
    mark: Mark


@dataclass(frozen=True)
class Loaded:
    """A model in memory."""

    name: str
    version: str
    model: Model

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class About:
    """What a name stands for as long as it is served, whatever its version."""

    kind: Kind
    surrogate: type[Surrogate]
    subject: str
    title: str
    example: dict[str, Any]
    sites: dict[str, Any] | None

    @classmethod
    def of(cls, model: Model) -> "About":
        surrogate, card = model.surrogate, model.card
        return cls(model.kind, type(surrogate), card.subject, card.lines()[0], surrogate.example(), surrogate.sites())


def versions_of(folder: Path) -> list[Version]:
    """The versions of a model, the one that answers last.

    Raises:
        ModelError: there is none.
    """
    if (folder / "model.json").is_file():
        return [Version(_digest(folder), folder, _mark(folder))]
    try:
        inside = [one for one in folder.iterdir() if re.fullmatch(NAME, one.name) and (one / "model.json").is_file()]
    except OSError:
        inside = []
    if not inside:
        raise ModelError(f"{folder}: not a model (no model.json); make one with `dftune study export`")
    return [Version(one.name, one, _mark(one)) for one in sorted(inside, key=_natural)]


def _natural(folder: Path) -> list[tuple[int, int, str]]:
    """v2 before v10."""
    parts = re.findall(r"\d+|\D+", folder.name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _mark(folder: Path) -> Mark:
    try:
        stats = [(folder / name).stat() for name in ("model.json", "weights.safetensors")]
    except OSError:
        return ()
    return tuple(number for one in stats for number in (one.st_ino, one.st_mtime_ns, one.st_size))


def _digest(folder: Path) -> str:
    try:
        return hashlib.sha256((folder / "model.json").read_bytes()).hexdigest()[:12]
    except OSError as error:
        raise ModelError(f"{folder}: cannot be read ({error.strerror})") from error


class Shelf:
    """The models of an endpoint.

    Args:
        settings: their folders, how many are in memory at once, and CPUs of a prediction.
        kinds: name -> kind of the model; by default the one that its card names.

    Raises:
        ModelError: a model that cannot be opened.
    """

    def __init__(self, settings: EndpointSettings, kinds: Mapping[str, Kind] | None = None) -> None:
        self._folders = {name: Path(folder) for name, folder in settings.models.items()}
        self._start(dict(kinds or {}), settings.cpus, settings.loaded)
        for name, folder in self._folders.items():
            self._versions[name] = versions_of(folder)
            self._current[name] = self._versions[name][-1]
            self._load(name, self._current[name])

    @classmethod
    def of(cls, model: Model) -> "Shelf":
        """A model in memory, which no folder changes."""
        shelf = object.__new__(cls)
        shelf._folders = {}
        shelf._start({}, 1, 1)
        shelf._current["model"] = Version("1", Path(), ())
        shelf._versions["model"] = [shelf._current["model"]]
        shelf._here["model", shelf._current["model"]] = Loaded("model", "1", model)
        shelf.about["model"] = About.of(model)
        return shelf

    def _start(self, kinds: dict[str, Kind], cpus: int, most: int) -> None:
        self._kinds, self._cpus, self._most = kinds, cpus, most
        self._lock, self._loading = threading.Lock(), threading.Lock()
        self._here: OrderedDict[tuple[str, Version], Loaded] = OrderedDict()  # the last one used last
        self._versions: dict[str, list[Version]] = {}
        self._current: dict[str, Version] = {}  # which answers
        self._failed: dict[str, Version] = {}
        self.about: dict[str, About] = {}
        self.problems: dict[str, str] = {}  # name -> why a newer version does not answer

    @property
    def names(self) -> list[str]:
        """Of all models; the first answers where none is named."""
        return list(self._current)

    def versions(self, name: str) -> list[str]:
        """Versions of a model, the one that answers last."""
        current = self._current[name].name
        return [*(one.name for one in self._versions[name] if one.name != current), current]

    def find(self, asked: str) -> tuple[str, Version]:
        """Name and version of NAME, the one that answers, or of NAME@VERSION.  Raises UnknownModel: there is none."""
        name, _, version = asked.partition("@")
        if name not in self._current:
            raise UnknownModel(f"no model '{name[:80]}' here; {did_you_mean(name[:80], self.names)}")
        current = self._current[name]
        if version in ("", current.name):
            return name, current
        known = {one.name: one for one in self._versions[name]}
        if version not in known:
            raise UnknownModel(f"no version '{version[:80]}' of {name}; {did_you_mean(version[:80], known)}")
        return name, known[version]

    def get(self, asked: str | None = None) -> Loaded:
        """A model, loaded if it is not in memory; this may take seconds.

        Args:
            asked: as in ``find``; by default the first model.

        Raises:
            UnknownModel: there is none.
            ModelError: it is damaged.
        """
        place = self.find(self.names[0] if asked is None else asked)
        with self._lock:
            if place in self._here:
                self._here.move_to_end(place)
                return self._here[place]
        return self._load(*place)

    def _load(self, name: str, version: Version) -> Loaded:
        with self._loading:
            model = Model.open(version.folder, self._kinds.get(name))
            about = self.about.setdefault(name, About.of(model))
            if about.kind.name != model.kind.name:
                raise ModelError(
                    f"{version.folder}: of kind {model.kind.name}, and {name} is of kind {about.kind.name}; "
                    "serve it by another name"
                )
            if model.card.subject != about.subject:
                raise ModelError(
                    f"{version.folder}: a {model.card.subject}, and {name} is a {about.subject}; "
                    "serve it by another name"
                )
            model.surrogate.warm_up(self._cpus)
            found = Loaded(name, version.name, model)
            with self._lock:
                self._here[name, version] = found
                while len(self._here) > self._most:
                    self._here.popitem(last=False)
            return found

    def look(self) -> None:
        """See what has changed in the folders; load a newer version, then let it answer."""
        for name, folder in self._folders.items():
            before = self._current[name]
            try:
                found = versions_of(folder)
                if found[-1] not in (before, self._failed.get(name)):
                    self._failed[name] = found[-1]
                    self._load(name, found[-1])
                    self._current[name] = found[-1]
                    self.problems.pop(name, None)
                    LOG.info("%s: version %s answers", name, found[-1].name)
                elif found[-1] == before:
                    self.problems.pop(name, None)
                self._versions[name] = found
            except Exception as error:  # whatever a damaged folder leads to: the model before goes on
                problem = one_line(error, 300)
                if self.problems.get(name) != problem:
                    LOG.error("%s: version %s goes on: %s", name, before.name, problem)
                self.problems[name] = problem

    def watch(self, every: float = LOOK) -> threading.Thread:
        """``look`` from now on in a thread of its own, so often [s]."""

        def again() -> None:
            while True:
                time.sleep(every)
                self.look()

        thread = threading.Thread(target=again, name="shelf", daemon=True)
        thread.start()
        return thread

    def describe(self, name: str) -> dict[str, Any]:
        """A model for the list of all."""
        about, current = self.about[name], self._current[name]
        return {
            "name": name,
            "version": current.name,
            "versions": self.versions(name),
            "kind": about.kind.name,
            "about": about.title,
            "loaded": (name, current) in self._here,
            "problem": self.problems.get(name),
        }
