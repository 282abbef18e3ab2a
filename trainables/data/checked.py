"""What was checked of the snapshots of a dataset, with which result, and what could not be.  Energies in eV."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from .check import SnapshotReport

# Name in ``SnapshotReport`` -> what is compared, unit, and why it may not be possible.
CHECKS = {
    "electrons_error": ("electrons of the LDOS", "electrons", "the DFT gave no Fermi level"),
    "band_energy_error": ("band energy of the LDOS", "meV/atom", "the DFT gave no band energy"),
    "entropy_error": ("entropy term of the LDOS, so the temperature", "meV/atom", "the DFT gave no entropy term"),
    "density_difference": ("density of the LDOS", "share of the electrons", "there is no density beside the LDOS"),
    "unexplained_by_atoms": ("density around the atoms", "share that they do not explain", "the grid is too small"),
    "ewald_error": ("Ewald energy of the positions", "meV/atom", "the DFT gave no Ewald energy"),
    "terms_error": ("sum of the DFT's own terms", "meV/atom", "only an import sees them, where the DFT gave all"),
}


class Checked(BaseModel):
    """One thing that was compared with the DFT, over all snapshots."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    n: int = Field(ge=0, description="snapshots that it was checked of")
    n_snapshots: int = Field(ge=0)
    worst: float | None = Field(description="the difference of largest size; None: not checked")

    def line(self) -> str:
        """For people."""
        what, unit, why_not = CHECKS.get(self.name, (self.name, "", "unknown"))
        if self.worst is None:
            return f"not checked: {what}; {why_not}"
        some = "" if self.n == self.n_snapshots else f" in {self.n} of {self.n_snapshots} snapshots; else {why_not}"
        return f"checked: {what}, at most {abs(self.worst):.3g} {unit} off{some}"


def summarise(reports: Sequence[SnapshotReport]) -> tuple[Checked, ...]:
    """What reports of all snapshots say together."""
    found = []
    for name in CHECKS:
        known = [value for one in reports if (value := getattr(one, name)) is not None]
        worst = max(known, key=abs, default=None)
        found.append(Checked(name=name, n=len(known), n_snapshots=len(reports), worst=worst))
    return tuple(found)
