"""MPI groups: the same descriptors as one process computes, errors in one line, and no process left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dftune.cluster.descriptors import mpi_group
from dftune.cluster.descriptors.mpi_group import MpiGroup
from dftune.tests.forked import Forked
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.descriptors.slabs import pieces
from dftune.trainables.errors import InputError

CHEAP = BispectrumSettings(cutoff=4.0, two_j_max=4, engine="lammps")


def test_ranks_give_what_one_process_gives_and_a_failed_group_is_followed_by_another(al4, monkeypatch):
    # What Slurm, or another MPI, has left in the environment is not meant for these processes.
    for name, value in {"SLURM_NTASKS": "7", "PMI_RANK": "3", "PMI_FD": "9", "HYDRA_HOST_FILE": "none"}.items():
        monkeypatch.setenv(name, value)
    snapshot, group = al4.snapshots[9], MpiGroup(2)
    skew = snapshot.cell @ [[1.0, 0.1, 0.0], [0.0, 1.0, -0.2], [0.1, 0.0, 1.0]]
    atoms = (snapshot.positions, snapshot.numbers)
    try:
        # Planes, an odd number of rows, fewer points than ranks, a skew cell.
        for cell, grid in ((snapshot.cell, (40, 36, 30)), (skew, (11, 7, 5)), (snapshot.cell, (1, 1, 1))):
            points = pieces(grid)[-1]
            expected = bispectrum(cell, *atoms, grid, CHEAP, points=points)
            found = group.bispectrum(cell, *atoms, grid, CHEAP, points=points)
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
        process = group._process.pid
        with pytest.raises(InputError, match=r"^the cell vectors are coplanar; give the cell a volume$"):
            group.bispectrum(snapshot.cell * [1, 1, 0], *atoms, grid, CHEAP, points=points)
        np.testing.assert_array_equal(group.bispectrum(cell, *atoms, grid, CHEAP, points=points), expected)
        assert group._process.pid != process
        os.kill(processes_below(group._process.pid)[-1], signal.SIGKILL)
        with pytest.raises(InputError, match=r"MPI rank.*; run it again$") as error:
            group.bispectrum(cell, *atoms, grid, CHEAP, points=points)
        assert "\n" not in str(error.value)
    finally:
        group.close()


def hold(snapshot, state):
    """Hold two ranks; says which process mpiexec is, once they have computed something."""
    mpi_group.HEARTBEAT = 0.1
    group = MpiGroup(2, silence=3)

    def compute(two_j_max, grid, points):
        settings = BispectrumSettings(cutoff=4.0, two_j_max=two_j_max)
        group.bispectrum(snapshot.cell, snapshot.positions, snapshot.numbers, grid, settings, points=points)

    compute(4, (5, 5, 5), range(125))
    print(group._process.pid, flush=True)
    if state == "computing":
        compute(14, (40, 40, 40), range(16_000))
    time.sleep(60)


def processes_below(process: int) -> list[int]:
    """Children of a process, and theirs; mpiexec's proxy first, then the ranks."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(c) for c in children] + [p for c in children for p in processes_below(int(c))]


def living(processes: list[int]) -> list[int]:
    """Those that have not ended; one that nobody has waited for has."""
    found = []
    for process in processes:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            found.append(process)
    return found


@pytest.mark.parametrize(
    "struck, by, state",
    [
        ("actor", signal.SIGKILL, "computing"),
        ("actor", signal.SIGSTOP, "computing"),  # its pipes stay open, and no heartbeat comes
        pytest.param("mpiexec", signal.SIGKILL, "computing", marks=pytest.mark.slow),
        pytest.param("actor", signal.SIGKILL, "idle", marks=pytest.mark.slow),
        pytest.param("actor", signal.SIGSTOP, "idle", marks=pytest.mark.slow),
        pytest.param("mpiexec", signal.SIGKILL, "idle", marks=pytest.mark.slow),
        pytest.param("proxy", signal.SIGKILL, "computing", marks=pytest.mark.slow),
        pytest.param("first rank", signal.SIGKILL, "computing", marks=pytest.mark.slow),
        pytest.param("last rank", signal.SIGKILL, "computing", marks=pytest.mark.slow),
    ],
)
def test_no_rank_is_left_when_a_process_is_killed_or_frozen(al4, struck, by, state):
    with Forked(lambda: hold(al4.snapshots[0], state)) as holder:
        mpiexec = int(holder.stdout.readline())
        below = processes_below(mpiexec)
        assert len(below) >= 3, "a proxy and two ranks"
        time.sleep(0.3)
        maps = [line for rank in below[1:] for line in Path(f"/proc/{rank}/maps").read_text().splitlines()]
        shared = [line for line in maps if "/dev/shm/" in line]
        assert all(line.endswith("(deleted)") for line in shared), "nor shared memory, which has no name any more"
        victims = {"actor": holder.pid, "mpiexec": mpiexec, "proxy": below[0], "first rank": below[1]}
        os.kill(victims.get(struck, below[-1]), by)
        deadline = time.monotonic() + 600
        while living([mpiexec, *below]):
            assert time.monotonic() < deadline, "a process was left behind"
            time.sleep(0.1)


WITH_RAY = """
import sys
import ray
from dftune.cluster.connection import connected
from dftune.cluster.descriptors.descriptors import compute_descriptors
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.data.dataset import Dataset
with connected():
    print("raylet", flush=True)
    settings = BispectrumSettings(cutoff=6.0, two_j_max=14, engine="lammps")
    compute_descriptors(Dataset.open(sys.argv[1]), settings, cpus=2)
"""


@pytest.mark.ray
@pytest.mark.slow
def test_no_rank_is_left_when_the_raylet_is_killed(fresh_al4):
    driver = subprocess.Popen(
        [sys.executable, "-c", WITH_RAY, fresh_al4.path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert driver.stdout.readline() == "raylet\n"
        deadline, ranks = time.monotonic() + 600, []
        while len(ranks) < 4:  # mpiexec, its proxy, two ranks
            assert time.monotonic() < deadline
            time.sleep(0.2)
            below = processes_below(driver.pid)
            named = {p: Path(f"/proc/{p}/cmdline").read_bytes() for p in living(below)}
            (raylet,) = [p for p, line in named.items() if line.split(b"\0")[0].endswith(b"/raylet")]
            ranks = [
                p for p, line in named.items() if b"dftune.cluster.descriptors.mpi_group" in line or b"hydra" in line
            ]
        os.kill(raylet, signal.SIGKILL)
        while living(ranks):
            assert time.monotonic() < deadline + 600, "a process was left behind"
            time.sleep(0.2)
    finally:
        driver.kill()
        driver.communicate()
