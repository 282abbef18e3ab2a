"""Equation of state, elastic constants and dynamics under pressure of fcc aluminium, by a surrogate.

    python examples/elastic_constants.py MODEL [steps of dynamics=100]

The model has to know how the energy changes with the volume: one trained at a single lattice constant is refused.
examples/README.md makes one of the bundled cells in some minutes.
"""

import sys

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.eos import EquationOfState
from ase.filters import FrechetCellFilter
from ase.md.nptberendsen import NPTBerendsen
from ase.md.velocitydistribution import thermalize_momenta
from ase.optimize import BFGS
from ase.units import GPa
from matplotlib.figure import Figure

import dftune

FIGURE = "equation_of_state.png"


def relaxed(calculator: Calculator, guess: float) -> Atoms:
    """The cubic cell without stress, of a lattice constant near a guess [Å]."""
    atoms = bulk("Al", cubic=True, a=guess)
    atoms.calc = calculator
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=0.002, steps=40)
    return atoms


def equation_of_state(calculator: Calculator, volumes: np.ndarray, figure: str | None = None) -> tuple[float, float]:
    """Lattice constant [Å] and bulk modulus [GPa] of the least energy over some volumes of the cubic cell [Å³].

    A file ``figure`` gets the energies and the fitted curve.
    """
    energies = []
    for volume in volumes:
        atoms = bulk("Al", cubic=True, a=np.cbrt(volume))
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy())
    fitted = EquationOfState(volumes, energies, eos="birchmurnaghan")
    volume, _, modulus = fitted.fit()
    if figure is not None:
        axes = Figure(layout="constrained").add_subplot()
        fitted.plot(figure, ax=axes)
    return float(np.cbrt(volume)), float(modulus / GPa)


def elastic_constants(atoms: Atoms, strain: float = 0.005) -> dict[str, float]:
    """C11, C12 and C44 [GPa] of a cubic crystal, from differences of the stress."""

    def slope(i: int, j: int) -> np.ndarray:
        stresses = []
        for sign in (1, -1):
            step = np.eye(3)
            step[i, j] += sign * strain / 2
            step[j, i] += sign * strain / 2
            strained = atoms.copy()
            strained.set_cell(np.array(atoms.cell) @ step, scale_atoms=True)
            strained.calc = atoms.calc
            stresses.append(strained.get_stress(voigt=False))
        return (stresses[0] - stresses[1]) / (2 * strain) / GPa

    along, across = slope(0, 0), slope(1, 2)
    return {"C11": along[0, 0], "C12": (along[1, 1] + along[2, 2]) / 2, "C44": across[1, 2]}


def under_pressure(atoms: Atoms, *, steps: int, temperature: float, pressure: float) -> tuple[float, float]:
    """Mean lattice constant [Å] and pressure [GPa] over the second half of some steps of 2 fs at constant pressure."""
    atoms, calculator = atoms.copy(), atoms.calc
    atoms.calc = calculator
    thermalize_momenta(atoms, temperature_K=temperature, rng=np.random.default_rng(0))
    dynamics = NPTBerendsen(
        atoms,
        timestep=2 * units.fs,
        temperature_K=temperature,
        pressure_au=pressure * GPa,
        taut=20 * units.fs,
        taup=50 * units.fs,
        compressibility_au=1 / (80 * GPa),
    )
    seen = []
    dynamics.attach(lambda: seen.append((np.cbrt(atoms.get_volume()), -np.trace(atoms.get_stress(voigt=False)) / 3)))
    dynamics.run(steps)
    length, found = np.mean(seen[steps // 2 :], axis=0)
    return float(length), float(found / GPa)


def main() -> None:
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    calculator = dftune.Calculator(sys.argv[1])
    ranges = calculator.model.card.ranges
    if ranges is None or ranges.one_volume:
        raise SystemExit("this model was trained at one volume: it knows no stress; train it on cells of several")
    smallest, largest = ranges.volume_per_atom
    length, modulus = equation_of_state(calculator, 4 * np.linspace(largest, smallest, 9), FIGURE)
    print(f"equation of state: lattice constant {length:.3f} Å, bulk modulus {modulus:.0f} GPa; {FIGURE}")
    atoms = relaxed(calculator, guess=length)
    print(f"without stress: lattice constant {atoms.cell.lengths().mean():.3f} Å")
    constants = elastic_constants(atoms)
    print(", ".join(f"{name} {value:.0f} GPa" for name, value in constants.items()))
    print(f"bulk modulus {(constants['C11'] + 2 * constants['C12']) / 3:.0f} GPa")
    length, pressure = under_pressure(atoms, steps=steps, temperature=300, pressure=2.0)
    print(f"300 K and 2 GPa for {2 * steps} fs: {length:.3f} Å, {pressure:.1f} GPa")


if __name__ == "__main__":
    main()
