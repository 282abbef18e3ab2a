"""A surrogate whose energies are those of effective-medium theory: real dynamics of aluminium at 1 ms a step."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar

import ase
import numpy as np
from ase.calculators.emt import EMT

from dftune.platform.model.model import Model
from dftune.tests.toy_kind import ToyError, ToyKind
from dftune.trainables.errors import InputError
from dftune.trainables.structures import check_distances, check_structure, read_structures
from dftune.trainables.surrogate import Job, Surrogate


@dataclass
class EmtPrediction:
    units: ClassVar[dict[str, str]] = {"free_energy": "eV", "dos": "1/eV"}

    free_energy: float
    forces: Any
    stress: Any
    distance: float
    outside_training: list[str]
    grid: float
    std: dict[str, float] = field(default_factory=lambda: {"free_energy": 0.0})
    energy: Any = field(default_factory=lambda: np.array([0.0, 1.0]))

    @property
    def dos(self) -> Any:
        return np.array([self.distance, self.grid])

    @property
    def warnings(self) -> list[str]:
        return self.outside_training

    def to_dict(self) -> dict[str, Any]:
        return {"free_energy": self.free_energy, "distance": self.distance}


@dataclass
class EmtJob(Job):
    atoms: ase.Atoms
    stress: bool
    shortest: float  # distances [Å] below which a structure is unlike the training
    grid: float  # what is held of the first structure: its longest edge [Å]
    calculator: Callable[[], Any]

    def run(self, **how: Any) -> EmtPrediction:
        atoms = ase.Atoms(self.atoms.numbers, self.atoms.positions, cell=self.atoms.cell, pbc=True)
        atoms.calc = self.calculator()
        check_distances(atoms)
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        near = np.sort(atoms.get_all_distances(mic=True), axis=1)[:, 1].min()
        unlike = [f"two atoms are {near:.3f} Å apart"] if near < self.shortest else []
        stress = atoms.get_stress(voigt=False) if self.stress else None
        return EmtPrediction(energy, forces, stress, near, unlike, self.grid)


class EmtSurrogate(Surrogate):
    """shortest: as ``EmtJob``.  refuses_stress: as ``Surrogate``.  calculator: of ASE, for another theory."""

    refuses_energies = None
    card = SimpleNamespace(accuracy=ToyError(error=0.0))

    def __init__(
        self, shortest: float = 0.0, refuses_stress: str | None = None, calculator: Callable[[], Any] = EMT
    ) -> None:
        self.shortest, self._refuses_stress, self._calculator = shortest, refuses_stress, calculator

    @property
    def refuses_stress(self) -> str | None:
        return self._refuses_stress

    def options(
        self,
        *,
        forces: str = "none",
        stress: bool = False,
        temperature: float | None = None,
        grid: float | None = None,
    ) -> Any:
        if temperature is not None and temperature < 100:
            raise InputError("too cold")
        return {"stress": stress, "grid": grid}

    def held(self, job: EmtJob, structure: ase.Atoms) -> Any:
        """The edge, until the cell is 0.002 Å longer or shorter."""
        return {"grid": job.grid} if abs(job.grid - structure.cell.lengths().max()) < 0.002 else None

    def prepare(self, structure: ase.Atoms, **asked: Any) -> EmtJob:
        check_structure(structure, {"Al"})
        options = self.options(**asked)
        grid = options["grid"] or structure.cell.lengths().max()
        return EmtJob(structure, options["stress"], self.shortest, grid, self._calculator)

    def read(self, path: Any, frames: str = "-1") -> list[ase.Atoms]:
        return read_structures(path, frames)

    def tensors(self) -> dict[str, Any]:
        return {"shortest": np.array([self.shortest])}


def emt_model(**how: Any) -> Model:
    """The model; arguments as ``EmtSurrogate``."""
    return Model(EmtSurrogate(**how), ToyKind())
