"""One configuration by LSMS, from its input to what is kept of it.  It may run on another machine than its results."""

import json
import os
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..data.generating.computing import DONE, FAILURE
from ..data.generating.programs import ALONE, NotConverged, ProgramFailed, ended, execute, find
from ..errors import InputError, one_line, printable
from ..temporary import temporary_folder
from .lattice import Lattice
from .lsms import INPUT, ITERATIONS, RESULT, LsmsRun, read_lsms
from .lsms_input import LsmsSettings, lsms_input, name_of

LOG = "lsms.out"
TRIES = 2  # runs of one configuration, each from where the last one ended
MOST_KEPT = 10_000_000  # bytes of a log


@dataclass(frozen=True)
class LsmsOrder:
    """What is to be computed.

    id: of the configuration.  symbols: the element on each site.  potentials: starting potential of each element that
    there is.  near: the run that they are from, None: the given ones.  key: of all that decides about the result.
    """

    id: str
    lattice: Lattice
    symbols: tuple[str, ...]
    settings: LsmsSettings
    potentials: Mapping[str, bytes] = field(repr=False)
    near: str | None
    key: str


def potential_name(symbol: str) -> str:
    """Name of the file in which a finished run keeps a potential of an element."""
    return f"potential.{symbol}"


def find_command(command: Sequence[str]) -> list[str]:
    """A command with the path of its program.  Raises InputError: it is not there, or cannot be started."""
    build = 'build LSMS (github.com/mstsuite/lsms), and give its path: [lsms] command = "/path/to/lsms"'
    return [str(find(command[0], build).absolute()), *command[1:]]


def compute(order: LsmsOrder) -> dict[str, bytes]:
    """Compute a configuration.

    Returns:
        What is kept: the files of LSMS, a potential of each element, and DONE, times as JSON; or logs, and FAILURE,
        why there is no result.
    """
    began, cpu = time.monotonic(), _cpu()
    with temporary_folder("lsms") as folder:
        try:
            kept, run = _computed(order, folder)
        except (InputError, OSError) as error:
            reason = one_line(error, 400).replace(f"{folder}/", "")
            return _files(folder) | {FAILURE: f"{reason}\n".encode()}
    about = {
        "key": order.key,
        "near": order.near,
        "residual": run.residual,
        "seconds": time.monotonic() - began,
        "cpu_seconds": _cpu() - cpu,
        "machine": os.uname().nodename,
    }
    return kept | {DONE: json.dumps(about, indent=2).encode()}


def _computed(order: LsmsOrder, folder: Path) -> tuple[dict[str, bytes], LsmsRun]:
    command = find_command(order.settings.command)
    elements = list(order.potentials)
    starts = [order.potentials[symbol] for symbol in elements]
    numbers = [elements.index(symbol) for symbol in order.symbols]
    mixing = order.settings.mixing
    if order.near is None and order.settings.first_mixing is not None:
        mixing = order.settings.first_mixing
    run = None
    for n in range(TRIES):
        place = folder / str(n + 1)
        place.mkdir()
        text = lsms_input(order.lattice, order.symbols, numbers, order.settings, mixing=mixing)
        (place / INPUT).write_text(text, encoding="utf-8")
        for number, content in enumerate(starts):
            (place / f"v_{name_of(order.symbols)}.{number}").write_bytes(content)
        run = _once(order, command, place)
        ends = [place / f"w_{name_of(order.symbols)}.{site}" for site in range(order.lattice.n_sites)]
        if run.converged:
            return _files(place) | _potentials(order, run, ends), run
        if not np.isfinite([run.residual or np.nan, run.energy]).all() or not all(end.is_file() for end in ends):
            break
        starts, numbers = [end.read_bytes() for end in ends], list(range(len(ends)))
    assert run is not None
    raise NotConverged(
        f"the SCF did not converge (residual {run.residual:.1e} after {n + 1} x {order.settings.iterations} "
        "iterations); lower [lsms] mixing or first_mixing, raise iterations, or give nearer potentials"
    )


def _once(order: LsmsOrder, command: Sequence[str], place: Path) -> LsmsRun:
    """Run LSMS in the folder of its inputs, and read what it wrote.  Raises InputError: nothing that can be used."""
    name = Path(command[0]).name
    threads = order.settings.cpus if len(command) == 1 else 1  # a launcher's ranks have a CPU each
    environment = {"OMP_NUM_THREADS": str(threads)} | (ALONE if len(command) == 1 else {})
    code = execute([*command, INPUT], place, log=LOG, limit=order.settings.limit, environment=environment)
    if code != 0:
        raise ProgramFailed(f"{name} {ended(code)}{_last_words(place)}")
    for wanted in (RESULT, ITERATIONS):
        if not (place / wanted).is_file():
            raise ProgramFailed(f"{name} ended, but it wrote no {wanted}{_last_words(place)}")
    run = read_lsms(place / RESULT)
    if list(run.atoms.symbols) != list(order.symbols):
        raise ProgramFailed(f"{name} wrote an {RESULT} of other atoms than were asked for")
    return run


def _last_words(place: Path) -> str:
    """What LSMS said last, of errors if of any."""
    for name in (f"{LOG}.err", LOG):
        with (place / name).open("rb") as file:
            file.seek(max(0, (place / name).stat().st_size - 4000))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip(" -*")]
        if lines:
            return f": {printable(lines[-1])[:200]}"
    return ""


def _files(folder: Path) -> dict[str, bytes]:
    """Inputs, results and logs of a run, or of all tries."""
    names = {INPUT, RESULT, ITERATIONS, LOG, f"{LOG}.err"}
    found = [path for path in sorted(folder.rglob("*")) if path.name in names and path.stat().st_size <= MOST_KEPT]
    # Those of a failed run have names that no import takes for results: k.out.1
    return {".".join(path.relative_to(folder).parts[::-1]): path.read_bytes() for path in found}


def _potentials(order: LsmsOrder, run: LsmsRun, ends: Sequence[Path]) -> dict[str, bytes]:
    """Of each element the final potential of the site whose charge is nearest to the element's mean, if written."""
    kept, symbols = {}, np.array(order.symbols)
    for symbol in sorted(set(order.symbols)):
        sites = np.flatnonzero(symbols == symbol)
        charge = run.charge[sites]
        end = ends[int(sites[abs(charge - charge.mean()).argmin()])]
        if end.is_file():
            kept[potential_name(symbol)] = end.read_bytes()
    return kept


def _cpu() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
