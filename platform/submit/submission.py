"""A study on a cluster that runs elsewhere, through Ray's job API: handed over, and followed as if it were here.

We send the package and the study's specification, never data.  The driver runs on the cluster, so a lost connection
loses nothing.  Ray itself remembers which job belongs to which study.
"""

import asyncio
import hashlib
import os
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from ...cluster.connection import SETTINGS
from ...cluster.ray_private import quiet_job_client
from ...trainables.data.dataset import Dataset
from ...trainables.data.location import is_url
from ...trainables.errors import InputError, one_line
from ...trainables.temporary import temporary_folder
from ..spec import StudySpec
from .order import MARK, Order

PARTS = ("__init__.py", "py.typed", "platform", "searchers", "trainables", "cluster")  # of the package
STOP_SECONDS = 120  # for a study to stop cleanly when its job is stopped; Ray's default is 3
SILENCE = 60.0  # seconds without a word after which the connection is made anew: it may be dead without saying so
AWAY = 900.0  # seconds that the cluster may be out of reach before following ends
RAY_RUNS = ("PENDING", "RUNNING")

# Ray's environment need not be on PATH.  Ray starts its workers with the right Python: the raylet's command line, two
# processes above this shell, says which.
FIND_PYTHON = (
    r"""p=$(tr '\0' '\n' </proc/$(cut -d' ' -f4 /proc/$PPID/stat)/cmdline 2>/dev/null | """
    r"""sed -n 's/^--python_worker_command=\([^ ]*\) .*/\1/p'); """
    r"""exec "${p:-python}" -m dftune.platform.cli.job order.json"""
)


class SubmissionError(InputError):
    """A study cannot be handed to a cluster, or is no longer there."""


class Cluster:
    """A Ray cluster, seen through the job API of its dashboard.

    Args:
        address: ``http://HOST:8265``.

    Raises:
        SubmissionError: no Ray answers there, or it does not let us in.
    """

    def __init__(self, address: str) -> None:
        self.address = address if "://" in address else f"http://{address}"
        parts = urlsplit(self.address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SubmissionError(
                f"'{address}' is not the address of a Ray dashboard; --address takes http://HOST:8265, as `ray start` "
                "prints it"
            )
        quiet_job_client()
        with self._asking(), _address_in_environment(self.address):
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname, port), timeout=10).close()  # Ray's own has no time limit
            self._client = JobSubmissionClient(self.address)

    def submit(self, spec: StudySpec, *, studies: str, ledger: str | None = None, as_json: bool = False) -> "Job":
        """Start a study there, go on with one that was stopped, or join one that runs.

        Args:
            spec: of the study; its dataset a URL, or a path as the nodes see it.
            studies: folder of the studies on the cluster, absolute.
            ledger: URL of a database that holds the ledger, if not a file in the study's folder.
            as_json: the form of the result.

        Raises:
            SubmissionError: another study of that name runs there, or the cluster refuses the job.
            DatasetError: a URL that cannot be read from here.
        """
        if is_url(spec.dataset):
            Dataset.open(spec.dataset)
        order = Order(spec.model_dump(mode="json"), studies, _requirements(), as_json)
        digest = hashlib.sha256(order.to_json().encode()).hexdigest()[:16]
        for _ in range(2):  # somebody else may submit it at the same time
            number, found = self._latest(spec.name)
            if found is not None and found.status in RAY_RUNS:
                return self._joined(spec.name, found, digest)
            with suppress(_Taken):
                return self._start(f"dftune-{spec.name}-{number + 1}", spec.name, order, digest, ledger)
        raise SubmissionError(f"study '{spec.name}' is being submitted by others at the same time; submit it again")

    def _latest(self, study: str) -> tuple[int, JobDetails | None]:
        """The number of a study's last job, and the job; 0 and None if there was none."""
        with self._asking():
            jobs = [j for j in self._client.list_jobs() if (j.metadata or {}).get("dftune_study") == study]
        numbered = [(int(str(j.submission_id).rpartition("-")[2]), j) for j in jobs]
        return max(numbered, key=lambda pair: pair[0], default=(0, None))

    def _joined(self, study: str, found: JobDetails, digest: str) -> "Job":
        if (found.metadata or {}).get("dftune_order") != digest:
            raise SubmissionError(
                f"{self.address}: a study '{study}' runs there already, with another study file, dataset or folder "
                f"(job {found.submission_id}); choose another name, wait for it, or stop it with "
                f"`ray job stop --address {self.address} {found.submission_id}`"
            )
        return Job(self, str(found.submission_id), joined=True)

    def _start(self, job: str, study: str, order: Order, digest: str, ledger: str | None) -> "Job":
        environment = {**SETTINGS, "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}
        if ledger is not None:
            environment["DFTUNE_LEDGER"] = ledger
        with temporary_folder("submit") as folder, self._asking():
            work = folder / "work"
            work.mkdir()
            (work / "order.json").write_text(order.to_json(), encoding="utf-8")
            try:
                self._client.submit_job(
                    entrypoint=FIND_PYTHON,
                    submission_id=job,
                    runtime_env={
                        "working_dir": str(work),
                        "py_modules": [str(staged_package(folder))],
                        "env_vars": environment,
                    },
                    metadata={"dftune_study": study, "dftune_order": digest},
                )
            except RuntimeError as error:
                if "already exists" in str(error):
                    raise _Taken from error
                raise
        return Job(self, job, joined=False)

    def details(self, job: str) -> JobDetails:
        """What Ray knows of a job.  Raises SubmissionError: the cluster cannot be reached, or knows no such job."""
        with self._asking():
            return self._client.get_job_info(job)

    def log(self, job: str) -> AsyncIterator[str]:
        """The output of a job from its beginning, as it comes, to its end."""
        return self._client.tail_job_logs(job)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Errors of the connection in one line."""
        try:
            yield
        except AuthenticationError as error:
            raise SubmissionError(
                f"{self.address}: asks for another token than this one; set RAY_AUTH_MODE=token and "
                "RAY_AUTH_TOKEN_PATH to the file of the cluster's token (or put it into ~/.ray/auth_token)"
            ) from error
        except OSError as error:  # those of `requests` too
            raise SubmissionError(
                f"no Ray dashboard answers at {self.address} ({_first(error)}); --address takes http://HOST:8265, from "
                "elsewhere through `ssh -L 8265:127.0.0.1:8265 HOST`"
            ) from error
        except (RuntimeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise SubmissionError(f"{self.address}: {_first(error)}") from error


class Job:
    """A study that was handed over.

    Args:
        cluster: where.
        id: by which Ray knows it.
        joined: whether it ran there already.
    """

    def __init__(self, cluster: Cluster, id: str, *, joined: bool) -> None:
        self.cluster, self.id, self.joined = cluster, id, joined
        self._seen = self._part = 0
        self._before = ""

    def follow(self, progress: TextIO, result: TextIO, say: Callable[[str], None], *, checks_only: bool = False) -> int:
        """Pass on what the study says, until it ends.  A lost connection is made again.

        Args:
            progress, result: where its progress and its result are written.
            say: told when the connection is lost.
            checks_only: until the study begins.

        Returns:
            The exit code of the study; 0 when it has begun.

        Raises:
            SubmissionError: the job was stopped, could not be started, is gone, or the cluster does not come back.
        """
        lost: float | None = None
        while True:
            try:
                with suppress(TimeoutError):
                    asyncio.run(self._listen(progress, result, checks_only))
                if checks_only and self._part > 1:
                    return 0
                found, lost = self.cluster.details(self.id), None
            except (OSError, RuntimeError, aiohttp.ClientError, SubmissionError) as error:
                if isinstance(error, SubmissionError) and "does not exist" in str(error):
                    raise SubmissionError(f"{self.cluster.address}: knows no job {self.id} any more") from error
                if lost is None:
                    say(f"connection lost ({_first(error)[:150]}); the study goes on, trying again ...")
                    lost = time.monotonic()
                if time.monotonic() - lost > AWAY:
                    raise SubmissionError(
                        f"{self.cluster.address} has been out of reach for {AWAY / 60:.0f} min; submit the study again "
                        "to follow it"
                    ) from error
            else:
                if found.status not in RAY_RUNS:
                    return self._ended(found, progress)
            time.sleep(1)

    async def _listen(self, progress: TextIO, result: TextIO, checks_only: bool) -> None:
        log, position = self.cluster.log(self.id), 0
        while not (checks_only and self._part > 1):
            try:
                text = await asyncio.wait_for(anext(log), SILENCE)
            except StopAsyncIteration:
                return
            fresh = text[max(self._seen - position, 0) :]
            position += len(text)
            self._seen = max(self._seen, position)
            self._pass_on(fresh, progress, result)

    def _pass_on(self, text: str, progress: TextIO, result: TextIO) -> None:
        for n, part in enumerate(text.split(MARK)):
            self._part += n > 0
            if self._part == 0:
                self._before += part  # Ray's own words, of no use unless nothing else follows
            else:
                stream = result if self._part > 2 else progress
                stream.write(part)
                stream.flush()

    def _ended(self, found: JobDetails, progress: TextIO) -> int:
        if found.status == JobStatus.SUCCEEDED:
            return 0
        if found.status == JobStatus.STOPPED:
            raise SubmissionError(
                f"job {self.id} was stopped; finished trials are kept, submit the study again to go on"
            )
        if self._part == 0 or found.driver_exit_code is None:
            progress.write(self._before)
            raise SubmissionError(f"job {self.id} failed: {_first(found.message or 'Ray does not say why')}")
        return found.driver_exit_code or 1


class _Taken(Exception):
    """A job of that id exists."""


def staged_package(folder: Path) -> Path:
    """A copy of this package in ``folder``: its Python files and py.typed, nothing else."""
    source, target = Path(__file__).parents[2], folder / "dftune"
    for part in PARTS:
        files = (source / part).rglob("*.py") if (source / part).is_dir() else [source / part]
        for file in files:
            copy = target / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    return target


@contextmanager
def _address_in_environment(address: str) -> Iterator[None]:
    """Where Ray looks first: an address of the environment, RAY_ADDRESS too, counts for more than an argument."""
    name = "RAY_API_SERVER_ADDRESS"
    before = os.environ.get(name)
    os.environ[name] = address
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _requirements() -> list[str]:
    try:
        return [r for r in requires("dftune") or [] if "extra ==" not in r]
    except PackageNotFoundError:  # a source tree without an installation
        return []


def _first(error: Any) -> str:
    return one_line(error, 400).rstrip(". ")
