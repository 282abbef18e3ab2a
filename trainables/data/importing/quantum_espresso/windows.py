"""Windows of energies that inputs and logs of pp.x state, and which of their files are missing.  Energies in eV.

A cube says nothing of those that were written beside it.  What does: the input of pp.x, its log, the files between the
two steps of pp.x (filplot), and numbers in names that do not begin at 1.
"""

import glob
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ....errors import DatasetError
from ....files import read_text
from ..grid_files import GridFile
from ..importer import Report
from .inputs import PpInput, shared_folders
from .ldos_files import ROUNDED, LdosFiles, Sample

LARGEST_LOG = 50_000_000  # bytes; pp.x writes some 250 an energy
_ENERGY = re.compile(r"Energy\s*=\s*(\S+)\s*eV,\s*broadening\s*=\s*(\S+?)\s*eV")
_WRITTEN = re.compile(r"Writing data to be plotted to file\s+(\S+)")


@dataclass(frozen=True)
class Window:
    """Energies of an LDOS that a file states.

    Attributes:
        where: the file.
        energies: increasing.
        names: of the files of these energies, without folders; None where it does not say them whole.
        width: of the broadening; None where it does not say it.
        sure: how many of the energies there must be.
        source: the input that it is.
    """

    where: Path
    energies: Sequence[float]
    names: Sequence[str] | None
    width: float | None
    sure: int
    source: PpInput | None = None


def of_input(one: PpInput) -> Window | None:
    """The window of an input; None: it has none."""
    if one.quantity != 3 or (numbers := one.n_energies) is None:
        return None
    fewest, most = numbers
    return Window(one.where, [one.energy(n + 1) for n in range(most)], None, one.width, fewest, one)


def of_log(path: Path) -> Window | None:
    """The window of a log of pp.x; None: it wrote no LDOS, or says no numbers."""
    text = read_text(path, LARGEST_LOG, other="latin-1")
    try:
        said = [(float(a), float(b)) for a, b in _ENERGY.findall(text)]
    except ValueError:
        return None
    names = [Path(name).name for name in _WRITTEN.findall(text)]
    if not said:
        return None
    energies = [energy for energy, _ in said]
    return Window(path, energies, names if len(names) == len(energies) else None, said[0][1], len(energies))


@dataclass(frozen=True, eq=False)
class Files:
    """The LDOS of one snapshot: its files, all of them in order, and the folder of its calculation."""

    samples: Sequence[Sample]
    ldos: LdosFiles
    run: Path


def refuse_missing(snapshots: Sequence[Files], windows: Iterable[Window], report: Report) -> None:
    """Compare the files of all snapshots with the windows that are stated.

    Args:
        snapshots: of all sources.
        windows: of all inputs and logs.
        report: told of what may be missing, where nothing is sure.

    Raises:
        DatasetError: files are missing; names them, as far as that is known.
    """
    for one in snapshots:
        _report_late_numbers(one, report)
    for window in windows:
        for one in _written(window, snapshots) or [one for one in snapshots if _concerns(window, one)]:
            _compare(window, one, report)


def _compare(window: Window, one: Files, report: Report) -> None:
    there = [sample.energy for sample in one.samples]
    missing = [
        n
        for n, energy in enumerate(window.energies)
        if not any(abs(energy - other) < one.ldos.spacing / 2 for other in there)
    ]
    sure = [n for n in missing if n < window.sure or _halfway(window, n, one)]
    if sure:
        more = f", and those of {len(sure) - 1} more energies" if len(sure) > 1 else ""
        raise DatasetError(
            f"{window.where}: states {len(window.energies)} energies up to {window.energies[-1]:g} eV, but "
            f"{_name(window, sure[0], one)}, the file of that at {window.energies[sure[0]]:g} eV, is missing{more}; "
            "copy it, or run pp.x to its end; if this is of another LDOS, move it elsewhere"
        )
    if missing:
        report(
            f"{window.where}: {_name(window, missing[0], one)}, the file of the last energy, {window.energies[-1]:g} "
            "eV, is not there; pp.x itself may leave it out where emax is a multiple of delta_e"
        )


def _written(window: Window, snapshots: Sequence[Files]) -> list[Files]:
    """The snapshots that have files of a window, by their names; of equal names the nearest one, if that is one."""
    if window.source is not None:
        return [one for one in snapshots if any(sample.source is window.source for sample in one.samples)]
    names, depths = set(window.names or ()), list[tuple[int, Files]]()
    for one in snapshots:
        near = [shared_folders(window.where, file.path) for file in one.ldos.files if file.path.name in names]
        if near:
            depths.append((max(near), one))
    nearest = [one for depth, one in depths if depth == max(depth for depth, _ in depths)]
    return nearest if len(nearest) == 1 else []


def _concerns(window: Window, one: Files) -> bool:
    """Whether a window without any file belongs to a snapshot: it lies beside it, and would go on from it."""
    place = window.where.parent.resolve()
    folders = {file.path.parent.resolve() for file in one.ldos.files} | {one.run}
    if not any(folder == place or folder in place.parents for folder in folders):
        return False
    widths = (window.width, one.ldos.width)
    if None not in widths and abs(widths[0] - widths[1]) > ROUNDED:  # type: ignore[operator]
        return False
    return all(abs(b - a - one.ldos.spacing) < 2 * ROUNDED for a, b in pairwise(window.energies))


def _halfway(window: Window, n: int, one: Files) -> bool:
    """Whether pp.x wrote the file between its two steps (filplot), and so had that energy."""
    if window.source is None:
        return False
    folders = {window.where.parent, *(file.path.parent for file in one.ldos.files)}
    begin = window.source.begin
    names = (file.name for folder in folders for file in folder.glob(f"{glob.escape(begin)}*"))
    return any(name[len(begin) :].isdecimal() and int(name[len(begin) :]) == n + 1 for name in names)


def _name(window: Window, n: int, one: Files) -> str:
    if window.names is not None:
        return window.names[n]
    source, digits = window.source, 3
    if source is None:
        return "a file"
    for sample in one.samples:
        if sample.source is source:
            digits = len(sample.file.path.name) - len(source.begin) - len(source.end)
    return f"{source.begin}{n + 1:0{digits}d}{source.end}"


def _report_late_numbers(one: Files, report: Report) -> None:
    """Say where the numbers in the names of the files do not begin at 0 or 1 at the lowest energy."""
    first, second = one.ldos.files[:2]
    number = _counts_up(first, second)
    if number is not None and number > 1:
        report(
            f"{first.path}: the files of the LDOS begin with number {number}, at {one.ldos.minimum:g} eV; if there "
            "were some before it, copy them, as the states at their energies are missing"
        )


def _counts_up(a: GridFile, b: GridFile) -> int | None:
    """The number in the name of a file, if the other one has the same name with the next number."""
    ours, theirs = (re.split(r"(\d+)", file.path.name) for file in (a, b))
    if a.path.parent != b.path.parent or len(ours) != len(theirs):
        return None
    different = [(x, y) for x, y in zip(ours, theirs, strict=True) if x != y]
    if len(different) != 1 or not all(word.isdecimal() for word in different[0]):
        return None
    first, second = map(int, different[0])
    return first if second == first + 1 else None
