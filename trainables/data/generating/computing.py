"""One snapshot, from its input to what is kept of it.  Whoever calls it may be on another machine than the results.

What is kept comes in parts, so that an LDOS of any size is never held: the caller writes them down, or sends them.
"""

import json
import os
import re
import resource
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DatasetError, InputError, one_line
from ...memory import host_memory
from ...physics.energies import energies
from ...physics.smearing import broadening
from ...physics.units import K_B
from ..check import MOST_BAND_ENERGY_ERROR
from ..energy_grid import EnergyGrid
from ..importing.grid_files import blocks, read_head
from ..importing.quantum_espresso.calculation import TAIL
from ..importing.quantum_espresso.importer import LDOS
from ..importing.quantum_espresso.pw_run import PwRun
from ..importing.quantum_espresso.pw_xml import NAME, read_xml
from ..importing.quantum_espresso.wavefunctions import Wavefunctions, read_density
from ..states_check import States
from .inputs import OUT, PREFIX, PSEUDO, kernel_of_smearing, pp_input
from .programs import ALONE, NotConverged, ProgramFailed, find, find_launcher, ranks_of, run, version_of
from .spec import Run

OLDEST = (6, 3)  # versions of pw.x before have no schema that we read
USES_GAUSSIAN = (7, 2)  # from here on pp.x can be asked for a Gaussian kernel
MOST_LOST = 1e-3  # of the electrons, outside of the window
LITTLE = 50e6  # bytes of a disk that is taken for full
DONE, FAILURE = "done.json", "failure.txt"
_NUMBER = re.compile(r"(\d+)ldos\.cube$")


@dataclass(frozen=True)
class Order:
    """What is to be computed: all that a machine needs which has the programs.

    Attributes:
        id: of the snapshot.
        inputs: of pw.x; the second one is tried if the SCF does not converge with the first.
        pseudopotentials: name of a UPF file -> content.
        grids: of the LDOS; none: the SCF alone.
        run: how the programs are run.
        key: of all that decides about the results.
        memory: bytes that pw.x takes for it, about.
    """

    id: str
    inputs: tuple[str, ...]
    pseudopotentials: Mapping[str, bytes] = field(repr=False)
    grids: tuple[EnergyGrid, ...]
    run: Run
    key: str
    memory: float = 0.0


@dataclass(frozen=True, eq=False)
class Part:
    """A file that is kept, or a block of an array.

    Attributes:
        name: of the file.
        content: bytes, or consecutive rows of an array.
        shape: of the whole array; None for bytes.
    """

    name: str
    content: bytes | NDArray[np.float32]
    shape: tuple[int, ...] | None = None


def compute(order: Order, folder: Path) -> Iterator[Part]:
    """Compute a snapshot in an empty folder.

    Yields:
        What is kept.  The last part is DONE, times and versions as JSON, or FAILURE, why there is no result.
    """
    began, cpu = time.monotonic(), _cpu()
    try:
        seconds: dict[str, float] = {}
        yield from _computed(order, folder, seconds)
        yield _json(order, time.monotonic() - began, _cpu() - cpu, seconds)
    except (InputError, OSError) as error:
        yield from _logs(folder)
        yield Part(FAILURE, f"{_reason(error, folder)}\n".encode())


def _cpu() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _json(order: Order, seconds: float, cpu: float, steps: Mapping[str, float]) -> Part:
    about = {"key": order.key, "seconds": seconds, "cpu_seconds": cpu, "steps": steps, "machine": os.uname().nodename}
    return Part(DONE, json.dumps(about, indent=2).encode())


def _reason(error: Exception, folder: Path) -> str:
    reason = one_line(error, 400).replace(f"{folder}/", "")
    if shutil.disk_usage(folder).free < LITTLE:
        reason += f"; the disk of {folder.parent} is full, so set TMPDIR to a place with room"
    return reason


def _logs(folder: Path) -> Iterator[Part]:
    """What tells why it failed."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and (path.suffix in (".in", ".out", ".err") or path.name == "CRASH"):
            yield Part(path.name, path.read_bytes())


def _computed(order: Order, folder: Path, seconds: dict[str, float]) -> Iterator[Part]:
    if order.memory > (has := host_memory()):  # of this machine, which may be another than that of the command
        raise InputError(
            f"pw.x would take {order.memory / 1e9:,.0f} GB for it, and {os.uname().nodename} has {has / 1e9:.0f}; take "
            "larger nodes, a smaller cell, a lower cutoff_ry or fewer k-points"
        )
    began = time.monotonic()
    (folder / PSEUDO).mkdir()
    for name, content in order.pseudopotentials.items():
        (folder / PSEUDO / name).write_bytes(content)
    _scf(order, folder)
    seconds["scf"], began = time.monotonic() - began, time.monotonic()
    save = folder / OUT / f"{PREFIX}.save"
    found = read_xml(save / NAME)
    xml = (save / NAME).read_bytes()  # before pp.x is told another smearing there
    check_window(found, order.grids)
    check_rule(found, order.grids)
    yield from _logs(folder)
    yield Part(NAME, xml)
    if not order.grids:
        return
    of_pw = order.run.source == "wavefunctions"
    yield from (_of_wavefunctions if of_pw else _of_pp)(order, folder, save, found)
    seconds["ldos"] = time.monotonic() - began


def _scf(order: Order, folder: Path) -> None:
    """Run pw.x, and once more if its SCF does not converge and there is another input."""
    pw = find(order.run.pw)
    for number, text in enumerate(order.inputs):
        name = "pw" if number == 0 else f"pw.try{number + 1}"
        (folder / f"{name}.in").write_text(text)
        try:
            _program(order, folder, pw, name)
        except NotConverged:
            if number + 1 < len(order.inputs):
                shutil.rmtree(folder / OUT, ignore_errors=True)
                continue
            tries = "twice, the second time with gentler mixing" if number else "once"
            raise NotConverged(f"the SCF did not converge ({tries}); see {name}.out for its estimates") from None
        version = version_of((folder / f"{name}.out").read_text(errors="replace"))
        if version is None or version < OLDEST:
            said = "of an unknown version" if version is None else "{}.{}".format(*version)
            raise ProgramFailed(f"{pw} is {said}; Quantum ESPRESSO {OLDEST[0]}.{OLDEST[1]} or later is needed")
        if not (folder / (left := f"{OUT}/{PREFIX}.save/{NAME}")).is_file():
            raise ProgramFailed(
                f"{pw.name} says that its job is done and left no {left}; is it that of Quantum ESPRESSO, and not a "
                "script around it that works in another folder?"
            )
        return


def _program(order: Order, folder: Path, program: Path, name: str) -> None:
    """Run one of the programs on NAME.in, by MPI where it is asked for."""
    ranks = order.run.ranks
    command, environment = [str(program), "-in", f"{name}.in"], {"OMP_NUM_THREADS": "1"}
    if ranks == 1:
        environment |= ALONE
    else:
        launcher = find_launcher(program, order.run.launcher)
        command = [str(launcher), "-n", str(ranks), *command]
        if program.name.startswith("pw"):
            command += ["-nk", str(order.run.pools or ranks)]
    run(
        command, folder, given=f"{name}.in", log=f"{name}.out", silence=60 * order.run.silence, environment=environment
    )  # fmt: skip
    running = ranks_of((folder / f"{name}.out").read_text(errors="replace"))
    if running != ranks:
        raise ProgramFailed(
            f"{program.name} ran on {running} MPI ranks instead of {ranks}: {command[0]} is of another MPI; give the "
            "right mpirun as [run] launcher"
        )


def check_window(found: PwRun, grids: Sequence[EnergyGrid]) -> None:
    """Raise DatasetError if the energies of an LDOS cut occupied states, or the bands end below what they need."""
    if found.bands is None or found.fermi_level is None:
        raise DatasetError(f"{NAME}: no eigenvalues or no Fermi level; is pw.x one of Quantum ESPRESSO?")
    bands = found.bands
    for grid in grids:
        top = float(grid.energy[-1])
        if (needed := top + TAIL * grid.width) > bands.complete_to:
            raise DatasetError(
                f"{bands.energy.shape[1]} bands are complete to {bands.complete_to:.2f} eV, and an LDOS up to {top:g} "
                f"eV needs them to {needed:.2f}; raise [dft] bands, or lower maximum"
            )
        lost = _outside(found, grid)
        if lost > MOST_LOST:
            raise DatasetError(
                f"the energies from {grid.minimum:g} to {top:g} eV cut {100 * lost:.2g} % of the electrons: states "
                f"begin at {bands.energy.min():.2f} eV, and the Fermi level is {found.fermi_level:.2f} eV; widen the "
                "window of [ldos]"
            )


def check_rule(found: PwRun, grids: Sequence[EnergyGrid]) -> None:
    """Raise DatasetError if the energies of an LDOS are too coarse for its own band energy, as an import would say."""
    bands, temperature = found.bands, found.degauss / K_B
    assert bands is not None
    exact = bands.energies(electrons=found.n_electrons, temperature=temperature)
    states = States(found.where, bands.energy.ravel(), np.repeat(bands.weight, bands.energy.shape[1]))
    for grid in grids:
        dos = states.dos(grid, grid.kernel)
        ours = energies(dos, grid.quadrature(grid.better_rule), electrons=found.n_electrons, temperature=temperature)
        off = 1e3 * (ours.band - exact.band) / len(found.symbols) if exact is not None else 0.0
        if abs(off) > MOST_BAND_ENERGY_ERROR:
            raise DatasetError(
                f"with a spacing of {grid.spacing:g} eV and a width of {grid.width:g} eV the LDOS gives a band energy "
                f"{off:+.0f} meV/atom off; take a smaller spacing and width in [ldos], or a denser mesh of k-points"
            )


def _outside(found: PwRun, grid: EnergyGrid) -> float:
    """The share of the electrons in that part of the broadened states that lies beyond the energies."""
    assert found.bands is not None
    assert found.bands.occupation is not None
    energy, n = found.bands.energy.ravel(), found.bands.energy.shape[1]
    held = np.repeat(found.bands.weight, n) * found.bands.occupation.ravel()
    reach = np.linspace(-6 * grid.width, 6 * grid.width, 241)
    kernel = broadening(reach, kernel=grid.kernel, width=grid.width)
    total = np.append(0.0, np.cumsum((kernel[1:] + kernel[:-1]) / 2 * np.diff(reach)))
    below = np.interp(grid.minimum - energy, reach, total / total[-1])
    above = 1 - np.interp(float(grid.energy[-1]) - energy, reach, total / total[-1])
    return float(held @ (below + above) / held.sum())


def ldos_name(number: int) -> str:
    """Name of the file of the LDOS on one of the grids, from 0."""
    return f"ldos{number or ''}.npy"


def _of_wavefunctions(order: Order, folder: Path, save: Path, found: PwRun) -> Iterator[Part]:
    waves = Wavefunctions(save)
    yield Part("density.npy", waves.density().astype(np.float32), waves.grid)
    for parts in waves.ldos(order.grids):
        for number, (block, grid) in enumerate(zip(parts, order.grids)):
            yield Part(ldos_name(number), block, (*waves.grid, grid.n_energy))


def _of_pp(order: Order, folder: Path, save: Path, found: PwRun) -> Iterator[Part]:
    """The LDOS by pp.x, for pseudopotentials whose wavefunctions are not all of the density."""
    pp, xml = find(order.run.pp), (save / NAME).read_text()
    version = version_of((folder / "pw.out").read_text(errors="replace")) or OLDEST
    yield Part("density.npy", read_density(save, found).astype(np.float32), found.grid)
    for number, grid in enumerate(order.grids):
        asks = version >= USES_GAUSSIAN and grid.kernel == "gaussian"
        try:
            (save / NAME).write_text(xml if asks else kernel_of_smearing(xml, grid.kernel))
        except ValueError as error:
            raise ProgramFailed(f"{NAME}: {error}, which pp.x takes the kernel of the LDOS from") from error
        name = f"pp{number or ''}"
        (folder / f"{name}.in").write_text(pp_input(grid, gaussian=asks))
        _program(order, folder, pp, name)
        cubes = {int(match[1]): path for path in folder.glob("*ldos.cube") if (match := _NUMBER.search(path.name))}
        if sorted(cubes) != list(range(1, grid.n_energy + 1)):
            raise ProgramFailed(f"pp.x wrote {len(cubes)} cubes of {grid.n_energy} energies; see {name}.out")
        heads = [read_head(cubes[n]) for n in sorted(cubes)]
        for block in blocks(heads):
            yield Part(ldos_name(number), (block * LDOS).astype(np.float32), (*found.grid, grid.n_energy))
        for path in chain(cubes.values(), folder.glob("tmp.pp*")):
            path.unlink(missing_ok=True)


class Kept:
    """Parts that are written into a folder as they come.

    Args:
        folder: there is one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, Any] = {}
        self.failure: str | None = None

    def add(self, part: Part) -> None:
        """Write one part."""
        if isinstance(part.content, bytes):
            (self._folder / part.name).write_bytes(part.content)
            if part.name == FAILURE:
                self.failure = part.content.decode().strip()
            return
        if part.name not in self._open:
            file = self._open[part.name] = (self._folder / part.name).open("wb")
            about = {"descr": "<f4", "fortran_order": False, "shape": part.shape}
            np.lib.format.write_array_header_1_0(file, about)
        self._open[part.name].write(np.ascontiguousarray(part.content, dtype="<f4").data)

    def close(self) -> None:
        """Close the files."""
        while self._open:
            self._open.popitem()[1].close()
