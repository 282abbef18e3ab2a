"""Commands in this process, and a study file, for the tests of the command line."""

from click.testing import CliRunner, Result

from dftune.platform.cli.main import cli

SPEC = """
name = "quick"
dataset = "al4"
trials = 2
method = "random"
initializations = 1
descriptors = { cutoff = 4.0, two_j_max = 4 }
resources = { concurrent = 1 }
[space]
width = { type = "int", low = 4, high = 16 }
[config]
n_layers = 1
epochs = 1
batch_size = 1024
learning_rate = 3e-3
"""


def run(*arguments: object, code: int = 0) -> Result:
    """What a command prints; it must end with this exit code."""
    result = CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="dftune")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def refused(*arguments: object, code: int = 1) -> str:
    """The one line of a refusal."""
    result = run(*arguments, code=code)
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert len(lines) == 1
    assert result.stdout == ""
    return lines[0]
