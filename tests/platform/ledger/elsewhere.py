"""A study that somebody else holds, and commands about it."""

import threading
from contextlib import closing

from click.testing import CliRunner

from dftune import Study
from dftune.platform.cli.main import cli
from dftune.platform.ledger.lease import held
from dftune.platform.ledger.ledger import Ledger
from dftune.platform.spec import StudySpec

SPACE = {"width": {"type": "int", "low": 4, "high": 64}}
SPEC = StudySpec.of({"name": "kept", "dataset": "/nowhere", "space": SPACE, "method": "random", "trials": 40})
CONFIG = {"width": 8}
REPORT = {"epoch": 7, "best_loss": 0.25, "seconds": 2.0}
CHEAP = {"cutoff": 4.0, "two_j_max": 4}


def run(*arguments, code=0, url=None):
    """A command, with the URL where a user would put it."""
    runner = CliRunner(env={"DFTUNE_LEDGER": url})
    result = runner.invoke(cli, [str(a) for a in arguments], prog_name="dftune")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


class Runner(threading.Thread):
    """Holds a study as ``study run`` does and ends a trial now and then, until it is asked to stop or has no more.

    A context: it is over at the end, at the latest.
    """

    def __init__(self, where, *, trials=1000, pause=0.1):
        super().__init__(daemon=True)
        self.study = Study.from_spec(SPEC, *where)
        self.trials, self.pause, self.stopped_by, self.holds = trials, pause, None, threading.Event()
        self.over, self.waits = threading.Event(), threading.Event()  # the latter from its first pause on

    def run(self):
        study = self.study
        study.folder.mkdir(parents=True, exist_ok=True)
        with (
            closing(study.place.home("kept")) as home,
            held(home) as lease,
            closing(Ledger.create(study.place, SPEC, "0" * 64)) as ledger,
        ):
            ledger.claim(lease)
            self.holds.set()
            for n in range(self.trials):
                ledger.asked(n, CONFIG, seed=n, scores={})
                ledger.told(n, 1.0 / (n + 1), REPORT, None)
                if lease.stop or self._waited():
                    self.stopped_by = lease.stop
                    return
            ledger.conclude({"trial": 4, "config": {}, "value": 0.2, "accuracy": {}, "seconds": {}})

    def _waited(self):
        self.waits.set()
        return self.over.wait(self.pause)

    def __enter__(self):
        self.start()
        assert self.holds.wait(600)
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join(600)


def options(where):
    return ("--studies", where[0])
