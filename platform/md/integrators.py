"""ASE's integrators for the three ensembles, and their state to the last bit.  eV, Å, fs, K, GPa.

A state is what JSON holds: Python writes a float so that the same float is read.  What ASE keeps in private attributes
stands here and nowhere else.
"""

from collections.abc import Callable
from typing import Any, Protocol

import ase
import numpy as np
from ase import units
from ase.constraints import FixCom
from ase.md.bussi import Bussi
from ase.md.nose_hoover_chain import IsotropicMTKNPT
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet

from .settings import MdSettings

# Private attributes of ``IsotropicMTKNPT``: arrays and floats of it, of its thermostat and of its barostat.
OF_PISTON, OF_CHAIN, OF_BAROSTAT = ("_eps", "_p_eps", "_volume0", "_cell0"), ("_eta", "_p_eta"), ("_xi", "_p_xi")


class Integrator(Protocol):
    """Moves atoms that have a calculator."""

    def step(self) -> Any:
        """Move them by one step."""

    def conserved(self) -> float:
        """What exact integration would conserve: the energy, and what thermostat and barostat took [eV]."""
        ...

    def state(self) -> dict[str, Any]:
        """All that it knows besides cell, positions and momenta."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state.  The atoms have cell, positions and momenta already."""


class Nve:
    """Constant energy, by velocity Verlet."""

    def __init__(self, atoms: ase.Atoms, settings: MdSettings) -> None:
        atoms.set_constraint(FixCom())
        self._atoms = atoms
        self.step = VelocityVerlet(atoms, settings.timestep * units.fs).step

    def conserved(self) -> float:
        return float(self._atoms.get_total_energy())

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        pass


class Nvt:
    """Constant temperature, by velocity Verlet and velocity rescaling."""

    def __init__(self, atoms: ase.Atoms, settings: MdSettings) -> None:
        # With the centre of mass held, ASE counts 3 N - 3 degrees of freedom: else 32 atoms would be 3 % too hot.
        atoms.set_constraint(FixCom())
        self._atoms, self._rng = atoms, np.random.default_rng([settings.seed, 1])
        time = settings.thermostat_time or 100 * settings.timestep
        self._dynamics = Bussi(
            atoms, settings.timestep * units.fs, settings.temperature, taut=time * units.fs, rng=self._rng
        )
        self.step = self._dynamics.step

    def conserved(self) -> float:
        return float(self._atoms.get_total_energy() - self._dynamics.transferred_energy)

    def state(self) -> dict[str, Any]:
        return {
            "transferred_energy": float(self._dynamics.transferred_energy),
            "rng": self._rng.bit_generator.state,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._dynamics.transferred_energy = state["transferred_energy"]
        self._rng.bit_generator.state = state["rng"]


class Npt:
    """Constant temperature and pressure; the cell keeps its shape."""

    def __init__(self, atoms: ase.Atoms, settings: MdSettings) -> None:
        assert settings.temperature is not None
        # ASE's thermostat counts 3 N degrees of freedom, and the centre of mass has no part in them.
        temperature = settings.temperature * (1 - 1 / len(atoms))
        self._dynamics = IsotropicMTKNPT(
            atoms,
            settings.timestep * units.fs,
            temperature_K=temperature,
            pressure_au=(settings.pressure or 0.0) * units.GPa,
            tdamp=(settings.thermostat_time or 100 * settings.timestep) * units.fs,
            pdamp=(settings.barostat_time or 1000 * settings.timestep) * units.fs,
        )
        self.step = self._dynamics.step

    def _parts(self) -> list[tuple[Any, str]]:
        """Objects of ASE, and a name of an attribute of each."""
        dynamics: Any = self._dynamics
        found = [(dynamics, name) for name in OF_PISTON]
        found += [(dynamics._thermostat, name) for name in OF_CHAIN]
        return found + [(dynamics._barostat, name) for name in OF_BAROSTAT]

    def conserved(self) -> float:
        return self._dynamics.get_conserved_energy()

    def state(self) -> dict[str, Any]:
        return {name: np.asarray(getattr(owner, name)).tolist() for owner, name in self._parts()}

    def restore(self, state: dict[str, Any]) -> None:
        for owner, name in self._parts():
            value = state[name]
            setattr(owner, name, np.array(value) if isinstance(value, list) else value)


INTEGRATORS: dict[str, Callable[[ase.Atoms, MdSettings], Integrator]] = {"nve": Nve, "nvt": Nvt, "npt": Npt}


def draw_velocities(atoms: ase.Atoms, temperature: float, seed: int) -> None:
    """Give atoms velocities of a temperature [K], without motion of their centre of mass."""
    thermalize_momenta(atoms, temperature_K=temperature, rng=np.random.default_rng([seed, 0]))
    Stationary(atoms)


def kinetic_energy(atoms: ase.Atoms) -> float:
    """Of the motion against the centre of mass [eV]."""
    momenta, masses = atoms.get_momenta(), atoms.get_masses()
    return float(0.5 * np.sum(momenta**2 / masses[:, None]) - 0.5 * np.sum(momenta.sum(axis=0) ** 2) / masses.sum())


def temperature_of(atoms: ase.Atoms) -> float:
    """T = 2 E_kin / ((3 N - 3) k_B) of two atoms or more [K]."""
    return 2 * kinetic_energy(atoms) / ((3 * len(atoms) - 3) * units.kB)
