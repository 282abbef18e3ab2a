"""How well a last layer in closed form is known: the covariance of what is linear in it.  eV, Å.

The penalised regression is the most likely W of a Gaussian posterior.  With H = Σ φφᵀ + λ, rows R_k of weights κ_k and
one variance s² of whatever the last layer cannot say, numbers ⟨R, W⟩ of W vary by

    s² [⟨R, H⁻¹R'⟩ - Σ_kl ⟨R, H⁻¹R_k⟩ ((K + 1/κ)⁻¹)_kl ⟨R_l, H⁻¹R'⟩]

(docs/physics.md, section 20; Bishop, Pattern Recognition and Machine Learning, 2006, section 3.3).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelError
from .gram import Gram
from .rows import RowKind, Rows

Float64 = NDArray[np.float64]
SAME = 1e-4  # of the largest singular value: energy vectors below it are none of their own
TELLING = 0.1  # combinations of rows that make a variance less than a tenth smaller are left out; it stays too large
MOST = 512  # combinations of rows that are kept: 6 MB for 1,024 neurons and three energy vectors
WIDEST = 2048  # features of which a posterior is kept: 17 MB


@dataclass(frozen=True, eq=False)
class Posterior:
    """Of the first initialisation's last layer W, (p, n_columns), without s².

    basis: B with BBᵀ = H⁻¹, (p, p).  energies: orthonormal vectors that those of all rows are combinations of,
    (q, n_columns).  seen: orthonormal combinations of the rows, BᵀR in that basis, (n, q, p).  information: of each, by
    how many times its variance went down, less one, (n,).  scale: s, number, in units of the scaled LDOS.
    """

    basis: NDArray[np.float32]
    energies: NDArray[np.float32]
    seen: NDArray[np.float32]
    information: NDArray[np.float32]
    scale: float

    @classmethod
    def of_fit(
        cls, gram: Gram, rows: Rows, penalty: float, weights: Mapping[RowKind, float], n_energy: int
    ) -> "Posterior | None":
        """Of what a readout was solved from, as ``Solver`` has it; None where it has more than ``WIDEST`` features.

        n_energy: of the LDOS; W has a column more where energies are relative to a level.

        s² is the most likely one of the rows' targets t, of which the LDOS alone says row(W₀):
        s² = (t - row(W₀))ᵀ (K + 1/κ)⁻¹ (t - row(W₀)) / n.  Without rows it is the mean square error of the scaled LDOS,
        which is some 200 times too small: grid points are no independent data.
        """
        left, kappa = rows.left[0], np.array([weights.get(kind, 0.0) for kind in rows.kinds])
        on, p = kappa > 0, gram.phi_phi.shape[1]
        if p > WIDEST + 1:
            return None
        matrix = gram.phi_phi[0].copy()
        matrix[np.arange(p - 1), np.arange(p - 1)] += penalty
        variances, axes = np.linalg.eigh(matrix)
        basis = axes / np.sqrt(variances)
        plain = basis @ (basis.T @ gram.phi_y[0])
        if not on.any():
            none = np.zeros((0, plain.shape[1])), np.zeros((0, 0, p)), np.zeros(0)
            return cls._single(basis, *none, float(np.sqrt(gram.loss(plain[None, :, :n_energy])[0])))
        wanted = np.sqrt(kappa[on]) * (rows.target - rows.only(0).of(plain[None])[0])[on]
        right = rows.right[on]
        _, sizes, vectors = np.linalg.svd(right.reshape(-1, right.shape[-1]), full_matrices=False)
        energies = vectors[sizes > SAME * sizes[0]]
        white = (np.sqrt(kappa[on])[:, None, None] * left[on]) @ basis
        each = ((right @ energies.T).mT @ white).reshape(len(white), -1)
        # K + 1/κ, times √κ from both sides, is 1 + each·eachᵀ; of more rows than numbers the smaller product serves
        if len(each) <= each.shape[1]:
            information, turns = np.linalg.eigh(each @ each.T)
        else:
            information, axes = np.linalg.eigh(each.T @ each)
            some = information > 1e-12 * information[-1]
            information, turns = information[some], each @ axes[:, some] / np.sqrt(information[some])
        told = turns.T @ wanted
        untold = wanted - turns @ told
        scale = float(np.sqrt((untold @ untold + (told**2 / (1 + information)).sum()) / len(wanted)))
        kept = np.flatnonzero(information > TELLING)[::-1][:MOST]
        seen = (turns[:, kept].T @ each) / np.sqrt(information[kept])[:, None]
        return cls._single(basis, energies, seen.reshape(len(kept), len(energies), p), information[kept], scale)

    @classmethod
    def _single(
        cls, basis: Float64, energies: Float64, seen: Float64, information: Float64, scale: float
    ) -> "Posterior":
        b, e, s, i = (part.astype(np.float32) for part in (basis, energies, seen, information))
        return cls(b, e, s, i, scale)

    def variance(self, left: Float64, right: Float64) -> Float64:
        """s² included, of numbers Σ_i left[k, i]ᵀ W right[k, i], (n,), in the square of their unit.

        Args:
            left: as in ``Rows``, of the first initialisation, (n, 2, p), or (1, 2, p) for the same in all.
            right: (n, 2, n_columns), of the scaled LDOS.
        """
        white, within = left @ self.basis, right @ self.energies.T
        beyond = (
            right - within @ self.energies
        )  # energy vectors unlike those of all rows: nothing but H speaks for them
        alone = ((white @ white.mT) * (beyond @ beyond.mT)).sum(axis=(1, 2))
        return np.asarray(self._within(white, within) + self.scale**2 * alone)

    def _within(self, white: Float64, within: Float64) -> Float64:
        """Variances of what is a combination of ``energies``, (n,)."""
        size = within.shape[1] * within.shape[2]
        if len(white) > 1 or len(within) <= size:
            return np.asarray(np.square(self._turned(white, within)).sum(axis=1))
        # many numbers of the same sums over grid points, as the DOS: each is a combination of 2 q numbers
        turned = self._turned(white, np.eye(size).reshape(size, *within.shape[1:]))
        flat = within.reshape(len(within), size)
        return np.asarray(((flat @ (turned @ turned.T)) * flat).sum(axis=1))

    def coordinates(self, left: Float64, right: Float64) -> Float64:
        """Vectors whose inner products are the covariances of such numbers, (n, n_seen + q p); see ``variance``.

        Without the part of ``right`` that is no combination of ``energies``: without rows they say nothing.
        """
        return self._turned(left @ self.basis, right @ self.energies.T)

    def _turned(self, white: Float64, within: Float64) -> Float64:
        size = len(self.energies) * len(self.basis)
        each, seen = (within.mT @ white).reshape(len(within), size), self.seen.reshape(len(self.seen), size)
        parts = each @ seen.T
        # what no row has seen, and what they have, apart: a difference of variances would lose all digits
        return np.asarray(
            self.scale * np.concatenate([parts / np.sqrt(1 + self.information), each - parts @ seen], axis=1)
        )

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """All of it by name, for a file: ``posterior.basis`` and so on."""
        return {f"posterior.{name}": np.asarray(value, dtype=np.float32) for name, value in vars(self).items()}

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[Any]], n_features: int, n_columns: int) -> "Posterior | None":
        """From tensors by name; None where they are not among them.

        Raises:
            ModelError: they are damaged.
        """
        parts = {name: tensors[f"posterior.{name}"] for name in cls.__annotations__ if f"posterior.{name}" in tensors}
        if not parts:
            return None
        shapes = {name: part.shape for name, part in parts.items()}
        (n, q), p = (shapes[name][0] if shapes.get(name) else 0 for name in ("seen", "energies")), n_features
        wanted = {"basis": (p, p), "energies": (q, n_columns), "seen": (n, q, p), "information": (n,), "scale": ()}
        if shapes != wanted:
            raise ModelError(f"a posterior of the shapes {shapes}, the model has {p} features and {n_columns} energies")
        if not float(parts["scale"]) > 0 or not (parts["information"] >= 0).all():
            raise ModelError("a posterior with variances that are not positive")
        single = {name: np.asarray(part, dtype=np.float32) for name, part in parts.items() if name != "scale"}
        return cls(**single, scale=float(parts["scale"]))
