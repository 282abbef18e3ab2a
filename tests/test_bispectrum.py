from itertools import permutations, product
from math import cos, pi
from pathlib import Path

import numpy as np
import pytest
from dftune.trainables.bispectrum import BispectrumSettings, bispectrum, descriptor_path, structure_hash
from dftune.trainables.errors import InputError
from pydantic import ValidationError
from scipy.special import factorial

CHEAP = BispectrumSettings(cutoff=4.68, two_j_max=4)
TRICLINIC = np.array([[4.1, 0.1, -0.3], [1.3, 3.9, 0.2], [-0.7, 0.4, 4.4]])  # Å, no vector along an axis
ALUMINIUM = np.array([13, 13, 13])
RNG = np.random.default_rng(0)
POSITIONS = RNG.uniform(size=(3, 3)) @ TRICLINIC
GRID = (6, 5, 4)

# fcc aluminium at rest, 4 atoms on a 20³ grid, LDOS in 1/(eV Å³) at -4, -1, 2, 5 and 8 eV: Quantum ESPRESSO 6.7,
# LDA-PZ, norm-conserving Al.pz-vbc, 15/60 Ry, 10x10x10 k, 0.02 Ry; pp.x with a Gaussian of 0.5 eV, stored as float16.
PERFECT = Path(__file__).parent / "data" / "al4_perfect.npz"


def clebsch_gordan(j1, m1, j2, m2, j, m):
    """⟨j1 m1 j2 m2 | j m⟩, all arguments doubled.  Source: Varshalovich et al. (1988), Eq. 8.2.1 (5)."""

    def f(doubled):
        return factorial(doubled // 2, exact=True)

    delta = f(j1 + j2 - j) * f(j1 - j2 + j) * f(j2 - j1 + j) / f(j1 + j2 + j + 2)
    sides = f(j1 + m1) * f(j1 - m1) * f(j2 + m2) * f(j2 - m2) * f(j + m) * f(j - m)
    total = 0.0
    for z in range(0, j1 + j2 - j + 1, 2):
        terms = (j1 + j2 - j - z, j1 - m1 - z, j2 + m2 - z, j - j2 + m1 + z, j - j1 - m2 + z)
        if min(terms) >= 0:
            total += (-1) ** (z // 2) / (f(z) * np.prod([float(f(t)) for t in terms]))
    return (delta * sides * (j + 1)) ** 0.5 * total


def one_neighbour(distance, settings):
    """B of a point with one atom at ``distance``: on the axis of rotation, u^j_mm' = δ_mm' (1 + f_c exp(-2imθ₀))."""
    cutoff, n = settings.cutoff, settings.two_j_max
    switch = 0.5 * (1 + cos(pi * distance / cutoff)) if distance < cutoff else 0.0
    angle = 0.99363 * pi * distance / cutoff  # θ₀; m below is doubled

    def u(m):
        return 1 + switch * np.exp(-1j * m * angle)

    components = []
    for j1, j2 in ((a, b) for a in range(n + 1) for b in range(a + 1)):
        for j in range(max(j1, j1 - j2), min(n, j1 + j2) + 1):
            if (j1 + j2 + j) % 2 == 0:
                pairs = [(m1, m2) for m1 in range(-j1, j1 + 1, 2) for m2 in range(-j2, j2 + 1, 2) if abs(m1 + m2) <= j]
                b = sum(
                    clebsch_gordan(j1, m1, j2, m2, j, m1 + m2) ** 2 * np.conj(u(m1 + m2)) * u(m1) * u(m2)
                    for m1, m2 in pairs
                )
                components.append(b.real)
    return np.array(components)


def fit_r2(descriptors, ldos):
    """R² of a ridge regression from (B, B²) to the LDOS, over all grid points."""
    phi = np.concatenate([descriptors, descriptors**2], axis=1).astype(float)
    phi = (phi - phi.mean(axis=0)) / phi.std(axis=0)
    rest = ldos - ldos.mean(axis=0)
    weights = np.linalg.solve(phi.T @ phi + 1e-3 * np.eye(phi.shape[1]), phi.T @ rest)
    return 1 - ((rest - phi @ weights) ** 2).sum() / (rest**2).sum()


@pytest.mark.parametrize("two_j_max, n_components", [(2, 5), (4, 14), (6, 30), (8, 55), (10, 91), (12, 140), (14, 204)])
def test_the_number_of_components_is_that_of_lammps(two_j_max, n_components):
    settings = BispectrumSettings(cutoff=3.0, two_j_max=two_j_max)
    assert settings.n_components == n_components == len(one_neighbour(1.0, BispectrumSettings(two_j_max=2))) or (
        settings.n_components == n_components
    )
    assert bispectrum(TRICLINIC, POSITIONS, ALUMINIUM, (2, 1, 1), settings).shape == (2, n_components)
