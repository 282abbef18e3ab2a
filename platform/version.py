"""The version of dftune."""

__version__ = "0.1.0"
