"""Check that a density gives the DFT's own energies by the dataset's functional, and the LDOS its total one.  eV, Å."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ..physics.energies import Energies
from ..physics.ewald import ewald
from ..physics.free_energy import density_energies, free_energy
from ..physics.reciprocal import RIM, DensitySphere
from ..physics.units import KINETIC, RYDBERG
from .cores import core_on
from .kohn_sham import KohnSham
from .snapshot import Snapshot

# By the DFT's own density right data are 0.0005 off.  Another functional, cutoff or core charge: 5 to 5,000.
MOST_TERM_ERROR = 1.0  # [meV/atom]
# Right data, of cubes with six digits, have as much just beyond the cutoff as in the corners of the grid; beyond 3/4 of
# the cutoff they have 40 times as much.
BEYOND = 10.0
EXACT = 1e-8  # of the mean density, where the corners are emptier still
SHELL = 0.1  # width of the shell that is looked at, of its energy
MOST_TOTAL_ERROR = 10.0  # [meV/atom], as of a band energy; where the rule of integration is sharp


@dataclass(frozen=True)
class EnergyErrors:
    """Terms by the dataset's functional and density minus the DFT's [meV/atom]; None where that could not be compared.

    Attributes:
        hartree_error, xc_error: of the density beside the LDOS, else of the density of the LDOS.
        total_error: of the total free energy from the LDOS alone.
    """

    hartree_error: float | None = None
    xc_error: float | None = None
    total_error: float | None = None


def check_energies(
    s: Snapshot,
    dft: KohnSham,
    *,
    density: NDArray[np.float64] | None,
    from_ldos: NDArray[np.float64],
    electrons: Energies,
    valences: NDArray[np.float64],
    sharp: bool,
    where: str,
    fail: Callable[[str], None],
) -> EnergyErrors:
    """Compare the terms of the total free energy with what the DFT printed.

    Args:
        s: with what the DFT said.
        dft: functional, cutoff and core charges.
        density: beside the LDOS, on the grid [1/Å³]; None where there is none.
        from_ldos: density of the LDOS at its own Fermi level, on the grid [1/Å³].
        electrons: Fermi level, band energy and entropy term of the LDOS.
        valences: of the atoms.
        sharp: whether the rule of integration is good enough to refuse by what the LDOS gives.
        where: file or snapshot to name.
        fail: called with what is wrong.
    """
    try:
        sphere = DensitySphere(s.cell, s.grid, dft.density_cutoff)
    except ValueError as error:
        fail(f"{where}: {error}")
        return EnergyErrors()
    if density is not None:
        _check_cutoff(density, sphere, where, fail)
    if s.hartree_energy is None and s.xc_energy is None and s.total_energy is None:
        return EnergyErrors()
    core = core_on(dft, sphere, s.cell, s.positions, s.numbers)
    ours = density_energies(from_ldos, sphere, dft.functional, core)
    theirs = ours if density is None else density_energies(density, sphere, dft.functional, core)
    total = free_energy(electrons, ours, ewald=ewald(s.cell, s.positions, valences)[0]).total
    found = EnergyErrors(
        _error(theirs.hartree, s.hartree_energy, s), _error(theirs.xc, s.xc_energy, s), _error(total, s.total_energy, s)
    )
    if density is not None:
        for name, off in (("Hartree", found.hartree_error), ("XC", found.xc_error)):
            if off is not None and abs(off) > MOST_TERM_ERROR:
                fail(
                    f"{where}: the {name} energy of the density beside the LDOS is {off:+.1f} meV/atom off the DFT's, "
                    f"by the functional {dft.functional}, a cutoff of {dft.density_cutoff:.1f} eV and core charges of "
                    f"{', '.join(dft.core_charges) or 'no element'}; pseudopotentials, functional or cutoff are not "
                    "those of the DFT"
                )
    if sharp and found.total_error is not None and abs(found.total_error) > MOST_TOTAL_ERROR:
        fail(
            f"{where}: the LDOS gives a total free energy {found.total_error:+.1f} meV/atom off the DFT's; the total "
            "energy is of another calculation, or the pseudopotentials are not those of the DFT"
        )
    return found


def _check_cutoff(density: NDArray[np.float64], sphere: DensitySphere, where: str, fail: Callable[[str], None]) -> None:
    """Fail if the DFT's density has plane waves beyond its cutoff, more than what is left by the digits of its file."""
    size = np.abs(fft.rfftn(density, norm="forward"))
    energy = KINETIC * sphere.squared
    corners = energy > 0.5 * energy.max()  # no cutoff that the grid can hold reaches them
    digits = _root_mean_square(size[corners])
    least, cutoff = BEYOND * max(digits, EXACT * float(size[0, 0, 0])), sphere.cutoff

    def above(edge: float) -> float:
        return _root_mean_square(size[(energy > RIM * edge) & (energy <= (1 + SHELL) * edge) & ~corners])

    if above(cutoff) <= least:
        return
    edge = cutoff
    while above(edge) > least:
        edge *= 1 + SHELL
    fail(
        f"{where}: the density beside the LDOS has plane waves beyond its cutoff of "
        f"{cutoff / RYDBERG:.3g} Ry (ecutrho), up to about {edge / RYDBERG:.2g} Ry; it was computed with a larger one"
    )


def _root_mean_square(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else 0.0


def _error(ours: float, theirs: float | None, s: Snapshot) -> float | None:
    return None if theirs is None else 1e3 * (ours - theirs) / s.n_atoms
