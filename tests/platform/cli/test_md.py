"""`dftune md` with a model that no study had to find."""

import json
import secrets
import threading

import ase.build
import ase.io
import pytest
from ase.calculators.socketio import SocketIOCalculator
from click.testing import CliRunner

from dftune.platform.cli.main import cli
from dftune.tests.platform.cli.commands import run as run_command


@pytest.fixture
def files(model, tmp_path):
    """A model folder and a structure."""
    model.save(tmp_path / "al.model")
    ase.io.write(tmp_path / "al.xyz", ase.build.bulk("Al", cubic=True, a=4.0), format="extxyz")
    return tmp_path / "al.model", tmp_path / "al.xyz"


def md(*arguments, code=0):
    result = CliRunner().invoke(cli, ["md", *map(str, arguments)], prog_name="dftune")
    assert result.exit_code == code, result.output
    return result


def test_a_run_stops_is_resumed_and_says_how_it_went(files, tmp_path):
    run = tmp_path / "run"
    asked = ("--temperature", 300, "--timestep", 3, "--steps", 3, "--interval", 1, "--dos", "--output", run)
    stopped = md(*files, *asked, "--on-extrapolation", "stop", code=1)
    assert f"`dftune md resume {run} --on-extrapolation warn` goes on all the same" in stopped.stderr
    assert "step 0 is unlike the training: 16 Å³ an atom" in stopped.stderr
    found = json.loads(md("resume", run, "--on-extrapolation", "label", "--json").stdout)
    assert (found["steps"], found["of"], found["stopped"]) == (3, 3, None)
    assert found["outside"] == 4
    assert found["units"] == {"drift": "eV/atom"}
    assert len(ase.io.read(run / "trajectory.xyz", ":")) == 4
    assert len(list((run / "label").iterdir())) == 3
    again = md("resume", run).stdout
    assert "3 of 3 steps in" in again
    assert "4 of 4 structures, the first one included, are unlike the training" in again
    assert "exists already" in md("run", *files, "--temperature", 300, "--output", run, code=1).stderr


def test_what_will_not_do_is_said_in_one_line(files, tmp_path):
    assert md(*files, code=1).stderr == "Error: nvt needs a temperature\n"
    assert "no npt with this model" in md(*files, "--ensemble", "npt", "--temperature", 300, code=1).stderr
    assert "not a model" in md(tmp_path / "none", files[1], "--temperature", 300, code=1).stderr
    assert "no run of molecular dynamics" in md("resume", tmp_path, code=1).stderr
    assert "No such option '--tempo'" in md(*files, "--tempo", 3, code=2).stderr
    assert "is no address of an i-PI server" in md("ipi", *files, "localhost", code=1).stderr


def test_a_server_of_ase_gets_forces_from_the_command(files, model):
    shown, name = [], f"dftune-{secrets.token_hex(8)}"
    arguments = ["md", "ipi", *map(str, files), f"unix:{name}", "--no-virial"]
    with SocketIOCalculator(unixsocket=name, timeout=60) as server:
        command = threading.Thread(target=lambda: shown.append(CliRunner().invoke(cli, arguments)), daemon=True)
        command.start()
        atoms = ase.io.read(files[1])
        atoms.calc = server
        assert atoms.get_potential_energy() == pytest.approx(model.predict(atoms).free_energy, abs=1e-6)
        server.server.protocol.end()
        command.join(60)
    assert shown[0].exit_code == 0
    assert shown[0].stdout == "1 structures answered\n"


@pytest.mark.parametrize("address", ["unix:none", "none"])
def test_serve_gives_forces_to_a_server_as_the_command_of_dynamics_does(files, address):
    """It asks for the virial, which this model of one volume does not have: both refuse that, or a wrong address."""
    model, structure = files
    of_md = md("ipi", model, structure, address, code=1).stderr
    assert run_command("serve", model, "--ipi", structure, address, code=1).stderr == of_md
    assert ("--no-virial" in of_md, "no address of an i-PI server" in of_md) == (address != "none", address == "none")
    assert "--ipi takes one MODEL" in run_command("serve", "a", "b", "--ipi", structure, address, code=2).stderr


def test_a_distilled_potential_says_its_errors_and_those_of_the_surrogate(files, model, tmp_path):
    asked = (*files, tmp_path / "al.snap", "--number", 6, "--rattle", 0.05, "--two-j-max", 2, "--seed", 1)
    shown = md("distill", *asked)
    assert "  pair_coeff * * Al.snapcoeff Al.snapparam Al" in shown.stdout
    assert "  test        1 frames: " in shown.stdout
    assert sorted(p.name for p in (tmp_path / "al.snap").iterdir()) == [
        "Al.snapcoeff",
        "Al.snapparam",
        "distilled.json",
    ]
    found = json.loads(md("judge", tmp_path / "al.snap", files[1], "--json").stdout)
    assert (found["frames"], found["stress_mae"]) == (1, None), "the model is of one volume"
    assert found["units"]["energy_mae"] == "meV/atom"
    assert "exists already" in md("distill", *asked, code=1).stderr
