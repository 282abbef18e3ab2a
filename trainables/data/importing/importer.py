"""What an importer of DFT results is, and what it hands over to be written.  Energies in eV, lengths in Å.

An importer finds and reads files.  The writer does everything that is the same for all of them: splits, checks,
checksums, the folder.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...descriptors.settings import FURTHEST, BispectrumSettings
from ...errors import DatasetError, InputError
from ...kind import Data
from ...physics.smearing import Kernel
from ..energy_grid import EnergyGrid
from ..kohn_sham import KohnSham
from ..snapshot import Snapshot, Split
from ..states_check import States
from .ldos_unit import factor_of

T = TypeVar("T")
MOST_TOLD = {"width": 1e3, "cutoff": FURTHEST}  # [eV], [Å]
OTHER = "put that of the same snapshot there"
Report = Callable[[str], None]  # called with one line for people


@dataclass(frozen=True)
class GridValues:
    """Values at all grid points of a snapshot, which come in blocks and are never held all at once.

    Attributes:
        where: the file or folder to name in an error.
        blocks: gives consecutive grid points, C order of [nx, ny, nz], in blocks of any length: (n, n_energy) for an
            LDOS, (n,) for a density; real floating-point numbers of any byte order.  float16 is stored as it is, all
            else as float32.
    """

    where: Path
    blocks: Callable[[], Iterable[NDArray[np.floating]]]


@dataclass(frozen=True)
class FoundDescriptors:
    """Descriptors that somebody computed already, (n_points, n_components).

    The writer compares some of them with ours, and refuses others.
    """

    settings: BispectrumSettings
    values: GridValues


@dataclass(frozen=True, kw_only=True)
class FoundSnapshot:
    """A snapshot as an importer found it.

    Attributes:
        where: the file or folder to name in an error.
        snapshot: its numbers; the writer sets ``split`` and the checksums.
        species: chemical symbol -> valence electrons.
        energy_grid: energies of the LDOS.
        ldos: [1/(eV Å³)], both spins summed.
        density: [1/Å³]; None where the DFT gave none.
        descriptors: None where there are none.
        terms_error: sum of the DFT's own terms of the energy minus its total energy [eV]; None where it gave not all.
        states: eigenvalues of the DFT; None where it gave none.
        k_mesh: of the DFT; None where it is not known.
        files: what was found, in words.
    """

    where: Path
    snapshot: Snapshot
    species: Mapping[str, float]
    energy_grid: EnergyGrid
    ldos: GridValues
    density: GridValues | None = None
    descriptors: FoundDescriptors | None = None
    terms_error: float | None = None
    states: States | None = None
    k_mesh: tuple[int, int, int] | None = None
    files: str = ""


@dataclass(frozen=True, kw_only=True)
class Found:
    """All that an importer found.

    Attributes:
        snapshots: in the order of the dataset; splits are cut in this order.
        dft: gives what total free energies need, from chemical symbol -> valence electrons of all snapshots; None if
            it is not known, and then it has reported why.  Called once the snapshots are known to agree.
        source: where the snapshots come from, for dataset.json.
        splits: id -> split, as the files say; the user's choice goes first.
    """

    snapshots: Sequence[FoundSnapshot]
    dft: Callable[[Mapping[str, float]], KohnSham | None] = lambda species: None
    source: str
    splits: Mapping[str, Split] | None = None


class OwnPlan(Protocol):
    """What is to become of data that are no snapshots."""

    def lines(self) -> list[str]:
        """What was found and what is missing, for people."""

    def write(self, destination: Path, *, source: str | None = None) -> Data:
        """Write the dataset, whole or not at all; ``source`` is a note on its origin."""


class OwnFound(Protocol):
    """What an importer of a kind with data of its own found."""

    def plan(self, *, report: Report, **said: Any) -> OwnPlan:
        """Check it.  Raises InputError: it is inconsistent, or something is ``said`` that it has no use for."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the user says, because files do not always say it.

    Attributes:
        pseudopotentials: folder of the UPF files that the snapshots name; None: look beside the snapshots.
        kernel, width: how the LDOS was broadened [eV]; None: the files say it.
        energies: a file that says the energies of the LDOS, for layouts that keep them elsewhere; None: look for one.
        unit: of the LDOS, such as 1/(Ry bohr^3); None: the files say it, or it is their layout's.
        cutoff: R_cut of descriptors that lie beside the LDOS [Å]; None: the files say it.
    """

    pseudopotentials: Path | None = None
    kernel: Kernel | None = None
    width: float | None = None
    energies: Path | None = None
    unit: str | None = None
    cutoff: float | None = None

    def __post_init__(self) -> None:
        """Raises InputError: a width or a cutoff is none."""
        for name, value, unit in (("width", self.width, "eV"), ("cutoff", self.cutoff, "Å")):
            if value is not None and not 0 < value <= MOST_TOLD[name]:
                raise InputError(f"a {name} of {value:g} {unit} is none; give one above 0, up to {MOST_TOLD[name]:g}")

    def broadening(self, kernel: Kernel | None, width: float | None, *, where: object) -> tuple[Kernel, float]:
        """Kernel and width [eV] of an LDOS, from what its files say and what the user does.

        Args:
            kernel, width: as the files say; None where they do not.
            where: file to name in an error.

        Raises:
            DatasetError: nobody says it, or the two contradict each other.
        """
        return _agreed("kernel", kernel, self.kernel, where), _agreed("width", width, self.width, where)

    def ldos_factor(self, unit: str | None, *, where: object) -> float | None:
        """What turns the LDOS into 1/(eV Å³); None: nobody says its unit.

        Args:
            unit: as the files say; None where they do not.
            where: file to name in an error.

        Raises:
            DatasetError: it is no unit of an LDOS, or the files and the user contradict each other.
        """
        try:
            said, told = (None if text is None else factor_of(text) for text in (unit, self.unit))
        except InputError as error:
            raise DatasetError(f"{where}: {error}") from error
        if None not in (said, told) and said != told:
            raise DatasetError(
                f"{where}: its LDOS is in {unit}, but --unit says {self.unit}; leave it out, or mend the file"
            )
        return told if said is None else said


def _agreed(name: str, said: T | None, told: T | None, where: object) -> T:
    """What a file says or the user tells.  Raises DatasetError: neither does, or they contradict each other."""
    if said is None and told is None:
        raise DatasetError(f"{where}: nothing says the {name} of the broadening of the LDOS; give --{name}")
    if said is not None and told is not None and said != told:
        raise DatasetError(
            f"{where}: the {name} of the broadening is {said}, but --{name} says {told}; leave it out, or mend the file"
        )
    return said if told is None else told  # type: ignore[return-value]  # not both are None


class Importer(Protocol):
    """A reader of one layout of files."""

    @property
    def name(self) -> str:
        """What `dftune data import --format` calls it."""

    @property
    def about(self) -> str:
        """Its files, in a few words."""

    def recognises(self, path: Path) -> bool:
        """Whether a file or folder looks like one of its own; looks at names and first lines only."""

    def read(self, sources: Sequence[Path], *, told: Told, report: Report) -> Found | OwnFound:
        """Find the snapshots of all sources.  Arrays stay in their files until the writer asks for blocks.

        Args:
            sources: files and folders.
            told: what the user says besides.
            report: for what the user should know, such as files left out.

        Raises:
            InputError: a file is missing or damaged; names the file, the reason and the remedy.
        """
