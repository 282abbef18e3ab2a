"""Datasets made of snapshots of others: split, merged, selected, aligned."""
