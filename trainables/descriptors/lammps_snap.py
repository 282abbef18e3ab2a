"""Linear SNAP potentials of atoms (Thompson et al., J. Comput. Phys. 285, 316 (2015)), by LAMMPS.  eV, Å.

E = Σ_i (β_0 + β·B_i), with coefficients by the species of atom i.
"""

from pathlib import Path
from typing import NamedTuple

import ase
import numpy as np
from numpy.typing import NDArray

from .lammps_engine import BAR, GLOBAL_VECTOR, empty_cell, folded, place
from .native.tables import RFAC0
from .settings import BispectrumSettings
from .species import species_of

Float64 = NDArray[np.float64]
GLOBAL_ARRAY = (0, 2)  # lammps.LMP_STYLE_GLOBAL, LMP_TYPE_ARRAY
FLAGS = "rmin0 0 bzeroflag 1 quadraticflag 0 switchflag 1"
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))  # of LAMMPS' rows


class Linear(NamedTuple):
    """Energy, forces and stress of a linear potential as products with its coefficients.

    Their last axis goes over species and, of each, β_0 and β: n_species (1 + n_components) coefficients.

    energy: (n,) [eV].  forces: (n_atoms, 3, n) [eV/Å].  stress: (3, 3, n) [eV/Å³].
    """

    energy: Float64
    forces: Float64
    stress: Float64


def linear(atoms: ase.Atoms, settings: BispectrumSettings) -> Linear:
    """Products of one structure.

    Args:
        atoms: periodic.
        settings: of the bispectrum around atoms, for all species of the potential and without ``chem``.

    Raises:
        InputError: an atom of another species, or LAMMPS refuses the structure.
    """
    cell, n_atoms = np.array(atoms.cell), len(atoms)
    species = species_of(atoms.numbers, settings)
    n_species, width = len(species.weights), 1 + settings.n_components
    of_species = " ".join(map(repr, [*species.radii.tolist(), *species.weights.tolist()]))
    with empty_cell(cell, n_species) as (lmp, rotation):
        lmp.commands_list(["mass * 1.0", f"pair_style zero {species.cutoffs.max()}", "pair_coeff * *"])
        place(lmp, folded(cell, atoms.positions) @ rotation, (species.index + 1).tolist())
        lmp.commands_list(
            [
                f"compute b all snap {settings.cutoff} {RFAC0} {settings.two_j_max} {of_species} {FLAGS} bikflag 0",
                "thermo_style custom step c_b[1][1]",
                "run 0 post no",
            ]
        )
        # The last column is the pair style's own energy, force and virial: none.
        rows = np.array(lmp.numpy.extract_compute("b", *GLOBAL_ARRAY))[:, :-1]
    of_species_and_component = np.zeros((len(rows), n_species, width))
    of_species_and_component[:, :, 1:] = rows.reshape(len(rows), n_species, settings.n_components)
    of_species_and_component[0, :, 0] = np.bincount(species.index, minlength=n_species)
    found = of_species_and_component.reshape(len(rows), -1)
    forces = np.einsum("nix,ji->njx", found[1 : 1 + 3 * n_atoms].reshape(n_atoms, 3, -1), rotation)
    virial = np.empty((3, 3, found.shape[1]))
    for row, (i, j) in zip(found[1 + 3 * n_atoms :], VOIGT, strict=True):
        virial[i, j] = virial[j, i] = row
    stress = -np.einsum("ai,bj,ijx->abx", rotation, rotation, virial) / abs(np.linalg.det(cell))
    return Linear(found[0], forces, stress)


def write_potential(path: Path, name: str, coefficients: Float64, settings: BispectrumSettings) -> list[str]:
    """Write NAME.snapcoeff and NAME.snapparam into a folder.

    Args:
        path: the folder.
        name: of the files.
        coefficients: as the last axis of ``Linear``, (n_species (1 + n_components),).
        settings: as in ``linear``, with all species named.

    Returns:
        LAMMPS' lines that use them.
    """
    of_each = coefficients.reshape(len(settings.species), -1)
    lines = [f"{len(of_each)} {of_each.shape[1]}"]
    for symbol, values in zip(settings.species, of_each, strict=True):
        lines += [f"{symbol} {settings.radius(symbol)!r} {settings.weight(symbol)!r}", *map(repr, values.tolist())]
    (path / f"{name}.snapcoeff").write_text("\n".join(lines) + "\n", encoding="ascii")
    flags = iter(FLAGS.split())
    parameters = [f"rcutfac {settings.cutoff!r}", f"twojmax {settings.two_j_max}", f"rfac0 {RFAC0}"]
    parameters += [f"{flag} {value}" for flag, value in zip(flags, flags, strict=True)]
    (path / f"{name}.snapparam").write_text("\n".join(parameters) + "\n", encoding="ascii")
    return ["pair_style snap", f"pair_coeff * * {name}.snapcoeff {name}.snapparam {' '.join(settings.species)}"]


def run_potential(atoms: ase.Atoms, lines: list[str], symbols: tuple[str, ...]) -> tuple[float, Float64, Float64]:
    """Energy [eV], forces (n_atoms, 3) [eV/Å] and stress (3, 3) [eV/Å³] by a pair style of LAMMPS.

    Args:
        atoms: periodic.
        lines: of LAMMPS, which define the pair style.
        symbols: of its species, in the order of the types.

    Raises:
        InputError: LAMMPS refuses structure or lines.
    """
    cell, n_atoms = np.array(atoms.cell), len(atoms)
    with empty_cell(cell, len(symbols)) as (lmp, rotation):
        place(lmp, folded(cell, atoms.positions) @ rotation, [1 + symbols.index(s) for s in atoms.symbols])
        lmp.commands_list(
            ["mass * 1.0", *lines, "compute v all pressure NULL virial", "thermo_style custom step pe c_v[1]", "run 0"]
        )
        order = np.argsort(lmp.numpy.extract_atom("id")[:n_atoms])
        xx, yy, zz, xy, xz, yz = lmp.numpy.extract_compute("v", *GLOBAL_VECTOR)
        stress = -np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) / BAR
        forces = lmp.numpy.extract_atom("f")[:n_atoms][order] @ rotation.T
        return float(lmp.get_thermo("pe")), forces, rotation @ stress @ rotation.T
