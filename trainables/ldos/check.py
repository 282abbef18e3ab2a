"""A surrogate against DFT, term by term and snapshot by snapshot.  eV, Å; errors of energies in meV/atom."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import ase
import numpy as np
from numpy.typing import NDArray

from ..data.dataset import Dataset, Snapshot
from ..drawing import COLORS, GREY, MARKS, REFERENCE, SURROGATE, save
from .accuracy import Accuracy
from .energy_reference import interpolation
from .job import LdosJob
from .judgement import Judgement
from .prediction import Prediction

Float64 = NDArray[np.float64]

# Name of a term in a prediction -> in a snapshot; the rest of the free energy, -∫ v_xc n dr, no DFT code prints.
TERMS = {
    "free_energy": "total_energy",
    "band_energy": "band_energy",
    "entropy_term": "entropy_term",
    "hartree_energy": "hartree_energy",
    "xc_energy": "xc_energy",
    "ewald_energy": "ewald_energy",
}


@dataclass(frozen=True, eq=False)
class SnapshotCheck:
    """Errors of one snapshot, prediction (mean over T initialisations) minus DFT; None without a reference.

    energies: term -> error, spread: term -> standard deviation over T [meV/atom]; fermi_level [meV]; dos_rmse
    [1/(eV atom)]; density: ∫ |n - n_DFT| dr / N; forces, dft_forces (n_atoms, 3) [eV/Å].  ``furthest`` as in
    ``Prediction``; dos, dft_dos (n_energy,) [1/eV].
    """

    id: str
    group: str
    energies: dict[str, float | None]
    spread: dict[str, float]
    fermi_level: float | None
    dos_rmse: float
    density: float | None
    forces: Float64 | None
    dft_forces: Float64 | None
    furthest: float
    dos: Float64
    dft_dos: Float64

    @property
    def force_mae(self) -> float | None:
        """Mean |error| of the force components [eV/Å]."""
        if self.forces is None or self.dft_forces is None:
            return None
        return float(np.abs(self.forces - self.dft_forces).mean())

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; all but the curves."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("dos", "dft_dos")}
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}


def check_snapshot(prediction: Prediction, snapshot: Snapshot, dataset: Dataset) -> SnapshotCheck:
    """Compare a prediction on the snapshot's own grid with what the DFT says.

    Raises:
        DatasetError: a file of the dataset is missing or damaged.
    """
    n, energies = snapshot.n_atoms, {}
    for name, reference in TERMS.items():
        found, true = getattr(prediction, name), getattr(snapshot, reference)
        energies[name] = None if found is None or true is None else 1e3 * (found - true) / n
    stored = dataset.info.energy_grid
    dos = dataset.dos(snapshot)
    if len(prediction.energy) != len(dos) or not np.allclose(prediction.energy, stored.energy, rtol=0, atol=1e-9):
        dos = dos @ interpolation(stored, prediction.energy)
    density = None
    if snapshot.density_sha256 is not None:
        true = dataset.density(snapshot).array().reshape(snapshot.grid)
        density = float(np.abs(prediction.density - true).mean() * snapshot.volume / snapshot.n_electrons)
    level = snapshot.fermi_level
    return SnapshotCheck(
        id=snapshot.id,
        group=snapshot.group,
        energies=energies,
        spread={name: 1e3 * prediction.std[name] / n for name in TERMS if name in prediction.std},
        fermi_level=None if level is None else 1e3 * (prediction.fermi_level - level),
        dos_rmse=float(np.sqrt(np.mean((prediction.dos - dos) ** 2))) / n,
        density=density,
        forces=prediction.forces,
        dft_forces=snapshot.forces,
        furthest=prediction.furthest,
        dos=prediction.dos,
        dft_dos=dos,
    )


def check_terms(
    prepare: Callable[..., LdosJob],
    dataset: Dataset,
    snapshots: Sequence[Snapshot],
    *,
    forces: bool = False,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> list[SnapshotCheck]:
    """Predict snapshots and compare each term with the DFT's.

    Args:
        prepare: ``LdosSurrogate.prepare``.
        dataset: of the same energy grid.
        snapshots: of the dataset.
        forces: also forces, three or four times slower.
        progress: called after each snapshot.

    Raises:
        InputError: as ``LdosSurrogate.prepare``, ``LdosJob.run`` and ``check_snapshot``.
    """
    found = []
    for done, s in enumerate(snapshots):
        progress(done, len(snapshots), s.id)
        atoms = ase.Atoms(s.numbers, s.positions, cell=s.cell, pbc=True)
        with_forces = forces and s.forces is not None
        job = prepare(atoms, temperature=s.temperature, grid=s.grid, forces="mean" if with_forces else "none")
        found.append(check_snapshot(job.run(), s, dataset))
    progress(len(snapshots), len(snapshots), "")
    return found


def _energy(name: str, check: SnapshotCheck) -> float | None:
    return check.energies[name]


# Name -> label, unit, and its value of a snapshot.
QUANTITIES: dict[str, tuple[str, str, Callable[[SnapshotCheck], float | None]]] = {
    **{name: (name.replace("_", " "), "meV/atom", partial(_energy, name)) for name in TERMS},
    "fermi_level": ("Fermi level", "meV", lambda c: c.fermi_level),
    "dos_rmse": ("DOS, root mean square", "1/(eV atom)", lambda c: c.dos_rmse),
    "density": ("density, ∫ |n - n_DFT| dr / N", "%", lambda c: None if c.density is None else 100 * c.density),
    "forces": ("force components", "eV/Å", lambda c: c.force_mae),
    "spread": ("spread of the free energy", "meV/atom", lambda c: c.spread.get("free_energy")),
    "furthest": ("beyond the training", "standard deviations", lambda c: c.furthest),
}


def summary(checks: Sequence[SnapshotCheck]) -> list[dict[str, Any]]:
    """A row a quantity and group of snapshots: mean |error| over those that have a reference, ``n`` of them.

    Two quantities are no errors: the standard deviation of the free energy over the initialisations, and how far the
    furthest grid point lies outside the range of the training.
    """
    groups = {group: [c for c in checks if c.group == group] for group in sorted({c.group for c in checks})}
    if len(groups) > 1:
        groups["all"] = list(checks)
    rows = []
    for name, (label, unit, value) in QUANTITIES.items():
        for group, part in groups.items():
            known = [abs(v) for c in part if (v := value(c)) is not None]
            if known:
                about = {"name": name, "quantity": label, "unit": unit, "group": group}
                rows.append(about | {"n": len(known), "mean_abs": float(np.mean(known))})
    return rows


def table(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of ``summary`` for people: a row a quantity, a column a group."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        line = found.setdefault(row["name"], {"quantity": row["quantity"], "unit": row["unit"]})
        line[f"{row['group']} ({row['n']})"] = row["mean_abs"]
    return list(found.values())


@dataclass(frozen=True, eq=False)
class LdosCheck:
    """A surrogate against the DFT: its judgement, and its errors snapshot by snapshot."""

    judgement: Judgement
    snapshots: list[SnapshotCheck]

    @property
    def accuracy(self) -> Accuracy:
        """As it is stated in a card."""
        return self.judgement.accuracy

    @property
    def units(self) -> dict[str, str]:
        """Of the errors of each snapshot; each row of ``terms`` has its unit beside it."""
        errors = {"energies": "meV/atom", "spread": "meV/atom", "fermi_level": "meV", "density": "electrons/electron"}
        return {**errors, "forces": "eV/Å", "dft_forces": "eV/Å"}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "accuracy": self.accuracy.to_dict(),
            "terms": summary(self.snapshots),
            "snapshots": [s.to_dict() for s in self.snapshots],
        }

    def rows(self) -> list[dict[str, Any]]:
        """A row a quantity, a column a group: mean |prediction - DFT|."""
        return table(summary(self.snapshots))

    def draw(self, path: Path) -> None:
        """Draw it as a PNG file, as ``draw``."""
        draw(path, self.snapshots, self.judgement.energy)


def draw(path: Path, checks: Sequence[SnapshotCheck], energy: Float64) -> None:
    """Draw errors by term, DOS and its error, and forces or densities, as a PNG file.

    Args:
        path: the file.
        checks: at least one.
        energy: of the DOS, (n_energy,) [eV].
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(11, 3.8), layout="constrained")
    by_term, dos, last = figure.subplots(1, 3)
    names = [t for t in TERMS if any(c.energies[t] is not None for c in checks)]
    groups = sorted({c.group for c in checks})
    for g, group in enumerate(groups):
        shift = 0.6 * ((g + 0.5) / len(groups) - 0.5)
        part = [c for c in checks if c.group == group]
        x = [i + shift for i, name in enumerate(names) for c in part if c.energies[name] is not None]
        y = [c.energies[name] for name in names for c in part if c.energies[name] is not None]
        by_term.plot(x, y, MARKS[g % len(MARKS)], color=COLORS[g % len(COLORS)], ms=5, alpha=0.8, label=group)
    by_term.axhline(0, color=GREY, lw=0.8)
    by_term.set_xticks(range(len(names)), [n.replace("_", "\n") for n in names], fontsize=8)
    by_term.set_yscale("symlog", linthresh=1.0)
    by_term.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    by_term.margins(y=0.12)
    by_term.set_ylabel("prediction - DFT [meV/atom]")
    by_term.legend(frameon=False, fontsize=8)
    worst = max(checks, key=lambda c: c.dos_rmse)
    dos.plot(energy, worst.dft_dos, color=REFERENCE, lw=1.2, label="DFT")
    dos.plot(energy, worst.dos, color=SURROGATE, lw=1.4, ls="--", label="surrogate")
    dos.set(xlabel="energy [eV]", ylabel="DOS [1/eV]", title=f"snapshot {worst.id}, the worst DOS of {len(checks)}")
    dos.legend(frameon=False)
    pairs = [(c.dft_forces, c.forces) for c in checks if c.forces is not None and c.dft_forces is not None]
    if pairs:
        true, found = (np.concatenate([np.ravel(p[i]) for p in pairs]) for i in range(2))
        ends = [min(true.min(), found.min()), max(true.max(), found.max())]
        last.plot(ends, ends, color=GREY, lw=0.8)
        last.plot(true, found, "o", color=SURROGATE, ms=4)
        last.set(xlabel="DFT force [eV/Å]", ylabel="predicted force [eV/Å]", title="force components")
    else:
        known = [(c.id, 100 * c.density) for c in checks if c.density is not None]
        last.bar([k[0] for k in known], [k[1] for k in known], color=SURROGATE)
        last.set(xlabel="snapshot", ylabel="∫ |n - n_DFT| dr / N [%]", title="density")
        last.tick_params(axis="x", labelrotation=90 if len(known) > 8 else 0)
    save(figure, path)
