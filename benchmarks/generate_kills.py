"""Claim: kills at random moments lose no finished snapshot of `dftune data generate`, and leave nothing behind.

Cells of two atoms are computed by pw.x, in a fraction of a second each, so that most of the time goes to the starts of
the command.  It is killed by SIGKILL once a random number of snapshots is finished, 0 to 2 more than before, and up to
1 s has gone by; then it is given again.  What was finished must stay as it was, to the time of its files.  Programs
must end, and temporary folders go with the next command.  At the end LDOS and densities are compared, byte by byte,
with those of a folder that nobody disturbed.

    python benchmarks/generate_kills.py [KILLS=20]
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SPEC = """
[structure]
lattice = "fcc"
symbols = "Al"
a = 4.05
cubic = false
[[snapshots]]
train = {train}
validation = 1
test = 1
supercell = [2, 1, 1]
displacement = [0.05, 0.1]
[dft]
pseudopotentials.Al = "/usr/share/espresso/pseudo/Al.pz-vbc.UPF"
cutoff_ry = 8
k_points = [2, 2, 2]
temperature = 6000
[ldos]
spacing = 0.8
width = 0.8
"""
RESULTS = ("ldos.npy", "density.npy")
LONGEST = 120.0  # s, until what a killed command had started has ended


def finished(runs: Path) -> dict[Path, int]:
    """Files of snapshots with a result -> the time that they were written."""
    found = [done.parent for done in runs.glob("[0-9]*/done.json")]
    return {file: file.stat().st_mtime_ns for one in found for file in one.iterdir()}


def programs(temporary: Path) -> list[int]:
    """Processes that work in a folder."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and (process / "cwd").resolve().is_relative_to(temporary):
                found.append(int(process.name))
        except OSError:
            continue  # ended
    return found


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    rng, disturbed, lost, again, left = random.Random(0), 0, 0, 0, 0
    with tempfile.TemporaryDirectory(prefix="kills-") as scratch:
        folder = Path(scratch)
        temporary = folder / "tmp"
        temporary.mkdir()
        (folder / "al.toml").write_text(SPEC.format(train=8 * kills))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment |= {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "dftune.platform.cli.main", "data", "generate", str(folder / "al.toml")]
        log = (folder / "log").open("a")
        asked = {"env": environment, "stdout": log, "stderr": log}
        while disturbed < kills:
            before = finished(folder / "al.runs")
            number, pause = len({file.parent for file in before}) + rng.randrange(3), rng.uniform(0, 1)
            running = subprocess.Popen([*command, str(folder / "al")], **asked)  # type: ignore[call-overload]
            while len(list((folder / "al.runs").glob("[0-9]*/done.json"))) < number and running.poll() is None:
                time.sleep(0.01)
            time.sleep(pause)
            now = finished(folder / "al.runs")
            running.send_signal(signal.SIGKILL)
            if running.wait() != -signal.SIGKILL:
                raise SystemExit((folder / "log").read_text()[-2000:])
            disturbed += 1
            ends = time.monotonic() + LONGEST
            while programs(temporary) and time.monotonic() < ends:
                time.sleep(0.2)
            left += len(programs(temporary))
            after = finished(folder / "al.runs")
            lost += len(now.keys() - after.keys())
            again += sum(after.get(file, time_) != time_ for file, time_ in (before | now).items())
            print(f"kill {disturbed}: {len({file.parent for file in after})} snapshots", file=sys.stderr)
        before = finished(folder / "al.runs")
        for name in ("al", "other"):
            subprocess.run([*command, str(folder / name)], check=True, **asked)  # type: ignore[call-overload]
        after = finished(folder / "al.runs")
        again += sum(after.get(file) != time_ for file, time_ in before.items())
        names = sorted(done.parent.name for done in (folder / "other.runs").glob("[0-9]*/done.json"))
        same = [
            (folder / "al.runs" / name / file).read_bytes() == (folder / "other.runs" / name / file).read_bytes()
            for name in names
            for file in RESULTS
        ]
        row = {
            "case": "data generate killed",
            "kills": disturbed,
            "snapshots": len(names),
            "finished at a kill": len({file.parent for file in before}),
            "files lost": lost,
            "files written again": again,
            "programs left": left,
            "temporary folders left": len(list(temporary.glob("dftune-qe-*"))),
            "results as undisturbed": f"{sum(same)} of {len(same)}",
        }
        print(json.dumps(row))


if __name__ == "__main__":
    main()
