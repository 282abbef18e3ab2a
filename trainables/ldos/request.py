"""What is asked of an LDOS surrogate over the web: a structure as JSON or text, and wishes.  Å, K."""

from collections.abc import Mapping
from typing import Any, Literal

import ase
import ase.build
import numpy as np
from ase.data import chemical_symbols
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from ..errors import InputError, Malformed, UnknownFormat, one_line
from ..json_body import JSON, read_json, rows_of
from ..structure_texts import read_cif_text, read_poscar_text
from ..structures import read_extended_xyz
from .prediction import MOST_TEMPERATURES

XYZ, CIF, POSCAR = "chemical/x-xyz", "chemical/x-cif", "chemical/x-poscar"
FORMATS = {
    XYZ: "extended XYZ, a frame for each structure; species, pos and the charge are read",
    CIF: "CIF with one block of data",
    POSCAR: "POSCAR of VASP 5, with a line of symbols",
}
READERS = {XYZ: read_extended_xyz, CIF: read_cif_text, POSCAR: read_poscar_text}
# What ASE's todict() may hold besides, and what marks it: nothing in a prediction depends on it.
UNUSED = {"tags", "momenta", "masses", "celldisp", "constraints", "spacegroup_kinds", "__ase_objtype__"}
IN_ROWS = {"cell", "positions", "numbers", "pbc", "initial_charges", "initial_magmoms"}  # of a file of ASE's
Vector = tuple[float, float, float]
_strict = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Structure(BaseModel):
    """Atoms in a periodic cell.

    ASE's ``Atoms.todict()`` is one, with lists for its arrays or as `ase.io.jsonio` writes it, and so are a row of the
    JSON files that ASE writes, such a file with one row, and pymatgen's ``Structure.as_dict()``.
    """

    model_config = _strict

    cell: tuple[Vector, Vector, Vector] = Field(description="lattice vectors as rows [Å]")
    positions: list[Vector] | None = Field(default=None, description="of the atoms [Å]")
    scaled_positions: list[Vector] | None = Field(default=None, description="or in units of the lattice vectors")
    symbols: list[str] | None = Field(default=None, description="chemical symbols")
    numbers: list[int] | None = Field(default=None, description="or atomic numbers")
    pbc: bool | tuple[bool, bool, bool] = Field(
        default=True, description="periodic along each vector; all must be true"
    )
    info: dict[str, Any] = Field(
        default={}, description="of ASE's todict(); a partial occupancy or a total charge in it is refused"
    )
    initial_charges: list[float] | None = Field(default=None, description="of the atoms; a sum other than 0 is refused")
    initial_magmoms: list[float] | list[Vector] | None = Field(default=None, description="a warning says: left out")

    @model_validator(mode="before")
    @classmethod
    def _without_what_nothing_depends_on(cls, values: Any) -> Any:
        """ASE's atoms hold more than a prediction depends on; pymatgen's have other names."""
        if not isinstance(values, dict):
            return values
        rows = rows_of(values)
        if rows is not None and (len(rows) != 1 or not isinstance(values := rows[0], dict)):
            raise PydanticCustomError("rows", f"a file of {len(rows)} structures; give it as structures")
        if "lattice" in values and "sites" in values:
            return _from_pymatgen(values)
        if "unique_id" in values:
            values = {n: v for n, v in values.items() if n in IN_ROWS}
        return {n: _from_ase(v) for n, v in values.items() if n not in UNUSED}

    @model_validator(mode="after")
    def _one_of_each(self) -> "Structure":
        for one, other in (("positions", "scaled_positions"), ("symbols", "numbers")):
            if (getattr(self, one) is None) == (getattr(self, other) is None):
                raise PydanticCustomError("one_of", f"give either {one} or {other}")
        positions, kinds = self.positions or self.scaled_positions or [], self.symbols or self.numbers or []
        if len(positions) != len(kinds):
            raise PydanticCustomError("lengths", f"{len(positions)} positions, but {len(kinds)} symbols or numbers")
        known = set(chemical_symbols[1:])
        if self.symbols and (unknown := next((s for s in self.symbols if s not in known), None)) is not None:
            raise PydanticCustomError("symbol", "{symbol} is no chemical symbol", {"symbol": repr(unknown[:20])})
        if self.numbers and not all(0 < n < len(chemical_symbols) for n in self.numbers):
            raise PydanticCustomError("number", f"atomic numbers are 1 to {len(chemical_symbols) - 1}")
        for name in ("initial_charges", "initial_magmoms"):
            if (values := getattr(self, name)) is not None and len(values) != len(kinds):
                raise PydanticCustomError("lengths", f"{len(kinds)} atoms, but {len(values)} {name}")
        return self

    def atoms(self) -> ase.Atoms:
        """The same as ASE's atoms."""
        # Of no positions ASE cannot make others by the cell; no atoms are refused where a structure is checked.
        scaled = self.scaled_positions
        where = {"scaled_positions": scaled} if scaled else {"positions": self.positions or []}
        return ase.Atoms(
            self.symbols or self.numbers,
            cell=self.cell,
            pbc=self.pbc,
            info=self.info,
            charges=self.initial_charges,
            magmoms=self.initial_magmoms,
            **where,
        )


def _from_ase(value: Any) -> Any:
    """A value as `ase.io.jsonio` writes it: an array is its shape, its type and its numbers, one after the other.

    A cell holds one.
    """
    if isinstance(value, dict) and value.get("__ase_objtype__") == "cell":
        value = value.get("array")
    if not isinstance(value, dict) or value.keys() != {"__ndarray__"}:
        return value
    try:
        shape, _, numbers = value["__ndarray__"]
        return np.array(numbers).reshape(shape).tolist()
    except (TypeError, ValueError) as error:
        raise PydanticCustomError("array", f"an array that is none: {one_line(error, 100)}") from None


def _from_pymatgen(values: dict[str, Any]) -> dict[str, Any]:
    """A structure of pymatgen's ``as_dict()``, whose sites are whole atoms."""
    try:
        places = [site["abc"] for site in values["sites"]]
        occupied = [[(s["element"], float(s["occu"])) for s in site["species"]] for site in values["sites"]]
        pbc = values["lattice"].get("pbc", (True, True, True))
        found = {"cell": values["lattice"]["matrix"], "scaled_positions": places, "pbc": pbc}
        sites = [site.get("properties") or {} for site in values["sites"]]
        for theirs, ours in (("charge", "initial_charges"), ("magmom", "initial_magmoms")):
            if any(site.get(theirs) is not None for site in sites):
                found[ours] = [_number(site.get(theirs)) for site in sites]
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        said = f"not what pymatgen's as_dict() makes: {type(error).__name__} {one_line(error, 100)}"
        raise PydanticCustomError("pymatgen", "{said}", {"said": said}) from None
    for number, species in enumerate(occupied, 1):
        if len(species) != 1 or not abs(species[0][1] - 1) < 1e-3:
            said = ", ".join(f"{str(name)[:20]} {share:g}" for name, share in species[:5])
            said = f"site {number} is partly occupied: {said or 'nothing'}; give a cell with whole atoms"
            raise PydanticCustomError("occupancy", "{said}", {"said": said})
    return found | {"symbols": [species[0][0] for species in occupied], "info": {"charge": values.get("charge")}}


def _number(value: Any) -> Any:
    """A charge or moment of pymatgen's: a number, a vector, a ``Magmom`` as a dictionary, or nothing."""
    return value.get("moment", 0) if isinstance(value, dict) else 0 if value is None else value


class Wishes(BaseModel):
    """What can be asked besides the structure: the query of a request whose body is a structure alone."""

    model_config = _strict

    temperature: float | None = Field(default=None, ge=0, description="electronic [K]; default that of the training")
    temperatures: tuple[float, ...] = Field(
        default=(),
        max_length=MOST_TEMPERATURES,
        description="more of them [K], in a query 300,1000: free energies and heat capacities are in heated",
    )
    forces: Literal["none", "mean", "spread"] | bool = Field(
        default="none", description="of the mean free energy, or with their spread (slower); true: spread"
    )
    stress: bool = Field(default=False, description="also the stress, with the forces")
    grid: tuple[PositiveInt, PositiveInt, PositiveInt] | None = Field(
        default=None,
        description="numbers of points along the cell vectors, in a query 20,20,20; default: no coarser than in the "
        "training",
    )

    @field_validator("grid", "temperatures", mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return value.split(",") if isinstance(value, str) else value

    def asked(self) -> dict[str, Any]:
        """As keywords of ``LdosSurrogate.prepare``."""
        return {name: getattr(self, name) for name in Wishes.model_fields}


class PredictRequest(Wishes):
    """A structure, and what is asked of it."""

    structure: Structure


def parse(content: bytes, content_type: str, query: Mapping[str, Any]) -> tuple[ase.Atoms, dict[str, Any]]:
    """The structure of a request, and the keywords of ``LdosSurrogate.prepare``.

    Args:
        content: JSON of a ``PredictRequest``, or a text of ``FORMATS``.
        content_type: which of them.
        query: ``Wishes`` beside a text.

    Raises:
        UnknownFormat: of no known type.
        Malformed: JSON or text that is none.
        InputError: something unknown, missing or out of range.
    """
    if content_type == JSON:
        body = read_json(PredictRequest, content, query)
        return body.structure.atoms(), body.asked()
    if content_type not in READERS:
        raise UnknownFormat(f"content type {content_type or 'missing'}; send {', '.join([JSON, *READERS])}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Malformed(f"{FORMATS[content_type].partition(',')[0]}: the body is no UTF-8 text") from None
    try:
        wishes = Wishes.model_validate(query)
    except ValidationError as error:
        raise InputError(one_line(error)) from None
    return READERS[content_type](text), wishes.asked()


def example(symbol: str) -> dict[str, Any]:
    """The JSON of a request to try: a crystal of one species."""
    try:
        atoms = ase.build.bulk(symbol)
    except (ValueError, RuntimeError):  # no crystal that ASE can build
        atoms = ase.Atoms(symbol, cell=[3, 3, 3], pbc=True)
    structure = {
        "cell": atoms.cell.round(6).tolist(),
        "positions": atoms.positions.round(6).tolist(),
        "symbols": atoms.get_chemical_symbols(),
    }
    return {"structure": structure}
