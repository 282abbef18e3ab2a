"""Results of LSMS (locally self-consistent multiple scattering) as its files have them; eV, Å, electrons, μ_B here.

    info_evec_out   first line: total energy, band energy, Fermi energy [Ry]; then a line an atom, 18 columns: Z, index,
                    x, y, z [bohr], electrons in the atom's cell, moment [μ_B], its direction (3), mixing, constraining
                    field (3), spin shift, new direction (3)
    i_lsms          input; bravais[1], [2], [3] are the cell vectors [bohr]
    k.out           a line an iteration: number, total energy [Ry], Fermi energy [Ry], moment [μ_B], largest residual

The files of one configuration share a folder, or the part of their names before these.  LSMS ends with success, and
writes its files, whether or not it converged: only the last residual of k.out tells.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import ase
import numpy as np
from numpy.typing import NDArray

from ..cells import StructureError, check_cell
from ..errors import DatasetError, InputError
from ..files import read_text
from ..physics.units import BOHR, RYDBERG

RESULT, INPUT, ITERATIONS = "info_evec_out", "i_lsms", "k.out"
COLUMNS = 18  # of an atom in info_evec_out
CONVERGED = 1e-5  # residual of a run that has converged
_NUMBER = r"[-+0-9.eEdD]+"


@dataclass(frozen=True, eq=False)
class LsmsRun:
    """One configuration as LSMS left it.

    atoms: with the cell; energy: total, all electrons [eV]; charge: electrons in each atom's cell, moment [μ_B],
    (n_atoms,); residual: the largest of the last iteration, None without a k.out.
    """

    where: Path
    atoms: ase.Atoms
    energy: float
    fermi_energy: float
    charge: NDArray[np.float64]
    moment: NDArray[np.float64]
    residual: float | None

    @property
    def converged(self) -> bool | None:
        """Whether it has; None: nothing tells."""
        return None if self.residual is None else self.residual <= CONVERGED


def results_in(folder: Path) -> list[Path]:
    """The files info_evec_out of a folder and of those below it, sorted by path."""
    return sorted(path for path in folder.rglob(f"*{RESULT}") if path.is_file())


def read_lsms(path: Path, cell: NDArray[np.float64] | None = None) -> LsmsRun:
    """Read a run from its info_evec_out and the files beside it.

    Args:
        path: of the info_evec_out.
        cell: rows are the cell vectors [Å]; by default those of the i_lsms beside it.

    Raises:
        DatasetError: a file is missing, truncated or damaged; names file, line and remedy.
    """
    lines = _text(path).splitlines()
    try:
        energy, _, fermi_energy = (float(number) for number in lines[0].split())
    except (IndexError, ValueError):
        raise DatasetError(
            f"{path}, line 1: not the three energies that LSMS writes there; give its {RESULT}"
        ) from None
    rows = [_atom(path, number, line) for number, line in enumerate(lines[1:], 2) if line.strip()]
    if not rows:
        raise DatasetError(f"{path}: has no atoms; the run was cut off, repeat it")
    table = np.array(rows)
    if (table[:, 1] != np.arange(len(table))).any():
        raise DatasetError(f"{path}: atoms are missing or stand twice; the run was cut off, repeat it")
    cell = _cell(beside(path, INPUT), len(table)) if cell is None else cell
    atoms = ase.Atoms(numbers=table[:, 0].astype(int), positions=table[:, 2:5] * BOHR, cell=cell, pbc=True)
    try:
        check_cell(np.array(atoms.cell), atoms.positions)
    except StructureError as error:
        raise DatasetError(f"{path}: {error}") from None
    return LsmsRun(
        path,
        atoms,
        energy * RYDBERG,
        fermi_energy * RYDBERG,
        table[:, 5],
        table[:, 6],
        residual_in(beside(path, ITERATIONS)),
    )


def beside(path: Path, name: str) -> Path:
    """The file of the same configuration as an info_evec_out: ``CuAu_info_evec_out`` -> ``CuAu_k.out``."""
    return path.with_name(path.name.removesuffix(RESULT) + name)


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except FileNotFoundError:
        raise DatasetError(f"{path}: missing") from None
    except InputError as error:
        raise DatasetError(str(error)) from None


def _atom(path: Path, number: int, line: str) -> list[float]:
    """The first seven columns of an atom.  Raises DatasetError: the line is none of an atom."""
    parts = line.split()
    try:
        if len(parts) != COLUMNS:
            raise ValueError(f"{len(parts)} columns and not {COLUMNS}")
        values = [float(part) for part in parts]
        if not np.isfinite(values).all():
            raise ValueError("numbers that are not finite")
        if not (values[0].is_integer() and 1 <= values[0] <= 118):
            raise ValueError(f"no element has the atomic number {parts[0]}")
    except ValueError as error:
        raise DatasetError(f"{path}, line {number}: {error}; the run was cut off, or this is no {RESULT}") from None
    return values[:7]


def _cell(path: Path, n_atoms: int) -> NDArray[np.float64]:
    """The cell of an i_lsms [Å].  Raises DatasetError: it has none, or the input is of other atoms."""
    if not path.is_file():
        raise DatasetError(f"{path}: missing, and the cell is in no other file; put the input of the run there")
    text = _text(path)
    rows = []
    for n in (1, 2, 3):
        found = re.search(rf"^\s*bravais\[{n}\]\s*=\s*\{{({_NUMBER}),\s*({_NUMBER}),\s*({_NUMBER})\}}", text, re.M)
        try:
            rows.append([float(number.replace("d", "e")) for number in found.groups()] if found else None)
        except ValueError:
            rows.append(None)
        if rows[-1] is None:
            raise DatasetError(f"{path}: has no cell vector bravais[{n}]; give the input of the run")
    stated = re.search(r"^\s*num_atoms\s*=\s*(\d+)", text, re.M)
    if stated and int(stated[1]) != n_atoms:
        raise DatasetError(f"{path}: an input of {stated[1]} atoms, beside a result of {n_atoms}; the run was cut off")
    return np.array(rows) * BOHR


def residual_in(path: Path) -> float | None:
    """The last residual of a k.out.  Raises DatasetError: it is damaged."""
    if not path.is_file():
        return None
    text = _text(path)
    try:
        _, _, _, _, residual = (float(part) for part in text.rstrip().splitlines()[-1].split())
        # A number may be cut off, too: 0.0000 of 0.0000841.  Where the SCF diverged it is NaN.
        if not text.endswith("\n") or residual < 0:
            raise ValueError
    except (IndexError, ValueError):
        raise DatasetError(f"{path}, last line: no whole iteration of LSMS; the run was cut off, repeat it") from None
    return residual
