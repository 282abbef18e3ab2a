"""Predictions as files: density and LDOS for other programs, the DOS to look at.  eV, Å.

Densities are in 1/Å³ (in 1/bohr³ in a cube, as its readers expect), LDOS in 1/(eV Å³).
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import ase
import ase.io.cube
import numpy as np
from matplotlib.figure import Figure
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from ...trainables.data.shards import write
from ...trainables.errors import InputError
from ...trainables.files import atomic
from ...trainables.ldos.prediction import Forces, Prediction, Progress, density_batches, ldos_batches, quiet
from ...trainables.physics.units import BOHR
from ...trainables.structures import check_structure
from ..figures.png import BLUE, ORANGE, save
from .model import Model


def predict_to_files(
    model: Model,
    atoms: ase.Atoms,
    stem: Path,
    kinds: Sequence[str],
    *,
    temperature: float | None = None,
    forces: Forces = "none",
    progress: Progress = quiet,
) -> tuple[Prediction, list[Path]]:
    """Predict, and write STEM.KIND for each kind.

    Args:
        model, atoms, temperature, forces, progress: as in ``Model.predict``.
        stem: path without suffix.
        kinds: density.cube, density.npy, density.arrow, ldos.npy, ldos.arrow, dos.png.

    Raises:
        InputError: as ``Model.predict``, or a file cannot be written.
    """
    paths = {kind: stem.with_name(f"{stem.name}.{kind}") for kind in kinds}
    if kinds:
        _make(stem.parent)
    with _ldos_files([paths[kind] for kind in kinds if kind.startswith("ldos.")], model, atoms) as ldos:
        prediction = model.predict(atoms, temperature=temperature, forces=forces, ldos=ldos, progress=progress)
    for kind, path in paths.items():
        if kind.startswith("density."):
            write_density(path, prediction, atoms)
        elif kind == "dos.png":
            draw_dos(path, prediction)
    return prediction, list(paths.values())


def _make(folder: Path) -> None:
    """A folder that can be written to: better known before the prediction than after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error


def write_density(path: Path, prediction: Prediction, atoms: ase.Atoms) -> None:
    """Write the density as the suffix says: .cube, .npy (nx, ny, nz), or .arrow (a column in C order of the grid)."""
    density = prediction.density
    if path.suffix == ".arrow":
        return write(path, density_batches(prediction))
    with atomic(path) as temporary:
        if path.suffix == ".cube":
            with temporary.open("w", encoding="ascii") as file:
                ase.io.cube.write_cube(file, atoms, density * BOHR**3, comment="valence density [1/bohr^3] by dftune")
        else:
            with temporary.open("wb") as file:
                np.save(file, density)


def draw_dos(path: Path, prediction: Prediction) -> None:
    """Draw the DOS with its spread over the initialisations, and the Fermi level, to a PNG file."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    energy, dos, std = prediction.energy, prediction.dos, prediction.dos_std
    axes.fill_between(energy, dos - std, dos + std, color=BLUE, alpha=0.3, lw=0, label="± standard deviation")
    axes.plot(energy, dos, color=BLUE, label="DOS")
    axes.axvline(prediction.fermi_level, color=ORANGE, ls="--", label=f"Fermi level {prediction.fermi_level:.2f} eV")
    axes.set(xlabel="energy [eV]", ylabel="DOS [1/eV]", xlim=(energy[0], energy[-1]))
    axes.legend(frameon=False)
    save(figure, path)


@contextmanager
def _ldos_files(paths: list[Path], model: Model, atoms: ase.Atoms) -> Iterator[NDArray[np.float32] | None]:
    """An array (nx, ny, nz, n_energy) on disk to fill, afterwards written to ``paths``; None without paths."""
    if not paths:
        yield None
        return
    check_structure(atoms, model.card.species)
    grid = model.grid(np.array(atoms.cell))
    with tempfile.TemporaryDirectory(dir=paths[0].parent, prefix=".ldos-") as scratch:
        shape = (*grid, model.card.energy_grid.n_energy)
        scratch_file = Path(scratch) / "ldos.npy"
        values = open_memmap(scratch_file, mode="w+", dtype=np.float32, shape=shape)
        try:
            # The room is taken now: a full disk would kill the process that writes to a mapped file.
            with scratch_file.open("r+b") as opened:
                os.posix_fallocate(opened.fileno(), 0, scratch_file.stat().st_size)
        except OSError as error:
            raise InputError(f"{paths[0]}: cannot be written ({error.strerror}); it needs more room") from error
        yield values
        for path in paths:
            if path.suffix == ".arrow":
                write(path, ldos_batches(values))  # from the mapped file
            else:
                with atomic(path) as temporary, temporary.open("wb") as file:
                    np.save(file, values)
