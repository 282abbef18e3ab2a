"""A study handed to a cluster that runs elsewhere."""
