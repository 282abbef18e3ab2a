"""The commands of tutorials run as they stand there, from the files that they make themselves to an answer."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from dftune.tests.places import ROOT
from dftune.trainables.physics.units import RYDBERG

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MINUTES = 30  # on a busy machine; three on an idle one


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def follow(page: Path, desk: Path) -> str:
    """Run all commands of a page one after the other, and give what they said.  The endpoint takes a free port."""
    port = free_port()
    script = "\n".join(BLOCK.findall(page.read_text(encoding="utf-8")))
    script = script.replace("127.0.0.1:8000", f"127.0.0.1:{port}").replace(
        "dftune serve", f"dftune serve --port {port}"
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with open(desk / "said.log", "w+", encoding="utf-8") as log:
        running = subprocess.Popen(
            ["bash", "-euxc", script],
            cwd=desk,
            env=environment | {"PATH": path, "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = running.wait(60 * MINUTES)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGTERM)
    said = (desk / "said.log").read_text(encoding="utf-8")
    assert code == 0, said[-3000:]
    return said


@pytest.mark.slow
@pytest.mark.ray
def test_a_folder_of_quantum_espresso_becomes_a_served_surrogate(tmp_path):
    missing = [program for program in ("pw.x", "pp.x") if shutil.which(program) is None]
    assert not missing, f"{', '.join(missing)} not found; apt-get install quantum-espresso quantum-espresso-data"
    said = follow(ROOT / "docs" / "from_quantum_espresso.md", tmp_path)
    assert "total free energies: possible" in said
    assert re.search(r"6 snapshots in \S*al2$", said, re.MULTILINE)
    assert "checked: total free energy of the LDOS" in said
    answer = json.loads((tmp_path / "answer.json").read_text())
    # Against pw.x on displaced atoms: they are 0.02 eV an atom apart, and other cells or units are far off.
    log = (tmp_path / "runs/0/pw.out").read_text()
    of_dft = float(re.search(r"^!\s+total energy\s+=\s+(\S+) Ry", log, re.MULTILINE)[1]) * RYDBERG
    assert answer["free_energy"] == pytest.approx(of_dft, abs=0.2)


@pytest.mark.slow
@pytest.mark.ray
def test_a_cell_of_aluminium_becomes_a_served_surrogate(tmp_path):
    assert shutil.which("pw.x"), "pw.x not found; apt-get install quantum-espresso quantum-espresso-data"
    said = follow(ROOT / "docs" / "from_a_cell.md", tmp_path)
    assert re.search(r"^k-points +8 +4x4x4 +0 ", said, re.MULTILINE)
    assert (tmp_path / "converge.png").stat().st_size > 10_000
    assert "warning: 3x3x3 k-points are sparse for a width of 0.5 eV" in said
    assert re.search(r"6 snapshots in \S*al$", said, re.MULTILINE)
    assert "checked: total free energy of the LDOS" in said
    answer = json.loads((tmp_path / "answer.json").read_text())
    # Against pw.x on displaced atoms, which are 0.05 eV an atom apart.
    log = (tmp_path / "al.runs/000/pw.out").read_text()
    of_dft = float(re.search(r"^!\s+total energy\s+=\s+(\S+) Ry", log, re.MULTILINE)[1]) * RYDBERG
    assert answer["free_energy"] == pytest.approx(of_dft, abs=0.4)
