"""What a growth has come to, round by round, in FOLDER/grow.json.  meV/atom, eV/Å, seconds of CPU time."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ...trainables.errors import DatasetError, InputError, one_line
from ...trainables.files import read_text, write_text

RECORD = "grow.json"
UNITS = {
    "cpu_seconds": "s",
    "cpu_minutes": "min",
    "free_energy_mae": "meV/atom",
    "forces_mae": "eV/Å",
    "test_error": "meV/atom",
    "validation_error": "meV/atom",
    "test_forces": "eV/Å",
}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Pick(_Frozen):
    """A training snapshot that was chosen: its id, and why."""

    id: str
    reason: str


class Result(_Frozen):
    """What a round came to.

    runs, atoms: of all DFT so far that has a result, validation and test included.  train: training snapshots.
    cpu_seconds: of these runs, without failed ones and first looks.  errors: of the surrogate, ``Accuracy.splits``.
    """

    runs: int
    atoms: int
    train: int
    cpu_seconds: float
    errors: dict[str, dict[str, float]]

    def free_energy(self, split: str) -> float | None:
        """Mean error of the free energy [meV/atom]; None where it is not defined."""
        return self.errors.get(split, {}).get("free_energy_mae")


class Round(_Frozen):
    """Some snapshots that were chosen, and what they led to.

    picked: in the order of their choice, others for a round of failures among them.  expected: what they are worth, in
    words.  failed: those without a result, and why.  result: None before the round is over.
    """

    picked: tuple[Pick, ...]
    expected: str
    failed: dict[str, str] = {}
    result: Result | None = None


class Record(_Frozen):
    """All rounds; ``spec_sha256`` is that of the specification."""

    spec_sha256: str
    rounds: tuple[Round, ...] = ()

    @classmethod
    def read(cls, folder: Path, spec_sha256: str) -> "Record":
        """That of a folder, or a new one.

        Raises:
            DatasetError: damaged, or of another specification.
        """
        path = folder / RECORD
        try:
            found = cls.model_validate_json(read_text(path))
        except FileNotFoundError:
            return cls(spec_sha256=spec_sha256)
        except (ValidationError, InputError) as error:
            raise DatasetError(f"{path}: damaged ({one_line(error, 80)}); bring it back, or remove {folder}") from error
        if found.spec_sha256 != spec_sha256:
            raise DatasetError(f"{folder}: was begun with another specification; give that one, or another folder")
        return found

    def write(self, folder: Path) -> None:
        """Write it, whole or not at all.  Raises InputError."""
        write_text(folder / RECORD, self.model_dump_json(indent=1) + "\n")

    @property
    def results(self) -> list[Result]:
        """Of the rounds that are over."""
        return [one.result for one in self.rounds if one.result is not None]

    def rows(self) -> list[dict[str, Any]]:
        """The learning curve as a table."""
        return [
            {
                "round": number,
                "runs": one.runs,
                "train": one.train,
                "atoms": one.atoms,
                "cpu_minutes": round(one.cpu_seconds / 60, 2),
                "test_error": one.free_energy("test"),
                "validation_error": one.free_energy("validation"),
                "test_forces": one.errors.get("test", {}).get("forces_mae"),
            }
            for number, one in enumerate(self.results, 1)
        ]
