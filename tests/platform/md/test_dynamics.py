import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import ase.io
import numpy as np
import pandas
import pyarrow as pa
import pytest
from ase.build import bulk

from dftune.platform.md import dynamics
from dftune.platform.md.dynamics import resume_md, run_md
from dftune.platform.md.folder import held
from dftune.platform.md.integrators import temperature_of
from dftune.tests.emt_model import emt_model
from dftune.trainables.errors import InputError

HOT = {"temperature": 600.0, "timestep": 2.0, "interval": 4}
ENSEMBLES = {
    "nve": HOT,
    "nvt": HOT | {"thermostat_time": 40.0},
    "npt": HOT | {"thermostat_time": 40.0, "barostat_time": 400.0, "pressure": 1.0},
}


@pytest.fixture
def crystal():
    return bulk("Al", cubic=True, a=4.0)


def table(path):
    return pandas.read_csv(path / "thermo.csv")


def files_of(path):
    return {p.name: p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


@pytest.fixture
def each_step(monkeypatch):
    """Each step is brought to the disk."""
    monkeypatch.setattr("dftune.platform.md.dynamics.BETWEEN", 0.0)


class Killed(Exception):
    """A run that ends between two steps."""


class KillAt:
    """A progress that ends the run after a step."""

    def __init__(self, step):
        self.step, self.said = step, []

    def say(self, text):
        self.said.append(text)

    def update(self, stage, done, total, text=""):
        if done == self.step:
            raise Killed

    def end(self, stage):
        pass

    close = lambda self: None  # noqa: E731


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(crystal, ensemble, each_step, tmp_path):
    """At step 7, with half a step in its files, and at step 11."""
    asked = {"ensemble": ensemble, "steps": 16, "dos": True, "stress": True, **ENSEMBLES[ensemble]}
    run_md(emt_model(), crystal, tmp_path / "whole", **asked)
    with pytest.raises(Killed):
        run_md(emt_model(), crystal, tmp_path / "parts", progress=KillAt(7), **asked)
    for name in ("trajectory.xyz", "thermo.csv", "dos.arrow"):
        with (tmp_path / "parts" / name).open("ab") as file:
            file.write(b"of a step that nobody knows of")
    with pytest.raises(Killed):
        resume_md(tmp_path / "parts", model=emt_model(), progress=KillAt(11))
    resume_md(tmp_path / "parts", model=emt_model())
    assert files_of(tmp_path / "whole") == files_of(tmp_path / "parts")
    assert table(tmp_path / "parts")["step"].tolist() == list(range(17))
    with pa.ipc.open_stream(tmp_path / "whole" / "dos.arrow") as stream:
        held_edges = {row["dos"][1] for row in stream.read_all().to_pylist()}
    assert (len(held_edges) > 1) == (ensemble == "npt"), "a cell that changes gets another grid on the way"


def test_a_run_of_an_earlier_release_keeps_its_columns(crystal, monkeypatch, tmp_path):
    """A column that it did not know would shift those behind it."""
    row = dynamics._Dynamics._row
    with monkeypatch.context() as earlier:
        earlier.setattr(dynamics._Dynamics, "_row", lambda *of: {k: v for k, v in row(*of).items() if "_std" not in k})
        run_md(emt_model(), crystal, tmp_path / "run", steps=3, **HOT)
    resume_md(tmp_path / "run", model=emt_model(), steps=6)
    run_md(emt_model(), crystal, tmp_path / "whole", steps=6, **HOT)
    pandas.testing.assert_frame_equal(
        table(tmp_path / "run"), table(tmp_path / "whole").drop(columns="free_energy_std [eV]")
    )


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_what_exact_integration_conserves_hardly_changes(crystal, ensemble, tmp_path):
    settings = ENSEMBLES[ensemble] | {"timestep": 1.0}
    result = run_md(emt_model(), crystal, tmp_path / "run", ensemble=ensemble, steps=30, **settings)
    found = table(tmp_path / "run")
    # eV/atom; measured: 0.00007 to 0.0005, and the potential energy changes by 0.05.
    assert np.ptp(found["conserved [eV]"]) / 4 < 2e-3
    assert np.ptp(found["free_energy [eV]"]) / 4 > 0.02
    assert abs(result.drift) < 2e-3


@pytest.mark.slow
def test_the_mean_temperature_is_the_one_asked_for(tmp_path):
    """ASE counts the centre of mass as degrees of freedom; 4 atoms would be a third too hot."""
    for ensemble in ("nvt", "npt"):
        settings = {"temperature": 300.0, "timestep": 4.0, "thermostat_time": 40.0, "interval": 1000}
        run_md(
            emt_model(), bulk("Al", cubic=True, a=4.0), tmp_path / ensemble, ensemble=ensemble, steps=900, **settings
        )
        # The mean over 3.6 ps of 9 degrees of freedom; its standard error is about 20 K.
        assert table(tmp_path / ensemble)["temperature [K]"][100:].mean() == pytest.approx(300, abs=45)


def test_frames_dos_and_table_hold_what_was_predicted(crystal, tmp_path):
    run_md(emt_model(), crystal, tmp_path / "run", ensemble="npt", steps=8, dos=True, **ENSEMBLES["npt"])
    frames, rows = ase.io.read(tmp_path / "run" / "trajectory.xyz", ":"), table(tmp_path / "run")
    assert [frame.info["step"] for frame in frames] == [0, 4, 8]
    for frame in frames:
        again = emt_model().predict(frame, forces="mean", stress=True)
        row = rows.loc[frame.info["step"]]
        assert frame.get_potential_energy() == pytest.approx(again.free_energy, abs=1e-6)
        assert row["free_energy [eV]"] == pytest.approx(again.free_energy, abs=1e-6)
        np.testing.assert_allclose(frame.get_forces(), again.forces, atol=1e-6)
        assert row["temperature [K]"] == pytest.approx(temperature_of(frame), rel=1e-5)
        thermal = 2 * frame.get_kinetic_energy() / (3 * frame.get_volume())
        pressure = (thermal - np.trace(again.stress) / 3) * 160.21766
        assert row["pressure [GPa]"] == pytest.approx(pressure, abs=1e-4)
        assert row["distance"] == pytest.approx(again.distance, abs=1e-6)
    with pa.ipc.open_stream(tmp_path / "run" / "dos.arrow") as stream:
        assert json.loads(stream.schema.metadata[b"energy"]) == [0.0, 1.0]
        assert [row["dos"] for row in stream.read_all().to_pylist()] == [
            pytest.approx([rows["distance"][step], 4.0], abs=0.1) for step in (0, 4, 8)
        ]


def test_equal_seeds_give_equal_runs_and_others_do_not(crystal, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run_md(emt_model(), crystal, tmp_path / name, steps=3, seed=seed, **HOT)
    texts = [(tmp_path / name / "thermo.csv").read_text() for name in "abc"]
    assert texts[0] == texts[1] != texts[2]


def test_a_run_goes_on_to_more_steps(crystal, tmp_path):
    run_md(emt_model(), crystal, tmp_path / "long", steps=9, **HOT)
    run_md(emt_model(), crystal, tmp_path / "run", steps=4, **HOT)
    assert resume_md(tmp_path / "run", model=emt_model(), steps=9).steps == 9
    assert files_of(tmp_path / "run") == files_of(tmp_path / "long")


def test_velocities_of_the_structure_are_kept_with_nve_alone(crystal, tmp_path):
    with pytest.raises(InputError, match="give a temperature: the structure has no velocities"):
        run_md(emt_model(), crystal, tmp_path / "run", ensemble="nve", steps=2)
    run_md(emt_model(), crystal, tmp_path / "first", ensemble="nve", steps=4, **HOT)
    last = tmp_path / "first" / "trajectory.xyz"
    run_md(emt_model(), last, tmp_path / "second", ensemble="nve", steps=1, timestep=2.0)
    ended, began = table(tmp_path / "first").iloc[-1], table(tmp_path / "second").iloc[0]
    assert began["temperature [K]"] == pytest.approx(ended["temperature [K]"], rel=1e-6)


def test_a_supercell_is_repeated_and_one_atom_refused(tmp_path):
    atom = bulk("Al", a=4.0)
    with pytest.raises(InputError, match="one atom alone does not move"):
        run_md(emt_model(), atom, tmp_path / "run", steps=1, **HOT)
    run_md(emt_model(), atom, tmp_path / "run", steps=1, repeat=(2, 2, 2), **HOT)
    assert len(ase.io.read(tmp_path / "run" / "trajectory.xyz")) == 8


def test_extrapolation_warns_stops_or_keeps_the_frame(crystal, tmp_path):
    """In 8 steps atoms come nearer than 2.75 Å; a label is written with a frame, every four steps."""
    model, progress = emt_model(shortest=2.75), KillAt(None)
    warned = run_md(model, crystal, tmp_path / "warn", steps=12, progress=progress, **HOT)
    outside = table(tmp_path / "warn")["outside_training"]
    first = int(outside.idxmax())
    assert first > 0
    assert (warned.steps, warned.outside, warned.stopped) == (12, outside.sum(), None)
    (said,) = progress.said
    assert said.startswith(f"step {first} is unlike the training: two atoms are 2.7")

    stopped = run_md(model, crystal, tmp_path / "stop", steps=12, on_extrapolation="stop", **HOT)
    assert stopped.steps == first
    assert stopped.stopped.startswith(f"step {first} is unlike the training: two atoms are")
    assert resume_md(tmp_path / "stop", model=model, on_extrapolation="warn").steps == 12
    assert table(tmp_path / "stop").equals(table(tmp_path / "warn"))

    run_md(model, crystal, tmp_path / "label", steps=12, on_extrapolation="label", **HOT)
    kept = sorted((tmp_path / "label" / "label").iterdir())
    expected = [step for step in range(0, 13, 4) if outside[step]]
    assert [ase.io.read(p).info["step"] for p in kept] == expected
    assert expected
    assert "two atoms are" in ase.io.read(kept[0]).info["reason"]


def test_an_extrapolation_counts_across_a_kill(crystal, each_step, tmp_path):
    model = emt_model(shortest=2.75)
    whole = run_md(model, crystal, tmp_path / "whole", steps=12, **HOT)
    with pytest.raises(Killed):
        run_md(model, crystal, tmp_path / "run", steps=12, progress=KillAt(9), **HOT)
    assert resume_md(tmp_path / "run", model=model).outside == whole.outside > 0


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "nvt needs a temperature"),
        ({"temperature": 300.0, "ensemble": "nph"}, "ensemble: input should be 'nve', 'nvt' or 'npt'"),
        ({"temperature": -1.0}, "temperature: input should be greater than 0"),
        ({"temperature": 300.0, "steps": 0}, "steps: input should be greater than or equal to 1"),
        ({"temperature": float("nan")}, "temperature: input should be"),
        ({"temperature": 300.0, "pressure": 1.0}, "'pressure' has no use with ensemble 'nvt'"),
        ({"ensemble": "nve", "thermostat_time": 50.0}, "'thermostat_time' has no use with ensemble 'nve'"),
        ({"temperature": 300.0, "thermostat_time": 5.0}, "less than ten steps of 1 fs"),
        ({"temperature": 300.0, "friction": 1.0}, "friction: extra inputs are not permitted"),
        ({"temperature": 300.0, "electronic_temperature": 5.0}, "too cold"),
    ],
)
def test_settings_that_will_not_do_are_refused_before_anything_is_written(crystal, settings, says, tmp_path):
    with pytest.raises(InputError, match=says):
        run_md(emt_model(), crystal, tmp_path / "run", **settings)
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_stress_is_refused_for_npt(crystal, tmp_path):
    model = emt_model(refuses_stress="the training held one volume")
    with pytest.raises(InputError, match="no npt with this model: the training held one volume"):
        run_md(model, crystal, tmp_path / "run", ensemble="npt", temperature=300.0)
    with pytest.raises(InputError, match="no pressure of this model: the training held one volume"):
        run_md(model, crystal, tmp_path / "run", stress=True, temperature=300.0)


def test_a_trained_surrogate_of_one_volume_refuses_npt(model, crystal, tmp_path):
    with pytest.raises(InputError, match="no npt with this model: the training held one volume an atom"):
        run_md(model, crystal, tmp_path / "run", ensemble="npt", temperature=300.0)


def test_structures_that_cannot_move_are_refused(crystal, tmp_path):
    from ase.constraints import FixAtoms

    copper = bulk("Cu", cubic=True)
    with pytest.raises(InputError, match="knows Al but not Cu"):
        run_md(emt_model(), copper, tmp_path / "run", **HOT)
    crystal.set_constraint(FixAtoms([0]))
    with pytest.raises(InputError, match="holds atoms fixed"):
        run_md(emt_model(), crystal, tmp_path / "run", **HOT)


def test_dynamics_that_explode_end_with_the_step(crystal, tmp_path):
    with pytest.raises(InputError, match=r"step \d+ cannot be predicted: .* apart.*; a smaller timestep"):
        run_md(emt_model(), crystal, tmp_path / "run", ensemble="nve", temperature=1e5, timestep=20.0)


def test_folders_that_will_not_do_are_refused(crystal, tmp_path):
    path = tmp_path / "run"
    with pytest.raises(InputError, match="no run of molecular dynamics"):
        resume_md(path, model=emt_model())
    run_md(emt_model(), crystal, path, steps=4, **HOT)
    with pytest.raises(InputError, match="exists already; go on with `dftune md resume`"):
        run_md(emt_model(), crystal, path, steps=4, **HOT)
    with pytest.raises(InputError, match="begun with a model in memory"):
        resume_md(path)
    with pytest.raises(InputError, match="begun with another model"):
        resume_md(path, model=emt_model(shortest=2.0))
    with held(path), pytest.raises(InputError, match="another process runs it"):
        resume_md(path, model=emt_model())
    (path / "state.json").write_text('{"step": 4}')
    with pytest.raises(InputError, match=r"state.json: damaged \(cell: field required\)"):
        resume_md(path, model=emt_model())


def test_a_run_without_its_state_says_that_it_begins_again(crystal, tmp_path):
    path, told = tmp_path / "run", KillAt(99)
    run_md(emt_model(), crystal, path, steps=4, progress=told, **HOT)
    before = (path / "trajectory.xyz").read_bytes()
    assert not told.said
    (path / "state.json").unlink()
    resume_md(path, model=emt_model(), progress=told)
    assert told.said == [f"{path}: has no state.json, as before the first write; the run begins again"]
    assert (path / "trajectory.xyz").read_bytes() == before


@pytest.mark.parametrize("name", ["file/run", "n" * 300])
def test_a_folder_that_cannot_be_made_is_said(name, crystal, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written \((Not a directory|File name too long)\)"):
        run_md(emt_model(), crystal, tmp_path / name, steps=4, **HOT)


def test_a_trajectory_that_cannot_be_appended_to_is_refused(crystal, tmp_path):
    path = tmp_path / "run"
    run_md(emt_model(), crystal, path, steps=4, **HOT)
    trajectory = path / "trajectory.xyz"
    content = trajectory.read_bytes()
    trajectory.write_bytes(content[:-10])
    with pytest.raises(
        InputError, match=r"trajectory.xyz: cannot be appended to: it has [\d,]+ bytes, and [\d,]+ when"
    ):
        resume_md(path, model=emt_model(), steps=8)
    trajectory.unlink()
    trajectory.mkdir()
    with pytest.raises(InputError, match=r"trajectory.xyz: cannot be appended to"):
        resume_md(path, model=emt_model(), steps=8)
    trajectory.rmdir()
    trajectory.write_bytes(content)
    assert resume_md(path, model=emt_model(), steps=8).steps == 8


def test_a_file_overwritten_by_as_many_bytes_is_refused(crystal, tmp_path):
    """``state.json`` of a run of before has no checksums, and the run goes on."""
    path = tmp_path / "run"
    run_md(emt_model(), crystal, path, steps=4, dos=True, **HOT)
    dos = path / "dos.arrow"
    content = dos.read_bytes()
    dos.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    with pytest.raises(InputError, match=r"dos.arrow: cannot be appended to: it was changed since"):
        resume_md(path, model=emt_model(), steps=8)
    dos.write_bytes(content + b"of a step that nobody knows of")
    assert resume_md(path, model=emt_model(), steps=8).steps == 8
    state = json.loads((path / "state.json").read_text())
    assert state.pop("sums")["dos.arrow"] == hashlib.sha256(dos.read_bytes()).hexdigest()
    (path / "state.json").write_text(json.dumps(state))
    assert resume_md(path, model=emt_model(), steps=9).steps == 9


LOOP = """
import sys
from ase.build import bulk
from dftune.platform.md.dynamics import run_md
from dftune.tests.emt_model import emt_model
asked = {"steps": 100000, "temperature": 600.0, "timestep": 2.0, "interval": 4}
run_md(emt_model(), bulk("Al", cubic=True, a=4.0), sys.argv[1], **asked)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_a_run_that_goes_on(crystal, tmp_path):
    path = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", LOOP, path])
    until = time.monotonic() + 60
    while not (path / "state.json").exists() and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = json.loads((path / "state.json").read_text())["step"]
    assert (path / "thermo.csv").read_bytes().count(b"\n") > done
    resume_md(path, model=emt_model(), steps=done + 9)
    run_md(emt_model(), crystal, tmp_path / "whole", steps=done + 9, **HOT)
    assert files_of(path)["thermo.csv"] == files_of(tmp_path / "whole")["thermo.csv"]
    assert files_of(path)["trajectory.xyz"] == files_of(tmp_path / "whole")["trajectory.xyz"]
