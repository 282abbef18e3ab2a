"""Snapshots of a short molecular dynamics, by a classical potential or by a surrogate.  Å, fs, K."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.emt import parameters as EMT_PARAMETERS
from ase.md.langevin import Langevin
from ase.units import fs, kB
from numpy.random import Generator
from numpy.typing import NDArray

from ...errors import InputError, one_line
from ...files import atomic, sha256
from ...structures import StructureError
from .spec import MolecularDynamics

FRICTION = 0.02  # of the Langevin dynamics [1/fs]
Surrogate = Callable[[str], Calculator]  # the folder of a model -> its forces


def dynamics(
    start: ase.Atoms,
    md: MolecularDynamics,
    number: int,
    generator: Generator,
    *,
    surrogate: Surrogate | None = None,
    runs: Path | None = None,
) -> list[ase.Atoms]:
    """Frames of Langevin dynamics, as ASE runs it.

    Args:
        start: cell, positions and species that it begins with.
        md: how long, how hot, and by which forces.
        number: of frames.
        generator: of the velocities and of the bath.
        surrogate: gives the calculator of ``md.model``.
        runs: folder that keeps the frames.  A run that is there is not run again, as another machine, or another number
            of threads, would soon be on another path.

    Raises:
        InputError: the potential cannot move these atoms, or they fly apart.
    """
    if len(start) < 2:
        raise InputError("md: one atom does not move; take a supercell")
    kept = None if runs is None else runs / f"md-{_key(start, md, number, generator)[:16]}.npy"
    frames = None if kept is None else _read(kept)
    if frames is None:
        frames = np.array(list(_run(start, md, number, generator, _potential(start, md, surrogate))))
        if kept is not None:
            with atomic(kept) as temporary, temporary.open("wb") as file:
                np.save(file, frames)
    return [ase.Atoms(start.numbers, positions, cell=start.cell, pbc=True) for positions in frames]


def _run(
    start: ase.Atoms, md: MolecularDynamics, number: int, generator: Generator, potential: Calculator
) -> Iterator[NDArray[np.float64]]:
    """Positions of each frame (n_atoms, 3)."""
    atoms = start.copy()
    atoms.calc = potential
    speed = np.sqrt(kB * md.temperature / atoms.get_masses())[:, None]
    atoms.set_velocities(generator.normal(size=(len(atoms), 3)) * speed)
    about: dict[str, Any] = {"temperature_K": md.temperature, "friction": FRICTION / fs, "fixcm": False}
    run = Langevin(atoms, md.time_step * fs, rng=generator, **about)
    for frame in range(number):
        run.run(md.steps + (0 if frame else md.equilibration))
        if not np.isfinite(atoms.positions).all():
            raise StructureError("md: the atoms flew apart; take a smaller time_step")
        yield atoms.get_positions()


def _potential(start: ase.Atoms, md: MolecularDynamics, surrogate: Surrogate | None) -> Calculator:
    if md.lammps is not None:
        return _lammps(start, Path(md.lammps))
    if md.model is not None:
        if surrogate is None:
            raise InputError("md: a model moves atoms from the command line and from dftune.generate; give a file here")
        return surrogate(md.model)
    if unknown := sorted(set(start.get_chemical_symbols()) - set(EMT_PARAMETERS)):
        raise InputError(
            f"md: the potential EMT does not know {unknown[0]}; give one of lammps, a model, or a trajectory as file"
        )
    return EMT()


def _lammps(start: ase.Atoms, commands: Path) -> Calculator:
    """Forces of LAMMPS in units metal, by a file with the commands of a potential.

    The atom types are the species in alphabetical order.  Files that the commands name are relative to theirs.
    """
    from ...descriptors.lammps_engine import mpi_world

    if not commands.is_file():
        what = "a folder" if commands.is_dir() else "no such file"
        raise InputError(f"md: {commands}: {what}; give a file with the pair_style and pair_coeff of LAMMPS")
    mpi_world(alone=True)  # without it LAMMPS' library is not found
    from ase.calculators.lammpslib import LAMMPSlib

    types = {symbol: number for number, symbol in enumerate(sorted(set(start.get_chemical_symbols())), start=1)}
    found = LAMMPSlib(lmpcmds=[f'include "{commands.name}"'], atom_types=types, keep_alive=True, log_file=None)
    try:
        with chdir(commands.parent):
            if found.get_potential_energy(start.copy()) == 0:
                raise InputError("it has no pair_style, or one that no atoms are near enough for")
    except Exception as error:  # LAMMPS' own, by whatever name
        raise InputError(
            f"md: {commands}: LAMMPS cannot move {start.get_chemical_formula()} by it: {one_line(error, 200)}"
        ) from error
    return found


def _key(start: ase.Atoms, md: MolecularDynamics, number: int, generator: Generator) -> str:
    """Of all that decides about the frames."""
    found = hashlib.sha256(f"{md.model_dump_json()} {number} {generator.bit_generator.state}".encode())
    for values in (start.numbers, start.positions, np.array(start.cell)):
        found.update(values.tobytes())
    for place in filter(None, (md.lammps, md.model)):
        files = [place] if os.path.isfile(place) else sorted(str(path) for path in Path(place).glob("*"))
        for path in files:
            found.update((sha256(Path(path)) if os.path.isfile(path) else path).encode())
    return found.hexdigest()


def _read(kept: Path) -> NDArray[np.float64] | None:
    """The frames of the same run, if they are there."""
    try:
        return np.array(np.load(kept))
    except (OSError, ValueError, EOFError):  # none, or damaged: it is run again
        return None
