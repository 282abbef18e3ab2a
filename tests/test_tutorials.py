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

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dftune.tests.places import ROOT
from dftune.trainables.alloys.data import AlloyData
from dftune.trainables.physics.units import RYDBERG

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MINUTES = 30  # on a busy machine; three on an idle one


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def follow(page: Path, desk: Path, *changes: tuple[str, str]) -> str:
    """Run all commands of a page one after the other, and give what they said.  The endpoint takes a free port.

    ``changes``: what stands there, and what shall instead.
    """
    port = free_port()
    script = "\n".join(BLOCK.findall(page.read_text(encoding="utf-8")))
    for old, new in changes:
        assert old in script
        script = script.replace(old, new)
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


SMALL = {  # of the study files of both alloys, to be done in a minute
    "trials = 30": "trials = 12",  # TPE needs some
    "folds = 5 ": "folds = 2 ",
    "initializations = 5": "initializations = 2",
    "epochs = 100": "epochs = 2",
    'methods = ["random", "optuna", "rfr", "naswot"]': 'methods = ["random"]',
    "splits = 60": "splits = 2",
    "curve = [10, 20, 40]": "curve = [20]",
}


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("name, sites", [("CuAu", "CuAu_L10.xyz"), ("FePt", "FePt_B2.xyz")])
def test_files_of_an_alloy_become_tables_a_served_model_and_a_temperature(tmp_path, name, sites):
    """From a table in the layout that others have, of the rows of the example."""
    examples = ROOT / "examples" / "alloys"
    data = AlloyData.open(str(examples / name))
    table = pa.table(
        {
            "species": data.all.species.tolist(),
            "energy": data.all.energy / RYDBERG,
            "charge": data.all.charge.tolist(),
            "moment": data.all.moment.tolist(),
            "converged": data.all.converged,
        }
    )
    said = {"symbols": ",".join(data.info.symbols), "code": data.info.code}
    said["pure_energies_Ry"] = json.dumps([e * 32 / RYDBERG for e in data.info.pure_energies])
    pq.write_table(table.replace_schema_metadata(said), tmp_path / f"{name}.parquet")
    shutil.copy(examples / sites, tmp_path)
    study = (examples / f"{name}.toml").read_text(encoding="utf-8")
    for old, new in SMALL.items():
        assert old in study
        study = study.replace(old, new)
    study = re.sub(r"budget = \{ configurations = .*?\}", "budget = { configurations = 3000 }", study)
    (tmp_path / f"{name}.toml").write_text(study, encoding="utf-8")
    small = ("--rounds 500", "--rounds 100 --draws 2")
    said_by = follow(ROOT / "docs" / "alloys.md", tmp_path, ("CuAu_L10.xyz", sites), ("CuAu", name), small)
    assert re.search(r"order-disorder transition at \d+ K", said_by)
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert len(answer["charge"]) == 32
    report = (tmp_path / "comparisons" / name / "report.md").read_text(encoding="utf-8")
    for row in ("multi EC", "single E", "linear", "shell model"):
        assert row in report
