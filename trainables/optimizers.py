"""Torch's optimizers without its compiler, for trainings of all kinds."""

import inspect
from collections.abc import Callable

import torch


def _lean(kind: type[torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """An optimizer without guards against torch's compiler, which at their first call import it.

    That takes 1.4 s, a third of the time in which the process of a trial starts.
    """
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in ("add_param_group", "zero_grad", "step")}
    return type(kind.__name__, (kind,), methods | {"step": torch.no_grad()(methods["step"])})


ADAM, ADAMW, SGD = (_lean(kind) for kind in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD))
