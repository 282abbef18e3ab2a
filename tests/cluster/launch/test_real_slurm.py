"""Slurm scripts on a real Slurm: Debian's, two nodes of one CPU each on this machine."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from dftune.cluster.launch.slurm import SlurmJob, slurm_script
from dftune.tests.cluster.launch import test_slurm
from dftune.tests.cluster.launch.stand_ins import left_behind

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "scancel", "squeue", "munge", "munged")
CONF = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/%n.pid
SlurmdSpoolDir={folder}/spool_%n
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/controller.log
SlurmdLogFile={folder}/%n.log
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=1 RealMemory=8000 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=1 RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


until = partial(test_slurm.until, seconds=1800)  # Slurm, and three starts of Ray


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def ask(command: str, *arguments: str) -> str:
    return subprocess.run([command, *arguments], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def slurm(home, monkeypatch):
    """A Slurm whose files lie below a folder, where the test also works."""
    missing = [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]
    if missing or os.geteuid():
        pytest.fail(f"this test runs Slurm's daemons as root (missing: {missing}): apt-get install slurm-wlm munge")
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin")
    if subprocess.run(["munge", "-n"], capture_output=True).returncode:
        Path("/run/munge").mkdir(exist_ok=True)
        shutil.chown("/run/munge", "munge")
        subprocess.run(["su", "-s", "/bin/sh", "munge", "-c", "/usr/sbin/munged"], check=True)
        until(lambda: subprocess.run(["munge", "-n"], capture_output=True).returncode == 0)
    for name in ("state", "spool_n1", "spool_n2"):
        (home / name).mkdir()
    ports = {name: free_port() for name in ("port", "first", "second")}
    (home / "slurm.conf").write_text(CONF.format(host=socket.gethostname(), folder=home, **ports))
    monkeypatch.setenv("SLURM_CONF", str(home / "slurm.conf"))
    for name in [n for n in os.environ if n.startswith(("RAY_", "TUNE_"))]:
        monkeypatch.delenv(name)
    subprocess.run(["slurmctld"], check=True)
    for node in ("n1", "n2"):
        subprocess.run(["slurmd", "-N", node], check=True)
    until(lambda: ask("sinfo", "-h", "-N", "-o", "%T").split() == ["idle", "idle"])
    yield home
    subprocess.run(["scancel", "--user=root"], check=False)
    daemons = [int((home / f"{name}.pid").read_text()) for name in ("n1", "n2", "controller")]
    for pid in daemons:
        os.kill(pid, signal.SIGTERM)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in daemons))


def submit(home, launch: SlurmJob) -> tuple[str, Path]:
    """The job's number, and the file of what it says."""
    (home / "job.sh").write_text(slurm_script(launch))
    number = ask("sbatch", "--parsable", f"--chdir={home}", f"--output={home}/said-%j", str(home / "job.sh"))
    return number, home / f"said-{number}"


def ended(number: str) -> bool:
    return ask("squeue", "-h", "-j", number, "-t", "all", "-o", "%T") in {"COMPLETED", "FAILED", "CANCELLED"}


def exit_code(number: str) -> str:
    return ask("scontrol", "show", "job", number).split("ExitCode=")[1].split()[0]


def test_a_study_runs_on_two_nodes_is_stopped_and_goes_on(slurm, fresh_al4):
    home = slurm
    study = test_slurm.STUDY.format(dataset=fresh_al4.path)
    (home / "al4.toml").write_text(study)
    launch = SlurmJob(
        study=str(home / "al4.toml"),
        studies=str(home / "studies"),
        venv=sys.prefix,
        cpus=1,
        memory=4,
        scratch=str(home),
        wait=600,
    )
    number, said = submit(home, launch)
    until(lambda: said.exists() and "trial 0:" in said.read_text())
    assert ask("squeue", "-h", "-s", "-j", number, "-o", "%N").split() != [], "Ray has steps of its own"
    ask("scancel", "--batch", "--signal=TERM", number)  # as Slurm does before the time limit
    until(lambda: ended(number))
    output = said.read_text()
    assert exit_code(number) == "130:0", output
    assert "finished trials are kept" in output
    assert "INFO" not in output, "what Ray says stays with Ray"

    number, said = submit(home, launch)
    until(lambda: ended(number))
    output = said.read_text()
    assert exit_code(number) == "0:0", output
    assert "study resume" in output
    assert "chosen: trial" in output
    assert (home / "studies" / "quick" / "model").is_dir()

    number, said = submit(home, launch)  # cancelled: Slurm ends all of it
    until(lambda: said.exists() and "starting Ray" in said.read_text())
    ask("scancel", number)
    until(lambda: ended(number))
    deadline = time.monotonic() + 60
    while rest := [line for line in left_behind(home) if "slurm" not in line]:
        assert time.monotonic() < deadline, rest
        time.sleep(0.5)
    assert list(home.glob("dftune-*")) == []
