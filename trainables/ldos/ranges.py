"""What the cells of the training had in common.  Å, eV."""

from collections.abc import Iterable

import numpy as np
from ase.geometry import cell_to_cellpar
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from ..data.snapshot import Snapshot

# Relative tolerance of volumes: 0.01 % cost a model of aluminium of one lattice constant 3 meV/atom.
SAME_VOLUME = 1e-4
SAME_EDGE, SAME_ANGLE = 1e-3, 0.1  # relative; [°]
NO_RANGES = "this model does not know the ranges of its training, so it cannot warn; train it again"
NO_STRESS = "the training held one volume an atom, so the stress means nothing"
Range = tuple[float, float]


class TrainingRanges(BaseModel):
    """Smallest and largest values over the training snapshots."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    volume_per_atom: Range = Field(description="volume of the cell by the number of atoms [Å³]")
    number_density: Range = Field(description="atoms by the volume of the cell [1/Å³]")
    edges: Range = Field(description="lengths of the cell vectors [Å]")
    angles: Range = Field(description="angles between the cell vectors [°]")
    temperature: Range | None = Field(default=None, description="of the electrons [K]; None: not known")
    stresses: bool = Field(default=False, description="whether the last layer was fitted to their stresses, too")

    @classmethod
    def of(cls, snapshots: Iterable[Snapshot], *, stresses: bool = False) -> "TrainingRanges":
        """Those of snapshots."""
        seen = list(snapshots)
        volumes = [s.volume / s.n_atoms for s in seen]
        cells = np.array([cell_to_cellpar(s.cell) for s in seen])
        return cls(
            volume_per_atom=(min(volumes), max(volumes)),
            number_density=(1 / max(volumes), 1 / min(volumes)),
            edges=(float(cells[:, :3].min()), float(cells[:, :3].max())),
            angles=(float(cells[:, 3:].min()), float(cells[:, 3:].max())),
            temperature=(min(s.temperature for s in seen), max(s.temperature for s in seen)),
            stresses=stresses,
        )

    def __str__(self) -> str:
        """For people."""
        parts = {"Å³ an atom": self.volume_per_atom, "Å": self.edges, "°": self.angles}
        return ", ".join(
            f"{low:.4g} {unit}" if high < low * (1 + SAME_VOLUME) else f"{low:.4g} to {high:.4g} {unit}"
            for unit, (low, high) in parts.items()
        )

    @property
    def one_volume(self) -> bool:
        """Whether the training held one volume per atom only."""
        low, high = self.volume_per_atom
        return high < low * (1 + SAME_VOLUME)

    @property
    def without_stress(self) -> bool:
        """Whether the training said nothing of a stress."""
        return self.one_volume and not self.stresses

    def strain(self, cell: NDArray[np.float64], n_atoms: int) -> float:
        """ln(V/V0) of the volume per atom against the nearest one of the training; 0 inside the range."""
        volume, (low, high) = abs(np.linalg.det(cell)) / n_atoms, self.volume_per_atom
        found = float(np.log(volume / np.clip(volume, low, high)))
        return found if abs(found) > SAME_VOLUME else 0.0

    def outside(self, cell: NDArray[np.float64], n_atoms: int, ewald: float | None) -> list[str]:
        """In which respects a cell is outside, and what to expect, a sentence each.

        Args:
            cell: lattice vectors as rows, (3, 3) [Å].
            n_atoms: in the cell.
            ewald: E_Ewald of the cell [eV], where it is known.
        """
        found, strain = [], self.strain(cell, n_atoms)
        if strain:
            volume, (low, high) = abs(np.linalg.det(cell)) / n_atoms, self.volume_per_atom
            seen = f"the {low:.4g}" if self.one_volume else f"{low:.4g} to {high:.4g}"
            # E_Ewald goes with V^(-1/3); what answers to it in the electrons the network has not seen, beyond the first
            # order where it knows stresses.
            order = strain**2 / 18 if self.stresses else strain / 3
            about = "" if ewald is None else f"expect an error of the order of {_size(ewald * order / n_atoms)}/atom; "
            place = "near it" if self.one_volume else "inside"
            hold = f"stress and equation of state hold {place} only"
            promise = "no stress or equation of state" if self.without_stress else hold
            found.append(
                f"{volume:.4g} Å³ an atom ({1 / volume:.3g} atoms an Å³) are {100 * abs(np.expm1(strain)):.2g} % "
                f"outside {seen} Å³ of the training: {about}{promise}"
            )
        elif why := self._shape(cell):
            found.append(f"the cell has {why}: long-range order may be another one")
        return found

    def _shape(self, cell: NDArray[np.float64]) -> str | None:
        """How edges and angles differ from those of the training, of which edges may be multiples."""
        shape = cell_to_cellpar(cell)
        edges, angles = shape[:3], shape[3:]
        (short, long), (small, large) = self.edges, self.angles
        if angles.min() < small - SAME_ANGLE or angles.max() > large + SAME_ANGLE:
            return f"angles of {_span(angles.min(), angles.max())}°, and {_span(small, large)}° in the training"
        for edge in edges:
            times = np.arange(1, int(edge / short + SAME_EDGE) + 2)
            inside = (edge >= times * short * (1 - SAME_EDGE)) & (edge <= times * long * (1 + SAME_EDGE))
            if not inside.any():
                return f"an edge of {edge:.4g} Å, no multiple of the {short:.4g} to {long:.4g} Å in the training"
        return None


def _span(low: float, high: float) -> str:
    """A range for people; one number where its ends look alike."""
    return " to ".join(dict.fromkeys((f"{low:.4g}", f"{high:.4g}")))


def _size(energy: float) -> str:
    """An energy for people, of one or two digits."""
    return f"{abs(energy):.2g} eV" if abs(energy) >= 0.1 else f"{1e3 * abs(energy):.2g} meV"
