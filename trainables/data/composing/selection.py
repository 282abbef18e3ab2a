"""Structures chosen from many: from a trajectory for the DFT, or from a dataset."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import ase
import ase.io
import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, did_you_mean, one_line
from ...files import atomic, refuse_existing
from ...progress import Progress, Silent
from ..dataset import Dataset
from ..structure_distance import atoms_of, decorrelated, distance, farthest, radial_distribution
from .parts import Part, compose

Way = Literal["farthest", "decorrelated"]
WAYS: tuple[Way, ...] = get_args(Way)


@dataclass(frozen=True)
class Selection:
    """What was chosen.

    Attributes:
        frames: numbers of the chosen structures, from 0, in their order.
        n: structures there were.
        first, step: from which frame on, and how far apart, frames know nothing of each other; None where not asked.
        nearest: smallest distance of two chosen ones, see ``structure_distance``; None for one.
    """

    frames: tuple[int, ...]
    n: int
    first: int | None
    step: int | None
    nearest: float | None


def choose(vectors: Sequence[NDArray[np.float64]], n: int, way: Way) -> Selection:
    """Choose n structures by their radial distribution functions.

    Args:
        vectors: of all structures, in the order of time.
        n: how many.
        way: ``farthest``: as different as possible; ``decorrelated``: from where a trajectory is in equilibrium on,
            frames that know nothing of each other, spread evenly.

    Raises:
        InputError: there are fewer, or fewer that know nothing of each other.
    """
    if way not in WAYS:
        raise InputError(f"there is no way '{way}' to select; {did_you_mean(way, WAYS)}")
    if not 0 < n <= len(vectors):
        raise InputError(f"{n} structures cannot be chosen of {len(vectors)}; choose 1 to {len(vectors)} (-n)")
    first = step = None
    if way == "farthest":
        frames = sorted(farthest(vectors, n))
    else:
        first, step = decorrelated(vectors)
        free = list(range(first, len(vectors), step))
        if len(free) < n:
            raise InputError(
                f"from frame {first} on, every {_ordinal(step)} knows nothing of the last, so there are {len(free)} of "
                f"{len(vectors)} frames to choose {n} from; give a longer trajectory, fewer frames, or --by farthest"
            )
        frames = [free[i] for i in np.linspace(0, len(free) - 1, n).round().astype(int)]
    pairs = [distance(vectors[a], vectors[b]) for i, a in enumerate(frames) for b in frames[i + 1 :]]
    return Selection(tuple(frames), len(vectors), first, step, min(pairs, default=None))


def take_frames(trajectory: Path, destination: Path, choose: Callable[[list[ase.Atoms]], Sequence[int]]) -> list[int]:
    """Choose frames of a file that ASE reads, all held at once, and write them as extended XYZ; their numbers.

    Raises:
        InputError: as ``select_frames``, or what ``choose`` raises.
    """
    refuse_existing(destination)
    frames = sorted(choose(list(_frames(trajectory))))
    _write(trajectory, destination, frames)
    return frames


def select_frames(trajectory: Path, destination: Path, n: int, way: Way, progress: Progress | None = None) -> Selection:
    """Choose frames of a file that ASE reads, and write them as extended XYZ.  One frame is held at once.

    Raises:
        InputError: the file cannot be read, the destination exists, or as ``choose``.
    """
    refuse_existing(destination)
    told, vectors = progress or Silent(), []
    for atoms in _frames(trajectory):
        vectors.append(radial_distribution(atoms))
        told.update("frames", len(vectors), None)
    told.end("frames")
    selection = choose(vectors, n, way)
    _write(trajectory, destination, selection.frames)
    return selection


def _write(trajectory: Path, destination: Path, frames: Collection[int]) -> None:
    """Some frames of a file as extended XYZ, one held at once."""
    with atomic(destination) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for number, atoms in enumerate(_frames(trajectory)):
            if number in frames:
                atoms.info["frame"] = number
                ase.io.write(stream, atoms, format="extxyz")


def select_snapshots(
    dataset: Dataset, destination: Path, n: int, way: Way, progress: Progress | None = None
) -> tuple[Selection, Dataset]:
    """Choose snapshots of a dataset, and make a dataset of them.  Errors as ``choose`` and ``compose``."""
    selection = choose([radial_distribution(atoms_of(s)) for s in dataset], n, way)
    return selection, take(dataset, destination, [dataset.snapshots[i].id for i in selection.frames], progress)


def take(dataset: Dataset, destination: Path, ids: Sequence[str], progress: Progress | None = None) -> Dataset:
    """A dataset of some snapshots of another.

    Raises:
        DatasetError: one is not there, or as ``compose``.
    """
    parts = [Part(dataset, dataset[name], dataset[name]) for name in ids]
    return compose(parts, dataset.info.model_copy(update={"checks": None}), destination, progress)


def _frames(path: Path) -> Iterator[ase.Atoms]:
    """The structures of a file, one at a time.  Raises InputError: ASE cannot read it, or one is not periodic."""
    frames = ase.io.iread(str(path), do_not_split_by_at_sign=True)
    number = 0
    while True:
        try:
            atoms = next(frames)
        except StopIteration:
            break
        except Exception as error:  # ASE's hundred readers raise whatever their parsing runs into
            cause = one_line(error, 200) or type(error).__name__
            raise InputError(f"{path}: frame {number} cannot be read by ASE ({cause}); write the file again") from error
        if not atoms.pbc.all() or atoms.cell.volume < 1e-6 or len(atoms) == 0:
            raise InputError(
                f"{path}: frame {number} is no periodic cell with atoms; give structures with cell and atoms"
            )
        yield atoms
        number += 1
    if number == 0:
        raise InputError(f"{path}: holds no structure; give a trajectory or a file of structures")


def _ordinal(n: int) -> str:
    """1st, 2nd, 3rd, 4th, ..., 11th."""
    if n % 100 in (11, 12, 13):
        return f"{n}th"
    return f"{n}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th') }"
