"""Where it runs: the connection to Ray, resources, the data of a study, trials, and files that start clusters."""
