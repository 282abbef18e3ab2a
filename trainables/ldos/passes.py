"""The passes over the grid of a structure that make a prediction.  eV, Å, K.

The grid is worked on in slabs.  Besides the densities of T initialisations nothing grows with it: descriptors wait in
a file, and the network is asked again where its last hidden layer would be too much to keep.  The LDOS is made only
where somebody wants to have it: its sums follow from those of the hidden layer (``LastLayer``).
"""

import math
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal, Self

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray
from torch import Tensor

from ..data.cores import core_charges, core_on
from ..data.energy_grid import EnergyGrid
from ..data.kohn_sham import KohnSham
from ..descriptors.bispectrum import bispectrum, bispectrum_forces
from ..descriptors.settings import BispectrumSettings
from ..descriptors.slabs import SLAB, Slab, slabs
from ..kind import Tell, quiet
from ..physics.core_charge import core_forces
from ..physics.energies import Energies, energies
from ..physics.ewald import ewald
from ..physics.free_energy import (
    LdosGradient,
    density_gradient,
    density_strain,
    ldos_gradient,
)
from ..physics.local import density, density_response
from ..physics.quadrature import Quadrature
from ..physics.reciprocal import DensitySphere
from ..physics.smearing import fermi_dirac
from .heating import heated
from .inference import LastLayer, integrated, last_hidden, pull_back
from .known import known, structure
from .neighbours import Neighbours
from .network import Network
from .prediction import TERMS, TOO_OCCUPIED, Prediction, gap
from .readout.electrons import Electrons, Ions
from .readout.posterior import Posterior
from .total_energy import all_terms
from .training_data import Scaling

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]
Forces = Literal["none", "mean", "spread"]
IN_MEMORY = 256 * 2**20  # bytes of descriptors that wait in memory and not in a file
KEPT = 512 * 2**20  # bytes of the hidden layer that are kept; of 32 atoms on 40³ points 256 neurons have 328 MB
SLAB_OF_FORCES = 4096  # grid points: a smaller slab ends sooner when the user stops, after three seconds


def predict(
    network: Network,
    scaling: Scaling,
    *,
    neighbours: Neighbours | None = None,
    posterior: Posterior | None = None,
    descriptors: BispectrumSettings,
    energy_grid: EnergyGrid,
    dft: KohnSham | None,
    cell: Float64,
    positions: Float64,
    numbers: NDArray[np.integer],
    valences: Float64,
    grid: tuple[int, int, int],
    temperature: float,
    temperatures: Sequence[float] = (),
    forces: Forces = "none",
    stress: bool = False,
    ldos: Float32 | None = None,
    cpus: int = 1,
    progress: Tell = quiet,
) -> Prediction:
    """Predict the electronic structure of atoms in a checked cell.

    Args:
        network, scaling: as trained, T initialisations.
        neighbours: points of the training; None where they are not known.
        posterior: of the last layer, where it is in closed form.
        descriptors: of the grid points.
        energy_grid: of the LDOS; relative to what the network says of the structure where it has a reference.
        dft: what the free energy needs besides the LDOS; None where it is not known, and then there are no forces.
        cell: lattice vectors as rows, (3, 3) [Å].
        positions: (n_atoms, 3) [Å].
        numbers: atomic numbers, (n_atoms,).
        valences: electrons that each atom brings, (n_atoms,).
        grid: numbers of points along the cell vectors.
        temperature: τ [K].
        temperatures: more of them, for ``heated`` [K].
        forces: ``none``; ``mean``, the forces of the mean free energy; ``spread``, with their standard deviations, at
            T times the cost.
        stress: also the stress, where there are forces; of the same mean or spread.
        ldos: an array to put the mean LDOS into, in memory or mapped from a file, (nx, ny, nz, n_energy) [1/(eV Å³)].
        cpus: threads that compute descriptors and forces.
        progress: called after each slab.

    Raises:
        ValueError: a predicted DOS cannot hold the electrons, states at the top of the energy grid are occupied, or the
            grid is too coarse for the plane waves of the density.
    """
    largest = min(SLAB if forces == "none" else SLAB_OF_FORCES, math.ceil(math.prod(grid) / cpus))
    parts = list(slabs(grid, largest))
    model = network, scaling, neighbours, posterior, descriptors, energy_grid, dft
    with _Run(*model, cell, positions, numbers, valences, temperature, grid, parts, cpus, progress) as run:
        run.describe(hottest=max([temperature, *temperatures]))
        run.integrate(ldos, slopes=forces != "none" or (posterior is not None and dft is not None))
        terms = run.terms()
        errors = run.known(forces=forces == "spread")
        found, stresses = run.forces(each=forces == "spread", stress=stress) if forces != "none" else (None, None)
    warm = heated(
        run.dos,
        run.quadrature,
        run.energies,
        run.levels,
        terms.get("free_energy"),
        electrons=run.electrons,
        temperatures=temperatures,
    )
    means = {name: float(values.mean()) for name, values in terms.items()}
    energy = run.quadrature.energy + run.levels.mean()
    return Prediction(
        symbols=tuple(chemical_symbols[n] for n in numbers),
        cell=cell,
        n_atoms=len(numbers),
        n_electrons=run.electrons,
        grid=run.grid,
        temperature=temperature,
        **dict.fromkeys(TERMS.values()) | means,  # type: ignore[arg-type]
        std={name: float(values.std()) for name, values in terms.items()},
        known=errors,
        gap=gap(run.dos.mean(axis=0), energy, fermi_level=means["fermi_level"]),
        outside=run.n_outside / run.n_points,
        furthest=run.furthest,
        distance=None if neighbours is None else math.sqrt(run.squares / run.n_points) / neighbours.usual,
        usual_distance=None if neighbours is None else neighbours.largest,
        top_occupation=run.top_occupation,
        energy=energy,
        dos=run.dos.mean(axis=0),
        dos_std=run.dos.std(axis=0),
        density=run.density.mean(axis=0),
        forces=None if found is None else found.mean(axis=0),
        forces_std=found.std(axis=0) if found is not None and forces == "spread" else None,
        stress=None if stresses is None else stresses.mean(axis=0),
        stress_std=stresses.std(axis=0) if stresses is not None and forces == "spread" else None,
        seconds=run.seconds,
        heated=tuple(warm),
    )


@dataclass(eq=False)
class _Run:
    """One structure on its grid, and what the passes over it have found; arrays over T initialisations first."""

    network: Network
    scaling: Scaling
    neighbours: Neighbours | None
    posterior: Posterior | None
    settings: BispectrumSettings
    energy_grid: EnergyGrid
    dft: KohnSham | None
    cell: Float64
    positions: Float64
    numbers: NDArray[np.integer]
    valences: Float64
    temperature: float
    grid: tuple[int, int, int]
    slabs: list[Slab]
    cpus: int
    progress: Tell

    def __post_init__(self) -> None:
        n_initializations = self.network.n_initializations
        self.n_points, self.volume = math.prod(self.grid), float(abs(np.linalg.det(self.cell)))
        self.electrons = float(self.valences.sum())
        self.quadrature: Quadrature = self.energy_grid.quadrature()
        self.seconds: dict[str, float] = {}
        self.dos = np.zeros((n_initializations, self.energy_grid.n_energy))
        self.levels = np.zeros(n_initializations)  # what energies are relative to [eV]
        self.density = np.empty((n_initializations, *self.grid))
        self.n_outside, self.furthest, self.squares = 0, 0.0, 0.0
        self.energies: list[Energies] = []
        self._last = LastLayer.of(self.network, self.scaling)
        self._kept: dict[tuple[float, float, float], list[Tensor]] = {}  # by the slab's origin
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
        """Results of a function of descriptors in the order of its tasks, some computed ahead, a thread a CPU.

        The kernels work outside of Python's lock.
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

    def _hidden(self, slab: Slab, descriptors: Float32) -> Iterable[Tensor]:
        """The last hidden layer in chunks, (T, n_points_in_chunk, width), kept for later passes where possible."""
        if slab.origin not in self._kept:
            found = last_hidden(self.network, self.scaling, descriptors)
            if 4 * self.n_points * self._last.weights[:, :, 0].size > KEPT:
                return found
            self._kept[slab.origin] = list(found)
        return self._kept[slab.origin]

    def describe(self, *, hottest: float) -> None:
        """First pass: descriptors, the DOS, and from it the energies.

        Raises ValueError: at the hottest temperature [K] states at the top of the energy grid are occupied.
        """
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
                beyond = self.scaling.beyond(values)
                self.n_outside += int(np.count_nonzero(beyond))
                self.furthest = max(self.furthest, float(beyond.max()))
                if self.neighbours is not None:
                    self.squares += float(self.neighbours.squares(self.scaling.descriptors(values)).sum())
                for hidden in self._hidden(slab, values):
                    self.dos += self._last.total(hidden) * (self.volume / self.n_points)
                    self.levels += self._last.total_reference(hidden) / self.n_points
            done += len(values)
            self.progress("descriptors", done, self.n_points)
        with self._clock("physics"):
            at = {"electrons": self.electrons, "temperature": self.temperature}
            self.energies = [energies(dos, self.quadrature, **at) for dos in self.dos]
        top, level = self.quadrature.energy[-1], max(e.fermi_level for e in self.energies)
        self.top_occupation = float(fermi_dirac(top, fermi_level=level, temperature=hottest))
        if self.top_occupation > TOO_OCCUPIED:
            raise ValueError(
                f"at {hottest:g} K the occupation is {self.top_occupation:.2g} at "
                f"{top + self.levels.mean():.4g} eV, where the "
                "energy grid of this model ends; choose a lower temperature or a less compressed cell"
            )

    def integrate(self, ldos: Float32 | None, *, slopes: bool) -> None:
        """Second pass: the density, on request its answer ∂n/∂ε_F, and the mean LDOS into ``ldos``."""
        if slopes:
            self.response = np.empty_like(self.density)
        at = [{"fermi_level": e.fermi_level, "temperature": self.temperature} for e in self.energies]
        fields = {"density": density} | ({"response": density_response} if slopes else {})
        rules = {
            name: self._last.integrals(partial(rule, quadrature=self.quadrature, **a) for a in at)
            for name, rule in fields.items()
        }
        done = 0
        for slab, descriptors in self._descriptors():
            with self._clock("network"):
                chunks = list(self._hidden(slab, descriptors))
                values = np.concatenate([integrated(hidden, list(rules.values())) for hidden in chunks], axis=2)
                for name, own in zip(rules, values, strict=True):
                    getattr(self, name)[(slice(None), *slab.index)] = own.reshape(-1, *slab.grid)
                if ldos is not None:
                    means = [self._last.mean(hidden) for hidden in chunks]
                    ldos[slab.index] = np.concatenate(means).reshape(*slab.grid, -1)
            done += len(descriptors)
            self.progress("density", done, self.n_points)

    def terms(self) -> dict[str, Float64]:
        """Fermi level and energies by name, each (T,) [eV]; those of the density where the functional is known."""
        if self.dft is None:
            found = {n: [getattr(e, n) for e in self.energies] for n in ("fermi_level", "band", "entropy")}
            return self._absolute({TERMS[name]: np.array(values) for name, values in found.items()})
        with self._clock("physics"):
            ions, self.ion_forces, self.ion_strain = ewald(self.cell, self.positions, self.valences)
            each = all_terms(self.dft, self.sphere, self.core, self.energies, self.density, ions)
        return self._absolute({name: np.array([getattr(e, field) for e in each]) for field, name in TERMS.items()})

    def _absolute(self, terms: dict[str, Float64]) -> dict[str, Float64]:
        """Terms with what the energies are relative to: E_b and A hold it N times."""
        times = {"fermi_level": 1.0, "band_energy": self.electrons, "free_energy": self.electrons}
        return {name: values + times.get(name, 0.0) * self.levels for name, values in terms.items()}

    @cached_property
    def sphere(self) -> DensitySphere:
        """The plane waves of the density; asked for only where the DFT is known."""
        assert self.dft is not None
        return DensitySphere(self.cell, self.grid, self.dft.density_cutoff)

    @cached_property
    def core(self) -> Float64 | None:
        """Core charge of the nonlinear core correction on the grid, None without one [1/Å³]."""
        return self._core_on(self.sphere)

    def _core_on(self, sphere: DensitySphere) -> Float64 | None:
        """The same where the cell, and the atoms with it, is that of ``sphere``."""
        assert self.dft is not None
        return core_on(self.dft, sphere, self.cell, self.positions, self.numbers)

    def known(self, *, forces: bool) -> dict[str, Float64]:
        """As ``known``, of this structure; {} without a posterior."""
        if self.posterior is None:
            return {}
        atoms = self.cell, self.positions, self.numbers
        whole = structure(*atoms, self.grid, temperature=self.temperature, n_electrons=self.electrons)
        with self._clock("last layer"):
            gradient = None if self.dft is None else self._gradient(0)[0]
            electrons = Electrons(self.energies[0], self.dos[0], gradient=gradient)
            ions = Ions(whole, self.energy_grid, self.dft, {})
            about = self.network.only(0), self.scaling, self.posterior, self._descriptors(), self._hidden
            return known(*about, electrons, ions, settings=self.settings if forces else None)

    def _gradient(self, t: int) -> tuple[LdosGradient, Float64]:
        """Derivatives of A of one initialisation with respect to the LDOS, and to the core charge."""
        assert self.dft is not None
        by_density, by_core = density_gradient(self.density[t], self.sphere, self.dft.functional, self.core)
        args, level = (by_density, self.response[t], self.dos[t], self.quadrature), self.energies[t].fermi_level
        about = ldos_gradient(*args, volume=self.volume, fermi_level=level, temperature=self.temperature)
        return about, by_core

    def forces(self, *, each: bool, stress: bool) -> tuple[Float64, Float64 | None]:
        """Third pass: minus the total derivative of the free energy, (T, n_atoms, 3), or (1, ...) of its mean [eV/Å].

        And, where it is asked for, the stress, the derivative with respect to strain a volume, (T or 1, 3, 3) [eV/Å³].
        The derivative leads back through the energies to the LDOS of each grid point (``ldos_gradient``), through the
        network to its descriptors (``by_hidden``, ``pull_back``), and through the bispectrum to the atoms
        (``bispectrum_forces``).
        """
        assert self.dft is not None
        self._kept.clear()
        from_core = np.zeros((len(self.dos), *self.positions.shape))
        strains = np.zeros((len(self.dos), 3, 3))
        gradients: list[LdosGradient] = []
        with self._clock("physics"):
            for t, n in enumerate(self.density):
                gradient, by_core = self._gradient(t)
                gradients.append(gradient)
                for atoms, *charge in core_charges(self.dft, self.numbers):
                    from_core[t, atoms] = core_forces(by_core, self.sphere, self.positions[atoms], *charge)
                if stress:
                    strains[t] = density_strain(n, self.sphere, self.dft.functional, self._core_on)
                    strains[t] += self.ion_strain + gradients[t].volume_slope(self.dos[t]) * np.eye(3)
        if not each:
            from_core, strains = (x.mean(axis=0, keepdims=True) for x in (from_core, strains))
        forces = self.ion_forces + from_core
        found = self._parallel(bispectrum_forces, self._pulls(gradients, each))
        done = 0
        for slab in self.slabs:
            for t in range(len(forces)):
                with self._clock("forces"):
                    pulled, by_strain = next(found)
                    forces[t] += pulled
                    strains[t] += by_strain
            done += math.prod(slab.grid)
            self.progress("forces", done, self.n_points)
        return forces, (strains + strains.swapaxes(1, 2)) / (2 * self.volume) if stress else None

    def _pulls(self, gradients: Sequence[LdosGradient], each: bool) -> Iterator[tuple[Any, ...]]:
        """Arguments of ``bispectrum_forces``: for each slab those of all initialisations, or of their mean."""
        point = self.volume / self.n_points  # Å³ that a grid point stands for
        constant, slope = (point * np.array([getattr(g, n) for g in gradients]) for n in ("constant", "weights"))
        by_hidden = self._last.by_hidden(constant, slope, self.electrons / self.n_points)
        for slab, descriptors in self._descriptors():
            potential = np.array([g.potential[slab.index].ravel() for g in gradients])
            by_descriptor = pull_back(self.network, self.scaling, descriptors, by_hidden, potential)
            seen = slab.shifted(self.cell, self.positions)
            for g in by_descriptor if each else by_descriptor.mean(axis=0, keepdims=True):
                yield self.cell, seen, self.numbers, slab.grid, self.settings, g
