"""The web side of a model: requests checked before anything is computed, answers as JSON or Arrow.  eV, Å, K.

One prediction at a time is computed, in a thread; a bounded number waits for its turn.
"""

import asyncio
import hashlib
import hmac
import io
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal, TypeVar

import ase
import numpy as np
import pyarrow as pa
from ase.data import chemical_symbols
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from ...trainables.errors import InputError, one_line
from ...trainables.ldos.prediction import Progress, density_batches, ldos_batches
from ...trainables.structures import check_structure, read_extended_xyz
from ..model.model import Model, ModelCard, ModelError
from ..version import __version__
from .settings import EndpointSettings

ARROW = "application/vnd.apache.arrow.stream"
XYZ = "chemical/x-xyz"
RETRY_AFTER = 5  # seconds, said to whom a full queue turns away
UNITS = {
    "energy": "eV",
    "dos": "1/eV",
    "forces": "eV/Å",
    "temperature": "K",
    "seconds": "s",
    **dict.fromkeys(("free_energy", "band_energy", "entropy_term", "hartree_energy", "xc_energy"), "eV"),
    **dict.fromkeys(("xc_potential_energy", "ewald_energy", "fermi_level", "gap"), "eV"),
}
T = TypeVar("T")


Vector = tuple[float, float, float]
_strict = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Structure(BaseModel):
    """Atoms in a periodic cell, as ASE and pymatgen give them."""

    model_config = _strict

    cell: tuple[Vector, Vector, Vector] = Field(description="lattice vectors as rows [Å]")
    positions: list[Vector] | None = Field(default=None, description="of the atoms [Å]")
    scaled_positions: list[Vector] | None = Field(default=None, description="or in units of the lattice vectors")
    symbols: list[str] | None = Field(default=None, description="chemical symbols")
    numbers: list[int] | None = Field(default=None, description="or atomic numbers")

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
        return ase.Atoms(self.symbols or self.numbers, cell=self.cell, pbc=True, **where)


class PredictRequest(BaseModel):
    """A structure, and what is asked of it."""

    model_config = _strict

    structure: Structure
    temperature: float | None = Field(default=None, ge=0, description="electronic [K]; default that of the training")
    forces: Literal["none", "mean", "spread"] | bool = Field(
        default="none", description="of the mean free energy, or with their spread (slower); true: spread"
    )


class _GivenUp(Exception):
    """Nobody waits for this prediction any more."""


class _Turns:
    """One prediction at a time, so many waiting, and an end to those that nobody waits for."""

    def __init__(self, queue: int) -> None:
        self._most, self._worker = 1 + queue, ThreadPoolExecutor(1, "prediction")
        self._taken, self._lock = 0, threading.Lock()

    def _release(self, _: Any) -> None:
        with self._lock:
            self._taken -= 1

    async def run(self, predict: Callable[[Progress], T]) -> T:
        """The prediction's result, when its turn has come and it is done.

        Raises:
            HTTPException: 503, as many wait as may.
        """
        with self._lock:
            if self._taken >= self._most:
                raise HTTPException(
                    503,
                    f"{self._taken} requests are being predicted or wait already; try again in {RETRY_AFTER} s",
                    {"Retry-After": str(RETRY_AFTER)},
                )
            self._taken += 1
        given_up = threading.Event()

        def progress(what: str, done: int, total: int) -> None:
            if given_up.is_set():
                raise _GivenUp

        future = self._worker.submit(predict, progress)
        future.add_done_callback(self._release)  # not before the thread is free
        try:
            return await asyncio.wrap_future(future)
        finally:
            given_up.set()


def web_app(model: Model, settings: EndpointSettings) -> FastAPI:
    """The endpoint as an ASGI application.

    Args:
        model: what it serves.
        settings: its limits and its token.
    """
    app = FastAPI(title="dftune", version=__version__, description=f"Surrogate of {', '.join(model.card.species)}.")
    turns = _Turns(settings.queue)

    def admit(request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        digest = hashlib.sha256(given.strip().encode()).hexdigest()
        if settings.token_sha256 is None:
            return
        if scheme.lower() != "bearer" or not hmac.compare_digest(digest, settings.token_sha256):
            raise HTTPException(
                401,
                "this endpoint asks for its token; send 'Authorization: Bearer TOKEN'",
                {"WWW-Authenticate": "Bearer"},
            )

    guarded = APIRouter(prefix="/v1", dependencies=[Depends(admit)])

    @app.exception_handler(InputError)
    async def _unusable(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": one_line(error)}, 422)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        return JSONResponse({"detail": f"{first['loc'][-1]}: {first['msg']}"}, 422)

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        """Whether the endpoint answers; without a token."""
        return {"status": "ok"}

    @guarded.get("/model")
    async def card() -> ModelCard:
        """What the model is, and how accurate."""
        return model.card

    body = {
        "required": True,
        "content": {
            "application/json": {"schema": PredictRequest.model_json_schema()},
            XYZ: {"schema": {"type": "string", "description": "extended XYZ, one frame; species and pos are read"}},
        },
    }

    @guarded.post("/predict", openapi_extra={"requestBody": body}, response_class=JSONResponse)
    async def predict(
        request: Request,
        quantity: Literal["density", "ldos"] | None = None,
        temperature: Annotated[float | None, Field(ge=0, allow_inf_nan=False)] = None,
        forces: Literal["none", "mean", "spread"] | None = None,
    ) -> Response:
        """Predict a structure: JSON, or with `Accept: application/vnd.apache.arrow.stream` a `quantity` as Arrow.

        Of JSON the body says everything; of XYZ `temperature` and `forces` are in the query.
        """
        as_arrow = ARROW in request.headers.get("accept", "")
        if as_arrow != (quantity is not None):
            raise HTTPException(406, f"'Accept: {ARROW}' and ?quantity=density or ldos belong together")
        try:
            async with asyncio.timeout(settings.time_limit):
                content = await _body(request, settings.body)
                query = {"temperature": temperature, "forces": forces}
                kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
                asked, atoms = await asyncio.to_thread(_read, content, kind, query)
                await asyncio.to_thread(_check, model, atoms, settings.grid_points)
                return await turns.run(lambda progress: _answer(model, settings, atoms, asked, quantity, progress))
        except TimeoutError:
            raise HTTPException(
                504, f"not done within {settings.time_limit:g} s; ask later, for a smaller cell, or without forces"
            ) from None

    app.include_router(guarded)
    return app


async def _body(request: Request, most: int) -> bytes:
    """The request's body, counted as it comes."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise HTTPException(413, f"the request is larger than {most:,} bytes; send one structure, without results")
        parts.append(part)
    return b"".join(parts)


def _read(content: bytes, kind: str, query: dict[str, Any]) -> tuple[dict[str, Any], ase.Atoms]:
    """Arguments of ``Model.predict``, and the structure."""
    given = {name: value for name, value in query.items() if value is not None}
    if kind == "application/json":
        if given:
            raise HTTPException(422, f"{', '.join(given)}: belongs into the JSON, not into the query")
        try:
            asked = PredictRequest.model_validate_json(content)
        except ValidationError as error:
            status = 400 if error.errors()[0]["type"] == "json_invalid" else 422
            raise HTTPException(status, one_line(error)) from None
        forces = asked.forces
        if isinstance(forces, bool):
            forces = "spread" if forces else "none"
        return {"temperature": asked.temperature, "forces": forces}, asked.structure.atoms()
    if kind == XYZ:
        try:
            text = content.decode()
        except UnicodeDecodeError:
            raise HTTPException(400, "the extended XYZ is no UTF-8 text") from None
        return {"forces": "none", **given}, read_extended_xyz(text)
    raise HTTPException(415, f"content type {kind or 'missing'}; send application/json or {XYZ}")


def _check(model: Model, atoms: ase.Atoms, grid_points: int) -> None:
    """Refuse what cannot be predicted, or is too large for this endpoint."""
    check_structure(atoms, model.card.species)
    try:
        n = math.prod(model.grid(np.array(atoms.cell)))
    except ModelError as error:  # larger than any model takes
        raise HTTPException(413, str(error)) from None
    if n > grid_points:
        raise HTTPException(
            413, f"the cell needs {n:,} grid points, and this endpoint takes {grid_points:,}; use a smaller cell"
        )


def _answer(
    model: Model,
    settings: EndpointSettings,
    atoms: ase.Atoms,
    asked: dict[str, Any],
    quantity: str | None,
    progress: Progress,
) -> Response:
    """The answer to a request, computed."""
    ldos = None
    if quantity == "ldos":
        ldos = np.empty((*model.grid(np.array(atoms.cell)), model.card.energy_grid.n_energy), dtype=np.float32)
    found = model.predict(atoms, **asked, ldos=ldos, cpus=settings.cpus, progress=progress)
    if quantity is None:
        return JSONResponse(found.to_dict() | {"units": UNITS})
    batches = density_batches(found) if ldos is None else ldos_batches(ldos)
    return StreamingResponse(_stream(batches), media_type=ARROW)


def _stream(batches: Sequence[pa.RecordBatch]) -> Iterator[bytes]:
    """An Arrow IPC stream, a piece a batch."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            yield sink.getvalue()
            sink.seek(0)
            sink.truncate()
    yield sink.getvalue()
