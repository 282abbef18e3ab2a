"""What all snapshots of a dataset share: dataset.json, and what it says to people.  Energies in eV."""

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..descriptors.settings import BispectrumSettings
from ..errors import DatasetError, InputError, one_line
from ..files import read_text
from .checked import Checked
from .energy_grid import EnergyGrid
from .kohn_sham import KohnSham
from .mirror import locate
from .species import Species

HEAD = "dataset.json"
NO_DFT = "not checked: pseudopotentials and functional of the DFT; it named none, or their UPF files are not there"
M = TypeVar("M", bound=BaseModel)
KIND: Literal["ldos"] = "ldos"


UNITS = {
    "length": "Å",
    "energy": "eV",
    "temperature": "K",
    "ldos": "1/(eV Å³), both spins summed",
    "density": "1/Å³",
}


class DatasetInfo(BaseModel):
    """What all snapshots of a dataset share: the contents of dataset.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    kind: Literal["ldos"] = Field(default=KIND, description="kind of surrogates; older datasets do not say it")
    species: Species = Field(description="chemical symbol -> valence electrons of its pseudopotential")
    energy_grid: EnergyGrid
    dft: KohnSham | None = Field(default=None, description="None: not known, hence no total free energies")
    units: dict[str, str] = UNITS
    source: str = Field(description="where the snapshots come from, and under which settings")
    checks: tuple[Checked, ...] | None = Field(
        default=None, description="what the import compared with the DFT; None: it was an older one"
    )
    descriptors: BispectrumSettings | None = Field(
        default=None, description="of all snapshots, that came with the data: the default of what is made of them"
    )
    warnings: tuple[str, ...] = Field(
        default=(), description="what the import found not to agree with the DFT, and was told to take (--check warn)"
    )

    @field_validator("units")
    @classmethod
    def _ours(cls, units: dict[str, str]) -> dict[str, str]:
        """Numbers are read as they are: other units would make all of them wrong."""
        for name, unit in units.items():
            if unit != UNITS.get(name, unit):
                raise ValueError(f"{name} in {unit[:20]!r}; a dataset has {UNITS[name]!r}")
        return units

    @classmethod
    def read(cls, folder: Path) -> "DatasetInfo":
        """From the dataset.json of a folder.

        Raises:
            DatasetError: it is missing, damaged, of another kind or of another format version.
        """
        kind, path = kind_of(folder), folder / HEAD
        if kind != KIND:
            raise DatasetError(f"{path}: a dataset of kind '{kind}', not '{KIND}'; give a dataset of LDOS here")
        return _read(cls, path)

    @property
    def about(self) -> str:
        """Species, energies and broadening, for people."""
        grid = self.energy_grid
        species = ", ".join(f"{symbol} ({valence:g} electrons)" for symbol, valence in self.species.items())
        return f"species {species}; {self.energies}, {grid.kernel} kernel of {grid.width:g} eV, {grid.rule} rule"

    @property
    def came_with(self) -> str:
        """The settings of descriptors that came with the data, for people; empty where none did."""
        return "" if self.descriptors is None else f" ({self.descriptors.key} came with the data: {self.descriptors})"

    @property
    def checked_lines(self) -> list[str]:
        """What the import compared with the DFT, and what it only warned of, for people."""
        warned = [f"at import warned: {line}" for line in self.warnings]
        unknown = [f"at import {NO_DFT}"] if self.checks and self.dft is None else []
        return [*warned, *(f"at import {check.line()}" for check in self.checks or ()), *unknown]

    @property
    def energies(self) -> str:
        """The energy grid, for people."""
        grid = self.energy_grid
        return f"{grid.n_energy} energies from {grid.minimum:g} to {grid.energy[-1]:g} eV"

    @property
    def free_energies(self) -> str:
        """What total free energies of this dataset rest on, or how to get them, for people."""
        if self.dft is None:
            return (
                "total free energies: not available, as the functional and the core charges are not known; import "
                "again with the UPF files of the pseudopotentials (--pseudopotentials)"
            )
        cores = ", ".join(self.dft.core_charges) or "none"
        return (
            f"total free energies: functional {self.dft.functional}, density cutoff {self.dft.density_cutoff:.2f} eV, "
            f"core corrections: {cores}"
        )


def kind_of(location: str | Path) -> str:
    """The kind of surrogates that a dataset is for, by its dataset.json.

    Args:
        location: folder, or URL of one.

    Raises:
        DatasetError: there is no dataset.json, or it is damaged.
    """
    folder, _ = locate(location)
    path = folder / HEAD
    if not path.is_file():
        raise DatasetError(f"{folder}: not a dataset (no dataset.json); make one with `dftune data import`")
    return _read(_Head, path).kind


def _read(model: type[M], path: Path) -> M:
    """A JSON file.  Raises DatasetError: it is damaged."""
    try:
        return model.model_validate_json(read_text(path))
    except (ValidationError, OSError, InputError) as error:
        what = one_line(error).removeprefix(f"{path}: ")
        raise DatasetError(f"{path}: {what}; import the dataset again") from error


class _Head(BaseModel):
    """What dataset.json of every kind says."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: str = Field(default=KIND, pattern="^[a-z][a-z0-9_-]{0,63}$")
