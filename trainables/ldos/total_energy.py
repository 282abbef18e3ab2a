"""The total free energy A of a predicted LDOS, and what it takes besides.  Energies in eV, lengths in Å."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.info import DatasetInfo
from ..data.kohn_sham import KohnSham
from ..physics.energies import Energies
from ..physics.free_energy import FreeEnergy, density_energies, free_energy
from ..physics.local import density
from ..physics.quadrature import Quadrature
from ..physics.reciprocal import DensitySphere

Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ingredients:
    """What a free energy takes besides the LDOS: the DFT, and the valence electrons of each species."""

    dft: KohnSham
    species: Mapping[str, float]

    @classmethod
    def of(cls, info: DatasetInfo) -> "Ingredients | None":
        """Those of a dataset; None where it does not say its functional."""
        return None if info.dft is None else cls(info.dft, info.species)


def densities(
    ldos: NDArray[np.floating], electrons: Sequence[Energies], quadrature: Quadrature, temperature: float
) -> Float64:
    """Densities of T predictions at some grid points, each at its own Fermi level, (T, n_points) [1/Å³]."""
    return np.array(
        [
            density(values, quadrature, fermi_level=e.fermi_level, temperature=temperature)
            for values, e in zip(ldos, electrons, strict=True)
        ]
    )


def all_terms(
    dft: KohnSham,
    sphere: DensitySphere,
    core: Float64 | None,
    electrons: Sequence[Energies],
    on_grid: Float64,
    ions: float,
) -> list[FreeEnergy]:
    """All terms of the free energy of T predictions.

    Args:
        dft: with the functional.
        sphere: the plane waves of the density.
        core: core charge on the grid, (nx, ny, nz) [1/Å³].
        electrons: of each prediction.
        on_grid: densities, (T, nx, ny, nz) [1/Å³].
        ions: Ewald energy [eV].
    """
    parts = [density_energies(n, sphere, dft.functional, core) for n in on_grid]
    return [free_energy(e, part, ewald=ions) for e, part in zip(electrons, parts, strict=True)]
