"""A cluster file for `ray up`: Ray on machines of one's own that are reached by ssh."""

import shlex
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from .nodes import AbsolutePath, Name, assignments, matching, settings, to_yaml

Host = Annotated[str, matching(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", "an address")]
_TOKEN = "~/.ray/auth_token"


class Machines(BaseModel):
    """Machines reached by ssh, all with one Python environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = Field(default="dftune", description="of the cluster")
    head: Host = Field(description="address of the head")
    workers: tuple[Host, ...] = Field(default=(), max_length=1023, description="addresses of the other machines")
    venv: AbsolutePath = Field(description="Python environment with dftune, under this path on all of them")
    user: Annotated[str, matching(r"[a-z_][a-z0-9_.-]{0,31}", "the name of a user")] = Field(
        description="who logs in by ssh"
    )
    key: Annotated[str, matching(r"~?/[^\x00-\x1f\x7f]{1,1000}", "a path from / or ~/")] | None = Field(
        default=None, description="private key for ssh; default what ssh finds"
    )
    port: int = Field(default=6379, ge=1024, le=65535, description="of Ray on the head")

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        hosts = [self.head, *self.workers]
        if twice := sorted({host for host in hosts if hosts.count(host) > 1}):
            raise PydanticCustomError("twice", f"{', '.join(twice)}: named twice among the machines")
        return self


def ray_up_config(spec: Machines) -> str:
    """The file for ``ray up``."""
    folder = f"{spec.venv.rstrip('/')}/bin"
    ray = shlex.quote(f"{folder}/ray")
    environment = f"export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={_TOKEN} {assignments(settings())}"
    start = f"{environment}; ulimit -n 65536 || true; {ray} start"
    config: dict[str, Any] = {
        "cluster_name": spec.name,
        "provider": {"type": "local", "head_ip": spec.head, "worker_ips": list(spec.workers)},
        "auth": {"ssh_user": spec.user, **({} if spec.key is None else {"ssh_private_key": spec.key})},
        "min_workers": len(spec.workers),
        "max_workers": len(spec.workers),
        "file_mounts": {_TOKEN: _TOKEN},
        "setup_commands": [f"test -x {shlex.quote(f'{folder}/dftune')}", f"chmod 600 {_TOKEN}"],
        "head_start_ray_commands": [
            f"{ray} stop",
            f"{start} --head --port={spec.port} --dashboard-host=127.0.0.1 "
            "--autoscaling-config=~/ray_bootstrap_config.yaml",
        ],
        "worker_start_ray_commands": [f"{ray} stop", f"{start} --address=$RAY_HEAD_IP:{spec.port}"],
    }
    return (
        "# Ray for dftune on machines of your own.  Once: "
        f"(umask 077; mkdir -p ~/.ray; openssl rand -hex 32 > {_TOKEN})\n"
        "# Then `ray up FILE`, `ray attach FILE` to work on the head, `ray down FILE`.  "
        "They stop whatever Ray runs on these machines.\n"
        f"{to_yaml(config)}"
    )
