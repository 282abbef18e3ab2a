"""Export to tables and structure files that other programs read: Parquet, extended XYZ."""

from collections.abc import Iterator
from pathlib import Path

import ase
import ase.io
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from ..dataset import Dataset
from ..importing.precomputed import coordinates
from ..snapshot import ENERGIES, SNAPSHOTS, Snapshot


def write_parquet(dataset: Dataset, snapshot: Snapshot, folder: Path) -> None:
    """Write the grid points of a snapshot to ID.parquet: x, y, z [Å], the LDOS, and the density if there is one."""
    s = snapshot
    n_energy = dataset.info.energy_grid.n_energy
    densities: Iterator[NDArray[np.floating] | None] = iter(
        dataset.density(s).arrays() if s.density_sha256 is not None else [None] * len(dataset.ldos(s).batches)
    )
    start, writer = 0, None
    try:
        for ldos, density in zip(dataset.ldos(s).arrays(), densities, strict=True):
            places = coordinates(s.cell, s.grid, range(start, start + len(ldos)))
            flat = pa.array(np.ascontiguousarray(ldos).reshape(-1))
            columns: dict[str, tuple[pa.Array, str]] = {
                name: (pa.array(np.ascontiguousarray(places[:, axis])), "Å") for axis, name in enumerate("xyz")
            }
            columns["ldos"] = pa.FixedSizeListArray.from_arrays(flat, n_energy), "1/(eV Å³)"
            if density is not None:
                columns["density"] = pa.array(np.ascontiguousarray(density)), "1/Å³"
            schema = pa.schema(
                [pa.field(name, values.type, False, {"unit": unit}) for name, (values, unit) in columns.items()],
                metadata={"snapshot": s.id, "energies [eV]": str(dataset.info.energy_grid.energy.tolist())},
            )
            writer = writer or pq.ParquetWriter(folder / f"{s.id}.parquet", schema)
            writer.write_table(pa.Table.from_arrays([values for values, _ in columns.values()], schema=schema))
            start += len(ldos)
    finally:
        if writer is not None:
            writer.close()


def write_table(dataset: Dataset, folder: Path) -> None:
    """Write snapshots.parquet: a row a snapshot, as the dataset has it."""
    table = pa.Table.from_pylist([s.to_row() for s in dataset.snapshots], schema=SNAPSHOTS)
    pq.write_table(table, folder / "snapshots.parquet")


def write_extxyz(dataset: Dataset, path: Path) -> None:
    """Write the structures to a file of extended XYZ, with energies, forces, stress, temperature [eV, Å, K] and ids."""
    ase.io.write(path, [_atoms(s) for s in dataset.snapshots], format="extxyz")


def _atoms(s: Snapshot) -> ase.Atoms:
    about = {"id": s.id, "split": s.split, "group": s.group, "temperature": s.temperature, "electrons": s.n_electrons}
    about |= {name: value for name in ENERGIES if (value := getattr(s, name)) is not None and name != "total_energy"}
    atoms = ase.Atoms(numbers=s.numbers, positions=s.positions, cell=s.cell, pbc=True, info=about)
    if s.total_energy is not None or s.forces is not None:
        results = {"energy": s.total_energy, "free_energy": s.total_energy, "forces": s.forces}
        results |= {} if s.stress is None else {"stress": full_3x3_to_voigt_6_stress(s.stress)}
        atoms.calc = SinglePointCalculator(atoms, **{k: v for k, v in results.items() if v is not None})
    return atoms
