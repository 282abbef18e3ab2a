"""How results depend on the cutoff and on the mesh of k-points.  Energies in eV, lengths in Å."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...drawing import COLORS, MARKS
from ...errors import InputError
from ...physics.smearing import broadening
from ...physics.units import K_B
from ..importing.quantum_espresso.calculation import TAIL
from ..importing.quantum_espresso.pw_run import PwRun
from .computing import Order
from .inputs import pw_input
from .orders import WARM, order_of
from .spec import GenerateSpec
from .species import Species, free_bands
from .structures import Planned

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CUTOFF, K_POINTS = "cutoff", "k-points"
UNITS = {"cutoff": "Ry", "free_energy": "meV/atom", "fermi_level": "meV", "forces": "eV/Å", "dos": "%", "cpu": "s"}
FINE = 8  # energies a width, at which two DOS are compared


@dataclass(frozen=True, eq=False)
class Step:
    """One SCF of a scan.

    Attributes:
        scan: CUTOFF or K_POINTS.
        value: the cutoff [Ry], or k-points along the longest reciprocal vector.
        mesh: of k-points.
        cutoff: [Ry].
        order: of the SCF; two steps of equal settings have the same.
    """

    scan: str
    value: float
    mesh: tuple[int, int, int]
    cutoff: float
    order: Order


def steps(
    spec: GenerateSpec, species: Species, planned: Planned, *, cutoffs: Sequence[float], k_points: Sequence[int]
) -> list[Step]:
    """The SCFs of both scans, each with the other value as the specification says.

    Args:
        spec: the rest of the settings.
        species: pseudopotentials.
        planned: the structure.
        cutoffs: of the wavefunctions [Ry], going up.
        k_points: along the longest reciprocal vector, going up; the others follow the cell.

    Raises:
        InputError: fewer than two values, or they do not go up.
    """
    for words, values in (("cutoffs", cutoffs), ("k-points", k_points)):
        if len(values) == 1 or any(b <= a for a, b in pairwise(values)) or any(v <= 0 for v in values):
            raise InputError(f"{words}: give two values or more that go up, as 8,10,12")
    if not cutoffs and not k_points:
        raise InputError("give --cutoffs or --k-points to compare")
    cell = np.array(planned.atoms.cell)
    reach = WARM * K_B * planned.temperature + 2 * TAIL * max(grid.width for grid in spec.ldos)
    bands = free_bands(planned.atoms.get_volume(), species.electrons(planned.atoms), reach)
    lengths = np.linalg.norm(np.linalg.inv(cell), axis=0)

    def step(scan: str, value: float, cutoff: float, mesh: tuple[int, int, int]) -> Step:
        ratio = (spec.dft.density_cutoff_ry or 4 * spec.dft.cutoff_ry) / spec.dft.cutoff_ry
        dft = spec.dft.model_copy(update={"cutoff_ry": float(cutoff), "density_cutoff_ry": ratio * cutoff})
        texts = [
            pw_input(
                planned.atoms,
                dft,
                species.names,
                mesh=mesh,
                bands=spec.dft.bands or bands,
                gentle=gentle,
                temperature=planned.temperature,
            )
            for gentle in (False, True)
        ]
        return Step(scan, value, mesh, cutoff, order_of(spec, species, None, texts, ()))

    own = spec.dft.mesh(cell)
    found = [step(CUTOFF, value, value, own) for value in cutoffs]
    for n in k_points:
        a, b, c = (max(1, int(np.ceil(n * length / lengths.max() - 1e-9))) for length in lengths)
        found.append(step(K_POINTS, n, spec.dft.cutoff_ry, (a, b, c)))
    return found


@dataclass(frozen=True)
class Row:
    """What a step differs by from the last one of its scan.

    Attributes:
        scan, value, k_points, cutoff: of the step.
        free_energy: difference of A [meV/atom].
        fermi_level: its difference [meV].
        forces: largest difference of a component [eV/Å].
        dos: width of a broadening [eV] -> largest difference of the DOS, in percent of its maximum.
        cpu: CPU seconds.
    """

    scan: str
    value: float
    k_points: str
    cutoff: float
    free_energy: float
    fermi_level: float
    forces: float
    dos: Mapping[float, float]
    cpu: float

    def to_dict(self) -> dict[str, Any]:
        """One level, for tables."""
        numbers = {name: getattr(self, name) for name in ("free_energy", "fermi_level", "forces")}
        of_dos = {f"dos at {width:g} eV": found for width, found in self.dos.items()}
        return {
            "scan": self.scan,
            "cutoff": self.cutoff,
            "k-points": self.k_points,
            **numbers,
            **of_dos,
            "cpu": self.cpu,
        }


def units(rows: Sequence[Row]) -> dict[str, str]:
    """Of the columns of ``Row.to_dict``."""
    return UNITS | {name: UNITS["dos"] for row in rows for name in row.to_dict() if name.startswith("dos ")}


def compare(
    found: Sequence[Step], runs: Sequence[PwRun], seconds: Sequence[float], *, widths: Sequence[float]
) -> list[Row]:
    """Each step against the last one of its scan.

    Args:
        found: steps.
        runs: what pw.x found in each.
        seconds: CPU seconds of each.
        widths: of the Gaussians that the DOS is broadened with [eV].
    """
    rows = []
    for step, run, cpu in zip(found, runs, seconds):
        last = next(r for s, r in reversed(list(zip(found, runs))) if s.scan == step.scan)
        assert run.total_energy is not None
        assert last.total_energy is not None
        assert run.fermi_level is not None
        assert last.fermi_level is not None
        assert run.forces is not None
        assert last.forces is not None
        rows.append(
            Row(
                scan=step.scan,
                value=step.value,
                k_points="x".join(map(str, step.mesh)),
                cutoff=step.cutoff,
                free_energy=1e3 * (run.total_energy - last.total_energy) / len(run.symbols),
                fermi_level=1e3 * (run.fermi_level - last.fermi_level),
                forces=float(np.abs(run.forces - last.forces).max()),
                dos={width: 100 * _dos_difference(run, last, width) for width in widths},
                cpu=cpu,
            )
        )
    return rows


def _dos_difference(run: PwRun, last: PwRun, width: float) -> float:
    """Largest difference of two DOS where both are complete, a share of the largest value of the second."""
    assert run.bands is not None
    assert last.bands is not None
    assert last.fermi_level is not None
    low = min(float(run.bands.energy.min()), float(last.bands.energy.min())) - TAIL * width
    warm = last.fermi_level + WARM * last.degauss
    high = min(warm, run.bands.complete_to - TAIL * width, last.bands.complete_to - TAIL * width)
    energy = np.arange(low, high, width / FINE)
    a, b = _dos(run, energy, width), _dos(last, energy, width)
    return float(np.abs(a - b).max() / b.max())


def _dos(run: PwRun, energy: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    assert run.bands is not None
    found = np.zeros_like(energy)
    for states, weight in zip(run.bands.energy, run.bands.weight):
        found += weight * broadening(energy[:, None] - states, kernel="gaussian", width=width).sum(axis=1)
    return found


def convergence_figure(rows: Sequence[Row]) -> "Figure":
    """Differences from the last step of each scan, against its value; the last ones are zero and not drawn."""
    from matplotlib.figure import Figure

    scans = list(dict.fromkeys(row.scan for row in rows))
    figure = Figure(figsize=(5.6 * len(scans), 4.4), layout="constrained")
    for axes, scan in zip(np.atleast_1d(figure.subplots(1, len(scans))), scans):
        some = [row for row in rows if row.scan == scan]
        *others, last = some
        lines: dict[str, list[float]] = {
            "free energy [meV/atom]": [abs(row.free_energy) for row in others],
            "forces [0.01 eV/Å]": [100 * row.forces for row in others],
            "Fermi level [meV]": [abs(row.fermi_level) for row in others],
        }
        lines |= {f"DOS at {width:g} eV [%]": [row.dos[width] for row in others] for width in last.dos}
        for number, (label, values) in enumerate(lines.items()):
            look = {"color": COLORS[number % len(COLORS)], "marker": MARKS[number % len(MARKS)]}
            axes.plot([row.value for row in others], values, **look, markersize=5, linewidth=1.4, label=label)
        axes.set_yscale("log")
        axes.set_xticks([row.value for row in others])
        axes.set_xlabel("cutoff [Ry]" if scan == CUTOFF else "k-points along the longest reciprocal vector")
        axes.set_ylabel(f"difference from {last.value:g}{' Ry' if scan == CUTOFF else ' k-points'}")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    return figure
