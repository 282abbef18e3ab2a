"""Many runs of molecular dynamics at once: temperatures times volumes, as one table and figure.  Å³, K, eV, GPa."""

import csv
import io
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase import units
from numpy.typing import NDArray

from ...cluster.connection import connected
from ...cluster.resources import use_cpus
from ...cluster.tasks import as_done
from ...trainables.errors import InputError, ModelError
from ...trainables.files import make_folder, write_text
from ...trainables.kind import Kind
from ...trainables.progress import Silent
from ..model.model import Model
from ..progress import Progress, default_progress
from .dynamics import first_atoms, resume_md, run_md
from .folder import THERMO
from .settings import MdSettings

BLOCKS = 10  # of a run, whose means are taken to know nothing of each other
UNITS = {
    "temperature": "K",
    "volume": "Å³/atom",
    "free_energy": "eV/atom",
    "free_energy_error": "eV/atom",
    "pressure": "GPa",
    "pressure_error": "GPa",
    "helmholtz": "eV/atom",
    "helmholtz_error": "eV/atom",
}


@dataclass(frozen=True)
class Point:
    """What one run of a fleet has found; means over its last part, with their standard errors.

    temperature: of the atoms [K].  volume: [Å³/atom].  free_energy: of the electrons, at rest of the atoms [eV/atom].
    pressure: with that of the moving atoms [GPa].  helmholtz: of electrons and atoms, less that at the first volume of
    the same temperature [eV/atom].  outside: share of the steps that are unlike the training.  failure: why there are
    no numbers.
    """

    temperature: float
    volume: float
    free_energy: float | None = None
    free_energy_error: float | None = None
    pressure: float | None = None
    pressure_error: float | None = None
    helmholtz: float | None = None
    helmholtz_error: float | None = None
    outside: float | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Fleet:
    """All points, by temperature and then by volume; ``path`` has the runs, and the table as fleet.csv."""

    path: Path
    points: list[Point]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"path": str(self.path), "points": [asdict(point) for point in self.points]}

    def isotherms(self) -> dict[float, list[Point]]:
        """The points with numbers, by temperature."""
        found: dict[float, list[Point]] = {}
        for point in self.points:
            if point.failure is None:
                found.setdefault(point.temperature, []).append(point)
        return found

    def at_rest(self) -> dict[float, float]:
        """Temperature -> volume without pressure [Å³/atom], where it lies between two of the volumes."""
        found = {}
        for temperature, points in self.isotherms().items():
            for one, two in pairwise(points):
                if one.pressure is not None and two.pressure is not None and one.pressure * two.pressure <= 0:
                    share = one.pressure / (one.pressure - two.pressure) if one.pressure != two.pressure else 0.5
                    found[temperature] = one.volume + share * (two.volume - one.volume)
        return found

    def lines(self) -> list[str]:
        """For people, below the table."""
        found = [f"{t:g} K: no pressure at {volume:.3f} Å³/atom" for t, volume in self.at_rest().items()]
        unlike = [point for point in self.points if point.outside]
        if unlike:
            worst = max(unlike, key=lambda point: point.outside or 0.0)
            found.append(
                f"{len(unlike)} of {len(self.points)} runs had steps unlike the training, most {worst.outside:.0%} of "
                f"them at {worst.temperature:g} K and {worst.volume:.2f} Å³/atom: their errors are unknown"
            )
        return found

    def draw(self, path: Path) -> None:
        """Draw free energies against the volume to a PNG file.  Raises InputError: no run has numbers."""
        from .fleet_figure import draw

        draw(self, path)


def run_fleet(
    model: str | Path,
    structure: Any,
    path: str | Path,
    *,
    temperatures: Sequence[float],
    volumes: Sequence[float] = (1.0,),
    repeat: tuple[int, int, int] = (1, 1, 1),
    electrons_follow: bool = False,
    left_out: float = 0.2,
    address: str | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Fleet:
    """Run molecular dynamics at each temperature and volume, as Ray tasks of one CPU; again, go on with what is left.

    Args:
        model: folder, which every node must see, as ``path``.
        structure: ASE's atoms or a file, of which the last structure is taken; its cell is scaled alike in all
            directions.
        path: folder of the runs; one that holds the same fleet is gone on with.
        temperatures: of the atoms [K].
        volumes: in units of the structure's.
        repeat: cells along each vector.
        electrons_follow: the electrons have the temperature of the atoms; by default that of the training.
        left_out: share of each run, from its start, that no mean takes in.
        address: of a Ray cluster; by default RAY_ADDRESS, or an embedded local Ray.
        progress: where to say how far it is; by default on a terminal and in a notebook, else nowhere.
        settings: of ``MdSettings``, the same for all runs; their ensemble is ``nvt``.

    Returns:
        All points.  ``helmholtz`` is - ∫ ⟨P⟩ dV along the isotherm (Frenkel and Smit, Understanding Molecular
        Simulation, eq. 7.1.5), by the trapezoidal rule over the volumes that are there; None without a stress.

    Raises:
        InputError: temperatures, volumes, structure, model or cluster do not allow it, or the folder holds something
            else.
    """
    path, progress = Path(path).expanduser().absolute(), progress or default_progress()
    opened = Model.open(model)
    atoms = first_atoms(opened, structure)
    stress = opened.surrogate.refuses_stress is None
    tasks = []
    for temperature in _sorted("temperatures", temperatures, 1e6):
        for ratio in _sorted("volumes", volumes, 8.0):
            asked = {"ensemble": "nvt", "stress": stress, **settings, "temperature": temperature}
            if electrons_follow:
                asked["electronic_temperature"] = temperature
            if MdSettings.of(**asked).ensemble != "nvt":
                raise InputError("a fleet holds temperatures and volumes, so its ensemble is nvt; leave ensemble out")
            scaled = atoms.copy()
            scaled.set_cell(atoms.cell * ratio ** (1 / 3), scale_atoms=True)
            name = f"T{temperature:g}_V{ratio:g}"
            place = str(Path(model).expanduser().absolute())
            tasks.append(_Task(place, opened.kind, scaled, path / name, repeat, asked, left_out))
    if not 0 <= left_out < 1:
        raise InputError("the share left out of each run is from 0 to below 1")
    make_folder(path)
    if strange := sorted({one for one in path.iterdir() if one.is_dir()} - {t.path for t in tasks}):
        raise InputError(f"{path}: holds {strange[0].name}, which is none of these runs; choose another folder")
    points: list[Point] = [Point(0.0, 0.0)] * len(tasks)
    with closing(progress), connected(address, say=progress.say):
        for done, (number, point) in enumerate(as_done(work, tasks), start=1):
            points[number] = point
            progress.update("runs", done, len(tasks), f"{point.temperature:g} K, {point.volume:.2f} Å³/atom")
        progress.end("runs")
    if all(point.failure for point in points):
        raise ModelError(f"no run came to its end; the first: {points[0].failure}")
    found = Fleet(path, with_helmholtz(points))
    write_text(path / "fleet.csv", _table(found.points))
    return found


@dataclass(frozen=True)
class _Task:
    model: str
    kind: Kind
    atoms: ase.Atoms
    path: Path
    repeat: tuple[int, int, int]
    settings: dict[str, Any]
    left_out: float


def work(task: _Task) -> Point:
    """Do a run, or what is left of it, and take its means."""
    use_cpus(1)
    about = {"temperature": task.settings["temperature"], "volume": task.atoms.get_volume() / len(task.atoms)}
    try:
        model = Model.open(task.model, task.kind)
        if task.path.exists():
            result = resume_md(task.path, model=model, steps=task.settings.get("steps"), progress=Silent())
        else:
            result = run_md(model, task.atoms, task.path, repeat=task.repeat, progress=Silent(), **task.settings)
        n_atoms = len(task.atoms) * int(np.prod(task.repeat))
        outside = result.outside / (result.steps + 1)  # the structure at the start is judged, too
        return Point(**about, outside=outside, **means(task.path / THERMO, n_atoms, task.left_out))
    except InputError as error:
        return Point(**about, failure=str(error))


def means(thermo: Path, n_atoms: int, left_out: float) -> dict[str, Any]:
    """Means over the last part of a run, and their standard errors from ``BLOCKS`` blocks.

    Source: Flyvbjerg and Petersen, J. Chem. Phys. 91, 461 (1989).
    """
    rows = list(csv.DictReader(io.StringIO(thermo.read_text(encoding="utf-8"))))
    kept = rows[int(left_out * len(rows)) :]
    found: dict[str, Any] = {}
    for name, column, size in (("free_energy", "free_energy [eV]", n_atoms), ("pressure", "pressure [GPa]", 1)):
        values = np.array([float(row[column]) for row in kept]) / size if column in rows[0] else np.array([])
        found[name] = float(values.mean()) if values.size else None
        blocks = [block.mean() for block in np.array_split(values, BLOCKS)] if values.size >= 2 * BLOCKS else []
        found[f"{name}_error"] = float(np.std(blocks, ddof=1) / np.sqrt(BLOCKS)) if blocks else None
    return found


def with_helmholtz(points: Sequence[Point]) -> list[Point]:
    """The same points with - ∫ ⟨P⟩ dV from the first volume of each temperature, and its standard error."""
    found = []
    for temperature in dict.fromkeys(point.temperature for point in points):
        some = [point for point in points if point.temperature == temperature]
        known = [point for point in some if point.pressure is not None]
        weights = _trapezoids(np.array([point.volume for point in known]))
        pressures = np.array([point.pressure for point in known], dtype=float) * units.GPa
        errors = np.array([point.pressure_error or 0.0 for point in known]) * units.GPa
        at = {point: n for n, point in enumerate(known)}
        for point in some:
            if point not in at:
                found.append(point)
                continue
            row = weights[at[point]]
            error = None if point.pressure_error is None else float(np.sqrt(np.square(row * errors).sum()))
            found.append(replace(point, helmholtz=float(-row @ pressures), helmholtz_error=error))
    return found


def _trapezoids(volumes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Row n holds the weights of the values at all volumes in the integral from the first to the n-th."""
    weights = np.zeros((len(volumes), len(volumes)))
    for n in range(1, len(volumes)):
        half = (volumes[n] - volumes[n - 1]) / 2
        weights[n] = weights[n - 1]
        weights[n, n - 1 : n + 1] += half
    return weights


def _sorted(what: str, values: Sequence[float], most: float) -> list[float]:
    found = sorted({float(value) for value in values})
    if not found or not all(0 < value <= most for value in found):
        raise InputError(f"{what}: give one or more numbers above 0 and at most {most:g}")
    return found


def _table(points: Sequence[Point]) -> str:
    text = io.StringIO()
    names = [field.name for field in fields(Point)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([f"{name} [{UNITS[name]}]" if name in UNITS else name for name in names])
    writer.writerows([[getattr(point, name) for name in names] for point in points])
    return text.getvalue()
