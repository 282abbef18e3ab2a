"""A dataset that grows: what is refused, what is remembered, and the whole of it by pw.x."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from dftune.platform.cli.main import cli
from dftune.platform.grow.dynamics import read_picked, write_picked
from dftune.platform.grow.figure import draw
from dftune.platform.grow.growth import Plan, _words
from dftune.platform.grow.record import Pick, Record, Result, Round
from dftune.tests.exported import upf
from dftune.trainables.data.generating.spec import GenerateError, GenerateSpec
from dftune.trainables.data.generating.structures import plan_structures
from dftune.trainables.errors import DatasetError

SPEC = """
[structure]
lattice = "fcc"
symbols = "Al"
a = 4.05
[[snapshots]]
train = 6
validation = {validation}
test = 1
displacement = [0.05, 0.1, 0.15]
[dft]
pseudopotentials = {{ Al = "{pseudo}" }}
cutoff_ry = 8
k_points = [2, 2, 2]
temperature = 6000
[ldos]
spacing = 0.8
width = 0.8
[run]
pw = "{pw}"
"""
PSEUDO = "/usr/share/espresso/pseudo/Al.pz-vbc.UPF"


def spec_at(folder: Path, validation: int = 1, pw: str = "pw.x", pseudo: str = PSEUDO) -> Path:
    (folder / "al.toml").write_text(SPEC.format(validation=validation, pw=pw, pseudo=pseudo))
    return folder / "al.toml"


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(cli, ["data", "grow", *map(str, arguments)], prog_name="dftune")
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.stderr
    return result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "options, validation, text",
    [
        (("--runs", 0), 1, "a budget of 0 DFT runs does not reach the first surrogate, which takes 2 validation and"),
        (("--runs", 5), 1, "give 6 runs or more"),
        (("--runs", 9, "--first", 7), 1, "6 training snapshots to choose the first 7 from"),
        (("--runs", 9, "--error", 0), 1, "an error of 0 meV/atom is never reached"),
        (("--runs", 9, "--each", 0), 1, "give 1 or more snapshots"),
        (("--runs", 9), 0, "no validation snapshot"),
    ],
)
def test_what_cannot_end_is_refused_before_anything_is_begun(options, validation, text, tmp_path):
    spec = spec_at(tmp_path, validation)
    assert text in refused(spec, tmp_path / "out", *options)
    assert sorted(tmp_path.iterdir()) == [spec]


def test_a_missing_program_is_said_before_anything_is_begun(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "Al.UPF").write_text(upf())
    spec = spec_at(tmp_path, pw="no-pw.x", pseudo=str(tmp_path / "Al.UPF"))
    assert "no-pw.x" in refused(spec, tmp_path / "out", "--runs", 9)
    assert not (tmp_path / "out").exists()


def result(runs: int, error: float | None) -> Result:
    errors = {"test": {"free_energy_mae": error}, "validation": {"free_energy_mae": 2.0}} if error is not None else {}
    return Result(runs=runs, atoms=4 * runs, train=runs - 2, cpu_seconds=30.0 * runs, errors=errors)


def record() -> Record:
    first = Round(picked=(Pick(id="001", reason="far"),), expected="", result=result(3, 5.0))
    second = Round(picked=(Pick(id="002", reason="farther"),), expected="much", failed={"002": "no"})
    return Record(spec_sha256="a" * 64, rounds=(first, second, first.model_copy(update={"result": result(4, None)})))


def test_a_record_is_read_as_it_was_written(tmp_path):
    assert Record.read(tmp_path, "a" * 64) == Record(spec_sha256="a" * 64)
    record().write(tmp_path)
    assert Record.read(tmp_path, "a" * 64) == record()
    with pytest.raises(DatasetError, match="begun with another specification"):
        Record.read(tmp_path, "b" * 64)
    (tmp_path / "grow.json").write_text("{")
    with pytest.raises(DatasetError, match="damaged"):
        Record.read(tmp_path, "a" * 64)


@pytest.mark.parametrize(
    "validation, test, tried, ended",
    [
        (2.0, 0.5, 5, None),
        (0.9, 5.0, 5, "ended: 0.9 meV/atom on the validation snapshots, 1 asked for"),
        (2.0, 0.5, 20, "ended: 20 DFT runs, and the budget is 20"),
    ],
)
def test_validation_snapshots_end_it_and_both_errors_are_said(validation, test, tried, ended):
    errors = {"validation": {"free_energy_mae": validation}, "test": {"free_energy_mae": test}}
    came = result(3, None).model_copy(update={"errors": errors})
    assert Plan(runs=20, error=1.0).ended(came, tried) == ended
    said = _words(came, 1.0)
    assert f"{validation:.3g} meV/atom on the validation snapshots, {test:.3g} meV/atom on the test" in said


def test_the_table_has_the_rounds_that_are_over():
    rows = record().rows()
    assert [row["runs"] for row in rows] == [3, 4]
    assert rows[0] | {"test_error": 5.0, "validation_error": 2.0, "cpu_minutes": 1.5} == rows[0]
    assert rows[1]["test_error"] is None


def test_the_figure_is_drawn_also_where_an_error_is_not_defined(tmp_path):
    draw([result(3, 5.0), result(5, None), result(7, 0.4)], 1.0, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 10_000


def test_structures_of_dynamics_are_kept_until_they_are_computed(tmp_path):
    planned = plan_structures(GenerateSpec.read(spec_at(tmp_path)))
    some = [replace(one, id=f"md-002-{n:03d}", ideal=16.5) for n, one in enumerate(planned[:2])]
    write_picked(tmp_path / "rounds", some)
    back = read_picked(tmp_path / "rounds")
    assert [(b.id, b.group, b.ideal, b.split) for b in back] == [(s.id, s.group, 16.5, "train") for s in some]
    assert [b.temperature for b in back] == [6000.0, 6000.0]
    for one, other in zip(back, some, strict=True):
        np.testing.assert_allclose(one.atoms.positions, other.atoms.positions, atol=1e-7)
        np.testing.assert_allclose(one.atoms.cell, other.atoms.cell, atol=1e-7)
    assert read_picked(tmp_path / "none") == []


def test_a_budget_counts_the_snapshots_that_judge():
    with pytest.raises(GenerateError, match="give 6 runs or more"):
        Plan(runs=5).refuse(*_split(validation=1, test=1, train=4))
    Plan(runs=6).refuse(*_split(validation=1, test=1, train=4))


def _split(**counts: int):
    spec = {
        "structure": {"lattice": "fcc", "symbols": "Al", "a": 4.05},
        "snapshots": [{**counts, "displacement": 0.1}],
        "dft": {"pseudopotentials": {"Al": "x"}, "cutoff_ry": 8, "k_points": [2, 2, 2], "temperature": 6000},
        "ldos": [{"spacing": 0.8, "width": 0.8}],
    }
    planned = plan_structures(GenerateSpec.of(spec))
    return [p for p in planned if p.split != "train"], [p for p in planned if p.split == "train"]


@pytest.mark.slow
@pytest.mark.ray
def test_a_dataset_grows_by_pw_x_and_goes_on_after_a_kill(tmp_path):
    """Two rounds, killed in the second one, and a third one with candidates of the surrogate's own dynamics.

    At last its surrogate selects for a dataset of its own.
    """
    assert shutil.which("pw.x"), "pw.x not found; apt-get install quantum-espresso quantum-espresso-data"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    small = ("descriptors.cutoff=4.0", "descriptors.two_j_max=4", "config.width=48", "initializations=1")
    command = [
        sys.executable,
        "-m",
        "dftune.platform.cli.main",
        "data",
        "grow",
        str(spec_at(tmp_path)),
        str(tmp_path / "out"),
    ]
    command += ["--first", "2", *(word for setting in small for word in ("--set", setting))]
    log = tmp_path / "log"
    with log.open("w") as stream:
        asked = {"stdout": stream, "stderr": stream, "env": environment | {"OMP_NUM_THREADS": "1"}}
        running = subprocess.Popen([*command, "--runs", "6"], **asked)
        ends = time.monotonic() + 900
        while "round 2: 2 of 4 candidates" not in log.read_text() and time.monotonic() < ends:
            assert running.poll() is None, log.read_text()[-2000:]
            time.sleep(0.1)
        running.send_signal(signal.SIGKILL)
        running.wait()
    before = json.loads((tmp_path / "out/grow.json").read_text())["rounds"]
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/runs/0*/done.json")}
    assert len(finished) >= 4

    made = subprocess.run(
        [*command, "--runs", "7", "--md", "600", "--md-steps", "10", "--json"],
        capture_output=True,
        text=True,
        env=environment | {"OMP_NUM_THREADS": "1"},
        timeout=1500,
    )
    assert made.returncode == 0, made.stderr[-2000:]
    found = json.loads(made.stdout)
    assert found["rounds"][0] == before[0]
    assert found["rounds"][1]["picked"] == before[1]["picked"]
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert [one["result"]["runs"] for one in found["rounds"]] == [4, 6, 7]
    assert all("known to" in pick["reason"] for one in found["rounds"][1:] for pick in one["picked"])
    assert "molecular dynamics at 600 K" in made.stderr
    assert "the budget is 7" in found["ended"]
    assert found["rounds"][2]["result"]["errors"]["test"]["free_energy_mae"] < 20
    assert (tmp_path / "out/growth.png").stat().st_size > 10_000

    more = [*command[:4], "generate", str(spec_at(tmp_path)), str(tmp_path / "more")]
    more += ["--select", found["model"], "--number", "1", "--json"]
    made = subprocess.run(more, capture_output=True, text=True, env=environment | {"OMP_NUM_THREADS": "1"}, timeout=900)
    assert made.returncode == 0, made.stderr[-2000:]
    assert "1 of 6 candidates; standard deviation of their free energies" in made.stderr
    (dataset,) = json.loads(made.stdout)["datasets"]
    assert len(dataset["snapshots"]) == 3
    assert {"006", "007"} < set(dataset["snapshots"])
