"""A surrogate as an ASE calculator: relaxations, molecular dynamics and equations of state.  eV, Å."""

import warnings
from pathlib import Path
from typing import Any, ClassVar

import ase
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes

from ...trainables.ldos.prediction import Prediction
from .model import NO_FREE_ENERGY, Model, ModelError


class Calculator(AseCalculator):
    """Free energy and forces of a surrogate, for ``atoms.calc``.

    ``energy`` and ``free_energy`` are both the free energy A = E - τS, of which the forces are the derivative: what
    a relaxation or molecular dynamics at electronic temperature τ needs.  ``energy_std`` is its standard deviation over
    the initialisations of the model, and ``prediction`` all that was predicted of the last structure.  A structure that
    is unlike those of the training is warned of.

    Args:
        model: a model, or the folder of one.
        temperature: electronic temperature τ [K]; by default that of the training data.

    Raises:
        ModelError: no model, one that knows no free energy, or a temperature that it cannot do.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces"]

    def __init__(self, model: Model | str | Path, *, temperature: float | None = None) -> None:
        super().__init__()
        self.model = model if isinstance(model, Model) else Model.open(model)
        self._temperature = self.model.temperature(temperature)
        self.prediction: Prediction | None = None
        if self.model.card.dft is None:
            raise ModelError(f"no calculator without the free energy: {NO_FREE_ENERGY}")

    @property
    def temperature(self) -> float:
        """τ [K]; another one needs another calculator, as ASE keeps results by the atoms alone."""
        return self._temperature

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Any = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        """Called by ASE when a property is asked for; errors as ``Model.predict``."""
        super().calculate(atoms, properties, system_changes)
        found = self.model.predict(
            self.atoms, temperature=self._temperature, forces="mean" if "forces" in properties else "none"
        )
        self.prediction = found
        for text in found.warnings:
            warnings.warn(text, stacklevel=2)  # Python shows each text once
        total, std = found.free_energy, found.std["free_energy"]
        self.results: dict[str, Any] = {"energy": total, "free_energy": total, "energy_std": std}
        if found.forces is not None:
            self.results["forces"] = found.forces
