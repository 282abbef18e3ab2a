"""Inputs of pw.x and pp.x: what logs round or leave out.  eV, as pp.x itself has it.

Source: the input descriptions of Quantum ESPRESSO (INPUT_PW, INPUT_PP).
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from pathlib import Path

from ....errors import DatasetError, one_line
from ....files import read_text
from ....physics.units import RYDBERG

LARGEST = 1_000_000  # bytes
_BLOCK = re.compile(r"&(\w+)((?:'[^'\n]*'|\"[^\"\n]*\"|[^'\"/&])*)/", re.DOTALL)
_ENTRY = re.compile(r"(\w+)(?:\s*\(\s*1\s*\))?\s*=\s*('[^'\n]*'|\"[^\"\n]*\"|[^\s,]+)")
_COMMENT = re.compile(r"^((?:'[^'\n]*'|\"[^\"\n]*\"|[^'\"!\n])*)!.*$", re.MULTILINE)
_MESH = re.compile(
    r"^\s*K_POINTS\s*[({]?\s*automatic\s*[)}]?\s*\n\s*(\d+)\s+(\d+)\s+(\d+)", re.IGNORECASE | re.MULTILINE
)
MOST_ENERGIES = 100_000
# [eV], as HARTREE_SI / ELECTRONVOLT_SI / 2 in Modules/constants.f90 of 5.x to 6.5 and from 6.6 on.
RYDBERGS = (4.35974394e-18 / 1.602176487e-19 / 2, 4.3597447222071e-18 / 1.602176634e-19 / 2)
ROUNDING = 1e-6  # of a number of steps, beyond what any machine makes of it


def shared_folders(a: Path, b: Path) -> int:
    """Number of folders that two paths share."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(_folders(a), _folders(b), strict=False)))


@lru_cache(maxsize=100_000)
def _folders(path: Path) -> tuple[str, ...]:
    return Path(os.path.realpath(path)).parent.parts


def namelists(text: str) -> dict[str, dict[str, str]]:
    """Namelists of Fortran, by their names in small letters; values without their quotes."""
    found: dict[str, dict[str, str]] = {}
    for name, block in _BLOCK.findall(_COMMENT.sub(r"\1", text)):
        found[name.lower()] = {key.lower(): value.strip("'\"").strip() for key, value in _ENTRY.findall(block)}
    return found


@dataclass(frozen=True)
class PpInput:
    """An input of pp.x.

    Attributes:
        where: the file.
        quantity: plot_num.
        begin, end: of the names of the files that it has pp.x write, without their numbers.
        minimum, maximum, spacing: of the energies, for plot_num = 3 [eV].
        width: of the broadening [eV].
        gaussian: whether it asks for a Gaussian broadening whatever the smearing was (use_gauss_ldos).
        spin: spin_component; 0 is both.
    """

    where: Path
    quantity: int
    begin: str
    end: str
    minimum: float | None
    maximum: float | None
    spacing: float | None
    width: float | None
    gaussian: bool
    spin: int

    def number(self, name: str) -> int | None:
        """The number of a file that it wrote, from 1; None if it did not write it.  The only one of a run has none."""
        if not (name.startswith(self.begin) and name.endswith(self.end)):
            return None
        digits = name[len(self.begin) : len(name) - len(self.end)]
        return int(digits) if digits.isdecimal() else None

    @property
    def n_energies(self) -> tuple[int, int] | None:
        """Fewest and most energies that pp.x makes of the window; None where there is none.

        It takes the whole part of (emax - emin) / delta_e + 1, in Ry.  Where that is a whole number, rounding decides.
        """
        if self.minimum is None or self.maximum is None or self.spacing is None or not self.spacing > 0:
            return None
        steps = min((self.maximum - self.minimum) / self.spacing, float(MOST_ENERGIES))
        return max(int(steps - ROUNDING) + 1, 1), max(int(steps + ROUNDING) + 1, 1)

    @property
    def rounded_energies(self) -> list[int]:
        """Numbers of energies of the window by the arithmetic of pp.x, with each of its Rydbergs, the largest first.

        pp.x 6.7 of Debian made as many in ten of ten windows; compilers may round otherwise.
        """
        if self.n_energies is None or self.maximum is None or self.minimum is None or self.spacing is None:
            return []
        steps = [(self.maximum / ry - self.minimum / ry) / (self.spacing / ry) for ry in RYDBERGS]
        fewest, most = self.n_energies
        return sorted({min(max(int(n + 1), fewest), most) for n in steps}, reverse=True)

    def energy(self, number: int) -> float:
        """Of a file by its number, from 1 [eV]; of a window alone."""
        return (self.minimum or 0.0) + (number - 1) * (self.spacing or 0.0)


@dataclass(frozen=True)
class PwInput:
    """What an input of pw.x says more exactly than the log: width of the smearing [eV], mesh of k-points."""

    where: Path
    degauss: float | None
    k_mesh: tuple[int, int, int] | None


def read_inputs(files: Iterable[Path]) -> tuple[list[PpInput], list[PwInput], list[str]]:
    """The inputs of pp.x and pw.x among files, and which files are no text; other texts are passed over.

    Raises:
        DatasetError: an input has a word where a number belongs.
    """
    pp, pw, passed = list[PpInput](), list[PwInput](), list[str]()
    for file in files:
        if file.stat().st_size > LARGEST:
            continue
        try:
            text = read_text(file, other="latin-1")  # as comments and paths may be
        except (OSError, ValueError) as error:
            passed.append(one_line(error))
            continue
        if not text.strip() or "\0" in text:
            passed.append(f"{file}: {'is no text' if text.strip() else 'is empty'}")
            continue
        found = namelists(text)
        if "inputpp" in found:
            pp.append(_pp_input(file, found["inputpp"], found.get("plot", {})))
        elif "system" in found:
            mesh, width = _MESH.search(text), _number(file, found["system"], "degauss")
            pw.append(
                PwInput(
                    file,
                    None if width is None else width * RYDBERG,
                    None if mesh is None else (int(mesh[1]), int(mesh[2]), int(mesh[3])),
                )
            )
    return pp, pw, passed


def _pp_input(file: Path, values: dict[str, str], plot: dict[str, str]) -> PpInput:
    return PpInput(
        where=file,
        quantity=int(_number(file, values, "plot_num") or 0),
        begin=Path(values.get("filplot", "tmp.pp")).name,
        end=Path(plot.get("fileout", "")).name,
        minimum=_number(file, values, "emin"),
        maximum=_number(file, values, "emax"),
        spacing=_number(file, values, "delta_e"),
        width=_number(file, values, "degauss_ldos"),
        gaussian=values.get("use_gauss_ldos", "").lower().startswith((".t", "t")),
        spin=int(_number(file, values, "spin_component") or 0),
    )


def _number(file: Path, values: dict[str, str], name: str) -> float | None:
    if name not in values:
        return None
    try:
        return float(values[name].lower().replace("d", "e"))
    except ValueError:
        raise DatasetError(
            f"{file}: {name} = {values[name][:20]!r} is no number; mend it, or remove this input"
        ) from None
