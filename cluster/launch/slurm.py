"""A Slurm job that starts Ray on its nodes, runs a study there, and ends both."""

import shlex
from typing import Annotated

from pydantic import Field

from .nodes import AbsolutePath, AnyPath, Nodes, Word, assignments, settings, study_lines

_STOP_BEFORE = 180  # seconds before the time limit at which the study is told to stop


class SlurmJob(Nodes):
    """A study as a Slurm job."""

    study: AnyPath = Field(description="study file, on a file system that all nodes see")
    studies: AnyPath = Field(default="studies", description="folder of the studies, seen by all nodes")
    venv: AbsolutePath = Field(description="Python environment with dftune, seen by all nodes")
    hours: float = Field(default=4.0, ge=0.1, le=8760, allow_inf_nan=False, description="time limit [h]")
    partition: Word | None = Field(default=None, description="partition; default the site's")
    account: Word | None = Field(default=None, description="account; default the user's")
    qos: Word | None = Field(default=None, description="quality of service; default the site's")
    # Ray's sockets lie below it, and the name of a socket ends after 107 bytes.
    scratch: Annotated[AbsolutePath, Field(max_length=30)] = Field(default="/tmp", description="node-local folder")
    port: int | None = Field(
        default=None, ge=1024, le=65533, description="first of two ports on the head; default of the job's number"
    )
    wait: int = Field(default=300, ge=10, le=7200, description="time for all nodes to join [s]")


def slurm_script(job: SlurmJob) -> str:
    """The script for ``sbatch``."""
    minutes = max(round(job.hours * 60), 1)
    options = {
        "job-name": job.name,
        "nodes": job.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": job.cpus,
        "gpus-per-node": job.gpus or None,
        "mem": f"{job.memory}G",
        "time": f"{minutes // 60}:{minutes % 60:02d}:00",
        "partition": job.partition,
        "account": job.account,
        "qos": job.qos,
        "signal": f"B:TERM@{_STOP_BEFORE}",
        "requeue": "",
        "open-mode": "append",
        "no-kill": "",
    }
    lines = [f"#SBATCH --{name}{f'={v}' if v != '' else ''}" for name, v in options.items() if v is not None]
    gibibyte = 2**30
    ray = [
        f"--num-cpus={job.cpus}",
        f"--num-gpus={job.gpus}",
        # Ray sees the memory of the whole node, not the job's share of it.
        f"--object-store-memory={3 * job.memory * gibibyte // 10}",
        f"--memory={6 * job.memory * gibibyte // 10}",
    ]
    step = [f"--cpus-per-task={job.cpus}", *([f"--gpus-per-node={job.gpus}"] if job.gpus else [])]
    return "\n".join(
        [
            "#!/bin/bash",
            "# A study of dftune on Ray.  Submit with `sbatch FILE`; submit it again to go on after a stop.",
            *lines,
            "",
            "# Where your site needs it: module load ...",
            "",
            study_lines(job.study, job.studies, f"{job.venv.rstrip('/')}/bin/"),
            f"scratch={shlex.quote(job.scratch.rstrip('/'))}",
            f"port={job.port if job.port is not None else '$((20000 + 4 * (SLURM_JOB_ID % 3000)))'}",
            f"patience={job.wait}",
            f"n_nodes={job.nodes}",
            f"ray_options=({' '.join(ray)})",
            f"step_options=({' '.join(step)})",
            f"export {assignments(settings())}",
            _BODY,
        ]
    )


_BODY = r"""
set -u
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0  # Ray is ended after the study: no work is left to wait for
if [[ ${command[2]} == run ]]; then  # a mistake in the study file costs no start of Ray
    "${bin}dftune" study check --studies "$studies" -- "$study_file" || exit
fi
head=${SLURMD_NODENAME:?submit this file with sbatch}
run="dftune-$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}"
steps=() study='' stopped=''

say() { printf '[%(%F %T)T] %s\n' -1 "$*" >&2; }

# Runs Ray on one node until USR1.  TERM, which Slurm may send to all steps, is the study's to heed: Ray ends after it.
read -r -d '' node_step <<'STEP'
bin=$1 temp=$2 ray='' over=''
shift 2
trap : TERM
trap 'over=1; [ -z "$ray" ] || kill -TERM "$ray"' USR1
mkdir -m 700 -- "$temp" || exit 1
"${bin}python" -P -m dftune.cluster.launch.ray_node start --block --log-color=false --temp-dir="$temp" "$@" \
    >"$temp/said" 2>&1 &
ray=$!
[ -z "$over" ] || kill -TERM "$ray"
while wait "$ray"; code=$?; kill -0 "$ray" 2>/dev/null; do :; done
if [ -z "$over" ]; then
    echo "Ray ended by itself on $HOSTNAME, exit code $code; it said at last:"
    tail -qn 20 "$temp"/said "$temp"/session_latest/logs/raylet.err 2>/dev/null
fi >&2
rm -rf -- "$temp"
[ -n "$over" ]
STEP

start_node() {  # HOST OPTION...: a step of its own, so that one lost node does not take the others with it
    local host=$1
    shift
    srun --nodes=1 --ntasks=1 --nodelist="$host" "${step_options[@]}" --mpi=none --export=ALL --kill-on-bad-exit=0 \
        bash -c "$node_step" ray-node "$bin" "$scratch/$run-${#steps[@]}" --min-worker-port=0 --max-worker-port=0 \
        --dashboard-agent-listen-port=0 "${ray_options[@]}" "$@" &
    steps+=($!)
}

running() {  # PID...: whether all of them are
    local pid
    for pid in "$@"; do kill -0 "$pid" 2>/dev/null || return 1; done
}

finish() {  # ends Ray's steps by their own pids, and keeps the exit code
    local code=$? step
    trap '' TERM INT
    for step in "${steps[@]}"; do kill -USR1 "$step" 2>/dev/null; done
    for _ in {1..150}; do  # 30 s
        for step in "${steps[@]}"; do running "$step" && sleep 0.2 && continue 2; done
        break
    done
    for step in "${steps[@]}"; do running "$step" && say "ending step $step by force" && kill -KILL "$step"; done
    rm -f -- "$RAY_AUTH_TOKEN_PATH"
    exit "$code"
}

stop() {
    stopped=1
    say "told to stop"
    [[ -z $study ]] || tell_study
}

# A study under way stops cleanly at INT, also where Ray has taken TERM over; before, nothing is lost by TERM.
tell_study() {
    local caught
    caught=$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$study/status" 2>/dev/null)
    if (((0x${caught:-0} & 2) != 0)); then kill -INT "$study"; else kill -TERM "$study"; fi 2>/dev/null
}

give_up() { say "$*"; exit 1; }

# Ray listens on all interfaces, so whoever has no token is refused.  Only this user reads it, on all nodes.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$HOME/.dftune/ray-token-$SLURM_JOB_ID"
mkdir -p -- "$HOME/.dftune" && chmod 700 -- "$HOME/.dftune" || exit 1
(
    umask 077
    rm -f -- "$RAY_AUTH_TOKEN_PATH"
    head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$RAY_AUTH_TOKEN_PATH"
) || exit 1
trap finish EXIT
trap stop TERM INT

mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
((${#hosts[@]} == n_nodes)) || give_up "the job has ${#hosts[@]} nodes, not the $n_nodes it asked for"
ip=$("${bin}python" -c 'import ray; print(ray.util.get_node_ip_address())') || give_up "no Ray in $bin"
address="$ip:$port"

say "starting Ray at $address: $n_nodes nodes, the head on $head"
start_node "$head" --head --node-ip-address="$ip" --port="$port" \
    --include-dashboard=true --dashboard-host=127.0.0.1 --dashboard-port=$((port + 1))
deadline=$((SECONDS + patience))
until (exec 3<>"/dev/tcp/$ip/$port") 2>/dev/null; do
    [[ -z $stopped ]] || give_up "stopped before the study began"
    running "${steps[@]}" || give_up "Ray did not start on $head"
    ((SECONDS < deadline)) || give_up "Ray did not start on $head within $patience s"
    sleep 0.2
done
for host in "${hosts[@]}"; do [[ $host == "$head" ]] || start_node "$host" --address="$address"; done

"${bin}python" -P - "$address" "$n_nodes" $((deadline - SECONDS)) <<'PYTHON' &
import sys
import time

import ray

from dftune.cluster.connection import connected

address, wanted, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
end = time.monotonic() + seconds
with connected(address):
    while (found := sum(node["Alive"] for node in ray.nodes())) < wanted:
        if time.monotonic() > end:
            sys.exit(f"{found} of {wanted} nodes joined in time")
        time.sleep(1)
PYTHON
waiter=$!
while running "$waiter"; do
    if [[ -n $stopped ]] || ! running "${steps[@]}"; then kill "$waiter" 2>/dev/null; break; fi
    sleep 0.2
done
wait "$waiter" || give_up "not all nodes joined; the study did not begin"

say "dashboard: ssh -L $((port + 1)):127.0.0.1:$((port + 1)) $head, then http://127.0.0.1:$((port + 1)), token in" \
    "$RAY_AUTH_TOKEN_PATH"
say "${command[*]}"
RAY_ADDRESS=$address "${command[@]}" &
study=$!
[[ -z $stopped ]] || tell_study
while wait "$study"; kill -0 "$study" 2>/dev/null; do :; done  # a signal ends the wait, not the study
wait "$study"
code=$?
say "the study ended with exit code $code"
exit "$code"
"""
