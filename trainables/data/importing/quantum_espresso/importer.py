"""Import of calculations by Quantum ESPRESSO as they lie: logs or XML of pw.x, cubes or xsf files of pp.x, UPF files.

A snapshot is the LDOS of a structure at many energies (plot_num = 3), a file each, its density (plot_num = 0), which
may be missing, and the nearest log or data-file-schema.xml of the same structure.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ....errors import DatasetError, InputError, one_line
from ....physics.smearing import Kernel
from ....physics.units import BOHR, RYDBERG
from ...energy_grid import EnergyGrid
from ...kohn_sham import KohnSham
from ..grid_files import SUFFIXES, GridFile, blocks
from ..importer import Found, FoundSnapshot, GridValues, Report, Told
from ..pseudopotentials import Keys, kohn_sham
from . import windows
from .calculation import Together
from .finding import Calculated, Files, files_below, is_of_pw, look, together
from .ldos_files import LdosFiles, in_order, sample

KEYS = Keys(cutoff="ecutrho [eV]", pseudopotential="pseudopotential", unit=1.0)
LDOS = 1 / (RYDBERG * BOHR**3)  # 1/(Ry bohr³) in 1/(eV Å³)
DENSITY = 1 / BOHR**3  # 1/bohr³ in 1/Å³
_GLANCE = 2000  # files that are looked at to recognise a folder
_OTHER_LAYOUTS = (".npy", ".h5")  # files of them beside a log are of a code that converted it


class QuantumEspresso:
    """The importer of this layout."""

    name = "quantum-espresso"
    about = "folders with logs or XML of pw.x, and cubes of pp.x (plot_num = 3, and 0)"

    def recognises(self, path: Path) -> bool:
        """Whether logs of pw.x or cubes lie there, and nothing that another code made of them."""
        if not path.is_dir() or any(file.suffix in _OTHER_LAYOUTS for file in path.iterdir()):
            return False
        first = (file for file, _ in zip(files_below(path), range(_GLANCE), strict=False))
        return any(file.suffix.lower() in SUFFIXES or is_of_pw(file) for file in first)

    def read(self, sources: Sequence[Path], *, told: Told, report: Report) -> Found:
        """Find the snapshots of all sources; arguments and errors as ``Importer.read``."""
        for place in sources:
            if not place.is_dir():
                raise DatasetError(
                    f"{place}: {'no folder' if place.exists() else 'missing'}; give folders of snapshots"
                )
        files = look(sources)
        if not files.grids:
            log = files.runs[0].where if files.runs else sources[0]
            raise DatasetError(
                f"{log}: no cube or xsf file is there, so no LDOS; run pp.x with plot_num = 3, emin, emax, delta_e, "
                "degauss_ldos, and iflag = 3, output_format = 6"
            )
        snapshots = [one for one in together(files, report) if _has_ldos(one, files, report)]
        if not snapshots:
            raise DatasetError(
                f"{files.grids[0].path}: its second line gives no energy and broadening, and no input of pp.x says "
                "them; write the LDOS by plot_num = 3 as cubes, or keep the input of pp.x beside xsf files"
            )
        names, groups = _names_and_groups([one.runs[0].where for one in snapshots])
        named = zip(snapshots, names, groups, strict=True)
        read = [_Reader(one, files, told, name, group, report) for one, name, group in named]
        windows.refuse_missing([one.files for one in read], files.windows, report)
        found = sorted((one.found() for one in read), key=lambda one: one.snapshot.id)
        _say_kernel(read, report)
        calculations = [one.together.calculation(one.together.pseudopotential_folders(sources)) for one in read]

        def dft(species: Mapping[str, float]) -> KohnSham | None:
            return kohn_sham(calculations, KEYS, species=species, folder=told.pseudopotentials, report=report)

        versions = sorted({one.together.version for one in read})
        source = f"Quantum ESPRESSO {', '.join(versions)}: " + ", ".join(sorted({place.name for place in sources}))
        return Found(snapshots=found, dft=dft, source=source)


QUANTUM_ESPRESSO = QuantumEspresso()


def _has_ldos(one: Calculated, files: Files, report: Report) -> bool:
    if any(sample(grid, files.pp_inputs) for grid in one.grids):
        return True
    more = f" and {len(one.grids) - 1} more files" if len(one.grids) > 1 else ""
    xsf = (
        "; xsf files of an LDOS need the input of pp.x beside them" if any(grid.periodic for grid in one.grids) else ""
    )
    report(f"left out {one.grids[0].path}{more}: there is no LDOS of its structure{xsf}")
    return False


def _names_and_groups(files: Sequence[Path]) -> tuple[list[str], list[str]]:
    """Ids of the snapshots with these calculations, and their groups: the folders above theirs, if they differ."""
    runs = [_run_folder(file.parent) for file in files]
    above = [run.parent.name for run in runs]
    return _names(runs, files), above if len(set(above)) > 1 else ["all"] * len(runs)


def _names(runs: Sequence[Path], files: Sequence[Path]) -> list[str]:
    """An id for each snapshot: the first of these that tells all apart."""
    for names in (
        [run.name for run in runs],
        [file.name.split(".")[0] for file in files],
        [f"{run.parent.name}-{run.name}" for run in runs],
        ["-".join(run.parts[1:]) for run in runs],
    ):
        if len(set(names)) == len(names):
            return names
    return ["-".join(file.parts[1:]) for file in files]


def _run_folder(folder: Path) -> Path:
    """Of a calculation: that of its log, or the one above outdir/prefix.save."""
    folder = folder.resolve()
    return folder.parents[1] if folder.suffix == ".save" and len(folder.parents) > 2 else folder


class _Reader:
    """Puts the files of one snapshot together."""

    def __init__(self, one: Calculated, files: Files, told: Told, name: str, group: str, report: Report) -> None:
        self.name, self.group, self.told, self.report = name, group, told, report
        self.together = Together(one.runs, files.pw_inputs)
        self.together.check_bands()
        samples = [(grid, sample(grid, files.pp_inputs)) for grid in one.grids]
        of_energies = [found for _, found in samples if found is not None]
        self.ldos = in_order(of_energies)
        self.files = windows.Files(of_energies, self.ldos, _run_folder(self.together.scf.where.parent))
        self.density = self._density([grid for grid, found in samples if found is None], files)
        self.kernel_said, self.kernel_inferred = self.together.kernel(self.ldos)

    def found(self) -> FoundSnapshot:
        together, ldos = self.together, self.ldos
        if ldos.files[0].grid != together.grid:
            raise DatasetError(
                f"{ldos.where}: grid {ldos.files[0].grid}, but pw.x had {together.grid}; write the cubes on the FFT "
                "grid, without e1, e2, e3 and nx, ny, nz"
            )
        said = self.kernel_said or (self.kernel_inferred if self.told.kernel is None else None)
        if said is None and self.told.kernel is None:
            raise DatasetError(
                f"{together.last.where}: the smearing is {together.last.smearing}, and pp.x broadens the LDOS in the "
                "same way; write the LDOS again with use_gauss_ldos = .true. (from 7.2 on), or give --kernel"
            )
        kernel, width = self.told.broadening(said, ldos.width, where=ldos.where)
        grid = _energy_grid(ldos, kernel, width)
        together.say(self.name, grid, self.report)
        return FoundSnapshot(
            where=together.scf.where,
            snapshot=together.snapshot(self.name, self.group),
            species=together.valences(self.told.pseudopotentials),
            energy_grid=grid,
            ldos=GridValues(ldos.where.parent, lambda: _values(ldos.files, LDOS)),
            density=None if self.density is None else GridValues(self.density.path, self._density_values),
            terms_error=together.terms_error,
            states=together.states,
            k_mesh=together.k_mesh,
            files=f"{together.formula}: {together.files}, {len(ldos.files)} files of the LDOS in {ldos.where.parent}",
        )

    def _density_values(self) -> Iterator[NDArray[np.float32]]:
        assert self.density is not None
        return (block[:, 0] for block in _values([self.density], DENSITY))

    def _density(self, others: Sequence[GridFile], files: Files) -> GridFile | None:
        """The density among quantities that are no LDOS: what its input says is one, or what holds N electrons."""
        said = {one.where.parent / one.end: one.quantity for one in files.pp_inputs}
        stated = [grid for grid in others if said.get(grid.path) == 0]
        rest = [grid for grid in others if grid.path not in said and grid.grid == self.together.grid]
        chosen = stated or [grid for grid in rest if self._holds_electrons(grid)]
        for grid in others:
            if grid not in chosen:
                self.report(f"left out {grid.path}: neither of the LDOS nor the density")
        if len(chosen) > 1:
            raise DatasetError(f"{chosen[1].path}: a second density beside {chosen[0].path}; keep one of them")
        return chosen[0] if chosen else None

    def _holds_electrons(self, grid: GridFile) -> bool:
        scf = self.together.scf
        mean = sum(float(block.sum()) for block in blocks([grid])) / np.prod(grid.grid) * DENSITY
        return abs(mean * abs(np.linalg.det(scf.cell)) - scf.n_electrons) < 0.01 * scf.n_electrons


def _values(files: Sequence[GridFile], factor: float) -> Iterator[NDArray[np.float32]]:
    return ((block * factor).astype(np.float32) for block in blocks(files))


def _energy_grid(ldos: LdosFiles, kernel: Kernel, width: float) -> EnergyGrid:
    try:
        return EnergyGrid(
            minimum=ldos.minimum, spacing=ldos.spacing, n_energy=len(ldos.files), kernel=kernel, width=width
        )
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise DatasetError(f"{ldos.where}: {one_line(error)}; run pp.x again") from error


def _say_kernel(read: Sequence[_Reader], report: Report) -> None:
    """Say where the kernel comes from, unless the user or an input of pp.x said it."""
    inferred = [one for one in read if one.kernel_said is None and one.told.kernel is None]
    if inferred:
        first = inferred[0]
        report(
            f"kernel of the LDOS: {first.kernel_inferred}, as pp.x takes the smearing that {first.together.last.where} "
            "has, unless use_gauss_ldos (from 7.2 on) is set; --kernel says otherwise"
        )
