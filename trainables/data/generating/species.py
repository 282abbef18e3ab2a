"""Pseudopotentials of a specification, checked before anything is computed, and what follows from their valences."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ase
import numpy as np

from ...errors import InputError
from ...physics.units import KINETIC, RYDBERG
from ..pseudopotential import Pseudopotential, read_upf
from .spec import Dft, GenerateError, Ldos, Source

# Four atoms of aluminium, width 0.5 eV: the DOS is 3 % off where energies of neighbouring k-points at the Fermi level
# are 4.1 widths apart, 17 % at 6.9; between and beyond, by a power of that distance.
_OFF, _AT, _POWER = 0.03, 4.1, 3.3
MOST_DOS_ERROR = 0.05


@dataclass(frozen=True, eq=False)
class Species:
    """Pseudopotentials by chemical symbol, with the contents of their files."""

    read: Mapping[str, Pseudopotential]
    contents: Mapping[str, bytes]

    @property
    def names(self) -> dict[str, str]:
        """Chemical symbol -> name of the file."""
        return {symbol: upf.file.name for symbol, upf in self.read.items()}

    @property
    def checksums(self) -> dict[str, str]:
        """Chemical symbol -> MD5 of the file."""
        return {s: hashlib.md5(content, usedforsecurity=False).hexdigest() for s, content in self.contents.items()}

    def electrons(self, atoms: ase.Atoms) -> float:
        """Valence electrons of a structure."""
        return float(sum(self.read[symbol].valence for symbol in atoms.get_chemical_symbols()))


def read_species(dft: Dft, structures: Sequence[ase.Atoms], source: Source) -> Species:
    """Read the pseudopotentials of all species of some structures.

    Raises:
        GenerateError: one is missing, PAW, of another element or functional, or ultrasoft where the wavefunctions are
            to give the LDOS; two have the same name.
    """
    needed = sorted({symbol for atoms in structures for symbol in set(atoms.get_chemical_symbols())})
    found: dict[str, Pseudopotential] = {}
    for symbol in needed:
        if symbol not in dft.pseudopotentials:
            raise GenerateError(
                f"[dft] pseudopotentials: none for {symbol}, which the structures have; give its UPF file"
            )
        try:
            upf = read_upf(Path(dft.pseudopotentials[symbol]))
        except InputError as error:
            raise GenerateError(f"[dft] pseudopotentials.{symbol}: {error}") from error
        if upf.element != symbol:
            raise GenerateError(f"[dft] pseudopotentials.{symbol}: {upf.file} is of {upf.element}")
        if upf.kind == "ultrasoft" and source == "wavefunctions":
            raise GenerateError(
                f"[dft] pseudopotentials.{symbol}: {upf.file} is ultrasoft, and |ψ|² of its wavefunctions lacks the "
                'augmentation charge; set [run] source = "pp.x", or take a norm-conserving one'
            )
        found[symbol] = upf
    first = next(iter(found.values()))
    for upf in found.values():
        if upf.functional != first.functional:
            raise GenerateError(
                f"[dft] pseudopotentials: {upf.file} is made for {upf.functional}, but {first.file} for "
                f"{first.functional}; take all of one functional"
            )
    names = [upf.file.name for upf in found.values()]
    if len(set(names)) < len(names):
        raise GenerateError("[dft] pseudopotentials: two files have one name; rename one of them")
    return Species(found, {symbol: upf.file.read_bytes() for symbol, upf in found.items()})


def free_bands(volume: float, electrons: float, above: float) -> int:
    """Bands of free electrons from the bottom to ``above`` their Fermi energy [eV], and a fifth more.

    Args:
        volume: of the cell [Å³].
        electrons: in it.
        above: energy above the Fermi level [eV].

    Source: N(E) = Ω (2mE/ħ²)^(3/2) / 6π² bands.
    """
    fermi = KINETIC * (3 * np.pi**2 * electrons / volume) ** (2 / 3)
    filled = volume * ((fermi + max(above, 0.0)) / KINETIC) ** 1.5 / (6 * np.pi**2)
    return int(np.ceil(1.2 * filled)) + 4


def pw_memory(volume: float, bands: int, k_points: int, dft: Dft, *, pools: int = 1) -> float:
    """Bytes that pw.x takes for an SCF, 10 to 15 % less than it says itself: a state has Ω (2mE)^(3/2) / 6π²ħ³ waves.

    Args:
        volume: of the cell [Å³].
        bands: at each k-point.
        k_points: a mesh without symmetry; k and -k count as one.  The states of all stay in memory.
        dft: cutoffs.
        pools: of MPI ranks, each with its own grid and work space: the states of one k-point, six times.
    """
    waves = volume * (dft.cutoff_ry * RYDBERG / KINETIC) ** 1.5 / (6 * np.pi**2)
    density = volume * ((dft.density_cutoff_ry or 4 * dft.cutoff_ry) * RYDBERG / KINETIC) ** 1.5 / (6 * np.pi**2)
    points = density * 6 / np.pi  # of a box around that sphere
    return 16 * waves * bands * ((k_points + 1) // 2 + 6 * pools) + pools * 16 * (8 * density + 4 * points)


def dos_error(atoms: ase.Atoms, electrons: float, mesh: tuple[int, int, int], width: float) -> float:
    """How far off the DOS may be by the mesh of k-points: a share of it, by the measurement on aluminium.

    Energies of neighbouring k-points at the Fermi level are v Δk apart, with v = 2 (ħ²/2m) k_F of free electrons.
    """
    lengths = 2 * np.pi * np.linalg.norm(np.linalg.inv(np.array(atoms.cell)), axis=0)
    distance = float((lengths / np.array(mesh)).max())
    velocity = 2 * KINETIC * (3 * np.pi**2 * electrons / atoms.get_volume()) ** (1 / 3)
    return float(_OFF * (velocity * distance / width / _AT) ** _POWER)


def sparse_mesh(dft: Dft, species: Species, structures: Sequence[ase.Atoms], grids: Sequence[Ldos]) -> str | None:
    """A warning, if the k-points are too sparse for a width of the LDOS; None if they are not."""
    width = min(grid.width for grid in grids)
    worst, atoms = max(
        ((dos_error(a, species.electrons(a), dft.mesh(np.array(a.cell)), width), a) for a in structures),
        key=lambda found: found[0],
    )
    if worst <= MOST_DOS_ERROR:
        return None
    mesh = dft.mesh(np.array(atoms.cell))
    denser = (worst / _OFF) ** (1 / _POWER)
    lengths = 2 * np.pi * np.linalg.norm(np.linalg.inv(np.array(atoms.cell)), axis=0)
    spacing = float((lengths / np.array(mesh)).max()) / denser
    said = f"{100 * worst:.0f} %" if worst < 0.5 else "half or more"
    return (
        f"{'x'.join(map(str, mesh))} k-points are sparse for a width of {width:g} eV: the DOS may be off by {said}; "
        f"k_spacing = {spacing:.2g} would bring 3 %, and `dftune data converge` measures it"
    )
