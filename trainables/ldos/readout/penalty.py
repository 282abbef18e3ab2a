"""Which ridge penalty carries over to cells that the training has not.

Measured on aluminium (docs/physics.md, section 18): in cells of the training's own size forces are best at 0.1 to 1; 16
and 32 atoms that 8 must speak for need 300.  Linear errors of rows do not tell: the chord iterations change them.
Forces alone do not tell either: a snapshot far from all others prefers any penalty that flattens the LDOS of all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, sqrt
from typing import Literal

from ...errors import InputError
from ..training_data import SnapshotData

Judged = Literal["stress", "forces", "free_energy", "band_energy", "ldos"]
PENALTIES = (1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3)
BETWEEN = sqrt(10)  # the best one's neighbours at this factor are tried, too
# Of which cells errors are known, beside those of the training -> which penalties are as good as the best one: those
# within a factor of its error.  In cells of the training's sizes the error is flat over a decade.
Cells = Literal["larger", "several sizes", "one size"]
AS_GOOD: dict[Cells, float] = {"larger": 1.05, "several sizes": 1.25, "one size": 1.25}
KINDS: tuple[Judged, ...] = ("stress", "forces", "free_energy", "band_energy", "ldos")  # the most telling first
WORDS: dict[str, str] = {
    "forces": "forces",
    "free_energy": "free energies",
    "band_energy": "band energies",
    "ldos": "the LDOS",
    "stress": "stresses",
}
LARGER = 1.01  # times the volume of the largest cell of the training
JUDGES = 3  # validation snapshots that judge: each penalty is an evaluation of all of them


@dataclass(frozen=True)
class Chosen:
    """A penalty and what chose it."""

    penalty: float
    by: Judged


def judges(train: Sequence[SnapshotData], validation: Sequence[SnapshotData]) -> tuple[list[SnapshotData], Cells]:
    """The validation snapshots of cells larger than any of the training; if there are none, all, and how many sizes.

    Of more than ``JUDGES`` every second is taken, or every third and so on.
    """
    volumes = [d.snapshot.volume for d in train]
    larger = [d for d in validation if d.snapshot.volume > LARGER * max(volumes)]
    some = larger or list(validation)
    cells: Cells = "larger" if larger else "several sizes" if max(volumes) > LARGER * min(volumes) else "one size"
    return some[:: -(-len(some) // JUDGES)], cells


Errors = Mapping[Judged, float] | InputError  # mean |errors| of a readout, or why there is none


def choose(errors_at: Callable[[Sequence[float]], Sequence[Errors]], cells: Cells, *, stresses: bool = False) -> Chosen:
    """The penalty with the least error on validation snapshots, or the smallest one that is as good.

    A training of cells of several sizes is meant for other sizes, too: if none of these judges, the largest one that is
    as good by forces is taken, as larger cells need larger ones.  So do rows of stresses, which are meant for other
    volumes: small penalties have them right at the training's alone.

    Args:
        errors_at: the errors of the readout at each of some penalties, that of the LDOS squared.  Of the kinds that
            are finite at any penalty, stresses count, else forces, else free energies, else band energies, times the
            LDOS' squared error; else the LDOS alone.
        cells: as ``judges``.
        stresses: whether the readout has rows of them.

    Raises:
        InputError: what ``errors_at`` gives at every penalty, or numbers that are not finite.
    """
    found, refused = dict[float, Mapping[Judged, float]](), list[InputError]()

    def judge(penalties: Sequence[float]) -> None:
        for penalty, errors in zip(penalties, errors_at(penalties), strict=True):
            if isinstance(errors, InputError):
                refused.append(errors)
            else:
                found[penalty] = errors

    judge(PENALTIES)
    by = next((kind for kind in KINDS if any(isfinite(e.get(kind, inf)) for e in found.values())), None)
    if by is None:
        raise refused[0] if refused else InputError("the readout's errors are not finite; check the data")

    alone = cells == "several sizes" or (stresses and cells != "larger")

    def off(penalty: float) -> float:
        value = found[penalty].get(by, inf)
        if by != "ldos" and not alone:
            value *= found[penalty].get("ldos", inf)
        return value if isfinite(value) else inf

    best = min(found, key=off)
    judge([p for p in (best / BETWEEN, best * BETWEEN) if PENALTIES[0] < p < PENALTIES[-1]])
    limit = AS_GOOD[cells] * min(map(off, found))
    as_good = [penalty for penalty in found if off(penalty) <= limit]
    return Chosen(max(as_good) if alone else min(as_good), by)
