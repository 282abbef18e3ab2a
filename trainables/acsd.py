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

    S_C(a, b) = a·b / |a| |b| (Eq. 8) of all pairs is one matrix product for B and one for d.  Lower is better.

    Args:
        descriptors: B, (n_points, n_components), as LAMMPS gives them: not scaled.
        ldos: d, (n_points, n_energy) [any unit]; S_C of an LDOS that is zero everywhere is set to 0.
        first, second: rows of both, (n_first,) and (n_second,).
        variant: ``paper`` is Eq. 9 as printed; ``clipped`` takes max(S_C(B) - S_C(d), 0) as the MALA code does, so that
            pairs whose LDOS are more alike than their descriptors count nothing.

    Source: Fiedler et al. (2022), Eq. 8, 9.
    """
    difference = _cosines(descriptors, first, second) - _cosines(ldos, first, second)
    return float((np.abs(difference) if variant == "paper" else np.maximum(difference, 0)).mean())


def _cosines(vectors: NDArray[np.floating], first: NDArray[np.integer], second: NDArray[np.integer]) -> NDArray:
    return _directions(vectors[first]) @ _directions(vectors[second]).T


def _directions(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    vectors = vectors.astype(np.float64)
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norm, out=np.zeros_like(vectors), where=norm > 0)
