"""The chosen surrogate as a folder: opened, used, checked."""
