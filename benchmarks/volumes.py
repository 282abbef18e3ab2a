"""Claim: with energies relative to the Fermi level a surrogate has the equation of state and the strains of the DFT.

Trained on the bundled cells of examples/al4 and examples/al_volumes.tar.xz (1 x 512 silu, 3.0 Å, 2J_max 8), with
absolute energies and with relative ones, and compared with the energies of Quantum ESPRESSO in
tests/data/al_volumes.json, of which one, at -12 %, is in the training.  Both sides are fitted in the same way, at the
same cells.

    python benchmarks/volumes.py [FOLDER of the figures]
"""

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import ase
import numpy as np
from ase.eos import EquationOfState
from ase.units import GPa
from matplotlib.figure import Figure

from dftune import BispectrumSettings, Model
from dftune.tests.places import unpack
from dftune.trainables.data.composing.merge import merge
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.drawing import REFERENCE, SURROGATE, save
from dftune.trainables.ldos.card import card_for
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.judgement import judge
from dftune.trainables.ldos.readout.fit import fit
from dftune.trainables.ldos.training_data import read_training_data

ROOT = Path(__file__).parents[1]
SETTINGS = BispectrumSettings(cutoff=3.0, two_j_max=8)
STRAINS = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])


def bundled(folder: Path) -> Dataset:
    """The cells of both sets, with descriptors."""
    unpack(ROOT / "examples" / "al_volumes.tar.xz", folder)
    both = merge(
        [Dataset.open(str(ROOT / "examples" / "al4")), Dataset.open(str(folder / "al_volumes"))], folder / "both"
    )
    for s in both.snapshots:
        both.write_descriptors(s, SETTINGS, bispectrum(s.cell, s.positions, s.numbers, s.grid, SETTINGS))
    return both


def surrogate(both: Dataset, energies: str) -> Model:
    config = SurrogateConfig.of({"training": "none", "width": 512, "penalty": 1.0, "energies": energies})
    data = read_training_data(both, SETTINGS)
    data = data.relative_to_fermi_levels() if energies == "fermi" else data
    trained = fit(config, data, seeds=[1])
    accuracy = judge(
        trained.network, data.scaling, data.energy_grid, data.validation, ingredients=data.ingredients
    ).accuracy
    card = card_for("benchmarks/volumes.py", config, [1], both, SETTINGS, accuracy)
    return Model.assemble(card, trained.network.arrays() | data.scaling.tensors())


def constants(energy: Mapping[str, float], volume: Mapping[str, float]) -> dict[str, float]:
    """Lattice constant [Å], bulk modulus and elastic constants [GPa] of energies [eV] of the named cells."""
    names = [name for name in energy if name.startswith("volume")]
    v, e = np.array([volume[n] for n in names]), np.array([energy[n] for n in names])
    order = np.argsort(v)
    at, _, modulus = EquationOfState(v[order], e[order], eos="birchmurnaghan").fit()
    bulk = modulus / GPa

    def curvature(kind: str) -> float:
        """E = E₀ + c s² + ... of strains s, c an Å³ [GPa]; they are too small for more than s² to count."""
        found = [energy["minimum" if s == 0 else f"{kind}{s:+.2f}"] for s in STRAINS]
        return float(np.polyfit(STRAINS, found, 2)[0] / volume["minimum"] / GPa)

    # diag(1 + s, 1 + s, (1 + s)^-2) takes 3 (C11 - C12) s², a shear ε_yz = s takes 2 C44 s²
    difference, shear = curvature("tetragonal") / 3, curvature("sheared") / 2
    return {
        "lattice constant": float(np.cbrt(at)),
        "bulk modulus": bulk,
        "C11": bulk + 2 * difference / 3,
        "C12": bulk - difference / 3,
        "C44": shear,
    }


def draw(path: Path, found: Mapping[str, Mapping[str, float]], volume: Mapping[str, float]) -> None:
    """Energies over volumes and strains, an atom, relative to the DFT's lowest."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    panels = figure.subplots(1, 3)
    zero = found["DFT"]["minimum"]
    for name, energy in found.items():
        style = {"color": REFERENCE, "marker": "o", "ls": ""} if name == "DFT" else {"color": SURROGATE, "marker": "."}
        if name == "absolute":
            style |= {"color": "0.6", "ls": "--"}
        names = sorted((n for n in energy if n.startswith("volume")), key=lambda n: volume[n])
        panels[0].plot([volume[n] / 4 for n in names], [250 * (energy[n] - zero) for n in names], label=name, **style)
        for panel, kind in zip(panels[1:], ("tetragonal", "sheared"), strict=True):
            cells = ["minimum" if s == 0 else f"{kind}{s:+.2f}" for s in STRAINS]
            panel.plot(100 * STRAINS, [250 * (energy[n] - zero) for n in cells], **style)
    panels[0].set(xlabel="volume [Å³/atom]", ylabel="free energy [meV/atom]")
    panels[0].legend(frameon=False)
    panels[1].set(xlabel="tetragonal strain [%]")
    panels[2].set(xlabel="shear strain [%]")
    save(figure, path)


def main() -> None:
    rows = json.loads((ROOT / "tests" / "data" / "al_volumes.json").read_text())
    rows = [row for row in rows if row["name"].startswith(("volume", "minimum")) or "0.0" in row["name"]]
    volume = {row["name"]: float(np.linalg.det(row["cell"])) for row in rows}
    found = {"DFT": {row["name"]: row["total_energy_ev"] for row in rows}}
    with tempfile.TemporaryDirectory() as folder:
        both = bundled(Path(folder))
        for energies in ("absolute", "fermi"):
            started = time.process_time()
            model = surrogate(both, energies)
            found[energies] = {
                row["name"]: model.predict(
                    ase.Atoms("Al4", row["positions"], cell=row["cell"], pbc=True), grid=(20, 20, 20)
                ).free_energy
                for row in rows
            }
            off = [250 * (found[energies][n] - found["DFT"][n]) for n in volume if n.startswith("volume")]
            print(
                f"{energies}: {time.process_time() - started:.0f} CPU s; volumes off by up to "
                f"{np.abs(off).max():.1f} meV/atom"
            )
    for name, energy in found.items():
        print(name, json.dumps({key: round(value, 4) for key, value in constants(energy, volume).items()}))
    if len(sys.argv) > 1:
        draw(Path(sys.argv[1]) / "volumes.png", found, volume)


if __name__ == "__main__":
    main()
