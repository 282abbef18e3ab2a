"""Datasets of DFT snapshots."""
