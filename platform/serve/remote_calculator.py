"""A surrogate at an endpoint as an ASE calculator.  eV, Å."""

import warnings
from typing import Any, ClassVar

import ase
import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from ...trainables.errors import InputError
from .client import Answer, Client, ClientError


class RemoteCalculator(Calculator):
    """Free energy, forces and stress from an endpoint, for ``atoms.calc``.

    As ``dftune.Calculator``: ``energy`` is the free energy, ``prediction`` all that was predicted of the last
    structure, and the grid of the first structure is held while the atoms are the same ones.

    Args:
        client: of the endpoint.
        hold: False lays a new grid for each structure.
        asked: what else is asked of each prediction: ``temperature``, ``grid``.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, client: Client, *, hold: bool = True, **asked: Any) -> None:
        super().__init__()
        self.client, self._asked, self._hold = client, asked, hold
        self._first: tuple[Any, Any] | None = None  # numbers of the atoms, and the grid that is held for them
        self.prediction: Answer | None = None

    def calculate(
        self, atoms: ase.Atoms | None = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        """Called by ASE when a property is asked for; errors as ``Client.predict``."""
        super().calculate(atoms, properties, system_changes)
        wishes: dict[str, Any] = {"forces": "mean"} if "forces" in properties else {}
        wishes |= {"stress": True} if "stress" in properties else {}
        found = self._predict(self._asked | wishes)
        if "free_energy" not in found or found["free_energy"] is None:
            raise InputError(f"{self.client!r}: predicts no free energy, so it is no calculator")
        for text in found.get("warnings", ()):
            warnings.warn(text, stacklevel=2)  # Python shows each text once
        self.prediction = found
        self.results: dict[str, Any] = {"energy": found["free_energy"], "free_energy": found["free_energy"]}
        if found.get("forces") is not None:
            self.results["forces"] = np.array(found["forces"])
        if found.get("stress") is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(np.array(found["stress"]))

    def _predict(self, wishes: dict[str, Any]) -> Answer:
        numbers, refused = self.atoms.numbers, False
        if self._first is not None and np.array_equal(self._first[0], numbers):
            try:
                return self.client.predict(self.atoms, **{"grid": self._first[1]} | wishes)
            except ClientError as error:
                if error.status != 422 or "grid" in wishes:
                    raise
                refused = True  # the grid, if the structure is predicted without it
        found: Answer = self.client.predict(self.atoms, **wishes)
        if refused:
            warnings.warn(
                "the cell has become too large for the grid of the first structure and gets another one: energies "
                "before and after it may have a step between them; start from the largest cell, or give grid",
                stacklevel=3,
            )
        self._first = (numbers.copy(), found["grid"]) if self._hold and "grid" in found else None
        return found
