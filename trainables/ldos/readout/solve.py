"""The last layer that minimises Σ_r |y - Wᵀφ|² + λ|W|² + Σ_k κ_k (row_k(W) - t_k)², in closed form."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, lu_factor, lu_solve

from ...errors import InputError
from .gram import Gram
from .rows import RowKind, Rows

Float64 = NDArray[np.float64]
BLOCK = 512  # rows whose products are made at once


@dataclass(frozen=True, eq=False)
class _Factors:
    """Of one initialisation: G + λ, the ridge solution, the rows' left vectors, and the rows' products."""

    matrix: tuple[Float64, bool]  # as ``cho_solve`` takes it
    plain: Float64  # (p, n_energy)
    left: Float64  # (n_rows, 2, p)
    products: Float64  # (n_rows, n_rows)


class Solver:
    """Factors of the Gram matrices at one penalty, which serve for any weights and targets of the rows.

    With H = G + λ, W = W₀ + Σ_k α_k H⁻¹ R_k, where W₀ = H⁻¹ Σ φyᵀ, R_k is the matrix of row k, K_kl = ⟨R_k, H⁻¹R_l⟩ and
    (K + 1/κ) α = t - row(W₀) (Woodbury): as many unknowns as rows, whatever the number of energies.

    Args:
        gram: sums over the training's grid points.
        rows: of the training's snapshots.
        penalty: λ, on all features but the constant.

    Raises:
        InputError: sums that are not finite, or a Gram matrix that this penalty leaves singular.
    """

    def __init__(self, gram: Gram, rows: Rows, penalty: float) -> None:
        if not (np.isfinite(gram.phi_phi).all() and np.isfinite(gram.phi_y).all()):
            raise InputError(
                "the features or the LDOS have values that are not finite; check the data with `dftune data check`, "
                "or lower weight_scale"
            )
        self.rows, self.penalty = rows, penalty
        self._factors = [self._factor(*parts) for parts in zip(gram.phi_phi, gram.phi_y, rows.left, strict=True)]

    def _factor(self, phi_phi: Float64, phi_y: Float64, left: Float64) -> _Factors:
        p, n_rows = len(phi_phi), len(left)
        matrix = phi_phi.copy()
        matrix[np.arange(p - 1), np.arange(p - 1)] += self.penalty
        try:
            factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
            pivots = np.diag(factor[0])
            if pivots.min() < 1e-7 * pivots.max():
                raise LinAlgError("a pivot vanishes")
        except LinAlgError as error:
            raise InputError(
                f"the readout's equations are singular at penalty = {self.penalty:g}: fewer grid points than features, "
                "or features that depend on each other; raise penalty or lower width"
            ) from error
        plain = cho_solve(factor, phi_y, check_finite=False)
        turned = cho_solve(factor, left.reshape(2 * n_rows, p).T, check_finite=False).T.reshape(n_rows, 2, p)
        return _Factors(factor, plain, left, _products(left, turned, self.rows.right))

    def solve(self, weights: Mapping[RowKind, float], shift: Float64 | None = None) -> Float64:
        """W, (T, p, n_energy).

        Args:
            weights: κ of each kind of row; a kind without one, or with 0, is left out.
            shift: added to the rows' targets, (T, n_rows).
        """
        kappa = np.array([weights.get(kind, 0.0) for kind in self.rows.kinds])
        on = kappa > 0
        plain = np.stack([factors.plain for factors in self._factors])
        if not on.any():
            return plain
        wanted = self.rows.target - self.rows.of(plain)
        wanted = wanted if shift is None else wanted + shift
        right = self.rows.right[on]
        for t, factors in enumerate(self._factors):
            products = factors.products[np.ix_(on, on)]  # a copy
            products[np.diag_indices(len(products))] += 1 / kappa[on]
            alpha = lu_solve(lu_factor(products.T, overwrite_a=True, check_finite=False), wanted[t, on])
            together = np.einsum("kip,kij->pj", alpha[:, None, None] * factors.left[on], right, optimize=True)
            plain[t] += cho_solve(factors.matrix, together, check_finite=False)
        return plain


def _products(left: Float64, turned: Float64, right: Float64) -> Float64:
    """K, (n_rows, n_rows), which grows with the square of the training and is held once.

    Args:
        left: (n_rows, 2, p).
        turned: H⁻¹ of each, the same shape.
        right: (n_rows, 2, n_energy).
    """
    n_rows = len(left)
    found = np.empty((n_rows, n_rows))
    for start in range(0, n_rows, BLOCK):
        some, done = slice(start, start + BLOCK), min(start + BLOCK, n_rows)
        block = found[some, :done]
        block[...] = 0.0
        for i in range(2):
            for j in range(2):
                part = left[some, i] @ turned[:done, j].T
                part *= right[some, i] @ right[:done, j].T
                block += part
        found[:start, some] = block[:, :start].T  # it is symmetric
    return found
