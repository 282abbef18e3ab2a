"""The linear neighbour-shell model: energy, charge and moment of a binary alloy by what stands in the shells around.

A configuration has σ_i = -1 on a site of the first element and +1 on one of the second; m is the mean of σ.  The
formation energy per site is

    f = (1 - m²) Σ_k a_k m^k + Σ_r (1 - c_r) Σ_k V_rk m^k,    c_r = the mean of σ_i σ_j over the pairs of shell r,

with k from 0 to the degree.  It is zero for the pure elements, as it must be.  Pairs beyond the last shell are taken to
be disordered, c = m², which gives the first sum.  A coupling that depends on m stands for many-body terms.  All
coefficients are linear, so that they have a closed posterior (``linear``).  Their prior becomes narrower with the
distance r as exp(-β (r / r_1 - 1)), and with the power of m as exp(-γ k).  Energies in eV, radii in Å.

Sources: Sanchez, Ducastelle & Gratias, Physica A 128, 334 (1984), expansion in clusters; Sanchez, Phys. Rev. B 81,
224202 (2010), couplings that depend on the composition; Mueller & Ceder, Phys. Rev. B 80, 024103 (2009), priors that
expect distant clusters to matter less; Magri, Wei & Zunger, Phys. Rev. B 42, 11388 (1990), charges
linear in the number of unlike neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .lattice import Float64, Int, Lattice
from .linear import LinearPosterior

Species = NDArray[np.uint8]
MOST_SHELLS, MOST_DEGREE = 6, 3  # that are tried where the caller says none
DECAYS = (0.0, 1.0, 2.0, 4.0)  # β of the prior that are tried, and γ:
FALLS = (0.0, 0.7, 1.4)
SAME = 0.02  # of a radius: a lattice strained by less has the same shells


@dataclass(frozen=True, eq=False)
class Shells:
    """The neighbours of all sites of a lattice, in the shells of a model.

    radii: (n_shells,) [Å].  neighbours: of each shell, (n_sites, n_neighbours).
    """

    radii: Float64
    neighbours: list[Int]

    @classmethod
    def of(cls, lattice: Lattice, n_shells: int) -> Self:
        return cls(*lattice.shells(n_shells))

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(sites.shape[1] for sites in self.neighbours)

    def like(self, radii: Float64, sizes: tuple[int, ...]) -> None:
        """Raises InputError: they are not the shells of another lattice."""
        if self.sizes != sizes or not np.allclose(self.radii, radii, rtol=SAME):
            mine, theirs = (
                ", ".join(f"{n} at {r:.2f} Å" for n, r in zip(size, of))
                for size, of in ((self.sizes, self.radii), (sizes, radii))
            )
            raise InputError(
                f"the lattice has other neighbours ({mine}) than the model's ({theirs}); give cells of its lattice"
            )

    def correlations(self, species: Species) -> tuple[Float64, Float64]:
        """m of configurations, (n,), and their c_r, (n, n_shells); ``species`` is (n, n_sites)."""
        sigma = 2.0 * species - 1
        c = [(sigma * sigma[:, sites].mean(axis=2)).mean(axis=1) for sites in self.neighbours]
        return sigma.mean(axis=1), np.stack(c, axis=1)

    def around(self, species: Species) -> Float64:
        """The share of unlike neighbours of each site in each shell, (n, n_sites, n_shells)."""
        unlike = [(species[:, sites] != species[:, :, None]).mean(axis=2) for sites in self.neighbours]
        return np.stack(unlike, axis=2)


def distinct_shells(lattice: Lattice, most: int) -> int:
    """How many shells a cell can tell apart, at most ``most``: further ones hold the same sites in another proportion.

    Beside the shells stand the site itself (σ² = 1) and all sites together (m²).
    """
    first = np.array([np.bincount(s[0], minlength=lattice.n_sites) for s in Shells.of(lattice, most).neighbours])
    itself = np.arange(lattice.n_sites) == 0
    for n in range(most, 0, -1):
        rows = np.vstack([itself, np.ones(lattice.n_sites), first[:n]])
        if np.linalg.matrix_rank(rows) == n + 2:
            return n
    raise InputError(f"a cell of {lattice.n_sites} sites tells no shells of neighbours apart; take a larger one")


def _check(lattice: Lattice, species: Species, *targets: Float64) -> Species:
    """Species as (n, n_sites).  Raises InputError: of another lattice, not 0 or 1, or not as many as the targets."""
    species = np.atleast_2d(species)
    if species.shape[1] != lattice.n_sites:
        raise InputError(f"configurations have {species.shape[1]} sites, and the lattice {lattice.n_sites}")
    if not np.isin(species, (0, 1)).all():
        raise InputError("species are 0 (the first element) or 1 (the second); the shell model is for two elements")
    for target in targets:
        if len(target) != len(species):
            raise InputError(f"{len(species)} configurations and {len(target)} targets")
    return species.astype(np.uint8)


@dataclass(frozen=True, eq=False)
class ShellModel:
    """Formation energies from pairs in neighbour shells.

    radii: of the shells [Å].  sizes: their numbers of neighbours.  degree: of the polynomials in m.  posterior: of the
    coefficients [eV per site], a_0 ... a_degree, then V_r0 ... V_r,degree of each shell.
    """

    radii: Float64
    sizes: tuple[int, ...]
    degree: int
    posterior: LinearPosterior

    @classmethod
    def fit(
        cls,
        lattice: Lattice,
        species: Species,
        energies: Float64,
        *,
        n_shells: int | None = None,
        degree: int | None = None,
    ) -> Self:
        """The model of the largest evidence; arguments and errors as of ``candidates``."""
        found = cls.candidates(lattice, species, energies, n_shells=n_shells, degree=degree)
        return max(found, key=lambda model: model.posterior.evidence)

    @classmethod
    def candidates(
        cls,
        lattice: Lattice,
        species: Species,
        energies: Float64,
        *,
        n_shells: int | None = None,
        degree: int | None = None,
    ) -> list[Self]:
        """Models of some configurations: of several degrees, and with priors that differ in β and γ.

        Args:
            lattice: of all of them.
            species: 0 or 1 by site, (n, n_sites).
            energies: formation energies, (n,) [eV per cell].
            n_shells: by default all up to 6 that the cell tells apart, and fewer where a model of degree 0 would have
                more coefficients than half the configurations.
            degree: of the polynomials in m; by default all up to 3 that the configurations determine.

        Raises:
            InputError: too few configurations, or more shells than the cell tells apart.
        """
        species, energies = _check(lattice, species, energies), np.asarray(energies, dtype=float)
        mixed = (species.min(axis=1) == 0) & (species.max(axis=1) == 1)  # pure ones are zero, whatever the coefficients
        distinct = distinct_shells(lattice, max(MOST_SHELLS, n_shells or 0))
        if n_shells is not None and not 1 <= n_shells <= distinct:
            raise InputError(f"this cell tells {distinct} shells apart; take from 1 to {distinct}, not {n_shells}")
        n_shells = n_shells or max(1, min(distinct, int(mixed.sum()) // 2 - 1))
        shells = Shells.of(lattice, n_shells)
        m, c = shells.correlations(species[mixed])
        found: list[Self] = []
        for d in [degree] if degree is not None else range(MOST_DEGREE + 1):
            features = _features(m, c, d)
            if found and features.shape[1] >= len(m):
                break
            for decay, fall in product(DECAYS, FALLS if d else FALLS[:1]):
                expected = _expected(shells.radii, d, decay, fall)
                posterior = LinearPosterior.fit(features, energies[mixed] / lattice.n_sites, expected)
                found.append(cls(shells.radii, shells.sizes, d, posterior))
        return found

    @property
    def n_shells(self) -> int:
        return len(self.radii)

    def shells(self, lattice: Lattice) -> Shells:
        """The model's shells in another cell.  Raises InputError: it is of another lattice."""
        shells = Shells.of(lattice, self.n_shells)
        shells.like(self.radii, self.sizes)
        return shells

    def features(self, lattice: Lattice, species: Species) -> Float64:
        """What the coefficients stand at, (n, n_features).  Raises InputError: another lattice or other species."""
        return _features(*self.shells(lattice).correlations(_check(lattice, species)), self.degree)

    def energy(self, lattice: Lattice, species: Species) -> Float64:
        """Formation energies of configurations (n, n_sites) on any cell of the lattice, (n,) [eV per cell]."""
        return lattice.n_sites * (self.features(lattice, species) @ self.posterior.mean)

    def std(self, lattice: Lattice, species: Species) -> Float64:
        """How uncertain the coefficients leave the energies, one standard deviation, (n,) [eV per cell].

        What a new calculation would scatter around them is ``noise`` times the number of sites besides.
        """
        return lattice.n_sites * self.posterior.std(self.features(lattice, species))

    @property
    def noise(self) -> float:
        """What the model leaves of the energies it was fitted to [eV per site]."""
        return self.posterior.noise

    @property
    def coefficients(self) -> tuple[Float64, Float64]:
        """a_k, (degree + 1,), and V_rk, (n_shells, degree + 1) [eV per site]."""
        table = self.posterior.mean.reshape(self.n_shells + 1, self.degree + 1)
        return table[0], table[1:]


def drawn_models(candidates: Sequence[ShellModel], n: int, rng: np.random.Generator) -> list[ShellModel]:
    """Models drawn from what is known after the fit, each with one set of coefficients.

    A candidate is drawn in proportion to its evidence, all of them being as likely before the fit; then its
    coefficients from their posterior.  So a number computed with each scatters as the configurations leave it
    uncertain.

    Args:
        candidates: of one call of ``ShellModel.candidates``.
        n: how many.
    """
    evidence = np.array([model.posterior.evidence for model in candidates])
    weights = np.exp(evidence - evidence.max())
    chosen = [candidates[i] for i in rng.choice(len(candidates), size=n, p=weights / weights.sum())]
    return [
        replace(model, posterior=replace(model.posterior, mean=model.posterior.draws(1, rng)[0])) for model in chosen
    ]


def _features(m: Float64, c: Float64, degree: int) -> Float64:
    powers = m[:, None] ** np.arange(degree + 1)
    parts = np.concatenate([(1 - m**2)[:, None], 1 - c], axis=1)
    return (parts[:, :, None] * powers[:, None]).reshape(len(m), -1)


def _expected(radii: Float64, degree: int, decay: float, fall: float) -> Float64:
    """How large coefficients are expected to be beside each other, in the order of the features."""
    distances = np.concatenate([[0.0], radii / radii[0] - 1])
    return np.exp(-decay * distances[:, None] - fall * np.arange(degree + 1)).ravel()


@dataclass(frozen=True, eq=False)
class SiteModel:
    """A property of sites, such as charge transfer or moment: for each element linear in its shells and in m.

    The value at a site is Σ_k (a_k + Σ_r b_rk x_r) m^k, with x_r the share of unlike neighbours in shell r.

    radii, sizes, degree: as of ``ShellModel``.  posteriors: of the coefficients of both elements, in the unit of the
    property.
    """

    radii: Float64
    sizes: tuple[int, ...]
    degree: int
    posteriors: tuple[LinearPosterior, LinearPosterior]

    @classmethod
    def fit(cls, lattice: Lattice, species: Species, values: Float64, *, n_shells: int = 2, degree: int = 2) -> Self:
        """The model of a property by site, (n, n_sites).  Raises InputError: an element is on no site."""
        species, values = _check(lattice, species, values), np.asarray(values, dtype=float)
        if values.shape != species.shape:
            raise InputError(f"values have the shape {values.shape}, and species {species.shape}")
        shells = Shells.of(lattice, n_shells)
        features = _site_features(shells, species, degree)
        fits = [LinearPosterior.fit(features[species == s], values[species == s]) for s in (0, 1)]
        return cls(shells.radii, shells.sizes, degree, (fits[0], fits[1]))

    def predict(self, lattice: Lattice, species: Species) -> Float64:
        """The property at each site, (n, n_sites).  Raises InputError: another lattice or other species."""
        species, shells = _check(lattice, species), Shells.of(lattice, len(self.radii))
        shells.like(self.radii, self.sizes)
        features = _site_features(shells, species, self.degree)
        return np.where(species == 0, *(features @ posterior.mean for posterior in self.posteriors))


def _site_features(shells: Shells, species: Species, degree: int) -> Float64:
    powers = (2.0 * species - 1).mean(axis=1)[:, None] ** np.arange(degree + 1)
    x = shells.around(species)
    parts = np.concatenate([np.ones((*x.shape[:2], 1)), x], axis=2)
    return (parts[..., None] * powers[:, None, None]).reshape(*x.shape[:2], -1)
