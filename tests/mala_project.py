"""Folders as MALA has them, made from the bundled dataset, to import and to spoil."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np

from dftune import BispectrumSettings, Dataset
from dftune.trainables.data.exporting.exporters import export_dataset
from dftune.trainables.data.snapshot import Snapshot
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.physics.units import BOHR, K_B, RYDBERG

SETTINGS = BispectrumSettings(cutoff=4.0, two_j_max=4)
KNOWN = {"kernel": "gaussian", "width": 0.5}  # of the LDOS, for those who import them


def described(dataset: Dataset, folder: Path, n: int = 3) -> Dataset:
    """The first snapshots of a copy of a dataset, with descriptors."""
    shutil.copytree(dataset.path, folder, ignore=shutil.ignore_patterns("descriptors"))
    copy = Dataset.open(folder)
    for s in copy.snapshots[:n]:
        copy.write_descriptors(s, SETTINGS, bispectrum(s.cell, s.positions, s.numbers, s.grid, SETTINGS))
    return copy.only(copy.snapshots[:n])


def as_mala_writes_it(dataset: Dataset, folder: Path) -> Path:
    """A dataset in MALA's files, without what dftune adds to them."""
    export_dataset(dataset, folder, "mala")
    for file in folder.glob("*.info.json"):
        change(file, dftune=None)
    return folder


def change(file: Path, **values: object) -> None:
    """Set entries of a JSON file, dots in their names as __; None removes them."""
    content = json.loads(file.read_text("utf-8"))
    for path, value in values.items():
        *above, name = path.split("__")
        place = content
        for key in above:
            place = place[key]
        if value is None:
            del place[name]
        else:
            place[name] = value
    file.write_text(json.dumps(content), "utf-8")


def write_openpmd(path: Path, name: str, values: np.ndarray, *, unit: float = 1 / (1.602176634e-19 * 1e-30)) -> None:
    """An array [nx, ny, nz, n] as MALA's openPMD files have it."""
    with h5py.File(path, "w") as file:
        file.attrs.update({"openPMD": np.bytes_(b"1.1.0"), "is_mala_data": np.uint8(1)})
        for component in range(values.shape[3]):
            made = file.create_dataset(f"data/0/meshes/{name}/{component}", data=values[..., component])
            made.attrs["unitSI"] = unit


def write_log(file: Path, snapshot: Snapshot, *, smearing: str = "Fermi-Dirac", version: str = "6.7") -> None:
    """The log of pw.x that a snapshot could come from, as far as it is read; energies in Ry, lengths in alat."""
    alat = float(snapshot.cell[0, 0])
    axes = "\n".join(f"               a({i + 1}) = ( {_row(v / alat)} )  " for i, v in enumerate(snapshot.cell))
    atoms = "\n".join(
        f"      {i + 1:3d}           Al  tau({i + 1:4d}) = ( {_row(v / alat)}  )"
        for i, v in enumerate(snapshot.positions)
    )
    terms = {
        "one-electron contribution": snapshot.total_energy
        - snapshot.hartree_energy
        - snapshot.xc_energy
        - snapshot.ewald_energy
        - snapshot.entropy_term,
        "hartree contribution": snapshot.hartree_energy,
        "xc contribution": snapshot.xc_energy,
        "ewald contribution": snapshot.ewald_energy,
    }
    lines = "\n".join(f"     {name:25s} = {value / RYDBERG:16.8f} Ry" for name, value in terms.items())
    file.write_text(
        f"""
     Program PWSCF v.{version} starts on  1Jan2024 at 12: 0: 0

     number of atoms/cell      =            {snapshot.n_atoms}
     number of electrons       =        {snapshot.n_electrons:.2f}
     number of Kohn-Sham states=           12
     kinetic-energy cutoff     =      15.0000  Ry
     charge density cutoff     =      60.0000  Ry
     Exchange-correlation= PZ
     celldm(1)= {alat / BOHR:12.8f}  celldm(2)=   0.000000
     crystal axes: (cart. coord. in units of alat)
{axes}

     PseudoPot. # 1 for Al read from file:
     ./Al.pz-vbc.UPF
     atomic species   valence    mass     pseudopotential
        Al             3.00    26.98154     Al( 1.00)

     site n.     atom                  positions (alat units)
{atoms}

     number of k points=    10  {smearing} smearing, width (Ry)=  {snapshot.temperature * K_B / RYDBERG:.8f}
     Dense  grid:     2733 G-vectors     FFT dimensions: ( {", ".join(map(str, snapshot.grid))})

     the Fermi energy is  {snapshot.fermi_level:10.4f} ev

!    total energy              = {snapshot.total_energy / RYDBERG:16.8f} Ry
     smearing contrib. (-TS)   = {snapshot.entropy_term / RYDBERG:16.8f} Ry
{lines}

     convergence has been achieved in   8 iterations

   JOB DONE.
"""
    )


def _row(values: np.ndarray) -> str:
    return "  ".join(f"{value:12.9f}" for value in values)
