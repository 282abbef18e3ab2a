"""Programs that compute: where they are, how they are started, and what became of them.

A program is a child that ends with the process that started it, however that ends.
"""

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ...errors import InputError, printable

APT = "apt-get install quantum-espresso"
LOOK = 0.05  # seconds between two looks at a program
STARTED = re.compile(r"Program \S+ v\.(\d+)\.(\d+)")
RANKS = re.compile(r"Parallel version \(MPI\), running on\s+(\d+) processors")
NOT_CONVERGED = "convergence NOT achieved"
_ERROR = re.compile(r"%{20,}\s*\n\s*(?:task #.*\n\s*from |Error in routine )\s*(.*?)\s*\n\s*%{20,}", re.DOTALL)
# Asks the kernel to signal this process when its parent ends, and becomes the program.
_GUARD = """
import ctypes, os, signal, sys
parent, number, *command = sys.argv[1:]
ctypes.CDLL(None).prctl(1, int(number))
if os.getppid() != int(parent): sys.exit(1)
try:
    os.execvp(command[0], command)
except OSError as error:
    named = "; is the interpreter or loader that it names there?" if isinstance(error, FileNotFoundError) else ""
    sys.exit(f"it cannot be started: {error.strerror}{named}")
"""
# In the environment of a worker these would tell mpirun that it is part of another job.
FOREIGN = ("PMI", "HYDRA", "MPI_LOCAL", "OMPI_COMM", "PMIX")
# Without a launcher Open MPI starts a daemon beside the program, and both listen on all interfaces; so does MPICH.
ALONE = {"OMPI_MCA_ess_singleton_isolated": "1", "OMPI_MCA_btl": "self", "UCX_TLS": "self,sm"}


class ProgramFailed(InputError):
    """A program crashed, hung, was killed, or did not do what it should; says which, why and where its log is."""


class NotConverged(ProgramFailed):
    """The SCF did not converge."""


def find(program: str, install: str = f"install Quantum ESPRESSO (Debian: {APT}), or give its path in [run]") -> Path:
    """Where a program is.  Raises InputError: it is not there, or cannot be started; ``install`` says what to do."""
    if (found := shutil.which(program)) is not None:
        return Path(found)
    if (there := shutil.which(program, mode=os.F_OK)) is not None:
        raise InputError(f"{there} on {os.uname().nodename} is not executable; chmod +x {there}, or give another path")
    if Path(program).is_dir():
        raise InputError(f"{program} on {os.uname().nodename} is a folder; give the program in it")
    raise InputError(f"{program} is not found on {os.uname().nodename}; {install}")


def find_launcher(pw: Path, launcher: str | None) -> Path:
    """The mpirun of the MPI that pw.x is built with: that beside it, else that on the PATH.  Raises InputError."""
    if launcher is not None:
        return find(launcher)
    beside = pw.with_name("mpirun")
    return beside if beside.is_file() else find("mpirun")


def run(
    command: Sequence[str], folder: Path, *, given: str, log: str, silence: float, environment: dict[str, str]
) -> None:
    """Run a program of Quantum ESPRESSO in a folder; arguments as ``execute``, ``silence`` in its output.

    Raises:
        NotConverged: the SCF has not.
        ProgramFailed: it ended with an error, was killed, or is silent.
    """
    code = execute(command, folder, given=given, log=log, silence=silence, environment=environment)
    text = (folder / log).read_text(errors="replace")
    if NOT_CONVERGED in text:
        raise NotConverged("the SCF did not converge")
    if code != 0 or "JOB DONE" not in text:
        raise ProgramFailed(f"{Path(command[0]).name} {ended(code)}{_why(text, folder / f'{log}.err')}")


def execute(
    command: Sequence[str],
    folder: Path,
    *,
    log: str,
    given: str | None = None,
    silence: float = math.inf,
    limit: float = math.inf,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Run a program in a folder, its standard output to a file, and give its exit code.

    Args:
        command: program and options.
        folder: it runs there.
        given: name of its input, if it reads one.
        log: name of its output; errors go beside it.
        silence: seconds without output after which it is ended; ``limit``: seconds in all.
        environment: added to that of this process.

    Raises:
        ProgramFailed: it was ended here.
        OSError: it cannot be started.
    """
    # MPI's launcher ends its ranks when it is asked to; a program by itself needs no farewell.
    farewell = signal.SIGTERM if Path(command[0]).name.startswith("mpi") else signal.SIGKILL
    guard = [sys.executable, "-I", "-S", "-c", _GUARD, str(os.getpid()), str(int(farewell))]
    own = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    output = folder / log
    with (
        open(folder / given if given else os.devnull) as stdin,
        open(output, "w") as out,
        open(folder / f"{log}.err", "w") as err,
    ):
        process = subprocess.Popen(
            [*guard, *command], cwd=folder, stdin=stdin, stdout=out, stderr=err, env=own | dict(environment or {})
        )
        try:
            code = _wait(process, output, silence, limit)
        finally:
            _end(process, farewell)
    if isinstance(code, str):
        raise ProgramFailed(f"{Path(command[0]).name} hangs: {code}, so it was stopped")
    return code


def _wait(process: subprocess.Popen, output: Path, silence: float, limit: float) -> int | str:
    """Exit code of a process; why it is to be ended, if its output has not grown for so long, or it takes too long."""
    began = time.monotonic()
    size, since = -1, began
    while True:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(LOOK)
        now = output.stat().st_size
        if now != size:
            size, since = now, time.monotonic()
        elif time.monotonic() - since > silence:
            return f"no output for {silence / 60:g} minutes"
        if time.monotonic() - began > limit:
            return f"not done after {limit / 60:g} minutes"


def _end(process: subprocess.Popen, farewell: signal.Signals) -> None:
    """See that a process is gone."""
    if process.poll() is None:
        process.send_signal(farewell)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ended(code: int) -> str:
    """How a program has ended, from its exit code."""
    if code < 0 or code > 128:
        number = -code if code < 0 else code - 128
        with suppress(ValueError):
            name = signal.Signals(number).name
            why = ", by somebody or for want of memory" if number == signal.SIGKILL else ""
            return f"was killed by {name}{why}"
    return f"ended with code {code}" if code else "ended before its work was done"


def _why(text: str, errors: Path) -> str:
    """What a program said last of an error, or nothing."""
    if found := _ERROR.search(text):
        return f": {printable(' '.join(found[1].split()))[:200]}"
    lines = [line.strip() for line in errors.read_text(errors="replace").splitlines() if line.strip(" -*%")]
    wanted = [line for line in lines if re.search(r"error|no space|denied|memory|as root", line, re.IGNORECASE)]
    return f": {printable((wanted or lines)[0])[:200]}" if lines else ""


def version_of(log: str) -> tuple[int, int] | None:
    """Version of the program that wrote a log, as (6, 7); None where it does not say it."""
    found = STARTED.search(log)
    return None if found is None else (int(found[1]), int(found[2]))


def ranks_of(log: str) -> int:
    """MPI ranks of the program that wrote a log."""
    found = RANKS.search(log)
    return 1 if found is None else int(found[1])
