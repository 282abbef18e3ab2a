"""Another process for a test, forked from its own: it has all imports, which take a new one a second of a processor.

A test forks before it starts threads: what one of them has locked, the other process would wait for without end.
"""

import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress


class Forked:
    """Runs ``act`` in a process of its own, with pipes and signals as a new one has them; as ``subprocess.Popen``.

    A context: the process is over at the end, at the latest.
    """

    def __init__(self, act: Callable[[], object]) -> None:
        ours, theirs = [], []
        for writes in (1, 0, 0):  # its input, its output, its errors: we write the first and read the others
            ends = os.pipe()
            ours.append(ends[writes])
            theirs.append(ends[1 - writes])
        self.pid = os.fork()
        if not self.pid:
            try:
                for end in ours:
                    os.close(end)
                _run(act, theirs)
            finally:
                os._exit(1)
        for end in theirs:
            os.close(end)
        self.stdin, self.stdout, self.stderr = (open(end, mode) for end, mode in zip(ours, "wrr"))  # noqa: SIM115
        self.returncode: int | None = None

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def communicate(self, text: str = "") -> tuple[str, str]:
        """Send it the text and wait for its end; what it has written and nobody has read."""
        with suppress(BrokenPipeError):
            self.stdin.write(text)
            self.stdin.close()
        out, err = self.stdout.read(), self.stderr.read()
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return out, err

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *_: object) -> None:
        if self.returncode is None:
            self.send_signal(signal.SIGKILL)
            self.communicate()
        self.stdout.close()
        self.stderr.close()


def _run(act: Callable[[], object], ends: list[int]) -> None:
    """Run it as Python does, to the end of this process."""
    for number, end in enumerate(ends):
        os.dup2(end, number)
        os.close(end)
    sys.stdin, sys.stdout, sys.stderr = (open(number, mode) for number, mode in enumerate("rww"))  # noqa: SIM115
    gc.disable()  # what the tests hold is theirs to close
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(600)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    status = 0
    try:
        act()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def forked_command(*words: object, prepare: Callable[[], object] = lambda: None) -> Forked:
    """A command of the command line in such a process, which first does ``prepare``."""
    from dftune.platform.cli.main import main

    def act() -> None:
        prepare()
        sys.argv = ["dftune", *map(str, words)]
        main()

    return Forked(act)
