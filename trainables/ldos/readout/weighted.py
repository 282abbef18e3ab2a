"""Which rows a config asks for of the training's snapshots, and with what weights."""

from ...errors import InputError
from ...memory import free_memory
from ..config import SurrogateConfig
from ..network import Network
from ..training_data import SnapshotData, TrainingData
from .electrons import Ions
from .motions import VOIGT
from .rows import RowKind, Rows, dos_rows, energy_rows, force_rows, reference

REFERENCE_WEIGHT = 1e4  # of the level that energies are relative to [eV^-2]: known to 10 meV, as A holds it N times


def refuse_too_many_rows(config: SurrogateConfig, data: TrainingData) -> None:
    """The products of all pairs of rows are held once, and once more while they are solved.  Raises InputError."""
    known = data.descriptors is not None and data.dft is not None
    forces, stresses = (known and weight > 0 for weight in (config.force_weight, config.stress_weight))
    n_forces = sum(3 * d.snapshot.n_atoms for d in data.train if forces and d.snapshot.forces is not None)
    n_stresses = sum(len(VOIGT) for d in data.train if stresses and d.snapshot.stress is not None)
    n_dos = len(data.scaling.ldos_mean) * len(data.train) if config.dos_weight > 0 else 0
    needed, free = 16 * (n_forces + n_stresses + n_dos + len(data.train)) ** 2, free_memory()
    if needed > free:
        raise InputError(
            f"rows for energies, forces and DOS of {len(data.train):,} training snapshots need {needed / 1e9:.1f} GB "
            f"of memory, and {free / 1e9:.1f} GB are free here; set force_weight = 0 and dos_weight = 0 in [config], "
            "take fewer snapshots or a machine with more memory"
        )


def rows_of(network: Network, snapshot: SnapshotData, *, data: TrainingData, config: SurrogateConfig) -> Rows:
    """All rows of a snapshot that have a weight."""
    found, energies, derivatives = (
        list[Rows](),
        config.energy_weight > 0,
        config.force_weight + config.stress_weight > 0,
    )
    if config.dos_weight > 0:
        found.append(dos_rows(network, data.scaling, snapshot))
    if energies or derivatives:
        ions = ions_of(data, snapshot)
        known = reference(snapshot, ions)
        if energies:
            found.append(energy_rows(network, data.scaling, snapshot, ions, known))
        if derivatives and data.descriptors is not None:
            wanted = {"forces": config.force_weight > 0, "stress": config.stress_weight > 0}
            found.append(force_rows(network, data.scaling, snapshot, known, data.descriptors, **wanted))
    return Rows.join(found or [Rows.none(network, snapshot)])


def ions_of(data: TrainingData, snapshot: SnapshotData) -> Ions:
    """What is known of a snapshot beside its electrons."""
    return Ions(snapshot.snapshot, data.energy_grid, data.dft, data.species)


def weights_of(config: SurrogateConfig) -> dict[RowKind, float]:
    """κ of each kind of row."""
    energies = config.energy_weight
    rows: dict[RowKind, float] = {"free_energy": energies, "band_energy": energies, "electrons": energies}
    rows |= {"reference": REFERENCE_WEIGHT, "forces": config.force_weight, "stress": config.stress_weight}
    return rows | {"dos": config.dos_weight}
