"""What was checked of the snapshots of a dataset, with which result, and what could not be.  Energies in eV."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ..tables import text_table
from .check import SnapshotReport
from .forces_check import FARTHEST

_NO_TERM = "the DFT gave none, or its functional and core charges are not known"
_NO_WIDTH = "the energies do not begin below the bands, or are farther apart than the width"
_NO_STATES = "only an import sees the eigenvalues, where the DFT gave them"
_NO_WAY = f"no forces, or no other snapshot of the same cell within {FARTHEST:g} Å that could tell"
# Name in ``SnapshotReport`` -> what is compared, unit, and why it may not be possible.
CHECKS = {
    "electrons_error": ("electrons of the LDOS", "electrons", "the DFT gave no Fermi level"),
    "band_energy_error": ("band energy of the LDOS", "meV/atom", "the DFT gave no band energy"),
    "zero_error": ("zero of the energies", "eV", "the DFT gave neither a band energy nor a Fermi level"),
    "entropy_error": ("entropy term of the LDOS, so the temperature", "meV/atom", "the DFT gave no entropy term"),
    "width_error": ("width of the broadening, which the shape of the DOS tells to 25 %", "of it", _NO_WIDTH),
    "dos_error": ("DOS of the LDOS, so its broadening", "of its largest value", _NO_STATES),
    "density_difference": ("density of the LDOS", "share of the electrons", "there is no density beside the LDOS"),
    "unexplained_by_atoms": ("density around the atoms", "share that they do not explain", "the grid is too small"),
    "ewald_error": ("Ewald energy of the positions", "meV/atom", "the DFT gave no Ewald energy"),
    "hartree_error": ("Hartree energy of the density", "meV/atom", _NO_TERM),
    "xc_error": ("exchange-correlation energy of the density", "meV/atom", _NO_TERM),
    "total_error": ("total free energy of the LDOS", "meV/atom", _NO_TERM),
    "forces_error": ("forces, by the energies from a snapshot to those near it", "of their work", _NO_WAY),
    "terms_error": ("sum of the DFT's own terms", "meV/atom", "only an import sees them, where the DFT gave all"),
}
# Name in ``SnapshotReport`` -> unit, of the columns of a table.
REPORT_UNITS = {
    "electrons_error": "electrons",
    "zero_error": "eV",
    **{name: unit for name, (_, unit, _) in CHECKS.items() if unit == "meV/atom"},
}
_HEADS = {
    "electrons_error": "electrons",
    "zero_error": "zero",
    "width_error": "width",
    "dos_error": "DOS",
    "density_difference": "density",
    "unexplained_by_atoms": "atoms",
    "band_energy_error": "band",
    "entropy_error": "entropy",
    "hartree_error": "Hartree",
    "xc_error": "XC",
    "ewald_error": "Ewald",
    "total_error": "total",
    "forces_error": "forces",
    "terms_error": "sum",
}
# Of the columns of ``Dataset.rows`` and of reports.
UNITS = {
    "temperature": "K",
    "total_energy": "eV",
    "band_energy": "eV",
    "fermi_level": "eV",
    "displacement": "Å",
    **REPORT_UNITS,
}


class Checked(BaseModel):
    """One thing that was compared with the DFT, over all snapshots."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    n: int = Field(ge=0, description="snapshots that it was checked of")
    n_snapshots: int = Field(ge=0)
    worst: float | None = Field(description="the difference of largest size; None: not checked")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; with the unit of ``worst``."""
        return self.model_dump() | {"unit": CHECKS.get(self.name, ("", "", ""))[1]}

    def line(self) -> str:
        """For people."""
        what, unit, why_not = CHECKS.get(self.name, (self.name, "", "unknown"))
        if self.worst is None:
            return f"not checked: {what}; {why_not}"
        some = "" if self.n == self.n_snapshots else f" in {self.n} of {self.n_snapshots} snapshots; else {why_not}"
        return f"checked: {what}, at most {abs(self.worst):.3g} {unit} off{some}"


def compared(reports: Sequence[SnapshotReport]) -> list[str]:
    """A table of how the snapshots compare with their DFT, for people.  What nobody could compare is left out."""
    there = {name: head for name, head in _HEADS.items() if any(getattr(one, name) is not None for one in reports)}
    rows = [{"id": one.id} | {head: _digits(getattr(one, name)) for name, head in there.items()} for one in reports]
    head = "differences from the DFT, energies in meV/atom, their zero in eV:"
    return [head, *text_table(rows, units={})] if there else []


def _digits(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.2g}")


def summarise(reports: Sequence[SnapshotReport]) -> tuple[Checked, ...]:
    """What reports of all snapshots say together."""
    found = []
    for name in CHECKS:
        known = [value for one in reports if (value := getattr(one, name)) is not None]
        worst = max(known, key=abs, default=None)
        found.append(Checked(name=name, n=len(known), n_snapshots=len(reports), worst=worst))
    return tuple(found)
