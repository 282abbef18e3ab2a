"""A study: from a specification and a dataset to a chosen surrogate."""
