"""What an LDOS on the grid of a snapshot says of its electrons: energies, and their derivatives.  eV, Å, K."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from ...data.cores import core_charges, core_on
from ...data.energy_grid import EnergyGrid
from ...data.kohn_sham import KohnSham
from ...data.snapshot import Snapshot
from ...physics.core_charge import core_forces
from ...physics.energies import Energies, energies
from ...physics.ewald import ewald
from ...physics.free_energy import (
    LdosGradient,
    density_energies,
    density_gradient,
    density_strain,
    free_energy,
    ldos_gradient,
)
from ...physics.reciprocal import DensitySphere
from ...physics.smearing import fermi_dirac, fermi_dirac_slope

Float64 = NDArray[np.float64]
Chunks = Callable[[], Iterable[NDArray[np.floating]]]  # an LDOS in grid order, from its first point at each call


@dataclass(frozen=True, eq=False)
class Ions:
    """What a snapshot's energy has besides its LDOS, computed once.

    Args:
        snapshot: its atoms and grid.
        energy_grid: of the LDOS.
        dft: what the free energy needs; None where it is not known.
        species: chemical symbol -> valence electrons.
    """

    snapshot: Snapshot
    energy_grid: EnergyGrid
    dft: KohnSham | None
    species: Mapping[str, float]

    @cached_property
    def sphere(self) -> DensitySphere | None:
        """The plane waves of the density; None where the grid is too coarse for them, and A is not known."""
        assert self.dft is not None
        try:
            return DensitySphere(self.snapshot.cell, self.snapshot.grid, self.dft.density_cutoff)
        except ValueError:
            return None

    @cached_property
    def ewald(self) -> tuple[float, Float64, Float64]:
        """Energy of the ions [eV per cell], forces on them (n_atoms, 3) [eV/Å], derivative by strain (3, 3) [eV]."""
        s = self.snapshot
        return ewald(s.cell, s.positions, s.valences(self.species))

    @cached_property
    def core(self) -> Float64 | None:
        """Core charge on the grid, None without one [1/Å³]."""
        assert self.sphere is not None
        return self.core_on(self.sphere)

    def core_on(self, sphere: DensitySphere) -> Float64 | None:
        """The same where the cell, and the atoms with it, is that of ``sphere``."""
        assert self.dft is not None
        s = self.snapshot
        return core_on(self.dft, sphere, s.cell, s.positions, s.numbers)

    def core_forces(self, by_core: Float64) -> Float64:
        """Forces on the atoms from their core charges, (n_atoms, 3) [eV/Å], of δU/δn_core (nx, ny, nz) [eV]."""
        assert self.dft is not None
        assert self.sphere is not None
        s, forces = self.snapshot, np.zeros_like(self.snapshot.positions)
        for atoms, *charge in core_charges(self.dft, s.numbers):
            forces[atoms] = core_forces(by_core, self.sphere, s.positions[atoms], *charge)
        return forces


@dataclass(frozen=True, eq=False)
class Electrons:
    """What an LDOS says of a snapshot.

    levels: Fermi level, band energy and entropy term [eV per cell].  dos: D, (n_energy,) [1/eV].
    free_energy: A [eV per cell], None where the DFT is not known or the grid is too coarse for its density.
    gradient: δA/δd where A is known and slopes were asked for.
    still: forces that stay where the LDOS does, of ions and core charges, (n_atoms, 3) [eV/Å]; with ``gradient``.
    strained: derivative of A by a strain under which each grid point keeps its LDOS, (3, 3) [eV]; where it was asked
    for.
    """

    levels: Energies
    dos: Float64
    free_energy: float | None = None
    gradient: LdosGradient | None = None
    still: Float64 | None = None
    strained: Float64 | None = None


@dataclass(frozen=True, eq=False)
class Filling:
    """How far the states of a DOS are filled, and what that asks of the LDOS.

    dos: D, (n_energy,) [1/eV].  levels: Fermi level, band energy and entropy term [eV per cell].
    weights: (n_energy, n), whose sums over the LDOS are the density and, with slopes, ∂n/∂ε_F; n is 0 where A is not
    known.
    """

    dos: Float64
    levels: Energies
    weights: Float64

    @classmethod
    def of(cls, dos: Float64, ions: Ions, *, slopes: bool) -> "Filling":
        """Of a DOS, (n_energy,) [1/eV]; ``ions`` and ``slopes`` as in ``electrons_of``.

        Raises:
            ValueError: the DOS cannot hold the electrons, or no state answers to a change of the Fermi level.
        """
        s, rule = ions.snapshot, ions.energy_grid.quadrature()
        levels = energies(dos, rule, electrons=s.n_electrons, temperature=s.temperature)
        if ions.dft is None or ions.sphere is None:
            return cls(dos, levels, np.zeros((len(dos), 0)))
        at = {"fermi_level": levels.fermi_level, "temperature": s.temperature}
        # of n and ∂n/∂ε_F, as ``local.density`` and ``local.density_response`` have them
        rules = (fermi_dirac, fermi_dirac_slope)[: 1 + slopes]
        return cls(dos, levels, np.stack([rule.weights(partial(f, **at)) for f in rules], axis=1))

    def electrons(self, sums: Float64, ions: Ions, *, strain: bool = False) -> Electrons:
        """Energies from the sums Σ_j d_j(r) w_jk at each grid point, (n_points, n); with slopes also ``strained``."""
        if not self.weights.size:
            return Electrons(self.levels, self.dos)
        assert ions.dft is not None
        assert ions.sphere is not None
        s, rule = ions.snapshot, ions.energy_grid.quadrature()
        density, *response = (field.reshape(s.grid) for field in sums.T)
        parts = density_energies(density, ions.sphere, ions.dft.functional, ions.core)
        energy = free_energy(self.levels, parts, ewald=ions.ewald[0]).total
        if not response:
            return Electrons(self.levels, self.dos, energy)
        by_density, by_core = density_gradient(density, ions.sphere, ions.dft.functional, ions.core)
        at = {"fermi_level": self.levels.fermi_level, "temperature": s.temperature, "volume": s.volume}
        gradient = ldos_gradient(by_density, response[0], self.dos, rule, **at)
        still, strained = ions.ewald[1] + ions.core_forces(by_core), None
        if strain:
            strained = ions.ewald[2] + density_strain(density, ions.sphere, ions.dft.functional, ions.core_on)
            strained += gradient.volume_slope(self.dos) * np.eye(3)
        return Electrons(self.levels, self.dos, energy, gradient, still, strained)


def electrons_of(ldos: Chunks, ions: Ions, *, slopes: bool, strain: bool = False) -> Electrons:
    """Energies of an LDOS, in two passes over it: the DOS first, then the density.

    Args:
        ldos: chunks (n_points_in_chunk, n_energy) [1/(eV Å³)].
        ions: of the snapshot.
        slopes: also the derivative of A.
        strain: with it that by a strain.

    Raises:
        ValueError: as ``Filling.of``.
    """
    s = ions.snapshot
    total = sum(chunk.sum(axis=0, dtype=np.float64) for chunk in ldos())
    filling = Filling.of(np.asarray(total) * (s.volume / s.n_points), ions, slopes=slopes)
    sums = np.concatenate([np.asarray(chunk, dtype=np.float64) @ filling.weights for chunk in ldos()])
    return filling.electrons(sums, ions, strain=strain)
