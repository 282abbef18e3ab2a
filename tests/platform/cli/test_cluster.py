"""`dftune cluster` prints launch files."""

import sys

import pytest
from click.testing import CliRunner

from dftune.cluster.launch.kuberay import KubeRay, kuberay_manifest
from dftune.cluster.launch.ray_up import Machines, ray_up_config
from dftune.cluster.launch.slurm import SlurmJob, slurm_script
from dftune.platform.cli.main import cli


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
            ["kuberay", "--serve", "/shared/x.model", "--serve", "be=/shared/y", "--image", "a", "--claim", "c"],
            kuberay_manifest(KubeRay(serve={"x": "/shared/x.model", "be": "/shared/y"}, image="a", claim="c")),
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
