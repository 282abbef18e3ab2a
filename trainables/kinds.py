"""The kinds of surrogates by name.  To add one: a folder with its ``Kind``, and a line here or a plug-in."""

import json
from pathlib import Path

from .errors import InputError, did_you_mean
from .kind import Kind
from .ldos.kind import LdosKind

KINDS: dict[str, Kind] = {"ldos": LdosKind()}


def kind_named(name: str) -> Kind:
    """The kind of a name.  Raises InputError: there is none."""
    if name not in KINDS:
        raise InputError(f"unknown kind of surrogates '{name}'; {did_you_mean(name, KINDS)}")
    return KINDS[name]


def kind_of(location: str) -> str:
    """The name of the kind that a dataset is of: what its dataset.json says, or the first kind there is.

    A dataset that cannot be seen from here, on a cluster or behind a URL, is taken to be of the first kind: opening it
    there will tell.
    """
    try:
        found = json.loads((Path(location) / "dataset.json").read_text(encoding="utf-8"))
        return str(found.get("kind", next(iter(KINDS))))
    except (OSError, ValueError, AttributeError):
        return next(iter(KINDS))
