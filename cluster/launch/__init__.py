"""Files that start Ray elsewhere: Slurm, Kubernetes, machines of your own."""
