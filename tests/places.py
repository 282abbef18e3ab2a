"""Where the tests find files."""

from pathlib import Path

ROOT = Path(__file__).parents[1]  # of the repository
DATA = ROOT / "tests" / "data"
SHARED = ROOT.parent / "shared" / "data"  # DFT data outside the repository: fixture `shared`
