"""Manifests for KubeRay, held against the fields that it knows."""

import hashlib
import importlib
import os
import subprocess

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from dftune.cluster.launch.kuberay import KubeRay, kuberay_manifest
from dftune.cluster.launch.nodes import settings
from dftune.platform.serve.proxy import ENVIRONMENT
from dftune.platform.serve.settings import EndpointError
from dftune.tests.cluster.launch.stand_ins import NASTY


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
        (kuberay(serve={"al4": f"/shared/{NASTY}"}, nodes=3, namespace="physics"), ["RayService"]),
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
        values = {e["name"]: e["value"] for e in container["env"] if "value" in e}
        assert values == settings() | (ENVIRONMENT if spec.serve else {})
        assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod_spec["volumes"]}
        assert {"name": "shared", "mountPath": "/shared"} in container["volumeMounts"]


@pytest.mark.parametrize("gpus, replicas, cpus, share", [(0, 3, 8, 0), (1, 3, 8, 1), (4, 12, 2, 1)])
def test_a_ray_service_is_what_ray_serve_and_the_endpoint_understand(gpus, replicas, cpus, share):
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary
    from ray.serve.schema import ServeDeploySchema

    text = kuberay_manifest(kuberay(serve={"al4": "/shared/al4.model", "be": "/shared/be"}, nodes=3, gpus=gpus))
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
    settings_, kinds = deployment.init_args
    assert kinds == {}, "each replica finds them by their names in the cards"
    assert settings_.models == {"al4": "/shared/al4.model", "be": "/shared/be"}
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
        ({"serve": {"al4": "/home/me/al4.model"}}, "not below /shared"),
        ({"serve": {"al4": "/shared/al4.model"}, "study": "/shared/al4.toml"}, "a study or serves a model"),
        ({"image": "x y"}, "not the name of an image"),
        ({"claim": "a: b"}, "not the name of a volume claim"),
        ({"namespace": "a\nb"}, "lower-case letters"),
        ({"replicas": 3}, "not permitted"),
    ],
)
def test_a_manifest_that_could_not_work_is_refused(wrong, said):
    with pytest.raises(ValidationError, match=said):
        kuberay(**wrong)
