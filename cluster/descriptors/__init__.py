"""Descriptors by Ray actors and MPI groups, and the screen of their settings on the cluster."""
