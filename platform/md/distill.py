"""A linear SNAP potential fitted to a surrogate: thousands of times faster, in any LAMMPS.  eV, Å.

The folder of a distilled potential has NAME.snapcoeff and NAME.snapparam for LAMMPS, and distilled.json: what it was
fitted to, and how well.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import ase
import numpy as np
import scipy.linalg
from ase import units
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...trainables.descriptors.lammps_snap import Linear, linear, write_potential
from ...trainables.descriptors.settings import BispectrumSettings
from ...trainables.errors import InputError, one_line
from ...trainables.files import atomic, make_room_for, read_text
from ...trainables.progress import Progress
from ..model.model import Model
from ..progress import default_progress
from ..version import __version__
from .frames import Frame, displaced, structures_of, with_energies

Float64 = NDArray[np.float64]
# What an error of each counts alike: an energy of an atom [eV], a component of a force [eV/Å], of a stress [eV/Å³].
OF_ENERGY, OF_FORCE, OF_STRESS = 1e-3, 0.05, 0.5 * units.GPa
PENALTIES = tuple(10.0**n for n in range(-14, 1))  # of coefficients that belong to columns of length 1
SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}
FEWEST = 5
SETTINGS = {"cutoff": 4.7, "two_j_max": 6}
UNITS = {
    "energy_mae": "meV/atom",
    "forces_mae": "eV/Å",
    "forces_rmse": "eV/Å",
    "stress_mae": "GPa",
    "free_energy_mae": "meV/atom",
    "cutoff": "Å",
}


class Errors(BaseModel):
    """Mean errors of a potential against a surrogate, on some frames."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    frames: int
    energy_mae: float = Field(description="of the energy [meV/atom]")
    forces_mae: float = Field(description="of a component of a force [eV/Å]")
    forces_rmse: float = Field(description="[eV/Å]")
    stress_mae: float | None = Field(description="of a component of the stress [GPa]; None if the model has none")

    def __str__(self) -> str:
        """For people."""
        stress = "" if self.stress_mae is None else f", {self.stress_mae:.2f} GPa"
        return (
            f"{self.frames} frames: {self.energy_mae:.2f} meV/atom, {self.forces_mae:.4f} eV/Å (root mean square "
            f"{self.forces_rmse:.4f}){stress}"
        )


class Distilled(BaseModel):
    """A linear potential.

    errors: by split.  model_errors: of the surrogate against its DFT, as its card says them.  coefficients: as in
    ``Linear``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format_version: Literal[1] = 1
    dftune: str = __version__
    model: str
    model_sha256: str
    name: str
    settings: BispectrumSettings
    penalty: float
    errors: dict[str, Errors]
    model_errors: dict[str, float]
    lammps: list[str]
    coefficients: list[float]

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """From its folder.  Raises InputError: there is none, or it is damaged."""
        file = Path(path) / "distilled.json"
        try:
            return cls.model_validate_json(read_text(file))
        except FileNotFoundError as error:
            raise InputError(
                f"{path}: no distilled potential (no {file.name}); make one with dftune md distill"
            ) from error
        except ValidationError as error:
            raise InputError(f"{file}: damaged ({one_line(error)}); distil it again") from error

    def predict(self, atoms: ase.Atoms) -> tuple[float, Float64, Float64]:
        """Energy [eV], forces (n_atoms, 3) [eV/Å] and stress (3, 3) [eV/Å³]; errors as ``linear``."""
        beta, found = np.array(self.coefficients), linear(atoms, self.settings)
        return float(found.energy @ beta), found.forces @ beta, found.stress @ beta

    @property
    def beyond(self) -> list[str]:
        """In which respects it is further from the surrogate than the surrogate from its DFT, a sentence each."""
        found, mine = [], self.errors["test"]
        for label, error, of_model, unit in (
            ("energies", mine.energy_mae, self.model_errors.get("free_energy_mae"), "meV/atom"),
            ("forces", mine.forces_mae, self.model_errors.get("forces_mae"), "eV/Å"),
        ):
            if of_model is not None and error > of_model:
                found.append(
                    f"{label} are {error:.3g} {unit} from the surrogate's, more than the surrogate is from its DFT "
                    f"({of_model:.3g} {unit}): the potential loses accuracy"
                )
        return found

    def lines(self) -> list[str]:
        """For people."""
        found = [
            f"linear SNAP potential of {', '.join(self.settings.species)}: {self.settings}, penalty {self.penalty:g}"
        ]
        found += [f"  {split:11s} {errors}" for split, errors in self.errors.items()]
        return [*found, "in LAMMPS:", *(f"  {line}" for line in self.lammps)]


def distill(
    model: Model | str | Path,
    source: str | Path,
    path: str | Path,
    *,
    frames: str = ":",
    number: int | None = None,
    rattle: float = 0.1,
    strain: float = 0.0,
    seed: int = 0,
    settings: Mapping[str, Any] = SETTINGS,
    progress: Progress | None = None,
) -> Distilled:
    """Fit a linear SNAP potential to a surrogate, and write its folder.

    The first 70 % of the frames are fitted, the next 15 % choose the penalty, the last 15 % judge.  Frames of a run
    come in its order, so that those that judge are later ones.

    Args:
        model: the surrogate.
        source: folder of a run, whose frames have energies already if the run had this model; or a file.
        path: folder to make.
        frames: which of the structures, as in Python.
        number: make so many displaced structures of those, and fit them instead.
        rattle, strain, seed: of these, as ``displaced``.
        settings: of ``BispectrumSettings``, for the neighbours of an atom.
        progress: where to say how far it is; by default on a terminal and in a notebook, else nowhere.

    Raises:
        InputError: model, structures or settings will not do, or the folder exists.
    """
    progress, path = progress or default_progress(), Path(path).expanduser().absolute()
    make_room_for(path)
    place = "" if isinstance(model, Model) else str(Path(model).expanduser().absolute())
    opened = model if isinstance(model, Model) else Model.open(model)
    structures, known = structures_of(opened, Path(source), frames)
    if number is not None:
        if number < 1 or not 0 <= rattle < 2 or not 0 <= strain < 0.5:
            raise InputError(
                f"{number} structures displaced by {rattle:g} Å and strained by {strain:g}: give a number "
                "of 1 or more, less than 2 Å and less than 0.5"
            )
        structures, known = displaced(structures, number, rattle=rattle, strain=strain, seed=seed), False
    if len(structures) < FEWEST:
        raise InputError(
            f"{len(structures)} structures to fit a potential to, and it takes {FEWEST} at least; give more frames, or "
            "a number of displaced ones to make"
        )
    bispectrum_settings = _settings(settings, structures)
    found = with_energies(opened, structures, known=known, progress=progress)
    products = [linear(frame.atoms, bispectrum_settings) for frame in found]
    splits = _splits(len(found))
    coefficients, penalty = _fit(found, products, splits, n_counts=len(bispectrum_settings.species))
    name = "".join(bispectrum_settings.species)
    of_model = opened.card.accuracy.to_dict()
    with atomic(path) as folder:
        folder.mkdir()
        made = Distilled(
            model=place,
            model_sha256=opened.fingerprint,
            name=name,
            settings=bispectrum_settings,
            penalty=penalty,
            errors={
                split: _errors([found[i] for i in at], [products[i] for i in at], coefficients)
                for split, at in splits.items()
            },
            model_errors={n: v for n in ("free_energy_mae", "forces_mae") if (v := of_model.get(n)) is not None},
            lammps=write_potential(folder, name, coefficients, bispectrum_settings),
            coefficients=coefficients.tolist(),
        )
        (folder / "distilled.json").write_text(made.model_dump_json(indent=1) + "\n", encoding="utf-8")
    progress.close()
    return made


def judge(
    potential: str | Path,
    source: str | Path,
    *,
    frames: str = ":",
    model: Model | str | Path | None = None,
    progress: Progress | None = None,
) -> Errors:
    """Compare a distilled potential with its surrogate on other frames, of a trajectory that it made for instance.

    Args:
        potential: its folder.
        source, frames, progress: as in ``distill``.
        model: by default from where it was.

    Raises:
        InputError: no potential, no structures, or another model than it was fitted to.
    """
    progress, made = progress or default_progress(), Distilled.open(potential)
    if not isinstance(model, Model):
        if not (place := made.model if model is None else str(model)):
            raise InputError(f"{potential}: was fitted to a model in memory; give the model")
        model = Model.open(place)
    if model.fingerprint != made.model_sha256:
        raise InputError(f"{potential}: was fitted to another model; give that one")
    structures, known = structures_of(model, Path(source), frames)
    found = with_energies(model, structures, known=known, progress=progress)
    progress.close()
    return _errors(found, [linear(f.atoms, made.settings) for f in found], np.array(made.coefficients))


def _settings(given: Mapping[str, Any], structures: Sequence[ase.Atoms]) -> BispectrumSettings:
    """With the species of the structures.  Raises InputError: a setting is wrong or missing."""
    species = sorted({symbol for atoms in structures for symbol in atoms.get_chemical_symbols()})
    weights = {**dict.fromkeys(species if len(species) == 1 else (), 1.0), **given.get("weights", {})}
    try:
        settings = BispectrumSettings.model_validate({**SETTINGS, **given, "weights": weights})
    except ValidationError as error:
        raise InputError(one_line(error)) from error
    if missing := [symbol for symbol in species if symbol not in settings.species]:
        raise InputError(
            f"give each of {', '.join(species)} a weight of its own; there is none of {', '.join(missing)}"
        )
    return settings


def _splits(n: int) -> dict[str, range]:
    """Consecutive frames of each split, one at least."""
    judged, chosen = max(1, round(SHARES["test"] * n)), max(1, round(SHARES["validation"] * n))
    fitted = n - judged - chosen
    return {"train": range(fitted), "validation": range(fitted, n - judged), "test": range(n - judged, n)}


def _rows(frame: Frame, products: Linear) -> tuple[Float64, Float64]:
    """Rows of the least squares and their right-hand sides, each in units of what an error of it counts."""
    n = len(frame.atoms)
    rows = [products.energy[None] / n / OF_ENERGY, products.forces.reshape(3 * n, -1) / OF_FORCE]
    sides = [np.array([frame.energy / n / OF_ENERGY]), frame.forces.ravel() / OF_FORCE]
    if frame.stress is not None:
        upper = np.triu_indices(3)
        rows.append(products.stress[upper] / OF_STRESS)
        sides.append(frame.stress[upper] / OF_STRESS)
    return np.concatenate(rows), np.concatenate(sides)


def _fit(
    frames: Sequence[Frame], products: Sequence[Linear], splits: Mapping[str, range], *, n_counts: int
) -> tuple[Float64, float]:
    """Coefficients by ridge regression, with the penalty of the smallest error on the validation frames.

    The coefficients of an atom alone, the first of each species, cost nothing.
    """
    parts = [_rows(frame, product) for frame, product in zip(frames, products, strict=True)]
    a, b = (np.concatenate([parts[i][k] for i in splits["train"]]) for k in (0, 1))
    held, sides = (np.concatenate([parts[i][k] for i in splits["validation"]]) for k in (0, 1))
    norms = np.linalg.norm(a, axis=0)
    norms[norms == 0] = 1.0
    # All that the rows say, in as many rows as columns: orthogonal factors keep the digits that normal equations lose.
    triangle = scipy.linalg.qr(np.column_stack([a / norms, b]), mode="r")[0][: len(norms) + 1]
    free = np.arange(len(norms)) % (len(norms) // n_counts) == 0
    best: tuple[float, Float64, float] | None = None
    for penalty in PENALTIES:
        ridge = np.sqrt(penalty) * np.diag(np.where(free, 0.0, 1.0))
        lhs, rhs = np.concatenate([triangle[:, :-1], ridge]), np.concatenate([triangle[:, -1], np.zeros(len(norms))])
        coefficients = np.linalg.lstsq(lhs, rhs, rcond=None)[0] / norms
        error = float(np.mean((held @ coefficients - sides) ** 2))
        if best is None or error < best[0]:
            best = error, coefficients, penalty
    assert best is not None
    return best[1], best[2]


def _errors(frames: Sequence[Frame], products: Sequence[Linear], beta: Float64) -> Errors:
    """Of coefficients on frames."""
    pairs = list(zip(frames, products, strict=True))
    energies = [(p.energy @ beta - f.energy) / len(f.atoms) for f, p in pairs]
    forces = np.concatenate([(p.forces @ beta - f.forces).ravel() for f, p in pairs])
    stresses = [(p.stress @ beta - f.stress)[np.triu_indices(3)] for f, p in pairs if f.stress is not None]
    return Errors(
        frames=len(frames),
        energy_mae=1e3 * float(np.abs(energies).mean()),
        forces_mae=float(np.abs(forces).mean()),
        forces_rmse=float(np.sqrt(np.square(forces).mean())),
        stress_mae=float(np.abs(stresses).mean()) / units.GPa if stresses else None,
    )
