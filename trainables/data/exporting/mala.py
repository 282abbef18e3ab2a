"""Export to the files of MALA 1.4, which ``importing/mala.py`` reads: arrays, info.json, and one parameters file."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...descriptors.settings import BispectrumSettings
from ...errors import InputError
from ...files import write_text
from ...physics.units import K_B, RYDBERG
from ..dataset import Dataset
from ..importing.mala_files import SPLIT_OF
from ..importing.precomputed import coordinates
from ..snapshot import Snapshot
from .npy import write_npy

FUNCTION_OF = {split: function for function, split in SPLIT_OF.items()}


def described_settings(dataset: Dataset) -> list[BispectrumSettings]:
    """Settings of the descriptors that a dataset has of all its snapshots."""
    found = []
    for key in dataset.described():
        # The settings stand in the metadata of the files alone.
        path = dataset.path / "descriptors" / key / f"{dataset.snapshots[0].id}.arrow"
        with suppress(OSError, pa.ArrowException, ValueError, KeyError), pa.memory_map(str(path)) as file:
            settings = BispectrumSettings.model_validate_json(pa.ipc.open_file(file).schema.metadata[b"settings"])
            if settings.key == key and not dataset.without_descriptors(settings):
                found.append(settings)
    return found


def settings_of(dataset: Dataset) -> BispectrumSettings | None:
    """Settings of the descriptors to write; None: there are none.  Raises InputError: several, or several cutoffs."""
    found = described_settings(dataset)
    if len(found) > 1:
        there_are = ", ".join(map(str, found))
        raise InputError(
            f"{dataset.location}: has descriptors of several settings ({there_are}), and MALA's files have one; remove "
            "the folders in descriptors/ that you do not want, or copy the dataset without them"
        )
    if found and found[0].inner:
        raise InputError(
            f"{dataset.location}: has descriptors of several cutoffs ({found[0]}), and MALA knows one; remove their "
            "folder in descriptors/, or copy the dataset without it"
        )
    return found[0] if found else None


def write_mala(dataset: Dataset, snapshot: Snapshot, folder: Path, settings: BispectrumSettings | None) -> None:
    """Write the files of one snapshot into a folder, with descriptors if settings are given."""
    s, grid = snapshot, dataset.info.energy_grid
    write_npy(folder / f"{s.id}.out.npy", (*s.grid, grid.n_energy), dataset.ldos(s).stored())
    if s.density_sha256 is not None:
        write_npy(folder / f"{s.id}.dens.npy", (*s.grid, 1), dataset.density(s).stored())
    if settings is not None:
        shape = (*s.grid, 3 + settings.n_components)
        write_npy(folder / f"{s.id}.in.npy", shape, _with_coordinates(dataset, s, settings))
    write_text(folder / f"{s.id}.info.json", json.dumps(_info(dataset, s), indent=4, ensure_ascii=False) + "\n")


def write_parameters(dataset: Dataset, folder: Path, settings: BispectrumSettings | None) -> None:
    """Write dataset.params.json: energies, descriptors and splits, in the form of MALA's parameters."""
    grid = dataset.info.energy_grid
    descriptors = (
        {}
        if settings is None
        else {
            "bispectrum_twojmax": settings.two_j_max,
            "bispectrum_cutoff": settings.cutoff,
            "descriptors_contain_xyz": True,
        }
    )
    content = {
        "comment": f"exported by dftune; the LDOS is broadened by a {grid.kernel} kernel of {grid.width:g} eV",
        "data": {
            "snapshot_directories_list": [_entry(s, settings is not None) for s in dataset.snapshots],
            "_parameters_type": "ParametersData",
        },
        "descriptors": descriptors | {"_parameters_type": "ParametersDescriptors"},
        "targets": {
            "target_type": "LDOS",
            "ldos_gridsize": grid.n_energy,
            "ldos_gridspacing_ev": grid.spacing,
            "ldos_gridoffset_ev": grid.minimum,
            "_parameters_type": "ParametersTargets",
        },
    }
    write_text(folder / "dataset.params.json", json.dumps(content, indent=4, ensure_ascii=False) + "\n")


def _entry(s: Snapshot, described: bool) -> dict[str, Any]:
    """A snapshot in the list of MALA's parameters."""
    data = {
        "input_npy_file": f"{s.id}.in.npy" if described else f"{s.id}.info.json",
        "input_npy_directory": ".",
        "input_units": "None",
        "output_npy_file": f"{s.id}.out.npy",
        "output_npy_directory": ".",
        "output_units": "1/(eV*A^3)",
        "calculation_output": f"{s.id}.info.json",
        "snapshot_function": FUNCTION_OF[s.split],
        "snapshot_type": "numpy" if described else "json+numpy",
    }
    return {"object": "Snapshot", "data": data}


def _info(dataset: Dataset, s: Snapshot) -> dict[str, Any]:
    """NAME.info.json; what a dataset does not know is null."""
    info = dataset.info
    return {
        "fermi_energy_dft": s.fermi_level,
        "temperature": s.temperature,
        "number_of_electrons_exact": s.n_electrons,
        "band_energy_dft_calculation": s.band_energy,
        "total_energy_dft_calculation": s.total_energy,
        "grid_dimensions": list(s.grid),
        "electrons_per_atom": s.n_electrons / s.n_atoms,
        "number_of_electrons_from_eigenvals": None,
        "ibrav": 0,
        "ecutwfc": None,
        "ecutrho": None if info.dft is None else info.dft.density_cutoff / RYDBERG,
        "degauss": s.temperature * K_B / RYDBERG,
        "pseudopotentials": {},
        "entropy_contribution_dft_calculation": s.entropy_term,
        "one_electron_contribution": _one_electron(s),
        "hartree_contribution": s.hartree_energy,
        "xc_contribution": s.xc_energy,
        "ewald_contribution": s.ewald_energy,
        "voxel": {"array": (s.cell / np.array(s.grid)[:, None]).tolist()},
        "atoms": {
            "numbers": s.numbers.tolist(),
            "positions": s.positions.tolist(),
            "cell": s.cell.tolist(),
            "pbc": [True, True, True],
        },
        **({} if s.forces is None else {"atomic_forces_dft": s.forces.tolist()}),
        "dftune": {"group": s.group, "kernel": info.energy_grid.kernel, "width": info.energy_grid.width},
    }


def _one_electron(s: Snapshot) -> float | None:
    """What the other terms leave of the total energy [eV]; None where not all are known."""
    others = (s.hartree_energy, s.xc_energy, s.ewald_energy, s.entropy_term)
    known = [term for term in others if term is not None]
    return None if s.total_energy is None or len(known) < len(others) else s.total_energy - sum(known)


def _with_coordinates(dataset: Dataset, s: Snapshot, settings: BispectrumSettings) -> Iterator[NDArray[np.float32]]:
    """Descriptors behind the coordinates of their grid points [Å], as MALA keeps them."""
    n = 0
    for shard in dataset.descriptors(s, settings).arrays():
        places = coordinates(s.cell, s.grid, range(n, n + len(shard)))
        yield np.concatenate([places.astype(np.float32), shard], axis=1)
        n += len(shard)
