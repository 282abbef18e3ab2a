"""`dftune study submit`: hand a study to a cluster, and follow it."""

import sys
from pathlib import Path

import click

from .options import dataset_type, json_option, ledger_option
from .tables import echo


@click.command("submit")
@click.argument("spec", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--address",
    envvar="RAY_API_SERVER_ADDRESS",
    required=True,
    show_envvar=True,
    help="Dashboard of the Ray cluster, http://HOST:8265.",
)
@click.option(
    "--dataset",
    type=dataset_type,
    help="Dataset on the cluster: a URL, or a path that all nodes see.  [default: as in SPEC]",
)
@click.option(
    "--studies",
    default="studies",
    envvar="DFTUNE_STUDIES",
    show_default=True,
    show_envvar=True,
    help="Folder of the studies on the cluster; a relative path is taken from the folder you are in.",
)
@ledger_option
@click.option("--no-follow", is_flag=True, help="Return as soon as the study has begun.")
@json_option
def study_submit(
    spec: Path, address: str, dataset: str | None, studies: str, ledger: str | None, no_follow: bool, as_json: bool
) -> None:
    """Run a study on a Ray cluster, and follow it.  SPEC is its TOML file.  A study that was stopped there goes on.

    This sends dftune and the study file, never data: the dataset is a URL, or a path that all nodes see.  All nodes are
    checked before the study starts.  Ctrl-C or a lost connection does not end the study.  The same command follows it
    again while it runs, goes on with it if it was stopped, and gives its result if it has ended.  The exit code is that
    of the study.

    \b
    Example:
      dftune study submit al4.toml --address http://head:8265 --studies /shared/studies
      dftune study submit al4.toml --address http://head:8265 --dataset s3://bucket/al4 --studies /data/studies
    """
    from ...trainables.data.location import absolute
    from ..spec import StudySpec
    from ..submit.submission import Cluster

    found = StudySpec.read(spec)
    if dataset is not None:
        found = found.model_copy(update={"dataset": absolute(dataset)})
    folder = str(Path(studies).expanduser().resolve())
    job = Cluster(address).submit(found, studies=folder, ledger=ledger, as_json=as_json)
    _say(f"study {found.name} runs there already: following job {job.id}" if job.joined else f"job {job.id} submitted")
    again = f"follow it with the same command; stop it with `ray job stop --address {job.cluster.address} {job.id}`"
    try:
        code = job.follow(sys.stderr, sys.stdout, _say, checks_only=no_follow)
    except KeyboardInterrupt:
        _say(f"no longer followed; the study goes on: {again}")
        sys.exit(1)
    if no_follow and code == 0:
        return _say(f"the study has begun: {again}")
    if code == 0:  # a URL may hold a password
        where = "" if ledger else f" --studies {folder}"
        _say(f"on the cluster: `dftune study show {found.name}{where}`, where that can be reached")
    sys.exit(code)


def _say(text: str) -> None:
    echo(text, err=True)
