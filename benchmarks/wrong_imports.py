"""Claim: an import of which one thing is wrong is refused wherever the DFT's own numbers or the density can tell.

Each row is a mistake, in how many datasets it was made, the first words of who refused it, and in which the import
passed.  ``said`` is what these imports said they could not check.  ``bare`` leaves away all that the DFT said, so that
density and positions have to tell.

    python benchmarks/wrong_imports.py [FOLDER ...]

A FOLDER holds snapshots in the layout ``arrays``; by default those of ../shared/data.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dftune.trainables.data.importing.importers import import_dataset
from dftune.trainables.errors import InputError
from dftune.trainables.physics.units import BOHR, K_B, RYDBERG

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("al4", "al4_933K", "al4_perfect", "al8", "al16", "al32", "be4")
SAID = ("fermi_ev", "band_energy_ev", "minus_ts_ev", "total_energy_ev", "qe_terms_ev", "forces_ev_per_angstrom")
Array = NDArray[Any]


class Sources:
    """Files of some snapshots, to be spoiled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def files(self, suffix: str) -> list[Path]:
        return sorted(self.folder.glob(f"*{suffix}"))

    def edit(self, change: Callable[[dict[str, Any]], object]) -> None:
        for file in self.files(".json"):
            record = json.loads(file.read_text())
            change(record)
            file.write_text(json.dumps(record))

    def scale(self, key: str, factor: float) -> None:
        """One number, or all numbers of an array or a table, times a factor."""

        def change(record: dict[str, Any]) -> None:
            *path, last = key.split(".")
            for name in path:
                record = record[name]
            if isinstance(value := record.get(last), dict):
                record[last] = {k: factor * v for k, v in value.items()}
            elif value is not None:
                record[last] = (factor * np.array(value)).tolist()

        self.edit(change)

    def positions(self, change: Callable[[Array, Array], Array]) -> None:
        """Positions, from them and the cell."""

        def one(record: dict[str, Any]) -> None:
            config = record["config"]
            old, cell = (np.array(config[f"{name}_angstrom"]) for name in ("positions", "cell"))
            config["positions_angstrom"] = change(old, cell).tolist()

        self.edit(one)

    def arrays(self, change: Callable[[Array], Array], *kinds: str) -> None:
        for kind in kinds:
            for file in self.files(f".{kind}.npy"):
                np.save(file, np.ascontiguousarray(change(np.load(file))))

    def exchange(self, *suffixes: str) -> None:
        """The files of the first two snapshots."""
        for suffix in suffixes:
            first, second = self.files(suffix)[:2]
            content = first.read_bytes(), second.read_bytes()
            first.write_bytes(content[1])
            second.write_bytes(content[0])

    def repeat(self) -> None:
        """The first snapshot, under another name."""
        first = self.files(".json")[0].stem
        for file in list(self.folder.glob(f"{first}.*")):
            shutil.copyfile(file, file.with_name(f"again{file.name[len(first) :]}"))


def turned(array: Array) -> Array:
    """Two axes of equal length in the other order."""
    n = array.shape[:3]
    order = next(o for o in ((2, 1, 0), (1, 0, 2), (0, 2, 1)) if tuple(n[i] for i in o) == n)
    return array.transpose(*order, *range(3, array.ndim))


def fortran(array: Array) -> Array:
    return np.stack([v.ravel().reshape(v.shape, order="F") for v in np.moveaxis(array, -1, 0)], axis=-1)


def total_of_another(record: dict[str, Any]) -> None:
    record["total_energy_ev"] += 0.05


def forces_in_another_order(record: dict[str, Any]) -> None:
    record["forces_ev_per_angstrom"] = np.roll(record["forces_ev_per_angstrom"], 1, axis=0).tolist()


MISTAKES: dict[str, Callable[[Sources], object]] = {
    "none": lambda s: None,
    "positions 1 % larger": lambda s: s.positions(lambda p, cell: 1.01 * p),
    "positions as fractions of the cell": lambda s: s.positions(lambda p, cell: p @ np.linalg.inv(cell)),
    "positions in bohr": lambda s: s.positions(lambda p, cell: p / BOHR),
    "positions moved by 0.05 Å": lambda s: s.positions(lambda p, cell: p + np.array([0.05, 0, 0])),
    "positions moved by 1 Å along each axis": lambda s: s.positions(lambda p, cell: p + 1.0),
    "one atom moved by 0.05 Å": lambda s: s.positions(lambda p, cell: p + 0.05 * np.eye(len(p), 1) * np.eye(1, 3)),
    "x and z of positions exchanged": lambda s: s.positions(lambda p, cell: p[:, ::-1]),
    "cell in bohr": lambda s: s.scale("config.cell_angstrom", 1 / BOHR),
    "LDOS moved by a point": lambda s: s.arrays(lambda d: np.roll(d, 1, 0), "ldos"),
    "LDOS and density moved by a point": lambda s: s.arrays(lambda d: np.roll(d, 1, 0), "ldos", "dens"),
    "LDOS and density moved by a quarter of the cell": lambda s: s.arrays(
        lambda d: np.roll(d, len(d) // 4, 0), "ldos", "dens"
    ),
    "LDOS with two axes exchanged": lambda s: s.arrays(turned, "ldos"),
    "LDOS and density with two axes exchanged": lambda s: s.arrays(turned, "ldos", "dens"),
    "LDOS and density mirrored": lambda s: s.arrays(lambda d: np.roll(d[::-1], 1, 0), "ldos", "dens"),
    "LDOS in Fortran order": lambda s: s.arrays(fortran, "ldos"),
    "LDOS mirrored": lambda s: s.arrays(lambda d: d[::-1], "ldos"),
    "LDOS moved by an energy": lambda s: s.arrays(lambda d: np.roll(d, 1, 3), "ldos"),
    "LDOS of two snapshots exchanged": lambda s: s.exchange(".ldos.npy"),
    "LDOS and density of two snapshots exchanged": lambda s: s.exchange(".ldos.npy", ".dens.npy"),
    "LDOS of one spin": lambda s: s.arrays(lambda d: d / np.float16(2), "ldos"),
    "LDOS in 1/(Ry bohr³)": lambda s: s.arrays(lambda d: d.astype(np.float32) * (RYDBERG * BOHR**3), "ldos"),
    "density in 1/bohr³": lambda s: s.arrays(lambda d: d * BOHR**3, "dens"),
    "energies in Ry": lambda s: [s.scale(key, 1 / RYDBERG) for key in SAID[:-1]],
    "temperature in Ry": lambda s: s.scale("kt_ev", 1 / RYDBERG),
    "temperature in K": lambda s: s.scale("kt_ev", 1 / K_B),
    "half the temperature": lambda s: s.scale("kt_ev", 0.5),
    "half the width of the broadening": lambda s: s.scale("config.energy_grid_ev.width", 0.5),
    "the width of the broadening 30 % larger": lambda s: s.scale("config.energy_grid_ev.width", 1.3),
    "the width of the broadening 30 % smaller": lambda s: s.scale("config.energy_grid_ev.width", 0.7),
    "total energy of another calculation": lambda s: s.edit(total_of_another),
    "a snapshot given twice": Sources.repeat,
    "forces of the other sign": lambda s: s.scale("forces_ev_per_angstrom", -1.0),
    "forces in Ry/bohr": lambda s: s.scale("forces_ev_per_angstrom", BOHR / RYDBERG),
    "forces in another order of the atoms": lambda s: s.edit(forces_in_another_order),
}


@dataclass(frozen=True)
class Outcome:
    """Whether an import passed, and what it said: why not, or what it could not check."""

    passed: bool
    said: list[str]


def outcome(folder: Path, mistake: Callable[[Sources], object], *, bare: bool) -> Outcome | None:
    """The import of the first two snapshots; None if the mistake cannot be made."""
    with tempfile.TemporaryDirectory() as scratch:
        sources = Sources(Path(scratch) / "sources")
        sources.folder.mkdir()
        for name in sorted(f.stem for f in folder.glob("[0-9]*.json"))[:2]:
            for file in folder.glob(f"{name}.*"):
                shutil.copyfile(file, sources.folder / file.name)
        try:
            mistake(sources)
        except (ValueError, StopIteration):  # one snapshot only, no axes of equal length
            return None
        if bare:
            sources.edit(lambda record: [record.pop(key, None) for key in SAID])
        lines: list[str] = []
        try:
            import_dataset([sources.folder], Path(scratch) / "made", report=lines.append)
        except InputError as error:
            return Outcome(False, [str(error).replace(f"{sources.folder}/", "")])
        return Outcome(True, [line for line in lines if line.startswith(("not checked", "warning"))])


def rows(folders: list[Path]) -> Iterator[dict[str, Any]]:
    for bare in (False, True):
        for name, mistake in MISTAKES.items():
            found = {f.name: one for f in folders if (one := outcome(f, mistake, bare=bare)) is not None}
            refused = [one.said[0] for one in found.values() if not one.passed]
            passed = [where for where, one in found.items() if one.passed]
            said = sorted({line for one in found.values() if one.passed for line in one.said})
            yield {"case": "wrong import", "mistake": name, "bare": bare, "tried": len(found), "passed": passed} | {
                "said": said,
                "refused": refused[:1],
            }


def main() -> None:
    folders = [Path(a) for a in sys.argv[1:]] or [ROOT.parent / "shared" / "data" / name for name in NAMES]
    there = [folder for folder in folders if folder.is_dir()]
    if not there:
        raise SystemExit(f"no data: {', '.join(map(str, folders))}; name a FOLDER")
    with np.errstate(all="ignore"):
        for row in rows(there):
            print(json.dumps(row | {"numpy": version("numpy")}, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
