"""From a specification of configurations and a forward code to a dataset.  What runs the tasks is handed in."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, Self

from ase.data import atomic_numbers
from pydantic import Field, ValidationError, field_validator, model_validator

from ..data.generating.computing import DONE, FAILURE
from ..data.generating.results import Runs, open_runs
from ..data.generating.spec import GenerateError, Table, explain, read_values
from ..files import atomic, refuse_existing
from ..progress import Execute, Progress
from .configurations import Configuration, ConfigurationsTable, configurations
from .data import AlloyData
from .forward import ForwardCode, Lsms
from .importers import read_lattice
from .lsms_input import LsmsSettings
from .xtb import Xtb, XtbSettings

GIVE_UP = 3  # failures without a success


class AlloySpec(Table):
    """All that fixes the data: the specification of `dftune data generate`."""

    kind: Literal["alloys"]
    symbols: tuple[str, str] = Field(description="the two elements, 0 and 1")
    lattice: str = Field(description="structure file of the cell, an atom on each site")
    configurations: ConfigurationsTable
    lsms: LsmsSettings | None = Field(default=None, description="compute by LSMS")
    xtb: XtbSettings | None = Field(default=None, description="compute by GFN1-xTB")

    @field_validator("symbols")
    @classmethod
    def _two_elements(cls, symbols: tuple[str, str]) -> tuple[str, str]:
        if unknown := [symbol for symbol in symbols if symbol not in atomic_numbers]:
            raise ValueError(f"{unknown[0]!r} is no chemical symbol")
        if symbols[0] == symbols[1]:
            raise ValueError("two elements are needed")
        return symbols

    @model_validator(mode="after")
    def _one_code(self) -> Self:
        if (self.lsms is None) == (self.xtb is None):
            raise ValueError("give one code, [lsms] or [xtb]")
        return self

    @property
    def code(self) -> ForwardCode:
        """What computes.  Raises InputError: it cannot compute these elements, or lacks a file."""
        return Lsms(self.lsms, self.symbols) if self.lsms else Xtb(self.xtb or XtbSettings(), self.symbols)

    @classmethod
    def read(cls, path: Path) -> "AlloySpec":
        """From a TOML file; files named in it are relative to it.  Raises GenerateError."""
        values = read_values(path)
        try:
            return cls.model_validate(_absolute(values, path.absolute().parent))
        except ValidationError as error:
            raise GenerateError(f"{path}: {explain(error, cls)}") from None


def _absolute(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The values with paths relative to a folder."""

    def at(place: object) -> object:
        return str(folder / Path(place).expanduser()) if isinstance(place, str) else place

    found = dict(values)
    if "lattice" in found:
        found["lattice"] = at(found["lattice"])
    if isinstance(some := found.get("configurations"), dict):
        files: dict[str, Any] = (
            {"files": [at(file) for file in some["files"]]} if isinstance(some.get("files"), list) else {}
        )
        select = some.get("select")
        if isinstance(select, dict) and "dataset" in select:
            files["select"] = select | {"dataset": at(select["dataset"])}
        found["configurations"] = some | files
    if isinstance(lsms := found.get("lsms"), dict) and isinstance(given := lsms.get("potentials"), dict):
        found["lsms"] = lsms | {"potentials": {symbol: at(file) for symbol, file in given.items()}}
    return found


class AlloyGeneration:
    """Configurations that are to be computed by a forward code.

    Args:
        spec: what to compute.

    Raises:
        InputError: lattice, configurations or what the code needs cannot be had.
    """

    def __init__(self, spec: AlloySpec) -> None:
        self.spec, self.code = spec, spec.code
        self.cpus, self.refuse_missing = self.code.cpus, self.code.refuse_missing
        self.lattice = read_lattice(Path(spec.lattice))
        self.configurations = configurations(spec.configurations, self.lattice, spec.symbols)

    def run(self, destination: Path, execute: Execute, *, without_failed: bool, progress: Progress) -> list[AlloyData]:
        """Compute what is missing, and make the dataset.

        Args:
            destination: its folder; what is finished is in DESTINATION.runs, and is never computed again.
            execute: does the tasks.
            without_failed: make the dataset of what is finished, although some runs have failed.
            progress: how far it is.

        Raises:
            InputError: runs have failed, or the place cannot be written.
        """
        refuse_existing(destination)
        with open_runs(destination.with_name(f"{destination.name}.runs")) as runs:
            computing = _Computing(self, runs, execute, progress)
            failed = computing.all()
            if failed and not (without_failed and computing.finished):
                name, reason = next(iter(failed.items()))
                others = f", and {len(failed) - 1} other{'s' if len(failed) > 2 else ''}" if len(failed) > 1 else ""
                raise GenerateError(
                    f"configuration {name}{others} failed: {reason}; logs are in {runs.failed(name)}; the same command "
                    "tries again, --without-failed leaves them out"
                )
            return [self._import(runs, computing.finished, destination)]

    def _import(self, runs: Runs, finished: Sequence[Configuration], destination: Path) -> AlloyData:
        names = [one.id for one in self.configurations if one in finished]
        found = self.code.read([runs.path(name) for name in names], Path(self.spec.lattice))
        source = f"generated, {len(names)} runs"
        return replace(found, symbols=self.spec.symbols, source=source).plan().write(destination)

    def key(self, one: Configuration) -> str:
        """Of all that decides about the result of a configuration."""
        about: list[Any] = [self.spec.symbols, self.lattice.model_dump(mode="json"), one.species.tolist()]
        about += [self.code.name, self.code.physics]
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


class _Orders(Sequence[Any]):
    """Orders, each of which is made when it is begun."""

    def __init__(self, make: Callable[[Configuration], Any], some: Sequence[Configuration]) -> None:
        self._make, self._some = make, some

    def __len__(self) -> int:
        return len(self._some)

    def __getitem__(self, number: Any) -> Any:
        return self._make(self._some[number])


class _Computing:
    """The runs of a specification: what is finished, what is to be done, and in which order."""

    def __init__(self, generation: AlloyGeneration, runs: Runs, execute: Execute, progress: Progress) -> None:
        self._generation, self._runs, self._execute, self._progress = generation, runs, execute, progress
        self.finished, self._waiting = list[Configuration](), list[Configuration]()
        for one in generation.configurations:
            is_there = runs.is_finished(SimpleNamespace(id=one.id, key=generation.key(one)))
            (self.finished if is_there else self._waiting).append(one)
        self._failed = dict[str, str]()
        # A mixed one comes first: from its potentials all others are near.
        n = generation.lattice.n_sites
        self._waiting.sort(key=lambda one: abs(one.n_second - n / 2))

    def all(self) -> dict[str, str]:
        """Compute everything.  Returns the failed ones: name -> why."""
        try:
            while self._waiting and not self.finished and not self._hopeless():
                self._do(self._waiting[:1])
            self._do(list(self._waiting))
        finally:
            self._progress.end(self._generation.code.name)
        return self._failed

    def _hopeless(self) -> bool:
        return not self.finished and len(self._failed) >= GIVE_UP

    def _do(self, some: Sequence[Configuration]) -> None:
        if not some:
            return
        if self._hopeless():
            return self._progress.say(f"gave up: the first {len(self._failed)} runs have failed")
        for number, kept in self._execute(self._generation.code.compute, _Orders(self._order, some)):
            one = some[number]
            self._waiting.remove(one)
            if DONE in kept:
                with atomic(self._runs.path(one.id)) as folder:
                    _write(folder, kept)
                self._runs.forget_failure(one.id)
                self.finished.append(one)
            else:
                self._fail(one, kept)
            self._progress.update(
                self._generation.code.name, len(self.finished), len(self._generation.configurations), one.id
            )

    def _order(self, one: Configuration) -> Any:
        """What is to be done for a configuration, from what is near by now."""
        generation = self._generation
        by_site = tuple(generation.spec.symbols[int(kind)] for kind in one.species)

        def near(name: str) -> tuple[str, bytes] | None:
            for other in sorted(self.finished, key=lambda other: abs(other.n_second - one.n_second)):
                path = self._runs.path(other.id) / name
                if path.is_file():
                    return other.id, path.read_bytes()
            return None

        return generation.code.order(one.id, generation.lattice, by_site, generation.key(one), near)

    def _fail(self, one: Configuration, kept: Mapping[str, bytes]) -> None:
        self._failed[one.id] = kept[FAILURE].decode(errors="replace").strip()
        folder = self._runs.folder / f".{one.id}.part"
        _write(folder, kept)
        self._runs.keep_failure(one.id, folder)
        self._progress.say(f"{one.id} failed: {self._failed[one.id]}")


def _write(folder: Path, kept: Mapping[str, bytes]) -> None:
    folder.mkdir()
    for name, content in kept.items():
        (folder / name).write_bytes(content)
