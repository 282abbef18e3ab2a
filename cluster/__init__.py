"""Where it runs: the Ray connection, resources, descriptor and scorer actors, shards."""
