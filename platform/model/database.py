"""Predictions as rows of a database that `ase db` reads, in a file of SQLite.  eV, Å."""

import sqlite3
from pathlib import Path
from typing import Any

import ase
import ase.db
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db.core import reserved_keys
from ase.stress import full_3x3_to_voigt_6_stress

from ...trainables.errors import InputError, one_line
from .model import Model, ModelError


class PredictionDatabase:
    """A database that predictions of a model are added to; it is made with the first of them.

    Args:
        path: its file, NAME.db; what is in it stays.
        model: what predicts.

    Raises:
        ModelError: the model knows no free energy.
        InputError: another suffix, a missing folder, or a file that is no such database.
    """

    def __init__(self, path: Path, model: Model) -> None:
        self.path, self._fingerprint, self.added = path, model.fingerprint, 0
        if (why := model.surrogate.refuses_energies) is not None:
            raise ModelError(f"no database: {why}")
        if path.suffix != ".db":
            raise InputError(f"{path}: the name of a database ends in .db, by which `ase db` knows it")
        if not path.parent.is_dir():
            raise InputError(f"{path.parent}: no such folder; make it first")
        # SQLite locks by itself; ASE's own lock file would stay after a kill, and stop all who come later.
        self._database = ase.db.connect(path, type="db", use_lock_file=False)
        if path.exists():
            try:
                self._database.count()
            except (sqlite3.Error, OSError) as error:
                raise InputError(f"{path}: not a database of ASE ({one_line(error)}); choose another name") from error

    def add(self, name: str, atoms: ase.Atoms, prediction: Any) -> None:
        """Add a row: the structure with its energy, and forces and stress where they were predicted.

        ``energy`` and ``free_energy`` are both the free energy A.  Numbers of the prediction are keys of the row, and
        so are ``structure``, the name with the whole path, and ``model``, "sha256:" and the fingerprint.  Its
        ``warnings`` are in the row's data.

        Args:
            name: of the structure, its file first.
            atoms: the structure.
            prediction: of it, as ``Surrogate.refuses_energies`` says.

        Raises:
            InputError: the file cannot be written.
        """
        total = prediction.free_energy
        results: dict[str, Any] = {"energy": total, "free_energy": total}
        if prediction.forces is not None:
            results["forces"] = prediction.forces
        if prediction.stress is not None:
            results["stress"] = full_3x3_to_voigt_6_stress(prediction.stress)
        row = atoms.copy()
        row.calc = SinglePointCalculator(row, **results)
        plain: dict[str, Any] = {
            key: value
            for key, value in prediction.to_dict().items()
            if isinstance(value, int | float | np.number) and key not in reserved_keys
        }
        plain |= {
            "free_energy_std": float(prediction.std["free_energy"]),
            "structure": str(Path(name).absolute()),  # a bare "12" would be refused as a number
            "model": f"sha256:{self._fingerprint}",
        }
        try:
            self._database.write(row, plain, data={"warnings": prediction.warnings})
        except (sqlite3.Error, OSError) as error:
            raise InputError(f"{self.path}: cannot be written ({one_line(error)})") from error
        self.added += 1
