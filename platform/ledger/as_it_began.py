"""The defaults of hyperparameters as they were when a study began: its ledger keeps them.

A default is what neither [space] nor [config] says.  Later versions may have others, and a study goes on with its own.
"""

from collections.abc import Mapping
from typing import Any

from ...searchers.space import probes
from ...trainables.errors import InputError
from ..spec import SpecError, StudySpec


def defaults_of(spec: StudySpec) -> dict[str, Any]:
    """What a ledger keeps, as plain values.

    ``all`` has each hyperparameter where the space says none.  ``held`` has configs of the space with what each leaves
    to the defaults: one config, but where a default depends on what varies.
    """
    held: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for config in probes(spec.space):
        values = {name: value for name, value in _full(spec, config).items() if name not in config}
        if not any(values.items() <= others.items() for _, others in held):
            held.append((dict(config), values))
    return {"all": _full(spec, {}), "held": held}


def defaults_then(spec: StudySpec, kept: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """``defaults_of`` a study when it began.

    Args:
        spec: as its ledger has it.
        kept: what its ledger has of them, None in the ledgers of early versions.
    """
    return kept or defaults_of(_held(spec, {**spec.of_kind.earlier, **spec.config}))


def as_it_began(spec: StudySpec, then: Mapping[str, Any]) -> StudySpec:
    """The specification with those defaults in [config] that are others today.

    Args:
        spec: as its ledger has it.
        then: as ``defaults_then``.

    Raises:
        SpecError: one is not of this version, or [config] cannot say it, as it depends on what [space] varies.
    """
    others = _changed(spec, then)
    began = _held(spec, {**spec.config, **others})
    try:
        wrong = _changed(began, then) if others else {}
    except InputError as error:
        raise SpecError(f"a default of its time is not one of this version: {error}") from error
    if wrong:
        names = ", ".join(f"'{name}'" for name in wrong)
        raise SpecError(
            f"the default of {names} has changed since it began, and [space] decides where it counts; go on with the "
            "dftune that began it, or start a new study"
        )
    return began


def _changed(spec: StudySpec, then: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters that a config of the space has otherwise today, as they were."""
    found: dict[str, Any] = {}
    for config, values in then["held"]:
        now = _full(spec, config)
        found |= {name: value for name, value in values.items() if name in now and now[name] != value}
    return found


def _full(spec: StudySpec, config: Mapping[str, Any]) -> dict[str, Any]:
    return dict(spec.full(config).model_dump(mode="json"))


def _held(spec: StudySpec, config: Mapping[str, Any]) -> StudySpec:
    return spec.model_copy(update={"config": dict(config)})
