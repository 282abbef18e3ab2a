import resource

import pytest

from dftune.trainables.errors import InputError
from dftune.trainables.files import atomic, read_text, sha256, write_text


def failing(path, fill):
    """Write with ``fill`` to the temporary place of ``path``, then fail."""
    with atomic(path) as temporary:
        fill(temporary)
        raise ZeroDivisionError


def test_sha256_is_that_of_fips_180(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_file_replaces_the_old_one_only_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "folder" / "table"
    write_text(path, "old")
    with atomic(path) as temporary:
        temporary.write_text("half of the ")
        assert path.read_text() == "old"
        temporary.write_text("ε in eV")
    assert path.read_text(encoding="utf-8") == "ε in eV"
    assert [f.name for f in path.parent.iterdir()] == ["table"]


def test_an_error_leaves_an_old_file_untouched_and_nothing_else(tmp_path):
    path = tmp_path / "table"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError):
        failing(path, lambda temporary: temporary.write_text("half"))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    def fill(folder):
        (folder / "ldos").mkdir(parents=True)
        (folder / "ldos" / "000.arrow").write_text("whole")

    path = tmp_path / "dataset"
    with pytest.raises(ZeroDivisionError):
        failing(path, fill)
    assert list(tmp_path.iterdir()) == []
    with atomic(path) as temporary:
        fill(temporary)
        assert not path.exists()
    assert list(tmp_path.iterdir()) == [path]
    assert (path / "ldos" / "000.arrow").read_text() == "whole"


def test_a_folder_that_is_there_already_is_not_replaced(tmp_path):
    path = tmp_path / "dataset"
    path.mkdir()
    (path / "precious").touch()
    with pytest.raises(InputError, match="dataset: cannot be written"), atomic(path) as temporary:
        temporary.mkdir()
    assert [f.name for f in path.iterdir()] == ["precious"]
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_do_not_mix_and_the_last_one_wins(tmp_path):
    path = tmp_path / "table"
    with atomic(path) as first:
        first.write_text("first")
        write_text(path, "second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_hold_files_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/table: cannot be written \(.+\); choose a folder you may write to"):
        write_text(tmp_path / "file" / "table", "text")


def test_a_full_disk_keeps_the_old_file(tmp_path):
    # A limit on the size of a file fails in the same place as a full disk: in the middle of a write.
    path = tmp_path / "table"
    write_text(path, "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"table: cannot be written \(File too large\); choose a folder"):
            write_text(path, "x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_is_read_whatever_mark_an_editor_set_before_it(tmp_path, encoding):
    (tmp_path / "text").write_text('name = "ε"', encoding=encoding)
    assert read_text(tmp_path / "text") == 'name = "ε"'


def test_what_is_no_text_or_too_much_of_it_is_refused(tmp_path):
    (tmp_path / "text").write_bytes(b"name = \xe5")
    with pytest.raises(InputError, match=r"text: no UTF-8 text \(byte 7\); save it as UTF-8"):
        read_text(tmp_path / "text")
    with pytest.raises(InputError, match="larger than"):
        read_text(tmp_path / "text", most=7)
    with pytest.raises(InputError, match="cannot be read"):
        read_text(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "none")
