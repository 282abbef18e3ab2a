"""LAMMPS on several MPI ranks of one node: a persistent ``mpiexec`` child of an actor.

`python -m dftune.cluster.descriptors.mpi_group` is a rank.  The first one reads work from its input and writes answers
to its output: two lengths, so many bytes of JSON, so many bytes of numbers; two zeros are a heartbeat.  It ends with
its input, or when no heartbeat has come for a while, and the others end with it.  So nothing stays when the actor, its
raylet or mpiexec is killed or frozen.
"""

import json
import os
import queue
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ...trainables.descriptors.bispectrum import check
from ...trainables.descriptors.lammps_engine import bispectrum, mpi_world
from ...trainables.descriptors.settings import BispectrumSettings
from ...trainables.errors import InputError, one_line
from ...trainables.processes import started

HEARTBEAT = 1.0  # seconds between two
SILENCE = 15.0  # seconds without one, after which ranks end
GRACE = 1.0  # seconds to end in good order
LENGTHS = struct.Struct("<II")
# In an actor's environment these would tell mpiexec, or the ranks, that they are part of another MPI or Slurm step.
FOREIGN = ("PMI", "HYDRA", "MPI_LOCAL", "SLURM_", "OMPI_")


class MpiGroup:
    """A group of MPI ranks on this node, started with the first call, and again after one that failed.

    Args:
        ranks: number of processes, one CPU each.
        silence: seconds without a sign of life from this process, after which they end.
    """

    def __init__(self, ranks: int, silence: float = SILENCE) -> None:
        self._ranks, self._silence = ranks, silence
        self._process: Any = None  # of mpiexec
        self._errors: Any = None  # file of what it and the ranks print
        self._reasons: Any = None  # file of why ranks ended; not all that they print before an end passes mpiexec
        self._writing = threading.Lock()

    def bispectrum(
        self,
        cell: NDArray[np.float64],
        positions: NDArray[np.float64],
        numbers: NDArray[np.integer],
        grid: tuple[int, int, int],
        settings: BispectrumSettings,
        *,
        points: range,
    ) -> NDArray[np.float32]:
        """``bispectrum.bispectrum`` of the engine LAMMPS by all ranks; atoms in other places of a sum: equal to 1e-6.

        Raises:
            InputError: as there; or mpiexec is missing, or the ranks died.
        """
        if self._process is None:
            self._start()
        header = {"grid": grid, "settings": settings.model_dump(), "points": [points.start, points.stop]}
        arrays = (np.asarray(cell, "<f8"), np.asarray(positions, "<f8"), np.asarray(numbers, "<i8"))
        try:
            with self._writing:
                _send(self._process.stdin, header, b"".join(a.tobytes() for a in arrays))
            answer, body = _receive(self._process.stdout)
        except (OSError, EOFError) as error:
            raise InputError(self._died()) from error
        return np.frombuffer(body, "<f4").reshape(answer["shape"])

    def close(self) -> None:
        """End the ranks."""
        if self._process is not None:
            with suppress(OSError):  # what was written last could not be sent any more
                self._process.stdin.close()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process.stdout.close()
            self._process = None

    def _start(self) -> None:
        mpiexec = Path(sys.executable).with_name("mpiexec")
        if not mpiexec.is_file():
            raise InputError(f"{mpiexec}: missing; MPI ranks need `pip install mpich` in the environment of the nodes")
        environment = {name: v for name, v in os.environ.items() if not name.startswith(FOREIGN)}
        self._errors, self._reasons = tempfile.TemporaryFile(), tempfile.NamedTemporaryFile()  # noqa: SIM115  (the group's)
        # No session of its own: what ends the actor's process group, or its container, ends the ranks.
        self._process = subprocess.Popen(
            [mpiexec, "-rmk", "user", "-launcher", "fork", "-n", str(self._ranks),
             sys.executable, "-P", "-m", __name__, str(self._silence), self._reasons.name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            env=environment | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        threading.Thread(target=self._live, args=(self._process,), daemon=True).start()

    def _live(self, process: subprocess.Popen) -> None:
        with suppress(OSError, ValueError):  # until the pipe is closed, on this side or the other
            while True:
                time.sleep(HEARTBEAT)
                with self._writing:
                    _send(process.stdin, None)

    def _died(self) -> str:
        """Why the ranks have ended, in one line; the next call starts others."""
        process = self._process
        self.close()
        self._errors.seek(0)
        printed, reasons = self._errors.read().decode(errors="replace"), self._reasons.read().decode()
        self._errors.close()
        self._reasons.close()
        if reasons:
            return reasons.splitlines()[0]
        lines = [line for line in printed.splitlines() if line.strip()]
        detail = f" ({' '.join(lines)[:200]})" if lines else ""
        return f"{self._ranks} MPI ranks ended with code {process.returncode}{detail}; run it again"


def _send(stream: Any, header: Any, body: bytes = b"") -> None:
    text = json.dumps(header).encode() if header is not None else b""
    stream.write(LENGTHS.pack(len(text), len(body)) + text)
    stream.write(body)
    stream.flush()


def _receive(stream: BinaryIO) -> tuple[Any, bytes]:
    """Header (None for a heartbeat) and body."""
    n_text, n_body = LENGTHS.unpack(_exactly(stream, LENGTHS.size))
    text = _exactly(stream, n_text)
    return json.loads(text) if text else None, _exactly(stream, n_body)


def _exactly(stream: BinaryIO, n: int) -> bytes:
    data = stream.read(n)
    if len(data) < n:
        raise EOFError("the other side has ended")
    return data


class _Input:
    """What the first rank is sent; the process ends with it."""

    def __init__(self, stream: BinaryIO, silence: float) -> None:
        self.work: queue.Queue[tuple[Any, bytes]] = queue.Queue()
        self._stream, self._silence, self._heard = stream, silence, time.monotonic()
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()

    def _read(self) -> None:
        with suppress(EOFError):
            while True:
                header, body = _receive(self._stream)
                self._heard = time.monotonic()
                if header is not None:
                    self.work.put((header, body))
        self.work.put((None, b""))
        time.sleep(GRACE)
        os._exit(1)  # mpiexec ends the others, and they themselves do

    def _watch(self) -> None:
        while time.monotonic() - self._heard < self._silence:
            time.sleep(self._silence / 20)
        os._exit(1)


def _follow(process: int) -> None:
    """End with another process of this machine."""
    since = started(process)
    while started(process) == since:
        time.sleep(0.5)
    os._exit(1)


def _rank(silence: float) -> None:
    """Compute what the first rank is sent until its input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else prints something, it is no answer
    world = mpi_world(alone=False)
    first = np.array([os.getpid()])
    incoming = _Input(sys.stdin.buffer, silence) if world.rank == 0 else None
    world.Bcast(first)
    if incoming is None:
        threading.Thread(target=_follow, args=(int(first[0]),), daemon=True).start()
    while True:
        header, body = incoming.work.get() if incoming else (None, b"")
        # MPI waits for messages at full speed; between pieces that would be in the way of whoever has work to do.
        arrived = world.Ibarrier()
        while not arrived.Test():
            time.sleep(1e-3)
        text = json.dumps(header).encode() if header else b""
        lengths = np.array([len(text), len(body)])
        world.Bcast(lengths)
        if not lengths.any():
            return
        data = np.frombuffer(text + body, np.uint8).copy() if incoming else np.empty(lengths.sum(), np.uint8)
        world.Bcast(data)
        request, numbers = json.loads(data[: lengths[0]].tobytes()), data[lengths[0] :].tobytes()
        n_atoms = (len(numbers) - 72) // 32  # a cell is 72 bytes, an atom 24 of position and 8 of number
        cell, grid = np.frombuffer(numbers, "<f8", 9).reshape(3, 3), tuple(request["grid"])
        settings = BispectrumSettings(**request["settings"])
        species = check(cell, np.frombuffer(numbers, "<i8", n_atoms, offset=72 + 24 * n_atoms), grid, settings)
        values = bispectrum(
            cell,
            np.frombuffer(numbers, "<f8", 3 * n_atoms, offset=72).reshape(n_atoms, 3),
            species,
            grid,
            settings,
            points=range(*request["points"]),
            communicator=world,
        )
        if incoming:
            _send(answers, {"shape": values.shape}, np.asarray(values, "<f4").tobytes())


if __name__ == "__main__":
    try:
        _rank(float(sys.argv[1]))
    except Exception as problem:
        text = one_line(problem)
        if not isinstance(problem, InputError):
            text = f"an MPI rank failed ({type(problem).__name__}: {text}); run it again"
        with open(sys.argv[2], "ab", buffering=0) as reasons:
            reasons.write(f"{text}\n".encode())
        mpi_world(alone=False).Abort(1)
