"""The LDOS kind of surrogate: descriptors of a grid point to its local density of states."""
