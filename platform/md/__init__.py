"""Molecular dynamics with a surrogate's forces."""
