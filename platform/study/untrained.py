"""The surrogate that needs no training: the first result of every study, which its search has to beat."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...trainables.errors import InputError
from ...trainables.files import write_text
from ...trainables.weighted import with_weighted
from ..objective import WEIGHTED, report_weights
from ..spec import StudySpec

if TYPE_CHECKING:
    from ...trainables.kind import Accuracy, TrialConfig

FOLDER = "untrained"  # in the folder of a study: its model and figures
VALUE = "value.json"  # beside them: what the study minimises


def untrained_config(spec: StudySpec, data: Any) -> "TrialConfig":
    """Its hyperparameters: those of its kind, with what the data want, where [config] does not say otherwise."""
    kind, own = spec.of_kind, spec.of_kind.untrained or {}
    wanted = {name: value for name, (value, _) in kind.suited(data, own, set()).items()}
    said = {name: spec.config[name] for name in wanted if name in spec.config}
    config: TrialConfig = kind.config.of({**wanted, **said, **own})
    return config


def value_of(spec: StudySpec, report: Mapping[str, Any]) -> float:
    """What the study minimises, the first of several, of networks that gave a report; NaN if it is not there."""
    found = with_weighted(report, WEIGHTED, report_weights(spec.value_name, spec.of_kind))
    return float(found.get(spec.metric, math.nan))


def is_better(spec: StudySpec, untrained: Mapping[str, Any] | None, value: float) -> bool:
    """Whether ``Conclusion.untrained`` is better than networks of a value.  Where costs count, too, nobody can tell."""
    return len(spec.minimize) == 1 and bool((untrained or {}).get("value", math.nan) < value)


def keep_value(folder: Path, spec: StudySpec, value: float) -> None:
    """Write what the study minimises beside the model, for ``read``."""
    write_text(folder / VALUE, json.dumps({spec.value_name: value}))


def read(folder: Path, spec: StudySpec, data: Any, config: "TrialConfig") -> "tuple[Accuracy, float] | None":
    """Stated accuracy and value of the one that an earlier session made; None if there is none, or it is another one.

    Args:
        folder: where it was saved.
        spec: of the study.
        data: its dataset, open.
        config: all hyperparameters.
    """
    from ..model.model import Model

    try:
        card = Model.open(folder / "model", spec.of_kind).card
        value = float(json.loads((folder / VALUE).read_text(encoding="utf-8"))[spec.value_name])
    except (InputError, OSError, ValueError, KeyError, TypeError):
        return None
    wanted = (data.fingerprint, config.model_dump(mode="json"), spec.initializations)
    if (card.dataset_sha256, card.config, card.n_initializations) != wanted:
        return None
    accuracy: Accuracy = card.accuracy
    return accuracy, value
