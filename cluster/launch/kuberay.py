"""Manifests for the KubeRay operator: a cluster to work on, one that runs a study and goes away, or one that serves."""

import importlib.metadata
from typing import Annotated, Any, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from .nodes import AbsolutePath, Name, Nodes, matching, settings, study_lines, to_yaml

_SCRIPTS = "/etc/dftune"


class KubeRay(Nodes):
    """A RayCluster, with a study a RayJob, with a model a RayService; nodes are pods."""

    image: Annotated[str, matching(r"[a-z0-9][A-Za-z0-9._:/@-]{0,255}", "the name of an image")] = Field(
        description="container image with dftune, and python and ray on PATH"
    )
    claim: Annotated[str, matching(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", "the name of a volume claim")] = Field(
        description="volume claim (ReadWriteMany) with datasets and studies"
    )
    mount: AbsolutePath = Field(default="/shared", description="where the claim is mounted in every pod")
    namespace: Name | None = Field(default=None, description="default that of kubectl's context")
    study: AbsolutePath | None = Field(default=None, description="study file in the pods; default a cluster for many")
    serve: dict[str, AbsolutePath] = Field(default={}, description="name -> model in the pods, to be served")
    studies: AbsolutePath = Field(default="/shared/studies", description="folder of the studies in the pods")
    ledger_secret: Name | None = Field(
        default=None, description="Secret whose key url is the URL of the study's PostgreSQL ledger"
    )
    hours: float | None = Field(
        default=None, ge=0.1, le=8760, allow_inf_nan=False, description="time limit of a study [h]; default none"
    )
    retries: int = Field(default=2, ge=0, le=100, description="times that a failed study goes on in a new cluster")
    ray_version: Annotated[str, matching(r"\d+\.\d+\.\d+", "a version such as 2.60.0")] = Field(
        default_factory=lambda: importlib.metadata.version("ray"), description="Ray in the image"
    )

    @model_validator(mode="after")
    def _files_lie_on_the_claim(self) -> Self:
        models = [("model", path) for path in self.serve.values()]
        for what, path in (("study", self.study), ("studies", self.studies), *models):
            if path is not None and (not path.startswith(self.mount.rstrip("/") + "/") or ".." in path.split("/")):
                raise PydanticCustomError(
                    "place", f"{what} {path} is not below {self.mount}, where the claim is mounted"
                )
        if self.study is None and self.hours is not None:
            raise PydanticCustomError("unused", "hours is the time limit of a study, and none is given")
        if self.study is None and self.ledger_secret is not None:
            raise PydanticCustomError("unused", "ledger_secret has the ledger of a study, and none is given")
        if self.study is not None and self.serve:
            raise PydanticCustomError("both", "a manifest runs a study or serves a model; make one for each")
        return self


def kuberay_manifest(spec: KubeRay) -> str:
    """The manifest for ``kubectl apply -f``: a RayCluster, a ConfigMap and a RayJob, or a RayService."""
    if spec.serve:
        secret = _secret(spec)
        namespace = "" if spec.namespace is None else f" --namespace {spec.namespace}"
        service = {"serveConfigV2": to_yaml(_serve_config(spec)), "rayClusterConfig": _cluster(spec)}
        return (
            "# Models of dftune as an HTTP endpoint.  Once, the token that it asks for:\n"
            f"#   kubectl create secret generic {secret}{namespace} --from-literal=token=$(openssl rand -hex 32)\n"
            "# then kubectl apply -f FILE; with other models or other limits again, while it serves.\n"
            f"{to_yaml(_resource(spec, 'RayService', service))}"
        )
    if spec.study is None:
        return f"# Ray for dftune.  kubectl apply -f FILE\n{to_yaml(_resource(spec, 'RayCluster', _cluster(spec)))}"
    scripts = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(spec, f"{spec.name}-scripts"),
        # `exec`, so that a signal to the job is one to the study.
        "data": {"study.sh": f'{study_lines(spec.study, spec.studies)}exec "${{command[@]}}"\n'},
    }
    deadline = {} if spec.hours is None else {"activeDeadlineSeconds": round(spec.hours * 3600)}
    job = {
        # Without a character that a shell reads: KubeRay's submitter puts it into one, and Ray into another.
        "entrypoint": f"bash {_SCRIPTS}/study.sh",
        "backoffLimit": spec.retries,
        **deadline,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 600,
        "rayClusterSpec": _cluster(spec),
    }
    return (
        "# A study of dftune.  kubectl apply -f FILE; a retry goes on where the study was.\n"
        f"{to_yaml(scripts)}---\n{to_yaml(_resource(spec, 'RayJob', job))}"
    )


def _secret(spec: KubeRay) -> str:
    return f"{spec.name}-endpoint"  # the Secret called as the cluster is KubeRay's own


def _serve_config(spec: KubeRay) -> dict[str, Any]:
    """What Ray Serve is told: a replica for each GPU, or for each node, that takes all CPUs there are for it."""
    on_node = max(spec.gpus, 1)
    limits = {"cpus": max(spec.cpus // on_node, 1), "gpus": min(spec.gpus, 1)}
    return {
        "proxy_location": "EveryNode",
        # The pods' own network: whoever reaches it needs the token.
        "http_options": {"host": "0.0.0.0", "port": 8000, "request_timeout_s": 130},
        "applications": [
            {
                "name": "dftune",
                "route_prefix": "/",
                "import_path": "dftune.platform.serve.endpoint:application",
                "args": {"models": spec.serve, "replicas": on_node * spec.nodes, **limits},
            }
        ],
    }


def _resource(spec: KubeRay, kind: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "ray.io/v1", "kind": kind, "metadata": _metadata(spec, spec.name), "spec": content}


def _metadata(spec: KubeRay, name: str) -> dict[str, Any]:
    return {"name": name, **({} if spec.namespace is None else {"namespace": spec.namespace})}


def _cluster(spec: KubeRay) -> dict[str, Any]:
    workers = spec.nodes - 1
    group = {
        "groupName": "workers",
        "replicas": workers,
        "minReplicas": workers,
        "maxReplicas": workers,
        "rayStartParams": {},
        "template": _pod(spec, "ray-worker"),
    }
    return {
        "rayVersion": spec.ray_version,
        "authOptions": {"mode": "token"},  # KubeRay makes the token, a Secret
        # A study starts as many trials as fit on the nodes there are: it would never ask for more.
        "enableInTreeAutoscaling": False,
        "headGroupSpec": {"rayStartParams": {}, "template": _pod(spec, "ray-head")},
        **({"workerGroupSpecs": [group]} if workers else {}),
    }


def _from_secret(variable: str, secret: str, key: str) -> dict[str, Any]:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def _pod(spec: KubeRay, container: str) -> dict[str, Any]:
    amounts: dict[str, Any] = {"cpu": str(spec.cpus), "memory": f"{spec.memory}Gi"}
    if spec.gpus:
        amounts["nvidia.com/gpu"] = str(spec.gpus)
    volumes: list[dict[str, Any]] = [{"name": "shared", "persistentVolumeClaim": {"claimName": spec.claim}}]
    mounts: list[dict[str, Any]] = [{"name": "shared", "mountPath": spec.mount}]
    if spec.study is not None and container == "ray-head":
        volumes.append({"name": "scripts", "configMap": {"name": f"{spec.name}-scripts"}})
        mounts.append({"name": "scripts", "mountPath": _SCRIPTS, "readOnly": True})
    env: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in settings().items()]
    if spec.serve:
        env.append(_from_secret("DFTUNE_TOKEN", _secret(spec), "token"))
        middlewares = "dftune.platform.serve.proxy.middlewares"
        env.append({"name": "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "value": middlewares})
    if spec.ledger_secret is not None and container == "ray-head":  # where the study itself runs
        env.append(_from_secret("DFTUNE_LEDGER", spec.ledger_secret, "url"))
    return {
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": container,
                    "image": spec.image,
                    "env": env,
                    "resources": {"requests": amounts, "limits": dict(amounts)},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "volumeMounts": mounts,
                }
            ],
            "volumes": volumes,
        }
    }
