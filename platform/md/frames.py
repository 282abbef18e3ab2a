"""Structures with the energies, forces and stresses of a surrogate.  eV, Å."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ase
import ase.io
import numpy as np
from numpy.typing import NDArray

from ...trainables.errors import InputError
from ...trainables.progress import Progress
from ..model.calculator import Calculator
from ..model.model import Model
from .folder import TRAJECTORY, RunFolder


@dataclass(frozen=True)
class Frame:
    """A structure, and what is said of it.

    energy [eV]; forces (n_atoms, 3) [eV/Å]; stress (3, 3) [eV/Å³], None if the surrogate's means nothing.
    """

    atoms: ase.Atoms
    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64] | None


def structures_of(model: Model, source: Path, frames: str) -> tuple[list[ase.Atoms], bool]:
    """The structures of a run's folder or of a file, and whether they have this model's energies already.

    Raises:
        InputError: no such structures.
    """
    if not source.is_dir():
        return model.read(source, frames), False
    run = RunFolder(source).run
    return model.read(source / TRAJECTORY, frames), run.model_sha256 == model.fingerprint


def displaced(
    structures: Sequence[ase.Atoms], number: int, *, rattle: float, strain: float, seed: int
) -> list[ase.Atoms]:
    """Structures made of others, by displacements and strains.

    Args:
        structures: of which one is drawn each time.
        number: how many to make.
        rattle: standard deviation of each coordinate of a displacement, of which a share of 0 to 1 is drawn [Å].
        strain: largest component of the symmetric strain.
        seed: equal seeds give equal structures.
    """
    rng, made = np.random.default_rng(seed), []
    for _ in range(number):
        atoms = structures[int(rng.integers(len(structures)))].copy()
        by = rng.uniform(-strain, strain, (3, 3))
        atoms.set_cell(atoms.cell @ (np.eye(3) + (by + by.T) / 2), scale_atoms=True)
        atoms.positions += rng.uniform() * rng.normal(0, rattle, (len(atoms), 3))
        atoms.calc = None
        made.append(atoms)
    return made


def with_energies(
    model: Model, structures: Sequence[ase.Atoms], *, known: bool = False, progress: Progress
) -> list[Frame]:
    """The structures with what a model says of them.

    Args:
        model: which is asked.
        structures: that it knows.
        known: they hold its energies and forces already, so that it is asked only for what is missing.
        progress: where it is said how far it is.

    Raises:
        InputError: a structure that cannot be predicted; the message says which.
    """
    stress = model.surrogate.refuses_stress is None
    calculator = Calculator(model, **({"stress": True} if stress else {"forces": "mean"}))
    found = []
    for number, given in enumerate(structures, 1):
        atoms = ase.Atoms(given.numbers, given.positions, cell=given.cell, pbc=True)
        there = getattr(given.calc, "results", {}) if known else {}
        if not {"energy", "forces"} <= there.keys() or (stress and "stress" not in there):
            given = atoms
            given.calc = calculator
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                values = given.get_potential_energy(), given.get_forces(apply_constraint=False)
                of_cell = given.get_stress(voigt=False) if stress else None
        except InputError as error:
            raise InputError(f"structure {number}: {error}") from error
        found.append(Frame(atoms, *values, of_cell))
        progress.update("surrogate", number, len(structures))
    progress.end("surrogate")
    return found
