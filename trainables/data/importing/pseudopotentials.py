"""What total free energies need of the DFT, from the pseudopotential files that its snapshots name."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ...errors import DatasetError, InputError
from ...files import sha256
from ...physics.exchange_correlation import Functional
from ..kohn_sham import KohnSham
from ..pseudopotential import Pseudopotential, UnsupportedPseudopotential, functional_of, read_upf
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
        folders: to look for these files in; none: beside the snapshot.
        checksums: chemical symbol -> MD5 of the file that the DFT read, where it says it.
        functional: as the DFT calls it, where it says it; its input may overrule the pseudopotentials (input_dft).
        beyond: what else is in its total energy than the terms that we know, in words.
    """

    where: Path
    cutoff: float | None
    pseudopotentials: Mapping[str, str | None]
    folders: Sequence[Path] = ()
    checksums: Mapping[str, str] = field(default_factory=dict)
    functional: str | None = None
    beyond: Sequence[str] = ()

    @property
    def places(self) -> Sequence[Path]:
        """Folders to look for pseudopotentials in."""
        return self.folders or (self.where.parent,)


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
    _refuse_mixed(calculations, keys)
    try:
        for one in calculations:
            if one.beyond:
                raise _Unknown(f"{one.where}: the total energy of the DFT has {', '.join(one.beyond)}")
        cutoff = _one_value([(c.where, c.cutoff) for c in calculations], keys.cutoff)
        used = {}
        for symbol in species:
            having = [one for one in calculations if symbol in one.pseudopotentials]
            named = [(c.where, c.pseudopotentials[symbol]) for c in having]
            name = Path(_one_value(named, keys.pseudopotential)).name
            folders = [folder] if folder else [place for one in having for place in one.places]
            used[symbol] = _pseudopotential(name, folders, symbol, having)
        functional = _functional(calculations)
        return KohnSham.from_pseudopotentials(
            used, species=species, density_cutoff=cutoff * keys.unit, functional=functional
        )
    except (_Unknown, UnsupportedPseudopotential) as error:
        if folder is not None:
            remedy = "or import without --pseudopotentials, for the LDOS and the band energy alone"
            raise InputError(f"{error}; {remedy}") from error
        report(f"no total free energies from this dataset: {error}")
        return None


def _refuse_mixed(calculations: Sequence[Calculation], keys: Keys) -> None:
    """Raise DatasetError if calculations say that they differ, whether or not more is known of them."""
    _same([(one.where, one.cutoff) for one in calculations], keys.cutoff)
    _same(
        [(one.where, one.functional and (functional_of(one.functional) or one.functional)) for one in calculations],
        "the functional",
    )
    for symbol in sorted({symbol for one in calculations for symbol in one.pseudopotentials}):
        names = [(one.where, one.pseudopotentials.get(symbol)) for one in calculations]
        _same([(where, name and Path(name).name) for where, name in names], keys.pseudopotential)
        _same([(one.where, one.checksums.get(symbol)) for one in calculations], f"the MD5 sum of the file of {symbol}")


def _same(given: Sequence[tuple[Path, T | None]], key: str) -> T | None:
    """What all that say it say; None: none does.  Raises DatasetError: they differ."""
    known = [(file, value) for file, value in given if value is not None]
    for file, value in known:
        if value != known[0][1]:
            raise DatasetError(f"{file}: {key} is {value}, but {known[0][1]} in {known[0][0]}; a dataset needs one")
    return known[0][1] if known else None


def _one_value(given: Sequence[tuple[Path, T | None]], key: str) -> T:
    if without := [file for file, value in given if value is None]:
        raise _Unknown(f"{without[0]} gives no {key}; add it and import again")
    return next(value for _, value in given if value is not None)


def _functional(calculations: Sequence[Calculation]) -> Functional | None:
    """The functional that the DFT says it used; None where it says none, and used that of its pseudopotentials."""
    said = next(((one.where, one.functional) for one in calculations if one.functional is not None), None)
    if said is None:
        return None
    if (known := functional_of(said[1])) is None:
        raise _Unknown(f"{said[0]}: the DFT used the functional {said[1]!r}; LDA-PZ and PBE are known")
    return known


def _pseudopotential(
    name: str, folders: Sequence[Path], symbol: str, calculations: Sequence[Calculation]
) -> Pseudopotential:
    """The file of that name in the folders; all that have it must have the same, and it must be that of the DFT."""
    places = list(dict.fromkeys(folder / name for folder in folders))
    found = [place for place in places if place.is_file()]
    if not found:
        where = ", ".join(str(place.parent) for place in places[:2])
        where += f" and {len(places) - 2} other folders" if len(places) > 2 else ""
        raise _Unknown(f"{name} is not in {where}; give its folder with --pseudopotentials")
    read = read_upf(found[0])
    md5 = hashlib.md5(found[0].read_bytes(), usedforsecurity=False).hexdigest()
    for one in calculations:
        if one.checksums.get(symbol, md5) != md5:
            raise DatasetError(
                f"{found[0]}: has the MD5 sum {md5}, but {one.where} was computed with another file of this name "
                f"({one.checksums[symbol]}); give the one that the DFT used"
            )
    first = sha256(found[0])
    if different := [place for place in found[1:] if sha256(place) != first]:
        raise DatasetError(f"{different[0]}: differs from {found[0]}; a dataset needs one pseudopotential an element")
    return read
