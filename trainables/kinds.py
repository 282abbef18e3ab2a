"""The kinds of surrogates by name.

To add one: a folder with its ``Kind``, and a line here.  A package adds one by an entry point in the group
``dftune.kinds``, a script by ``KINDS.add(name, kind)``.
"""

import json
from pathlib import Path
from typing import Any

from .alloys.kind import AlloyKind
from .errors import InputError
from .files import read_text
from .kind import Kind
from .ldos.kind import LdosKind
from .registry import Registry

OURS: dict[str, Kind] = {"ldos": LdosKind(), "alloys": AlloyKind()}
FIRST = next(iter(OURS))  # the kind of datasets and models that do not say theirs
KINDS: Registry[Kind] = Registry(
    "kind of surrogates", "dftune.kinds", OURS, needs=("name", "table", "settings", "config", "values", "judged")
)


def kind_of(location: str) -> str:
    """The name of the kind that a dataset is of, as its dataset.json says.

    A dataset that cannot be seen from here, on a cluster or behind a URL, is taken to be of the first kind: opening it
    there will tell.
    """
    try:
        found = json.loads(read_text(Path(location) / "dataset.json"))
        return str(found.get("kind", FIRST))
    except (OSError, ValueError, AttributeError, RecursionError):
        return FIRST


def kind_at(location: str) -> Kind:
    """The kind that a dataset is of.  Raises InputError: there is none of the name that its dataset.json has."""
    try:
        return KINDS[kind_of(location)]
    except InputError as error:
        raise InputError(f"{location}/dataset.json: {error}") from error


def importers() -> list[Any]:
    """The importers of the kinds that have data of their own; those of packages that cannot be used are left out."""
    found = list[Any]()
    for name in KINDS:
        try:
            found += KINDS[name].importers
        except InputError:  # said where a dataset of that kind is used
            continue
    return found
