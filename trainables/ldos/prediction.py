"""What a surrogate says of a structure: DOS, density, free energy and its terms, forces.  eV, Å, K."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from html import escape
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..data.shards import to_batches
from ..physics.units import K_B
from ..tables import text_table
from .accuracy import ENERGIES, Accuracy
from .error_bars import LIKE, QUANTITIES, ErrorBar, estimated, left_open
from .error_bars import UNKNOWN as TOO_OPEN
from .prediction_grid import spacing_of
from .ranges import NO_RANGES

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]
# Occupation at the top of the energy grid: beyond the first, where some 6 meV/atom of aluminium lie above the grid, a
# prediction carries a warning; beyond the second it is refused.
OCCUPIED, TOO_OCCUPIED = 1e-3, 0.05
GPA = 160.21766  # in an eV/Å³
NO_STATES = 0.01  # of the largest DOS: less than this around the Fermi level is a gap
# Standard deviations beyond the range of the training from where on a prediction carries a warning.  Trained on 18
# cells of 4 aluminium atoms: beyond, errors were 29 meV/atom and more in six cells of six; within, at most 13 in nine.
FAR = 0.4
NEAR = 1.25  # times the median distance of the validation snapshots: up to it errors are like those of the test set
MOST_TEMPERATURES = 1000  # of one prediction
UNKNOWN = 2.0  # times as far as the furthest validation snapshot: beyond, nothing is known of the errors

# Terms by their name in ``FreeEnergy`` and in ``Prediction``.
TERMS = {
    "fermi_level": "fermi_level",
    "band": "band_energy",
    "entropy": "entropy_term",
    "hartree": "hartree_energy",
    "xc": "xc_energy",
    "xc_potential": "xc_potential_energy",
    "ewald": "ewald_energy",
    "total": "free_energy",
}
# What is printed of a prediction, in the order of the sum A = E_b - τS - E_H + E_xc - ∫ v_xc n dr + E_Ewald.
LABELS = {
    "free_energy": "free energy",
    "band_energy": "  band energy",
    "entropy_term": "  entropy term -τS",
    "hartree_energy": "  Hartree energy (subtracted)",
    "xc_energy": "  xc energy",
    "xc_potential_energy": "  ∫ v_xc n dr (subtracted)",
    "ewald_energy": "  Ewald energy",
    "fermi_level": "Fermi level",
}
UNITS = {
    "energy": "eV",
    "dos": "1/eV",
    "dos_std": "1/eV",
    "forces": "eV/Å",
    "forces_std": "eV/Å",
    "largest_force": "eV/Å",
    "stress": "eV/Å³",
    "temperature": "K",
    "internal_energy": "eV",
    "heat_capacity": "eV/K",
    "seconds": "s",
    "furthest": "σ",
    "gap": "eV",
    "std": "eV",
    "spread": "eV",
    "estimated_errors": "eV",
    "forces_error": "eV/Å",
    "dos_error": "1/eV",
    **dict.fromkeys(TERMS.values(), "eV"),
}
OF_HEATED = UNITS | {"heat_capacity": "k_B/atom", "spread": "k_B/atom"}  # as a table has it
HEATED_ONLY = ("internal_energy", "heat_capacity")
LEFT_OUT = ("density", "symbols", "cell", "unlike", "left_out", "known")  # of JSON


@dataclass(frozen=True)
class Heated:
    """Electrons at one temperature: means over T initialisations, ``std`` their standard deviations.

    temperature: τ [K].  In eV per cell free_energy A and internal_energy A + τS, None when the model does not know the
    functional of its DFT; entropy_term -τS; fermi_level [eV]; heat_capacity C = τ ∂S/∂τ at a constant cell [eV/K].
    """

    temperature: float
    free_energy: float | None
    internal_energy: float | None
    entropy_term: float
    fermi_level: float
    heat_capacity: float
    std: dict[str, float]

    def row(self, n_atoms: int) -> dict[str, Any]:
        """A row of a table for people, with the units of ``OF_HEATED``."""
        energies = ("free_energy", "internal_energy", "entropy_term", "fermi_level")
        known = {name: f"{value:.4f}" for name in energies if (value := getattr(self, name)) is not None}
        capacity, spread = (value / K_B / n_atoms for value in (self.heat_capacity, self.std["heat_capacity"]))
        return {"temperature": self.temperature, **known, "heat_capacity": capacity, "spread": spread}


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the surrogate says of a structure: means over T initialisations, ``std`` their standard deviations.

    The standard deviation is the spread of T trainings and no error bar: what all of them miss is not in it.
    ``accuracy`` has the error on test snapshots, and how errors are estimated: ``estimated_errors`` of energies [eV],
    ``dos_error`` (n_energy,) [1/eV] and, with the spread of forces, ``forces_error`` (n_atoms, 3) [eV/Å].  Where
    ``expected_errors`` is unknown, these are what the training leaves open, and errors may be far larger.

    Energies in eV per cell: band_energy E_b, entropy_term -τS, hartree_energy E_H[n], xc_energy E_xc[n + n_core],
    xc_potential_energy ∫ v_xc[n + n_core] n dr, ewald_energy, and
    free_energy A = E_b - τS - E_H + E_xc - ∫ v_xc n dr + E_Ewald (Fiedler et al. 2022, Eq. 12).  From the Hartree
    energy on they are None when the model does not know the functional of its DFT.

    symbols (n_atoms,), cell (3, 3) [Å]: of the structure.  fermi_level [eV]; energy (n_energy,) [eV]; dos, dos_std
    (n_energy,) [1/eV]; gap: width of the range around the Fermi level without states [eV], 0 for a metal; density
    (nx, ny, nz) [1/Å³].  Where asked for, forces, forces_std (n_atoms, 3) [eV/Å] and the stress ∂A/∂ε / Ω, negative
    under pressure, stress, stress_std (3, 3) [eV/Å³].  outside: share of grid points whose descriptors lie outside the
    range of the training; furthest: by how many standard deviations the furthest of them does.  top_occupation: f at
    the top of the energy grid.  seconds: where the time went.

    distance: from the training; usual_distance: the largest one of a validation snapshot, in the same unit. Where the
    last layer is in closed form it is σ of the energy, the largest one 1; else that of ``Neighbours``, the median one
    1. unlike: in which respects the cell is outside the training. left_out: what the structure says that the prediction
    does not depend on. heated: the same electrons at other temperatures, if asked for. known: as in ``known.known``.
    """

    symbols: tuple[str, ...]
    cell: Float64
    n_atoms: int
    n_electrons: float
    grid: tuple[int, int, int]
    temperature: float
    fermi_level: float
    band_energy: float
    entropy_term: float
    hartree_energy: float | None
    xc_energy: float | None
    xc_potential_energy: float | None
    ewald_energy: float | None
    free_energy: float | None
    std: dict[str, float]
    gap: float
    outside: float
    furthest: float
    top_occupation: float
    energy: Float64
    dos: Float64
    dos_std: Float64
    density: Float64
    forces: Float64 | None
    forces_std: Float64 | None
    stress: Float64 | None
    stress_std: Float64 | None
    seconds: dict[str, float]
    distance: float | None = None
    usual_distance: float | None = None
    accuracy: Accuracy | None = None
    unlike: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    known: Mapping[str, Float64] = field(default_factory=dict)
    heated: tuple[Heated, ...] = ()

    @property
    def expected_errors(self) -> str:
        """What the place of the structure beside the training says of its errors."""
        tested = self.accuracy is None or self.accuracy.judged_on == "test"
        stated = f"those of the {'test set' if tested else 'validation snapshots'}"
        if (open_ := self.left_open) is not None:
            name, times = open_
            if self.unlike or self.furthest > FAR or times > TOO_OPEN:
                return "unknown"
            about = f"about {1e3 * self.estimated_errors[name] / self.n_atoms:.2g} meV/atom in the {ENERGIES[name]}"
            return f"like {stated}" if times <= LIKE else about
        if self.unlike or self.furthest > FAR or self.distance is None or self.usual_distance is None:
            return "unknown"
        if self.distance <= NEAR:
            return f"like {stated}"
        if self.distance <= UNKNOWN * self.usual_distance:
            return f"about {self.distance**2:.1f} times {stated}"
        return "unknown"

    @property
    def outside_training(self) -> list[str]:
        """Why the structure is unlike those of the training, a sentence each."""
        found = list(self.unlike)
        if (open_ := self.left_open) is not None and open_[1] > LIKE:
            found.append(
                f"the training leaves the {ENERGIES[open_[0]]} {open_[1]:.3g} times as far open as that of the worst "
                f"validation snapshot: errors are {self.expected_errors}"
            )
        if self.distance is not None and self.distance > NEAR:
            found.append(
                f"the descriptors are {self.distance:.3g} times as far from those of the training as is usual for "
                f"validation snapshots: errors are {self.expected_errors}"
            )
        if self.furthest > FAR:
            found.append(
                f"{100 * self.outside:.3g} % of the grid points have descriptors outside the range of the training, "
                f"by up to {self.furthest:.1f} standard deviations: the network extrapolates"
            )
        return found

    @property
    def warnings(self) -> list[str]:
        """Reasons to trust the numbers less, a sentence each."""
        found = [*self.outside_training, *self.left_out]
        if self.top_occupation > OCCUPIED:
            found.append(
                f"the energy grid of the model ends where the occupation is {self.top_occupation:.2g}: energies miss "
                "what lies above"
            )
        if self.gap > 0:
            found.append(
                f"no metal: the DOS vanishes over {self.gap:.2g} eV around the Fermi level (the "
                "broadening of the LDOS hides about two of its widths more)"
            )
        return found

    @property
    def units(self) -> Mapping[str, str]:
        """Of the values that there are: some are there at other temperatures only."""
        return UNITS if self.heated else {name: unit for name, unit in UNITS.items() if name not in HEATED_ONLY}

    @property
    def spread_of(self) -> str:
        """What the standard deviations are."""
        return "spread of the trainings" if self.accuracy is None else self.accuracy.spread_of

    @property
    def estimated_errors(self) -> dict[str, float]:
        """Energy -> its error, estimated as ``accuracy`` says, where that is known [eV]."""
        known = {name: estimated(self._bars, name, self.std.get(name), self.known) for name in ENERGIES}
        return {name: float(error) for name, error in known.items() if error is not None}

    @property
    def forces_error(self) -> Float64 | None:
        """Estimated errors of the forces, where their spread was asked for, (n_atoms, 3) [eV/Å]."""
        return estimated(self._bars, "forces", self.forces_std, self.known)

    @property
    def dos_error(self) -> Float64 | None:
        """Estimated error of the DOS, where that is known, (n_energy,) [1/eV]."""
        return estimated(self._bars, "dos", self.dos_std, self.known)

    @property
    def _bars(self) -> Mapping[str, ErrorBar]:
        return {} if self.accuracy is None else self.accuracy.error_bars

    @property
    def left_open(self) -> tuple[str, float] | None:
        """An energy and its σ, as ``error_bars.left_open``."""
        return left_open(self._bars, self.estimated_errors, self.n_atoms)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; all but the density and the structure."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in LEFT_OUT}
        plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}
        plain["heated"] = [asdict(one) for one in self.heated]
        return plain | {
            "spread_of": self.spread_of,
            "estimated_errors": self.estimated_errors,
            "forces_error": None if (forces := self.forces_error) is None else forces.tolist(),
            "dos_error": None if (dos := self.dos_error) is None else dos.tolist(),
            "expected_errors": self.expected_errors,
            "warnings": self.warnings,
            "accuracy": self.accuracy and self.accuracy.to_dict(),
        }

    @property
    def _how_accurate(self) -> list[str]:
        """What the spread is, and how large errors are."""
        if (accuracy := self.accuracy) is None:
            return []
        found = [accuracy.beside_spread]
        if self.expected_errors == "unknown":
            return [*found, "no error is estimated, as errors to expect are unknown"]
        for name, error in self.estimated_errors.items():
            size = f"{1e3 * error / self.n_atoms:.1f} meV/atom"
            found.append(f"estimated error of the {ENERGIES[name]}: {size}, {accuracy.estimate(name)}")
        for name, errors, unit in (("forces", self.forces_error, "eV/Å"), ("dos", self.dos_error, "1/eV")):
            if errors is not None:
                size = f"{np.sqrt(np.mean(errors**2)):.2g} {unit}, root mean square"
                found.append(f"estimated error of the {QUANTITIES[name]}: {size}, {accuracy.estimate(name)}")
        return found

    def lines(self) -> list[str]:
        """For people, without the structure's name."""
        found = [
            f"{self.n_atoms} atoms, {self.n_electrons:g} electrons at {self.temperature:.1f} K",
            f"  grid {' x '.join(map(str, self.grid))}: {spacing_of(self.grid, self.cell):.4f} Å apart",
            f"  energies [eV], {self.spread_of} in brackets",
        ]
        for name, label, value, std in self._energies():
            more = f"   {value / self.n_atoms:.5f} eV/atom" if name == "free_energy" else ""
            found.append(f"    {label:30s}{value:14.4f} ({std:.4f}){more}")
        found += [f"  {text}" for text in self._how_accurate]
        found += self._force_lines()
        if self.stress is not None:
            pressure = -np.trace(self.stress) / 3 * GPA
            tensor = ", ".join(f"{x:.3f}" for x in self.stress.ravel()[[0, 4, 8, 5, 2, 1]] * GPA)
            found.append(f"  stress xx, yy, zz, yz, xz, xy: {tensor} GPa (a pressure of {pressure:.3f} GPa)")
        share = f"{100 * self.outside:.2g} % of the grid points, by up to {self.furthest:.2g} standard deviations"
        none = "unknown" if NO_RANGES in self.unlike else "none"
        found.append(f"  outside the training range: {share if self.outside else none}")
        found.append(f"  errors to expect: {self.expected_errors}")
        if self.heated:
            table = text_table([one.row(self.n_atoms) for one in self.heated], units=OF_HEATED)
            found += [
                f"  electrons at other temperatures, {self.spread_of} of the heat capacity",
                *map("    ".__add__, table),
            ]
        found.append("  time: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in self.seconds.items()))
        return found

    def _force_lines(self) -> list[str]:
        """Forces, and beside them their spread where it was asked for."""
        if self.forces is None:
            return []
        beside = "" if self.forces_std is None else f", {self.spread_of} in brackets"
        found = [f"  forces x, y, z [eV/Å]{beside}"]
        for i, (symbol, force) in enumerate(zip(self.symbols, self.forces, strict=True)):
            spreads = [""] * 3 if self.forces_std is None else [f" ({s:.4f})" for s in self.forces_std[i]]
            numbers = "  ".join(f"{f:9.4f}{s}" for f, s in zip(force, spreads, strict=True))
            found.append(f"    {symbol:2s}  {numbers}")
        return found

    def row(self) -> dict[str, Any]:
        """A row of a table of many predictions."""
        total = self.free_energy
        return {
            "atoms": self.n_atoms,
            "grid": "x".join(map(str, self.grid)),
            "free_energy": None if total is None else f"{total:.4f}",
            "spread": None if total is None else f"{self.std['free_energy']:.4f}",
            "fermi_level": f"{self.fermi_level:.4f}",
            "largest_force": None if self.forces is None else float(np.abs(self.forces).max()),
            "furthest": round(self.furthest, 2),
            "seconds": round(sum(self.seconds.values()), 2),
        }

    def _energies(self) -> list[tuple[str, str, float, float]]:
        """Name, label, mean and standard deviation [eV] of the energies that are known."""
        known = {name: value for name in LABELS if (value := getattr(self, name)) is not None}
        return [(name, LABELS[name], value, self.std[name]) for name, value in known.items()]

    def __repr__(self) -> str:
        name = "band_energy" if self.free_energy is None else "free_energy"
        return (
            f"<Prediction of {self.n_atoms} atoms at {self.temperature:.0f} K: {LABELS[name].strip()} "
            f"{getattr(self, name):.4f} eV, {self.spread_of} {self.std[name]:.4f} eV, "
            f"Fermi level {self.fermi_level:.2f} eV{''.join(f'; {text}' for text in self._how_accurate[:1])}>"
        )

    def _repr_html_(self) -> str:
        """A table of the energies, for notebooks."""
        rows = "".join(
            f"<tr><td>{escape(label)}</td><td>{value:.4f} eV</td><td>{std:.4f} eV</td></tr>"
            for _, label, value, std in self._energies()
        )
        notes = "".join(f"<p>{escape(text)}</p>" for text in (*self._how_accurate, *self.warnings))
        head = f"<tr><th></th><th></th><th>{escape(self.spread_of)}</th></tr>"
        return f"<table><caption>{escape(self.lines()[0])}</caption>{head}{rows}</table>{notes}"


def density_batches(prediction: Prediction) -> list[pa.RecordBatch]:
    """The density as Arrow record batches: one column in C order of the grid [1/Å³]."""
    about = {"grid": str(prediction.grid), "axes": "grid point (C order)", "unit": "1/Å³"}
    return to_batches(prediction.density.reshape(-1), "density", about)


def ldos_batches(ldos: Float32) -> list[pa.RecordBatch]:
    """An LDOS (nx, ny, nz, n_energy) as Arrow record batches: a list of energies a grid point [1/(eV Å³)]."""
    nx, ny, nz, n_energy = ldos.shape
    axes, unit = "grid point (C order), energy", "1/(eV Å³), both spins summed"
    about = {"grid": str((nx, ny, nz)), "axes": axes, "unit": unit}
    return to_batches(ldos.reshape(-1, n_energy), "ldos", about)


def gap(dos: Float64, energy: Float64, *, fermi_level: float) -> float:
    """Width of the range around the Fermi level where the DOS is below 1 % of its largest value; 0 for a metal [eV].

    Args:
        dos: D, (n_energy,) [1/eV].
        energy: ε, (n_energy,) [eV].
        fermi_level: ε_F [eV].
    """
    fine = np.linspace(energy[0], energy[-1], 20 * len(energy))
    with_states = np.interp(fine, energy, dos) > NO_STATES * dos.max()
    below, above = fine[with_states & (fine <= fermi_level)], fine[with_states & (fine > fermi_level)]
    if len(below) == 0 or len(above) == 0:
        return 0.0
    width = float(above[0] - below[-1])
    return width if width > 1.5 * (fine[1] - fine[0]) else 0.0
