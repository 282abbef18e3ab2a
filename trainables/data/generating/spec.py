"""The specification of DFT data that are to be computed: a TOML file, checked where it enters.

eV, Å, K, but for the cutoffs, which people give in Rydberg.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ...errors import InputError, did_you_mean, key_of, one_line, printable
from ...files import read_text
from ...kind import SPLITS
from ...physics.smearing import Kernel

Source = Literal["wavefunctions", "pp.x"]
CUBIC = ("fcc", "bcc", "sc", "diamond", "zincblende", "rocksalt", "fluorite")
LATTICES = (*CUBIC, "cesiumchloride", "hcp", "bct", "wurtzite")
MOST_SNAPSHOTS = 100_000


class GenerateError(InputError):
    """A specification of DFT data has an unknown key, a wrong value, or does not fit together."""


def _is_number(annotation: Any) -> bool:
    """Whether an annotation is of numbers, as ``int | None`` or ``tuple[float, ...]``."""
    return annotation in (int, float) or any(_is_number(part) for part in get_args(annotation))


class Table(BaseModel):
    """A table of the specification."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _of_its_type(cls, value: Any, info: ValidationInfo) -> Any:
        """True is not 1, and "8" is not 8, though pydantic takes them for it."""
        given = value if isinstance(value, list) else [value]
        if _is_number(cls.model_fields[str(info.field_name)].annotation) and any(
            isinstance(one, bool | str) for one in given
        ):
            raise ValueError("a number is needed, without quotes")
        return value


class Structure(Table):
    """Where structures begin: an ideal lattice, or a file."""

    lattice: str | None = Field(default=None, description="ideal lattice, as ase.build.bulk names it: fcc, hcp, ...")
    symbols: str | None = Field(default=None, description="chemical symbol, or formula of a compound's lattice")
    a: float | None = Field(default=None, gt=0, description="lattice constant [Å]")
    c: float | None = Field(default=None, gt=0, description="of a hexagonal or tetragonal lattice [Å]")
    cubic: bool = Field(default=True, description="conventional cell instead of the primitive one, where it is cubic")
    file: str | None = Field(default=None, description="file of structures, of any format that ASE reads")
    frames: str = Field(default="-1", description="which structures of the file: -1 the last, : all, 0:100:10")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        of_lattice = {"symbols": self.symbols, "a": self.a, "c": self.c}
        if (self.lattice is None) == (self.file is None):
            raise ValueError("give lattice, symbols and a, or a file")
        if self.file is not None and (given := [name for name, value in of_lattice.items() if value is not None]):
            raise ValueError(f"{given[0]} has no use beside a file")
        if self.lattice is not None:
            if self.lattice not in LATTICES:
                raise ValueError(f"lattice '{self.lattice}' is unknown; {did_you_mean(self.lattice, LATTICES)}")
            if self.symbols is None or self.a is None:
                raise ValueError("a lattice needs symbols and a")
        return self


def _is_none(value: object) -> bool:
    return value is None


class MolecularDynamics(Table):
    """Langevin dynamics, by default by ASE's effective-medium potential: Al, Cu, Ag, Au, Ni, Pd, Pt and their alloys.

    Source: Jacobsen, Stoltze, Nørskov, Surf. Sci. 366, 394 (1996).
    """

    temperature: float = Field(gt=0, le=1e5, description="of the ions [K]")
    steps: int = Field(default=100, ge=1, description="between two snapshots")
    equilibration: int = Field(default=500, ge=0, description="steps before the first snapshot")
    time_step: float = Field(default=2.0, gt=0, le=20, description="[fs]")
    # Left out where there are none, so that keys of specifications stay.
    lammps: str | None = Field(
        default=None, exclude_if=_is_none, description="file with the commands of a potential of LAMMPS, units metal"
    )
    model: str | None = Field(default=None, exclude_if=_is_none, description="folder of a surrogate that moves atoms")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.lammps is not None and self.model is not None:
            raise ValueError("give lammps or model, not both")
        return self


def _several(value: Any) -> Any:
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else value


Several = Annotated[tuple[float, ...], BeforeValidator(_several)]


class Snapshots(Table):
    """Some snapshots that are made in one way."""

    train: int = Field(default=0, ge=0, description="number that surrogates learn from")
    validation: int = Field(default=0, ge=0, description="number that trials are judged by")
    test: int = Field(default=0, ge=0, description="number that the surrogate is judged by")
    structure: Structure | None = Field(default=None, description="instead of [structure]")
    supercell: tuple[int, int, int] = Field(default=(1, 1, 1), description="cells along the three vectors")
    vacancies: int = Field(default=0, ge=0, description="atoms that are taken out, at random")
    volumes: tuple[float, float] | None = Field(
        default=None, description="smallest and largest volume, shares of the ideal one; each split divides the range"
    )
    strain: float = Field(default=0.0, ge=0, le=0.3, description="σ of each of the six components of a strain")
    displacement: Several = Field(
        default=(0.0,), description="σ of each component of the atoms' displacements [Å]; of several, in turn"
    )
    temperature: Several | None = Field(
        default=None,
        description="of the electrons [K], instead of that of [dft]; of several, in turn, each with all displacements",
    )
    md: MolecularDynamics | None = Field(default=None, description="atoms moved by molecular dynamics instead")
    seed: int = Field(default=0, ge=0, description="equal seeds give equal snapshots")
    group: str | None = Field(default=None, pattern=r"^[\w.-]{1,40}$", description="name of these snapshots")

    @property
    def number(self) -> int:
        """Of snapshots."""
        return sum(getattr(self, split) for split in SPLITS)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not 0 < self.number <= MOST_SNAPSHOTS:
            raise ValueError(f"give train, validation or test, {MOST_SNAPSHOTS:,} together at most")
        if not all(0 <= sigma <= 1 for sigma in self.displacement) or not self.displacement:
            raise ValueError("displacement is from 0 to 1 Å")
        if self.temperature is not None and not (self.temperature and all(50 <= t <= 1e6 for t in self.temperature)):
            raise ValueError("temperature is from 50 to 1,000,000 K")
        if self.volumes is not None and not 0.3 <= self.volumes[0] <= self.volumes[1] <= 3:
            raise ValueError("volumes are shares of the ideal volume, as [0.9, 1.1]")
        if not all(1 <= n <= 20 for n in self.supercell):
            raise ValueError("supercell is as [2, 2, 1], with 20 cells at most along a vector")
        if self.md is not None and any(self.displacement):
            raise ValueError("md moves the atoms, so leave displacement out")
        return self


class Dft(Table):
    """How pw.x computes."""

    pseudopotentials: dict[str, str] = Field(min_length=1, description="chemical symbol -> UPF file")
    cutoff_ry: float = Field(ge=2, le=1000, description="cutoff of the wavefunctions [Ry]")
    density_cutoff_ry: float | None = Field(default=None, description="of the density [Ry]; default 4 times the other")
    k_points: tuple[int, int, int] | None = Field(default=None, description="mesh of k-points, of all cells")
    k_spacing: float | None = Field(default=None, gt=0, le=5, description="largest distance of k-points [1/Å], with 2π")
    temperature: float = Field(ge=50, le=1e6, description="of the electrons [K]: Fermi-Dirac smearing")
    bands: int | None = Field(
        default=None, ge=1, description="number of bands; default as the energies of the LDOS need"
    )
    convergence: float = Field(default=1e-9, gt=0, le=1e-4, description="conv_thr of pw.x [Ry]")
    mixing: float = Field(default=0.5, gt=0, le=1, description="mixing_beta of pw.x; 0.2 if the SCF does not converge")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.k_points is None) == (self.k_spacing is None):
            raise ValueError("give k_points, or k_spacing where cells differ")
        if self.k_points is not None and not all(1 <= n <= 200 for n in self.k_points):
            raise ValueError("k_points is as [10, 10, 10]")
        if self.density_cutoff_ry is not None and self.density_cutoff_ry < 4 * self.cutoff_ry:
            raise ValueError("density_cutoff_ry is 4 times cutoff_ry or more, or the density is cut")
        return self

    def mesh(self, cell: np.ndarray, *, coarser: float = 1.0) -> tuple[int, int, int]:
        """The mesh of a cell [Å, vectors as rows]; ``coarser`` by a factor."""
        if self.k_points is not None:
            return tuple(max(1, int(np.ceil(n / coarser))) for n in self.k_points)  # type: ignore[return-value]
        lengths = 2 * np.pi * np.linalg.norm(np.linalg.inv(cell), axis=0)
        assert self.k_spacing is not None
        return tuple(max(1, int(np.ceil(b / (self.k_spacing * coarser) - 1e-9))) for b in lengths)  # type: ignore[return-value]


class Ldos(Table):
    """Energies of the LDOS, in the absolute scale of pw.x, and how it is broadened."""

    name: str | None = Field(default=None, pattern=r"^[\w.-]{1,40}$", description="of a second dataset, after a dash")
    minimum: float | None = Field(default=None, description="lowest energy [eV]; default below all states")
    maximum: float | None = Field(default=None, description="highest energy [eV]; default where no electrons are")
    spacing: float = Field(gt=0, le=5, description="distance of the energies [eV]")
    width: float = Field(gt=0, le=10, description="of the broadening [eV]")
    kernel: Kernel = Field(default="gaussian", description="of the broadening, exp(-(x/width)²) or -df/dε")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.minimum is not None and self.maximum is not None and self.maximum < self.minimum + 2 * self.spacing:
            raise ValueError("maximum is above minimum by two spacings or more")
        if self.width < 0.6 * self.spacing:
            raise ValueError("width is 0.6 spacings or more, or states between two energies are lost")
        return self


class Run(Table):
    """How the programs are run."""

    source: Source = Field(default="wavefunctions", description="of the LDOS: from the wavefunctions, or by pp.x")
    pw: str = Field(default="pw.x", description="the program pw.x, on the nodes")
    pp: str = Field(default="pp.x", description="the program pp.x, on the nodes")
    launcher: str | None = Field(
        default=None, description="mpirun of the MPI that pw.x is built with; default beside it"
    )
    ranks: int = Field(default=1, ge=1, le=4096, description="MPI ranks of a snapshot, a CPU each")
    pools: int | None = Field(default=None, ge=1, description="groups of ranks that share the k-points; default all")
    silence: float = Field(default=60.0, gt=0, description="minutes without output after which a program is stopped")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.pools is not None and (self.pools > self.ranks or self.ranks % self.pools):
            raise ValueError("pools divide the ranks")
        return self


class GenerateSpec(Table):
    """All that fixes the data."""

    kind: Literal["ldos"] = Field(default="ldos", description="of the surrogates that are to learn from it")
    structure: Structure | None = Field(default=None, description="where structures begin")
    snapshots: tuple[Snapshots, ...] = Field(min_length=1, description="what is computed")
    dft: Dft
    ldos: tuple[Ldos, ...] = Field(min_length=1, description="energies; of several tables, a dataset each")
    run: Run = Run()

    @field_validator("snapshots", "ldos", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, Mapping) else value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.structure is None and not all(some.structure for some in self.snapshots):
            raise ValueError("[structure] is missing: a lattice, or a file")
        names = [one.name for one in self.ldos]
        if len(set(names)) < len(names):
            raise ValueError("several [[ldos]] need different names; one may have none")
        return self

    @property
    def hottest(self) -> float:
        """Highest temperature of the electrons [K]: it decides about energies and bands."""
        return max(max(some.temperature or (self.dft.temperature,)) for some in self.snapshots)

    @property
    def n_datasets(self) -> int:
        """Datasets that are made of the same runs."""
        return len(self.ldos)

    @classmethod
    def read(cls, path: Path) -> "GenerateSpec":
        """From a TOML file; files named in it are relative to it.

        Raises:
            GenerateError: missing, not TOML, or wrong somewhere; the message names file and key.
        """
        values = read_values(path)
        try:
            return cls.of(_absolute(values, path.parent))
        except GenerateError as error:
            raise GenerateError(f"{path}: {error}") from error

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "GenerateSpec":
        """From plain values, as in the file.  Raises GenerateError."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise GenerateError(explain(error, cls)) from error


def read_values(path: Path) -> dict[str, Any]:
    """The values of a TOML file.  Raises GenerateError: it is missing, or not TOML."""
    try:
        return tomllib.loads(read_text(path))
    except FileNotFoundError:
        raise GenerateError(f"{path}: no such file; docs/from_a_cell.md has a specification") from None
    except InputError as error:
        raise GenerateError(str(error)) from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise GenerateError(f"{path}: not a readable TOML file: {one_line(error)}") from error


def _absolute(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The values with paths relative to a folder."""

    def at(table: Any, key: str) -> None:
        if isinstance(table, dict) and isinstance(table.get(key), str):
            table[key] = str(folder / Path(table[key]).expanduser())

    at(values.get("structure"), "file")
    for some in values["snapshots"] if isinstance(values.get("snapshots"), list) else [values.get("snapshots")]:
        if isinstance(some, dict):
            at(some.get("structure"), "file")
            at(some.get("md"), "lammps")
            at(some.get("md"), "model")
    if isinstance(dft := values.get("dft"), dict) and isinstance(files := dft.get("pseudopotentials"), dict):
        for symbol in files:
            at(files, symbol)
    return values


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """What is wrong with the values of a model.

    The first problem, a misspelt key before all others: that another one is missing is often its consequence.
    """
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    key = key_of(first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key '{printable(key)}'; {did_you_mean(str(first['loc'][-1]), _keys(model, first['loc'][:-1]))}"
    if first["type"] == "missing":
        return f"key '{key}' is missing"
    message = first["msg"].removeprefix("Value error, ")
    given = first["input"]
    return f"key '{key}': {message}" + ("" if isinstance(given, dict) else f", got {given!r}") if key else message


def _keys(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    for part in place:
        if isinstance(part, str) and part in model.model_fields:
            model = next(iter(_tables(model.model_fields[part].annotation)), model)
    return list(model.model_fields)


def _tables(annotation: Any) -> list[type[BaseModel]]:
    """The models in an annotation, as Structure | None, tuple[Ldos, ...]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _tables(part)]
