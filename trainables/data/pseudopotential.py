"""Pseudopotential files in Unified Pseudopotential Format (UPF), versions 1 and 2: what the total free energy needs.

Lengths in Å, densities in 1/Å³; the files have bohr.  Version 1 is not XML, and version 2 is often not well-formed: its
authors write '&' and '<'.  So sections are found by their tags, and nothing is parsed, expanded or included as XML.

Source: the readers of Quantum ESPRESSO 6.7 (upflib) and its list of functionals (Modules/funct.f90).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from ..errors import InputError, cannot_be_read, one_line
from ..physics.exchange_correlation import Functional
from ..physics.units import BOHR

Kind = Literal["norm-conserving", "ultrasoft"]

LARGEST_FILE = 100_000_000  # [bytes]; those of pslibrary have up to 10 million
LONGEST_ARRAY = 10_000_000  # [characters]; a radial function of 1,200 points has 30,000
LARGEST_NUMBER = 1e100  # in any unit; far below where a product overflows
CORE_END = 10.0  # [bohr]; Quantum ESPRESSO integrates core charges to here

_FUNCTIONALS: dict[tuple[str, ...], Functional] = {
    ("LDA",): "lda-pz",
    ("PZ",): "lda-pz",
    ("SLA", "PZ"): "lda-pz",
    ("PBE",): "pbe",
    ("SLA", "PW", "PBX", "PBC"): "pbe",
    ("SLA", "PW", "PBE", "PBE"): "pbe",  # how older files spell PBX PBC
}
_NO_GRADIENT = ("NOGX", "NOGC")
_KINDS: dict[str, Kind] = {"NC": "norm-conserving", "SL": "norm-conserving", "US": "ultrasoft", "USPP": "ultrasoft"}
# version 1: the first lines of the header, whatever the comments behind the values say
_HEADER_LINES = ("version", "element", "pseudo_type", "core_correction", "functional", "z_valence")
_ATTRIBUTE = re.compile(r"""\s*([A-Za-z_][\w.:-]*)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_TAG_END = re.compile(r"\s*/?>")
_NOT_NUMERIC = re.compile(r"[^\s0-9.eEdD+-]")
_BARE_EXPONENT = re.compile(r"(?<=[0-9.])(?=[+-][0-9])")  # Fortran writes 1.5-103 for 1.5E-103


class UnsupportedPseudopotential(InputError):
    """A whole pseudopotential, but of a kind or functional from which no total free energy can be had."""


@dataclass(frozen=True, eq=False)
class Pseudopotential:
    """The part of a pseudopotential that the total free energy needs.

    Attributes:
        file: where it was read.
        element: chemical symbol.
        valence: electrons it leaves to the DFT.
        functional, kind: what it was made for, and how.
        core_radius, core_density: charge of the nonlinear core correction, shapes (n,) [Å] and [1/Å³]: n_core(r)
            itself, not times 4πr², to the first point beyond 10 bohr; None where there is none.
    """

    file: Path
    element: str
    valence: float
    functional: Functional
    kind: Kind
    core_radius: NDArray[np.float64] | None
    core_density: NDArray[np.float64] | None


def read_upf(path: Path) -> Pseudopotential:
    """Read a UPF file.

    Scalar and fully relativistic files are both read: spin-orbit coupling enters through the band energy alone.

    Raises:
        UnsupportedPseudopotential: PAW, a bare Coulomb potential, or a functional other than LDA-PZ and PBE.
        InputError: missing, not a UPF file, truncated or damaged.
    """
    text = _text(path)
    try:
        header = _header(text)
        element = header["element"].strip().capitalize()
        if element not in atomic_numbers or element == "X":
            raise ValueError(f"its element {header['element'][:20]!r} is not a chemical symbol")
        valence = _numbers(header["z_valence"], "the valence z_valence")
        if valence.size != 1 or not 0 < valence[0] <= 118:
            raise ValueError(f"its valence z_valence is {header['z_valence'][:20]!r}, not a number of electrons")
        kind = _kind(path, header)
        functional = _functional(path, header["functional"])
        core = _core_charge(text) if _flag(header, "core_correction") else None
    except UnsupportedPseudopotential:
        raise
    except ValueError as error:
        raise InputError(f"{path}: {error}; copy again the file that the DFT used") from error
    radius, density = core or (None, None)
    return Pseudopotential(path, element, float(valence[0]), functional, kind, radius, density)


def _text(path: Path) -> str:
    try:
        if path.is_dir():
            raise InputError(f"{path}: a folder; give the UPF file of the pseudopotential")
        if path.exists() and not path.is_file():  # reading a pipe or a device might not end
            raise InputError(f"{path}: not a file; give the UPF file of the pseudopotential")
        with path.open("rb") as stream:
            content = stream.read(LARGEST_FILE + 1)
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing; give the UPF file of the pseudopotential that the DFT used") from error
    except OSError as error:
        raise InputError(cannot_be_read(path, error)) from error
    if len(content) > LARGEST_FILE:
        raise InputError(f"{path}: larger than {LARGEST_FILE // 1_000_000} MB; give the UPF file of a pseudopotential")
    # The author's words hold anything, the rest is ASCII; Latin-1 reads every byte as one character.
    before, tag, after = content.decode("latin-1").partition("<PP_INFO")
    first, *rest = (before + after.partition("</PP_INFO>")[2] if tag else before).split("<!--")
    return first + "".join(part.partition("-->")[2] for part in rest)


def _header(text: str) -> dict[str, str]:
    """The header as the attributes of version 2, whichever version the file has."""
    start = text.find("<PP_HEADER")
    if start < 0:
        raise ValueError("not a UPF pseudopotential (it has no PP_HEADER)")
    root = re.search(r"""<UPF\s+version\s*=\s*["']([^"']{0,20})["']""", text)
    if root is not None and root[1].split(".")[0].strip() != "2":
        raise ValueError(f"UPF of version {root[1]!r}, where 1 and 2 are known")
    if ("</PP_RHOATOM>" if root is None else "</UPF>") not in text:
        raise ValueError("truncated: the end is missing")
    header = {} if root is None else _attributes(text, start + len("<PP_HEADER"))
    if root is None:
        lines = [line.strip() for line in (_section(text, "PP_HEADER") or "").splitlines() if line.strip()]
        # The functional is four words and a short name, of which the words count; all else is the first word.
        header = {name: line.split()[0] for name, line in zip(_HEADER_LINES, lines)}
        header["functional"] = " ".join(re.split("exchange", lines[4], flags=re.I)[0].split()[:4]) if lines[4:] else ""
    for name in _HEADER_LINES[1:]:
        if not header.get(name, "").strip():
            raise ValueError(f"its PP_HEADER gives no {name}")
    return header


def _attributes(text: str, place: int) -> dict[str, str]:
    found = {}
    while match := _ATTRIBUTE.match(text, place):
        found[match[1]] = match[2] if match[3] is None else match[3]
        place = match.end()
    if not _TAG_END.match(text, place):
        raise ValueError(f"its PP_HEADER is damaged (after {next(reversed(found), 'the tag')!r})")
    return found


def _section(text: str, tag: str) -> str | None:
    """What stands between a tag and its end; None if there is no such tag."""
    opening = re.search(rf"<{tag}(?=[\s>])", text)
    if opening is None:
        return None
    start = text.find(">", opening.end()) + 1
    end = text.find(f"</{tag}>", start)
    if not start or end < 0:
        raise ValueError(f"truncated or damaged: {tag} has no end")
    return text[start:end]


def _numbers(text: str, what: str) -> NDArray[np.float64]:
    if len(text) > LONGEST_ARRAY:
        raise ValueError(f"{what} has {len(text)} characters, too many for a radial function")
    try:
        if bad := _NOT_NUMERIC.search(text):
            raise ValueError(f"{text[bad.start() : bad.start() + 10]!r} among its numbers")
        values = np.array(_BARE_EXPONENT.sub("e", text.replace("D", "e").replace("d", "e")).split(), dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"{what} cannot be read ({one_line(error, 80)})") from error
    if not (np.abs(values) < LARGEST_NUMBER).all():
        raise ValueError(f"{what} is not finite, or above {LARGEST_NUMBER:g}")
    return values


def _flag(header: dict[str, str], name: str) -> bool:
    text = header.get(name, "F").strip().strip(".").upper()
    if text not in ("T", "TRUE", "F", "FALSE"):
        raise ValueError(f"its {name} is {text[:20]!r}, neither true nor false")
    return text.startswith("T")


def _kind(path: Path, header: dict[str, str]) -> Kind:
    name = header["pseudo_type"].strip().upper()
    if name == "PAW" or _flag(header, "is_paw"):
        raise UnsupportedPseudopotential(
            f"{path}: a PAW dataset: its one-centre terms of the total energy are not in LDOS and density; "
            "total free energies need a norm-conserving or ultrasoft pseudopotential"
        )
    if name not in _KINDS or _flag(header, "is_coulomb"):
        raise UnsupportedPseudopotential(
            f"{path}: a pseudopotential of type {name[:20]!r}; total free energies need a norm-conserving (NC, SL) or "
            "ultrasoft (US, USPP) one"
        )
    return "ultrasoft" if _flag(header, "is_ultrasoft") else _KINDS[name]


def functional_of(name: str) -> Functional | None:
    """A functional by what Quantum ESPRESSO calls it, as SLA PW PBX PBC; None: not one that we know."""
    words = tuple(word for word in re.split(r"[\s+-]+", name.strip().upper()) if word not in _NO_GRADIENT)
    return _FUNCTIONALS.get(words)


def _functional(path: Path, name: str) -> Functional:
    if (known := functional_of(name)) is None:
        raise UnsupportedPseudopotential(
            f"{path}: made for the functional {' '.join(name.split())[:60]!r}; total free energies are known for LDA "
            "in the form of Perdew and Zunger (SLA PZ NOGX NOGC) and for PBE (SLA PW PBX PBC)"
        )
    return known


def _core_charge(text: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Radii [Å] and core density [1/Å³] to the first point beyond 10 bohr or its end; None where all are zero."""
    mesh, core = _section(text, "PP_MESH"), _section(text, "PP_NLCC")
    points = None if mesh is None else _section(mesh, "PP_R")
    if core is None:
        raise ValueError("it says that it has a core correction, but has no PP_NLCC")
    if points is None:
        raise ValueError("it has no radial mesh (PP_R)")
    radius, density = _numbers(points, "the mesh PP_R"), _numbers(core, "the core charge PP_NLCC")
    if radius.shape != density.shape:
        raise ValueError(f"its mesh has {radius.size} radii, but its core charge PP_NLCC {density.size} values")
    if not (radius[:1] >= 0).all() or not (np.diff(radius) > 0).all() or (radius <= CORE_END).sum() < 3:
        raise ValueError("the mesh PP_R does not go up from 0, with 3 radii or more below 10 bohr")
    charged = np.flatnonzero(density)
    if not charged.size:
        return None
    # Two zeros stay: of an even number of points Simpson's rule leaves out the last.
    n = min(np.searchsorted(radius, CORE_END, side="right") + 1, max(3, charged[-1] + 3))
    return radius[:n] * BOHR, density[:n] / BOHR**3
