"""A surrogate as an ASE calculator: relaxations, molecular dynamics and equations of state.  eV, Å."""

import warnings
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import ase
import numpy as np
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from .model import Model, ModelError


class Calculator(AseCalculator):
    """Free energy, forces and stress of a surrogate, for ``atoms.calc``.

    ``energy`` and ``free_energy`` are both the free energy A = E - τS, of which the forces are the derivative: what
    a relaxation or molecular dynamics at electronic temperature τ needs.  ``energy_std`` is its standard deviation over
    the initialisations of the model, and ``prediction`` all that was predicted of the last structure.  A structure that
    is unlike those of the training is warned of.

    A calculator holds the grid of its first structure for as long as the atoms are the same ones, so that energies of
    strained cells have no steps between them (``Surrogate.held``).  Other atoms get a grid of their own.  A cell too
    large for the grid gets another one, and a warning.

    Args:
        model: a model, or the folder of one.
        strict: True refuses a structure that is unlike those of the training, instead of a warning.
        hold: False lays a new grid for each structure, so that its energy does not depend on which structure came
            first.
        asked: what else is asked of each prediction, as in ``Model.options``: ``temperature``, for instance, the
            electronic temperature τ [K], by default that of the training data, or ``grid``.

    Raises:
        ModelError: no model, or one that knows no free energy.
        InputError: something is asked that it does not take or cannot do.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, model: Model | str | Path, *, strict: bool = False, hold: bool = True, **asked: Any) -> None:
        super().__init__()
        self.model = model if isinstance(model, Model) else Model.open(model)
        self._wishes, self._asked = asked, self.model.options(**asked)
        self._strict, self._hold = strict, hold
        self._first: tuple[Any, ase.Atoms] | None = None  # the job whose grid is held, and its atoms
        self.prediction: Any = None
        if (why := self.model.surrogate.refuses_energies) is not None:
            raise ModelError(why)

    @property
    def temperature(self) -> float | None:
        """τ [K]; another one needs another calculator, as ASE keeps results by the atoms alone."""
        return self._asked.get("temperature")

    def hold_for(self, atoms: ase.Atoms) -> None:
        """Hold what the prediction of these atoms would make it hold, without predicting; errors as ``calculate``."""
        self._first = self.model.prepare(atoms, **self._wishes), atoms.copy()

    @property
    def held_cell(self) -> Any:
        """Cell of the structure whose grid is held, (3, 3) [Å]; None if none is."""
        return None if self._first is None else np.array(self._first[1].cell)

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Any = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        """Called by ASE when a property is asked for; errors as ``Model.predict``, or what ``strict`` refuses."""
        super().calculate(atoms, properties, system_changes)
        wishes: dict[str, Any] = {"forces": "mean"} if "forces" in properties else {}
        wishes |= {"stress": True} if "stress" in properties else {}
        job = self.model.prepare(self.atoms, **self._held(self.atoms) | self._wishes | wishes)
        if self._first is None:
            self._first = job, self.atoms
        self.prediction = found = job.run()
        if self._strict and found.outside_training:
            raise ModelError(f"refused by strict: {found.outside_training[0]}")
        for text in found.warnings:
            warnings.warn(text, stacklevel=2)  # Python shows each text once
        total, std = found.free_energy, found.std["free_energy"]
        self.results: dict[str, Any] = {"energy": total, "free_energy": total, "energy_std": std}
        if found.forces is not None:
            self.results["forces"] = found.forces
        if found.stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(found.stress)

    def _held(self, atoms: ase.Atoms) -> dict[str, Any]:
        """What is held of the first structure of the same atoms, as keywords of ``Model.prepare``."""
        if self._first is None or not self._hold or not np.array_equal(self._first[1].numbers, atoms.numbers):
            self._first = None
            return {}
        held = self.model.surrogate.held(self._first[0], atoms)
        if held is None:
            self._first = None
            warnings.warn(
                "the cell has become too large for the grid of the first structure and gets another one: energies "
                "before and after it may have a step between them; start from the largest cell, or give grid",
                stacklevel=2,
            )
        return held or {}

    def __repr__(self) -> str:
        at = "" if self.temperature is None else f" at {self.temperature:.0f} K"
        return f"<Calculator{at}: {self.model.card.lines()[0]}>"

    def _repr_html_(self) -> str:
        """The model, and what was predicted last, for notebooks."""
        last = "" if self.prediction is None else self.prediction._repr_html_()
        return f"<p>{escape(repr(self))}</p>{last}"


def mover(say: Callable[[str], None]) -> Callable[[str], Calculator]:
    """Gives the calculator of a model's folder, to move atoms with, and says that it will take a while."""

    def calculator(folder: str) -> Calculator:
        found = Calculator(folder)
        say(f"molecular dynamics by {folder}")
        return found

    return calculator
