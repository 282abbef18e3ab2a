"""Four-atom cells of aluminium at several volumes by Quantum ESPRESSO: what examples/al_volumes.tar.xz was made with.

    python examples/al_volumes.py RUNS
    dftune data import --kernel gaussian --pseudopotentials /usr/share/espresso/pseudo RUNS al_volumes

Needs ``apt-get install quantum-espresso quantum-espresso-data``, and some ten minutes of one core.  What is there
already is not computed again.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np

FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
A = 4.05  # lattice constant that volumes are relative to [Å]
PW = """&CONTROL
 calculation='scf', prefix='qe', outdir='tmp', pseudo_dir='/usr/share/espresso/pseudo', tprnfor=.true., tstress=.true.
/
&SYSTEM
 ibrav=0, nat=4, ntyp=1, nbnd=18, ecutwfc=15.0, ecutrho=60.0, nr1=20, nr2=20, nr3=20,
 occupations='smearing', smearing='fermi-dirac', degauss=0.02, nosym={nosym}
/
&ELECTRONS
 conv_thr=1e-9, mixing_beta=0.5
/
ATOMIC_SPECIES
Al 26.982 Al.pz-vbc.UPF
K_POINTS automatic
10 10 10 0 0 0
CELL_PARAMETERS angstrom
{cell}
ATOMIC_POSITIONS angstrom
{atoms}
"""
PP = """&inputpp
 prefix='qe', outdir='tmp', plot_num={plot_num}, emin=-6, emax=12, delta_e=0.25, degauss_ldos=0.5
/
&plot
 iflag=3, output_format=6, fileout='{name}.cube'
/
"""


def cell(change: float, strain: np.ndarray | None = None) -> np.ndarray:
    """The conventional cell of a volume changed by a part, and strained without changing it more, (3, 3) [Å]."""
    deformed = np.eye(3) + (np.zeros((3, 3)) if strain is None else strain)
    return np.asarray(A * np.cbrt((1 + change) / np.linalg.det(deformed)) * deformed)


def deviatoric(size: float, seed: int) -> np.ndarray:
    """A random symmetric strain without a trace, of norm ``size``, (3, 3)."""
    drawn = np.random.default_rng(seed).normal(size=(3, 3))
    strain = drawn + drawn.T
    strain -= np.trace(strain) / 3 * np.eye(3)
    return np.asarray(size * strain / np.linalg.norm(strain))


def run(program: str, name: str, text: str, folder: Path) -> None:
    (folder / f"{name}.in").write_text(text)
    with (folder / f"{name}.in").open() as given, (folder / f"{name}.out").open("w") as log:
        subprocess.run([program], cwd=folder, stdin=given, stdout=log, check=True)


def snapshot(folder: Path, lattice: np.ndarray, displacement: float = 0.0, seed: int = 0) -> None:
    """SCF, LDOS and density of one cell, in a folder of its own."""
    if (folder / "density.cube").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    moved = np.random.default_rng(seed).normal(0, displacement, (4, 3))
    places = FCC @ lattice + moved - moved.mean(axis=0)
    vectors = "\n".join(" ".join(f"{x:.10f}" for x in v) for v in lattice)
    atoms = "\n".join("Al " + " ".join(f"{x:.10f}" for x in place) for place in places)
    # pp.x makes the LDOS as symmetric as the crystal is: of ideal cells the k-points that differ are enough.
    nosym = ".true." if displacement else ".false."
    run("pw.x", "pw", PW.format(nosym=nosym, cell=vectors, atoms=atoms), folder)
    # pp.x broadens the LDOS by the smearing that it finds here, and a Gaussian is narrower.
    xml = folder / "tmp/qe.save/data-file-schema.xml"
    xml.write_text(xml.read_text().replace(">fd<", ">gaussian<"))
    run("pp.x", "ldos", PP.format(plot_num=3, name="ldos"), folder)
    run("pp.x", "density", PP.format(plot_num=0, name="density"), folder)


def main() -> None:
    runs = Path(sys.argv[1])
    for percent in (0, -12, -9, -6, -3, 5, 8):
        snapshot(runs / f"ideal{percent:+03d}", cell(percent / 100))
    snapshot(runs / "sheared-06", cell(-0.06, deviatoric(0.03, seed=61)))
    near, by = (3.967 / A) ** 3 - 1, 0.03  # the least energy, and strains that keep the volume
    snapshot(runs / "tetragonal+3", cell(near, np.diag([by, by, (1 + by) ** -2 - 1])))
    snapshot(runs / "tetragonal-3", cell(near, np.diag([-by, -by, (1 - by) ** -2 - 1])))
    snapshot(runs / "sheared+3", cell(near, by * np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0]])))
    snapshot(runs / "orthorhombic+3", cell(near, np.diag([by, 1 / (1 + by) - 1, 0])))
    for percent, displacement, seed in ((-12, 0.05, 9000), (-10, 0.10, 9001), (-6, 0.10, 9003), (10, 0.05, 9010)):
        snapshot(runs / f"displaced{percent:+03d}", cell(percent / 100), displacement, seed)


if __name__ == "__main__":
    main()
