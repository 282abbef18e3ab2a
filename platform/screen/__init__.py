"""Which descriptors a dataset deserves, without training."""
