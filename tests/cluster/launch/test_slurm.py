"""Slurm scripts, run under stand-ins for Slurm."""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from dftune.cluster.launch.nodes import settings
from dftune.cluster.launch.slurm import SlurmJob, slurm_script
from dftune.tests.cluster.launch.stand_ins import NASTY, left_behind


def job(home, **changes) -> SlurmJob:
    values = {"study": str(home / "al4.toml"), "studies": str(home / "studies"), "venv": str(home), "cpus": 1}
    return SlurmJob(**{**values, "memory": 4, "scratch": str(home), "wait": 60, **changes})


def submit(home, launch, number=4711, **environment) -> subprocess.Popen:
    """What Slurm does with a script: run it on the first node of the allocation."""
    (home / "script").write_text(slurm_script(launch))
    slurm = {
        "SLURM_JOB_ID": str(number),
        "SLURM_JOB_NODELIST": ",".join(f"n{i}" for i in range(launch.nodes)),
        "SLURMD_NODENAME": "n0",
    }
    base = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "TUNE_"))}
    path = f"{home}/slurm:{os.environ['PATH']}"
    return subprocess.Popen(
        ["bash", str(home / "script")],
        cwd=home,
        env={**base, "HOME": str(home), "PATH": path, **slurm, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process, seconds=600):
    try:
        output, _ = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return process.returncode, output


def until(condition, seconds=600):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def log(path) -> list[dict]:
    return [yaml.safe_load(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("code", [0, 7])
def test_a_slurm_job_starts_ray_on_each_node_runs_the_study_and_ends_with_its_exit_code(stand_ins, code):
    home = stand_ins
    assert ended(submit(home, job(home, nodes=3, gpus=2), STUDY_CODE=str(code)))[0] == code
    address, *arguments = (home / "study").read_text().splitlines()
    assert address == f"127.0.0.1:{20000 + 4 * (4711 % 3000)}"
    assert arguments == ["study", "run", "--studies", f"{home}/studies", "--", f"{home}/al4.toml"]
    steps = sorted((home / "srun").read_text().splitlines())
    assert [s.split("--nodelist=")[1].split()[0] for s in steps] == ["n0", "n1", "n2"]
    assert all("--cpus-per-task=1 --gpus-per-node=2" in s for s in steps)
    head, *workers = log(home / "ray")
    assert {"--head", "--dashboard-host=127.0.0.1", "--num-cpus=1", "--num-gpus=2", "--block"} <= set(head["argv"])
    assert all(f"--address={address}" in w["argv"] for w in workers)
    assert len({next(a for a in n["argv"] if "temp-dir" in a) for n in (head, *workers)}) == 3
    for node in (head, *workers):
        assert settings().items() <= node.items(), "as an embedded Ray is started"
        assert (node["RAY_AUTH_MODE"], node["mode"], len(node["token"])) == ("token", 0o600, 64)
    assert len({n["token"] for n in (head, *workers)}) == 1
    assert list((home / ".dftune").iterdir()) == [], "the token ends with the job"
    assert list(home.glob("dftune-4711-*")) == [], "and so does what Ray wrote to scratch"
    assert left_behind(home) == []


def test_a_job_submitted_again_goes_on_with_the_study(stand_ins):
    home = stand_ins
    (home / "studies" / "al4").mkdir(parents=True)
    (home / "studies" / "al4" / "ledger.db").touch()
    assert ended(submit(home, job(home)))[0] == 0
    assert (home / "study").read_text().split()[1:] == ["study", "resume", "--studies", f"{home}/studies", "--", "al4"]


def test_a_signal_before_the_time_limit_stops_the_study_first_and_ray_after_it(stand_ins):
    home = stand_ins
    running = submit(home, job(home), STUDY_WAITS="1000")
    until((home / "study").exists)
    running.send_signal(signal.SIGTERM)
    assert ended(running)[0] == 9, "what the study ended with"
    assert (home / "signals").read_text() == "SIGINT\n", "once: a second one would kill it"
    assert (home / "ray-at-stop").read_text() != "0\n"
    assert left_behind(home) == []


def test_slurms_own_signal_to_the_steps_leaves_ray_to_the_study(stand_ins):
    home = stand_ins
    running = submit(home, job(home), STUDY_WAITS="1000")
    until((home / "study").exists)
    steps = subprocess.run(["pgrep", "-f", f"ray-node {home}/bin/"], capture_output=True, text=True).stdout.split()
    assert len(steps) == 2
    for pid in steps:
        os.kill(int(pid), signal.SIGTERM)
    time.sleep(0.5)
    assert sum("ray start" in line for line in left_behind(home)) >= 2
    running.send_signal(signal.SIGTERM)
    assert ended(running)[0] == 9
    assert left_behind(home) == []


@pytest.mark.parametrize("who, said", [("head", "Ray did not start on n0"), ("worker", "not all nodes joined")])
def test_a_study_does_not_begin_where_ray_does_not(stand_ins, who, said):
    home = stand_ins
    code, output = ended(submit(home, job(home, wait=3000), RAY_FAILS=who))  # long before the time-out
    assert code == 1
    assert said in output
    assert "exit code 3; it said at last:\nno Ray today" in output
    assert not (home / "study").exists()
    assert left_behind(home) == []


def test_a_missing_study_file_is_said_before_anything_starts(stand_ins):
    code, output = ended(submit(stand_ins, job(stand_ins, study="/nowhere/al4.toml")))
    assert (code, "/nowhere/al4.toml: no such file on" in output) == (2, True)
    assert not (stand_ins / "srun").exists()


def test_a_wrong_study_file_ends_the_job_before_anything_starts(stand_ins):
    code, _ = ended(submit(stand_ins, job(stand_ins), CHECK_CODE="1"))
    assert code == 1
    assert not (stand_ins / "srun").exists()


def test_names_with_quotes_and_spaces_are_names(stand_ins):
    home = stand_ins
    (home / NASTY).mkdir()
    shutil.copytree(home / "bin", home / NASTY / "bin")
    shutil.copy(home / "al4.toml", home / NASTY / "al4.toml")
    launch = job(home, study=f"{NASTY}/al4.toml", studies=f"{home}/{NASTY}/studies", venv=f"{home}/{NASTY}")
    code, output = ended(submit(home, launch, PYTHONUTF8="1"))
    assert code == 0, output
    assert (home / "study").read_text().splitlines()[4:] == [f"{home}/{NASTY}/studies", "--", f"{NASTY}/al4.toml"]
    assert list(home.rglob("pwned")) == []


SCRIPTS = {
    "plain": SlurmJob(study="al4.toml", venv="/opt/dftune"),
    "all": SlurmJob(
        study=NASTY,
        studies=NASTY,
        venv=f"/{NASTY}",
        nodes=64,
        gpus=8,
        hours=36.5,
        partition="gpu,long",
        account="phys-1",
        qos="high",
        scratch="/local scratch",
        port=31000,
        name="al-4",
    ),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_slurm_scripts_are_sound_bash(name, tmp_path):
    (tmp_path / "script").write_text(slurm_script(SCRIPTS[name]))
    subprocess.run(["bash", "-n", tmp_path / "script"], check=True)
    if checker := shutil.which("shellcheck"):
        found = subprocess.run([checker, "-S", "warning", tmp_path / "script"], capture_output=True, text=True)
        assert found.returncode == 0, found.stdout


def test_a_head_on_slurm_starts_no_server_for_rays_client(stand_ins):
    code, _ = ended(submit(stand_ins, job(stand_ins, nodes=1)))
    (head,) = log(stand_ins / "ray")
    assert code == 0
    assert head["argv"][1:3] == ["start", "--block"]
    assert [word for word in head["argv"] if "client" in word] == []
    assert head["RAY_agent_register_timeout_ms"] == "300000"


def test_slurm_is_asked_for_what_was_chosen():
    def asked(launch):
        lines = slurm_script(launch).splitlines()
        return {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")}

    common = {"ntasks-per-node=1", "cpus-per-task=8", "signal=B:TERM@180", "requeue", "open-mode=append", "no-kill"}
    common |= {"mem=32G"}
    assert asked(SCRIPTS["plain"]) == common | {"job-name=dftune", "nodes=2", "time=4:00:00"}
    chosen = {"job-name=al-4", "nodes=64", "time=36:30:00", "gpus-per-node=8"}
    assert asked(SCRIPTS["all"]) == common | chosen | {"partition=gpu,long", "account=phys-1", "qos=high"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"study": "a\n#SBATCH --uid=0"},
        {"study": "~/al4.toml"},
        {"partition": "gpu\n#SBATCH --uid=0"},
        {"partition": "gpu --uid=0"},
        {"account": "-x"},
        {"venv": "relative"},
        {"venv": "/a\0b"},
        {"name": "Al4"},
        {"nodes": 0},
        {"nodes": 10**9},
        {"hours": float("nan")},
        {"port": 65535},
        {"scratch": "/" + "x" * 40},
        {"wall_time": 3},
    ],
)
def test_what_would_not_stay_where_it_belongs_is_refused(wrong):
    with pytest.raises(ValidationError):
        SlurmJob(**{"study": "al4.toml", "venv": "/opt/dftune", **wrong})


STUDY = """
name = "quick"
dataset = "{dataset}"
trials = 4
method = "random"
initializations = 1
descriptors = {{ cutoff = 4.0, two_j_max = 4 }}
[space]
width = {{ type = "int", low = 4, high = 16 }}
[config]
n_layers = 1
epochs = 6
batch_size = 256
learning_rate = 3e-3
"""


def listening(port) -> set[str]:
    """Addresses, hexadecimal, on which somebody listens at the port."""
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}


@pytest.mark.ray
@pytest.mark.slow
def test_a_slurm_job_runs_a_study_on_a_real_ray_of_two_nodes_and_goes_on_with_it_after_a_stop(stand_ins, fresh_al4):
    home, number = stand_ins, os.getpid()
    (home / "al4.toml").write_text(STUDY.format(dataset=fresh_al4.path))
    launch = job(home, venv=sys.prefix, wait=600)
    running = submit(home, launch, number)
    said = []
    for line in running.stdout:
        said.append(line)
        if "trial 0:" in line:
            break
    dashboard = 20000 + 4 * (number % 3000) + 1
    assert listening(dashboard) == {"0100007F"}, "127.0.0.1, and nowhere else"
    with pytest.raises(urllib.error.HTTPError, match="401"):  # without the token
        urllib.request.urlopen(f"http://127.0.0.1:{dashboard}/api/jobs/", timeout=600)
    running.send_signal(signal.SIGTERM)
    code, output = ended(running)
    assert code == 130, (said, output)
    assert "finished trials are kept" in output
    assert left_behind(home) == []

    code, output = ended(submit(home, launch, number))
    assert code == 0, output
    assert "study resume" in output
    assert "chosen: trial" in output
    assert (home / "studies" / "quick" / "model").is_dir()
    assert left_behind(home) == []


@pytest.mark.ray
@pytest.mark.slow
def test_a_slurm_job_on_a_real_ray_fails_as_its_study_does(stand_ins):
    home = stand_ins
    (home / "al4.toml").write_text(STUDY.format(dataset=home / "nowhere"))
    code, output = ended(submit(home, job(home, venv=sys.prefix, wait=600), os.getpid()))
    assert code == 1, output
    assert "no dataset" in output
    assert "starting Ray" not in output
    assert left_behind(home) == []
