"""A dataset: a folder of DFT snapshots with one energy grid.  eV, Å, K.

dataset.json         see info.py
snapshots.parquet    one row a snapshot, see snapshot.py
ldos/ID.arrow        column ldos, fixed_size_list[n_energy] of float16 or float32 [1/(eV Å³)], both spins summed
density/ID.arrow     optional; column density, float32 [1/Å³]
descriptors/KEY/ID.arrow    column descriptor, fixed_size_list<float32>[n_components]
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..descriptors.settings import BispectrumSettings
from ..errors import DatasetError
from ..files import sha256
from ..physics.energies import Energies, energies
from ..physics.local import dos
from ..tables import html_table
from .check import SnapshotReport
from .checked import UNITS, summarise
from .forces_check import check_forces
from .geometry_check import check_stored
from .info import DatasetInfo
from .location import name_of
from .mirror import Mirror, locate
from .remarks import draw_dos, remarks
from .shards import ShardFile, in_shards, to_batches, write_with_checksums
from .snapshot import SPLITS, TOO_FEW, Snapshot, Split
from .structure_distance import displacements
from .table import read_snapshots


class Dataset:
    """A dataset folder, opened for reading; big arrays stay on disk until asked for.

    Args:
        path: the folder.
        info: its dataset.json.
        snapshots: its rows, in table order.
        mirror: of a dataset behind a URL, what brings its files to the folder when they are asked for.
    """

    def __init__(
        self, path: Path, info: DatasetInfo, snapshots: Sequence[Snapshot], mirror: Mirror | None = None
    ) -> None:
        self.path = path
        self.info = info
        self.snapshots = list(snapshots)
        self._mirror = mirror
        self._reports: list[SnapshotReport] = []  # of the last check

    @classmethod
    def open(cls, location: str | Path) -> "Dataset":
        """Open a dataset.

        Args:
            location: folder, or URL of one (``mirror.py`` says which URLs there are).

        Raises:
            DatasetError: it is missing, incomplete, damaged, of another kind or of another format version.
        """
        path, mirror = locate(location)
        info = DatasetInfo.read(path)
        return cls(path, info, read_snapshots(path / "snapshots.parquet", info.species), mirror)

    @property
    def location(self) -> str:
        """What any process on any machine opens it by: the folder, or the URL that the folder mirrors."""
        return str(self.path) if self._mirror is None else self._mirror.url

    @property
    def name(self) -> str:
        """The last part of its location."""
        return name_of(self.location)

    def only(self, snapshots: Sequence[Snapshot]) -> "Dataset":
        """The same dataset with some of its snapshots."""
        return Dataset(self.path, self.info, snapshots, self._mirror)

    def __len__(self) -> int:
        return len(self.snapshots)

    def __iter__(self) -> Iterator[Snapshot]:
        return iter(self.snapshots)

    def __getitem__(self, snapshot: str) -> Snapshot:
        for candidate in self.snapshots:
            if candidate.id == snapshot:
                return candidate
        raise DatasetError(
            f"{self.location}: has no snapshot '{snapshot}'; it has {', '.join(s.id for s in self.snapshots)}"
        )

    def __repr__(self) -> str:
        sizes = Counter(s.split for s in self.snapshots)
        splits = ", ".join(f"{sizes[split]} {split}" for split in SPLITS if sizes[split])
        return f"Dataset {self.name}: {splits} snapshots of {', '.join(self.info.species)}; {self.info.energies}"

    def _repr_html_(self) -> str:
        return html_table(self.rows(), units=self.units, caption=repr(self))

    @property
    def units(self) -> dict[str, str]:
        """Column -> unit, for the columns of ``rows`` and of the reports of ``check``."""
        return UNITS

    def rows(self) -> list[dict[str, Any]]:
        """The table of snapshots that `dftune data show` prints, a dict a row."""
        return [
            {
                "id": s.id,
                "split": s.split,
                "group": s.group,
                "atoms": s.n_atoms,
                "grid": "x".join(map(str, s.grid)),
                "temperature": round(s.temperature, 1),
                "electrons": s.n_electrons,
                "total_energy": s.total_energy,
                "band_energy": s.band_energy,
                "fermi_level": s.fermi_level,
                "displacement": moved,
            }
            for s, moved in zip(self.snapshots, displacements(self.snapshots), strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """What `dftune data show --json` prints: dataset.json, the table and the descriptors there are."""
        found = {"snapshots": self.rows(), "descriptors": self.described()}
        checks = self.info.checks and [check.to_dict() for check in self.info.checks]
        return {"path": self.location, **self.info.model_dump(), "checks": checks, **found}

    def lines(self) -> list[str]:
        """What people read above the table of ``rows``."""
        return [
            f"{self.location}: {self.info.source}",
            f"{self.info.about}; descriptors computed: {', '.join(self.described()) or 'none'}{self.info.came_with}",
            self.info.free_energies,
            *self.info.checked_lines,
        ]

    def checked_lines(self) -> list[str]:
        """What people read below the table of a ``check`` that found nothing wrong."""
        lines = [check.line() for check in summarise(self._reports)]
        return ["LDOS and densities are whole", *lines, *remarks(self.snapshots), self.info.free_energies]

    def draw(self, path: Path) -> None:
        """Draw the DOS of all snapshots and their spread, a PNG file."""
        draw_dos(self, path)

    @property
    def judged_on(self) -> Split:
        """The split that judges surrogates: where no snapshot is for testing, validation, which chooses them, too."""
        return "test" if any(s.split == "test" for s in self.snapshots) else "validation"

    def split(self, name: Split) -> list[Snapshot]:
        """The snapshots of one split; for ``test`` those of ``judged_on``.  Raises DatasetError: there is none."""
        wanted = self.judged_on if name == "test" else name
        if chosen := [s for s in self.snapshots if s.split == wanted]:
            return chosen
        anew = f"`dftune data split {self.location} NEW` makes a dataset NEW with other splits"
        raise DatasetError(f"{self.location}: has no {wanted} snapshot; {TOO_FEW if len(self) < 2 else anew}")

    @cached_property
    def fingerprint(self) -> str:
        """Hash of dataset.json and all rows of the table, checksums included: which data a model was trained on.

        ``dft`` is left out.  Nothing is trained on it, and studies and models remain valid when it is added later.
        What older datasets do not say is left out, too, as are the rule of integration that all of them have and a
        stress that is not known.
        """
        leave_out: dict[str, Any] = dict.fromkeys(("dft", "kind", "checks", "descriptors", "warnings"), True)
        if self.info.energy_grid.rule == "least-squares":
            leave_out["energy_grid"] = {"rule"}
        rows = [s.to_row() for s in self.snapshots]
        rows = [{k: value for k, value in row.items() if k != "stress" or value is not None} for row in rows]
        content = [self.info.model_dump(mode="json", exclude=leave_out), rows]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def _file(self, name: str, sha256: str | None = None) -> Path:
        """Where a file of the dataset is on this machine.  Nothing is there if the dataset has no such file.

        Raises:
            DatasetError: it cannot be brought here, or has another checksum than ``sha256``.
        """
        return self.path / name if self._mirror is None else self._mirror.fetch(name, sha256)

    def _to_write(self, path: Path) -> Path:
        """A path below the dataset's folder, to be written.  Raises DatasetError: a link leads out of the folder."""
        folder = path.parent.resolve()
        if not folder.is_relative_to(self.path.resolve()):
            raise DatasetError(f"{path}: a link leads out of the dataset, to {folder}, and is not followed; remove it")
        return path

    def _finished(self, name: str) -> None:
        """Make a file that has been written available to all machines."""
        if self._mirror is not None:
            self._mirror.push(name)

    def ldos(self, snapshot: Snapshot) -> ShardFile:
        """LDOS of a snapshot, shape (n_points, n_energy) [1/(eV Å³)].

        Raises:
            DatasetError: missing, damaged or of another shape.
        """
        return ShardFile(
            self._file(f"ldos/{snapshot.id}.arrow", snapshot.ldos_sha256),
            "ldos",
            n_points=snapshot.n_points,
            n=self.info.energy_grid.n_energy,
            remedy=self._remedy,
            sha256=snapshot.ldos_sha256,
        )

    def density(self, snapshot: Snapshot) -> ShardFile:
        """Reference electron density of a snapshot, shape (n_points,) [1/Å³].  Errors as ``ldos``."""
        return ShardFile(
            self._file(f"density/{snapshot.id}.arrow", snapshot.density_sha256),
            "density",
            n_points=snapshot.n_points,
            n=0,
            remedy=self._remedy,
            sha256=snapshot.density_sha256,
        )

    def descriptors(self, snapshot: Snapshot, settings: BispectrumSettings) -> ShardFile:
        """Descriptors of a snapshot, shape (n_points, n_components).

        Raises:
            DatasetError: not computed, damaged, or of another setting or structure.
        """
        path = self._file(_descriptor_name(snapshot, settings))
        return self._descriptor_file(path, snapshot, settings)

    def _descriptor_file(
        self, path: Path, snapshot: Snapshot, settings: BispectrumSettings, n_points: int | None = None
    ) -> ShardFile:
        remedy = f"run `dftune descriptors compute {self.location} {settings.options}`"
        n_points = snapshot.n_points if n_points is None else n_points
        file = ShardFile(path, "descriptor", n_points=n_points, n=settings.n_components, remedy=remedy)
        if file.metadata.get("settings") != settings.model_dump_json():
            raise DatasetError(
                f"{path}: descriptors of another setting, {file.metadata.get('settings')}, "
                f"not {settings.model_dump_json()}; remove the folder and {remedy}"
            )
        if file.metadata.get("structure") != snapshot.structure_hash:
            raise DatasetError(f"{path}: descriptors of another structure than snapshot {snapshot.id}; {remedy}")
        return file

    def without_descriptors(self, settings: BispectrumSettings) -> list[Snapshot]:
        """Snapshots whose descriptors are missing or damaged: what `descriptors compute` has to do.

        Files behind a URL that are not on this machine yet only have to exist; they are not read.
        """
        there = set() if self._mirror is None else self._mirror.names(f"descriptors/{settings.key}")

        def usable(snapshot: Snapshot) -> bool:
            path = descriptor_path(self.path, settings, snapshot.id)
            if path.name in there and not path.exists():
                return True
            try:
                self.descriptors(snapshot, settings)
            except DatasetError:
                return False
            return True

        return [s for s in self.snapshots if not usable(s)]

    def write_descriptors(self, snapshot: Snapshot, settings: BispectrumSettings, values: NDArray[np.float32]) -> None:
        """Store the descriptors of a snapshot, (n_points, n_components), whole or not at all."""
        metadata = descriptor_metadata(snapshot, settings)
        path = self._to_write(descriptor_path(self.path, settings, snapshot.id))
        write_with_checksums(path, to_batches(values, "descriptor", metadata))
        self._finished(_descriptor_name(snapshot, settings))

    def not_stored(self, settings: BispectrumSettings) -> str | None:
        """What to tell the user if descriptors could not be stored at the URL; None if all are, or of a folder."""
        if self._mirror is None:
            return None
        there = self._mirror.names(f"descriptors/{settings.key}")
        left = sum(f"{s.id}.arrow" not in there for s in self.snapshots)
        if left == 0:
            return None
        return (
            f"{self.location}: cannot be written, so the descriptors of {left} snapshots stay in {self.path} of the "
            "machines that computed them, and are computed again where they are needed"
        )

    @property
    def is_mirrored(self) -> bool:
        """Whether it lies behind a URL, so that each machine has files of its own."""
        return self._mirror is not None

    def described(self) -> list[str]:
        """Keys of the descriptor settings that it has a folder of."""
        if self._mirror is not None:
            return sorted(self._mirror.names("descriptors"))
        return [path.name for path in sorted((self.path / "descriptors").glob("*")) if path.is_dir()]

    @property
    def _remedy(self) -> str:
        if self._mirror is None:
            return "import the dataset again"
        return "remove this file to have it fetched again, and where that does not help, upload the dataset again"

    def piece_of_descriptors(self, snapshot: Snapshot, settings: BispectrumSettings, points: range) -> ShardFile:
        """Descriptors of some grid points, before they are joined.  Errors as ``descriptors``."""
        return self._descriptor_file(self._piece(snapshot, settings, points), snapshot, settings, len(points))

    def write_piece_of_descriptors(
        self, snapshot: Snapshot, settings: BispectrumSettings, points: range, values: NDArray[np.float32]
    ) -> None:
        """Store the descriptors of some grid points, (len(points), n_components), whole or not at all."""
        metadata = descriptor_metadata(snapshot, settings)
        path = self._to_write(self._piece(snapshot, settings, points))
        write_with_checksums(path, to_batches(values, "descriptor", metadata))

    def join_descriptors(self, snapshot: Snapshot, settings: BispectrumSettings, pieces: Sequence[range]) -> None:
        """Join pieces, given in grid order, to the descriptors of a snapshot, and remove them.

        The file appears whole or not at all.  One piece and one shard are held at once.  Errors as ``descriptors``.
        """
        metadata = descriptor_metadata(snapshot, settings)
        arrays = (self.piece_of_descriptors(snapshot, settings, points).array() for points in pieces)
        shards = (to_batches(shard, "descriptor", metadata)[0] for shard in in_shards(arrays))
        write_with_checksums(self._to_write(descriptor_path(self.path, settings, snapshot.id)), shards)
        self._finished(_descriptor_name(snapshot, settings))
        shutil.rmtree(self._piece(snapshot, settings, pieces[0]).parent, ignore_errors=True)

    def _piece(self, snapshot: Snapshot, settings: BispectrumSettings, points: range) -> Path:
        folder = descriptor_path(self.path, settings, snapshot.id).parent / f".{snapshot.id}.pieces"
        return folder / f"{points.start}-{points.stop}.arrow"

    def dos(self, snapshot: Snapshot) -> NDArray[np.float64]:
        """Reference DOS of a snapshot, from its LDOS, shape (n_energy,) [1/eV]."""
        return dos(self.ldos(snapshot).array(), volume=snapshot.volume)

    def energies(self, snapshot: Snapshot) -> Energies:
        """Energies from the reference LDOS by the dataset's rule [eV].  Errors as ``physics.energies``."""
        s, quadrature = snapshot, self.info.energy_grid.quadrature()
        return energies(self.dos(s), quadrature, electrons=s.n_electrons, temperature=s.temperature)

    def verify(self) -> None:
        """Compare the checksum of every LDOS and density with the table's.

        Raises:
            DatasetError: at the first file that is missing, damaged or another one.
        """
        for snapshot in self.snapshots:
            for kind, expected in (("ldos", snapshot.ldos_sha256), ("density", snapshot.density_sha256)):
                if expected is None:
                    continue
                # Missing, truncated and misshapen files have their own words.
                path = getattr(self, kind)(snapshot).path
                if sha256(path) != expected:
                    raise DatasetError(f"{path}: its SHA-256 differs from the table's; {self._remedy}")

    def check(self) -> Iterator[SnapshotReport]:
        """Read every file: checksums, finite values, electrons, energies, and whether density and atoms fit them.

        Raises:
            DatasetError: at the first file that is damaged or does not agree with the table.
        """
        self.verify()
        self._reports.clear()
        for snapshot, forces in zip(self.snapshots, check_forces(self.snapshots), strict=True):
            density = None if snapshot.density_sha256 is None else self.density(snapshot)
            found = check_stored(snapshot, self.info, self.ldos(snapshot), density)
            self._reports.append(replace(found, forces_error=forces))
            yield self._reports[-1]


def _descriptor_name(snapshot: Snapshot, settings: BispectrumSettings) -> str:
    return descriptor_path(Path(), settings, snapshot.id).as_posix()


def descriptor_metadata(snapshot: Snapshot, settings: BispectrumSettings) -> dict[str, str]:
    """What the descriptor file of a snapshot says of itself."""
    return {
        "snapshot": snapshot.id,
        "grid": str(snapshot.grid),
        "unit": "1",
        "settings": settings.model_dump_json(),
        "structure": snapshot.structure_hash,
    }


def descriptor_path(dataset: Path, settings: BispectrumSettings, snapshot: str) -> Path:
    """Where a dataset keeps the descriptors of one snapshot."""
    return dataset / "descriptors" / settings.key / f"{snapshot}.arrow"
