"""What a study's data, its aim and earlier studies decide, fixed before it begins."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..ledger.places import Place
from ..spec import StudySpec
from .start_from import with_first


def as_kept(spec: StudySpec, folder: Path, place: Place, say: Callable[[str], None]) -> StudySpec:
    """The specification of a new study as its ledger keeps it: suited to its data, with configs to begin with.

    Raises:
        InputError: the dataset or a study that it starts from cannot be read, or has nothing for it.
    """
    spec, lines = suited(spec, spec.of_kind.open(spec.dataset))
    for line in lines:
        say(line)
    return with_first(spec, folder, place) if spec.start_from else spec


def as_begun(spec: StudySpec, kept: StudySpec) -> StudySpec:
    """The specification of a study that goes on: what was fixed before it began is as its ledger keeps it."""
    fixed = ("config", "first", kept.of_kind.table)
    return spec.model_copy(update={name: getattr(kept, name) for name in fixed})


def suited(spec: StudySpec, data: Any) -> tuple[StudySpec, list[str]]:
    """The specification of a new study with what its data and aim want and it does not say, and a line of each.

    The ledger keeps it, so that a study goes on as it began, whatever the defaults are then.
    """
    found = {**_wanted(spec), **spec.of_kind.suited(data, spec.config, set(spec.space))}
    lines = [f"{name} = '{value}': {why}; [config] may say otherwise" for name, (value, why) in found.items()]
    update: dict[str, Any] = {"config": {**spec.config, **{name: value for name, (value, _) in found.items()}}}
    kind, said = spec.of_kind, spec.settings
    how = {name for name, field in type(said).model_fields.items() if field.exclude}  # it changes no number
    wanted = None if said.model_fields_set - how else kind.settings_of(data)
    if wanted is not None:
        update[kind.table] = wanted[0].model_copy(update={name: getattr(said, name) for name in how})
        lines.append(f"{kind.table}: {wanted[0]}, {wanted[1]}; [{kind.table}] may say otherwise")
    return spec.model_copy(update=update), lines


def _wanted(spec: StudySpec) -> dict[str, tuple[Any, str]]:
    """What the study minimises wants of hyperparameters that it does not say: name -> value, and why."""
    kind, now = spec.of_kind, spec.full({}).model_dump()
    measures = {**kind.costs, **kind.values}
    wanted = {n: (value, f"{name} is minimised") for name in spec.minimized for n, value in measures[name].wants}
    return {n: found for n, found in wanted.items() if n not in {*spec.config, *spec.space} and now.get(n) != found[0]}
