"""Claim: a surrogate of one electronic temperature has the free energy and the heat capacity of the DFT at others.

Trained on examples/al4, all at 3158 K (1 x 512 silu, 3.0 Å, 2J_max 8), and compared at 1000, 5000 and 7000 K with what
Quantum ESPRESSO says of a test snapshot, tests/data/al_temperatures.json, and with what the DFT's own LDOS at 3158 K
gives there.  The heat capacity of the DFT is τ ΔS/Δτ over ±5 % of τ, each an SCF of its own.

    python benchmarks/temperatures.py [FOLDER of the figure]
"""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import ase
import numpy as np
from matplotlib.figure import Figure
from volumes import ROOT, SETTINGS, surrogate

from dftune.trainables.data.composing.selection import take
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.data.snapshot import Snapshot
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.drawing import REFERENCE, SURROGATE, save
from dftune.trainables.ldos.heating import heated
from dftune.trainables.ldos.prediction import Heated
from dftune.trainables.ldos.readout.electrons import Electrons, Ions, electrons_of
from dftune.trainables.physics.units import K_B

TEMPERATURES = (1000.0, 5000.0, 7000.0)
CURVE = np.linspace(500.0, 7000.0, 27)
STEP = 0.05  # share of τ by which that of the other SCFs differs


def described(folder: Path) -> Dataset:
    """examples/al4 with descriptors."""
    bundled = Dataset.open(str(ROOT / "examples" / "al4"))
    found = take(bundled, folder / "al4", [s.id for s in bundled.snapshots])
    for s in found.snapshots:
        found.write_descriptors(s, SETTINGS, bispectrum(s.cell, s.positions, s.numbers, s.grid, SETTINGS))
    return found


def capacity(dft: dict[float, dict[str, float]], temperature: float) -> float:
    """C = τ ΔS/Δτ of the DFT, of the cell [k_B]."""
    colder, warmer = (dft[round(temperature * (1 + step), 2)] for step in (-STEP, STEP))
    entropies = [-row["minus_ts_ev"] / row["temperature_k"] for row in (colder, warmer)]
    return float(np.diff(entropies)[0] / (2 * STEP) / K_B)


def by_its_own_ldos(data: Dataset, s: Snapshot, temperatures: Sequence[float]) -> list[tuple[Heated, float]]:
    """What the stored LDOS gives at other temperatures, and A with the density of each [eV]."""
    grid, rule, ldos = data.info.energy_grid, data.info.energy_grid.quadrature(), data.ldos(s).stored()

    def free_energy(kelvin: float) -> Electrons:
        ions = Ions(replace(s, temperature=kelvin), grid, data.info.dft, data.info.species)
        return electrons_of(lambda: (shard[:] for shard in ldos), ions, slopes=False)

    own = free_energy(s.temperature)
    about = {"electrons": s.n_electrons, "temperatures": temperatures}
    assert own.free_energy is not None
    at = heated(own.dos[None], rule, [own.levels], np.zeros(1), np.array([own.free_energy]), **about)
    return [(one, float(free_energy(one.temperature).free_energy or np.nan)) for one in at]


def draw(path: Path, curve: list[Heated], dft: dict[float, dict[str, float]], n_atoms: int, own: float) -> None:
    """Free energy relative to that at the training's temperature, and heat capacity, over temperatures."""
    figure = Figure(figsize=(7.4, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    zero = {one.temperature: one.free_energy for one in curve}[own]
    shown = [one for one in curve if one.temperature != own]
    kelvin = [one.temperature for one in shown]
    left.plot(kelvin, [1e3 * (one.free_energy - zero) / n_atoms for one in shown], color=SURROGATE, label="surrogate")  # type: ignore[operator]  # the functional is known
    right.plot(kelvin, [one.heat_capacity / K_B / n_atoms for one in shown], color=SURROGATE)
    at = {"color": REFERENCE, "marker": "o", "ls": ""}
    rise = [1e3 * (dft[t]["total_energy_ev"] - dft[own]["total_energy_ev"]) / n_atoms for t in TEMPERATURES]
    left.plot(TEMPERATURES, rise, label="Quantum ESPRESSO", **at)
    right.plot(TEMPERATURES, [capacity(dft, t) / n_atoms for t in TEMPERATURES], **at)
    left.axvline(own, color="0.8", lw=1)
    right.axvline(own, color="0.8", lw=1)
    left.set(xlabel="temperature of the electrons [K]", ylabel=f"A - A({own:.0f} K) [meV/atom]")
    right.set(xlabel="temperature of the electrons [K]", ylabel="heat capacity [k_B/atom]")
    left.legend(frameon=False)
    save(figure, path)


def main() -> None:
    known = json.loads((ROOT / "tests" / "data" / "al_temperatures.json").read_text())
    dft = {row["temperature_k"]: row for row in known["rows"]}
    with tempfile.TemporaryDirectory() as folder:
        started, data = time.process_time(), described(Path(folder))
        s = data[known["snapshot"]]
        model, own = surrogate(data, "absolute"), round(s.temperature, 2)
        atoms = ase.Atoms(s.numbers, s.positions, cell=s.cell, pbc=True)
        found = model.predict(atoms, temperatures=[own, *TEMPERATURES, *CURVE], grid=s.grid).heated
        same = by_its_own_ldos(data, s, [own, *TEMPERATURES])
        print(f"fit and prediction: {time.process_time() - started:.0f} CPU s")
    for one in found[: 1 + len(TEMPERATURES)]:
        row = dft[one.temperature]
        off = {
            "A": one.free_energy - row["total_energy_ev"],  # type: ignore[operator]
            "A - A(own)": one.free_energy - found[0].free_energy - row["total_energy_ev"] + dft[own]["total_energy_ev"],  # type: ignore[operator]
            "-τS": one.entropy_term - row["minus_ts_ev"],
        }
        line = {"K": one.temperature} | {f"{k} [meV/atom]": round(1e3 * v / s.n_atoms, 2) for k, v in off.items()}
        line["Fermi level [meV]"] = round(1e3 * (one.fermi_level - row["fermi_level_ev"]), 1)
        line["C [k_B/atom]"] = round(one.heat_capacity / K_B / s.n_atoms, 4)
        if one.temperature != own:
            line["C of the DFT"] = round(capacity(dft, one.temperature) / s.n_atoms, 4)
        print(json.dumps(line, ensure_ascii=False))
    for one, with_its_density in same:
        energy = dft[one.temperature]["total_energy_ev"]
        off = {"density of 3158 K": one.free_energy - energy, "its own density": with_its_density - energy}  # type: ignore[operator]
        line = {"K": one.temperature, "C of the DFT's own LDOS": round(one.heat_capacity / K_B / s.n_atoms, 4)}
        line |= {f"A, {k} [meV/atom]": round(1e3 * v / s.n_atoms, 2) for k, v in off.items()}
        print(json.dumps(line, ensure_ascii=False))
    if len(sys.argv) > 1:
        draw(
            Path(sys.argv[1]) / "temperatures.png", sorted(found, key=lambda one: one.temperature), dft, s.n_atoms, own
        )


if __name__ == "__main__":
    main()
