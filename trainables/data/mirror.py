"""A dataset behind a URL (object storage, HDFS), mirrored in a folder of this machine: files come when first read.

``pyarrow.fs`` reads the URL: ``s3://bucket/al4``, ``gs://bucket/al4``, ``abfs://...``, ``hdfs://...``, ``file:///...``.
Every machine that reads needs the credentials of the storage's own tools (AWS_ACCESS_KEY_ID, ~/.aws, ...).
"""

import fcntl
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow.fs import FileSelector, FileSystem, FileType

from ..errors import DatasetError, one_line
from ..files import atomic
from .location import absolute, is_url

HEAD = ("dataset.json", "snapshots.parquet")  # every dataset has them, and they say which one it is
CHUNK = 2**24  # bytes
# An object appears whole or not at all.  In other storage a file is written under another name first.
_OBJECT_STORES = {"s3", "gcs", "abfs"}


def cache() -> Path:
    """Folder that holds the mirrors of this machine: DFTUNE_CACHE, or ~/.cache/dftune."""
    return Path(os.environ.get("DFTUNE_CACHE") or "~/.cache/dftune").expanduser().resolve()


class Mirror:
    """The files of a dataset behind a URL, and the folder of this machine that they are brought to.

    The folder's name is a hash of the URL, dataset.json and the table.  So a new dataset under the same URL never meets
    files of the earlier one.  Any number of processes may share the folder.

    Args:
        url: of the dataset's folder.

    Raises:
        DatasetError: the URL cannot be read, or no dataset is there.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._filesystem, self._path = _filesystem(url)
        try:
            heads = {name: b"".join(self._chunks(name)) for name in HEAD}
        except FileNotFoundError as error:
            raise DatasetError(
                f"{url}: not a dataset (no dataset.json or no snapshots.parquet); put one there with `dftune data copy`"
            ) from error
        key = hashlib.sha256(b"\0".join([url.encode(), *heads.values()])).hexdigest()[:16]
        self.folder = cache() / "datasets" / key
        for name, content in heads.items():
            if not (self.folder / name).exists():
                with atomic(self.folder / name) as temporary:
                    temporary.write_bytes(content)

    def fetch(self, name: str, sha256: str | None = None) -> Path:
        """Bring a file to this machine if it is not here yet.

        Args:
            name: path below the dataset's folder.
            sha256: checksum that the file must have when it is brought.

        Returns:
            Its path.  Nothing is there if the URL has no such file.

        Raises:
            DatasetError: it cannot be read, or has another checksum.
            InputError: the cache cannot be written.
        """
        target = self.folder / name
        if target.exists():
            return target
        found = hashlib.sha256()
        with _alone(target), suppress(FileNotFoundError):
            if not target.exists():  # another process may have brought it meanwhile
                chunks = self._chunks(name)
                first = next(chunks, b"")
                with atomic(target) as temporary, temporary.open("wb") as stream:
                    while first:
                        found.update(first)
                        stream.write(first)
                        first = next(chunks, b"")
                    if sha256 not in (None, found.hexdigest()):
                        raise DatasetError(
                            f"{self.url}: the SHA-256 of {name} differs from the table's; upload the dataset again"
                        )
        return target

    def push(self, name: str) -> bool:
        """Store a finished file of this machine at the URL, whole or not at all; False if that is not possible."""
        path = f"{self._path}/{name}"
        try:
            with pa.memory_map(str(self.folder / name)) as file:
                content = file.read_buffer()  # in one piece: a stream that is left early would store a part
                if self._filesystem.type_name in _OBJECT_STORES:
                    with self._filesystem.open_output_stream(path) as stream:
                        stream.write(content)
                elif self._leads_out(path):
                    return False
                else:
                    part = f"{path}.{os.urandom(4).hex()}.part"
                    self._filesystem.create_dir(str(PurePosixPath(path).parent), recursive=True)
                    with self._filesystem.open_output_stream(part) as stream:
                        stream.write(content)
                    self._filesystem.move(part, path)
        except OSError:  # most often no right to write, as it should be for data that many people share
            return False
        return True

    def _leads_out(self, path: str) -> bool:
        """Whether a link in a folder of this machine leads out of the dataset: nothing is written there."""
        folder = Path(path).parent.resolve()
        return self._filesystem.type_name == "local" and not folder.is_relative_to(Path(self._path).resolve())

    def names(self, folder: str) -> set[str]:
        """Names of the files and folders in a folder at the URL; none if there is no such folder.

        Raises:
            DatasetError: it cannot be read.
        """
        selector = FileSelector(f"{self._path}/{folder}", allow_not_found=True)
        with _explained(self.url):
            return {info.base_name for info in self._filesystem.get_file_info(selector)}

    def _chunks(self, name: str) -> Iterator[bytes]:
        return _chunks(self._filesystem, f"{self._path}/{name}", self.url)


def locate(location: str | Path) -> tuple[Path, Mirror | None]:
    """The folder of a dataset on this machine, and the mirror of one behind a URL.  Errors as ``Mirror``."""
    if is_url(location):
        mirror = Mirror(str(location))
        return mirror.folder, mirror
    return Path(location).expanduser().resolve(), None


def copy_dataset(source: str, destination: str) -> int:
    """Copy a dataset with its descriptors, to or from a URL.  dataset.json comes last: no part of a copy is a dataset.

    A file that is there already is kept if it is the same one, so that an interrupted copy goes on; no other is
    overwritten.  What was written is read again and compared.  At the end, what copies that were killed have left
    half-written there is removed.

    Args:
        source, destination: folders or URLs; the destination must not be a dataset yet.

    Returns:
        The number of files.

    Raises:
        DatasetError: there is no dataset at the source, one at the destination or another file of one of its names, or
            one of them cannot be used.
        InputError: the destination cannot be written.
    """
    (theirs, here), (ours, there) = _filesystem(absolute(source)), _filesystem(absolute(destination))
    names = _names(theirs, here, source)
    if "dataset.json" not in names:
        raise DatasetError(f"{source}: not a dataset (no dataset.json); make one with `dftune data import`")
    refuse_to_leave(names, source)
    names = sorted((n for n in names if not n.endswith(".part")), key=lambda n: (n == "dataset.json", n))
    present = set(_names(ours, there, destination))
    if "dataset.json" in present:
        raise DatasetError(f"{destination}: is a dataset already; remove it or choose another place")
    for name in present & set(names):
        if _sha256(ours, f"{there}/{name}", destination) != _sha256(theirs, f"{here}/{name}", source):
            raise DatasetError(
                f"{destination}: has another file {name} already, which is not overwritten; remove it or choose "
                "another place"
            )
    for name in names:
        if name not in present:
            digest = hashlib.sha256()
            with _explained(destination), _written(ours, f"{there}/{name}") as stream:
                for chunk in _chunks(theirs, f"{here}/{name}", source):
                    digest.update(chunk)
                    stream.write(chunk)
            if _sha256(ours, f"{there}/{name}", destination) != digest.hexdigest():
                raise DatasetError(
                    f"{destination}: {name} is not there as it was written; remove it, and look at the disk or network"
                )
    for name in _names(ours, there, destination):
        if re.fullmatch(r"(.*/)?\.[^/]+\.[0-9a-f-]+\.part", name):
            with _explained(destination):
                ours.delete_file(f"{there}/{name}")
    return len(names)


def _names(filesystem: FileSystem, folder: str, where: str) -> list[str]:
    """Names of all files of a folder, which need not be there."""
    with _explained(where):
        found = filesystem.get_file_info(FileSelector(folder, recursive=True, allow_not_found=True))
    return [info.path[len(folder) :].lstrip("/") for info in found if info.type != FileType.Directory]


def _sha256(filesystem: FileSystem, path: str, where: str) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(filesystem, path, where):
        digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _written(filesystem: FileSystem, path: str) -> Iterator[Any]:
    """A stream to a new file, which is there whole or not at all; on a disk it is synced."""
    if filesystem.type_name == "local":
        with atomic(Path(path)) as temporary, temporary.open("xb") as file:
            yield file
        return
    if filesystem.type_name not in _OBJECT_STORES:
        filesystem.create_dir(str(PurePosixPath(path).parent), recursive=True)
    try:
        with filesystem.open_output_stream(path) as stream:
            yield stream
    except BaseException:
        with suppress(OSError):  # closing a stream makes an object of what has come so far
            filesystem.delete_file(path)
        raise


def refuse_to_leave(names: Iterable[str], source: str) -> None:
    """Raise DatasetError if a name leads out of the folder that it is copied to, as one in an object store may."""
    for name in names:
        if ".." in PurePosixPath(name).parts:
            raise DatasetError(f"{source}: holds {name!r}, a name that leads out of the dataset; remove it there")


def _chunks(filesystem: FileSystem, path: str, where: str) -> Iterator[bytes]:
    """The content of a file.  Raises FileNotFoundError before the first part if there is no such file."""
    with _explained(where), filesystem.open_input_stream(path) as stream:
        while chunk := stream.read(CHUNK):
            yield chunk


def _filesystem(location: str) -> tuple[FileSystem, str]:
    with _explained(location):
        filesystem, path = FileSystem.from_uri(location)
        return filesystem, path.rstrip("/")


@contextmanager
def _explained(location: str) -> Iterator[None]:
    """Errors of the storage in one line; a missing file stays FileNotFoundError."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DatasetError(
            f"{location}: not a URL that can be read ({_first(error)}); there are s3://, gs://, abfs://, hdfs://"
        ) from error
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DatasetError(
            f"{location}: cannot be used ({_first(error)}); look at its name, and at the credentials and the network "
            "of this machine"
        ) from error


def _first(error: Exception) -> str:
    return one_line(error, 300).rstrip(". ")


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Let one process at a time bring a file; otherwise many that start together would all load it."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(target.with_name(f".{target.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise DatasetError(
            f"{target}: cannot be written ({error.strerror}); set DFTUNE_CACHE to a folder that can"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
