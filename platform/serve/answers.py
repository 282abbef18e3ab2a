"""From the body of a request to its answer: structures checked, then predicted.  No web here."""

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ...trainables.data.shards import to_numpy
from ...trainables.errors import InputError, Malformed, TooLarge, UnknownFormat, one_line, without_frames
from ...trainables.json_body import JSON
from ...trainables.kind import Job, Tell
from ..model.model import Model
from .interface import ARROW, NPY, TEXT
from .shelf import UnknownModel

COMPACT: dict[str, Any] = {"allow_nan": False, "ensure_ascii": False, "separators": (",", ":")}
# Of all other input errors it is 422.
STATUS: dict[type[InputError], int] = {Malformed: 400, UnknownModel: 404, TooLarge: 413, UnknownFormat: 415}


@dataclass(frozen=True)
class Asked:
    """The structures of a request, each checked or refused.

    batch: the request has a list of them, so that the answer has one, too.
    """

    jobs: list[Job | InputError]
    batch: bool

    @property
    def size(self) -> int:
        """Of all structures together, in the unit of the model."""
        return sum(job.size for job in self.jobs if not isinstance(job, InputError))


@dataclass(frozen=True)
class Reply:
    """What goes back, whole or one piece after the other."""

    content: bytes | Iterator[bytes]
    media_type: str


def status_of(error: InputError) -> int:
    """The HTTP status of an error."""
    return STATUS.get(type(error), 422)


def prepare(model: Model, content: bytes, kind: str, query: Mapping[str, str], largest: int, tell: Tell) -> Asked:
    """Check the structures of a request.

    A structure of several that cannot be predicted takes its error to its place in the answer.

    Args:
        model: which is asked.
        content, kind, query: body of the request, its type, and what is asked in the URL.
        largest: size of all structures together.
        tell: called now and then; what it raises ends the check.

    Raises:
        TooLarge: for this endpoint.
        InputError: anything else that cannot be predicted; of several structures, if none can.
    """
    tell("reading", 0, 2)
    bodies = model.surrogate.split(content, kind)
    if bodies is None:
        return Asked([_job(model, content, kind, query, largest, tell)], False)
    jobs: list[Job | InputError] = []
    size = 0
    for number, body in enumerate(bodies):
        try:
            job = _job(model, body, kind, query, largest, tell)
        except InputError as error:
            jobs.append(without_frames(error))
            continue
        jobs.append(job)
        size += job.size
        if size > largest:
            unit = model.surrogate.size_unit
            raise TooLarge(
                f"structures up to number {number} need {size:,} {unit}, more than {largest:,}; send them in parts"
            )
    _refuse_if_all_are(jobs)
    return Asked(jobs, True)


def _job(model: Model, content: bytes, kind: str, query: Mapping[str, str], largest: int, tell: Tell) -> Job:
    structure, asked = model.surrogate.parse(content, kind, query)
    tell("checking", 1, 2)
    return model.prepare(structure, largest=largest, files=False, **asked)


def _refuse_if_all_are(found: Sequence[Any]) -> None:
    """Raise the first error if there is nothing else: what is asked is wrong rather than a structure."""
    if all(isinstance(one, InputError) for one in found):
        error = found[0]
        raise type(error)(f"structure 0: {error}" if len(found) > 1 else str(error))


def answer(asked: Asked, media_type: str, quantity: str | None, cpus: int, tell: Tell) -> Reply:
    """Predict what was asked.

    Args:
        asked: of ``prepare``.
        media_type: JSON or text; of a quantity Arrow or NPY.
        quantity: an array instead of numbers.
        cpus: threads.
        tell: called now and then; what it raises ends the prediction.

    Raises:
        InputError: nothing sensible can be said of the structure, or of any of several.
    """
    if quantity is not None:
        if asked.batch or isinstance(asked.jobs[0], InputError):
            raise InputError(f"quantity: {quantity} is given of one structure at a time")
        batches = asked.jobs[0].batches(quantity, cpus=cpus, progress=tell)
        stream: Callable[[Sequence[pa.RecordBatch]], Iterator[bytes]] = _arrow if media_type == ARROW else _npy
        return Reply(stream(batches), media_type)
    found: list[Any] = []
    for job in asked.jobs:
        if isinstance(job, InputError):
            found.append(job)
            continue
        try:
            found.append(job.run(cpus=cpus, progress=tell))
        except InputError as error:
            if not asked.batch:
                raise
            found.append(without_frames(error))
    _refuse_if_all_are(found)
    content = _text(found) if media_type == TEXT else _json(found, asked.batch)
    return Reply(content.encode(), media_type)


def _json(found: Sequence[Any], batch: bool) -> str:
    rows = [
        {"detail": one_line(one), "status": status_of(one)}
        if isinstance(one, InputError)
        else one.to_dict() | {"units": dict(one.units)}
        for one in found
    ]
    return json.dumps({"predictions": rows} if batch else rows[0], **COMPACT)


def _text(found: Sequence[Any]) -> str:
    """Predictions for people, a paragraph each."""
    parts = [f"refused: {one_line(one)}" if isinstance(one, InputError) else "\n".join(one.lines()) for one in found]
    return "\n\n".join(parts) + "\n"


def _arrow(batches: Sequence[pa.RecordBatch]) -> Iterator[bytes]:
    """An Arrow IPC stream, a piece a batch."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            yield sink.getvalue()
            sink.seek(0)
            sink.truncate()
    yield sink.getvalue()


def _npy(batches: Sequence[pa.RecordBatch]) -> Iterator[bytes]:
    """A .npy file, a piece a batch: one array over all rows, or over the grid if they say one."""
    first = to_numpy(batches[0])
    rows = (sum(len(batch) for batch in batches),)
    about = batches[0].schema.metadata or {}
    grid = tuple(int(n) for n in re.findall(rb"\d+", about.get(b"grid", b"")))
    shape = (grid if grid and np.prod(grid) == rows[0] else rows) + first.shape[1:]
    sink = io.BytesIO()
    header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(sink, header)
    yield sink.getvalue()
    for batch in batches:
        yield np.ascontiguousarray(to_numpy(batch)).tobytes()


def media_type_of(accept: str, quantity: str | None, offered: Sequence[str]) -> str | None:
    """In which form an answer goes back, of the header of a request; None: in none that it accepts.

    Args:
        accept: the header.
        quantity: which array is asked for.
        offered: quantities of the model.
    """
    arrays = [one for one in (ARROW, NPY) if one in accept]
    if quantity is not None:
        return arrays[0] if arrays and quantity in offered else None
    if arrays:
        return None
    return TEXT if TEXT in accept and JSON not in accept and "*/*" not in accept else JSON
