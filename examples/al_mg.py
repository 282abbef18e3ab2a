"""What examples/al_mg.tar.xz is a part of: aluminium and magnesium on an fcc lattice, by Quantum ESPRESSO.

    python examples/al_mg.py FOLDER
    dftune data generate FOLDER/al_mg.toml al_mg
    dftune data generate FOLDER/orders.toml al_mg_orders     # more orders of eight atoms, to train on
    dftune data merge al_mg al_mg_orders al_mg_all

Needs ``apt-get install quantum-espresso quantum-espresso-data``, and half an hour of one core.
"""

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import ase
import ase.build
import ase.io
import numpy as np

A = {"Al": 4.03, "Mg": 4.43}  # lattice constants between which Vegard's law takes those of mixtures [Å]
FOUR = [0, 4, 1, 3, 2]  # numbers of Mg in four sites, whose orders are equal by symmetry
EIGHT = [2, 4, 6]  # in eight sites
UNSEEN = [3, 5]  # in eight sites of test snapshots; no other snapshot has these compositions
# Sites of Mg in eight: orders that ``mixed`` has not given to training snapshots, but the second, which it has.  The
# fourth is that of a test snapshot, displaced otherwise.
ORDERS = [
    (0, 1, 2, 4),
    (0, 1, 2, 3, 4, 6),
    (0, 5),
    (0, 1, 2, 7),
    (0, 2, 4, 7),
    (0, 1, 2, 4),
    (0, 2, 4, 6),
    (0, 1, 2, 3, 4, 5),
]
SPEC = """# Al-Mg on an fcc lattice, 4 and 8 atoms
[[snapshots]]                 # Al4, Mg4, Al3Mg, AlMg3, Al2Mg2 in turn
train = 10
validation = 3
test = 4
structure = { file = "four.xyz", frames = ":" }
displacement = [0.05, 0.10, 0.15]
seed = 1
group = "4-atoms"

[[snapshots]]                 # Al6Mg2, Al4Mg4, Al2Mg6 in turn
train = 5
validation = 2
test = 2
structure = { file = "eight.xyz", frames = ":" }
displacement = [0.05, 0.10]
seed = 1
group = "8-atoms"

[[snapshots]]                 # Al5Mg3, Al3Mg5
test = 2
structure = { file = "unseen.xyz", frames = ":" }
displacement = 0.05
seed = 1
group = "unseen-compositions"

[[snapshots]]                 # Al6Mg2, Al4Mg4, Al2Mg6 in other orders
train = 3
structure = { file = "more.xyz", frames = ":" }
displacement = [0.05, 0.10]
seed = 1
group = "8-atoms"

[dft]
pseudopotentials.Al = "/usr/share/espresso/pseudo/Al.pz-vbc.UPF"
pseudopotentials.Mg = "/usr/share/espresso/pseudo/Mg.pz-n-vbc.UPF"
cutoff_ry = 10
k_spacing = 0.156              # 10 x 10 x 10 points of four atoms; at 6 x 6 x 6 the LDOS is 6 % off (1 - R²)
temperature = 3157.75
convergence = 1e-8

[ldos]
minimum = -6.4
maximum = 11.5
spacing = 0.4
width = 0.6
"""
SPEC_OF_ORDERS = """# Al-Mg on an fcc lattice, 8 atoms
[[snapshots]]                 # the orders in ORDERS
train = 8
structure = { file = "orders.xyz", frames = ":" }
displacement = [0.05, 0.10]
seed = 2
group = "8-atoms"

""" + SPEC[SPEC.index("[dft]") :]


def on_sites(n_cells: int, mg: Sequence[int]) -> ase.Atoms:
    """Conventional fcc cells in a row with Mg on these sites."""
    share = len(mg) / (4 * n_cells)
    atoms = ase.build.bulk("Al", "fcc", a=(1 - share) * A["Al"] + share * A["Mg"], cubic=True).repeat((n_cells, 1, 1))
    atoms.symbols[list(mg)] = "Mg"
    return atoms


def mixed(n_cells: int, n_mg: int, order: int) -> ase.Atoms:
    """The same with Mg on some sites: the ``order``-th of a shuffled list of all ways."""
    sites = 4 * n_cells
    ways = list(itertools.combinations(range(sites), n_mg))
    np.random.default_rng(sites).shuffle(ways)
    return on_sites(n_cells, ways[order % len(ways)])


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    ase.io.write(folder / "four.xyz", [mixed(1, FOUR[i % 5], i) for i in range(17)])
    ase.io.write(folder / "eight.xyz", [mixed(2, EIGHT[i % 3], i) for i in range(9)])
    ase.io.write(folder / "more.xyz", [mixed(2, EIGHT[i], 9 + i) for i in range(3)])
    ase.io.write(folder / "orders.xyz", [on_sites(2, sites) for sites in ORDERS])
    ase.io.write(folder / "unseen.xyz", [mixed(2, UNSEEN[i % 2], i) for i in range(2)])
    (folder / "al_mg.toml").write_text(SPEC)
    (folder / "orders.toml").write_text(SPEC_OF_ORDERS)


if __name__ == "__main__":
    main()
