"""The energies at which an LDOS was sampled, from files that say them.  Energies in eV.

Three kinds of files do: inputs of pp.x (emin, emax, delta_e, degauss_ldos), the cubes that pp.x writes (the second line
of each), and parameters that MALA saved (ldos_gridsize, ldos_gridspacing_ev, ldos_gridoffset_ev).
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import DatasetError, one_line
from ...files import read_text
from ...physics.smearing import Kernel
from .importer import Report
from .quantum_espresso.inputs import read_inputs

SAME = 1e-3  # [eV]; cubes give energies to 1e-4
MOST_TEXT = 1_000_000  # bytes of a file that says energies, cubes aside
MOST_ENERGIES = 100_000
ELSE = "mend or remove it, or name another file with --energies"
_SECOND_LINE = re.compile(r"\s*Energy\s*=\s*(\S+)\s*eV,\s*broadening\s*=\s*(\S+)\s*eV")


@dataclass(frozen=True, eq=False)
class EnergyAxis:
    """Energies of an LDOS as a file says them.

    Attributes:
        where: the file.
        energies: increasing, (n,) [eV].
        width: of the broadening [eV]; None where the file does not say it.
        spacing: of all energies, where the file says it itself [eV].
        kernel: of the broadening, where the file says it.
    """

    where: Path
    energies: NDArray[np.float64]
    width: float | None = None
    spacing: float | None = None
    kernel: Kernel | None = None

    def agrees(self, other: "EnergyAxis") -> bool:
        """Whether both say the same, as far as they say anything."""
        return (
            len(self.energies) == len(other.energies)
            and float(np.abs(self.energies - other.energies).max()) < SAME
            and (None in (self.width, other.width) or abs((self.width or 0) - (other.width or 0)) < SAME)
        )


@dataclass(frozen=True)
class Sampled:
    """A uniform grid of energies [eV], and which energies of the files are on it; None: all.

    Kernel and width of the broadening are None where no file says them.
    """

    minimum: float
    spacing: float
    n_energy: int
    kernel: Kernel | None
    width: float | None
    chosen: tuple[int, ...] | None


def sampled(n: int, sources: Sequence[Path], told: Path | None, *, where: Path, report: Report) -> Sampled:
    """The energies of an LDOS that has so many of them.

    Args:
        n: how many it has.
        sources: folders to look in; folders in them are looked into, too.
        told: a file that says them; None: look.
        where: the LDOS, for messages.
        report: told where they were found.

    Raises:
        DatasetError: no file says them, several say other ones, or they cannot be brought onto a uniform grid.
    """
    if told is not None:
        axes = axes_of(told)
        if not axes:
            raise DatasetError(f"{told}: says no energies; give a cube, an input of pp.x, or parameters of MALA")
    else:
        axes = [axis for folder in dict.fromkeys(sources) for axis in _axes_below(folder)]
    fitting = [axis for axis in axes if len(axis.energies) == n] or [
        axis for axis in [_joined(axes)] if axis is not None and len(axis.energies) == n
    ]
    if not fitting:
        found = "; ".join(f"{axis.where} has {len(axis.energies)}" for axis in axes[:4]) or "no file says any"
        raise DatasetError(
            f"{where}: has {n} energies, but nothing says which: {found}; name a cube, an input of pp.x or parameters "
            "of MALA with --energies"
        )
    first, *others = sorted(fitting, key=lambda axis: axis.spacing is None)
    for other in others:
        if not first.agrees(other):
            raise DatasetError(
                f"{other.where}: energies or broadening differ from those of {first.where}; choose one with --energies"
            )
    width = next((axis.width for axis in fitting if axis.width is not None), None)
    report(f"energies: {n} from {first.energies[0]:g} to {first.energies[-1]:g} eV, as {first.where} says")
    kernel = next((axis.kernel for axis in fitting if axis.kernel is not None), None)
    return _uniform(first, kernel, width, report)


def axes_of(file: Path) -> list[EnergyAxis]:
    """What a file says of energies: axes that may be, or none.  A cube stands for all cubes of its series.

    Raises:
        DatasetError: it is damaged.
    """
    if file.suffix == ".cube":
        return [_cubes(sorted(one for one in file.parent.glob("*.cube") if _series(one) == _series(file)))]
    try:
        text = read_text(file, MOST_TEXT, other="latin-1" if file.suffix != ".json" else None)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{file}: {one_line(error).removeprefix(f'{file}: ')}") from error
    if file.suffix != ".json":
        return _input(file)
    found = _parameters(file, text)
    return [] if found is None else [found]


def _axes_below(folder: Path) -> Iterable[EnergyAxis]:
    """What the files of a folder and of the folders in it say."""
    folders = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    files = sorted(
        file for one in folders for file in one.iterdir() if file.suffix in (".in", ".json", ".cube") and file.is_file()
    )
    first = dict[object, Path]()
    for file in files:
        first.setdefault(_series(file) if file.suffix == ".cube" else file, file)
    small = [file for file in first.values() if file.suffix == ".cube" or file.stat().st_size <= MOST_TEXT]
    return chain.from_iterable(map(axes_of, small))


def _series(cube: Path) -> tuple[Path, str]:
    """Folder and name of a cube without its number: those of one run of pp.x share it."""
    return cube.parent, re.sub(r"pp\d+", "pp", cube.name)


def _cubes(files: Sequence[Path]) -> EnergyAxis:
    energies, widths = [], set()
    for file in files:
        with file.open(encoding="utf-8", errors="replace") as stream:
            found = _SECOND_LINE.match([stream.readline(400) for _ in range(2)][1])
        if found is None:
            raise DatasetError(f"{file}: its second line does not say an energy and a broadening; {ELSE}")
        energies.append(_number(found[1], file))
        widths.add(_number(found[2], file))
    if len(widths) > 1:
        raise DatasetError(f"{files[0].parent}: cubes of one series have broadenings of {sorted(widths)} eV; {ELSE}")
    return EnergyAxis(files[0], _increasing(energies, files[0]), widths.pop())


def _input(file: Path) -> list[EnergyAxis]:
    """An input of pp.x for plot_num = 3, by all numbers of energies that it may have made; none: it is another text."""
    one = next(iter(read_inputs([file])[0]), None)
    if one is None or one.quantity != 3 or not (numbers := one.rounded_energies):
        return []
    kernel: Kernel | None = "gaussian" if one.gaussian else None
    energies = np.array([one.energy(n + 1) for n in range(numbers[0])])
    return [EnergyAxis(file, energies[:n], one.width, one.spacing, kernel) for n in numbers]


def _parameters(file: Path, text: str) -> EnergyAxis | None:
    """Parameters of MALA, of one grid or of one split into parts; None: it is another JSON."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise DatasetError(f"{file}: no JSON ({one_line(error)}); {ELSE}") from error
    targets = content.get("targets") if isinstance(content, dict) else None
    if not isinstance(targets, dict) or not targets.get("ldos_gridsize"):
        return None
    names = ("ldos_gridsize", "ldos_gridoffset_ev", "ldos_gridspacing_ev")
    parts = [value if isinstance(value, list) else [value] for value in (targets.get(name) for name in names)]
    if len({len(part) for part in parts}) > 1:
        raise DatasetError(f"{file}: {', '.join(names)} have different numbers of parts; {ELSE}")
    pieces: list[NDArray[np.float64]] = []
    for size, offset, spacing in zip(*parts, strict=True):
        if not isinstance(size, int) or not 0 < size < MOST_ENERGIES:
            raise DatasetError(f"{file}: an ldos_gridsize of {str(size)[:20]} is none; {ELSE}")
        pieces.append(_number(offset, file) + _number(spacing, file) * np.arange(size, dtype=np.float64))
    # MALA leaves out the last energy of each part but the last, where the next part begins.
    whole = np.concatenate([*(piece[:-1] for piece in pieces[:-1]), pieces[-1]])
    spacing = _number(parts[2][0], file) if len(pieces) == 1 else None
    return EnergyAxis(file, _increasing(whole, file), spacing=spacing)


def _joined(axes: Sequence[EnergyAxis]) -> EnergyAxis | None:
    """Windows that were computed one by one, joined; energies where two of them meet are there once."""
    if not axes:
        return None
    widths = {axis.width for axis in axes if axis.width is not None}
    energies = np.sort(np.concatenate([axis.energies for axis in axes]))
    energies = energies[np.append(True, np.diff(energies) > SAME)]
    if len(widths) > 1:
        return None
    return EnergyAxis(axes[0].where, energies, widths.pop() if widths else None)


def _uniform(axis: EnergyAxis, kernel: Kernel | None, width: float | None, report: Report) -> Sampled:
    """The grid of an axis.  Where its parts have several spacings, the widest one, as far as it has those energies."""
    energies, n = axis.energies, len(axis.energies)
    if n < 2:
        raise DatasetError(f"{axis.where}: says {n} energy; two or more make a grid")
    widest = float(np.diff(energies).max())
    spacing = float(energies[-1] - energies[0]) / round((energies[-1] - energies[0]) / widest)
    wanted = energies[0] + spacing * np.arange(round((energies[-1] - energies[0]) / spacing) + 1)
    nearest = np.searchsorted((energies[1:] + energies[:-1]) / 2, wanted)
    if np.abs(energies[nearest] - wanted).max() > SAME:
        raise DatasetError(
            f"{axis.where}: its energies are no uniform grid, nor is a part of them; sample the LDOS from "
            f"{energies[0]:g} to {energies[-1]:g} eV in equal steps"
        )
    if len(wanted) == n:
        return Sampled(float(energies[0]), axis.spacing or spacing, n, kernel, width, None)
    report(f"energies: every {spacing:g} eV of the split grid, {len(wanted)} of its {n}; the finer ones are left out")
    return Sampled(float(energies[0]), spacing, len(wanted), kernel, width, tuple(int(i) for i in nearest))


def _increasing(energies: Sequence[float] | NDArray[np.float64], where: Path) -> NDArray[np.float64]:
    values = np.asarray(energies, dtype=np.float64)
    if len(values) > 1 and not (np.diff(values) > 0).all():
        raise DatasetError(f"{where}: its energies do not increase; {ELSE}")
    return values


def _number(value: object, where: Path) -> float:
    try:
        number = float(str(value).lower().replace("d", "e"))
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        raise DatasetError(f"{where}: {str(value)[:20]!r} is no number where an energy belongs; {ELSE}")
    return number
