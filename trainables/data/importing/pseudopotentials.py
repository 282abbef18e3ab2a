"""What total free energies need of the DFT, from the pseudopotential files that its snapshots name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ...errors import DatasetError, InputError
from ...files import sha256
from ..kohn_sham import KohnSham
from ..pseudopotential import Pseudopotential, UnsupportedPseudopotential, read_upf
from .importer import Report

T = TypeVar("T")


class _Unknown(Exception):
    """Why a DFT calculation cannot be known well enough for its total free energy, in words."""


@dataclass(frozen=True)
class Calculation:
    """What the files of a snapshot say of its DFT calculation.

    Attributes:
        where: the file to name in an error; pseudopotentials are looked for beside it.
        cutoff: kinetic-energy cutoff of the density, in the unit of the file.
        pseudopotentials: chemical symbol -> name of a UPF file.
    """

    where: Path
    cutoff: float | None
    pseudopotentials: Mapping[str, str | None]


@dataclass(frozen=True)
class Keys:
    """How the files of an importer call what ``Calculation`` holds, and the unit of their cutoff [eV]."""

    cutoff: str
    pseudopotential: str
    unit: float


def kohn_sham(
    calculations: Sequence[Calculation],
    keys: Keys,
    *,
    species: Mapping[str, float],
    folder: Path | None,
    report: Report,
) -> KohnSham | None:
    """The DFT as its pseudopotentials tell; None, and a line that says why, if nobody asked and they cannot.

    Args:
        calculations: one a snapshot.
        keys: names for messages, and the unit of the cutoffs.
        species: chemical symbol -> valence electrons.
        folder: of the UPF files, asked for by the user; None: look beside the snapshots.
        report: gets the line.

    Raises:
        InputError: the snapshots contradict each other or a file, a file is damaged, or ``folder`` does not do.
    """
    try:
        cutoff = _one_value([(c.where, c.cutoff) for c in calculations], keys.cutoff)
        used = {}
        for symbol in species:
            named = [(c.where, c.pseudopotentials[symbol]) for c in calculations if symbol in c.pseudopotentials]
            name = Path(_one_value(named, keys.pseudopotential)).name
            used[symbol] = _pseudopotential(name, [folder] if folder else [where.parent for where, _ in named])
        return KohnSham.from_pseudopotentials(used, species=species, density_cutoff=cutoff * keys.unit)
    except (_Unknown, UnsupportedPseudopotential) as error:
        if folder is not None:
            remedy = "or import without --pseudopotentials, for the LDOS and the band energy alone"
            raise InputError(f"{error}; {remedy}") from error
        report(f"no total free energies from this dataset: {error}")
        return None


def _one_value(given: Sequence[tuple[Path, T | None]], key: str) -> T:
    known = [(file, value) for file, value in given if value is not None]
    for file, value in known:
        if value != known[0][1]:
            raise DatasetError(f"{file}: {key} is {value}, but {known[0][1]} in {known[0][0]}; a dataset needs one")
    if without := [file for file, value in given if value is None]:
        raise _Unknown(f"{without[0]} gives no {key}; add it and import again")
    return known[0][1]


def _pseudopotential(name: str, folders: Sequence[Path]) -> Pseudopotential:
    """The file of that name in the folders; all that have it must have the same."""
    places = list(dict.fromkeys(folder / name for folder in folders))
    found = [place for place in places if place.is_file()]
    if not found:
        where = ", ".join(str(place.parent) for place in places)
        raise _Unknown(f"{name} is not in {where}; give its folder with --pseudopotentials")
    read = [read_upf(place) for place in found]
    if different := [place for place in found[1:] if sha256(place) != sha256(found[0])]:
        raise DatasetError(f"{different[0]}: differs from {found[0]}; a dataset needs one pseudopotential an element")
    return read[0]
