"""A run of molecular dynamics: begun, gone on with after a kill, and what it writes.  eV, Å, fs, K, GPa."""

import csv
import io
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import ase
import ase.io
import pyarrow as pa
from ase import units
from ase.calculators.singlepoint import SinglePointCalculator

from ...trainables.errors import InputError, ModelError
from ...trainables.files import make_folder
from ...trainables.progress import Progress, duration
from ...trainables.structures import as_atoms
from ..model.calculator import Calculator
from ..model.model import Model
from ..progress import default_progress
from .folder import DOS, THERMO, TRAJECTORY, Run, RunFolder, held, moving, new_place
from .integrators import INTEGRATORS, draw_velocities, kinetic_energy, temperature_of
from .settings import MdSettings, OnExtrapolation

STAGE = "dynamics"
BETWEEN = 1.0  # s between two states on the disk, which takes 25 ms; steps that a kill takes back come out the same


@dataclass(frozen=True)
class MdResult:
    """How a run ended.

    path: its folder.  steps: done.  of: asked for.  outside: steps unlike the training.  drift: of the conserved
    energy since the first step [eV/atom].  stopped: why it stopped early, at a step unlike the training; None else.
    """

    path: Path
    steps: int
    of: int
    outside: int
    drift: float
    stopped: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "path": str(self.path)}


def run_md(
    model: Model | str | Path,
    structure: Any,
    path: str | Path,
    *,
    repeat: tuple[int, int, int] = (1, 1, 1),
    progress: Progress | None = None,
    **settings: Any,
) -> MdResult:
    """Begin a run of molecular dynamics.

    Args:
        model: what gives the forces; one in memory must be given again to ``resume_md``.
        structure: ASE's atoms, their ``todict()``, or a file, of which the last structure is taken.  Its velocities are
            kept with ``nve`` and no temperature.
        path: folder to make.
        repeat: cells along each vector.
        progress: where to say how far it is; by default on a terminal and in a notebook, else nowhere.
        settings: of ``MdSettings``.

    Raises:
        InputError: a setting, the structure or the model will not do, or the folder exists.
    """
    asked, path = MdSettings.of(**settings), new_place(path)
    place = "" if isinstance(model, Model) else str(Path(model).expanduser().absolute())
    opened = model if isinstance(model, Model) else Model.open(model)
    atoms = first_atoms(opened, structure)
    atoms = _moving_atoms(atoms.repeat(repeat), asked)
    if asked.needs_stress and (why := opened.surrogate.refuses_stress) is not None:
        wish = "no npt with this model" if asked.ensemble == "npt" else "no pressure of this model"
        raise ModelError(f"{wish}: {why}")
    _calculator(opened, asked).hold_for(atoms)  # refuses what cannot be predicted
    make_folder(path)
    with held(path) as folder:
        folder.write_run(Run.of(place, opened.fingerprint, asked, atoms))
        return _Dynamics(folder, opened, progress or default_progress()).go_on()


def resume_md(
    path: str | Path,
    *,
    model: Model | str | Path | None = None,
    steps: int | None = None,
    on_extrapolation: OnExtrapolation | None = None,
    progress: Progress | None = None,
) -> MdResult:
    """Go on with a run, as if it had never stopped.

    On the same machine every further step is the same to the last bit.

    Args:
        path: its folder.
        model: by default from where it was.
        steps: in all; by default as before.
        on_extrapolation: by default as before.
        progress: as in ``run_md``.

    Raises:
        InputError: no run, one that another process runs, another model, or a file that cannot be appended to.
    """
    path = Path(path).expanduser().absolute()
    with held(path) as folder:
        run = folder.run
        given = {"steps": steps, "on_extrapolation": on_extrapolation}
        settings = MdSettings.of(**run.settings.model_dump() | {k: v for k, v in given.items() if v is not None})
        if not isinstance(model, Model):
            place = run.model if model is None else str(Path(model).expanduser().absolute())
            if not place:
                raise InputError(f"{path}: was begun with a model in memory; give the model")
            model, run = Model.open(place), run.model_copy(update={"model": place})
        if model.fingerprint != run.model_sha256:
            raise ModelError(f"{path}: was begun with another model; give that one, or begin another run")
        folder.write_run(run.model_copy(update={"settings": settings}))
        return _Dynamics(folder, model, progress or default_progress()).go_on()


def first_atoms(model: Model, structure: Any) -> ase.Atoms:
    """What is given as a file, of which it is the last structure, or as an object.  Raises InputError: it is none."""
    return model.read(Path(structure))[0] if isinstance(structure, str | Path) else as_atoms(structure)


def _moving_atoms(atoms: ase.Atoms, settings: MdSettings) -> ase.Atoms:
    """A copy with velocities.  Raises InputError: it cannot move as it is."""
    if len(atoms) < 2:
        raise InputError("one atom alone does not move against its images; repeat the cell, as with --repeat 2 2 2")
    if atoms.constraints:
        raise InputError("the structure holds atoms fixed; remove its constraints, as dynamics here moves all atoms")
    if settings.temperature is not None:
        draw_velocities(atoms, settings.temperature, settings.seed)
    elif not atoms.has("momenta"):
        raise InputError("give a temperature: the structure has no velocities")
    return atoms


def _calculator(model: Model, settings: MdSettings) -> Calculator:
    """With all that a step needs in one prediction."""
    asked: dict[str, Any] = {"stress": True} if settings.needs_stress else {"forces": "mean"}
    if settings.electronic_temperature is not None:
        asked["temperature"] = settings.electronic_temperature
    return Calculator(model, **asked)


class _Dynamics:
    """A run that this process holds, from where it is to its end."""

    def __init__(self, folder: RunFolder, model: Model, progress: Progress) -> None:
        run, state = folder.run, folder.state
        self.folder, self.settings, self.progress = folder, run.settings, progress
        self.calculator = _calculator(model, run.settings)
        self.atoms = run.atoms(state)
        first = run.atoms()
        if state is not None:
            first.set_cell(state.held_cell)
        self.calculator.hold_for(first)
        self.atoms.calc = self.calculator
        self.integrator = INTEGRATORS[run.settings.ensemble](self.atoms, run.settings)
        self.step, self.outside, self.conserved = -1, 0, (0.0, 0.0)
        if state is not None:
            self.integrator.restore(state.integrator)
            self.step, self.outside, self.conserved = state.step, state.outside, state.conserved
        elif (folder.path / TRAJECTORY).exists():
            progress.say(f"{folder.path}: has no state.json, as before the first write; the run begins again")
        names = [TRAJECTORY, THERMO, *([DOS] if run.settings.dos else [])]
        folder.open_files(names, state)
        self._warned, self._committed = False, time.monotonic()

    def go_on(self) -> MdResult:
        """Take the steps that are left."""
        settings, stopped, began, first = self.settings, None, time.monotonic(), max(self.step, 0)
        try:
            while self.step < settings.steps and stopped is None:
                reasons = self._next()
                if reasons and settings.on_extrapolation == "stop":
                    stopped = f"step {self.step} is unlike the training: {reasons[0]}"
                if stopped or self.step == settings.steps or time.monotonic() - self._committed >= BETWEEN:
                    self._commit()
                text = self._text(self.step - first, time.monotonic() - began)
                self.progress.update(STAGE, self.step, settings.steps, text)
        finally:
            self.progress.end(STAGE)
            self.progress.close()
        drift = (self.conserved[1] - self.conserved[0]) / len(self.atoms)
        return MdResult(self.folder.path, self.step, settings.steps, self.outside, drift, stopped)

    def _next(self) -> list[str]:
        """Take a step, the first of which moves nothing, and write it down.  Returns why it is unlike the training."""
        with self._warnings_said():
            try:
                if self.step >= 0:
                    self.integrator.step()
                self.atoms.get_forces()
            except InputError as error:
                raise InputError(
                    f"step {self.step + 1} cannot be predicted: {error}; a smaller timestep may help, and a surrogate "
                    "that knows such structures"
                ) from error
        self.step += 1
        now = self.integrator.conserved()
        self.conserved = (now if self.step == 0 else self.conserved[0], now)
        reasons: list[str] = self.calculator.prediction.outside_training
        self.outside += bool(reasons)
        if reasons and not self._warned:
            self.progress.say(f"step {self.step} is unlike the training: {reasons[0]}")
            self._warned = True
        self._write(reasons)
        return reasons

    def _write(self, reasons: list[str]) -> None:
        """The step as rows, frames and state."""
        folder, settings = self.folder, self.settings
        row = self._row(reasons)
        if folder.is_empty(THERMO):
            self._columns = list(row)
            folder.append(THERMO, _csv(row))
        folder.append(THERMO, _csv(row[name] for name in self._columns))
        if self.step % settings.interval == 0:
            folder.append(TRAJECTORY, self._frame())
            if settings.dos:
                folder.append(DOS, self._dos())
            if reasons and settings.on_extrapolation == "label":
                make_folder(folder.path / "label")
                folder.write(f"label/step-{self.step:09d}.xyz", _xyz(self._bare(reasons)))

    @cached_property
    def _columns(self) -> list[str]:
        """Of the table, as the run began it: an earlier release may have known fewer."""
        with (self.folder.path / THERMO).open(encoding="utf-8", newline="") as file:
            return next(csv.reader(file))

    def _commit(self) -> None:
        """Bring the state to the disk."""
        self.folder.commit(
            step=self.step,
            **moving(self.atoms),
            integrator=self.integrator.state(),
            held_cell=self.calculator.held_cell.tolist(),
            outside=self.outside,
            conserved=self.conserved,
        )
        self._committed = time.monotonic()

    def _row(self, reasons: list[str]) -> dict[str, Any]:
        """Of the table: the step, all energies that the model knows, and the spread of A over its networks."""
        found = self.calculator.prediction
        kinetic = kinetic_energy(self.atoms)
        row = {
            "step": self.step,
            "time [fs]": self.step * self.settings.timestep,
            "temperature [K]": temperature_of(self.atoms),
            "kinetic_energy [eV]": kinetic,
            "conserved [eV]": self.conserved[1],
            "volume [Å³]": self.atoms.get_volume(),
        }
        if self.settings.needs_stress:
            stress = self.atoms.get_stress(include_ideal_gas=True)
            row["pressure [GPa]"] = -stress[:3].mean() / units.GPa
        values = found.to_dict()
        of_energy = {name for name, unit in found.units.items() if unit == "eV" and isinstance(values.get(name), float)}
        row |= {f"{name} [eV]": values[name] for name in values if name in of_energy}
        row |= {"free_energy_std [eV]": self.calculator.results["energy_std"]}
        row |= {"distance": values.get("distance"), "outside_training": int(bool(reasons))}
        return {name: float(v) if isinstance(v, float) else v for name, v in row.items()}

    def _frame(self) -> bytes:
        """Extended XYZ, with what was predicted."""
        atoms = self.atoms.copy()
        atoms.set_constraint()
        atoms.calc = SinglePointCalculator(
            atoms,
            **{
                name: value for name, value in self.calculator.results.items() if name in ("energy", "forces", "stress")
            },
        )
        atoms.info = {"step": self.step, "time_fs": self.step * self.settings.timestep}
        return _xyz(atoms)

    def _bare(self, reasons: list[str]) -> ase.Atoms:
        """The structure alone, and why somebody should compute it."""
        atoms = ase.Atoms(self.atoms.numbers, self.atoms.positions, cell=self.atoms.cell, pbc=True)
        atoms.info = {"step": self.step, "reason": reasons[0]}
        return atoms

    def _dos(self) -> bytes:
        """A record batch, behind the schema where it is the first."""
        found = self.calculator.prediction
        about = {"unit": found.units["dos"], "energy": str(found.energy.tolist()), "energy_unit": "eV"}
        schema = pa.schema(
            [pa.field("step", pa.int64()), pa.field("dos", pa.list_(pa.float64(), len(found.dos)))], metadata=about
        )
        batch = pa.record_batch([[self.step], [found.dos.tolist()]], schema=schema)
        head = schema.serialize().to_pybytes() if self.folder.is_empty(DOS) else b""
        return head + batch.serialize().to_pybytes()

    def _text(self, taken: int, seconds: float) -> str:
        """How it goes, for people."""
        energy = self.calculator.results["free_energy"] / len(self.atoms)
        text = f"{temperature_of(self.atoms):.0f} K, {energy:.4f} eV/atom"
        if taken < 1:
            return text
        speed = taken / seconds
        left = (self.settings.steps - self.step) / speed
        return f"{text}, {speed * self.settings.timestep * 86400e-6:.2g} ns/day, {duration(left)} left"

    @contextmanager
    def _warnings_said(self) -> Iterator[None]:
        """Say what the calculator warns of, but for what is said of each step anyway."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        known = set(getattr(self.calculator.prediction, "warnings", ()))
        for text in {str(one.message) for one in caught} - known:
            self.progress.say(text)


def _csv(values: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode()


def _xyz(atoms: ase.Atoms) -> bytes:
    text = io.StringIO()
    ase.io.write(text, atoms, format="extxyz")
    return text.getvalue().encode()
