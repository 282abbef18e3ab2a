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

Judged = Literal["stress", "forces", "free_energy", "band_energy", "dos", "ldos"]
PENALTIES = (1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3)
BETWEEN = sqrt(10)  # the best one's neighbours at this factor are tried, too
Cells = Literal["larger", "several sizes", "one size"]  # whose errors are known, beside those of the training
# Times the least error that is as good: where the smallest penalty is taken, and where the largest one is, for cells of
# other sizes or of other volumes.
AS_GOOD, FOR_SIZES, FOR_VOLUMES = 1.05, 1.5, 1.25
WORDS: dict[Judged, str] = {
    "ldos": "LDOS",
    "dos": "DOS",
    "free_energy": "free energies",
    "band_energy": "band energies",
    "forces": "forces",
    "stress": "stresses",
}
# Energies of a few snapshots can all be right by chance, so an error below this is no better than it [eV/atom].
SMALL: dict[Judged, float] = {"free_energy": 3e-4, "band_energy": 3e-4}
TINY = 1e-300  # an error that a ratio can have below it
_OF_VOLUMES: tuple[Judged, ...] = ("stress", "forces")
LARGER = 1.01  # times the volume of the largest cell of the training
JUDGES = 3  # validation snapshots that judge: each penalty is an evaluation of all of them


@dataclass(frozen=True)
class Chosen:
    """A penalty and the kinds of errors that chose it."""

    penalty: float
    by: tuple[Judged, ...]


def judges(train: Sequence[SnapshotData], validation: Sequence[SnapshotData]) -> tuple[list[SnapshotData], Cells]:
    """The validation snapshots of cells larger than any of the training; if there are none, all, and how many sizes.

    Cells of as many atoms are of one size, whatever their volumes.  Of more than ``JUDGES`` every second is taken, or
    every third and so on.
    """
    volumes = [d.snapshot.volume for d in train]
    larger = [d for d in validation if d.snapshot.volume > LARGER * max(volumes)]
    some = larger or list(validation)
    of_one_size = len({d.snapshot.n_atoms for d in train}) == 1
    cells: Cells = "larger" if larger else "one size" if of_one_size else "several sizes"
    return some[:: -(-len(some) // JUDGES)], cells


Errors = Mapping[Judged, float] | InputError  # mean |errors| of a readout, or why there is none


def choose(errors_at: Callable[[Sequence[float]], Sequence[Errors]], cells: Cells, *, stresses: bool = False) -> Chosen:
    """The penalty with the least errors on validation snapshots, or one that is as good.

    What counts is the sum of all kinds of errors that are known, each in units of its least one over the penalties.
    The smallest penalty that is as good is taken.  A training of cells of several sizes is meant for other sizes, too:
    if none of these judges, the largest one is taken, as larger cells need larger ones.  So it is with rows of
    stresses, which are meant for other volumes: small penalties have them right at the training's alone.  There
    stresses alone count, or forces, if no stress is known.

    Args:
        errors_at: the errors of the readout at each of some penalties, that of the LDOS squared.
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
    known = {kind for errors in found.values() for kind, error in errors.items() if isfinite(error)}
    not_finite = InputError("the readout's errors are not finite; check the data")
    if not known:
        raise refused[0] if refused else not_finite
    for_volumes = stresses and cells != "larger"
    alone = next((kind for kind in _OF_VOLUMES if for_volumes and kind in known), None)
    by = (alone,) if alone else tuple(kind for kind in WORDS if kind in known)

    def off() -> dict[float, float]:
        """Penalty -> sum of its errors in units of the least ones; infinite if one is not known."""
        total = dict.fromkeys(found, 0.0)
        for kind in by:
            at = {penalty: errors.get(kind, inf) for penalty, errors in found.items()}
            least = max(min(filter(isfinite, at.values())), SMALL.get(kind, TINY))
            for penalty, error in at.items():
                total[penalty] += max(error / least, 1.0) if isfinite(error) else inf
        return total

    errors = off()
    best = min(errors, key=errors.__getitem__)
    if not isfinite(errors[best]):
        raise not_finite
    judge([p for p in (best / BETWEEN, best * BETWEEN) if PENALTIES[0] < p < PENALTIES[-1]])
    errors = off()
    largest = cells == "several sizes" or for_volumes
    share = FOR_VOLUMES if for_volumes else FOR_SIZES if largest else AS_GOOD
    as_good = [penalty for penalty, error in errors.items() if error <= share * min(errors.values())]
    return Chosen(max(as_good) if largest else min(as_good), by)


def listed(words: Sequence[str]) -> str:
    """One, two and three."""
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)
