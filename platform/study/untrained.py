"""The surrogate that needs no training: the first result of every study, which its search has to beat."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...trainables.errors import InputError
from ..spec import StudySpec

if TYPE_CHECKING:
    from ...trainables.kind import Accuracy, TrialConfig

FOLDER = "untrained"  # in the folder of a study: its model and figures


def read(folder: Path, spec: StudySpec, data: Any, config: "TrialConfig") -> "Accuracy | None":
    """The stated accuracy of the one that an earlier session made; None if there is none, or it is another one.

    Args:
        folder: where it was saved.
        spec: of the study.
        data: its dataset, open.
        config: all hyperparameters.
    """
    from ..model.model import Model

    try:
        card = Model.open(folder / "model", spec.of_kind).card
    except InputError:
        return None
    wanted = (data.fingerprint, config.model_dump(mode="json"), spec.initializations)
    if (card.dataset_sha256, card.config, card.n_initializations) != wanted:
        return None
    accuracy: Accuracy = card.accuracy
    return accuracy
