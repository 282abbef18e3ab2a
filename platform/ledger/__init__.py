"""The durable record of studies and trials, and the lease that one process at a time holds."""
