"""Hyperparameters whose defaults depend on the data, fixed before a study begins."""

from typing import Any

from ..spec import StudySpec


def suited(spec: StudySpec, data: Any) -> tuple[StudySpec, list[str]]:
    """The specification of a new study with what its data want and it does not say, and a line of each for people.

    The ledger keeps it, so that a study goes on as it began, whatever the defaults are then.
    """
    found = spec.of_kind.suited(data, spec.config, set(spec.space))
    lines = [f"{name} = '{value}': {why}; [config] may say otherwise" for name, (value, why) in found.items()]
    config = {**spec.config, **{name: value for name, (value, _) in found.items()}}
    return spec.model_copy(update={"config": config}), lines
