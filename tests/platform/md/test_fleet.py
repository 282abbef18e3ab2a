"""Fleets of runs: their means, the free energy along isotherms, and that they go on."""

import csv
import shutil
from dataclasses import replace

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from click.testing import CliRunner

from dftune.platform.cli.main import cli
from dftune.platform.md.dynamics import run_md
from dftune.platform.md.fleet import Fleet, Point, _Task, means, run_fleet, with_helmholtz, work
from dftune.platform.md.folder import THERMO
from dftune.platform.model.model import Model
from dftune.tests.emt_model import emt_model
from dftune.trainables.data.structure_distance import atoms_of
from dftune.trainables.errors import InputError
from dftune.trainables.progress import Silent

COLD = {"temperature": 4.0, "steps": 25, "timestep": 4.0, "interval": 1000, "stress": True, "progress": Silent()}


def test_the_work_of_the_pressure_is_the_change_of_energy_where_it_is_cold(tmp_path):
    points = []
    for ratio in (0.94, 0.97, 1.0, 1.03):
        atoms = bulk("Al", cubic=True)
        atoms.set_cell(atoms.cell * ratio ** (1 / 3), scale_atoms=True)
        run_md(emt_model(), atoms, tmp_path / f"{ratio}", **COLD)
        found = means(tmp_path / f"{ratio}" / THERMO, len(atoms), 0.2)
        points.append(Point(COLD["temperature"], atoms.get_volume() / len(atoms), **found))
    work = [point.helmholtz for point in with_helmholtz(points)]
    energy = [point.free_energy - points[0].free_energy for point in points]
    assert work[0] == 0
    assert abs(np.array(energy)).max() > 0.008
    assert work == pytest.approx(energy, abs=1e-3)  # eV/atom: entropy of 4 K, and the trapezoidal rule
    (rest,) = Fleet(tmp_path, points).at_rest().values()
    assert rest == pytest.approx(15.93, abs=0.1)  # ASE's EMT: a = 3.994 Å


def test_errors_are_those_of_blocks_and_of_their_sum():
    rng = np.random.default_rng(0)
    points = [Point(300.0, v, free_energy=0.0, pressure=p, pressure_error=0.1) for v, p in ((10, 2), (11, 1), (13, -1))]
    found = with_helmholtz(points)
    per = 1 / 160.21766208
    assert [p.helmholtz for p in found] == pytest.approx([0.0, -1.5 * per, -1.5 * per])
    weights = np.array([0.5, 1.5, 1.0])
    assert found[-1].helmholtz_error == pytest.approx(0.1 * per * np.linalg.norm(weights))
    drawn = [with_helmholtz([replace(p, pressure=p.pressure + 0.1 * rng.normal()) for p in points]) for _ in range(400)]
    assert np.std([some[-1].helmholtz for some in drawn]) == pytest.approx(found[-1].helmholtz_error, rel=0.15)


def test_a_point_without_numbers_is_passed_over():
    points = [Point(300.0, 10.0, failure="no"), Point(300.0, 11.0, pressure=1.0), Point(300.0, 12.0, pressure=0.0)]
    found = with_helmholtz(points)
    assert [p.helmholtz for p in found] == [None, 0.0, pytest.approx(-0.5 / 160.21766208)]
    assert [p.volume for p in Fleet(None, found).isotherms()[300.0]] == [11.0, 12.0]


def test_a_task_of_one_cpu_predicts_with_one_thread(model_folder, al4, tmp_path, monkeypatch):
    asked = []

    def predict(*arguments, cpus, **keywords):
        asked.append(cpus)
        raise InputError("enough")

    monkeypatch.setattr("dftune.trainables.ldos.job.predict", predict)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(8))
    monkeypatch.setenv("OMP_NUM_THREADS", "4")  # set again after what the task sets
    model, settings = Model.open(model_folder), {"temperature": 300.0, "steps": 1}
    with pytest.raises(InputError, match="enough"):
        model.predict(atoms_of(al4["000"]))
    work(_Task(str(model_folder), model.kind, atoms_of(al4["000"]), tmp_path / "run", (1, 1, 1), settings, 0.0))
    assert asked == [4, 1]


@pytest.mark.usefixtures("local_ray")
def test_a_fleet_goes_on_and_says_what_it_found(model, al4, tmp_path):
    folder, structure = tmp_path / "al.model", tmp_path / "POSCAR"
    model.save(folder)
    ase.io.write(structure, atoms_of(al4["000"]), format="vasp")
    asked = {"temperatures": (300.0, 100.0), "volumes": (1.05,), "steps": 2, "progress": Silent()}
    first = run_fleet(folder, structure, tmp_path / "fleet", **asked)
    assert [(p.temperature, p.helmholtz, p.failure) for p in first.points] == [(100.0, None, None), (300.0, None, None)]
    assert [p.outside for p in first.points] == [1.0, 1.0], "no volume but one was taught"
    rows = list(csv.DictReader((tmp_path / "fleet" / "fleet.csv").open()))
    assert [float(row["free_energy [eV/atom]"]) for row in rows] == [p.free_energy for p in first.points]
    shutil.rmtree(tmp_path / "fleet" / "T300_V1.05")
    before = (tmp_path / "fleet" / "T100_V1.05" / "state.json").stat().st_mtime_ns
    again = run_fleet(folder, structure, tmp_path / "fleet", **asked)
    assert again.points == first.points
    assert (tmp_path / "fleet" / "T100_V1.05" / "state.json").stat().st_mtime_ns == before, "it was finished"
    first.draw(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    "options, message",
    [
        (["--temperatures", "300,x"], "'300,x' is not a list of numbers as in 300,600,900"),
        (["--temperatures", "0"], "temperatures: give one or more numbers above 0"),
        (["--temperatures", "300", "--volumes", "-1"], "volumes: give one or more numbers above 0"),
        (["--temperatures", "300", "--left-out", "1"], "the share left out of each run is from 0 to below 1"),
        (["--temperatures", "300", "--steps", "0"], "steps"),
        (["--temperatures", "300", "--output", "{strange}"], "holds mine, which is none of these runs"),
        (["--temperatures", "300", "--output", "{strange}/file"], "cannot be written (File exists)"),
        (["--temperatures", "300", "--output", "{strange}/file/fleet"], "cannot be written (Not a directory)"),
    ],
)
def test_what_is_no_fleet_is_refused(model_folder, al4, tmp_path, options, message):
    structure = tmp_path / "POSCAR"
    ase.io.write(structure, atoms_of(al4["000"]), format="vasp")
    (tmp_path / "strange" / "mine").mkdir(parents=True)
    (tmp_path / "strange" / "file").write_text("")
    given = [option.format(strange=tmp_path / "strange") for option in options]
    result = CliRunner().invoke(cli, ["md", "fleet", str(model_folder), str(structure), *given])
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert "Traceback" not in result.output


@pytest.fixture(scope="module")
def model_folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "al.model"
    model.save(folder)
    return folder


def test_ensembles_that_hold_something_else_are_refused(model_folder, al4, tmp_path):
    with pytest.raises(InputError, match="its ensemble is nvt; leave ensemble out"):
        run_fleet(model_folder, atoms_of(al4["000"]), tmp_path / "fleet", temperatures=[300], ensemble="nve")
