"""LDOS and density from the wavefunctions that pw.x leaves in outdir/prefix.save, without pp.x.  eV, Å.

pw.x without HDF5, as Debian has it, writes a binary file wfcN.dat for each k-point, and charge-density.dat.

Source: the writers of Quantum ESPRESSO 6.7, write_wfc and write_rhog (Modules/io_base.f90).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ....errors import DatasetError, one_line
from ....files import atomic
from ....physics.smearing import broadening
from ....physics.units import BOHR
from ...energy_grid import EnergyGrid
from .pw_run import Bands, PwRun
from .pw_xml import NAME, Facts, read_xml_with_facts

if TYPE_CHECKING:
    from scipy.io import FortranFile

HELD = 500e6  # bytes of LDOS and of waves on the grid that are held at once
STATES = 192  # states that are added to the LDOS at once: from here on the product is as fast as it gets
INTEGER, REAL, COMPLEX, POINT = np.dtype("<i4"), np.dtype("<f8"), np.dtype("<c16"), np.dtype("<3f8")
AGAIN = "run pw.x again, and keep outdir/prefix.save whole"


def _fortran(path: Path, mode: Literal["r", "w"]) -> "FortranFile":
    """A binary file of Fortran.  Where it ends too early, it raises an OSError."""
    from scipy.io import FortranFile  # its import changes the environment

    return FortranFile(path, mode)


@dataclass(frozen=True, eq=False)
class Waves:
    """The states of one k-point.

    Attributes:
        orders: m of the plane waves G = m₁b₁ + m₂b₂ + m₃b₃, (n_waves, 3).
        coefficients: c of each state, Σ |c|² = 1, (n_bands, n_waves).
    """

    orders: NDArray[np.int64]
    coefficients: NDArray[np.complex128]


class Wavefunctions:
    """All states of one calculation, read k-point by k-point.

    Args:
        folder: outdir/prefix.save.

    Raises:
        DatasetError: files are missing or damaged, or the states do not give the LDOS in this way: ultrasoft, PAW,
            spinors, or k-points that symmetry has left out.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run, facts = read_xml_with_facts(folder / NAME)
        if self.run.bands is None:
            raise DatasetError(f"{folder / NAME}: has no eigenvalues; {AGAIN}")
        self.bands: Bands = self.run.bands
        self._refuse(facts)

    def _refuse(self, facts: Facts) -> None:
        """Raise DatasetError where |ψ|² of the files is not the LDOS."""
        where = self.folder / NAME
        if facts.ultrasoft:
            raise DatasetError(
                f"{where}: a pseudopotential is ultrasoft or PAW, and |ψ|² lacks its augmentation charge; use pp.x, or "
                "a norm-conserving pseudopotential"
            )
        if facts.spinors:
            raise DatasetError(f"{where}: states are spinors (noncolin); dftune reads states without spin")
        if facts.n_symmetries > 1:
            raise DatasetError(
                f"{where}: {facts.n_symmetries} symmetries have left out k-points, whose states are not in the files; "
                "run pw.x with nosym = .true."
            )
        missing = [n for n in range(1, len(self.bands.energy) + 1) if not self._file(n).is_file()]
        if missing and (self.folder / f"wfc{missing[0]}.hdf5").is_file():
            raise DatasetError(
                f"{self._file(missing[0]).with_suffix('.hdf5')}: wavefunctions in HDF5 are not read; use a pw.x "
                "without HDF5, as that of Debian, or pp.x"
            )
        if missing:
            raise DatasetError(f"{self._file(missing[0])}: missing; {AGAIN}")

    def _file(self, point: int) -> Path:
        return self.folder / f"wfc{point}.dat"

    @cached_property
    def grid(self) -> tuple[int, int, int]:
        """Of the density."""
        return self.run.grid

    @property
    def volume(self) -> float:
        """Of the cell [Å³]."""
        return abs(float(np.linalg.det(self.run.cell)))

    def waves(self, point: int) -> Waves:
        """The states of one k-point, from 1.  Raises DatasetError: its file is damaged, or of another calculation."""
        path, n_bands = self._file(point), self.bands.energy.shape[1]
        try:
            with _fortran(path, "r") as file:
                head = file.read_record(INTEGER, POINT, INTEGER, INTEGER, REAL)
                _, n_waves, n_spinors, n_states = file.read_ints(INTEGER)
                axes = file.read_reals(REAL).reshape(3, 3)
                orders = file.read_ints(INTEGER).reshape(n_waves, 3).astype(np.int64)
                if (int(head[0][0]), n_spinors, n_states) != (point, 1, n_bands):
                    raise DatasetError(
                        f"{path}: k-point {int(head[0][0])} with {n_states} states, but {NAME} beside it has {n_bands} "
                        f"for k-point {point}; {AGAIN}"
                    )
                found = np.empty((n_bands, n_waves), dtype=np.complex128)
                for row in found:
                    row[:] = file.read_record(COMPLEX)
                found *= float(head[4][0])
        except (OSError, TypeError, ValueError) as error:
            if isinstance(error, DatasetError):
                raise
            raise DatasetError(f"{path}: not a whole file of wavefunctions ({one_line(error, 80)}); {AGAIN}") from error
        _refuse_other_cell(path, axes, self.run)
        if int(head[3][0]):  # at Γ the file has one half: c(-G) = c(G)*
            other = np.flatnonzero(orders.any(axis=1))
            orders = np.concatenate([orders, -orders[other]])
            found = np.concatenate([found, found[:, other].conj()], axis=1)
        if (np.abs((np.abs(found) ** 2).sum(axis=1) - 1) > 1e-6).any():
            raise DatasetError(f"{path}: states are not normalised, as those of ultrasoft ones are not; {AGAIN}")
        return Waves(orders, found)

    def ldos(self, grids: Sequence[EnergyGrid], *, held: float = HELD) -> Iterator[list[NDArray[np.float32]]]:
        """LDOS n(r, E) = Σ_nk w_k |ψ_nk(r)|² K(E - ε_nk) on one or several energy grids, from one pass.

        Args:
            grids: energies, kernel and width of each.
            held: bytes that may be held at once, about.

        Yields:
            Of each grid the LDOS of consecutive grid points, (n, n_energy) [1/(eV Å³), both spins], C order of
            [nx, ny, nz], in whole planes of the first axis.  If all planes are more than may be held, the files are
            read again for each block.

        Raises:
            DatasetError: a file is damaged.

        Source: local_dos of Quantum ESPRESSO (PP/src/local_dos.f90).
        """
        n, n_energy = self.grid, sum(grid.n_energy for grid in grids)
        a_plane = n[1] * n[2] * (8.0 * n_energy + 8.0 * STATES + 40.0 * self.bands.energy.shape[1])
        at_once = int(np.clip(held // a_plane, 1, n[0]))
        starts = np.cumsum([0, *(grid.n_energy for grid in grids)])
        for first in range(0, n[0], at_once):
            block = self._planes(grids, range(first, min(first + at_once, n[0])))
            yield [block[:, a:b].astype(np.float32) for a, b in pairwise(starts)]

    def _planes(self, grids: Sequence[EnergyGrid], planes: range) -> NDArray[np.float64]:
        """LDOS on some planes, energies of all grids side by side."""
        n_points = len(planes) * self.grid[1] * self.grid[2]
        found = np.zeros((n_points, sum(grid.n_energy for grid in grids)))
        waiting, of_them = list[NDArray[np.float64]](), list[NDArray[np.float64]]()
        n_points_k = len(self.bands.energy)
        for point, (energy, weight) in enumerate(zip(self.bands.energy, self.bands.weight), 1):
            waiting.append(squared(self.waves(point), self.grid, planes))
            kernels = [
                broadening(grid.energy - energy[:, None], kernel=grid.kernel, width=grid.width) for grid in grids
            ]
            of_them.append(np.concatenate(kernels, axis=1) * (weight / self.volume))
            if sum(map(len, waiting)) >= STATES or point == n_points_k:
                found += np.concatenate(waiting).T @ np.concatenate(of_them)
                waiting, of_them = [], []
        return found

    def density(self) -> NDArray[np.float64]:
        """Density of the valence electrons, see ``read_density``."""
        return read_density(self.folder, self.run)


def read_density(folder: Path, run: PwRun) -> NDArray[np.float64]:
    """Density of the valence electrons, (nx, ny, nz) [1/Å³], with the augmentation charges of ultrasoft ones.

    Args:
        folder: outdir/prefix.save.
        run: the calculation.

    Raises:
        DatasetError: the file is missing, damaged, or of another calculation.
    """
    path = folder / "charge-density.dat"
    found = DensityWaves.read(path)
    _refuse_other_cell(path, found.axes, run)
    field = np.zeros(run.grid, dtype=np.complex128)
    field[tuple((found.orders % run.grid).T)] = found.coefficients
    if found.gamma:
        field[tuple((-found.orders % run.grid).T)] = found.coefficients.conj()
    return fft.ifftn(field, norm="forward").real / BOHR**3


@dataclass(frozen=True, eq=False)
class DensityWaves:
    """What charge-density.dat holds: n(r) = Σ c(G) exp(iG·r).

    Attributes:
        gamma: whether one half is left out, c(-G) = c(G)*.
        axes: b₁, b₂, b₃ as rows, (3, 3) [1/bohr].
        orders: m of the plane waves G = m₁b₁ + m₂b₂ + m₃b₃, (n_waves, 3), in the order of pw.x.
        coefficients: c, (n_waves,) [1/bohr³].
    """

    gamma: bool
    axes: NDArray[np.float64]
    orders: NDArray[np.int64]
    coefficients: NDArray[np.complex128]

    @classmethod
    def read(cls, path: Path) -> "DensityWaves":
        """Read it.  Raises DatasetError: missing, damaged, or of two spins."""
        try:
            with _fortran(path, "r") as file:
                gamma, n_waves, n_spins = file.read_ints(INTEGER)
                axes = file.read_reals(REAL).reshape(3, 3)
                orders = file.read_ints(INTEGER).reshape(n_waves, 3).astype(np.int64)
                coefficients = file.read_record(COMPLEX)
        except FileNotFoundError as error:
            raise DatasetError(f"{path}: missing; {AGAIN}") from error
        except (OSError, TypeError, ValueError) as error:
            raise DatasetError(f"{path}: not a whole file of a density ({one_line(error, 80)}); {AGAIN}") from error
        if n_spins != 1 or len(coefficients) != n_waves:
            raise DatasetError(f"{path}: {n_spins} densities of {n_waves} plane waves; one is read")
        return cls(bool(gamma), axes, orders, np.asarray(coefficients, dtype=np.complex128))

    def write(self, path: Path) -> None:
        """Write it as pw.x does.  Raises InputError: the place cannot be written."""
        with atomic(path) as temporary, _fortran(temporary, "w") as file:
            file.write_record(np.array([self.gamma, len(self.orders), 1], dtype=INTEGER))
            file.write_record(self.axes.astype(REAL))
            file.write_record(self.orders.astype(INTEGER))
            file.write_record(self.coefficients.astype(COMPLEX))


def is_of_cell(axes: NDArray[np.float64], cell: NDArray[np.float64]) -> bool:
    """Whether reciprocal vectors, rows [1/bohr], are those of a cell, rows [Å]."""
    return bool(np.abs(axes / BOHR @ cell.T / (2 * np.pi) - np.eye(3)).max() <= 1e-6)


def _refuse_other_cell(path: Path, axes: NDArray[np.float64], run: PwRun) -> None:
    if not is_of_cell(axes, run.cell):
        raise DatasetError(f"{path}: of another cell than that in {NAME} beside it; {AGAIN}")


def squared(waves: Waves, grid: tuple[int, int, int], planes: range) -> NDArray[np.float64]:
    """|Σ_G c(G) exp(iG·r)|² of all states on some planes of the first axis, (n_bands, n_points); its mean is 1.

    The sphere of plane waves fills an eighth of the grid's box, so each axis is transformed while the next ones are
    short.
    """
    n_bands, n = len(waves.coefficients), grid
    low = waves.orders.min(axis=0)
    size = waves.orders.max(axis=0) - low + 1
    x, y, z = waves.orders.T
    field = np.zeros((n_bands, n[0], size[1], size[2]), dtype=np.complex128)
    field[:, x % n[0], y - low[1], z - low[2]] = waves.coefficients
    # Beginning at the lowest order instead of 0 multiplies ψ by a phase, which |ψ|² does not see.
    field = fft.ifft(field, axis=1, norm="forward", overwrite_x=True)[:, planes.start : planes.stop]
    field = fft.ifft(field, n=n[1], axis=2, norm="forward")
    field = fft.ifft(field, n=n[2], axis=3, norm="forward")
    return (field.real**2 + field.imag**2).reshape(n_bands, -1)
