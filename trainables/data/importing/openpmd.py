"""Grid values in HDF5 files of the openPMD standard, as MALA writes them: a mesh of scalar components 0, 1, 2, ...

Source: Huebl et al., openPMD standard 1.1.0, doi:10.5281/zenodo.591699.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DatasetError, InputError, unreadable
from .importer import OTHER, GridValues

if TYPE_CHECKING:
    import h5py

ELECTRONVOLT = 1.602176634e-19  # [J]
ANGSTROM = 1e-10  # [m]
# Mesh -> its unit in SI, which files say as unitSI.
UNITS = {"LDOS": 1 / (ELECTRONVOLT * ANGSTROM**3), "Density": 1 / ANGSTROM**3}
BLOCK = 2**20  # numbers that are read at once, about


def open_file(path: Path) -> "h5py.File":
    """An HDF5 file, for reading.  Raises DatasetError: it is missing or damaged.  InputError: there is no h5py."""
    try:
        import h5py
    except ImportError:
        raise InputError(f"{path}: HDF5 files need h5py; install it with `pip install 'dftune[mala]'`") from None
    if path.exists() and not path.is_file():
        raise DatasetError(f"{path}: no file; give an HDF5 file")
    try:
        return h5py.File(path, "r")
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: missing; every snapshot needs it") from error
    except OSError as error:
        if error.errno:
            raise unreadable(path, OSError(error.errno, os.strerror(error.errno))) from error
        raise DatasetError(f"{path}: not a whole HDF5 file; copy it again") from error


def mesh_shape(path: Path, names: tuple[str, ...]) -> tuple[int, ...]:
    """(nx, ny, nz, n) of the mesh of one of the names.

    Raises:
        DatasetError: the file is damaged, of another layout, or has no such mesh.
    """
    with open_file(path) as file:
        components = _components(file, path, names)
        return (*components[0].shape, len(components))


def mesh_values(path: Path, names: tuple[str, ...], shape: tuple[int, ...], *, skip: int = 0) -> GridValues:
    """Values of the mesh of one of the names, (n_points, n) without the first ``skip`` components.

    Args:
        path: the file.
        names: of the mesh.
        shape: (nx, ny, nz, n) that it must have; n = 0 for one component, which becomes (n_points,).
        skip: components that are left out at the beginning.
    """

    def blocks() -> Iterator[NDArray[np.floating]]:
        with open_file(path) as file:
            components = _components(file, path, names)
            found = (*components[0].shape, len(components))
            if found != (*shape[:3], shape[3] or 1):
                raise DatasetError(f"{path}: has shape {found}, but the JSON beside it says {shape}; {OTHER}")
            step = max(1, BLOCK // (math.prod(shape[1:3]) * len(components)))
            for start in range(0, shape[0], step):
                planes = [component[start : start + step] for component in components[skip:]]
                values = np.stack(planes, axis=-1).reshape(-1, len(planes))
                yield values if shape[3] else values[:, 0]

    return GridValues(path, blocks)


def _components(file: "h5py.File", path: Path, names: tuple[str, ...]) -> "list[h5py.Dataset]":
    """The components of a mesh, in their order.  Raises DatasetError: it is of another layout or unit."""
    import h5py

    other = f"{path}: not a file of MALA in the openPMD layout"
    if not file.attrs.get("openPMD") or not file.attrs.get("is_mala_data"):
        raise DatasetError(f"{other} (no attributes openPMD and is_mala_data); save .npy files, or give its folder")
    data = file.get("data")
    steps = sorted(data, key=_order) if isinstance(data, h5py.Group) else []
    meshes = data.get(f"{steps[0]}/meshes") if steps else None
    there = list(meshes) if isinstance(meshes, h5py.Group) else []
    name = next((name for name in names if name in there), None)
    if name is None or meshes is None:
        raise DatasetError(f"{other}: no mesh {' or '.join(names)}; it has {', '.join(there) or 'none'}")
    mesh = meshes[name]
    parts = [mesh.get(key) for key in sorted(mesh, key=_order)] if isinstance(mesh, h5py.Group) else [mesh]
    if None in parts:
        raise DatasetError(f"{path}: a component of {name} is a link that leads nowhere; copy all files of the project")
    if not parts or [_order(part.name.rsplit("/")[-1])[0] for part in parts] != list(range(len(parts))):
        raise DatasetError(f"{path}: the components of {name} are not numbered 0, 1, 2, ...; write it again")
    first = parts[0]
    for part in parts:
        if not isinstance(part, h5py.Dataset) or part.ndim != 3 or part.shape != first.shape:
            raise DatasetError(
                f"{path}: the components of {name} are not arrays [nx, ny, nz] of one shape; write it again"
            )
        if not np.issubdtype(part.dtype, np.floating):
            raise DatasetError(f"{path}: {name} holds {part.dtype}, not floating-point numbers; write it again")
        _check_unit(part, name, path)
    return parts


def _check_unit(part: "h5py.Dataset", name: str, path: Path) -> None:
    """Raise DatasetError if a component says a unit that is not MALA's for its mesh."""
    expected, said = UNITS.get(name), part.attrs.get("unitSI")
    if expected is None or said is None:
        return
    if not abs(float(said) / expected - 1) < 1e-6:
        raise DatasetError(f"{path}: {name} has the unit {float(said):g} in SI; MALA's 1/(eV Å³) and 1/Å³ are read")


def _order(key: Any) -> tuple[int, str]:
    text = str(key)
    return (int(text), "") if text.isdecimal() else (2**31, text)
