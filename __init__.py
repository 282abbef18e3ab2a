"""dftune: find and serve machine-learning surrogates of electronic structure.

Names are imported when first used, so that ``import dftune`` and ``dftune --help`` load neither torch nor Ray.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .platform.version import __version__

_HOME = {
    "BispectrumSettings": ".trainables.descriptors.settings",
    "Dataset": ".trainables.data.dataset",
    "Study": ".platform.study.study",
    "fit": ".platform.study.fit",
    "StudySpec": ".platform.spec",
    "Model": ".platform.model.model",
    "Calculator": ".platform.model.calculator",
    "Client": ".platform.serve.client",
    "RemoteCalculator": ".platform.serve.remote_calculator",
}
__all__ = ["__version__", *_HOME]

if TYPE_CHECKING:
    from .platform.model.calculator import Calculator as Calculator
    from .platform.model.model import Model as Model
    from .platform.serve.client import Client as Client
    from .platform.serve.remote_calculator import RemoteCalculator as RemoteCalculator
    from .platform.spec import StudySpec as StudySpec
    from .platform.study.fit import fit as fit
    from .platform.study.study import Study as Study
    from .trainables.data.dataset import Dataset as Dataset
    from .trainables.descriptors.settings import BispectrumSettings as BispectrumSettings


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
