"""Launch files: Slurm scripts run under stand-ins for Slurm, manifests by KubeRay's fields, `ray up` by Ray itself."""

import hashlib
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner
from pydantic import ValidationError

from dftune.cluster.launch.kuberay import KubeRay, kuberay_manifest
from dftune.cluster.launch.nodes import settings, to_yaml
from dftune.cluster.launch.ray_up import Machines, ray_up_config
from dftune.cluster.launch.slurm import SlurmJob, slurm_script
from dftune.platform.cli.main import cli
from dftune.platform.serve.proxy import ENVIRONMENT
from dftune.platform.serve.settings import EndpointError

BIN = Path(sys.prefix) / "bin"
NASTY = 'it\'s "$(touch pwned)" `touch pwned` ; touch pwned #é'

SRUN = """#!/bin/bash
echo "$*" | head -n 1 >>"$HOME/srun"
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
SCONTROL = """#!/bin/bash
[[ "$1 $2" == "show hostnames" ]] && tr , '\\n' <<<"$3"
"""
# Stand-ins for the Python environment: `ray` listens where a head would, `dftune` says how it was called.
PYTHON = f"""#!/bin/bash
case "$1 $2" in
    "-c import ray"*) echo 127.0.0.1 ;;
    "-P -") until (($(wc -l <"$HOME/ray") >= $4)); do sleep 0.05; done ;;
    *) exec {sys.executable} "$@" ;;
esac
"""
RAY = f"""#!{sys.executable}
import json, os, socket, stat, sys, time
home, head = os.environ["HOME"], "--head" in sys.argv
if os.environ.get("RAY_FAILS") == ("head" if head else "worker"):
    sys.exit(3)
token = os.environ["RAY_AUTH_TOKEN_PATH"]
seen = {{"argv": sys.argv, "mode": stat.S_IMODE(os.stat(token).st_mode), "token": open(token).read(), **os.environ}}
with open(f"{{home}}/ray", "a") as log:
    log.write(json.dumps(seen) + "\\n")
if head:
    listener = socket.create_server(("127.0.0.1", int([a for a in sys.argv if a.startswith("--port=")][0][7:])))
time.sleep(1000)
"""
DFTUNE = f"""#!{sys.executable}
import os, signal, subprocess, sys, time
home = os.environ["HOME"]

def stop(number, frame):
    with open(f"{{home}}/signals", "a") as log:
        log.write(signal.Signals(number).name + "\\n")
    global code
    code = 9
    alive = subprocess.run(["pgrep", "-fc", f"{{home}}/bin/ray"], capture_output=True, text=True).stdout
    open(f"{{home}}/ray-at-stop", "w").write(alive)

code = int(os.environ.get("STUDY_CODE", "0"))
signal.signal(signal.SIGINT, stop)
with open(f"{{home}}/study.part", "w") as log:
    log.write("\\n".join([os.environ.get("RAY_ADDRESS", ""), *sys.argv[1:]]) + "\\n")
os.rename(f"{{home}}/study.part", f"{{home}}/study")
end = time.monotonic() + float(os.environ.get("STUDY_WAITS", "0"))
while time.monotonic() < end and code != 9:
    time.sleep(0.1)
if code == 9:
    time.sleep(1)
sys.exit(code)
"""


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
    return home


def program(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


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


def left_behind(home) -> list[str]:
    """Command lines of processes that were started below ``home``."""
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(home) in line:
            lines.append(line)
    return lines


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
    assert not (home / "study").exists()
    assert left_behind(home) == []


def test_a_missing_study_file_is_said_before_anything_starts(stand_ins):
    code, output = ended(submit(stand_ins, job(stand_ins, study="/nowhere/al4.toml")))
    assert (code, "/nowhere/al4.toml: no such file on" in output) == (2, True)
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
    assert code == 1, (said, output)
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
    assert "the study ended with exit code 1" in output
    assert left_behind(home) == []


# The fields of KubeRay's types (ray-operator 1.5 and 1.6) and of a pod that we use; nothing else may appear.
def closed(required, **properties):
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


TEXT, WHOLE, FLAG = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
QUANTITIES = {"type": "object", "additionalProperties": {"type": "string", "pattern": r"^[0-9]+(Gi)?$"}}
LABEL = {"type": "string", "pattern": "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"}
METADATA = closed(["name"], name=LABEL, namespace=LABEL)
FROM = closed(["secretKeyRef"], secretKeyRef=closed(["name", "key"], name=LABEL, key=TEXT))
CONTAINER = closed(
    ["name", "image", "resources"],
    name=LABEL,
    image=TEXT,
    env={"type": "array", "items": closed(["name"], name=TEXT, value=TEXT, valueFrom=FROM)},
    resources=closed(["requests", "limits"], requests=QUANTITIES, limits=QUANTITIES),
    securityContext=closed(
        [],
        allowPrivilegeEscalation={"const": False},
        capabilities=closed(["drop"], drop={"const": ["ALL"]}),
        seccompProfile=closed(["type"], type={"const": "RuntimeDefault"}),
    ),
    volumeMounts={
        "type": "array",
        "items": closed(["name", "mountPath"], name=LABEL, mountPath=TEXT, readOnly=FLAG),
    },
)
VOLUME = closed(
    ["name"],
    name=LABEL,
    persistentVolumeClaim=closed(["claimName"], claimName=TEXT),
    configMap=closed(["name"], name=LABEL),
)
TEMPLATE = closed(
    ["spec"],
    spec=closed(
        ["containers"],
        automountServiceAccountToken=FLAG,
        containers={"type": "array", "items": CONTAINER, "minItems": 1},
        volumes={"type": "array", "items": VOLUME},
    ),
)
START = {"type": "object", "additionalProperties": TEXT}
GROUP = closed(
    ["groupName", "minReplicas", "maxReplicas", "template"],
    groupName=LABEL,
    replicas=WHOLE,
    minReplicas=WHOLE,
    maxReplicas=WHOLE,
    rayStartParams=START,
    template=TEMPLATE,
)
CLUSTER = closed(
    ["headGroupSpec", "rayVersion"],  # KubeRay asks for the version where there is a token
    rayVersion=TEXT,
    authOptions=closed([], mode={"enum": ["disabled", "token"]}),
    enableInTreeAutoscaling=FLAG,
    headGroupSpec=closed(["template"], rayStartParams=START, template=TEMPLATE),
    workerGroupSpecs={"type": "array", "items": GROUP},
)
JOB = closed(
    ["rayClusterSpec", "entrypoint"],
    entrypoint=TEXT,
    backoffLimit=WHOLE,
    activeDeadlineSeconds={"type": "integer", "minimum": 1},
    shutdownAfterJobFinishes=FLAG,
    ttlSecondsAfterFinished=WHOLE,
    rayClusterSpec=CLUSTER,
)
SERVICE = closed(["rayClusterConfig"], rayClusterConfig=CLUSTER, serveConfigV2=TEXT)
RAY_V1 = {"const": "ray.io/v1"}
KINDS = {
    kind: closed(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion=RAY_V1,
        kind={"const": kind},
        metadata=METADATA,
        spec=spec,
    )
    for kind, spec in {"RayCluster": CLUSTER, "RayJob": JOB, "RayService": SERVICE}.items()
} | {
    "ConfigMap": closed(
        ["apiVersion", "kind", "metadata", "data"],
        apiVersion={"const": "v1"},
        kind={"const": "ConfigMap"},
        metadata=METADATA,
        data=START,
    )
}


def kuberay(**changes) -> KubeRay:
    return KubeRay(**{"image": "registry.example.org/dftune:0.1", "claim": "studies", **changes})


@pytest.mark.parametrize(
    "spec, kinds",
    [
        (kuberay(), ["RayCluster"]),
        (kuberay(nodes=1, gpus=4, namespace="physics", name="al4"), ["RayCluster"]),
        (kuberay(study="/shared/al4.toml"), ["ConfigMap", "RayJob"]),
        (kuberay(study="/shared/al4.toml", ledger_secret="ledger"), ["ConfigMap", "RayJob"]),
        (kuberay(study=f"/shared/{NASTY}", hours=1.5, retries=0, gpus=1, nodes=9), ["ConfigMap", "RayJob"]),
        (kuberay(serve=f"/shared/{NASTY}", nodes=3, namespace="physics"), ["RayService"]),
    ],
)
def test_kuberay_manifests_have_the_fields_that_kuberay_knows(spec, kinds):
    documents = list(yaml.safe_load_all(kuberay_manifest(spec)))
    assert [d["kind"] for d in documents] == kinds
    for document in documents:
        jsonschema.validate(document, KINDS[document["kind"]])
        assert document["metadata"].get("namespace") == spec.namespace
    last = documents[-1]["spec"]
    cluster = last.get("rayClusterSpec") or last.get("rayClusterConfig") or last
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"] is False
    groups = cluster.get("workerGroupSpecs", [])
    assert 1 + sum(g["replicas"] for g in groups) == spec.nodes
    assert all(g["minReplicas"] == g["maxReplicas"] == g["replicas"] for g in groups)
    for pod in (cluster["headGroupSpec"], *groups):
        pod_spec = pod["template"]["spec"]
        (container,) = pod_spec["containers"]
        wanted = {"cpu": "8", "memory": "32Gi", **({"nvidia.com/gpu": str(spec.gpus)} if spec.gpus else {})}
        assert container["resources"] == {"requests": wanted, "limits": wanted}
        assert {e["name"]: e["value"] for e in container["env"] if "value" in e} == settings()
        assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod_spec["volumes"]}
        assert {"name": "shared", "mountPath": "/shared"} in container["volumeMounts"]


@pytest.mark.parametrize("gpus, replicas, cpus, share", [(0, 3, 8, 0), (1, 3, 8, 1), (4, 12, 2, 1)])
def test_a_ray_service_is_what_ray_serve_and_the_endpoint_understand(gpus, replicas, cpus, share):
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary
    from ray.serve.schema import ServeDeploySchema

    text = kuberay_manifest(kuberay(serve="/shared/al4.model", nodes=3, gpus=gpus))
    spec = yaml.safe_load(text)["spec"]
    config = ServeDeploySchema.model_validate(yaml.safe_load(spec["serveConfigV2"]))
    (served,) = config.applications
    assert (config.http_options.host, config.http_options.port) == ("0.0.0.0", 8000)
    module, _, name = served.import_path.partition(":")
    builder = getattr(importlib.import_module(module), name)
    with pytest.raises(EndpointError, match="asks for a token"):
        call_user_app_builder_with_args_if_necessary(builder, served.args)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DFTUNE_TOKEN", "x" * 32)
        deployment = call_user_app_builder_with_args_if_necessary(builder, served.args)._bound_deployment
    settings_, kind = deployment.init_args
    assert kind is None, "each replica finds it by the model's name of it"
    assert settings_.model == "/shared/al4.model"
    assert settings_.token_sha256 == hashlib.sha256(b"x" * 32).hexdigest()
    assert (deployment.num_replicas, settings_.cpus, settings_.gpus) == (replicas, cpus, share)
    assert deployment.ray_actor_options["num_gpus"] == share
    secret = {"name": "DFTUNE_TOKEN", "valueFrom": {"secretKeyRef": {"name": "dftune-endpoint", "key": "token"}}}
    for pod in (spec["rayClusterConfig"]["headGroupSpec"], *spec["rayClusterConfig"]["workerGroupSpecs"]):
        environment = pod["template"]["spec"]["containers"][0]["env"]
        assert secret in environment
        assert all({"name": name, "value": value} in environment for name, value in ENVIRONMENT.items())
    assert "kubectl create secret generic dftune-endpoint --from-literal=token=" in text


def test_the_url_of_a_ledger_comes_from_a_secret_and_reaches_the_study_alone():
    _, job = yaml.safe_load_all(kuberay_manifest(kuberay(study="/shared/al4.toml", ledger_secret="ledger")))
    cluster = job["spec"]["rayClusterSpec"]
    head, worker = (
        pod["template"]["spec"]["containers"][0]["env"]
        for pod in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
    )
    (variable,) = (e for e in head if e not in worker)
    assert variable == {"name": "DFTUNE_LEDGER", "valueFrom": {"secretKeyRef": {"name": "ledger", "key": "url"}}}


def test_the_schema_of_the_test_refuses_what_kuberay_would():
    document = yaml.safe_load(kuberay_manifest(kuberay()))
    document["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["cpus"] = 8
    with pytest.raises(jsonschema.ValidationError, match="'cpus' was unexpected"):
        jsonschema.validate(document, KINDS["RayCluster"])


def test_the_job_of_a_ray_job_runs_the_study_and_a_retry_goes_on_with_it(stand_ins):
    home = stand_ins
    spec = kuberay(study=f"{home}/al4.toml", studies=f"{home}/studies", mount=str(home))
    scripts, ray_job = yaml.safe_load_all(kuberay_manifest(spec))
    assert ray_job["spec"]["entrypoint"] == "bash /etc/dftune/study.sh"
    (mount,) = (
        m
        for m in ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMounts"]
        if m["mountPath"] == "/etc/dftune"
    )
    assert mount["readOnly"] is True
    (home / "study.sh").write_text(scripts["data"]["study.sh"])
    environment = {**os.environ, "PATH": f"{home}/bin:{os.environ['PATH']}", "HOME": str(home), "STUDY_CODE": "5"}
    for begun in (False, True):
        if begun:
            (home / "studies" / "al4").mkdir(parents=True)
            (home / "studies" / "al4" / "ledger.db").touch()
        assert subprocess.run(["bash", home / "study.sh"], env=environment).returncode == 5
        assert (home / "study").read_text().splitlines()[2] == ("resume" if begun else "run")


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"study": "/home/me/al4.toml"}, "not below /shared"),
        ({"study": "/shared/../etc/al4.toml"}, "not below /shared"),
        ({"hours": 3}, "time limit of a study"),
        ({"ledger_secret": "ledger"}, "the ledger of a study"),
        ({"serve": "/home/me/al4.model"}, "not below /shared"),
        ({"serve": "/shared/al4.model", "study": "/shared/al4.toml"}, "a study or serves a model"),
        ({"image": "x y"}, "not the name of an image"),
        ({"claim": "a: b"}, "not the name of a volume claim"),
        ({"namespace": "a\nb"}, "lower-case letters"),
        ({"replicas": 3}, "not permitted"),
    ],
)
def test_a_manifest_that_could_not_work_is_refused(wrong, said):
    with pytest.raises(ValidationError, match=said):
        kuberay(**wrong)


@pytest.mark.parametrize("workers", [(), ("10.0.0.2", "node-3.example.org")])
def test_ray_itself_accepts_the_file_for_ray_up(workers, tmp_path):
    from ray.autoscaler._private.util import prepare_config, validate_config

    spec = Machines(head="10.0.0.1", workers=workers, user="ada", key="~/.ssh/id_ed25519", venv="/opt/it's mine")
    config = yaml.safe_load(ray_up_config(spec))
    prepared = prepare_config(config)
    validate_config(prepared)
    assert prepared["available_node_types"]["local.cluster.node"]["min_workers"] == len(workers)
    head, worker = config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]
    for line in (*config["setup_commands"], head, worker):
        subprocess.run(["bash", "-n", "-c", line], check=True)
    assert "RAY_AUTH_MODE=token" in head
    assert "RAY_AUTH_MODE=token" in worker
    assert "--dashboard-host=127.0.0.1" in head
    assert worker.endswith("'/opt/it'\"'\"'s mine/bin/ray' start --address=$RAY_HEAD_IP:6379")
    with pytest.raises(jsonschema.ValidationError):
        validate_config({**prepared, "head_nodes": 1})


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"workers": ("10.0.0.1",)}, "10.0.0.1: named twice"),
        ({"head": "10.0.0.1; reboot"}, "not an address"),
        ({"user": "ada -o x"}, "not the name of a user"),
        ({"key": "-o x"}, "not a path"),
    ],
)
def test_machines_that_could_not_work_are_refused(wrong, said):
    with pytest.raises(ValidationError, match=said):
        Machines(**{"head": "10.0.0.1", "user": "ada", "venv": "/opt/dftune", **wrong})


def test_what_is_written_as_yaml_is_what_yaml_reads():
    value = {
        "plain": "RayJob",
        "looks like others": [
            "yes",
            "null",
            "1",
            "1.5",
            "0x1f",
            "1e3",
            "12:30:45",
            "~",
            "",
            "-",
            "a: b",
            "#x",
            "é\n\u2028",
        ],
        "true": True,
        "numbers": [0, -1, 1.5, None],
        "empty": [{}, [], {"x": {}, "y": []}],
        "lines": ["a\nb\n", {"text": "a\n  b\n\nc: d\n", "indented": "  a\nb\n", "two ends": "a\n\n"}],
        "nested": [[1, [2, {"a": [3]}]], {"b": {"c": ["d", {"e": "f"}]}}],
    }
    assert yaml.safe_load(to_yaml(value)) == value


def run(*arguments, code=0):
    result = CliRunner().invoke(cli, ["cluster", *map(str, arguments)], prog_name="dftune")
    assert result.exit_code == code, result.output
    return result


MACHINES = {"head": "10.0.0.1", "user": "ada"}


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["slurm", "al4.toml"], slurm_script(SlurmJob(study="al4.toml", venv=sys.prefix))),
        (["kuberay", "--image", "a/b:1", "--claim", "c"], kuberay_manifest(KubeRay(image="a/b:1", claim="c"))),
        (
            ["kuberay", "/shared/x.toml", "--image", "a", "--claim", "c"],
            kuberay_manifest(KubeRay(study="/shared/x.toml", image="a", claim="c")),
        ),
        (
            ["kuberay", "--serve", "/shared/x.model", "--image", "a", "--claim", "c"],
            kuberay_manifest(KubeRay(serve="/shared/x.model", image="a", claim="c")),
        ),
        (
            ["ray-up", "--head", "10.0.0.1", "--user", "ada", "--worker", "b", "--worker", "c"],
            ray_up_config(Machines(**MACHINES, workers=("b", "c"), venv=sys.prefix)),
        ),
    ],
    ids=["slurm", "kuberay", "kuberay-study", "kuberay-serve", "ray-up"],
)
def test_a_command_prints_what_the_function_gives_with_the_same_defaults(arguments, text, tmp_path):
    assert run(*arguments).stdout == text
    written = run(*arguments, "--output", tmp_path / "new" / "file")
    assert written.stdout == ""
    assert (tmp_path / "new" / "file").read_text() == text


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["slurm", "al4.toml", "--partition", "a b"], "partition: 'a b' is not one word"),
        (["slurm", "a\nb"], r"study: 'a\nb' is not a path"),
        (["kuberay", "--image", "a", "--claim", "c", "--nodes", 0], "nodes: input should be greater"),
        (["ray-up", "--head", "a b", "--user", "ada"], "head: 'a b' is not an address"),
    ],
)
def test_a_wrong_option_is_wrong_usage_said_in_one_line(arguments, said):
    (line,) = (x for x in run(*arguments, code=2).stderr.splitlines() if x.startswith("Error"))
    assert said in line
