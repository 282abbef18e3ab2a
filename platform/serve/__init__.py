"""A surrogate as an HTTP endpoint."""
