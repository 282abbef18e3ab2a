"""``ray start`` on a node of a cluster that dftune starts: ``python -m dftune.cluster.launch.ray_node start ...``."""

from ..ray_private import ray_command

if __name__ == "__main__":
    ray_command(patience=300)
