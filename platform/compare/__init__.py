"""All methods on one dataset at equal budgets."""
