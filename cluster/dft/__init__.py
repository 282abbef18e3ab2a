"""DFT as Ray tasks: the snapshots of a specification, and scans of its convergence."""
