"""The energies of the LDOS that pp.x wrote, a file each, and how it was broadened.  Energies in eV.

pp.x writes energy and broadening into the second line of each cube (versions 6.3 and later).  An xsf file says nothing:
its energy comes from the input of pp.x, by the number in its name.
"""

import filecmp
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ....errors import DatasetError
from ..grid_files import GridFile
from .inputs import PpInput, shared_folders

ROUNDED = 1.01e-4  # [eV]; titles have four digits
_TITLE = re.compile(r"energy\s*=\s*(\S+)\s*eV.*?broadening\s*=\s*(\S+?)\s*eV", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Sample:
    """The LDOS at one energy.

    Attributes:
        file: it is in.
        energy: [eV].
        width: of the broadening [eV]; None where nothing says it.
        source: the input of pp.x that it was made by, where it is there.
    """

    file: GridFile
    energy: float
    width: float | None
    source: PpInput | None


@dataclass(frozen=True, eq=False)
class LdosFiles:
    """All energies of a snapshot: files in the order of their energies, which are ``minimum + spacing * j``."""

    files: Sequence[GridFile]
    minimum: float
    spacing: float
    width: float | None
    gaussian: PpInput | None  # the input that asks for a Gaussian broadening whatever the smearing was

    @property
    def where(self) -> Path:
        """To name in an error."""
        return self.files[0].path


def sample(file: GridFile, inputs: Sequence[PpInput]) -> Sample | None:
    """Energy and broadening of a file; None if it is no LDOS.

    Args:
        file: a cube or an xsf file.
        inputs: of pp.x; of those that name such a file, the nearest in the folders made it.

    Raises:
        DatasetError: its title is damaged, or the LDOS is that of one spin.
    """
    made = [(one, n) for one in inputs if one.quantity == 3 and (n := one.number(file.path.name)) is not None]
    nearest = max((shared_folders(file.path, one.where) for one, _ in made), default=0)
    made = [(one, n) for one, n in made if shared_folders(file.path, one.where) == nearest]
    source, n = made[0] if len(made) == 1 else (None, 0)
    if source is not None and source.spin != 0:
        raise DatasetError(
            f"{source.where}: spin_component = {source.spin}; the LDOS of both spins is needed, so run pp.x with 0"
        )
    title = _TITLE.search(file.title)
    if title is None:
        if source is None or source.minimum is None:
            return None
        return Sample(file, source.energy(n), source.width, source)
    try:
        energy, width = float(title[1]), float(title[2])
    except ValueError:
        raise DatasetError(
            f"{file.path}, line 2: {file.title[:60]!r} does not give the energy; run pp.x again"
        ) from None
    if source is not None:
        _refuse_other(file, energy, width, source, n)
        width = width if source.width is None else source.width  # the title rounds it
    return Sample(file, energy, width, source)


def _refuse_other(file: GridFile, energy: float, width: float, source: PpInput, n: int) -> None:
    """Raise DatasetError if a file is not the n-th that an input had pp.x write."""
    asked = None if source.minimum is None else source.energy(n)
    for name, ours, theirs in (("an energy", energy, asked), ("a broadening", width, source.width)):
        if theirs is not None and abs(ours - theirs) > ROUNDED:
            raise DatasetError(
                f"{file.path}, line 2: {name} of {ours:g} eV, but {source.where} had it written with {theirs:g} eV; it "
                "was changed since, so restore or remove it"
            )


def in_order(samples: Iterable[Sample]) -> LdosFiles:
    """Windows of energies as one grid.

    Windows may have been computed one by one, and may overlap: where two files have one energy, they must be equal.

    Raises:
        DatasetError: an energy is missing or there twice, energies are not equally far apart, or broadenings or grids
            differ; names the file.
    """
    ordered = _unique(sorted(samples, key=lambda one: one.energy))
    first = ordered[0]
    for one in ordered[1:]:
        if one.file.grid != first.file.grid:
            raise DatasetError(
                f"{one.file.path}: grid {one.file.grid} differs from {first.file.grid} in {first.file.path}; write all "
                "energies on the FFT grid"
            )
        if one.width != first.width:
            raise DatasetError(
                f"{one.file.path}: broadening of {one.width} eV, but {first.width} eV in {first.file.path}; all "
                "energies need one (degauss_ldos)"
            )
    if len(ordered) < 2:
        raise DatasetError(f"{first.file.path}: the LDOS of one energy alone; run pp.x with emin, emax and delta_e")
    spacing = _spacing(ordered)
    _refuse_missing(ordered, spacing)
    minimum = round(ordered[0].energy, 9)
    gaussian = [one.source for one in ordered if one.source is not None and one.source.gaussian]
    if gaussian and len(gaussian) < len([one for one in ordered if one.source is not None]):
        raise DatasetError(
            f"{gaussian[0].where}: use_gauss_ldos is in one input of pp.x, and not in the others; run all alike"
        )
    return LdosFiles([one.file for one in ordered], minimum, spacing, first.width, gaussian[0] if gaussian else None)


def _unique(ordered: Sequence[Sample]) -> list[Sample]:
    kept = [ordered[0]]
    for one in ordered[1:]:
        before = kept[-1]
        if one.energy - before.energy > ROUNDED / 2:
            kept.append(one)
        elif not filecmp.cmp(before.file.path, one.file.path, shallow=False):
            raise DatasetError(
                f"{one.file.path}: another LDOS at {one.energy:g} eV than {before.file.path}; keep one of the two"
            )
    return kept


def _spacing(ordered: Sequence[Sample]) -> float:
    """The distance of energies, as exactly as files say it."""
    smallest = min(b.energy - a.energy for a, b in pairwise(ordered))
    said = {one.source.spacing for one in ordered if one.source is not None and one.source.spacing}
    for spacing in said:
        if abs(spacing - smallest) <= 2 * ROUNDED:
            return spacing
    steps = round((ordered[-1].energy - ordered[0].energy) / smallest)
    return round((ordered[-1].energy - ordered[0].energy) / steps, 9)


def _refuse_missing(ordered: Sequence[Sample], spacing: float) -> None:
    """Raise DatasetError where energies are missing between others."""
    for a, b in pairwise(ordered):
        steps = (b.energy - a.energy) / spacing
        if abs(steps - round(steps)) * spacing > 2 * ROUNDED + 1e-6 * abs(b.energy):
            raise DatasetError(
                f"{b.file.path}: {b.energy:g} eV is {b.energy - a.energy:g} eV above {a.file.path}, others are "
                f"{spacing:g} eV apart; the energies must be equally far apart"
            )
        if round(steps) > 1:
            missing = ", ".join(f"{a.energy + i * spacing:g}" for i in range(1, min(round(steps), 5)))
            raise DatasetError(
                f"{a.file.path.parent}: the LDOS at {missing} eV is missing, between {a.file.path.name} and "
                f"{b.file.path.name}; copy all files of pp.x, which may itself leave out the last energy of a window "
                "where emax is a multiple of delta_e"
            )
