"""Predictions as files: density and LDOS for other programs, the DOS to look at.  eV, Å.

Densities are in 1/Å³ (in a cube 1/bohr³ and in a CHGCAR times the volume, as their readers expect), LDOS in 1/(eV Å³).
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import ase
import ase.io.cube
import ase.io.vasp
import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from ..data.shards import write
from ..drawing import BLUE, ORANGE, save
from ..errors import InputError
from ..files import atomic, make_folder
from ..physics.units import BOHR
from ..temporary import temporary_folder
from .prediction import Prediction, density_batches, ldos_batches

FILES = ("density.cube", "density.npy", "density.arrow", "CHGCAR", "ldos.npy", "ldos.arrow", "dos.png")


@contextmanager
def ldos_of(paths: Mapping[str, Path], shape: tuple[int, ...]) -> Iterator[NDArray[np.float32] | None]:
    """An array on disk for the LDOS, written after the block to those of the files that are to hold it.

    Args:
        paths: name in ``FILES`` -> file; their folder is made where it is missing.
        shape: (nx, ny, nz, n_energy).

    Yields:
        The array, or None where no file is to hold the LDOS.

    Raises:
        InputError: the folder cannot be written, or has too little room.
    """
    for folder in {path.parent for path in paths.values()}:
        make_folder(folder)  # better known before the prediction than after
    wanted = [path for name, path in paths.items() if name.startswith("ldos.")]
    if not wanted:
        yield None
        return
    with temporary_folder("ldos", wanted[0].parent) as scratch:
        scratch_file = scratch / "ldos.npy"
        values = open_memmap(scratch_file, mode="w+", dtype=np.float32, shape=shape)
        try:
            # The room is taken now: a full disk would kill the process that writes to a mapped file.
            with scratch_file.open("r+b") as opened:
                os.posix_fallocate(opened.fileno(), 0, scratch_file.stat().st_size)
        except OSError as error:
            raise InputError(f"{wanted[0]}: cannot be written ({error.strerror}); it needs more room") from error
        yield values
        for path in wanted:
            if path.suffix == ".arrow":
                write(path, ldos_batches(values))  # from the mapped file
            else:
                with atomic(path) as temporary, temporary.open("wb") as file:
                    np.save(file, values)


def write_files(paths: Mapping[str, Path], prediction: Prediction, atoms: ase.Atoms) -> None:
    """Write the density and draw the DOS, where asked for; ``ldos_of`` writes the rest.

    Args:
        paths: name in ``FILES`` -> file.
        prediction: of the structure.
        atoms: the structure.

    Raises:
        InputError: a file cannot be written.
    """
    for name, path in paths.items():
        if name.startswith("density.") or name == "CHGCAR":
            write_density(path, prediction, atoms)
        elif name == "dos.png":
            draw_dos(path, prediction)


def write_density(path: Path, prediction: Prediction, atoms: ase.Atoms) -> None:
    """Write the density as the suffix says: .cube, .CHGCAR, .npy (nx, ny, nz), or .arrow (a column in C order)."""
    density = prediction.density
    if path.suffix == ".arrow":
        write(path, density_batches(prediction))
        return
    with atomic(path) as temporary:
        if path.suffix == ".cube":
            with temporary.open("w", encoding="ascii") as file:
                ase.io.cube.write_cube(file, atoms, density * BOHR**3, comment="valence density [1/bohr^3] by dftune")
        elif path.suffix == ".CHGCAR":
            _write_chgcar(temporary, density, atoms)
        else:
            with temporary.open("wb") as file:
                np.save(file, density)


def _write_chgcar(path: Path, density: NDArray[np.float64], atoms: ase.Atoms) -> None:
    """Write a density as VASP does: POSCAR, grid, density times volume with x fastest; no augmentation of PAW."""
    values, volume = density.ravel(order="F"), atoms.get_volume()
    whole = len(values) - len(values) % 5
    with path.open("w", encoding="ascii") as file:
        ase.io.vasp.write_vasp(file, atoms, direct=True, ignore_constraints=True)
        file.write("\n" + "".join(f"{n:5d}" for n in density.shape) + "\n")
        np.savetxt(file, volume * values[:whole].reshape(-1, 5), fmt="%17.10E")
        if whole < len(values):
            np.savetxt(file, volume * values[None, whole:], fmt="%17.10E")


def draw_dos(path: Path, prediction: Prediction) -> None:
    """Draw the DOS with its spread over the initialisations, and the Fermi level, to a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    energy, dos, std = prediction.energy, prediction.dos, prediction.dos_std
    axes.fill_between(energy, dos - std, dos + std, color=BLUE, alpha=0.3, lw=0, label=prediction.spread_of)
    axes.plot(energy, dos, color=BLUE, label="DOS")
    axes.axvline(prediction.fermi_level, color=ORANGE, ls="--", label=f"Fermi level {prediction.fermi_level:.2f} eV")
    axes.set(xlabel="energy [eV]", ylabel="DOS [1/eV]", xlim=(energy[0], energy[-1]))
    axes.legend(frameon=False)
    save(figure, path)
