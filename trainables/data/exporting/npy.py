"""Arrays written to .npy files shard by shard, so that no more than a shard is held."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..shards import Shard


def write_npy(path: Path, shape: tuple[int, ...], shards: Iterable[Shard]) -> None:
    """Write consecutive rows of an array of a shape, C order, in the type of the first of them."""
    with path.open("wb") as stream:
        for n, shard in enumerate(shard[:] for shard in shards):
            if n == 0:
                header = {"descr": np.lib.format.dtype_to_descr(shard.dtype), "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(stream, header)
            stream.write(np.ascontiguousarray(shard).data)
