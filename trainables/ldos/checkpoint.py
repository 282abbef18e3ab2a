"""Checkpoints of a training: named tensors and a JSON header in one safetensors file, without pickle."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from ..errors import InputError
from ..files import atomic

FORMAT = "dftune training checkpoint 1"


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


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """SHA-256 of header and tensors, with names, types and shapes."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.numpy().data)
    return digest.hexdigest()
