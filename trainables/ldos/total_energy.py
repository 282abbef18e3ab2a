"""The total free energy A of a predicted LDOS, and what it takes besides.  Energies in eV, lengths in Å."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.cores import core_on
from ..data.info import DatasetInfo
from ..data.kohn_sham import KohnSham
from ..data.snapshot import Snapshot
from ..physics.energies import Energies
from ..physics.ewald import ewald
from ..physics.free_energy import FreeEnergy, density_energies, free_energy
from ..physics.local import density
from ..physics.quadrature import Quadrature
from ..physics.reciprocal import DensitySphere

Float64 = NDArray[np.float64]
# A of each initialisation [eV], NaN where its electrons are None, as where a DOS cannot hold them.
FreeEnergies = Callable[[Sequence[Energies | None]], Sequence[float]]


@dataclass(frozen=True, eq=False)
class Ingredients:
    """What a free energy takes besides the LDOS: the DFT, and the valence electrons of each species."""

    dft: KohnSham
    species: Mapping[str, float]

    @classmethod
    def of(cls, info: DatasetInfo) -> "Ingredients | None":
        """Those of a dataset; None where it does not say its functional."""
        return None if info.dft is None else cls(info.dft, info.species)

    def free_energies(
        self, snapshot: Snapshot, quadrature: Quadrature, ldos: Callable[[], Iterable[NDArray[np.floating]]]
    ) -> FreeEnergies:
        """What finds A of predictions on the grid of a snapshot.

        Args:
            snapshot: its structure, grid and temperature.
            quadrature: of the LDOS.
            ldos: gives the predictions again, chunk by chunk in grid order, (T, n_points_in_chunk, n_energy)
                [1/(eV Å³)].
        """

        def found(electrons: Sequence[Energies | None]) -> list[float]:
            if any(e is None for e in electrons):
                return [np.nan] * len(electrons)
            known = [e for e in electrons if e is not None]
            try:
                sphere = DensitySphere(snapshot.cell, snapshot.grid, self.dft.density_cutoff)
            except ValueError:  # a grid too coarse for the plane waves of the density
                return [np.nan] * len(electrons)
            chunks = [densities(chunk, known, quadrature, snapshot.temperature) for chunk in ldos()]
            on_grid = np.concatenate(chunks, axis=1).reshape(len(known), *snapshot.grid)
            ions = ewald(snapshot.cell, snapshot.positions, snapshot.valences(self.species))[0]
            core = core_on(self.dft, sphere, snapshot.cell, snapshot.positions, snapshot.numbers)
            return [e.total for e in all_terms(self.dft, sphere, core, known, on_grid, ions)]

        return found


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
