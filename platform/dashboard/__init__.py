"""Studies as a live page in the browser, from their ledgers alone."""
