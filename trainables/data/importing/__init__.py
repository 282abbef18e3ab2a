"""What people have, made into a dataset: a file a format."""
