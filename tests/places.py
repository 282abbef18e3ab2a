"""Where the tests find files."""

from pathlib import Path

ROOT = Path(__file__).parents[1]  # of the repository
DATA = ROOT / "tests" / "data"
SHARED = ROOT.parent / "shared" / "data"  # DFT data that are not in the repository: only slow tests use them
