"""Torch's optimizers without its compiler and profiler, for trainings of all kinds."""

import inspect
from collections.abc import Callable

import torch


def _lean(kind: type[torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """An optimizer without guards against torch's compiler, which at their first call import it, and without hooks.

    The import takes 1.4 s, a third of the time in which the process of a trial starts; hooks and the notes for torch's
    profiler take a tenth of a small network's step.
    """
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in ("add_param_group", "step")}
    step = torch.no_grad()(methods["step"])
    step.hooked = True  # so torch does not wrap it
    return type(kind.__name__, (kind,), methods | {"step": step, "zero_grad": _zero_grad})


def _zero_grad(self: torch.optim.Optimizer, set_to_none: bool = True) -> None:
    """Forget all gradients."""
    assert set_to_none
    for group in self.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


ADAM, ADAMW, SGD = (_lean(kind) for kind in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD))
