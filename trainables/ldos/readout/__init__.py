"""The last layer of a network in closed form: ridge regression of the LDOS with rows for energies and forces."""
