"""The command line: each command a shell around one library call.

Results go to stdout, progress to stderr.  The exit code is 0 if it is done, 1 if it failed, 2 after wrong usage, and
130 if Ctrl-C stopped it, 143 if SIGTERM did.
"""

import _thread
import io
import os
import signal
import sys
import threading
from typing import Any, NoReturn

import click

from ...trainables.processes import PATIENCE
from .cluster import cluster
from .compare import compare
from .data import data
from .descriptors import descriptors
from .fit import fit
from .generate import data_converge, data_generate
from .grow import data_grow
from .md import md
from .model import model
from .options import study_folder
from .serve import serve
from .snapshots import COMMANDS
from .study import study
from .transition import transition

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Interrupted(click.ClickException):
    """Ctrl-C, or somebody elsewhere, has stopped a command."""

    exit_code = 130  # as a shell says of a process that Ctrl-C has ended


def _say_in_a_line(error: click.ClickException) -> None:
    """Make an error of click's one line.  It has words of the user's in it as they are."""
    from ...trainables.errors import one_line

    error.message = one_line(error.message)  # type: ignore[misc]


class Terminated(Interrupted):
    """SIGTERM, from a batch system or ``kill``, has stopped a command."""

    exit_code = 143


_terminated: list[int] = []  # signals; what is raised may be lost, as Ray makes KeyboardInterrupts of its own of it


def _terminate(number: int, frame: object) -> NoReturn:
    """SIGTERM stops a command as Ctrl-C does."""
    _terminated.append(number)
    raise KeyboardInterrupt


def _stopped(error: KeyboardInterrupt) -> Interrupted:
    """What has stopped a command, and how to go on."""
    how_to_go_on = next(iter(getattr(error, "__notes__", ())), "the same command begins again")
    if _terminated:
        return Terminated(f"stopped by SIGTERM; {how_to_go_on}")
    return Interrupted(f"stopped by Ctrl-C; {how_to_go_on}")


def _stop_all_the_same(unraisable: Any) -> None:
    """Raise a stop again that came where Python can only print it, such as in a callback of its import system.

    The command would go on else, and wait for what the user no longer wants.
    """
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        number = _terminated[-1] if _terminated else signal.SIGINT
        threading.Timer(0.01, _thread.interrupt_main, [number]).start()  # at once would be within this callback
    else:
        sys.__unraisablehook__(unraisable)


class Cli(click.Group):
    """Ends a command that raises an error with one line and exit code 1.

    A user's mistake is one line.  Of any other error the traceback is in a file, and the line says where.
    """

    def main(self, *args: Any, **extra: Any) -> Any:
        """As click's.  Where the terminal or file takes no Greek letters, they are escaped."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        return super().main(*args, **extra)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """As click's; a command can be stopped before it has begun."""
        try:
            return super().make_context(*args, **extra)
        except KeyboardInterrupt as error:
            raise _stopped(error) from error

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click's; a wrong option of the command itself is said as those of all others."""
        try:
            return super().parse_args(ctx, args)
        except click.ClickException as error:
            _say_in_a_line(error)
            raise

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            _say_in_a_line(error)
            raise
        except (click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise
        except KeyboardInterrupt as error:
            raise _stopped(error) from error
        except Exception as error:
            from ..bugs import last_words
            from ..study.errors import StudyInterrupted

            failure = click.ClickException
            if isinstance(error, StudyInterrupted):
                failure = Terminated if _terminated or error.number == signal.SIGTERM else Interrupted
            raise failure(last_words(error, study_folder(ctx))) from error


@click.group(cls=Cli, context_settings=CONTEXT)
@click.version_option(package_name="dftune", message="%(prog)s %(version)s")
def cli() -> None:
    """Find machine-learning surrogates of electronic structure, and use them.

    \b
    From DFT snapshots to a surrogate:
      dftune data import qe-run/ al4          DFT results -> a dataset
      dftune fit al4 al4.model                a surrogate without training
      dftune study run al4.toml               search, train, judge, save
      dftune study export al4 al4.model       the surrogate as a folder
      dftune model predict al4.model POSCAR   use it
      dftune md al4.model POSCAR              molecular dynamics with it

    \b
    Tab completion, a line for the start-up file of your shell:
      bash  eval "$(_DFTUNE_COMPLETE=bash_source dftune)"
      zsh   eval "$(_DFTUNE_COMPLETE=zsh_source dftune)"
      fish  _DFTUNE_COMPLETE=fish_source dftune | source
    """


for group in (data, descriptors, fit, study, compare, model, md, serve, cluster, transition):
    cli.add_command(group)
for command in (*COMMANDS, data_generate, data_converge, data_grow):
    data.add_command(command)


def main() -> None:
    """Entry point of the ``dftune`` command."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.unraisablehook = _stop_all_the_same
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    try:
        cli(standalone_mode=True)
    except BrokenPipeError:  # `dftune ... | head`
        sys.stderr.close()
    except SystemExit as end:
        if end.code in (Interrupted.exit_code, Terminated.exit_code):
            sys.unraisablehook = lambda _: None  # what was imported half fails at exit, too: the stop is said
        raise


if __name__ == "__main__":
    main()
