"""The folder of a run of molecular dynamics, which survives a kill between any two bytes.

    run.json          what was asked: model, settings, the first structure
    state.json        where it is, to the last bit, and how long the files below are, with their checksums
    trajectory.xyz    frames: positions [Å], momenta and forces [eV/Å] as ASE writes them
    thermo.csv        a row a step
    dos.arrow         if asked for: the density of states of each frame, a stream of Arrow record batches
    label/            structures unlike the training, to be computed by DFT, if asked for

A step is first appended to the files, and then the state is replaced.  What stands in a file beyond the length in the
state is of a step that nobody knows of, and is cut off.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import ase
import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from ...trainables.errors import InputError, one_line
from ...trainables.files import atomic, read_text
from ..version import __version__
from .settings import MdSettings

Vectors = list[tuple[float, float, float]]
TRAJECTORY, THERMO, DOS = "trajectory.xyz", "thermo.csv", "dos.arrow"


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Run(_Form):
    """What was asked.  cell, positions [Å]; momenta, masses: in ASE's units."""

    format_version: Literal[1] = 1
    dftune: str = __version__
    model: str
    model_sha256: str
    settings: MdSettings
    symbols: list[str]
    masses: list[float]
    cell: Vectors
    positions: Vectors
    momenta: Vectors

    @classmethod
    def of(cls, model: str, model_sha256: str, settings: MdSettings, atoms: ase.Atoms) -> "Run":
        """Of atoms with velocities."""
        return cls(
            model=model,
            model_sha256=model_sha256,
            settings=settings,
            symbols=atoms.get_chemical_symbols(),
            masses=atoms.get_masses().tolist(),
            **moving(atoms),
        )

    def atoms(self, at: "State | None" = None) -> ase.Atoms:
        """The atoms of a state; by default the first ones."""
        place = at or self
        return ase.Atoms(
            self.symbols,
            positions=place.positions,
            cell=place.cell,
            momenta=place.momenta,
            masses=self.masses,
            pbc=True,
        )


class State(_Form):
    """Where it is.

    step: steps done.  integrator: as ``Integrator.state``.  held_cell: of the structure whose grid is held.  outside:
    steps that were unlike the training.  conserved: first and last value of what integration conserves [eV].  lengths:
    of the files [bytes].  sums: SHA-256 of each as far as that; runs of before have none.
    """

    step: int
    cell: Vectors
    positions: Vectors
    momenta: Vectors
    integrator: dict[str, Any]
    held_cell: Vectors
    outside: int
    conserved: tuple[float, float]
    lengths: dict[str, int]
    sums: dict[str, str] = {}


def moving(atoms: ase.Atoms) -> dict[str, Any]:
    """Cell, positions and momenta, as JSON has them."""
    return {
        "cell": np.array(atoms.cell).tolist(),
        "positions": atoms.positions.tolist(),
        "momenta": atoms.get_momenta().tolist(),
    }


class RunFolder:
    """A run's folder that this process alone holds; ``held`` opens it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._streams: dict[str, Any] = {}
        self._sums: dict[str, Any] = {}

    @property
    def run(self) -> Run:
        """What was asked.  Raises InputError: the file is missing or damaged."""
        return self._read("run.json", Run)

    @property
    def state(self) -> State | None:
        """Where it is; None before the first step.  Raises InputError: damaged."""
        return self._read("state.json", State) if (self.path / "state.json").exists() else None

    def _read(self, name: str, form: Any) -> Any:
        file = self.path / name
        try:
            return form.model_validate_json(read_text(file))
        except FileNotFoundError as error:
            raise InputError(
                f"{self.path}: no run of molecular dynamics (no {name}); begin one with dftune md"
            ) from error
        except ValidationError as error:
            raise InputError(f"{file}: damaged ({one_line(error)}); begin the run again in another folder") from error

    def write_run(self, run: Run) -> None:
        """Replace what was asked."""
        with atomic(self.path / "run.json") as file:
            file.write_text(run.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def open_files(self, names: list[str], state: State | None) -> None:
        """Open files to append to, and cut each to its length in the state; to nothing without a state.

        Raises:
            InputError: a file is shorter, was changed, or cannot be written.
        """
        lengths, sums = (state.lengths, state.sums) if state else ({}, {})
        for name in names:
            file, length = self.path / name, lengths.get(name, 0)
            try:
                there = file.stat().st_size if file.exists() else 0
                if there < length:
                    raise InputError(
                        f"{file}: cannot be appended to: it has {there:,} bytes, and {length:,} when its last step was "
                        "written; bring the file back, or begin the run again in another folder"
                    )
                self._sums[name] = _sum(file, length)
                if sums.get(name) not in (None, self._sums[name].hexdigest()):
                    raise InputError(
                        f"{file}: cannot be appended to: it was changed since its last step; bring it back, "
                        "or begin the run again in another folder"
                    )
                stream = file.open("ab")
                self._streams[name] = stream
                stream.truncate(length)
                stream.seek(length)
            except OSError as error:
                raise InputError(f"{file}: cannot be appended to ({error.strerror})") from error

    def append(self, name: str, content: bytes) -> None:
        """Append to an open file, for the next ``commit``.  Raises InputError: the disk is full, say."""
        try:
            self._streams[name].write(content)
            self._sums[name].update(content)
        except OSError as error:
            raise InputError(f"{self.path / name}: cannot be written ({error.strerror})") from error

    def is_empty(self, name: str) -> bool:
        """Whether nothing stands in an open file."""
        return bool(self._streams[name].tell() == 0)

    def commit(self, **state: Any) -> None:
        """Bring what was appended to the disk, then replace the state; fields as ``State``, but for those of files.

        Raises:
            InputError: it cannot be written.
        """
        try:
            for stream in self._streams.values():
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror})") from error
        lengths = {name: stream.tell() for name, stream in self._streams.items()}
        sums = {name: found.hexdigest() for name, found in self._sums.items()}
        with atomic(self.path / "state.json") as file:
            of_files = {"lengths": lengths, "sums": sums}
            file.write_text(json.dumps({**state, **of_files}, allow_nan=False), encoding="utf-8")

    def write(self, name: str, content: bytes) -> None:
        """Write a file as a whole."""
        with atomic(self.path / name) as file:
            file.write_bytes(content)

    def _close(self) -> None:
        for stream in self._streams.values():
            stream.close()


def _sum(file: Path, length: int) -> Any:
    """SHA-256 of the first bytes of a file, to be gone on with; of none if there is no file."""
    found = hashlib.sha256()
    if length:
        with file.open("rb") as stream:
            while piece := stream.read(min(length, 2**20)):
                found.update(piece)
                length -= len(piece)
    return found


def new_place(path: str | Path) -> Path:
    """The folder of a new run, absolute.  Raises InputError: it exists."""
    path = Path(path).expanduser().absolute()
    if os.path.lexists(path):
        raise InputError(f"{path}: exists already; go on with `dftune md resume`, or choose another name")
    return path


@contextmanager
def held(path: Path) -> Iterator[RunFolder]:
    """The folder of a run, with the right to write.

    Raises:
        InputError: there is none, or another process writes into it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise InputError(
            f"{path}: no run of molecular dynamics ({error.strerror}); begin one with dftune md"
        ) from error
    folder = RunFolder(path)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f"{path}: another process runs it; wait for it, or end it") from error
        yield folder
    finally:
        folder._close()
        os.close(descriptor)
