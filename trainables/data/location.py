"""Where a dataset lies: a folder, or a URL.  Light, as every command that names a dataset needs it."""

import re
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit


def is_url(location: str | Path) -> bool:
    """Whether a dataset lies behind a URL, and not in a folder."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", str(location)) is not None


def absolute(location: str | Path, base: Path = Path()) -> str:
    """A URL as it is; a folder as an absolute path, a relative one taken from ``base``."""
    return str(location) if is_url(location) else str((base / Path(location).expanduser()).resolve())


def name_of(location: str) -> str:
    """The last part of a path or URL."""
    return PurePosixPath(urlsplit(location).path if is_url(location) else location).name
