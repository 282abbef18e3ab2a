"""Phonons of a crystal: displaced supercells by Phonopy, their forces by a surrogate.

    pip install phonopy
    python examples/phonons.py MODEL STRUCTURE [cells along each vector=2]

Prints the frequencies at some points of the zone and writes phonopy_params.yaml, with the force sets, from which
`phonopy-load --band auto -p` draws the bands.  The forces of larger cells are as good as the cells that the model has
learnt from; the calculator warns where they are unlike them.
"""

import sys
import warnings
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.io import read
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms

import dftune

POINTS = {"Γ": (0, 0, 0), "X": (0, 0.5, 0.5), "L": (0.5, 0.5, 0.5)}  # of an fcc crystal, in its primitive vectors


def phonons(calculator: Calculator, atoms: Atoms, cells: int, displacement: float = 0.05) -> Any:
    """Phonopy's object with force sets and force constants; the displacement is in Å."""
    crystal = PhonopyAtoms(symbols=atoms.get_chemical_symbols(), cell=atoms.cell[:], positions=atoms.positions)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells users of its version 3 that "auto" is the default now
        found = Phonopy(crystal, supercell_matrix=np.eye(3, dtype=int) * cells, primitive_matrix="auto")
    found.generate_displacements(distance=displacement)
    forces = []
    for cell in found.supercells_with_displacements:
        displaced = Atoms(cell.symbols, cell=cell.cell, positions=cell.positions, pbc=True, calculator=calculator)
        forces.append(displaced.get_forces())
    found.forces = np.array(forces)
    found.produce_force_constants()
    found.symmetrize_force_constants()
    return found


def main() -> None:
    if len(sys.argv) not in (3, 4):
        raise SystemExit(__doc__)
    cells = int(sys.argv[3]) if len(sys.argv) > 3 else 2
    found = phonons(dftune.Calculator(sys.argv[1]), read(sys.argv[2]), cells)
    n_forces = len(found.supercells_with_displacements)
    print(f"{len(found.supercell)} atoms, {n_forces} displacements")
    for name, q in POINTS.items():
        print(f"{name}: {', '.join(f'{frequency:.2f}' for frequency in found.run_qpoints([q]).frequencies[0])} THz")
    found.save("phonopy_params.yaml", settings={"force_sets": True})
    print("force sets in phonopy_params.yaml; try `phonopy-load --band auto -p`")


if __name__ == "__main__":
    main()
