"""The total free energy A of a predicted LDOS, and what it takes besides.  Energies in eV, lengths in Å."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from ..data.info import DatasetInfo
from ..data.kohn_sham import KohnSham
from ..data.snapshot import Snapshot
from ..physics.core_charge import core_density
from ..physics.energies import Energies
from ..physics.ewald import ewald
from ..physics.free_energy import FreeEnergy, density_energies, free_energy
from ..physics.local import density
from ..physics.quadrature import Quadrature
from ..physics.reciprocal import DensitySphere, fractional

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
            valences = np.array([self.species[chemical_symbols[n]] for n in snapshot.numbers])
            ions = ewald(snapshot.cell, snapshot.positions, valences)[0]
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


def core_on(
    dft: KohnSham, sphere: DensitySphere, cell: Float64, positions: Float64, numbers: NDArray[np.integer]
) -> Float64 | None:
    """Core charge of the nonlinear core correction on a grid, None without one, (nx, ny, nz) [1/Å³].

    Args:
        dft: with the charges of species.
        sphere: whose cell may be a strained one, and takes the atoms with it.
        cell, positions, numbers: of the atoms, (3, 3), (n_atoms, 3) [Å] and (n_atoms,).
    """
    there = fractional(positions, cell) @ sphere.cell
    cores = [core_density(sphere, there[atoms], *charge) for atoms, *charge in core_charges(dft, numbers)]
    return np.sum(cores, axis=0) if cores else None


def core_charges(dft: KohnSham, numbers: NDArray[np.integer]) -> list[tuple[NDArray[np.bool_], Float64, Float64]]:
    """For each species with a core charge: which atoms, radii [Å] and densities [1/Å³]."""
    return [
        (numbers == atomic_numbers[symbol], np.array(charge.radius), np.array(charge.density))
        for symbol, charge in dft.core_charges.items()
    ]
