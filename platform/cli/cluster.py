"""`dftune cluster`: files that launch Ray elsewhere, and a forecast for more nodes."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import studies_option
from .plan import plan
from .tables import echo

if TYPE_CHECKING:
    from pydantic import BaseModel


@click.group()
def cluster() -> None:
    """Launch Ray on a cluster, and plan how large it should be.

    The files are for Slurm, Kubernetes and machines of your own.
    """


cluster.add_command(plan)


def _nodes_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say what a node is, and how many there are."""
    for option in (
        click.option("--memory", type=int, default=32, show_default=True, help="Memory of a node [GiB]."),
        click.option("--gpus", type=int, default=0, show_default=True, help="GPUs of a node."),
        click.option("--cpus", type=int, default=8, show_default=True, help="CPUs of a node."),
        click.option("--nodes", type=int, default=2, show_default=True, help="Number of nodes, the head included."),
    ):
        command = option(command)
    return command


name_option = click.option("--name", default="dftune", show_default=True, help="Name of the job or cluster.")
output_option = click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write; by default stdout."
)


@cluster.command("slurm")
@click.argument("study")
@_nodes_options
@click.option("--hours", type=float, default=4.0, show_default=True, help="Time limit; the study can go on after it.")
@click.option("--partition", help="Slurm partition; by default the site's.")
@click.option("--account", help="Slurm account; by default yours.")
@click.option("--qos", help="Slurm quality of service; by default the site's.")
@studies_option
@click.option("--venv", help="Python environment with dftune, seen by all nodes; by default this one.")
@click.option("--scratch", default="/tmp", show_default=True, help="Node-local folder for Ray's temporary files.")
@click.option("--port", type=int, help="First of two ports on the head; by default it follows from the job's number.")
@click.option("--wait", type=int, default=300, show_default=True, help="Seconds that all nodes may take to join.")
@name_option
@output_option
def cluster_slurm(studies: Path, venv: str | None, output: Path | None, **options: Any) -> None:
    """Print a Slurm script that runs the study file STUDY.  Ray spans the nodes of the job.

    All nodes must see the study file, its dataset, the folder of the studies and the Python environment under the same
    path.  The script starts Ray on each node, waits for all nodes, runs the study, and ends Ray.  Its exit code is the
    study's.  Before the time limit the study stops cleanly; submit the script again, and it goes on.

    \b
    Example:
      dftune cluster slurm al4.toml --nodes 4 --gpus 4 --hours 12 --partition gpu --output al4.sbatch
      sbatch al4.sbatch
    """
    from ...cluster.launch.slurm import SlurmJob, slurm_script

    _print(SlurmJob, slurm_script, output, studies=str(studies), venv=venv or sys.prefix, **options)


@cluster.command("kuberay")
@click.argument("study", required=False)
@click.option("--image", required=True, help="Container image with dftune.")
@click.option("--claim", required=True, help="Volume claim (ReadWriteMany) with datasets and studies.")
@_nodes_options
@click.option(
    "--serve",
    multiple=True,
    metavar="[NAME=]MODEL",
    help="Serve the model in this folder of the pods, without a STUDY; may be repeated.",
)
@click.option("--mount", default="/shared", show_default=True, help="Path of the claim in every pod.")
@click.option("--studies", default="/shared/studies", show_default=True, help="Folder of the studies in the pods.")
@click.option("--ledger-secret", metavar="NAME", help="Secret with the URL of a PostgreSQL ledger under the key url.")
@click.option("--hours", type=float, help="Time limit of the study; by default none.")
@click.option("--retries", type=int, default=2, show_default=True, help="How often a failed study is tried again.")
@click.option("--namespace", help="Kubernetes namespace; by default that of your context.")
@name_option
@output_option
def cluster_kuberay(output: Path | None, serve: tuple[str, ...], **options: Any) -> None:
    """Print a manifest for Kubernetes with KubeRay.

    It is a RayJob for STUDY, else a RayCluster for many studies.  The operator must be 1.5.1 or later.

    With --serve it is a RayService: the endpoint of `dftune serve`, a replica for each GPU, or for each node.

    STUDY is the path of the study file in the pods, on the claim.  A RayJob starts a cluster, runs the study or goes on
    with it, and removes the cluster.  A RayJob that failed is tried again in a new cluster.

    \b
    Example:
      dftune cluster kuberay /shared/al4.toml --image registry.example.org/dftune:0.1 --claim studies > al4.yaml
      kubectl apply -f al4.yaml
      dftune cluster kuberay --serve /shared/al4.model --image registry.example.org/dftune:0.1 --claim studies
    """
    from ...cluster.launch.kuberay import KubeRay, kuberay_manifest
    from ..serve.settings import named

    _print(KubeRay, kuberay_manifest, output, serve=named(serve), **options)


@cluster.command("ray-up")
@click.option("--head", required=True, help="Address of Ray's head.")
@click.option("--worker", "workers", multiple=True, help="Address of another machine; may be repeated.")
@click.option("--user", required=True, help="User who logs in by ssh.")
@click.option("--key", help="Private key for ssh; by default what ssh finds.")
@click.option("--venv", help="Python environment with dftune, under this path on all machines; by default this one.")
@click.option("--port", type=int, default=6379, show_default=True, help="Port of Ray on the head.")
@name_option
@output_option
def cluster_ray_up(venv: str | None, output: Path | None, **options: Any) -> None:
    """Print a cluster file for `ray up`, for your own machines.  You reach them by ssh.

    \b
    Example:
      dftune cluster ray-up --head 10.0.0.1 --worker 10.0.0.2 --worker 10.0.0.3 --user ada --output machines.yaml
      ray up machines.yaml
    """
    from ...cluster.launch.ray_up import Machines, ray_up_config

    _print(Machines, ray_up_config, output, venv=venv or sys.prefix, **options)


def _print(model: type["BaseModel"], text_of: Callable[[Any], str], output: Path | None, **options: Any) -> None:
    from pydantic import ValidationError

    from ...trainables.errors import one_line
    from ...trainables.files import write_text

    try:
        spec = model(**options)
    except ValidationError as error:
        raise click.UsageError(one_line(error)) from error
    text = text_of(spec)
    if output is None:
        return echo(*text.removesuffix("\n").split("\n"))
    write_text(output, text)
    echo(f"written: {output}", err=True)
