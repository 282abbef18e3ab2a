"""The command line: each command a shell around one library call.

Results go to stdout, progress to stderr.  Exit code 0 done, 1 failed, 2 wrong usage.
"""

import sys
from typing import Any

import click

from .cluster import cluster
from .compare import compare
from .data import data
from .descriptors import descriptors
from .model import model
from .serve import serve
from .study import study

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Cli(click.Group):
    """Turns a user's mistake into one line and exit code 1, wherever it was found."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ValueError as error:
            from ...trainables.errors import InputError

            if not isinstance(error, InputError):
                raise
            raise click.ClickException(" ".join(str(error).split())) from error


@click.group(cls=Cli, context_settings=CONTEXT)
@click.version_option(package_name="dftune", message="%(prog)s %(version)s")
def cli() -> None:
    """Find machine-learning surrogates of electronic structure, and use them.

    \b
    From DFT snapshots to a surrogate:
      dftune data import qe-run/ al4          DFT results -> a dataset
      dftune study run al4.toml               search, train, judge, save
      dftune study export al4 al4.model       the surrogate as a folder
      dftune model predict al4.model POSCAR   use it

    \b
    Tab completion (bash; zsh and fish alike):
      eval "$(_DFTUNE_COMPLETE=bash_source dftune)"
    """


for group in (data, descriptors, study, compare, model, serve, cluster):
    cli.add_command(group)


def main() -> None:
    """Entry point of the ``dftune`` command."""
    try:
        cli(standalone_mode=True)
    except BrokenPipeError:  # `dftune ... | head`
        sys.stderr.close()


if __name__ == "__main__":
    main()
