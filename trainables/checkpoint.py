"""Checkpoints of a training: named tensors and a JSON header in one safetensors file, without pickle."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from .errors import InputError
from .files import atomic

FORMAT = "dftune training checkpoint 1"
Report = TypeVar("Report")


class CheckpointError(InputError):
    """A checkpoint is missing, damaged, or belongs to another training."""


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a header of plain values (NaN allowed), whole or not at all.  Errors as ``files.atomic``."""
    on_cpu = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    text = json.dumps(dict(header))
    metadata = {"format": FORMAT, "header": text, "sha256": _digest(on_cpu, text)}
    with atomic(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(on_cpu, metadata))


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors on the CPU, and the header.

    Raises:
        CheckpointError: missing, damaged, or no checkpoint of a training.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such checkpoint") from error
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path}: not a readable checkpoint ({error}); remove it to start from the beginning"
        ) from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a '{FORMAT}' but {metadata.get('format')!r}; remove it")
    if metadata.get("sha256") != _digest(tensors, metadata.get("header", "")):
        raise CheckpointError(f"{path}: damaged, its checksum differs; remove it to start from the beginning")
    return tensors, json.loads(metadata["header"])


def restore(
    path: Path,
    identity: Mapping[str, Any],
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[Tensor],
    state: Callable[[], Mapping[str, Tensor]],
    report: Callable[..., Report],
) -> Report:
    """Bring a training to where a checkpoint is, and return its last report.

    Args:
        path: of the checkpoint.  Its header has ``identity``, and ``last``, the fields of the last report.
        identity: what a training must share with the one that wrote it, by name.
        optimizer: of the training; its state of parameter i is in the tensors ``optimizer.i.NAME``.
        parameters: what it optimizes.
        state: all tensors of the training by name, those of the optimizer included; they are overwritten.
        report: makes the report of its fields.

    Raises:
        CheckpointError: damaged, or of another training.
    """
    tensors, header = read_checkpoint(path)
    for name, ours in identity.items():
        if header.get(name) != ours:
            raise CheckpointError(
                f"{path}: belongs to a training with other {name}; remove it to start this one from the beginning"
            )
    try:
        for i, p in enumerate(parameters):
            prefix = f"optimizer.{i}."
            optimizer.state[p] = {  # room for what torch itself makes at the first step
                name.removeprefix(prefix): torch.empty_like(value, device=p.device)
                for name, value in tensors.items()
                if name.startswith(prefix)
            }
        with torch.no_grad():
            for name, mine in state().items():
                if mine.shape != tensors[name].shape or mine.dtype != tensors[name].dtype:
                    raise ValueError(name)
                mine.copy_(tensors[name])
        return report(**header["last"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: not the checkpoint of a training of this version; remove it") from error


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """SHA-256 of header and tensors, with names, types and shapes."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.numpy().data)
    return digest.hexdigest()
