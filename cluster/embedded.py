"""A Ray of this machine alone, which a command starts for itself and ends with itself.

It is its user's alone.  It listens on loopback, whoever calls it needs a token of this run, and its files lie in a
folder that nobody else may enter.  It has no dashboard, no metrics, and no runtime
environments but those of variables.
"""

import gc
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..trainables.errors import one_line
from .processes import KEEP_ENVIRONMENT, MARK, end_left_over, mark, mark_folder

PATIENCE = 300  # seconds for each process of Ray to start: on a busy machine a minute is common
PATIENT = {  # limits of Ray's that a busy machine passes, in the environment of its processes
    "RAY_gcs_server_port_wait_time_s": str(PATIENCE),
    "RAY_agent_register_timeout_ms": str(1000 * PATIENCE),
    "RAY_worker_register_timeout_seconds": str(PATIENCE),
}
# In the environment while Ray starts, so that its processes have it, and nothing that is started later.
ENVIRONMENT = PATIENT | {
    KEEP_ENVIRONMENT: "1",
    "RAY_worker_niceness": "0",  # beside that of ours; of 15, eight busy processes leave a worker 1 % of a core
    "RAY_raylet_start_wait_time_s": "1",  # each time that we ask for it
    "RAY_gcs_rpc_server_connect_timeout_s": str(PATIENCE),
    "RAY_py_gcs_connect_timeout_s": str(PATIENCE),
    "RAY_raylet_client_num_connect_attempts": str(PATIENCE),  # one a second
    # A raylet that only waits for the CPU is not dead; one that is dead, the driver sees by itself.
    "RAY_health_check_timeout_ms": str(1000 * PATIENCE),
    "RAY_enable_pipe_based_agent_to_parent_health_check": "1",  # the input of agents ends with the raylet
}
SOCKET = 107  # bytes of the name of a socket
NAME = len("/abcdefgh")  # of a folder that mkdtemp makes
BELOW = len("/session_2026-11-28_15-03-21_845923_4194304/sockets/plasma_store")  # what Ray adds to its folder


@contextmanager
def embedded(say: Callable[[str], object]) -> Iterator[None]:
    """Be connected to a Ray of this process's own inside the block.

    Args:
        say: takes a line about what is going on.

    Raises:
        OSError: Ray did not start, twice, or there is no folder for its files.
    """
    end_left_over()
    folder = _folder()
    try:
        say("Ray is starting")
        if problem := _start(folder):
            say(f"Ray did not start ({problem}); trying again")
            if problem := _start(folder):
                raise OSError(f"{problem}; it was tried twice, so wait until the machine is less busy")
        yield
    finally:
        _end()
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path) -> str:
    """Start Ray.  Returns why it did not start, in one line, or nothing."""
    import ray

    from .ray_private import small_node

    settings = {MARK: mark(), **ENVIRONMENT}
    before = {name: os.environ.get(name) for name in settings}
    os.environ |= settings
    try:
        with small_node(PATIENCE):
            ray.init(
                address="local",
                include_dashboard=False,
                logging_level=logging.ERROR,
                log_to_driver=False,
                _temp_dir=str(folder),
                _skip_env_hook=True,  # `uv run` would have every worker set up an environment of its own
            )
        return ""
    except Exception as error:  # Ray raises Exception itself where it has waited too long
        problem = one_line(error, 300)
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    gc.collect()  # what is left of the node would end this process a minute after its GCS server
    _end()
    return problem


def _end() -> None:
    import ray

    ray.shutdown()
    end_left_over()


def _folder() -> Path:
    """A folder for Ray's files, which only this user may enter, with a path short enough for the names of sockets."""
    problems = []
    for base in dict.fromkeys((os.environ.get("RAY_TMPDIR") or tempfile.gettempdir(), "/tmp")):
        ours = Path(base).absolute() / f"dftune-ray-{os.getuid()}"
        if len(os.fsencode(ours)) + NAME + BELOW > SOCKET:
            problems.append(f"{base} is too long")
            continue
        try:
            ours.mkdir(mode=0o700, exist_ok=True)
            found = ours.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
                problems.append(f"{ours} is not a folder of yours")
                continue
            ours.chmod(0o700)
            folder = Path(tempfile.mkdtemp(dir=ours, prefix=""))
            mark_folder(folder)
            return folder
        except OSError as error:
            problems.append(f"{ours}: {error.strerror}")
    raise OSError(
        f"no folder for its files ({'; '.join(problems)}); set RAY_TMPDIR to a folder of yours with a path of at most "
        f"{SOCKET - BELOW - NAME - len(f'/dftune-ray-{os.getuid()}')} bytes"
    )
