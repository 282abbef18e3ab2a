"""The Ray cluster to work on: an embedded local one by default, or one that runs already."""

import logging
import os
import re
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ..trainables.errors import InputError
from ..trainables.processes import PATIENCE
from .embedded import embedded
from .loss import Watch

# Read when Ray is imported or started, so set before.  In Ray 2.60 workers without a GPU would see
# all of them; Tune would write each result to three log formats, catch Ctrl-C by itself, and change directory.
SETTINGS = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints to stdout even when told to be silent
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # the ledger remembers, Tune need not
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    **PATIENCE,
}


class ClusterError(InputError):
    """The cluster cannot be reached, or does not have what was asked for."""


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep handlers that were set before.

    ``ray.init`` puts its own in the place of SIGTERM's, which ends hard.  Interrupted, it leaves threads that may end
    the process hard, too: so a first Ctrl-C waits until Ray has started.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    came = list[int]()

    def wait(number: int, frame: object) -> None:
        came.append(number)
        if len(came) > 1:
            raise KeyboardInterrupt

    if before[signal.SIGINT] is signal.default_int_handler:
        signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        for number, handler in before.items():
            if callable(handler):
                signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def _forget_token() -> None:
    """So that a cluster to which this process connects next is asked with its own, as Ray reads one and keeps it."""
    from .ray_private import forget_token

    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
        os.environ.pop(name, None)
    forget_token()


def given_address(address: str | None) -> str | None:
    """The address of a running cluster: the one given, else RAY_ADDRESS; None for an embedded Ray."""
    address = (address or os.environ.get("RAY_ADDRESS") or "").strip() or None
    return None if address == "local" else address


@contextmanager
def connected(
    address: str | None = None,
    meanwhile: Callable[[], object] = lambda: None,
    say: Callable[[str], object] = lambda text: None,
    *,
    remedy: str = "the same command begins again",
    log: Path | None = None,
) -> Iterator[None]:
    """Be connected to Ray inside the block.

    Inside a process that is connected already, that connection is used and left as it is.  If Ray is killed under the
    process, that ends with one line and exit code 1: an embedded one, the raylet of this machine, or a cluster's head.
    A KeyboardInterrupt of the block has the remedy as a note.

    Args:
        address: of a running cluster; None for RAY_ADDRESS, or an embedded local Ray that ends with the block.
        meanwhile: done in a thread while Ray starts, if it has to; its errors are raised here.
        say: takes a line about what is going on.
        remedy: how to go on if Ray is killed or the user stops it, in a few words.
        log: file for what Ray would print on the terminal; it is made when there is something.

    Raises:
        ClusterError: no cluster answers at the address, or Ray did not start here.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    address = given_address(address)
    own_token = address is None and not any(name.startswith("RAY_AUTH_") for name in os.environ)
    if own_token:
        # Others on this machine reach its loopback, so Ray asks for a token: one of this run alone, not the one that
        # Ray would write to ~/.ray for everybody to read.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    import ray

    from .ray_private import head_address, processes, session_folder

    if ray.is_initialized():
        yield
        return
    with ExitStack() as connection:
        connection.enter_context(_noting(remedy))
        if own_token:
            connection.callback(_forget_token)
        write = connection.enter_context(_quiet(log))
        with _own_signals(), ThreadPoolExecutor(1) as aside:
            done = aside.submit(meanwhile)
            try:
                connection.enter_context(embedded(say) if address is None else _joined(address))
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                reason = (str(error) or repr(error)).splitlines()[0]
                raise ClusterError(
                    f"cannot start Ray on this machine: {reason}"
                    if address is None
                    else f"cannot reach Ray at {address}: {reason}; --address and RAY_ADDRESS take HOST:PORT of a "
                    "running cluster"
                ) from error
        watch = Watch(remedy, write)
        connection.callback(watch.end)
        watch.begin(processes(), session_folder() / "logs", head=None if address is None else head_address())
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # why a trial died, the ledger says in one line
        for name in ("ray.data", "ray.train"):
            logging.getLogger(name).setLevel(logging.ERROR)
        done.result()
        yield


@contextmanager
def _noting(remedy: str) -> Iterator[None]:
    """Give a KeyboardInterrupt of the block a note that says how to go on."""
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.add_note(remedy)
        raise


class _Log(logging.Handler):
    """Adds records to a file, which it makes for the first one; those that find no room are lost."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError), self._file.open("a", encoding="utf-8", errors="replace") as stream:
            stream.write(f"{self.format(record)}\n")


@contextmanager
def _quiet(log: Path | None) -> Iterator[Callable[[str], object]]:
    """Keep Ray's own words from the terminal.  Yields what writes more into the log."""
    from .ray_private import words_to

    handler = logging.NullHandler() if log is None else _Log(log)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    own = logging.getLogger("dftune.ray")
    own.propagate = False
    loggers = [own, logging.getLogger("ray")]
    before = [logger.handlers for logger in loggers]
    try:
        for logger in loggers:
            logger.handlers = [handler]
        with words_to(own.error):
            yield own.error
    finally:
        for logger, handlers in zip(loggers, before, strict=True):
            logger.handlers = handlers


@contextmanager
def _joined(address: str) -> Iterator[None]:
    """Be connected to a running cluster inside the block.  Raises the errors of Ray, and OSError."""
    import ray

    if address != "auto":
        if not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^:/]+):\d{1,5}", address):
            raise ValueError("not of the form HOST:PORT")
        # Ray itself would try for minutes, and fill the terminal meanwhile.
        host, _, port = address.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
        yield
    finally:
        ray.shutdown()
