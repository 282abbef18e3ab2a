"""What is asked of an LDOS surrogate over the web: a structure as JSON or extended XYZ, and wishes.  Å, K."""

from collections.abc import Mapping
from typing import Any, Literal

import ase
import ase.build
from ase.data import chemical_symbols
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from ..errors import InputError, Malformed, UnknownFormat, one_line
from ..json_body import JSON, read_json
from ..structures import read_extended_xyz

XYZ = "chemical/x-xyz"
FORMATS = {XYZ: "extended XYZ, one frame; species and pos are read"}
# What ASE's todict() may hold besides: nothing in a prediction depends on it.
UNUSED = {"tags", "momenta", "masses", "initial_magmoms", "initial_charges", "celldisp", "constraints"}
Vector = tuple[float, float, float]
_strict = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Structure(BaseModel):
    """Atoms in a periodic cell, as ASE and pymatgen give them: ``Atoms.todict()`` is one, with lists for its arrays."""

    model_config = _strict

    cell: tuple[Vector, Vector, Vector] = Field(description="lattice vectors as rows [Å]")
    positions: list[Vector] | None = Field(default=None, description="of the atoms [Å]")
    scaled_positions: list[Vector] | None = Field(default=None, description="or in units of the lattice vectors")
    symbols: list[str] | None = Field(default=None, description="chemical symbols")
    numbers: list[int] | None = Field(default=None, description="or atomic numbers")
    pbc: bool | tuple[bool, bool, bool] = Field(
        default=True, description="periodic along each vector; all must be true"
    )
    info: dict[str, Any] = Field(default={}, description="of ASE's todict(); a partial occupancy in it is refused")

    @model_validator(mode="before")
    @classmethod
    def _without_what_nothing_depends_on(cls, values: Any) -> Any:
        """ASE's atoms hold more than a prediction depends on."""
        return {n: v for n, v in values.items() if n not in UNUSED} if isinstance(values, dict) else values

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
        return self

    def atoms(self) -> ase.Atoms:
        """The same as ASE's atoms."""
        where = {"positions": self.positions} if self.scaled_positions is None else {}
        if self.scaled_positions is not None:
            where = {"scaled_positions": self.scaled_positions}
        return ase.Atoms(self.symbols or self.numbers, cell=self.cell, pbc=self.pbc, info=self.info, **where)


class Wishes(BaseModel):
    """What can be asked besides the structure: the query of a request whose body is a structure alone."""

    model_config = _strict

    temperature: float | None = Field(default=None, ge=0, description="electronic [K]; default that of the training")
    forces: Literal["none", "mean", "spread"] | bool = Field(
        default="none", description="of the mean free energy, or with their spread (slower); true: spread"
    )
    stress: bool = Field(default=False, description="also the stress, with the forces")
    grid: tuple[PositiveInt, PositiveInt, PositiveInt] | None = Field(
        default=None,
        description="numbers of points along the cell vectors, in a query 20,20,20; default: no coarser than in the "
        "training",
    )

    @field_validator("grid", mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return value.split(",") if isinstance(value, str) else value

    def asked(self) -> dict[str, Any]:
        """As keywords of ``LdosSurrogate.prepare``."""
        return {"temperature": self.temperature, "forces": self.forces, "stress": self.stress, "grid": self.grid}


class PredictRequest(Wishes):
    """A structure, and what is asked of it."""

    structure: Structure


def parse(content: bytes, content_type: str, query: Mapping[str, Any]) -> tuple[ase.Atoms, dict[str, Any]]:
    """The structure of a request, and the keywords of ``LdosSurrogate.prepare``.

    Args:
        content: JSON of a ``PredictRequest``, or extended XYZ.
        content_type: which of them.
        query: ``Wishes`` beside extended XYZ.

    Raises:
        UnknownFormat: neither JSON nor extended XYZ.
        Malformed: JSON or text that is none.
        InputError: something unknown, missing or out of range.
    """
    if content_type == JSON:
        body = read_json(PredictRequest, content, query)
        return body.structure.atoms(), body.asked()
    if content_type != XYZ:
        raise UnknownFormat(f"content type {content_type or 'missing'}; send {JSON} or {XYZ}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Malformed("the extended XYZ is no UTF-8 text") from None
    try:
        wishes = Wishes.model_validate(query)
    except ValidationError as error:
        raise InputError(one_line(error)) from None
    return read_extended_xyz(text), wishes.asked()


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
