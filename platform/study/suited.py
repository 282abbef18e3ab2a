"""What a study's data and earlier studies decide, fixed before it begins."""

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


def suited(spec: StudySpec, data: Any) -> tuple[StudySpec, list[str]]:
    """The specification of a new study with what its data want and it does not say, and a line of each for people.

    The ledger keeps it, so that a study goes on as it began, whatever the defaults are then.
    """
    found = spec.of_kind.suited(data, spec.config, set(spec.space))
    lines = [f"{name} = '{value}': {why}; [config] may say otherwise" for name, (value, why) in found.items()]
    config = {**spec.config, **{name: value for name, (value, _) in found.items()}}
    return spec.model_copy(update={"config": config}), lines
