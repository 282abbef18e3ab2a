"""Where the tests find files."""

import shutil
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[1]  # of the repository
DATA = ROOT / "tests" / "data"
SHARED = ROOT.parent / "shared" / "data"  # DFT data outside the repository: fixture `shared`


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive of the repository; Python 3.11.2, which Debian 12 has, knows no filters."""
    shutil.unpack_archive(archive, folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
