"""Import of MALA's preprocessed snapshots (https://github.com/mala-project/mala, 1.0 to 1.4).

For each snapshot, in one folder:
    NAME.out.npy      LDOS [nx, ny, nz, n_energy], 1/(eV Å³) or what its parameters say; or NAME.out.h5 (openPMD)
    NAME.info.json    cell, atoms, energies of the DFT [eV, Å, K]
    NAME.out          the log of pw.x: with which smearing pp.x broadened; all of info.json, where that is missing
    NAME.in.npy       bispectrum descriptors, with or without three columns of coordinates; or NAME.in.h5
    NAME.dens.npy     density [nx, ny, nz, 1] or [nx, ny, nz], 1/Å³; or NAME.dens.h5
Parameters that MALA saved beside them say energies, units, cutoff and splits.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...descriptors.settings import BispectrumSettings
from ...errors import DatasetError, one_line
from ...physics.smearing import KERNELS, Kernel
from ...physics.units import RYDBERG
from ..energy_grid import EnergyGrid
from ..kohn_sham import KohnSham
from ..snapshot import Snapshot, Split
from .energy_axis import ELSE, Sampled, sampled
from .importer import OTHER, Found, FoundDescriptors, FoundSnapshot, GridValues, Report, Told
from .mala_files import Info, Parameters, parameters_in
from .npy import npy_shape, npy_values
from .openpmd import mesh_shape, mesh_values
from .precomputed import fits, two_j_max_of, without_coordinates
from .pseudopotentials import Calculation, Keys, kohn_sham
from .quantum_espresso.pw_log import read_log
from .quantum_espresso.pw_run import PwRun

KEYS = Keys(cutoff="ecutrho", pseudopotential="pseudopotentials", unit=RYDBERG)
CUTOFFS = (4.67637, 4.68)  # [Å]; MALA's default and ours, tried where nothing says it
MESHES = {"out": ("LDOS",), "in": ("Bispectrum", "SNAP"), "dens": ("Density",)}
ENDINGS = (".npy", ".h5")


class Mala:
    """The importer of this layout."""

    name = "mala"
    about = "folders of NAME.out.npy or NAME.out.h5 with NAME.info.json, as MALA has them; or these files"

    def recognises(self, path: Path) -> bool:
        """Whether a snapshot lies there: an LDOS as MALA names it."""
        files = path.iterdir() if path.is_dir() else [path]
        return any(file.name.endswith((".out.npy", ".out.h5")) for file in files)

    def read(self, sources: Sequence[Path], *, told: Told, report: Report) -> Found:
        """Find the snapshots of all sources; arguments and errors as ``Importer.read``."""
        files = _find(sources, report)
        folders = list(dict.fromkeys(file.parent for file in files))
        parameters = parameters_in(folders, told.energies)
        energies = dict[int, Sampled]()
        found, calculations, once = [], [], _once(report)
        for file in files:
            run = _log(file)
            info = Info.read(_beside(file, ".info.json"), run)
            n = _shape(file, "out", info)[3]
            if n not in energies:
                energies[n] = sampled(n, folders, told.energies, where=file, report=report)
            found.append(_found(file, info, run, parameters, energies[n], told, once))
            calculations.append(Calculation(file, info.ecutrho, info.named_pseudopotentials))
        found = _with_descriptors(found, parameters, told, report)

        def dft(species: Mapping[str, float]) -> KohnSham | None:
            return kohn_sham(calculations, KEYS, species=species, folder=told.pseudopotentials, report=report)

        source = "imported from MALA's " + ", ".join(folder.name for folder in folders)
        splits = _splits(found, parameters, report)
        return Found(snapshots=found, dft=dft, source=source, splits=splits)


MALA = Mala()


def _once(report: Report) -> Report:
    """Reports a line the first time only."""
    said = set[str]()

    def say(line: str) -> None:
        if line not in said:
            report(line)
        said.add(line)

    return say


def _name(file: Path) -> str:
    """Be_snapshot0 of Be_snapshot0.out.npy."""
    return file.name.rsplit(".", 2)[0]


def _beside(file: Path, ending: str) -> Path:
    return file.with_name(_name(file) + ending)


def _find(sources: Sequence[Path], report: Report) -> list[Path]:
    """The LDOS of all snapshots; of a snapshot that has .npy and .h5, the .npy."""
    files: list[Path] = []
    for place in sources:
        if not place.is_dir():
            if not place.name.endswith(tuple(f".out{ending}" for ending in ENDINGS)):
                raise DatasetError(f"{place}: no LDOS as MALA names it; give folders, or NAME.out.npy and NAME.out.h5")
            files.append(place)
            continue
        found = {_name(file): file for file in sorted(place.glob("*.out.h5"))}
        for file in sorted(place.glob("*.out.npy")):
            if (twin := found.get(_name(file))) is not None:
                report(f"left out {twin}: there is {file.name} beside it")
            found[_name(file)] = file
        if not found:
            raise DatasetError(f"{place}: holds no NAME.out.npy or NAME.out.h5; give folders or files of a project")
        for info in sorted(place.glob("*.info.json")):
            if _name(info) not in found:
                report(f"left out {info}: there is no LDOS {_name(info)}.out.npy beside it")
        files += [found[name] for name in sorted(found)]
    return files


def _shape(file: Path, what: str, info: Info) -> tuple[int, ...]:
    """(nx, ny, nz, n) of a file, n = 1 where it has three axes.  Raises DatasetError: its grid is not the info's."""
    named = {"out": "LDOS", "in": "descriptors", "dens": "density"}[what]
    shape = npy_shape(file, what=named) if file.suffix == ".npy" else mesh_shape(file, MESHES[what])
    if len(shape) not in (3, 4) or shape[:3] != info.grid_dimensions:
        raise DatasetError(
            f"{file}: has shape {shape}, but the grid of {_beside(file, '.info.json').name} is {info.grid_dimensions}; "
            "they are of different snapshots, or the points are shuffled"
        )
    return shape if len(shape) == 4 else (*shape, 1)


def _log(file: Path) -> PwRun | None:
    """What the log of pw.x beside an LDOS says; None: there is none."""
    log = _beside(file, ".out")
    return read_log(log) if log.is_file() else None


def _kernel(file: Path, info: Info, run: PwRun | None, energies: Sampled, told: Told, report: Report) -> Kernel | None:
    """What broadened an LDOS, as the files say it, or as the log lets infer it if the user does not say it."""
    said = info.dftune.kernel or energies.kernel
    if said is not None or told.kernel is not None or run is None or run.smearing not in KERNELS:
        return said
    report(
        f"kernel of the LDOS: {run.smearing}, as pp.x takes the smearing that the logs have, unless use_gauss_ldos "
        "(from 7.2 on) is set; --kernel says otherwise"
    )
    return run.smearing


def _found(
    file: Path,
    info: Info,
    run: PwRun | None,
    parameters: Parameters,
    energies: Sampled,
    told: Told,
    report: Report,
) -> FoundSnapshot:
    """One snapshot, without its descriptors."""
    said = _kernel(file, info, run, energies, told, report)
    kernel, width = told.broadening(said, info.dftune.width or energies.width, where=file)
    try:
        grid = EnergyGrid(
            minimum=energies.minimum, spacing=energies.spacing, n_energy=energies.n_energy, kernel=kernel, width=width
        )
    except ValueError as error:
        raise DatasetError(f"{file}: energies of its LDOS: {one_line(error)}; {ELSE}") from error
    name = _name(file)
    return FoundSnapshot(
        where=file,
        snapshot=info.snapshot(name),
        species=info.species(_folders(file, told), where=_beside(file, ".info.json")),
        energy_grid=grid,
        ldos=_ldos(file, info, parameters, energies, told),
        density=_density(file, info),
        terms_error=info.terms_error,
    )


def _folders(file: Path, told: Told) -> list[Path]:
    return [told.pseudopotentials] if told.pseudopotentials else [file.parent]


def _ldos(file: Path, info: Info, parameters: Parameters, energies: Sampled, told: Told) -> GridValues:
    shape = _shape(file, "out", info)
    factor = told.ldos_factor(parameters.units.get(file.name), where=file) or 1.0
    values = npy_values(file, shape, what="LDOS") if file.suffix == ".npy" else mesh_values(file, MESHES["out"], shape)
    if factor == 1 and energies.chosen is None:
        return values
    chosen = slice(None) if energies.chosen is None else list(energies.chosen)

    def blocks() -> Iterator[NDArray[np.floating]]:
        for block in values.blocks():
            part = block[:, chosen]
            yield part if factor == 1 else part.astype(np.float32) * np.float32(factor)

    return GridValues(file, blocks)


def _density(file: Path, info: Info) -> GridValues | None:
    beside = next((f for f in (_beside(file, f".dens{ending}") for ending in ENDINGS) if os.path.lexists(f)), None)
    if beside is None:
        return None
    shape = _shape(beside, "dens", info)
    if shape[3] != 1:
        raise DatasetError(f"{beside}: has {shape[3]} numbers at each point; a density has one")
    if beside.suffix == ".h5":
        return mesh_values(beside, MESHES["dens"], (*shape[:3], 0))
    stored = npy_values(beside, npy_shape(beside, what="density"), what="density")
    return GridValues(beside, lambda: (block.reshape(-1) for block in stored.blocks()))


def _with_descriptors(
    found: Sequence[FoundSnapshot], parameters: Parameters, told: Told, report: Report
) -> list[FoundSnapshot]:
    """The snapshots with the descriptors that lie beside them, as far as they are a bispectrum of known settings."""
    beside = dict[str, tuple[Path, GridValues, int]]()  # id -> file, descriptors, 2J_max
    for one in found:
        file = next((f for f in (_beside(one.where, f".in{end}") for end in ENDINGS) if os.path.lexists(f)), None)
        if file is None:
            continue
        values, n = _descriptors(file, one.snapshot)
        two_j_max = two_j_max_of(n) if len(one.species) == 1 else None
        if two_j_max is None:
            report(
                f"left out {file}: {n} numbers at each point of {len(one.species)} species are no bispectrum of one "
                "species; descriptors are computed again"
            )
            continue
        beside[one.snapshot.id] = (file, values, two_j_max)
    if not beside:
        return list(found)
    first, _, two_j_max = next(iter(beside.values()))
    cutoff = told.cutoff or parameters.cutoff or _cutoff(found, beside)
    if cutoff is None:
        report(f"left out {first} and all like it: nothing says R_cut of its descriptors; give --cutoff to keep them")
        return list(found)
    settings = BispectrumSettings(cutoff=cutoff, two_j_max=two_j_max)
    report(f"descriptors are taken over: {settings}")
    for file, _, other in beside.values():
        if other != two_j_max:
            raise DatasetError(
                f"{file}: has descriptors of 2J_max {other}, those before it of {two_j_max}; remove one kind"
            )
    taken = {name: FoundDescriptors(settings, values) for name, (_, values, _) in beside.items()}
    return [replace(one, descriptors=taken.get(one.snapshot.id)) for one in found]


def _descriptors(file: Path, snapshot: Snapshot) -> tuple[GridValues, int]:
    """Descriptors without coordinates, and how many there are at each point."""
    shape = npy_shape(file, what="descriptors") if file.suffix == ".npy" else mesh_shape(file, MESHES["in"])
    if len(shape) != 4 or shape[:3] != snapshot.grid:
        raise DatasetError(f"{file}: has shape {shape}, but the grid of its snapshot is {snapshot.grid}; {OTHER}")
    if file.suffix == ".npy":
        values = npy_values(file, shape, what="descriptors")
    else:
        values = mesh_values(file, MESHES["in"], shape)
    if two_j_max_of(shape[3] - 3) is not None:
        return without_coordinates(snapshot, values), shape[3] - 3
    return values, shape[3]


def _cutoff(found: Sequence[FoundSnapshot], beside: Mapping[str, tuple[Path, GridValues, int]]) -> float | None:
    """A default R_cut [Å] that gives the same numbers for a snapshot, of whichever; None: none does."""
    for one in found:
        if (it := beside.get(one.snapshot.id)) is not None:
            tried = (BispectrumSettings(cutoff=cutoff, two_j_max=it[2]) for cutoff in CUTOFFS)
            if (settings := next((s for s in tried if fits(one.snapshot, it[1], s)), None)) is not None:
                return settings.cutoff
    return None


def _splits(found: Sequence[FoundSnapshot], parameters: Parameters, report: Report) -> dict[str, Split] | None:
    """What the parameters say each snapshot is for; None where they do not say it of all."""
    splits = {one.snapshot.id: split for one in found if (split := parameters.splits.get(one.where.name)) is not None}
    if len(splits) < len(found):
        return None
    report(f"splits: as {parameters.where} says")
    return splits
