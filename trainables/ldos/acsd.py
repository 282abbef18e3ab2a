"""Average cosine similarity distance: do grid points of similar descriptors have similar LDOS?  It has no unit."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Variant = Literal["paper", "clipped"]


def acsd(
    descriptors: NDArray[np.floating],
    ldos: NDArray[np.floating],
    first: NDArray[np.integer],
    second: NDArray[np.integer],
    variant: Variant = "paper",
) -> float:
    """Mean of |S_C(d_i, d_j) - S_C(B_i, B_j)| over all pairs of a grid point i in ``first`` and a j in ``second``.

    With S_C(a, b) = a·b / |a| |b| (Eq. 8), the differences of all pairs are one matrix product of the unit vectors:
    of B_i beside d_i with B_j beside -d_j.  Lower is better.

    Args:
        descriptors: B, (n_points, n_components), as LAMMPS gives them: not scaled.
        ldos: d, (n_points, n_energy) [any unit]; S_C of an LDOS that is zero everywhere is set to 0.
        first, second: rows of both, (n_first,) and (n_second,).
        variant: ``paper`` is Eq. 9 as printed; ``clipped`` takes max(S_C(B) - S_C(d), 0) as the MALA code does, so that
            pairs whose LDOS are more alike than their descriptors count nothing.

    Source: Fiedler et al. (2022), Eq. 8, 9.
    """
    one = np.hstack([_directions(descriptors[first]), _directions(ldos[first])])
    other = np.hstack([_directions(descriptors[second]), -_directions(ldos[second])])
    difference = one @ other.T
    distance = np.abs(difference, out=difference) if variant == "paper" else difference.clip(0, out=difference)
    return float(distance.mean())


def _directions(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    vectors = vectors.astype(np.float64)
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norm > 0, norm, 1.0)
