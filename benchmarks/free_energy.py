"""Claim: A meets Quantum ESPRESSO's to 0.05 meV/atom from its own density and eigenvalues, each term to 0.05 too.

From the LDOS alone, broadened by a Gaussian of 0.5 eV, to 0.5 meV/atom at 3158 K and to 1.2 at 933 K, with energies
0.25 and 0.5 eV apart.  Al: LDA, norm-conserving.  Be: PBE, ultrasoft, with a nonlinear core correction.

    python benchmarks/free_energy.py
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from dftune.trainables.data.energy_grid import EnergyGrid
from dftune.trainables.data.pseudopotential import Pseudopotential, read_upf
from dftune.trainables.physics.core_charge import core_density
from dftune.trainables.physics.energies import Energies, energies
from dftune.trainables.physics.ewald import ewald
from dftune.trainables.physics.free_energy import FreeEnergy, density_energies, free_energy
from dftune.trainables.physics.local import density, dos
from dftune.trainables.physics.quadrature import Rule
from dftune.trainables.physics.reciprocal import DensitySphere
from dftune.trainables.physics.smearing import entropy, fermi_dirac
from dftune.trainables.physics.units import K_B, RYDBERG

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
PSEUDOPOTENTIALS = {"Al": "al4/Al.pz-vbc.UPF", "Be": "be4/Be.pbe-n-rrkjus_psl.1.0.0.UPF"}
SETS = ("al4", "al4_933K", "al8", "al32", "be4")
CLAIMED = {"al4": 0.03, "be4": 0.05}  # mean |A - QE| from density and eigenvalues [meV/atom]
VERSIONS = {"numpy": version("numpy"), "scipy": version("scipy"), "cpus": os.cpu_count()}

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Run:
    """One finished calculation of Quantum ESPRESSO."""

    path: Path  # the json; density, LDOS and eigenvalues lie beside it

    @cached_property
    def facts(self) -> dict:
        return json.loads(self.path.read_text())

    def array(self, kind: str) -> Array:
        return np.load(self.path.with_name(f"{self.path.stem}.{kind}.npy")).astype(np.float64)

    @cached_property
    def pseudopotential(self) -> Pseudopotential:
        return read_upf(DATA / PSEUDOPOTENTIALS[self.facts["config"]["symbol"]])

    @cached_property
    def positions(self) -> Array:
        return np.array(self.facts["config"]["positions_angstrom"])

    @cached_property
    def sphere(self) -> DensitySphere:
        config = self.facts["config"]
        cutoff = config["ecutrho_ry"] * RYDBERG
        return DensitySphere(np.array(config["cell_angstrom"]), tuple(self.facts["fft"]), cutoff)

    @cached_property
    def temperature(self) -> float:
        return self.facts["kt_ev"] / K_B

    def from_eigenvalues(self) -> Energies:
        """Fermi level, band energy and entropy term as QE has them from its states."""
        bands = np.load(self.path.with_name(f"{self.path.stem}.bands.npz"))
        states, weights = bands["eig"].astype(np.float64), bands["wk"].astype(np.float64)[:, None]
        n, at = self.facts["n_electrons"], {"temperature": self.temperature}

        def excess(level: float) -> float:
            return float((weights * fermi_dirac(states, fermi_level=level, **at)).sum()) - n

        level = float(brentq(excess, states.min(), states.max(), xtol=1e-12))
        band = float((weights * fermi_dirac(states, fermi_level=level, **at) * states).sum())
        s = float((weights * entropy(states, fermi_level=level, **at)).sum())
        return Energies(fermi_level=level, band=band, entropy=-K_B * self.temperature * s)

    def free_energy(self, electrons: Energies, n: Array) -> FreeEnergy:
        p, core = self.pseudopotential, None
        if p.core_radius is not None and p.core_density is not None:
            core = core_density(self.sphere, self.positions, p.core_radius, p.core_density)
        ions, _, _ = ewald(self.sphere.cell, self.positions, np.full(len(self.positions), p.valence))
        return free_energy(electrons, density_energies(n, self.sphere, p.functional, core), ewald=ions)

    def errors(self, found: FreeEnergy) -> dict[str, float]:
        """What is found minus QE's lines [meV/atom]."""
        lines = self.facts["qe_terms_ev"]
        differences = {
            "total": found.total - self.facts["total_energy_ev"],
            "one_electron": found.band - 2 * found.hartree - found.xc_potential - lines["one_electron"],
            "hartree": found.hartree - lines["hartree"],
            "xc": found.xc - lines["xc"],
            "ewald": found.ewald - lines["ewald"],
            "smearing": found.entropy - lines["smearing"],
        }
        return {name: 1e3 * value / len(self.positions) for name, value in differences.items()}

    def from_ldos(self, step: int, rule_name: Rule = "least-squares") -> FreeEnergy:
        """All terms from every ``step``-th energy of the LDOS."""
        stored = self.facts["config"]["energy_grid_ev"]
        ldos = self.array("ldos")[..., ::step]
        grid = EnergyGrid(
            minimum=stored["emin"],
            spacing=step * stored["spacing"],
            n_energy=ldos.shape[-1],
            kernel="gaussian",
            width=stored["width"],
        )
        n, rule = self.facts["n_electrons"], grid.quadrature(rule_name)
        curve = dos(ldos, volume=self.sphere.volume)
        electrons = energies(curve, rule, electrons=n, temperature=self.temperature)
        at = {"fermi_level": electrons.fermi_level, "temperature": self.temperature}
        return self.free_energy(electrons, density(ldos, rule, **at))


def rows(name: str) -> Iterator[dict]:
    """One row a route to A."""
    runs = [Run(path) for path in sorted((DATA / name).glob("[0-9]*.json"))]
    cases = {"density and eigenvalues": [run.free_energy(run.from_eigenvalues(), run.array("dens")) for run in runs]}
    n_energy = runs[0].facts["config"]["energy_grid_ev"]["count"]
    for step in (1, 2):
        cases[f"LDOS, {len(range(0, n_energy, step))} energies"] = [run.from_ldos(step) for run in runs]
    cases["LDOS, linear rule"] = [run.from_ldos(1, "linear") for run in runs]
    for source, found in cases.items():
        errors = [run.errors(one) for run, one in zip(runs, found)]
        total = np.array([e["total"] for e in errors])
        claimed = (0.5 if runs[0].temperature > 2000 else 1.2) if "energies" in source else CLAIMED.get(name, 0.05)
        yield {
            "case": "free energy",
            "dataset": name,
            "from": source,
            "n_snapshots": len(runs),
            "temperature_k": round(runs[0].temperature),
            "mean_mev_atom": total.mean(),
            "mean_abs_mev_atom": np.abs(total).mean(),
            "max_abs_mev_atom": np.abs(total).max(),
            "claimed": None if "linear" in source else claimed,
            "max_abs_by_term": {term: max(abs(e[term]) for e in errors) for term in errors[0]},
        }


def main() -> None:
    for name in SETS:
        if not (DATA / name).is_dir():
            print(json.dumps({"case": "free energy", "dataset": name, "skipped": "not here"} | VERSIONS))
            continue
        for row in rows(name):
            print(json.dumps(row | VERSIONS), flush=True)


if __name__ == "__main__":
    main()
