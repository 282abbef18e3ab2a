"""Descriptors of the atomic environment of a grid point."""
