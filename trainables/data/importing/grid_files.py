"""Values on a grid in text files: Gaussian cubes, and the data grids of XCrySDen (xsf).  Lengths in Å; cubes have bohr.

Sources: the writers of Quantum ESPRESSO (PP/src/cube.f90, PP/src/xsf.f90).
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from ...errors import DatasetError, printable, unreadable
from ...physics.units import BOHR
from .text_numbers import NumberReader

SUFFIXES = (".cube", ".cub", ".xsf")
LONGEST_LINE = 1000
AGAIN = "write this file again"
POINTS_A_BLOCK = 16_384
_SPACE = 100  # lines that the head of an xsf file may have besides its atoms


@dataclass(frozen=True, eq=False)
class GridFile:
    """One quantity on the grid of a cell, of which only the head was read.

    Attributes:
        path: the file.
        title: what it says of itself; an xsf file says nothing.
        cell: rows are the vectors [Å].
        numbers, positions: of the atoms [Å].
        grid: number of points along each vector, without the repeated ones at the end of an xsf file.
        offset: of the first value [bytes].
        periodic: x runs fastest, and the first point of each axis comes again at its end, as in xsf files.
    """

    path: Path
    title: str
    cell: NDArray[np.float64]
    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    grid: tuple[int, int, int]
    offset: int
    periodic: bool

    def finish(self, reader: NumberReader) -> None:
        """Raise DatasetError if more comes after the last value, or less than all of it."""
        words = reader.words()
        if not words and _ends_within_a_number(self.path):
            raise DatasetError(f"{self.path}: ends within its last number; it was written by half, so write it again")
        if words and not (self.periodic and words[0].startswith(b"END_DATAGRID")):
            raise DatasetError(
                f"{self.path}, line {reader.line()}: goes on after the {'x'.join(map(str, self.grid))} values of its "
                "grid; keep one quantity a file"
            )


def _ends_within_a_number(path: Path) -> bool:
    """Whether a file has no line end at its end, and a last number with fewer characters than the one before."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 100))
        tail = stream.read()
    lengths = [len(word.lstrip(b"-")) for word in tail.split()[-2:]]
    return not tail[-1:].isspace() and lengths != sorted(lengths)


def read_head(path: Path) -> GridFile:
    """The head of a cube or xsf file.

    Raises:
        DatasetError: missing, or not such a file; names the line.
    """
    try:
        with path.open("rb") as stream:
            return (_xsf if path.suffix == ".xsf" else _cube)(path, _Lines(path, stream))
    except OSError as error:
        raise unreadable(path, error) from error


def blocks(files: Sequence[GridFile]) -> Iterator[NDArray[np.float64]]:
    """Values of files of one grid side by side, in blocks of consecutive grid points: (n, n_files), C order.

    Of cubes no more than a block is held.  xsf files have another order, so they go through a temporary file.

    Raises:
        DatasetError: a file is short, goes on after its end, or has words among its numbers; names file and line.
    """
    if any(file.periodic for file in files):
        yield from _turned(files)
        return
    left = int(np.prod(files[0].grid))
    readers = [NumberReader(file.path, file.offset) for file in files]
    while left:
        n = min(POINTS_A_BLOCK, left)
        block = np.empty((n, len(files)))
        for column, reader in enumerate(readers):
            block[:, column] = reader.read(n)
        left -= n
        if not left:
            for file, reader in zip(files, readers, strict=True):
                file.finish(reader)
        yield block


def _turned(files: Sequence[GridFile]) -> Iterator[NDArray[np.float64]]:
    """Values of files in which x runs fastest."""
    nx, ny, nz = files[0].grid
    with tempfile.TemporaryFile() as stream:
        values = np.memmap(stream, np.float32, mode="w+", shape=(len(files), nx, ny, nz))
        for column, file in enumerate(files):
            if not file.periodic:
                raise DatasetError(f"{file.path}: a cube among xsf files; write all of a snapshot in one format")
            reader = NumberReader(file.path, file.offset)
            for k in range(nz):
                values[column, :, :, k] = reader.read((nx + 1) * (ny + 1)).reshape(ny + 1, nx + 1)[:ny, :nx].T
            reader.read((nx + 1) * (ny + 1))  # the plane of k = 0 again
            file.finish(reader)
        for plane in range(nx):
            yield values[:, plane].reshape(len(files), -1).T.astype(np.float64)


class _Lines:
    """The lines of a file, each with its number for messages."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self._path, self._stream, self.number = path, stream, 0

    def next(self) -> str:
        self.number += 1
        line = self._stream.readline(LONGEST_LINE)
        if not line:
            self.refuse("ends in its head; it was written by half, so write it again")
        return line.decode("latin-1").strip()

    def numbers(self, n: int, what: str) -> list[float]:
        """The first ``n`` numbers of the next line."""
        words = (line := self.next()).split()
        try:
            values = [float(word) for word in words[:n]]
        except ValueError:
            values = []
        if len(values) < n or not np.isfinite(values).all():
            self.refuse(f"{line[:40]!r} where {what} belong; {AGAIN}")
        return values

    def count(self, value: float, what: str) -> int:
        if value != int(value) or not 0 < value < 2**31:
            self.refuse(f"{value:g} is no number of {what}; {AGAIN}")
        return int(value)

    @property
    def offset(self) -> int:
        return self._stream.tell()

    def refuse(self, problem: str) -> NoReturn:
        raise DatasetError(f"{self._path}, line {self.number}: {printable(problem)}")


def _cube(path: Path, lines: _Lines) -> GridFile:
    title = [lines.next(), lines.next()][1]
    n_atoms, *origin = lines.numbers(4, "the number of atoms and the origin")
    if n_atoms < 0:
        lines.refuse("a cube of orbitals; give cubes of one quantity")
    if any(origin):
        lines.refuse("its grid does not begin at the origin of the cell; write it with x0 = 0, 0, 0 and the FFT grid")
    axes, grid = list[list[float]](), list[int]()
    for _ in range(3):
        axes.append(lines.numbers(4, "a number of points and a vector"))
        grid.append(lines.count(abs(axes[-1][0]), "grid points"))
    unit = BOHR if axes[0][0] > 0 else 1.0  # negative numbers of points say that lengths are in Å
    atoms = np.array([lines.numbers(5, "an atom") for _ in range(lines.count(n_atoms, "atoms"))])
    return GridFile(
        path=path,
        title=title,
        cell=np.array([np.array(axis[1:]) * n for axis, n in zip(axes, grid, strict=True)]) * unit,
        numbers=atoms[:, 0].astype(np.int64),
        positions=atoms[:, 2:] * unit,
        grid=(grid[0], grid[1], grid[2]),
        offset=lines.offset,
        periodic=False,
    )


def _xsf(path: Path, lines: _Lines) -> GridFile:
    """Sections of an xsf file as QE writes them: PRIMVEC, PRIMCOORD, one BEGIN_DATAGRID_3D."""
    cell = numbers = positions = None
    for _ in range(_SPACE):
        word = lines.next().upper()
        if word == "PRIMVEC":
            cell = np.array([lines.numbers(3, "a vector of the cell") for _ in range(3)])
        elif word == "PRIMCOORD":
            n_atoms = lines.count(lines.numbers(1, "the number of atoms")[0], "atoms")
            atoms = [lines.next().split() for _ in range(n_atoms)]
            numbers = np.array([_element(lines, atom) for atom in atoms])
            positions = np.array([[float(word) for word in atom[1:4]] for atom in atoms])
        elif word.startswith("BEGIN_DATAGRID_3D"):
            points = [lines.count(n - 1, "grid points") for n in lines.numbers(3, "numbers of points")]
            if any(lines.numbers(3, "the origin")):
                lines.refuse("its grid does not begin at the origin of the cell; write it with x0 = 0, 0, 0")
            for _ in range(3):
                lines.numbers(3, "a vector of the grid")
            if cell is None or numbers is None or positions is None:
                break
            return GridFile(
                path, "", cell, numbers, positions, (points[0], points[1], points[2]), lines.offset, periodic=True
            )
    lines.refuse(f"no xsf file with PRIMVEC, PRIMCOORD and BEGIN_DATAGRID_3D, in this order; {AGAIN}")


def _element(lines: _Lines, words: list[str]) -> int:
    try:
        if len(words) >= 4 and all(np.isfinite(float(word)) for word in words[1:4]):
            return atomic_numbers[words[0]] if words[0] in atomic_numbers else int(words[0])
    except ValueError:
        pass
    lines.refuse(f"{' '.join(words)[:40]!r} where an atom belongs; {AGAIN}")
