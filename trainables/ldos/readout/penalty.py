"""Which ridge penalty carries over to cells that the training has not.

Measured on aluminium (docs/physics.md, section 18): judged by the LDOS of validation snapshots of the training's own
cells, 1e-2 is best, and forces of 16 and 32 atoms are then off by two or three times as much as they need be.  Judged
by forces it is 10, in cells of any size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ..training_data import SnapshotData
from .gram import Gram
from .rows import RowKind, Rows
from .solve import Solver

Float64 = NDArray[np.float64]
PENALTIES = (1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3)
# The smallest penalty within this factor of the best error is taken: the curve is flat there, and what the rows do not
# see, the LDOS further off and energies that are not linear in it, gets worse as the penalty grows.
AS_GOOD = 1.05
KINDS: tuple[RowKind, ...] = ("forces", "free_energy", "band_energy")  # the most telling first
WORDS = {"forces": "forces", "free_energy": "free energies", "band_energy": "band energies"}
LARGER = 1.01  # times the volume of the largest cell of the training


@dataclass(frozen=True, eq=False)
class Chosen:
    """A penalty, the factors at it, and how it was found, in a few words."""

    solver: Solver
    about: str

    @property
    def penalty(self) -> float:
        """λ."""
        return self.solver.penalty


def judges(train: Sequence[SnapshotData], validation: Sequence[SnapshotData]) -> tuple[list[SnapshotData], bool]:
    """The validation snapshots of cells larger than any of the training and True; if there are none, all and False."""
    largest = max(d.snapshot.volume for d in train)
    larger = [d for d in validation if d.snapshot.volume > LARGER * largest]
    return (larger, True) if larger else (list(validation), False)


def choose(
    sums: Gram,
    rows: Rows,
    weights: Mapping[RowKind, float],
    seen: Rows,
    unseen: Gram | None,
) -> Chosen:
    """The penalty with the least error on validation snapshots.

    Args:
        sums, rows: of the training.
        weights: κ of each kind of row.
        seen: rows of the validation snapshots that judge; of the kinds there are, forces count, else free energies,
            else band energies, by the linear error.
        unseen: sums over those snapshots, whose LDOS counts where they have no row.

    Raises:
        InputError: the equations are singular at every penalty, or numbers that are not finite.
    """
    kind = next((kind for kind in KINDS if kind in seen.kinds), None)
    columns = np.array([k == kind for k in seen.kinds], dtype=bool)
    solvers, errors, refused = list[Solver](), list[float](), list[InputError]()
    for penalty in PENALTIES:
        try:
            solver = Solver(sums, rows, penalty)
        except InputError as error:
            refused.append(error)
            continue
        found = solver.solve(weights)
        if kind is not None:
            off = float(np.abs(seen.of(found) - seen.target)[:, columns].mean())
        else:
            assert unseen is not None
            off = float(unseen.loss(found).mean())
        solvers.append(solver)
        errors.append(off)
    if not solvers or not np.isfinite(errors).any():
        raise refused[0] if refused else InputError("the readout's errors are not finite; check the data")
    k = next(k for k, error in enumerate(errors) if error <= AS_GOOD * np.nanmin(errors))
    return Chosen(solvers[k], f"chosen by {'the LDOS' if kind is None else WORDS[kind]}")
