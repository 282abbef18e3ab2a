"""Files and folders that the system does not let be read are named; nothing that they may hold is left out."""

import os

from dftune.tests.exported import led_in_a_circle, refused

REMEDY = "check its permissions, or copy it again"


def test_a_cube_that_cannot_be_read_is_named(run, tmp_path):
    said = led_in_a_circle(run / "tmp.pp006ldos.cube")
    assert refused([run], tmp_path / "made") == f"{said}; {REMEDY}"


def test_a_log_that_cannot_be_read_is_named(run, tmp_path):
    said = led_in_a_circle(run / "pw.out")
    assert refused([run], tmp_path / "made") == f"{said}; {REMEDY}"


def test_a_folder_of_a_snapshot_that_cannot_be_read_is_not_left_out(runs, tmp_path, monkeypatch):
    scan = os.scandir

    def scandir(path="."):
        if str(path) == str(runs / "1"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert refused([runs], tmp_path / "made") == f"{runs / '1'}: cannot be read (Permission denied); {REMEDY}"
