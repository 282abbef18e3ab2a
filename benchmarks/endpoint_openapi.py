"""Claim: requests made from the endpoint's own OpenAPI document all get an answer, and none that it does not describe:
no 5xx, and no other status, content type, header or body.

    python benchmarks/endpoint_openapi.py MODEL... [--examples 50] [--seconds 600] [--schemathesis PROGRAM]

schemathesis makes the requests.  It is no dependency of ours: unless a PROGRAM is given, pip installs it into an
environment of its own in a temporary folder.  The models are served by this process, without Ray.

Of its checks one is left out, that a body is accepted if it keeps to the document: no schema can say which elements a
model knows, or that atoms are 1 Å apart.  It ends with 1 where the claim does not hold.
"""

import argparse
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from dftune.platform.serve.proxy import AnswerAlways
from dftune.platform.serve.settings import EndpointSettings, named
from dftune.platform.serve.shelf import Shelf
from dftune.platform.serve.web import web_app
from dftune.tests.platform.serve.asgi import listening

SCHEMATHESIS = "schemathesis==4.32.5"


def installed(folder: Path) -> Path:
    """The program, in a new environment."""
    venv.create(folder, with_pip=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", SCHEMATHESIS]
    subprocess.run(pip, check=True)
    return folder / "bin" / "schemathesis"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="FOLDER or NAME=FOLDER")
    parser.add_argument("--examples", type=int, default=50, help="of each operation")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--schemathesis", type=Path)
    given = parser.parse_args()
    settings = EndpointSettings(models=named(given.models), without_token=True, size=20_000)
    app = AnswerAlways(web_app(Shelf(settings), settings), lambda: True)
    with tempfile.TemporaryDirectory() as name, listening(app) as url:
        program = given.schemathesis or installed(Path(name) / "venv")
        options = {
            "exclude-checks": "positive_data_acceptance",
            "max-examples": given.examples,
            "max-time": given.seconds,
            "seed": given.seed,
            "suppress-health-check": "filter_too_much",  # without it, it gave up making bodies for one seed
            "request-timeout": 2 * settings.time_limit,  # longer than any answer takes
        }
        said = [f"--{option}={value}" for option, value in options.items()]
        command = [program, "run", f"{url}/openapi.json", "--no-shrink", "--continue-on-failure", *said]
        sys.exit(subprocess.run(command, cwd=name).returncode)


if __name__ == "__main__":
    main()
