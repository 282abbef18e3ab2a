"""Claim: killing a study at any moment loses no finished trial, runs none twice, and changes nothing in what it finds.

    python benchmarks/soak.py --kills 50         # or --minutes 10; prints a row a study, and their sum

Small studies of several methods on a copy of examples/al4, each with an embedded local Ray in a process of its own, as
from the command line.  SIGKILL strikes the process at random moments (the seed fixes them), `dftune study resume` goes
on, until the study has ended; then the next one, until there have been enough kills.

A trial is *lost* that the process had said to be finished, or that the ledger had as finished, and that the ledger does
not have so after the kill or at the end.  A trial is *duplicated* that was said to be finished twice, or that the same
study without a kill does not have.  Of Ray's processes those are *left over*, and killed, that are there 20 s after the
last session of a study, by the session that they were started in.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import ray

from dftune import Study
from dftune.platform.ledger.ledger import LedgerTrial
from dftune.trainables.errors import InputError

ROOT = Path(__file__).parents[1]
METHODS = {  # method -> further keys of its study file
    "random": "",
    "optuna": "resources = { concurrent = 1 }\noptions = { startup = 4 }",  # one at a time, or its order is not fixed
    "rfr": "options = { candidates = 60, top = 16, calibration = 6 }",
    "oat": "",
}
SPEC = """
name = "{name}"
dataset = "{dataset}"
method = "{method}"
seed = {seed}
trials = 32
initializations = 1
descriptors = {{ cutoff = 4.0, two_j_max = 4 }}
{more}
[space]
width = {{ type = "int", low = 4, high = 32, log = true }}
activation = {{ type = "choice", values = ["relu", "silu", "tanh"] }}
learning_rate = {{ type = "float", low = 1e-3, high = 1e-2, log = true }}
[config]
n_layers = 1
epochs = 8
patience = 100
batch_size = 256
"""
EARLIEST = 1.0  # seconds after the start of a session that it is killed at; the latest are those of a whole study
SAID = re.compile(r"\] trial (\d+): validation_loss \S+ in ")


@dataclass
class Soak:
    """One study, killed again and again."""

    name: str
    folder: Path
    environment: dict[str, str]
    kills: int = 0
    sessions: list[int] = field(default_factory=list)  # of the operating system, each of one process and its Ray
    lost: set[int] = field(default_factory=set)
    said: list[int] = field(default_factory=list)  # finished, as the processes said
    before: dict[int, tuple] = field(default_factory=dict)  # finished, as the ledger had it after the last kill

    def session(self, spec: Path, seconds: float | None) -> bool:
        """Run or resume, killed after ``seconds``; whether the study has come to its end."""
        begun = (self.folder / "studies" / self.name / "ledger.db").exists()
        command = ["study", *(["resume", self.name] if begun else ["run", str(spec)]), "--json"]
        log = self.folder / "progress.txt"
        with log.open("w+", encoding="utf-8") as stream:
            driver = subprocess.Popen(
                [sys.executable, "-m", "dftune.platform.cli.main", *command],
                cwd=self.folder, env=self.environment, stdout=subprocess.DEVNULL, stderr=stream,
                start_new_session=True,
            )  # fmt: skip
            self.sessions.append(driver.pid)
            try:
                driver.wait(seconds)
            except subprocess.TimeoutExpired:
                driver.kill()
                driver.wait()
                self.kills += 1
            except BaseException:  # Ctrl-C
                os.killpg(driver.pid, signal.SIGKILL)
                end_sessions(self.sessions)
                raise
            stream.seek(0)
            text = stream.read()
        self.said += [int(number) for number in SAID.findall(text)]
        after = finished(self.trials())
        self.lost |= {n for n in {*self.said, *self.before} if n not in after}
        self.lost |= {n for n, was in self.before.items() if after.get(n) != was}
        self.before = after
        if driver.returncode not in (0, -signal.SIGKILL):
            raise SystemExit(f"{self.name} ended with {driver.returncode}:\n{text[-3000:]}")
        return driver.returncode == 0

    def trials(self) -> list[LedgerTrial]:
        """Those there are by now; none of a study that was killed before its ledger was made."""
        try:
            return Study.open(self.name, self.folder / "studies").trials()
        except InputError:
            if (self.folder / "studies" / self.name / "ledger.db").exists():
                raise
            return []


def finished(trials: list[LedgerTrial]) -> dict[int, tuple]:
    return {t.number: (t.config, t.value, t.seed, t.ended_at) for t in trials if t.state == "finished"}


def end_sessions(sessions: list[int]) -> int:
    """Number of processes of ended sessions that are still there after 20 s; they are killed."""
    deadline = time.monotonic() + 20
    while (left := in_sessions(sessions)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in left:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return len(left)


def in_sessions(sessions: list[int]) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its, *_ = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(its) in sessions and state not in "ZX":
            found.append(int(path.parent.name))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="stop after so many kills")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no further study after so many minutes")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills, and of the studies")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    arguments = parser.parse_args()
    started, rng, total, n = time.monotonic(), random.Random(arguments.seed), [], 0
    with tempfile.TemporaryDirectory(prefix="soak-", dir="/tmp") as scratch:  # short: Ray's sockets have long names
        folder = Path(scratch)
        shutil.copytree(ROOT / "examples" / "al4", folder / "al4")
        environment = os.environ | {"RAY_TMPDIR": scratch, "TMPDIR": scratch}
        environment.pop("RAY_ADDRESS", None)
        while sum(row["kills"] for row in total) < arguments.kills:
            if n >= len(arguments.methods) and (time.monotonic() - started) / 60 > arguments.minutes:
                break
            method, seed = arguments.methods[n % len(arguments.methods)], arguments.seed + n // len(arguments.methods)
            row = one(method, seed, folder, environment, rng, arguments.kills - sum(row["kills"] for row in total))
            total.append(row)
            print(json.dumps(row), flush=True)
            n += 1
    names = ("kills", "sessions", "finished", "lost", "duplicated", "half_written", "left_over")
    print(
        json.dumps(
            {"case": "soak, in all", **{name: sum(row[name] for row in total) for name in names}}
            | {"best_equal": all(row["best_equal"] for row in total), "equal": all(row["equal"] for row in total)}
            | {"seconds": round(time.monotonic() - started), "seed": arguments.seed, "ray": ray.__version__}
            | {"cpus": os.cpu_count()}
        )
    )
    if any(
        row["lost"] or row["duplicated"] or row["half_written"] or row["left_over"] or not row["equal"] for row in total
    ):
        sys.exit(1)


def one(
    method: str, seed: int, folder: Path, environment: dict[str, str], rng: random.Random, most: int
) -> dict[str, object]:
    """A study without a kill and the same one with at most ``most`` of them."""
    started, label = time.monotonic(), f"{method}-{seed}"
    whole, killed = (Soak(f"{label}-{kind}", folder, environment) for kind in ("whole", "killed"))
    for soak in (whole, killed):
        text = SPEC.format(name=soak.name, dataset=folder / "al4", method=method, seed=seed, more=METHODS[method])
        (folder / f"{soak.name}.toml").write_text(text)
    whole.session(folder / f"{whole.name}.toml", None)
    latest = time.monotonic() - started
    ended = False
    while not ended:
        # Any moment of a whole session, early ones more often: late ones alone would leave few kills to a study.
        seconds = rng.uniform(EARLIEST, rng.uniform(EARLIEST, latest)) if killed.kills < most else None
        ended = killed.session(folder / f"{killed.name}.toml", seconds)
    expected, found = whole.trials(), killed.trials()
    ends = [Study.open(soak.name, folder / "studies").conclusion() for soak in (whole, killed)]
    assert ends[0] is not None
    assert ends[1] is not None
    again = {n for n in killed.said if killed.said.count(n) > 1} | {t.number for t in found[len(expected) :]}
    return {
        "case": "soak",
        "method": method,
        "seed": seed,
        "kills": killed.kills,
        "sessions": len(killed.sessions),
        "finished": len(finished(found)),
        "lost": len(killed.lost | {t.number for t in expected[len(found) :]}),
        "duplicated": len(again),
        "half_written": len([*(folder / "studies" / killed.name).rglob("*.part")]),
        "left_over": end_sessions(killed.sessions + whole.sessions),
        "best_equal": (ends[0].trial, ends[0].value, ends[0].config) == (ends[1].trial, ends[1].value, ends[1].config),
        "equal": [(t.config, t.state, t.value) for t in expected] == [(t.config, t.state, t.value) for t in found],
        "accuracy_equal": ends[0].accuracy == ends[1].accuracy,
        "seconds": round(time.monotonic() - started),
    }


if __name__ == "__main__":
    main()
