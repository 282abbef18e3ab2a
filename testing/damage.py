"""The part of the contract of kinds that is about datasets whose files have changed."""

import shutil
from pathlib import Path
from typing import Any

from ..trainables.errors import DatasetError
from ..trainables.kind import Kind
from ..trainables.temporary import temporary_folder

HEAD = "dataset.json"


def check_damage(kind: Kind, location: str, settings: Any) -> None:
    """A bit that has changed in a file is noticed before anybody learns from it.

    Whoever reads the training data gets a DatasetError, or the fingerprint is another one.  Of a file that only
    ``verify`` needs, that says it.  In dataset.json, which has notes for people, it need not be noticed.
    """
    with temporary_folder("damage") as folder:
        copy = folder / "dataset"
        shutil.copytree(location, copy)
        fingerprint = kind.open(str(copy)).fingerprint

        def noticed(*, verified: bool) -> bool:
            try:
                data = kind.open(str(copy))
                kind.split_for_training(data, settings)
                if verified:
                    data.verify()
            except DatasetError:
                return True
            except Exception as error:
                raise AssertionError(f"{what} is refused by {type(error).__name__}: {error}") from error
            return bool(data.fingerprint != fingerprint)

        for path in _some_of(copy):
            name, content = path.relative_to(copy), path.read_bytes()
            what = f"a dataset without {name}"
            path.unlink()
            to_learn = noticed(verified=False)
            if to_learn or noticed(verified=True):
                what = f"a dataset with a changed bit in {name}"
                path.write_bytes(_changed(content))
                found = noticed(verified=not to_learn)
                assert found or name == Path(HEAD), f"{what} is not noticed; compare the file with a checksum"
                path.unlink()  # a file that has been found right is not read again, as long as it is the same one
            path.write_bytes(content)


def _some_of(folder: Path) -> list[Path]:
    """The first of all files that lie in one folder and end alike."""
    files = sorted((path for path in folder.rglob("*") if path.is_file() and path.stat().st_size), reverse=True)
    return list({(path.parent, path.suffix): path for path in files}.values())


def _changed(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
