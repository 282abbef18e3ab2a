"""What nearly all workers need: imported once, by the process that :mod:`.worker_forks` forks."""

import importlib

from .ray_private import drawing_nothing

with drawing_nothing():
    import ray.tune  # noqa: F401
    import torch  # noqa: F401

    from ..trainables.kinds import OURS
    from . import study_data  # noqa: F401
    from .descriptors import descriptors, where_they_lie  # noqa: F401
    from .trials import retraining, scoring, training  # noqa: F401

    for kind in OURS.values():
        importlib.import_module(".surrogate", type(kind).__module__.rpartition(".")[0])
