"""A driver that is killed or stopped in mid-study loses no finished trial."""

import os
import signal
import sqlite3
import subprocess
import sys
import time

from dftune import Study


def write_spec(folder, dataset, **changes):
    values = {"method": "random", "epochs": 40, **changes}
    text = f"""
name = "faulty"
dataset = "{dataset.path}"
method = "{values["method"]}"
trials = {values["trials"]}
initializations = 1
descriptors = {{ cutoff = 4.0, two_j_max = 4 }}
[space]
width = {{ type = "int", low = 4, high = 32, log = true }}
[config]
n_layers = 1
epochs = {values["epochs"]}
patience = 1000
batch_size = 256
"""
    (folder / "faulty.toml").write_text(text)
    return folder / "faulty.toml"


def start(*arguments, cwd):
    return subprocess.Popen(
        [sys.executable, "-m", "dftune.platform.cli.main", *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a signal to its group reaches Ray's processes too, as Ctrl-C in a terminal does
    )


def finished(folder) -> dict[int, tuple]:
    """Finished trials as any SQLite client sees them, without waiting for the process that writes."""
    try:
        with sqlite3.connect(f"file:{folder / 'ledger.db'}?mode=ro", uri=True) as database:
            rows = database.execute(
                "SELECT t.number, v.value, t.datetime_complete FROM trials t JOIN trial_values v USING (trial_id) "
                "WHERE t.state = 'COMPLETE'"
            ).fetchall()
    except sqlite3.OperationalError:
        return {}
    return {number: rest for number, *rest in rows}


def wait_for(condition, process, seconds=600.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1][-2000:]
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


def test_a_driver_killed_in_mid_study_loses_no_finished_trial(described, tmp_path):
    spec, folder = write_spec(tmp_path, described, trials=4, epochs=8), tmp_path / "studies" / "faulty"
    driver = start("study", "run", spec, cwd=tmp_path)
    wait_for(lambda: len(finished(folder)) >= 1, driver)
    driver.kill()
    driver.wait()
    before = finished(folder)
    assert len(before) < 4, "killed in the middle of the study"

    resumed = start("study", "resume", "faulty", cwd=tmp_path)
    out, err = resumed.communicate(timeout=600)
    assert resumed.returncode == 0, err
    after = finished(folder)
    assert {number: after[number] for number in before} == before, "finished trials are as they were"
    assert sorted(after) == list(range(4)), "each trial ran to its end, none twice"
    assert "chosen: trial" in out

    undisturbed = Study(
        "undisturbed",
        described,
        studies=tmp_path,
        **Study.open("faulty", tmp_path / "studies").spec.model_dump(exclude={"name", "dataset"}),
    )
    undisturbed.run()
    disturbed = Study.open("faulty", tmp_path / "studies")
    assert [(t.config, t.seed, t.value) for t in undisturbed.trials()] == [
        (t.config, t.seed, t.value) for t in disturbed.trials()
    ], "equal seeds give equal studies"
    assert undisturbed.conclusion().trial == disturbed.conclusion().trial
    assert undisturbed.conclusion().accuracy == disturbed.conclusion().accuracy


def test_ctrl_c_stops_cleanly_and_tells_how_to_go_on(described, tmp_path):
    spec, folder = write_spec(tmp_path, described, trials=200), tmp_path / "studies" / "faulty"
    driver = start("study", "run", spec, cwd=tmp_path)
    wait_for(lambda: len(finished(folder)) >= 1, driver)
    os.killpg(driver.pid, signal.SIGINT)
    _, err = driver.communicate(timeout=600)
    assert driver.returncode == 1
    assert err.splitlines()[-1] == "Error: stopped; finished trials are kept, go on with `dftune study resume faulty`"
    assert "Traceback" not in err
    trials = Study.open("faulty", tmp_path / "studies").trials()
    assert {t.state for t in trials} <= {"finished", "running"}
    assert not list(folder.rglob("*.part"))


def test_ctrl_c_twice_kills_at_once_and_leaves_nothing_half_written(described, tmp_path):
    spec, folder = write_spec(tmp_path, described, trials=200, epochs=4000), tmp_path / "studies" / "faulty"
    driver = start("study", "run", spec, cwd=tmp_path)
    wait_for(lambda: (folder / "ledger.db").exists() and Study.open("faulty", tmp_path / "studies").trials(), driver)
    os.killpg(driver.pid, signal.SIGINT)
    for line in driver.stderr:
        if "stopping" in line:
            break
    os.killpg(driver.pid, signal.SIGINT)
    rest = driver.stderr.read()
    driver.wait(timeout=600)
    assert driver.returncode == 1
    assert "Traceback" not in rest
    assert "killed; go on with `dftune study resume faulty`" in rest or "Error: stopped;" in rest
    assert not list(folder.rglob("*.part"))
    assert Study.open("faulty", tmp_path / "studies").conclusion() is None
