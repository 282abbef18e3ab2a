"""The config file for `serve deploy`: what Ray Serve and the endpoint understand, and no token in it."""

import pytest
import yaml
from click.testing import CliRunner

from dftune.platform.cli.main import cli
from dftune.platform.serve.settings import EndpointSettings, digest

TOKEN = "correct-horse-battery-staple"


def command(*words: object, token: str = ""):
    """The outcome of `dftune serve`."""
    environment = {"DFTUNE_TOKEN": token or None}
    return CliRunner().invoke(cli, ["serve", *map(str, words)], env=environment)


def test_the_file_says_what_the_command_was_told_and_the_hash_of_the_token(tmp_path):
    from ray.serve.schema import ServeDeploySchema

    file, model = tmp_path / "endpoint.yaml", tmp_path / "al4.model"
    limits = ("--replicas", 2, "--max-replicas", 6, "--queue", 3, "--port", 8123)
    done = command(model, "be=/models/be", *limits, "--config-out", file, token=TOKEN)
    assert done.exit_code == 0, done.output
    assert TOKEN not in file.read_text()
    config = ServeDeploySchema.model_validate(yaml.safe_load(file.read_text()))
    (served,) = config.applications
    assert served.import_path == "dftune.platform.serve.endpoint:application"
    assert config.http_options.port == 8123
    assert EndpointSettings.model_validate(served.args) == EndpointSettings(
        models={"al4": str(model), "be": "/models/be"},
        replicas=2,
        max_replicas=6,
        queue=3,
        token_sha256=digest(TOKEN),
    )


@pytest.mark.parametrize(
    "words, said",
    [
        (("m", "--host", "0.0.0.0"), "on 0.0.0.0 others reach the endpoint, so it needs a token"),
        (("a/m", "b/m"), "two models are named m: a/m and b/m; name one by NAME=FOLDER"),
        (("m", "--replicas", 3, "--max-replicas", 2), "max_replicas is 2, below replicas, 3"),
        ((), "Missing argument"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(tmp_path, words, said):
    file = tmp_path / "endpoint.yaml"
    done = command(*words, "--config-out", file)
    assert done.exit_code in (1, 2)
    assert said in done.stderr.strip().splitlines()[-1]
    assert not file.exists()


def test_autoscaling_is_ray_serves_own(monkeypatch):
    from dftune.platform.serve.endpoint import application

    settings = EndpointSettings(model="/m", replicas=2, max_replicas=6, without_token=True)
    scaling = application(settings)._bound_deployment._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas) == (2, 6)
    assert scaling.downscale_delay_s == 60, "Ray's own ten minutes are for replicas that start slowly"
    fixed = application(settings.model_copy(update={"max_replicas": None}))._bound_deployment
    assert fixed.num_replicas == 2
