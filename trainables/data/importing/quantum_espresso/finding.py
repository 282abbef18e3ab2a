"""Which files of Quantum ESPRESSO belong together: those of one structure, and of these the nearest.  Lengths in Å."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from ....errors import DatasetError
from ....physics.reciprocal import fractional
from ..grid_files import SUFFIXES, GridFile, read_head
from ..importer import Report
from .inputs import PpInput, PwInput, read_inputs, shared_folders
from .log_kinds import COMPRESSED, PROBLEMS, has_name_of_log, has_name_of_pw, kind_of
from .pw_log import read_log
from .pw_run import PwRun
from .pw_xml import NAME, read_xml
from .windows import Window, of_input, of_log

SAME = 1e-3  # [Å]; a cube rounds a vector of its cell by up to 1e-4, and folds the atoms into the cell
INPUTS = (".in", ".inp", ".pwi", ".ppi", ".nml")


@dataclass(frozen=True, eq=False)
class Calculated:
    """The files of one snapshot: its calculations, and the quantities on its grid."""

    runs: Sequence[PwRun]
    grids: list[GridFile]


@dataclass(eq=False)
class Files:
    """All files of Quantum ESPRESSO below some folders.

    Attributes:
        runs: calculations by pw.x.
        failed: calculations that cannot be used, and why.
        left: other files that have the name of one that would be read, and why they are not.
        grids: cubes and xsf files.
        pp_inputs, pw_inputs: inputs.
        windows: of energies, as inputs and logs of pp.x state them.
    """

    runs: list[PwRun] = field(default_factory=list)
    failed: list[tuple[Path, DatasetError]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    grids: list[GridFile] = field(default_factory=list)
    pp_inputs: list[PpInput] = field(default_factory=list)
    pw_inputs: list[PwInput] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)


def files_below(folder: Path, refuse: Callable[[OSError], None] | None = None) -> Iterator[Path]:
    """Files of a folder and of the folders in it, in the order of their names; no pipes or devices.

    ``refuse`` is called for folders that cannot be read, which are left out.
    """
    for place, folders, names in os.walk(folder, onerror=refuse):
        folders.sort()
        paths = (Path(place) / name for name in sorted(names))
        yield from (path for path in paths if path.is_file() or not path.exists())


def _refuse(error: OSError) -> NoReturn:
    """A folder that cannot be read may hold a snapshot."""
    raise error


def is_of_pw(path: Path) -> bool:
    """Whether a file is XML or a log of pw.x; its name and its beginning tell."""
    return path.name == NAME or (has_name_of_log(path) and kind_of(path) == "pw")


def look(sources: Sequence[Path]) -> Files:
    """Read the heads of all files below the sources.

    Raises:
        DatasetError: a cube is damaged in its head or compressed, or an input has a word where a number belongs.
    """
    found, inputs, seen = Files(), list[Path](), set[str]()
    for path in (path for source in sources for path in files_below(source, _refuse)):
        if (there := os.path.realpath(path)) in seen:  # not Path.resolve, which may raise an error of a loop of links
            continue
        seen.add(there)
        if path.suffix.lower() in SUFFIXES:
            found.grids.append(read_head(path))
        elif path.suffix.lower() in COMPRESSED and path.with_suffix("").suffix.lower() in SUFFIXES:
            if not path.with_suffix("").exists():
                raise DatasetError(f"{path}: is compressed; unpack it, and all others of its folder")
        elif path.suffix.lower() in INPUTS or ".in." in path.name:
            inputs.append(path)
        elif path.name == NAME:
            _run(path, read_xml, found)
        elif has_name_of_log(path):
            _look_at_log(path, found)
    found.pp_inputs, found.pw_inputs, passed = read_inputs(inputs)
    found.left += passed
    found.windows += [window for one in found.pp_inputs if (window := of_input(one)) is not None]
    return found


def _look_at_log(path: Path, found: Files) -> None:
    """Read what has the name of a log, and note what it should be and is not."""
    kind = kind_of(path)
    if kind in ("pw", "unreadable"):
        _run(path, read_log, found)
    elif kind == "pp":
        found.windows += [window for window in [of_log(path)] if window is not None]
    elif kind in PROBLEMS and path.suffix.lower() in COMPRESSED:
        found.left.append(f"{path}: is compressed; unpack it, if it is a log of pw.x")
    elif kind == "without its beginning" or (kind in PROBLEMS and has_name_of_pw(path)):
        remedy = "give the whole log of pw.x, or remove it if another file has that calculation"
        found.failed.append((path, DatasetError(f"{path}: {PROBLEMS[kind]}; {remedy}")))
    elif kind in PROBLEMS and path.suffix:  # charge densities, for example, have no ending
        found.left.append(f"{path}: {PROBLEMS[kind]}")


def _run(path: Path, read: Callable[[Path], PwRun], found: Files) -> None:
    try:
        found.runs.append(read(path))
    except DatasetError as error:
        found.failed.append((path, error))


def together(found: Files, report: Report) -> list[Calculated]:
    """The snapshots among files.  Each quantity on a grid goes to the nearest calculation of its structure.

    Raises:
        DatasetError: there is no calculation of the structure of a cube, or the nearest one cannot be used.
    """
    snapshots: dict[tuple[Path, ...], Calculated] = {}
    for grids in _alike(found.grids):
        runs = _nearest(grids[0], found)
        nearer = [run.where for run in found.runs if run.where.parent == grids[0].path.parent]
        if nearer and not any(run.where in nearer for run in runs):
            report(f"{grids[0].path}: taken for {runs[0].where}, whose structure it has; {nearer[0]} has another one")
        one = snapshots.setdefault(tuple(run.where for run in runs), Calculated(runs, []))
        one.grids.extend(grids)
    used = {run.where for one in snapshots.values() for run in one.runs}
    for run in found.runs:
        if run.where not in used:
            report(f"left out {run.where}: no cubes of its structure are nearer to it than to another calculation")
    for _, error in found.failed:
        report(f"left out {error}")
    for problem in found.left:
        report(f"left out {problem}")
    return list(snapshots.values())


def _alike(grids: Sequence[GridFile]) -> list[list[GridFile]]:
    """Files of one folder and one structure."""
    found: list[list[GridFile]] = []
    for grid in grids:
        for group in reversed(found):
            if group[0].path.parent == grid.path.parent and not _difference(group[0], grid):
                group.append(grid)
                break
        else:
            found.append([grid])
    return found


def _nearest(grid: GridFile, found: Files) -> list[PwRun]:
    """The calculations of the structure of a file with which it shares the longest path."""
    runs = sorted(found.runs, key=lambda run: -shared_folders(grid.path, run.where))
    first = next((run for run in runs if not _difference(grid, run)), None)
    depth = -1 if first is None else shared_folders(grid.path, first.where)
    for path, error in found.failed:
        if shared_folders(grid.path, path) >= depth:
            raise error
    if first is not None:
        return [run for run in runs if shared_folders(grid.path, run.where) == depth and not _difference(grid, run)]
    if not found.runs:
        others = f" ({found.left[0]})" if found.left else ""
        raise DatasetError(
            f"{grid.path}: no log of pw.x and no {NAME} is there{others}; keep the log beside the cubes, as it has the "
            "Fermi level, the temperature and the energies"
        )
    raise DatasetError(
        f"{grid.path}: of another structure than {runs[0].where}: {_difference(grid, runs[0])}; keep the log or {NAME} "
        "of its own calculation beside it, or remove it"
    )


def _difference(a: GridFile, b: GridFile | PwRun) -> str:
    """How two structures differ, in words; empty if they do not."""
    if len(a.numbers) != len(b.numbers):
        return f"{len(a.numbers)} atoms, not {len(b.numbers)}"
    if (a.numbers != b.numbers).any():
        return "other elements, or in another order"
    if (off := np.abs(a.cell - b.cell).max()) > SAME:
        return f"cell vectors differ by {off:.4f} Å"
    moved = fractional(a.positions - b.positions, b.cell)
    distance: NDArray[np.float64] = np.linalg.norm((moved - np.round(moved)) @ b.cell, axis=1)
    if distance.max() > SAME:
        return f"atom {int(distance.argmax()) + 1} is {distance.max():.4f} Å away"
    return ""
