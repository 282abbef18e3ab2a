"""The card of an LDOS surrogate: the contents of its model.json.  eV, Å, K."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from ..data.dataset import Dataset
from ..data.energy_grid import EnergyGrid
from ..data.kohn_sham import KohnSham
from ..data.species import Species
from ..descriptors.settings import BispectrumSettings
from ..kind import Card
from .accuracy import Accuracy
from .config import SurrogateConfig
from .energy_reference import relative_grid
from .error_bars import QUANTITIES
from .ranges import TrainingRanges


class LdosCard(Card):
    """What an LDOS surrogate is, besides its weights and scaling."""

    descriptors: BispectrumSettings
    energy_grid: EnergyGrid
    species: Species = Field(description="chemical symbol -> valence electrons")
    dft: KohnSham | None = Field(description="what the total free energy needs besides the LDOS; None: not known")
    grid_spacing: float = Field(gt=0, description="largest distance of grid points in training [Å]")
    temperature: float = Field(ge=0, le=1e9, description="electronic temperature of the training data [K]")
    accuracy: Accuracy = Field(description="on the test snapshots of that dataset")
    ranges: TrainingRanges | None = Field(
        default=None, description="of the training; None: not known, of early versions"
    )

    @field_validator("accuracy", mode="before")
    @classmethod
    def _of_any_version(cls, values: Any) -> Any:
        """Without what earlier versions estimated errors by."""
        return Accuracy.known(values) if isinstance(values, dict) else values

    @property
    def relative(self) -> bool:
        """Whether energies are relative to one that the network says of each structure, and not absolute."""
        return self.config.get("energies") == "fermi"

    @property
    def unstated(self) -> list[str]:
        """Ranges of the training and error bars that it does not state, as those of early versions do not."""
        ranges, known = self.ranges, self.accuracy
        found = ["volumes, edges and angles of the training's cells"] if ranges is None else []
        if ranges is None or ranges.temperature is None:
            found.append("temperatures of the training")
        has = {"free_energy": self.dft is not None, "band_energy": known.band_energy_mae is not None, "dos": True}
        lacking = [name for name, there in has.items() if there and name not in known.error_bars]
        return [*found, *(f"error bar, {QUANTITIES[name]}" for name in lacking)]

    @property
    def subject(self) -> str:
        """What it is, in two or three words."""
        return f"surrogate for {', '.join(self.species)}"

    def facts(self) -> dict[str, str]:
        """Descriptors, LDOS and temperature, for people."""
        grid = self.energy_grid
        return {
            "descriptors": f"{self.descriptors}, grid spacing up to {self.grid_spacing:.4f} Å",
            "LDOS": (
                f"{grid.n_energy} energies from {grid.minimum:g} eV in steps of {grid.spacing:g} eV"
                f"{', relative to the Fermi level' if self.relative else ''}; {grid.rule} rule"
            ),
            "temperature": f"{self.temperature:.1f} K{self._trained_at}",
            **({} if self.accuracy.fitted is None else {"last layer": self.accuracy.fitted}),
            "cells": "ranges of the training are not known" if self.ranges is None else str(self.ranges),
        }

    @property
    def _trained_at(self) -> str:
        """The temperatures of the training, where they are several."""
        seen = None if self.ranges is None else self.ranges.temperature
        return "" if seen is None or seen[1] - seen[0] < 0.1 else f", the mean of {seen[0]:.1f} to {seen[1]:.1f} K"


def card_for(
    study: str,
    config: SurrogateConfig,
    seeds: Sequence[int],
    dataset: Dataset,
    descriptors: BispectrumSettings,
    accuracy: Accuracy,
) -> LdosCard:
    """The card of a surrogate just trained on ``dataset``."""
    train, grid = dataset.split("train"), dataset.info.energy_grid
    stresses = config.stress_weight > 0 and all(s.stress is not None for s in train)
    return LdosCard(
        kind="ldos",
        study=study,
        config=config.model_dump(mode="json"),
        n_initializations=len(seeds),
        seeds=list(seeds),
        dataset=dataset.name,
        dataset_sha256=dataset.fingerprint,
        descriptors=descriptors,
        energy_grid=relative_grid(grid, train) if config.energies == "fermi" else grid,
        species=dataset.info.species,
        dft=dataset.info.dft,
        grid_spacing=max(float((np.linalg.norm(s.cell, axis=1) / s.grid).max()) for s in train),
        temperature=float(np.mean([s.temperature for s in train])),
        accuracy=accuracy,
        ranges=TrainingRanges.of(train, stresses=stresses),
    )
