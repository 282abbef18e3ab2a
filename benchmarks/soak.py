"""Claim: killing a study at any moment loses no finished trial, runs none twice, and changes nothing in what it finds.

    python benchmarks/soak.py --kills 50         # or --minutes 10; prints a row a study, and their sum

Small studies of several methods on a copy of examples/al4, each with an embedded local Ray in a process of its own, as
from the command line.  SIGKILL strikes that process, or one that trains or scores for it, at random moments (the seed
fixes them); `dftune study resume` goes on, until the study has ended; then the next one, until there have been enough
kills.

Under a scheduler it depends on who reports first which trials are stopped.  Then the configs are to be equal, and the
values of those trials that came to their end in both studies; which trial is best may differ.

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
from dftune.platform.ledger.trial import LedgerTrial
from dftune.trainables.errors import InputError

ROOT = Path(__file__).parents[1]
ALONE = "resources = { concurrent = 1 }"  # one at a time, or what a method learns first is not fixed
SCREEN = "options = { candidates = 40, top = 6, calibration = 6 }"
STUDIES = {  # label -> method, and further keys of its study file
    "random": ("random", ""),
    "optuna": ("optuna", f"{ALONE}\noptions = {{ startup = 4 }}"),
    "rfr": ("rfr", SCREEN),
    "oat": ("oat", ""),
    "naswot": ("naswot", SCREEN),
    "optuna+rfr": ("optuna+rfr", f"{ALONE}\noptions = {{ startup = 4, warmup = 4 }}"),
    "direct": ("direct", ALONE),
    "rfr>optuna": ("rfr>optuna", f"{ALONE}\noptions = {{ candidates = 40, top = 3, calibration = 6 }}"),
    "asha": ("random", 'scheduler = { type = "asha", grace_epochs = 2, reduction_factor = 2 }'),
}
WORKERS = (b"ray::ImplicitFunc", b"ray::ScorerActor")  # titles of processes that train trials, and that score
SPEC = """
name = "{name}"
dataset = "{dataset}"
method = "{method}"
seed = {seed}
trials = {trials}
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
    kills: int = 0  # of drivers and of workers
    workers: int = 0  # of workers
    sessions: list[int] = field(default_factory=list)  # of the operating system, each of one process and its Ray
    lost: set[int] = field(default_factory=set)
    said: list[int] = field(default_factory=list)  # finished, as the processes said
    before: dict[int, tuple] = field(default_factory=dict)  # finished, as the ledger had it after the last kill

    def session(self, spec: Path, seconds: float | None, worker: bool = False) -> bool:
        """Run or resume; kill it, or a ``worker`` if it has one, after ``seconds``.  Whether the study has ended."""
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
                self.kills += 1
                struck = [p for p in in_sessions([driver.pid]) if title(p).startswith(WORKERS)] if worker else []
                if struck:  # one a session: a trial that is lost twice has failed
                    self.workers += 1
                    os.kill(struck[0], signal.SIGKILL)
                else:
                    driver.kill()
                driver.wait()
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
    """What the ledger has of the trials that have ended, those that a scheduler stopped among them."""
    ended = ("finished", "stopped")
    return {t.number: (t.state, t.config, t.value, t.seed, t.ended_at) for t in trials if t.state in ended}


def end_sessions(sessions: list[int]) -> int:
    """Number of processes of ended sessions that are still there after 20 s; they are killed."""
    deadline = time.monotonic() + 20
    while (left := in_sessions(sessions)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in left:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return len(left)


def title(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


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
    parser.add_argument("--trials", type=int, default=32, help="most trials of a study")
    parser.add_argument("--studies", nargs="+", choices=STUDIES, default=list(STUDIES))
    arguments = parser.parse_args()
    started, rng, total, n = time.monotonic(), random.Random(arguments.seed), [], 0
    with tempfile.TemporaryDirectory(prefix="soak-", dir="/tmp") as scratch:  # short: Ray's sockets have long names
        folder = Path(scratch)
        shutil.copytree(ROOT / "examples" / "al4", folder / "al4")
        environment = os.environ | {"RAY_TMPDIR": scratch, "TMPDIR": scratch}
        environment["RAY_memory_monitor_refresh_ms"] = "0"  # others' use of the memory is to end no trial here
        environment.pop("RAY_ADDRESS", None)
        share = -(-arguments.kills // len(arguments.studies))  # so that each has some
        while (left := arguments.kills - sum(row["kills"] for row in total)) > 0:
            if n >= len(arguments.studies) and (time.monotonic() - started) / 60 > arguments.minutes:
                break
            label, seed = arguments.studies[n % len(arguments.studies)], arguments.seed + n // len(arguments.studies)
            row = one(label, seed, arguments.trials, folder, environment, rng, min(left, share))
            total.append(row)
            print(json.dumps(row), flush=True)
            n += 1
    names = ("kills", "of_workers", "sessions", "finished", "lost", "duplicated", "half_written", "left_over")
    print(
        json.dumps(
            {"case": "soak, in all", **{name: sum(row[name] for row in total) for name in names}}
            | {name: all(row[name] for row in total) for name in ("equal", "best_equal", "accuracy_equal")}
            | {"seconds": round(time.monotonic() - started), "seed": arguments.seed, "ray": ray.__version__}
            | {"cpus": os.cpu_count()}
        )
    )
    wrong = ("lost", "duplicated", "half_written", "left_over")
    if any(any(row[name] for name in wrong) or not row["equal"] for row in total):
        sys.exit(1)


def one(
    study: str, seed: int, trials: int, folder: Path, environment: dict[str, str], rng: random.Random, most: int
) -> dict[str, object]:
    """A study without a kill and the same one with at most ``most`` of them."""
    started, label = time.monotonic(), f"{re.sub('[+>]', '.', study)}-{seed}"
    method, more = STUDIES[study]
    whole, killed = (Soak(f"{label}-{kind}", folder, environment) for kind in ("whole", "killed"))
    for soak in (whole, killed):
        about = {"method": method, "seed": seed, "trials": trials, "more": more}
        text = SPEC.format(name=soak.name, dataset=folder / "al4", **about)
        (folder / f"{soak.name}.toml").write_text(text)
    whole.session(folder / f"{whole.name}.toml", None)
    latest = time.monotonic() - started
    ended = False
    while not ended:
        # Any moment of a whole session, early ones more often: late ones alone would leave few kills to a study.
        seconds = rng.uniform(EARLIEST, rng.uniform(EARLIEST, latest)) if killed.kills < most else None
        ended = killed.session(folder / f"{killed.name}.toml", seconds, worker=rng.random() < 1 / 3)
    expected, found = whole.trials(), killed.trials()
    ends = [Study.open(soak.name, folder / "studies").conclusion() for soak in (whole, killed)]
    assert ends[0] is not None
    assert ends[1] is not None
    again = {n for n in killed.said if killed.said.count(n) > 1} | {t.number for t in found[len(expected) :]}
    if "scheduler" in more:
        both = [pair for pair in zip(expected, found, strict=False) if {t.state for t in pair} == {"finished"}]
        equal = [t.config for t in expected] == [t.config for t in found]
        equal &= all(one.value == other.value for one, other in both)
    else:
        equal = [(t.config, t.state, t.value) for t in expected] == [(t.config, t.state, t.value) for t in found]
    return {
        "case": "soak",
        "study": study,
        "seed": seed,
        "kills": killed.kills,
        "of_workers": killed.workers,
        "sessions": len(killed.sessions),
        "finished": len(finished(found)),
        "lost": len(killed.lost | {t.number for t in expected[len(found) :]}),
        "duplicated": len(again),
        "half_written": len([*(folder / "studies" / killed.name).rglob("*.part")]),
        "left_over": end_sessions(killed.sessions + whole.sessions),
        "best_equal": (ends[0].trial, ends[0].value, ends[0].config) == (ends[1].trial, ends[1].value, ends[1].config),
        "equal": equal,
        "accuracy_equal": ends[0].accuracy == ends[1].accuracy,
        "seconds": round(time.monotonic() - started),
    }


if __name__ == "__main__":
    main()
