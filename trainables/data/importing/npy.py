"""Arrays in .npy files, read plane by plane, so that no more than a plane is held."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import DatasetError, unreadable
from .importer import OTHER, GridValues

BLOCK = 2**18  # numbers that are read at once, about: what a processor's cache holds
ASKED_FOR = 2**24  # bytes ahead of them that the system is asked to read meanwhile


def npy_values(path: Path, shape: tuple[int, ...], *, what: str, factor: float = 1.0) -> GridValues:
    """Values of a .npy file whose axes are [nx, ny, nz, ...], times a factor; a block may overwrite the one before it.

    Args:
        path: the file.
        shape: that it must have.
        what: it holds, for messages.
        factor: what turns its unit into ours.
    """

    def blocks() -> Iterator[NDArray[np.floating]]:
        n_points, rest = math.prod(shape[:3]), shape[3:]
        for block in _blocks(path, shape, n_points, what):
            block = block.reshape(-1, *rest)
            yield block if factor == 1 else block.astype(np.float32) * np.float32(factor)

    return GridValues(path, blocks)


def npy_shape(path: Path, *, what: str) -> tuple[int, ...]:
    """The shape of the array in a .npy file; its numbers are not read.  Raises DatasetError: as ``npy_values``."""
    return _open(path, what).shape


def _open(path: Path, what: str) -> np.memmap:
    """The array of a file, mapped.  Raises DatasetError: it is missing, damaged, or holds no real numbers."""
    if path.exists() and not path.is_file():
        raise DatasetError(f"{path}: no file; save the {what} as a .npy file")
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: missing; every snapshot needs its {what}") from error
    except (OSError, ValueError, EOFError, OverflowError) as error:
        if isinstance(error, OSError) and error.strerror:
            raise unreadable(path, error) from error
        if "objects in dtype" in str(error):
            raise DatasetError(f"{path}: holds objects of Python, not numbers; save float32 or float64") from error
        raise DatasetError(f"{path}: not a whole .npy file; copy it again") from error
    if not isinstance(values, np.memmap):
        raise DatasetError(f"{path}: an .npz archive, not a .npy file; save one array")
    if values.dtype.newbyteorder("=") not in (np.float16, np.float32, np.float64):
        raise DatasetError(f"{path}: holds {values.dtype}, not real floating-point numbers; save float32 or float64")
    if (more := path.stat().st_size - values.offset - values.nbytes) > 0:
        raise DatasetError(f"{path}: goes on for {more} bytes after its array; save one array a file")
    return values


def _blocks(path: Path, shape: tuple[int, ...], n_points: int, what: str) -> Iterator[NDArray[np.floating]]:
    mapped = _open(path, what)
    if mapped.shape != shape:
        raise DatasetError(f"{path}: has shape {mapped.shape}, but the JSON beside it says {shape}; {OTHER}")
    a_point = math.prod(shape[3:])
    if not mapped.flags.c_contiguous:  # Fortran order: a plane is all over the file
        for plane in mapped:
            yield np.ascontiguousarray(plane)
        return
    # Read and not mapped: a batch system counts pages that were looked at as memory of the process.
    dtype, offset = mapped.dtype, mapped.offset
    del mapped
    step = max(1, BLOCK // a_point)
    memory = np.empty(step * a_point, dtype)
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            for start in range(0, n_points, step):
                block = memory[: min(step, n_points - start) * a_point]
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(stream.fileno(), stream.tell() + ASKED_FOR, block.nbytes, os.POSIX_FADV_WILLNEED)
                if stream.readinto(block.view(np.uint8).data) != block.nbytes:
                    raise DatasetError(f"{path}: became shorter while it was read; copy it again")
                yield block
    except OSError as error:
        raise unreadable(path, error) from error
