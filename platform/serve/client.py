"""A client of an endpoint: structures to its models, from any Python.  eV, Å, K."""

import contextlib
import http.client
import io
import json
import os
import random
import re
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlencode, urlsplit

import ase
import numpy as np
from numpy.typing import NDArray

from ...trainables.errors import InputError, one_line
from ...trainables.structures import is_configuration, read_structures
from .settings import TOKEN

BATCH = 32  # structures of a request
AGAIN = 1.0  # seconds until an endpoint that is away is asked again
JSON, TEXT, NPY = "application/json", "text/plain", "application/x-npy"


class ClientError(InputError):
    """An endpoint cannot be reached, is none, or refuses a request.

    status: of its answer, if there is one.  request_id: under which its logs have the request.
    """

    def __init__(self, text: str, status: int | None = None, request_id: str | None = None) -> None:
        super().__init__(text)
        self.status, self.request_id = status, request_id


class Answer(dict[str, Any]):
    """What was predicted of a structure, as JSON; an attribute is the same, with arrays for lists of numbers."""

    def __getattr__(self, name: str) -> Any:
        try:
            value = self[name]
        except KeyError:
            raise AttributeError(f"nothing named {name} was predicted; there are {', '.join(self)}") from None
        numbers = isinstance(value, list) and bool(value) and isinstance(value[0], (int, float, list))
        return np.array(value) if numbers else value


@dataclass(frozen=True)
class _Reply:
    status: int
    headers: Mapping[str, str]
    content: bytes


class Client:
    """An endpoint of `dftune serve`.

    It may be used by several threads.  An endpoint that is busy is asked again when it says so, and one that has
    answered before and is away for a while, after a second.

    Args:
        url: of the endpoint, as `dftune serve` prints it.
        token: its token; by default that in DFTUNE_TOKEN, if there is one.
        model: NAME or NAME@VERSION; by default the endpoint's first model.
        timeout: seconds for one answer.
        patience: seconds in which a request is tried again.

    Raises:
        ClientError: the URL or the token is none.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        model: str | None = None,
        timeout: float = 600.0,
        patience: float = 120.0,
    ) -> None:
        parts = urlsplit(url)
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if parts.scheme not in ("http", "https") or not host or parts.username is not None:
            raise ClientError(f"'{url}' is no URL of an endpoint; give it as http://HOST:PORT")
        self.url, self.model = url.rstrip("/"), model
        self._host, self._port, self._path, self._tls = host, port, parts.path.rstrip("/"), parts.scheme == "https"
        self._token = (os.environ.get(TOKEN, "") if token is None else token).strip()
        if re.search(r"[^\x21-\x7e]", self._token):
            raise ClientError("the token has spaces, line breaks or other signs that no token has")
        self._timeout, self._patience = timeout, patience
        self._idle, self._answered = list[http.client.HTTPConnection](), False

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections; it may be used again."""
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()

    def __repr__(self) -> str:
        return f"<Client of {self.url}{f', model {self.model}' if self.model else ''}>"

    def models(self) -> list[dict[str, Any]]:
        """All models: ``name``, ``version``, ``versions``, ``kind``, ``about``.  Raises ClientError."""
        return self._rows("GET", "/v1/models", needs="models")

    def about(self, model: str | None = None) -> dict[str, Any]:
        """A model: its ``card`` with its accuracy, its ``versions``, and the ``limits`` of requests to it.

        Args:
            model: by default that of the client.

        Raises:
            ClientError: there is none, or as ``predict``.
        """
        model = model or self.model or self.models()[0]["name"]
        return self._json("GET", f"/v1/models/{quote(model, safe='@')}", needs="card")

    def predict(
        self,
        structures: Any,
        *,
        model: str | None = None,
        at_once: int = 1,
        on_error: Literal["raise", "return"] = "raise",
        **asked: Any,
    ) -> Any:
        """Predict a structure, or a list of them, in requests of up to 32.

        Args:
            structures: ASE atoms, what has pymatgen's ``as_dict``, a file, of which the last structure is taken, the
                elements on the sites of an alloy's lattice ("Cu Au Au ..." or "011..."), or what stands in a request's
                JSON; or a list of such.
            model: by default that of the client.
            at_once: requests at once, for an endpoint of several replicas.
            on_error: of a list, ``return`` puts the error of a structure that cannot be predicted in its place.
            asked: what else is asked, as in ``Model.predict``: ``temperature``, ``forces``, ``stress``, ``grid``.

        Returns:
            An ``Answer``, or a list of them.

        Raises:
            ClientError: the endpoint cannot be reached or is none, refuses the token, the structure or what is asked,
                or has been busy for too long.
        """
        if not isinstance(structures, (list, tuple)):
            path = self._predict_path(model)
            return Answer(self._json("POST", path, {"structure": as_json(structures), **asked}, needs="units"))
        bodies = [as_json(one) for one in structures]
        parts = [bodies[at : at + BATCH] for at in range(0, len(bodies), BATCH)]
        with ThreadPoolExecutor(max(at_once, 1)) as pool:
            found = [one for part in pool.map(lambda part: self._predict(part, model, asked), parts) for one in part]
        wrong = [(n, one) for n, one in enumerate(found) if isinstance(one, ClientError)]
        if wrong and on_error == "raise":
            number, first = wrong[0]
            others = f" (and {len(wrong) - 1} others of {len(found)})" if len(wrong) > 1 else ""
            raise ClientError(f"structure {number}{others}: {first}", first.status, first.request_id)
        return found

    def array(self, structure: Any, quantity: str, *, model: str | None = None, **asked: Any) -> NDArray[Any]:
        """An array of a structure on its grid: ``density``, (nx, ny, nz) [1/Å³], or ``ldos``, (nx, ny, nz, n_energy).

        Arguments and errors as ``predict``, for one structure.
        """
        body = {"structure": as_json(structure), **asked}
        path = f"{self._predict_path(model)}?{urlencode({'quantity': quantity})}"
        content = self._ask("POST", path, body, accept=NPY).content
        try:
            found: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise self._not_ours("an array that is none") from error
        return found

    def text(self, structure: Any, *, model: str | None = None, **asked: Any) -> str:
        """What `dftune model predict` prints of a structure; arguments and errors as ``predict``."""
        body = {"structure": as_json(structure), **asked}
        reply = self._ask("POST", self._predict_path(model), body, accept=TEXT)
        if "x-model" not in reply.headers:  # any server may give a text
            raise self._not_ours("a text of no model")
        return reply.content.decode(errors="replace").rstrip()

    def _predict_path(self, model: str | None) -> str:
        model = model or self.model
        return "/v1/predict" if model is None else f"/v1/models/{quote(model, safe='@')}/predict"

    def _predict(self, bodies: Sequence[Any], model: str | None, asked: dict[str, Any]) -> list[Answer | ClientError]:
        """Predict a batch; in halves if it is too large."""
        path = self._predict_path(model)
        try:
            if len(bodies) == 1:
                return [Answer(self._json("POST", path, {"structure": bodies[0], **asked}, needs="units"))]
            rows = self._rows("POST", path, {"structures": list(bodies), **asked}, needs="predictions")
        except ClientError as error:
            if error.status not in (413, 422, 504):
                raise
            if len(bodies) == 1:
                return [error]
            half = len(bodies) // 2
            return [*self._predict(bodies[:half], model, asked), *self._predict(bodies[half:], model, asked)]
        if len(rows) != len(bodies):
            raise self._not_ours(f"{len(rows)} answers to {len(bodies)} structures")
        return [ClientError(row["detail"], row["status"]) if "detail" in row else Answer(row) for row in rows]

    def _json(self, method: str, path: str, body: Any = None, *, needs: str) -> dict[str, Any]:
        """The JSON of an answer, which must have a key."""
        content = self._ask(method, path, body, accept=JSON).content
        try:
            found = json.loads(content)
        except ValueError as error:
            raise self._not_ours("no JSON") from error
        if not isinstance(found, dict) or not isinstance(found.get(needs), (dict, list)):
            raise self._not_ours(f"JSON without {needs}")
        return found

    def _rows(self, method: str, path: str, body: Any = None, *, needs: str) -> list[dict[str, Any]]:
        """A list of objects in the JSON of an answer."""
        found = self._json(method, path, body, needs=needs)[needs]
        if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
            raise self._not_ours(f"JSON whose {needs} are no objects")
        return found

    def _ask(self, method: str, path: str, body: Any, *, accept: str) -> _Reply:
        """A good answer; asked again while the endpoint is busy or away."""
        content = None if body is None else _dumped(body)
        end, tried = time.monotonic() + self._patience, 0
        while True:
            tried += 1
            try:
                reply = self._send(method, path, content, accept)
            except ssl.SSLError as error:
                raise ClientError(f"{self.url}: no secure connection: {one_line(error, 200)}; check the URL") from error
            except TimeoutError as error:
                raise ClientError(
                    f"{self.url} did not answer within {self._timeout:g} s; ask for less, or give a longer timeout"
                ) from error
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, http.client.BadStatusLine) and not isinstance(error, ConnectionError):
                    raise self._not_ours(f"'{one_line(error, 60)}'") from error
                if not self._answered or time.monotonic() + AGAIN > end:
                    raise ClientError(
                        f"{self.url} cannot be reached ({_cause(error)}); is `dftune serve` running there?"
                    ) from error
                if tried > 1:  # a connection that was kept open may just have been closed
                    time.sleep(AGAIN)
                continue
            if reply.status == 200:
                self._answered = True
                return reply
            error_ = self._error(reply)
            wait = _seconds(reply.headers.get("retry-after")) * random.uniform(1.0, 1.2)  # not all clients at once
            if reply.status != 503 or time.monotonic() + wait > end:
                raise error_
            self._answered = True
            time.sleep(wait)

    def _send(self, method: str, path: str, content: bytes | None, accept: str) -> _Reply:
        try:
            connection = self._idle.pop()
        except IndexError:
            made = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
            connection = made(self._host, self._port, timeout=self._timeout)
        headers = {"Accept": accept} | ({} if content is None else {"Content-Type": JSON})
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            connection.request(method, self._path + path, content, headers)
            answer = connection.getresponse()
            reply = _Reply(answer.status, {n.lower(): v for n, v in answer.getheaders()}, answer.read())
        except BaseException:
            connection.close()
            self.close()  # the others have most likely been closed at the other end, too
            raise
        self._idle.append(connection)
        return reply

    def _error(self, reply: _Reply) -> ClientError:
        """What an endpoint says against a request."""
        try:
            said = json.loads(reply.content)
            detail, name = said["detail"], said.get("request_id")
        except (ValueError, TypeError, KeyError, AttributeError):
            return self._not_ours(f"status {reply.status}", reply.status)
        if detail == "Not Found":  # a path that every endpoint has
            return self._not_ours("status 404", reply.status)
        if reply.status == 401:
            which = "no token was given" if not self._token else "the token given is another one"
            return ClientError(f"{self.url} asks for its token, and {which}; set {TOKEN}", 401, name)
        named = f" (request {name})" if reply.status >= 500 and name else ""
        return ClientError(f"{one_line(str(detail), 500)}{named}", reply.status, name)

    def _not_ours(self, what: str, status: int | None = None) -> ClientError:
        return ClientError(
            f"{self.url} is no endpoint of dftune, or one of another version: it answered with {what}; "
            "give the URL that `dftune serve` prints",
            status,
        )


def as_json(structure: Any) -> Any:
    """A structure as it stands in a request.

    Raises:
        InputError: a file that cannot be read.
    """
    if isinstance(structure, (str, Path)) and not is_configuration(str(structure)):
        structure = read_structures(structure)[-1]
    if isinstance(structure, ase.Atoms):
        found = {
            "cell": structure.cell.tolist(),
            "positions": structure.positions.tolist(),
            "numbers": structure.numbers.tolist(),
            "pbc": structure.pbc.tolist(),
        }
        arrays = ("initial_charges", "initial_magmoms")
        info = {name: structure.info[name] for name in ("occupancy", "charge") if name in structure.info}
        found |= {name: structure.arrays[name].tolist() for name in arrays if name in structure.arrays}
        return found | ({"info": info} if info else {})
    to_dict: Callable[[], Any] | None = getattr(structure, "as_dict", None)
    return structure if to_dict is None else to_dict()


def _dumped(body: Any) -> bytes:
    def plain(value: Any) -> Any:
        if isinstance(value, (np.ndarray, np.generic)):
            return value.tolist()
        if isinstance(value, Iterable):
            return list(value)
        raise TypeError(f"it holds an object of {type(value).__name__}")

    try:
        return json.dumps(body, default=plain, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ClientError(f"the request cannot be written as JSON: {one_line(error, 200)}") from error


def _seconds(text: str | None) -> float:
    with contextlib.suppress(ValueError):
        return min(max(float(text or ""), 0.1), 3600.0)
    return AGAIN


def _cause(error: Exception) -> str:
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return one_line(said, 200)
