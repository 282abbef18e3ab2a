"""Datasets written for other programs: a file a format."""
