"""What a calculation by pw.x was and what it found, whichever of its files says it.  eV, Å, K."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray
from scipy.optimize import brentq

from ....errors import DatasetError
from ....physics.energies import Energies
from ....physics.smearing import entropy, fermi_dirac
from ....physics.units import K_B

FERMI_DIRAC, GAUSSIAN = "fermi-dirac", "gaussian"
# Names of smearings in inputs, logs and XML of all versions -> ours; others have no electronic temperature.
SMEARINGS = {
    "fermi-dirac": FERMI_DIRAC,
    "f-d": FERMI_DIRAC,
    "fd": FERMI_DIRAC,
    "gaussian": GAUSSIAN,
    "gauss": GAUSSIAN,
    "gaus": GAUSSIAN,
    "methfessel-paxton": "methfessel-paxton",
    "m-p": "methfessel-paxton",
    "mp": "methfessel-paxton",
    "marzari-vanderbilt": "marzari-vanderbilt",
    "cold": "marzari-vanderbilt",
    "m-v": "marzari-vanderbilt",
    "mv": "marzari-vanderbilt",
}
TERMS = ("one_electron", "hartree", "xc", "ewald", "smearing")  # of the total energy that we know


@dataclass(frozen=True, eq=False)
class Bands:
    """Eigenvalues of all k-points.

    Attributes:
        energy: (n_k, n_bands) [eV].
        weight: of the k-points, (n_k,); they sum to the electrons of a full band.
        occupation: as the file gives it, (n_k, n_bands) from 0 to 1; None where it does not.
    """

    energy: NDArray[np.float64]
    weight: NDArray[np.float64]
    occupation: NDArray[np.float64] | None = None

    def electrons(self, *, fermi_level: float, temperature: float) -> float:
        """Electrons of a Fermi level [eV] at a temperature [K]."""
        occupied = fermi_dirac(self.energy, fermi_level=fermi_level, temperature=temperature).sum(axis=1)
        return float(self.weight @ occupied)

    def energies(self, *, electrons: float, temperature: float) -> Energies | None:
        """Fermi level, band energy and entropy term [eV per cell]; None where the bands cannot hold the electrons."""
        flat, weight = self.energy.ravel(), np.repeat(self.weight, self.energy.shape[1])

        def excess(level: float) -> float:
            return self.electrons(fermi_level=level, temperature=temperature) - electrons

        low, high = flat.min() - 1.0, flat.max() + 1.0
        if temperature <= 0 or excess(low) > 0 or excess(high) < 0:
            return None
        level = float(brentq(excess, low, high, xtol=1e-12))
        f = fermi_dirac(flat, fermi_level=level, temperature=temperature)
        s = entropy(flat, fermi_level=level, temperature=temperature)
        return Energies(level, float(weight @ (f * flat)), float(-K_B * temperature * (weight @ s)))

    @property
    def complete_to(self) -> float:
        """Energy up to which no state is missing [eV]: the lowest of the highest band."""
        return float(self.energy.max(axis=1).min())


@dataclass(frozen=True, eq=False, kw_only=True)
class PwRun:
    """One calculation by pw.x, as one of its files tells it; None where the file does not.

    Attributes:
        where: the file.
        version: of pw.x.
        calculation: scf, nscf, relax and so on.
        cell, positions: [Å].
        symbols: of the atoms.
        valences: chemical symbol -> valence electrons.
        pseudopotentials: chemical symbol -> path of its file as pw.x was told it.
        checksums: chemical symbol -> MD5 of that file.
        n_electrons: N.
        grid: of the density.
        wave_cutoff, density_cutoff: [eV].
        functional: as pw.x writes it.
        smearing: one of the values of SMEARINGS, or how else states were occupied.
        degauss: width of the smearing [eV]; with ``degauss_error``, by how much the file rounds it.
        k_mesh: of an automatic mesh.
        terms: of the total energy, by TERMS or by the words of pw.x [eV].
        total_energy: the free energy A [eV].
        fermi_level: [eV].
        forces: [eV/Å].
        stress: (3, 3), tension positive [eV/Å³]; pw.x prints it with the other sign.
        bands: all eigenvalues.
        beyond: what keeps the total energy from being the sum of the known terms, in words.
    """

    where: Path
    version: str | None
    calculation: str
    cell: NDArray[np.float64]
    positions: NDArray[np.float64]
    symbols: Sequence[str]
    valences: Mapping[str, float] = field(default_factory=dict)
    pseudopotentials: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    n_electrons: float
    grid: tuple[int, int, int]
    wave_cutoff: float
    density_cutoff: float
    functional: str | None
    smearing: str
    degauss: float
    degauss_error: float = 0.0
    k_mesh: tuple[int, int, int] | None = None
    terms: Mapping[str, float] = field(default_factory=dict)
    total_energy: float | None = None
    fermi_level: float | None = None
    forces: NDArray[np.float64] | None = None
    stress: NDArray[np.float64] | None = None
    bands: Bands | None = None
    beyond: tuple[str, ...] = ()

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Atomic numbers."""
        return np.array([atomic_numbers[symbol] for symbol in self.symbols])

    @property
    def is_scf(self) -> bool:
        """Whether its energies are self-consistent."""
        return self.calculation not in ("nscf", "bands")

    @property
    def occupied_by(self) -> str:
        """How states were occupied.  The occupations decide where they are known: people edit the smearing in the XML.

        pp.x takes the kernel of the LDOS from there, and the usual way to a Gaussian one is to edit it.
        """
        if self.bands is None or self.bands.occupation is None or self.fermi_level is None or self.degauss <= 0:
            return self.smearing
        wanted = fermi_dirac(self.bands.energy, fermi_level=self.fermi_level, temperature=self.degauss / K_B)
        off = np.abs(wanted - self.bands.occupation).max()
        return FERMI_DIRAC if off < 1e-4 else self.smearing if self.smearing != FERMI_DIRAC else "an unknown smearing"


def element(label: str, where: object) -> str:
    """The element of a label of QE's, as Fe of Fe1, Fe_up or fe-2.  Raises DatasetError: there is none."""
    letters = label.strip()
    for n in (2, 1):
        symbol, rest = letters[:n].capitalize(), letters[n:]
        if atomic_numbers.get(symbol, 0) > 0 and not rest[:1].isalpha():
            return symbol
    raise DatasetError(f"{where}: '{label[:20]}' is no label of an element; name species as elements, like Fe or Fe1")


def smearing(word: str) -> str:
    """A smearing by any of its names, else what was given."""
    name = word.strip().lower()
    return SMEARINGS.get(name, name)
