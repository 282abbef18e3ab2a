"""What launch files have in common: the nodes, what may be written into them, and how.

A launch file is text, a pure function of a checked specification; nothing here starts anything.
"""

import re
import shlex
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from ..connection import SETTINGS
from ..embedded import PATIENT


def matching(pattern: str, meaning: str) -> AfterValidator:
    """A text that becomes part of a script or a manifest is all of ``pattern``; ``meaning`` says so in words."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise PydanticCustomError("text", "{text} is not {meaning}", {"text": repr(text), "meaning": meaning})
        return text

    return AfterValidator(check)


_PATH = r"[^\x00-\x1f\x7f]{0,1000}"  # spaces and quotes are quoted; a line ends where we end it
Name = Annotated[
    str, matching(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", "lower-case letters, digits and hyphens, 40 at most")
]
Word = Annotated[str, matching(r"[A-Za-z0-9][A-Za-z0-9_.,@+-]{0,127}", "one word of letters, digits and _ . , @ + -")]
# A `~` would stay one behind quotes.
AnyPath = Annotated[str, matching(rf"[^~\x00-\x1f\x7f]{_PATH}", "a path (on one line, without ~)")]
AbsolutePath = Annotated[str, matching(f"/{_PATH}", "a path from / (on one line)")]


class Nodes(BaseModel):
    """The nodes of a cluster, all alike; the first is Ray's head and works like the others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = Field(default="dftune", description="of the job or cluster")
    nodes: int = Field(default=2, ge=1, le=1024, description="nodes, the head among them")
    cpus: int = Field(default=8, ge=1, le=1024, description="CPUs of a node")
    gpus: int = Field(default=0, ge=0, le=64, description="GPUs of a node")
    memory: int = Field(default=32, ge=4, le=65536, description="memory of a node [GiB]")


def settings() -> dict[str, str]:
    """Environment that every node of Ray must have been started with, as an embedded Ray is."""
    return SETTINGS | PATIENT


def assignments(values: dict[str, str]) -> str:
    """``NAME=value ...`` for a shell."""
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in values.items())


def study_lines(study: str, studies: str, bin_folder: str = "") -> str:
    """Lines of bash that set the array ``command``: run the study, or go on with it where it has begun.

    Args:
        study: the study file, a path on the cluster; its name is read there.
        studies: folder of the studies, seen by all nodes under this path.
        bin_folder: of the Python environment, with a slash at its end; by default what PATH says.
    """
    return f"""\
study_file={shlex.quote(study)}
studies={shlex.quote(studies)}
bin={shlex.quote(bin_folder)}
[[ -r $study_file ]] || {{ echo "$study_file: no such file on $HOSTNAME" >&2; exit 2; }}
name=$("${{bin}}python" -c 'import sys, tomllib; print(tomllib.load(open(sys.argv[1], "rb"))["name"])' "$study_file") \\
    || exit 2
if [[ -e $studies/$name/ledger.db || -e $studies/$name/study.json ]]; then  # its ledger, or where that is
    command=("${{bin}}dftune" study resume --studies "$studies" -- "$name")
else
    command=("${{bin}}dftune" study run --studies "$studies" -- "$study_file")
fi
"""


class _Dumper(yaml.SafeDumper):
    """A text of several lines stands as such, where YAML allows it."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def to_yaml(value: Any) -> str:
    """YAML of mappings, lists, texts, numbers and booleans, in their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=120)
