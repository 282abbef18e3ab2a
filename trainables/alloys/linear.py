"""Bayesian linear regression with unknown noise: coefficients, their covariance, and the evidence for some features.

Targets y = Φ w + ε with ε ~ N(0, σ²), w ~ N(0, σ² g B² S⁻²), p(σ²) ~ 1/σ²; S scales each column to a mean square of 1,
and the diagonal B says which coefficients are expected to be smaller than others.  The width g of the prior is where
the evidence p(y | g) is largest.  Given g all is closed form, a Student t with as many degrees of freedom as there are
targets.

Source: Bishop, Pattern Recognition and Machine Learning (2006), sections 2.3.7, 3.3 and 3.5; Murphy, Machine Learning
(2012), section 7.6.3.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

Float64 = NDArray[np.float64]
WIDTHS = np.logspace(-3, 10, 105)  # of the prior, g; the last one is least squares to eight digits


@dataclass(frozen=True, eq=False)
class LinearPosterior:
    """What is known of the coefficients after the regression.

    mean: (n_features,).  factor: R with R Rᵀ = their covariance for σ = 1, (n_features, n_features).  noise: σ, the
    scatter of the targets around the model, in their unit.  freedom: degrees of freedom of the Student t.  evidence:
    log p(y | g), up to a constant that all sets of features of the same targets share.
    """

    mean: Float64
    factor: Float64
    noise: float
    freedom: float
    evidence: float

    @classmethod
    def fit(cls, features: Float64, targets: Float64, expected: Float64 | None = None) -> Self:
        """The regression.

        Args:
            features: Φ, (n, n_features).
            targets: y, (n,).
            expected: B, how large the coefficients of the scaled columns are beside each other, (n_features,); by
                default all alike.

        Raises:
            InputError: no more targets than features, or one that is not finite.
        """
        n, p = features.shape
        if n <= p:  # the evidence would grow with g without end, and the noise vanish
            raise InputError(f"{n} values do not determine {p} coefficients; give more configurations of both elements")
        if not (np.isfinite(features).all() and np.isfinite(targets).all()):
            raise InputError("a target is not finite; leave that configuration out")
        scale = np.sqrt((features**2).mean(axis=0))
        scale[scale == 0] = 1.0
        if expected is not None:
            scale = scale / expected
        u, s, vt = np.linalg.svd(features / scale, full_matrices=False)
        along, rest = u.T @ targets, max(float(targets @ targets - ((u.T @ targets) ** 2).sum()), 0.0)
        # I + g Φ Φᵀ has the eigenvalues 1 + g s², and 1 elsewhere.
        grown = 1 + WIDTHS[:, None] * s**2
        squares = np.maximum((along**2 / grown).sum(axis=1) + rest, np.finfo(float).tiny)
        evidence = -0.5 * np.log(grown).sum(axis=1) - 0.5 * n * np.log(squares)
        best = int(evidence.argmax())
        shrink = s**2 + 1 / WIDTHS[best]
        back = vt.T / scale[:, None]
        return cls(
            back @ (s / shrink * along),
            back / np.sqrt(shrink),
            float(np.sqrt(squares[best] / n)),
            float(n),
            float(evidence[best]),
        )

    def std(self, features: Float64) -> Float64:
        """Standard deviation of the model's value at some features, (n, n_features) -> (n,), without the noise."""
        widened = np.sqrt(self.freedom / (self.freedom - 2)) if self.freedom > 2 else np.inf
        return widened * self.noise * np.sqrt(((features @ self.factor) ** 2).sum(axis=1))

    def draws(self, n: int, rng: np.random.Generator) -> Float64:
        """Coefficients drawn from the posterior, (n, n_features): first σ, then the coefficients for it."""
        sigma = self.noise * np.sqrt(self.freedom / rng.chisquare(self.freedom, size=n))
        return self.mean + sigma[:, None] * (rng.normal(size=(n, self.factor.shape[1])) @ self.factor.T)
