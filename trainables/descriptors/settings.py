"""Settings of the bispectrum descriptors.  Lengths in Å."""

import hashlib
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class BispectrumSettings(BaseModel):
    """SNAP bispectrum descriptors around each grid point (Fiedler et al. 2022, Eq. 7)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cutoff: float = Field(default=4.68, gt=0, le=20, allow_inf_nan=False, description="R_cut [Å]")
    two_j_max: int = Field(default=10, ge=2, le=14, multiple_of=2, description="2 J_max, as LAMMPS counts it")

    engine: Literal["native", "lammps"] = Field(
        default="native", exclude=True, description="what computes them: both give the same numbers"
    )

    @property
    def n_components(self) -> int:
        """Length of the descriptor: 14, 30, 55, 91 for 2 J_max = 4, 6, 8, 10."""
        j = self.two_j_max // 2
        return (j + 1) * (j + 2) * (2 * j + 3) // 6

    @property
    def key(self) -> str:
        """Name of the folder that holds descriptors of these settings: a hash of them."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    def __str__(self) -> str:
        return f"cutoff {self.cutoff:g} Å, 2J_max {self.two_j_max}"
