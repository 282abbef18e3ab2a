"""Trials on the cluster: their data, training, scores, schedulers, and what becomes of their processes."""
