"""A dataset that grows by what its surrogate has to learn: DFT, fit, choice, and again."""
