"""The contract of importers: what every reader promises, whatever its files are.

def test_my_reader(tmp_path):
    check_importer(MY_READER, [write_some_files(tmp_path)])
"""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..trainables.data.importing.importer import Found, FoundSnapshot, GridValues, Importer, Told
from ..trainables.data.importing.importers import import_dataset
from ..trainables.data.snapshot_check import check_snapshot, first_repeated
from ..trainables.errors import InputError


def check_importer(importer: Importer, sources: Sequence[Path], told: Told | None = None) -> None:
    """All promises of an importer.

    Args:
        importer: the reader.
        sources: files or folders of it, small ones: they are read several times, and a copy of them is damaged.
        told: what a user would have to say of them.

    Raises:
        AssertionError: a promise is not kept; the message says which.
    """
    told = told or Told()
    check_description(importer)
    check_recognition(importer, sources)
    before = _listing(sources)
    found = _read(importer, sources, told)
    check_snapshots(found)
    for one in found.snapshots:
        check_values(one)
    again = _read(importer, sources, told)
    assert [one.snapshot.to_row() for one in found.snapshots] == [one.snapshot.to_row() for one in again.snapshots], (
        "reading twice gave different snapshots, or another order"
    )
    assert _listing(sources) == before, "files beside the sources were written or changed"
    with tempfile.TemporaryDirectory() as folder:
        check_damage(importer, sources, told, Path(folder))
        options = {name: value for name, value in vars(told).items() if value is not None}
        made = import_dataset(sources, Path(folder) / "dataset", importer=importer, **options)
        assert len(made) == len(found.snapshots), "the dataset has other snapshots than were found"


def check_description(importer: Importer) -> None:
    """It has a name for the command line, and says what it reads."""
    for name in ("name", "about", "recognises", "read"):
        assert hasattr(importer, name), f"{importer!r} has no {name}"
    assert importer.name.strip() == importer.name != "", f"name {importer.name!r} cannot be given on a command line"
    assert importer.about.strip(), "about is empty; say in a few words what its files are"


def check_recognition(importer: Importer, sources: Sequence[Path]) -> None:
    """It knows its own files, and leaves those of others alone."""
    assert any(importer.recognises(source) for source in sources), "it recognises none of its own sources"
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        assert not importer.recognises(folder), "it takes an empty folder for one of its own"
        (folder / "notes.txt").write_text("nothing of a DFT code\n", encoding="utf-8")
        (folder / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        for place in (folder, folder / "notes.txt", folder / "image.png", folder / "nowhere"):
            assert not importer.recognises(place), f"it takes {place.name} of somebody else for one of its own"


def check_snapshots(found: Found) -> None:
    """Snapshots are consistent in themselves, with ids of their own."""
    assert found.snapshots, "it found no snapshot in its own sources"
    assert found.source.strip(), "source is empty; say where the snapshots come from"
    twice = first_repeated(one.snapshot.id for one in found.snapshots)
    assert twice is None, f"two snapshots are called '{twice}'"
    for one in found.snapshots:
        try:
            check_snapshot(one.snapshot, one.species, where=one.where)
        except InputError as error:
            raise AssertionError(f"a snapshot cannot be used: {error}") from error
        assert one.where.exists(), f"where is {one.where}, which an error would name and nobody would find"


def check_values(one: FoundSnapshot) -> None:
    """Arrays have their shapes, come again whenever they are asked for, and are those of the units."""
    n, n_energy = one.snapshot.n_points, one.energy_grid.n_energy
    _check_blocks(one.ldos, n, (n_energy,), f"the LDOS of '{one.snapshot.id}'")
    if one.density is not None:
        _check_blocks(one.density, n, (), f"the density of '{one.snapshot.id}'")
    if one.descriptors is not None:
        n_components = one.descriptors.settings.n_components
        _check_blocks(one.descriptors.values, n, (n_components,), f"the descriptors of '{one.snapshot.id}'")


def _check_blocks(values: GridValues, n_points: int, shape: tuple[int, ...], what: str) -> None:
    sums = []
    for _ in range(2):
        n, total = 0, 0.0
        for block in values.blocks():
            assert isinstance(block, np.ndarray), (
                f"{what} comes in blocks that are no arrays but {type(block).__name__}"
            )
            assert np.issubdtype(block.dtype, np.floating), f"{what} is of {block.dtype}, not of real numbers"
            assert block.shape[1:] == shape, f"{what} has {block.shape[1:]} numbers a grid point, not {shape}"
            n, total = n + len(block), total + float(block.sum(dtype=np.float64))
        assert n == n_points, f"{what} has {n} grid points, the snapshot {n_points}"
        assert np.isfinite(total), f"{what} is not finite"
        sums.append(total)
    assert sums[0] == sums[1], f"{what} is another one when it is asked for again; blocks() has to begin anew"


def check_damage(importer: Importer, sources: Sequence[Path], told: Told, folder: Path) -> None:
    """What is missing or cut off is an InputError, whose text a user can act on, and no other error."""

    def whole(places: Sequence[Path]) -> None:
        for one in importer.read(places, told=told, report=_no_report).snapshots:
            for values in (one.ldos, one.density, *([one.descriptors.values] if one.descriptors else [])):
                for _ in values.blocks() if values is not None else ():
                    pass

    _refuses(lambda: whole([folder / "nowhere"]), "a source that is missing")
    copies = []
    for n, source in enumerate(sources):
        copy = folder / f"{n}" / source.name
        copy.parent.mkdir()
        if source.is_dir():
            shutil.copytree(source, copy)
        else:  # what lies beside a file belongs to it
            shutil.copytree(source.parent, copy.parent, dirs_exist_ok=True)
        copies.append(copy)
    for file in [path for copy in copies for path in copy.parent.rglob("*") if path.is_file()]:
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
    _refuses(lambda: whole(copies), "files that are cut off in the middle")


def _refuses(call: Callable[[], None], what: str) -> None:
    said = None
    try:
        call()
    except InputError as error:
        said = str(error)
    except Exception as error:
        raise AssertionError(f"{what}: raised {type(error).__name__} ({error}); raise an InputError") from error
    assert said is not None, f"{what}: nothing is said about it"
    assert "\n" not in said, f"{what}: the error has several lines, {said!r}"


def _read(importer: Importer, sources: Sequence[Path], told: Told) -> Found:
    lines: list[str] = []
    found = importer.read(sources, told=told, report=lines.append)
    assert all(isinstance(line, str) and "\n" not in line for line in lines), "report is called with one line at a time"
    return found


def _no_report(line: str) -> None:
    pass


def _listing(sources: Sequence[Path]) -> list[tuple[str, int, int]]:
    """All files of the sources, with their sizes and times."""
    files = [file for s in sources for file in ([s] if s.is_file() else sorted(s.rglob("*")))]
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
