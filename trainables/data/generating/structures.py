"""The structures of a specification, from its seeds.  Lengths in Å, temperatures in K."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ase
import ase.build
import numpy as np
from numpy.random import Generator, default_rng

from ...errors import InputError, one_line
from ...kind import SPLITS
from ...structures import check_distances, check_structure, read_structures
from ..snapshot import Split
from .dynamics import Surrogate, dynamics
from .spec import CUBIC, GenerateError, GenerateSpec, Snapshots, Structure


@dataclass(frozen=True, eq=False)
class Planned:
    """A snapshot that is to be computed.

    Attributes:
        id, split, group: of the dataset.
        atoms: cell and positions [Å].
        ideal: volume of the structure that it began with, per atom [Å³].
        temperature: of the electrons [K].
    """

    id: str
    split: Split
    group: str
    atoms: ase.Atoms
    ideal: float
    temperature: float


def plan_structures(
    spec: GenerateSpec, *, surrogate: Surrogate | None = None, runs: Path | None = None
) -> list[Planned]:
    """All snapshots, in the order of the specification: of each part training, validation, test.

    Args:
        spec: how structures are made.
        surrogate: gives the calculator of a model that moves atoms.
        runs: folder that keeps the frames of molecular dynamics, which are then not run a second time.

    Raises:
        GenerateError: a file is missing, has too few structures, or a structure cannot be computed.
    """
    found: list[Planned] = []
    width = max(3, len(str(sum(some.number for some in spec.snapshots) - 1)))
    for table, some in enumerate(spec.snapshots):
        where = f"[[snapshots]] {table + 1}" if len(spec.snapshots) > 1 else "[[snapshots]]"
        try:
            starts = _starts(some.structure or spec.structure, some)  # type: ignore[arg-type]  # one of them is there
            made = list(_made(starts, some, table, surrogate, runs))
            for atoms in made:
                check_structure(atoms, spec.dft.pseudopotentials.keys() | set(atoms.get_chemical_symbols()))
                check_distances(atoms)
        except InputError as error:
            raise GenerateError(f"{where}: {error}") from error
        splits: list[Split] = [split for split in SPLITS for _ in range(getattr(some, split))]
        group = some.group or f"{made[0].get_chemical_formula()}"
        warm = some.temperature or (spec.dft.temperature,)
        for number, (atoms, start, split) in enumerate(zip(made, starts, splits)):
            ideal = start.get_volume() / len(start)
            # The next one after all displacements, as two lists in step would never have all pairs.
            kelvin = warm[number // len(some.displacement) % len(warm)]
            named = f"{group}-{kelvin:g}K" if len(set(warm)) > 1 else group
            found.append(Planned(f"{len(found):0{width}d}", split, named, atoms, ideal, kelvin))
    return found


def base_of(structure: Structure) -> list[ase.Atoms]:
    """The structures that a lattice or a file gives.  Raises InputError: none."""
    if structure.file is not None:
        read = read_structures(structure.file, structure.frames)
        return [ase.Atoms(a.numbers, a.positions, cell=a.cell, pbc=a.pbc) for a in read]
    options = {"a": structure.a} | ({} if structure.c is None else {"c": structure.c})
    cubic = structure.cubic and structure.lattice in CUBIC
    try:
        return [ase.build.bulk(structure.symbols, structure.lattice, cubic=cubic, **options)]
    except Exception as error:  # whatever ASE runs into
        raise InputError(f"structure: ASE makes no such lattice: {one_line(error, 150)}") from error


def _starts(structure: Structure, some: Snapshots) -> list[ase.Atoms]:
    """What each snapshot begins with: the one structure that there is, or a frame each."""
    base = [atoms.repeat(some.supercell) for atoms in base_of(structure)]
    if len(base) == 1:
        return base * some.number
    if some.md is not None:
        raise InputError("molecular dynamics begins with one structure; choose it by frames")
    if len(base) < some.number:
        raise InputError(f"{some.number} snapshots, but {structure.file} has {len(base)} frames {structure.frames}")
    return base[: some.number]


def _made(
    starts: list[ase.Atoms], some: Snapshots, table: int, surrogate: Surrogate | None, runs: Path | None
) -> Iterator[ase.Atoms]:
    """The structures: strained, with vacancies, and then with atoms displaced or moved by molecular dynamics."""
    if some.vacancies >= len(starts[0]):
        raise InputError(f"{some.vacancies} vacancies in a cell of {len(starts[0])} atoms; take a supercell")
    # A generator per snapshot: each is the same, however many there are.  With the number of the table, as two tables
    # of one seed would move atoms in the same directions, those of training and of test snapshots, too.
    generators = [default_rng([some.seed, table, number]) for number in range(some.number)]
    if some.md is not None:
        start = _without(_strained(starts[0], some, generators[0], 0), some.vacancies, generators[0])
        yield from dynamics(start, some.md, some.number, generators[0], surrogate=surrogate, runs=runs)
        return
    for number, (start, generator) in enumerate(zip(starts, generators)):
        atoms = _without(_strained(start, some, generator, number), some.vacancies, generator)
        moved = generator.normal(0.0, some.displacement[number % len(some.displacement)], (len(atoms), 3))
        atoms.positions += moved - moved.mean(axis=0)
        yield atoms


def _strained(start: ase.Atoms, some: Snapshots, generator: Generator, number: int) -> ase.Atoms:
    atoms = start.copy()
    deformed = np.eye(3)
    if some.strain:
        e = generator.normal(0.0, some.strain, (3, 3))
        # Of the off-diagonal components the mean of two has σ/√2.
        deformed += np.where(np.eye(3, dtype=bool), e, (e + e.T) / np.sqrt(2))
    if some.volumes is not None:
        low, high = some.volumes
        share = low + (high - low) * _along(some, number)
        deformed *= (share / np.linalg.det(deformed)) ** (1 / 3)
    if some.strain or some.volumes is not None:
        atoms.set_cell(np.array(start.cell) @ deformed, scale_atoms=True)
    return atoms


def _along(some: Snapshots, number: int) -> float:
    """Where in the range of volumes a snapshot is, from 0 to 1: each split has all of it, the first one its ends."""
    sizes = [size for split in SPLITS if (size := getattr(some, split))]
    if number < sizes[0]:
        return number / max(sizes[0] - 1, 1)
    for size in sizes:
        if number < size:
            break
        number -= size
    return (number + 0.5) / size


def _without(atoms: ase.Atoms, vacancies: int, generator: Generator) -> ase.Atoms:
    if vacancies:
        del atoms[generator.choice(len(atoms), vacancies, replace=False).tolist()]
    return atoms
