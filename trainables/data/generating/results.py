"""The folder of the runs: what is finished, what failed, and finished snapshots as an importer hands them over."""

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ...errors import DatasetError, InputError, one_line
from ..energy_grid import EnergyGrid
from ..importing.importer import Found, FoundSnapshot, Report
from ..importing.npy import npy_values
from ..importing.pseudopotentials import kohn_sham
from ..importing.quantum_espresso.calculation import Together
from ..importing.quantum_espresso.importer import KEYS
from ..importing.quantum_espresso.pw_log import read_log
from ..importing.quantum_espresso.pw_xml import NAME, read_xml
from ..kohn_sham import KohnSham
from .computing import DONE, ldos_name
from .structures import Planned

FAILED = "failed"  # folder of those without a result
PSEUDOPOTENTIALS = "pseudopotentials"


class Keyed(Protocol):
    """What is to be computed: a name, and a key of all that decides about the result."""

    @property
    def id(self) -> str: ...
    @property
    def key(self) -> str: ...


class Runs:
    """The folder of all runs of a specification.  Made by ``open_runs``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Folder of a finished run."""
        return self.folder / name

    def failed(self, name: str) -> Path:
        """Folder of a run that failed."""
        return self.folder / FAILED / name

    def is_finished(self, order: Keyed) -> bool:
        """Whether a result is there.

        Raises:
            DatasetError: it is that of another specification, or damaged.
        """
        path = self.path(order.id)
        if not path.exists():
            return False
        try:
            key = json.loads((path / DONE).read_text())["key"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{path / DONE}: damaged ({one_line(error, 80)}); remove {path}") from error
        if key != order.key:
            raise DatasetError(
                f"{path}: was computed for another specification; remove the folder to compute it again, or name "
                "another DATASET"
            )
        return True

    def keep_failure(self, name: str, kept: Path) -> None:
        """Move what a failed run has left to its place."""
        self.failed(name).parent.mkdir(exist_ok=True)
        shutil.rmtree(self.failed(name), ignore_errors=True)
        shutil.move(kept, self.failed(name))

    def forget_failure(self, name: str) -> None:
        """Of a run that has succeeded now."""
        shutil.rmtree(self.failed(name), ignore_errors=True)
        if self.failed(name).parent.is_dir() and not any(self.failed(name).parent.iterdir()):
            self.failed(name).parent.rmdir()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Raise InputError if what is written in the block finds no room."""
        try:
            yield
        except OSError as error:
            raise InputError(
                f"{self.folder}: cannot be written ({error.strerror or one_line(error, 80)}); make room, and give the "
                "same command again: what is finished is kept"
            ) from error

    def seconds(self, names: Sequence[str]) -> float:
        """CPU seconds of finished runs."""
        return sum(float(json.loads((self.path(name) / DONE).read_text())["cpu_seconds"]) for name in names)


@contextmanager
def open_runs(folder: Path) -> Iterator[Runs]:
    """The folder of the runs, made if it is not there, for one process at a time.

    Raises:
        InputError: another process computes there, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose a folder you may write to") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder}: another dftune computes there; wait for it, or stop it") from None
        except OSError as error:
            raise InputError(
                f"{folder}: cannot be locked ({error.strerror}); choose a folder on a disk with locks"
            ) from error
        for left in folder.glob(".*.part"):
            shutil.rmtree(left, ignore_errors=True)
        yield Runs(folder)


def found(
    runs: Runs, planned: Sequence[Planned], grids: Sequence[EnergyGrid], number: int, source: str, report: Report
) -> Found:
    """Finished snapshots with their LDOS on one of the grids, to be written as a dataset.

    Args:
        runs: their folder.
        planned: the snapshots.
        grids: of all LDOS; ``number``: which of them, from 0.
        source: where the snapshots come from, in words.
        report: gets a line where total free energies cannot be had.

    Raises:
        DatasetError: a file is damaged.
    """
    read = [Together([read_xml(runs.path(p.id) / NAME), read_log(_log(runs.path(p.id)))], []) for p in planned]
    calculations = [one.calculation([runs.folder / PSEUDOPOTENTIALS]) for one in read]

    def dft(species: Mapping[str, float]) -> KohnSham | None:
        return kohn_sham(calculations, KEYS, species=species, folder=None, report=report)

    return Found(
        snapshots=[_snapshot(runs, p, one, grids[number], number) for p, one in zip(planned, read)],
        dft=dft,
        source=f"Quantum ESPRESSO {', '.join(sorted({one.version for one in read}))}: {source}",
        splits={p.id: p.split for p in planned},
    )


def _log(folder: Path) -> Path:
    """The log of the SCF that converged."""
    second = folder / "pw.try2.out"
    return second if second.exists() else folder / "pw.out"


def _snapshot(runs: Runs, planned: Planned, one: Together, grid: EnergyGrid, number: int) -> FoundSnapshot:
    folder = runs.path(planned.id)
    return FoundSnapshot(
        where=folder,
        snapshot=one.snapshot(planned.id, planned.group),
        species=one.valences(runs.folder / PSEUDOPOTENTIALS),
        energy_grid=grid,
        ldos=npy_values(folder / ldos_name(number), (*one.grid, grid.n_energy), what="LDOS"),
        density=npy_values(folder / "density.npy", one.grid, what="density"),
        terms_error=one.terms_error,
        states=one.states,
        k_mesh=one.k_mesh,
        files=f"{one.formula}: {one.files}",
    )
