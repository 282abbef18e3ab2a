"""Hyperparameters that data want instead of the defaults, and rows of stresses that they cannot have.  eV, Å."""

from collections.abc import Collection, Mapping
from typing import Any

from ..data.dataset import Dataset
from .config import SurrogateConfig
from .ranges import TrainingRanges


def suited(data: Dataset, config: Mapping[str, Any], space: Collection[str]) -> dict[str, tuple[Any, str]]:
    """Name -> value and why.

    Energies relative to the Fermi level where the training has several volumes or the readout rows of stresses, and
    the data allow it.
    """
    volumes, grid, full = TrainingRanges.of(data.split("train")), data.info.energy_grid, SurrogateConfig.of(config)
    decided = "energies" in {*config, *space} or "readout" in space or full.readout == "never"
    if decided or grid.width < grid.spacing or any(s.fermi_level is None for s in data.snapshots):
        return {}
    if not volumes.one_volume:
        low, high = volumes.volume_per_atom
        return {"energies": ("fermi", f"the training snapshots have {low:.4g} to {high:.4g} Å³ an atom")}
    if full.stress_weight > 0 or "stress_weight" in space:
        return {"energies": ("fermi", "the readout has rows of stresses")}
    return {}


def no_stress_rows(data: Dataset) -> str | None:
    """Why no training snapshot has rows of a stress; None: some have."""
    if data.info.dft is None:
        return "the data do not say what the free energy needs (import them with --pseudopotentials)"
    if data.info.energy_grid.rule == "linear":
        return "by the linear rule free energies of the LDOS are some 30 meV/atom off, by the volume more or less"
    if all(s.stress is None for s in data.split("train")):
        return "no training snapshot has a stress (pw.x gives it with tstress = .true.; then import them again)"
    return None
