"""Alloys on a lattice: which element is on which site -> energy, charges and moments (Lupo Pasini et al. 2020)."""
