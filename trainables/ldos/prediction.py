"""What a surrogate says of a structure: DOS, density, free energy and its terms, forces.  eV, Å, K.

The grid is worked on in slabs.  Besides the densities of T initialisations nothing grows with it: descriptors wait in
a file, and the LDOS is predicted again where it would be too much to keep.
"""

import math
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pyarrow as pa
from ase.data import atomic_numbers
from numpy.typing import NDArray

from ..data.shards import to_batches
from ..descriptors.bispectrum import bispectrum, bispectrum_forces
from ..descriptors.slabs import SLAB, Slab, slabs
from ..physics.core_charge import core_density, core_forces
from ..physics.energies import Energies, energies
from ..physics.ewald import ewald
from ..physics.free_energy import (
    LdosGradient,
    density_energies,
    density_gradient,
    free_energy,
    ldos_gradient,
)
from ..physics.local import density, density_response
from ..physics.quadrature import Quadrature
from ..physics.reciprocal import DensitySphere
from ..physics.smearing import fermi_dirac
from .inference import predict_ldos, pull_back

if TYPE_CHECKING:
    from ...platform.model.model import Model

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]
Forces = Literal["none", "mean", "spread"]
Progress = Callable[[str, int, int], None]  # what is computed, grid points done, of how many
IN_MEMORY = 256 * 2**20  # bytes of descriptors that wait in memory and not in a file, and of LDOS that is kept
SLAB_OF_FORCES = 4096  # grid points: a smaller slab ends sooner when the user stops, after three seconds
# Occupation at the top of the energy grid: beyond the first, where some 6 meV/atom of aluminium lie above the grid, a
# prediction carries a warning; beyond the second it is refused.
OCCUPIED, TOO_OCCUPIED = 1e-3, 0.05
NO_STATES = 0.01  # of the largest DOS: less than this around the Fermi level is a gap
# Standard deviations beyond the range of the training from where on a prediction carries a warning.  Trained on 18
# cells of 4 aluminium atoms: beyond, errors were 29 meV/atom and more in six cells of six; within, at most 13 in nine.
FAR = 0.4


def quiet(what: str, done: int, total: int) -> None:
    """No progress."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the surrogate says of a structure: means over T initialisations, ``std`` their standard deviations.

    Energies in eV per cell: band_energy E_b, entropy_term -τS, hartree_energy E_H[n], xc_energy E_xc[n + n_core],
    xc_potential_energy ∫ v_xc[n + n_core] n dr, ewald_energy, and
    free_energy A = E_b - τS - E_H + E_xc - ∫ v_xc n dr + E_Ewald (Fiedler et al. 2022, Eq. 12).  From the Hartree
    energy on they are None when the model does not know the functional of its DFT.

    fermi_level [eV]; energy (n_energy,) [eV]; dos, dos_std (n_energy,) [1/eV]; gap: width of the range around the
    Fermi level without states [eV], 0 for a metal; density (nx, ny, nz) [1/Å³]; forces, forces_std (n_atoms, 3) [eV/Å]
    where asked for.  outside: share of grid points whose descriptors lie outside the range of the training; furthest:
    by how many standard deviations the furthest of them does.  top_occupation: f at the top of the energy grid.
    seconds: where the time went.
    """

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
    seconds: dict[str, float]

    @property
    def warnings(self) -> list[str]:
        """Reasons to trust the numbers less, a sentence each."""
        found = []
        if self.furthest > FAR:
            found.append(
                f"{100 * self.outside:.3g} % of the grid points have descriptors outside the range of the training, "
                f"by up to {self.furthest:.1f} standard deviations: the network extrapolates"
            )
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

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; all but the density."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "density"}
        plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}
        return plain | {"warnings": self.warnings}


def density_batches(prediction: Prediction) -> list[pa.RecordBatch]:
    """The density as Arrow record batches: one column in C order of the grid [1/Å³]."""
    about = {"grid": str(prediction.grid), "axes": "grid point (C order)", "unit": "1/Å³"}
    return to_batches(prediction.density.reshape(-1), "density", about)


def ldos_batches(ldos: Float32) -> list[pa.RecordBatch]:
    """An LDOS (nx, ny, nz, n_energy) as Arrow record batches: a list of energies a grid point [1/(eV Å³)]."""
    nx, ny, nz, n_energy = ldos.shape
    about = {
        "grid": str((nx, ny, nz)),
        "axes": "grid point (C order), energy",
        "unit": "1/(eV Å³), both spins summed",
    }
    return to_batches(ldos.reshape(-1, n_energy), "ldos", about)


def predict(
    model: "Model",
    cell: Float64,
    positions: Float64,
    numbers: NDArray[np.integer],
    valences: Float64,
    *,
    grid: tuple[int, int, int],
    temperature: float,
    forces: Forces = "none",
    ldos: Float32 | None = None,
    cpus: int = 1,
    progress: Progress = quiet,
) -> Prediction:
    """Predict the electronic structure of atoms in a checked cell.

    Args:
        model: the surrogate.
        cell: lattice vectors as rows, (3, 3) [Å].
        positions: (n_atoms, 3) [Å].
        numbers: atomic numbers, (n_atoms,).
        valences: electrons that each atom brings, (n_atoms,).
        grid: numbers of points along the cell vectors.
        temperature: τ [K].
        forces: ``none``; ``mean``, the forces of the mean free energy; ``spread``, with their standard deviations, at
            T times the cost.
        ldos: an array to put the mean LDOS into, in memory or mapped from a file, (nx, ny, nz, n_energy) [1/(eV Å³)].
        cpus: threads that compute descriptors and forces.
        progress: called after each slab.

    Raises:
        ValueError: a predicted DOS cannot hold the electrons, states at the top of the energy grid are occupied, or the
            grid is too coarse for the plane waves of the density.
    """
    largest = min(SLAB if forces == "none" else SLAB_OF_FORCES, math.ceil(math.prod(grid) / cpus))
    parts = list(slabs(grid, largest))
    with _Run(model, cell, positions, numbers, valences, temperature, grid, parts, cpus, progress) as run:
        run.describe()
        run.integrate(ldos, slopes=forces != "none")
        terms = run.terms()
        found = run.forces(each=forces == "spread") if forces != "none" else None
    means = {name: float(values.mean()) for name, values in terms.items()}
    return Prediction(
        n_atoms=len(numbers),
        n_electrons=run.electrons,
        grid=run.grid,
        temperature=temperature,
        **dict.fromkeys(TERMS.values()) | means,  # type: ignore[arg-type]
        std={name: float(values.std()) for name, values in terms.items()},
        gap=gap(run.dos.mean(axis=0), run.quadrature.energy, fermi_level=means["fermi_level"]),
        outside=run.n_outside / run.n_points,
        furthest=run.furthest,
        top_occupation=run.top_occupation,
        energy=run.quadrature.energy,
        dos=run.dos.mean(axis=0),
        dos_std=run.dos.std(axis=0),
        density=run.density.mean(axis=0),
        forces=None if found is None else found.mean(axis=0),
        forces_std=found.std(axis=0) if found is not None and forces == "spread" else None,
        seconds=run.seconds,
    )


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


@dataclass(eq=False)
class _Run:
    """One structure on its grid, and what the passes over it have found; arrays over T initialisations first."""

    model: "Model"
    cell: Float64
    positions: Float64
    numbers: NDArray[np.integer]
    valences: Float64
    temperature: float
    grid: tuple[int, int, int]
    slabs: list[Slab]
    cpus: int
    progress: Progress

    def __post_init__(self) -> None:
        card, n_initializations = self.model.card, self.model.card.n_initializations
        self.n_points, self.volume = math.prod(self.grid), float(abs(np.linalg.det(self.cell)))
        self.electrons = float(self.valences.sum())
        self.quadrature: Quadrature = card.energy_grid.quadrature()
        self.seconds: dict[str, float] = {}
        self.dos = np.zeros((n_initializations, card.energy_grid.n_energy))
        self.density = np.empty((n_initializations, *self.grid))
        self.n_outside, self.furthest = 0, 0.0
        self.energies: list[Energies] = []
        self.settings, self.dft = card.descriptors, card.dft
        self._kept: dict[tuple[float, float, float], Float32] = {}  # by the slab's origin
        self._pool = ThreadPoolExecutor(self.cpus)
        self._waiting = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 (closed by __exit__)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._waiting.close()

    @contextmanager
    def _clock(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def _parallel(self, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Results of a LAMMPS function in the order of its tasks, some of them computed ahead, a thread a CPU.

        LAMMPS works outside of Python's lock, and its instances know nothing of each other.
        """
        waiting: deque[Future[Any]] = deque()
        for task in tasks:
            waiting.append(self._pool.submit(function, *task))
            if len(waiting) > 2 * self.cpus:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _descriptors(self) -> Iterator[tuple[Slab, Float32]]:
        """Slab after slab what ``describe`` has computed, (n_points, n_components)."""
        self._waiting.seek(0)
        n_components = self.settings.n_components
        for slab in self.slabs:
            content = self._waiting.read(4 * math.prod(slab.grid) * n_components)
            yield slab, np.frombuffer(content, dtype=np.float32).reshape(-1, n_components)

    def _ldos(self, slab: Slab, descriptors: Float32) -> Float32:
        """(T, n_points, n_energy) [1/(eV Å³)], kept for the next pass where memory allows."""
        if slab.origin in self._kept:
            return self._kept[slab.origin]
        found = np.concatenate(list(predict_ldos(self.model.network, self.model.scaling, [descriptors])), axis=1)
        if 4 * self.n_points * self.dos.size <= IN_MEMORY:
            self._kept[slab.origin] = found
        return found

    def describe(self) -> None:
        """First pass: descriptors, the DOS, and from it the energies."""
        tasks = (
            (self.cell, slab.shifted(self.cell, self.positions), self.numbers, slab.grid, self.settings)
            for slab in self.slabs
        )
        done, found = 0, self._parallel(bispectrum, tasks)
        for slab in self.slabs:
            with self._clock("descriptors"):
                values = next(found)
                self._waiting.write(values.tobytes())
            with self._clock("network"):
                beyond = self.model.scaling.beyond(values)
                self.n_outside += int(np.count_nonzero(beyond))
                self.furthest = max(self.furthest, float(beyond.max()))
                self.dos += self._ldos(slab, values).sum(axis=1, dtype=np.float64) * (self.volume / self.n_points)
            done += len(values)
            self.progress("descriptors", done, self.n_points)
        with self._clock("physics"):
            at = {"electrons": self.electrons, "temperature": self.temperature}
            self.energies = [energies(dos, self.quadrature, **at) for dos in self.dos]
        top, level = self.quadrature.energy[-1], max(e.fermi_level for e in self.energies)
        self.top_occupation = float(fermi_dirac(top, fermi_level=level, temperature=self.temperature))
        if self.top_occupation > TOO_OCCUPIED:
            raise ValueError(
                f"at {self.temperature:g} K the occupation is {self.top_occupation:.2g} at {top:g} eV, where the "
                "energy grid of this model ends; choose a lower temperature or a less compressed cell"
            )

    def integrate(self, ldos: Float32 | None, *, slopes: bool) -> None:
        """Second pass: the density, on request its answer ∂n/∂ε_F, and the mean LDOS into ``ldos``."""
        if slopes:
            self.response = np.empty_like(self.density)
        for slab, descriptors in self._descriptors():
            with self._clock("network"):
                values = self._ldos(slab, descriptors)
                for t, e in enumerate(self.energies):
                    at = {"fermi_level": e.fermi_level, "temperature": self.temperature}
                    self.density[t][slab.index] = density(values[t], self.quadrature, **at).reshape(slab.grid)
                    if slopes:
                        n = density_response(values[t], self.quadrature, **at)
                        self.response[t][slab.index] = n.reshape(slab.grid)
                if ldos is not None:
                    ldos[slab.index] = values.mean(axis=0).reshape(*slab.grid, -1)

    def terms(self) -> dict[str, Float64]:
        """Fermi level and energies by name, each (T,) [eV]; those of the density where the functional is known."""
        if self.dft is None:
            found = {n: [getattr(e, n) for e in self.energies] for n in ("fermi_level", "band", "entropy")}
            return {TERMS[name]: np.array(values) for name, values in found.items()}
        with self._clock("physics"):
            ions, self.ion_forces = ewald(self.cell, self.positions, self.valences)
            parts = [density_energies(n, self.sphere, self.dft.functional, self.core) for n in self.density]
            each = [free_energy(e, part, ewald=ions) for e, part in zip(self.energies, parts, strict=True)]
        return {name: np.array([getattr(e, field) for e in each]) for field, name in TERMS.items()}

    @cached_property
    def sphere(self) -> DensitySphere:
        """The plane waves of the density; asked for only where the DFT is known."""
        assert self.dft is not None
        return DensitySphere(self.cell, self.grid, self.dft.density_cutoff)

    def _cores(self) -> Iterator[tuple[NDArray[np.bool_], Float64, Float64]]:
        """For each species with a core charge: which atoms, radii [Å] and densities [1/Å³]."""
        assert self.dft is not None
        for symbol, charge in self.dft.core_charges.items():
            yield self.numbers == atomic_numbers[symbol], np.array(charge.radius), np.array(charge.density)

    @cached_property
    def core(self) -> Float64 | None:
        """Core charge of the nonlinear core correction on the grid, None without one [1/Å³]."""
        cores = [core_density(self.sphere, self.positions[atoms], *charge) for atoms, *charge in self._cores()]
        return np.sum(cores, axis=0) if cores else None

    def forces(self, *, each: bool) -> Float64:
        """Third pass: minus the total derivative of the free energy, (T, n_atoms, 3), or (1, ...) of its mean [eV/Å].

        The derivative leads back through the energies to the LDOS of each grid point (``ldos_gradient``), through the
        network to its descriptors (``pull_back``), and through the bispectrum to the atoms
        (``bispectrum_forces``).
        """
        assert self.dft is not None
        from_core = np.zeros((len(self.dos), *self.positions.shape))
        gradients: list[LdosGradient] = []
        with self._clock("physics"):
            for t, n in enumerate(self.density):
                by_density, by_core = density_gradient(n, self.sphere, self.dft.functional, self.core)
                gradients.append(
                    ldos_gradient(
                        by_density,
                        self.response[t],
                        self.dos[t],
                        self.quadrature,
                        volume=self.volume,
                        fermi_level=self.energies[t].fermi_level,
                        temperature=self.temperature,
                    )
                )
                for atoms, *charge in self._cores():
                    from_core[t, atoms] = core_forces(by_core, self.sphere, self.positions[atoms], *charge)
        forces = self.ion_forces + (from_core if each else from_core.mean(axis=0, keepdims=True))
        found = self._parallel(bispectrum_forces, self._pulls(gradients, each))
        done = 0
        for slab in self.slabs:
            for t in range(len(forces)):
                with self._clock("forces"):
                    forces[t] += next(found)
            done += math.prod(slab.grid)
            self.progress("forces", done, self.n_points)
        return forces

    def _pulls(self, gradients: Sequence[LdosGradient], each: bool) -> Iterator[tuple[Any, ...]]:
        """Arguments of ``bispectrum_forces``: for each slab those of all initialisations, or of their mean."""
        point = self.volume / self.n_points  # Å³ that a grid point stands for
        for slab, descriptors in self._descriptors():
            by_ldos = [point * (g.constant + g.potential[slab.index].reshape(-1, 1) * g.weights) for g in gradients]
            by_descriptor = pull_back(self.model.network, self.model.scaling, descriptors, np.array(by_ldos))
            seen = slab.shifted(self.cell, self.positions)
            for g in by_descriptor if each else by_descriptor.mean(axis=0, keepdims=True):
                yield self.cell, seen, self.numbers, slab.grid, self.settings, g
