import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from dftune.tests.cluster.launch.stand_ins import DFTUNE, PYTHON, RAY, SCONTROL, SRUN, program


@pytest.fixture
def home():
    """A short folder that is home, scratch and shared file system: the names of Ray's sockets are bounded."""
    path = Path(tempfile.mkdtemp(prefix="launch", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def stand_ins(home):
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        program(home / "slurm" / name, text)
    for name, text in {"python": PYTHON, "ray": RAY, "dftune": DFTUNE}.items():
        program(home / "bin" / name, text)
    (home / "al4.toml").write_text('name = "al4"\n')
    yield home
    # What a failed test leaves holds the ports of the next.
    subprocess.run(["pkill", "-KILL", "-f", f"{home}/"], check=False)
