"""Electrostatic energy of point charges in a periodic cell.  Energies in eV, lengths in Å, charges in e."""

import itertools

import numpy as np
from scipy.spatial import KDTree
from scipy.special import erfc

from .phases import MANY, phase_forces, structure_factor
from .reciprocal import fractional, reciprocal
from .smearing import Array
from .units import COULOMB

# Both sums stop where a Gaussian has fallen to exp(-REACH²) = 3e-14 of its height.
REACH = 5.6
# A pair in real space takes as long as this many of atom and plane wave, as the sum over plane waves is a product of
# matrices.
COST = 64.0
# Of many atoms, η in units of the cube root of their density: 4,096 atoms take 0.5 s with 1.4, 0.7 s with 0.9 and 1.6.
MESH = 1.4
CHUNK = 2**18  # pairs held at once: some 30 MB


def ewald(
    cell: Array, positions: Array, charges: Array, *, splitting: float | None = None
) -> tuple[float, Array, Array]:
    """Energy of point charges q_a in a neutralising background, the forces on them, and its derivative by strain.

    E = e²/2 Σ'_{abR} q_a q_b erfc(ηd)/d + 2πe²/Ω Σ_{G≠0} exp(-G²/4η²)/G² |S(G)|² - e²η/√π Σ_a q_a²
        - πe²/(2Ωη²) (Σ_a q_a)²,  d = |R_a - R_b - R|,  S(G) = Σ_a q_a exp(-iG·R_a).

    Args:
        cell: lattice vectors as rows, shape (3, 3), of any shape and handedness [Å].
        positions: R_a, shape (n_atoms, 3), inside the cell or not [Å].
        charges: q_a, shape (n_atoms,), the charges of the ions' cores for a free energy [e].
        splitting: η [1/Å], on which the result does not depend; by default the one of least work, which grows as
            n_atoms^(3/2) up to ``phases.MANY`` atoms and as n_atoms beyond.

    Returns:
        E [eV per cell] to a relative accuracy of 1e-11, whichever way S(G) is summed; forces, (n_atoms, 3) [eV/Å];
        dE/dε, (3, 3) [eV], where the strain ε takes r to (1 + ε) r.

    Raises:
        ValueError: the cell has no volume, shapes do not fit, a number is not finite, or two atoms are at one place.

    Pairs are made a few at a time, so that thousands of atoms need little memory.

    Source: Ewald, Ann. Phys. 369, 253 (1921); Martin, Electronic Structure (2004), appendix F.
    """
    cell, positions, charges = (np.asarray(x, dtype=np.float64) for x in (cell, positions, charges))
    reciprocal(cell)  # refuses a cell without volume
    if charges.ndim != 1 or not len(charges) or positions.shape != (len(charges), 3):
        raise ValueError(f"positions of shape {positions.shape} and charges of shape {charges.shape} are no atoms")
    if not (np.isfinite(positions).all() and np.isfinite(charges).all()):
        raise ValueError("positions or charges have values that are not finite")
    volume = abs(np.linalg.det(cell))
    eta = _splitting(len(charges), volume) if splitting is None else splitting
    places = fractional(positions, cell) % 1.0
    real, real_forces, real_strain = _real_space(cell, places, charges, eta)
    waves, wave_forces, wave_strain = _reciprocal_space(cell, places, charges, eta)
    itself = eta / np.sqrt(np.pi) * (charges**2).sum()
    background = np.pi / (2 * volume * eta**2) * charges.sum() ** 2
    energy = float(COULOMB * (real + waves - itself - background))
    strain = real_strain + wave_strain + background * np.eye(3)
    return energy, COULOMB * (real_forces + wave_forces), COULOMB * strain


def _splitting(n_atoms: int, volume: float) -> float:
    """η of least work [1/Å]."""
    if n_atoms >= MANY:
        return float(MESH * (n_atoms / volume) ** (1 / 3))
    return float(np.sqrt(np.pi) * (COST * n_atoms / volume**2) ** (1 / 6))


def _real_space(cell: Array, places: Array, charges: Array, eta: float) -> tuple[float, Array, Array]:
    """½ Σ'_{abR} q_a q_b erfc(ηd)/d [1/Å], its forces [1/Å²], and its derivative with respect to strain [1/Å]."""
    reach = REACH / eta
    margin = reach * np.linalg.norm(reciprocal(cell), axis=1) / (2 * np.pi)  # in lattice vectors
    shifts = np.array(list(itertools.product(*(np.arange(-np.ceil(m), np.ceil(m) + 1) for m in margin))))
    images, owners, at_once = [], [], max(1, CHUNK // len(charges))
    for start in range(0, len(shifts), at_once):
        moved = shifts[start : start + at_once, None] + places
        near = ((moved >= -margin) & (moved <= 1 + margin)).all(axis=2)
        images.append(moved[near])
        owners.append(np.nonzero(near)[1])
    others, owner, home = np.concatenate(images) @ cell, np.concatenate(owners), places @ cell
    tree = KDTree(others)
    pairs = 4.2 * reach**3 * len(charges) / abs(np.linalg.det(cell)) + 1
    step, energy, forces, strain = max(1, int(CHUNK / pairs)), 0.0, np.zeros((len(charges), 3)), np.zeros((3, 3))
    for start in range(0, len(charges), step):
        part = slice(start, start + step)
        found = KDTree(home[part]).sparse_distance_matrix(tree, reach, output_type="ndarray")
        apart = found["v"] > 1e-6
        if len(apart) - np.count_nonzero(apart) > len(home[part]):
            same = [(i + start, owner[j]) for i, j, _ in found[~apart] if i + start != owner[j]]
            raise ValueError(f"atoms {same[0][0]} and {same[0][1]} (from 0) are at the same place")
        i, j, d = (found[key][apart] for key in "ijv")
        product = charges[start + i] * charges[owner[j]]
        screened = erfc(eta * d) / d
        energy += 0.5 * float(product @ screened)
        strength = product * (screened + 2 * eta / np.sqrt(np.pi) * np.exp(-((eta * d) ** 2))) / d**2
        difference = home[start + i] - others[j]
        for c in range(3):
            forces[part, c] = np.bincount(i, strength * difference[:, c], minlength=len(home[part]))
        strain -= 0.5 * (strength[:, None] * difference).T @ difference
    return energy, forces, strain


def _reciprocal_space(cell: Array, places: Array, charges: Array, eta: float) -> tuple[float, Array, Array]:
    """2π/Ω Σ_{G≠0} exp(-G²/4η²)/G² |S(G)|² [1/Å], its forces [1/Å²], and its derivative by strain [1/Å]."""
    largest = (2 * REACH * eta * np.linalg.norm(cell, axis=1) / (2 * np.pi)).astype(int)
    # Half of the plane waves, m₃ >= 0, those of m₃ > 0 twice.
    orders = (
        np.arange(-largest[0], largest[0] + 1.0),
        np.arange(-largest[1], largest[1] + 1.0),
        np.arange(largest[2] + 1.0),
    )
    s = structure_factor(places, orders, charges)
    b1, b2, b3 = reciprocal(cell)
    plane = orders[1][:, None, None] * b2 + orders[2][:, None] * b3
    factor = 2 * np.pi / abs(np.linalg.det(cell)) * np.where(orders[2] == 0, 1.0, 2.0)
    energy, strain = 0.0, np.zeros((3, 3))
    for m, of_plane in zip(orders[0], s):  # a plane at a time: thousands of atoms have millions of plane waves
        waves = m * b1 + plane
        squared = np.einsum("jka,jka->jk", waves, waves)
        squared[squared == 0] = np.inf
        weight = factor * np.exp(-squared / (4 * eta**2)) / squared
        each = weight * (of_plane.real**2 + of_plane.imag**2)
        energy += float(each.sum())
        slope = each * (2 / squared + 1 / (2 * eta**2))  # G² falls by 2 ε G G
        strain += (slope[..., None] * waves).reshape(-1, 3).T @ waves.reshape(-1, 3)
        of_plane *= 2 * weight
    strain -= energy * np.eye(3)
    return energy, charges[:, None] * phase_forces(places, orders, s, cell), strain
