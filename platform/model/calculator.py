"""A surrogate as an ASE calculator: relaxations, molecular dynamics and equations of state.  eV, Å."""

import warnings
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import ase
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes

from .model import Model, ModelError


class Calculator(AseCalculator):
    """Free energy and forces of a surrogate, for ``atoms.calc``.

    ``energy`` and ``free_energy`` are both the free energy A = E - τS, of which the forces are the derivative: what
    a relaxation or molecular dynamics at electronic temperature τ needs.  ``energy_std`` is its standard deviation over
    the initialisations of the model, and ``prediction`` all that was predicted of the last structure.  A structure that
    is unlike those of the training is warned of.

    Args:
        model: a model, or the folder of one.
        asked: what else is asked of each prediction, as in ``Model.options``: ``temperature``, for instance, the
            electronic temperature τ [K], by default that of the training data.

    Raises:
        ModelError: no model, or one that knows no free energy.
        InputError: something is asked that it does not take or cannot do.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces"]

    def __init__(self, model: Model | str | Path, **asked: Any) -> None:
        super().__init__()
        self.model = model if isinstance(model, Model) else Model.open(model)
        self._asked = self.model.options(**asked)
        self.prediction: Any = None
        if (why := self.model.surrogate.refuses_energies) is not None:
            raise ModelError(why)

    @property
    def temperature(self) -> float | None:
        """τ [K]; another one needs another calculator, as ASE keeps results by the atoms alone."""
        return self._asked.get("temperature")

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Any = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        """Called by ASE when a property is asked for; errors as ``Model.predict``."""
        super().calculate(atoms, properties, system_changes)
        forces = {"forces": "mean"} if "forces" in properties else {}
        found = self.model.predict(self.atoms, **self._asked | forces)
        self.prediction = found
        for text in found.warnings:
            warnings.warn(text, stacklevel=2)  # Python shows each text once
        total, std = found.free_energy, found.std["free_energy"]
        self.results: dict[str, Any] = {"energy": total, "free_energy": total, "energy_std": std}
        if found.forces is not None:
            self.results["forces"] = found.forces

    def __repr__(self) -> str:
        at = "" if self.temperature is None else f" at {self.temperature:.0f} K"
        return f"<Calculator{at}: {self.model.card.lines()[0]}>"

    def _repr_html_(self) -> str:
        """The model, and what was predicted last, for notebooks."""
        last = "" if self.prediction is None else self.prediction._repr_html_()
        return f"<p>{escape(repr(self))}</p>{last}"
