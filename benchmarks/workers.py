"""The start of a worker of an embedded Ray: forked, and as Ray starts one, in turns.

    python benchmarks/workers.py [ROUNDS]

Each worker imports what one needs that trains an LDOS surrogate.  Seconds of CPU are those of the worker; seconds until
it answers are the whole; memory is that of one of two workers that live at once, what several processes share divided
by their number.
"""

import sys
import time
from pathlib import Path
from statistics import median

import ray

from dftune.cluster.connection import connected


@ray.remote(num_cpus=0)
class Worker:
    """Has imported what a trial of the LDOS does."""

    def cost(self) -> tuple[float, float]:
        """CPU of this process until now [s], and its share of memory [MB]."""
        import dftune.cluster.trials.training
        import dftune.trainables.ldos.surrogate
        import dftune.trainables.ldos.training  # noqa: F401

        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        share = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return time.process_time(), share / 1e3


def main(rounds: int) -> None:
    ways = {"forked": {}, "started": {"env_vars": {"DFTUNE_BENCHMARK": "another environment"}}}
    found = {way: list[tuple[float, float, float]]() for way in ways}
    with connected():
        for _ in range(rounds + 1):  # the first waits for the imports of what forks
            for way, environment in ways.items():
                workers, begun = [Worker.options(runtime_env=environment).remote() for _ in range(2)], time.monotonic()
                costs = ray.get([worker.cost.remote() for worker in workers])
                seconds = time.monotonic() - begun
                found[way].append((sum(c for c, _ in costs) / 2, seconds, ray.get(workers[0].cost.remote())[1]))
                for worker in workers:
                    ray.kill(worker)
    print(f"median of {rounds} rounds of two workers each")
    cost = {}
    for way, rows in found.items():
        cost[way] = [median(column) for column in zip(*rows[1:], strict=True)]
        print("{:8} {:.2f} s of CPU each, both answer after {:.2f} s, {:.0f} MB each".format(way, *cost[way]))
    ratios = [a / b for a, b in zip(cost["forked"], cost["started"], strict=True)]
    print("ratios   {:.2f}, {:.2f}, {:.2f}".format(*ratios))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
