"""Stand-ins for Slurm and for the Python environment of a cluster, and what they leave behind."""

import sys
from pathlib import Path

NASTY = 'it\'s "$(touch pwned)" `touch pwned` ; touch pwned #é'

SRUN = """#!/bin/bash
echo "$*" | head -n 1 >>"$HOME/srun"
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
SCONTROL = """#!/bin/bash
[[ "$1 $2" == "show hostnames" ]] && tr , '\\n' <<<"$3"
"""
# Stand-ins for the Python environment: `ray` listens where a head would, `dftune` says how it was called.
PYTHON = f"""#!/bin/bash
case "$1 $2" in
    "-c import ray"*) echo 127.0.0.1 ;;
    "-P -m") shift 3; exec "${{0%python}}ray" "$@" ;;
    "-P -") until (($(wc -l <"$HOME/ray") >= $4)); do sleep 0.05; done ;;
    *) exec {sys.executable} "$@" ;;
esac
"""
RAY = f"""#!{sys.executable}
import json, os, socket, stat, sys, time
home, head = os.environ["HOME"], "--head" in sys.argv
if os.environ.get("RAY_FAILS") == ("head" if head else "worker"):
    print("no Ray today")
    sys.exit(3)
token = os.environ["RAY_AUTH_TOKEN_PATH"]
seen = {{"argv": sys.argv, "mode": stat.S_IMODE(os.stat(token).st_mode), "token": open(token).read(), **os.environ}}
with open(f"{{home}}/ray", "a") as log:
    log.write(json.dumps(seen) + "\\n")
if head:
    listener = socket.create_server(("127.0.0.1", int([a for a in sys.argv if a.startswith("--port=")][0][7:])))
time.sleep(1000)
"""
DFTUNE = f"""#!{sys.executable}
import os, signal, subprocess, sys, time
home = os.environ["HOME"]
if sys.argv[2] == "check":
    sys.exit(int(os.environ.get("CHECK_CODE", "0")))

def stop(number, frame):
    with open(f"{{home}}/signals", "a") as log:
        log.write(signal.Signals(number).name + "\\n")
    global code
    code = 9
    alive = subprocess.run(["pgrep", "-fc", f"{{home}}/bin/ray"], capture_output=True, text=True).stdout
    open(f"{{home}}/ray-at-stop", "w").write(alive)

code = int(os.environ.get("STUDY_CODE", "0"))
signal.signal(signal.SIGINT, stop)
with open(f"{{home}}/study.part", "w") as log:
    log.write("\\n".join([os.environ.get("RAY_ADDRESS", ""), *sys.argv[1:]]) + "\\n")
os.rename(f"{{home}}/study.part", f"{{home}}/study")
end = time.monotonic() + float(os.environ.get("STUDY_WAITS", "0"))
while time.monotonic() < end and code != 9:
    time.sleep(0.1)
if code == 9:
    time.sleep(1)
sys.exit(code)
"""


def program(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def left_behind(home) -> list[str]:
    """Command lines of processes that were started below ``home``."""
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(home) in line:
            lines.append(line)
    return lines
