"""What an endpoint serves, how much it takes on, and its token."""

import hashlib
import hmac
import ipaddress
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from ...trainables.errors import InputError

TOKEN = "DFTUNE_TOKEN"  # in the environment: the token that an endpoint asks for
RETRY_AFTER = 5  # seconds, said to whom is turned away for now
LEAST_TOKEN = 16  # characters
HOW = "`openssl rand -hex 32` makes one"
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"  # of a model at an endpoint
Folder = Annotated[str, Field(min_length=1)]


class EndpointError(InputError):
    """An endpoint cannot be started as asked."""


class EndpointSettings(BaseModel):
    """What an endpoint serves, and how much it takes on; the `args` of a Ray Serve config file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    models: dict[Annotated[str, Field(pattern=f"^{NAME}$")], Folder] = Field(
        min_length=1, description="name -> folder of a model, or of its versions, under this path on every node"
    )
    loaded: int = Field(default=8, ge=1, le=10_000, description="models in the memory of a replica at once")
    replicas: int = Field(default=1, ge=1, le=1024, description="processes that predict, each one structure at a time")
    max_replicas: int | None = Field(default=None, ge=1, le=1024, description="so many if there is more to do")
    cpus: int = Field(default=1, ge=1, le=1024, description="CPUs of a replica, all for one prediction")
    gpus: float = Field(default=0.0, ge=0, le=1, description="of a GPU, for each replica")
    queue: int = Field(default=16, ge=0, le=10_000, description="requests that wait at a replica; more get 503")
    time_limit: float = Field(default=120.0, gt=0, le=86_400, description="for a request, waiting included [s]")
    size: int = Field(
        default=500_000,
        ge=1,
        # The second name stands in config files of early versions.
        validation_alias=AliasChoices("size", "grid_points"),
        description="largest structure, in the unit that the model counts",
    )
    body: int = Field(default=8 * 2**20, ge=1024, description="largest request [bytes]")
    body_time: float = Field(default=10.0, gt=0, le=86_400, description="for a request to send its body [s]")
    token_sha256: str | None = Field(
        default=None, pattern="^[0-9a-f]{64}$", description="SHA-256 of the token; default of DFTUNE_TOKEN"
    )
    without_token: bool = Field(default=False, description="answer whoever reaches the port")

    @model_validator(mode="before")
    @classmethod
    def _one_model(cls, values: Any) -> Any:
        """`model` with a folder is the key of an endpoint with one model, and of config files of early versions."""
        if not isinstance(values, dict) or "model" not in values:
            return values
        if "models" in values:
            raise PydanticCustomError("twice", "give either model or models")
        folder = values["model"]
        rest = {name: value for name, value in values.items() if name != "model"}
        return rest | {"models": {name_of(folder): folder} if isinstance(folder, str) else folder}

    @model_validator(mode="after")
    def _most_replicas(self) -> "EndpointSettings":
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise PydanticCustomError("most", f"max_replicas is {self.max_replicas}, below replicas, {self.replicas}")
        return self


def name_of(folder: str) -> str:
    """The name that a model has if nobody names it: that of its folder, without `.model`."""
    found = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(folder).name.removesuffix(".model")).lstrip("._-")
    return found[:63] or "model"


def named(models: Iterable[str]) -> dict[str, str]:
    """Folders of models by name.

    Args:
        models: FOLDER, or NAME=FOLDER.

    Raises:
        EndpointError: a name that is none, or two models of one name.
    """
    found: dict[str, str] = {}
    for text in models:
        name, equals, folder = text.partition("=")
        if not equals or "/" in name:
            name, folder = name_of(text), text
        if not re.fullmatch(NAME, name) or not folder:
            raise EndpointError(
                f"'{text}': give FOLDER or NAME=FOLDER; a name has up to 63 letters, digits, dots, - and _"
            )
        if name in found:
            raise EndpointError(f"two models are named {name}: {found[name]} and {folder}; name one by NAME=FOLDER")
        found[name] = folder
    return found


def digest(token: str) -> str:
    """SHA-256 of a token: what an endpoint and its cluster are told of it.

    Raises:
        EndpointError: too short to be one, or not printable.
    """
    if not re.fullmatch(rf"[\x21-\x7e]{{{LEAST_TOKEN},1000}}", token):
        raise EndpointError(f"a token is {LEAST_TOKEN} or more letters, digits or signs without spaces; {HOW}")
    return hashlib.sha256(token.encode()).hexdigest()


def is_token(given: str, token_sha256: str) -> bool:
    """Whether a request has brought the token, in a time that does not tell how much of it is right."""
    return hmac.compare_digest(hashlib.sha256(given.strip().encode()).hexdigest(), token_sha256)


def refuse_open(host: str, token_sha256: str | None, what: str = "the endpoint") -> None:
    """Raises EndpointError: others than this machine reach the host, and there is no token."""
    if token_sha256 is None and not is_loopback(host):
        raise EndpointError(
            f"on {host} others reach {what}, so it needs a token: set {TOKEN}, "
            f"or give a --token-file (mode 0600); {HOW}"
        )


def read_token(file: Path) -> str:
    """The token in a file that nobody else may read.

    Raises:
        EndpointError: missing, readable by others, or no token.
    """
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        token = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise EndpointError(
            f"{file}: no token can be read ({error.strerror if isinstance(error, OSError) else 'not ASCII'}); {HOW}"
        ) from error
    if mode & 0o077:
        raise EndpointError(f"{file}: others may read it (mode {mode:04o}); chmod 600 {file}")
    digest(token)
    return token


def is_loopback(host: str) -> bool:
    """Whether a host to listen on is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
