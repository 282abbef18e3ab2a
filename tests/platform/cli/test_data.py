"""`dftune data` shows and checks the datasets of any kind of surrogates, and imports."""

import hashlib
import json

import numpy as np
import pytest

from dftune.tests.platform.cli.commands import refused, run
from dftune.tests.toy_kind import ToyKind
from dftune.trainables.kinds import KINDS


@pytest.fixture
def numbers(tmp_path, monkeypatch):
    """A dataset of the toy kind."""
    monkeypatch.setitem(KINDS._ours, "toy", ToyKind())
    pairs = [[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]
    values = {"kind": "toy", "numbers": {"train": pairs, "validation": pairs[:2], "test": pairs[2:]}}
    (tmp_path / "dataset.json").write_text(json.dumps(values))
    return tmp_path


def test_a_dataset_of_another_kind_is_shown_by_its_splits(numbers):
    lines = [line.split() for line in run("data", "show", numbers).stdout.splitlines()]
    assert lines == [[str(numbers)], ["split", "size"], ["train", "3"], ["validation", "2"], ["test", "1"]]


def test_a_dataset_of_another_kind_is_shown_to_programs(numbers):
    shown = json.loads(run("data", "show", numbers, "--json").stdout)
    assert (shown["path"], shown["name"]) == (str(numbers), numbers.name)
    assert shown["fingerprint"] == hashlib.sha256((numbers / "dataset.json").read_bytes()).hexdigest()
    assert shown["rows"][0] == {"split": "train", "size": 3}


def test_a_dataset_of_another_kind_is_checked(numbers):
    assert run("data", "check", numbers).stdout == f"{numbers}: every file has the checksum that it should have\n"
    assert json.loads(run("data", "check", numbers, "--json").stdout)["snapshots"] == []


def test_the_kinds_that_there_are_are_named(tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps({"kind": "toys"}))
    line = refused("data", "show", tmp_path)
    assert line == f"Error: {tmp_path}/dataset.json: there is no kind of surrogates 'toys'; did you mean 'alloys'?"
    (tmp_path / "dataset.json").write_text(json.dumps({"kind": "\x1b[31m"}))
    assert "\x1b" not in refused("data", "show", tmp_path)


def test_data_show_and_check(al4):
    shown = run("data", "show", al4.path).stdout
    assert "37 energies from -6 to 12 eV, gaussian kernel of 0.5 eV" in shown
    assert len(json.loads(run("data", "show", al4.path, "--json").stdout)["snapshots"]) == 12
    rows = json.loads(run("data", "check", al4.path, "--json").stdout)["snapshots"]
    assert max(abs(r["band_energy_error"]) for r in rows) < 1.0
    checked = run("data", "check", al4.path).stdout
    assert "checked: band energy of the LDOS, at most 0.2" in checked
    assert "not checked: sum of the DFT's own terms" in checked
    assert "total free energies: functional lda-pz, density cutoff 816.34 eV, core corrections: none" in shown
    assert shown.splitlines()[2] == checked.splitlines()[-1]


def test_data_show_and_check_say_how_to_get_total_free_energies(fresh_al4):
    info = fresh_al4.info.model_copy(update={"dft": None})
    (fresh_al4.path / "dataset.json").write_text(info.model_dump_json(), encoding="utf-8")
    for command in ("show", "check"):
        shown = run("data", command, fresh_al4.path).stdout
        assert "total free energies: not available, as the functional and the core charges are not known" in shown
    assert json.loads(run("data", "show", fresh_al4.path, "--json").stdout)["dft"] is None


def test_import_says_on_stderr_why_there_are_no_total_free_energies(tmp_path, shared):
    snapshot = shared("al4_mini/000.json")
    result = run("data", "import", snapshot, tmp_path / "without")
    why = f"no total free energies from this dataset: Al.pz-vbc.UPF is not in {snapshot.parent}; "
    assert why + "give its folder with --pseudopotentials" in result.stderr.splitlines()
    assert result.stdout == f"1 snapshots in {tmp_path / 'without'}\n"
    folder = ("--pseudopotentials", shared("al4"))
    assert "no total free" not in run("data", "import", snapshot, tmp_path / "with", *folder).stderr
    assert "functional lda-pz" in run("data", "show", tmp_path / "with").stdout
    line = refused("data", "import", snapshot, tmp_path / "out", "--pseudopotentials", tmp_path / "none", code=2)
    assert "does not exist" in line


def test_import_refuses_bad_input_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "holds no snapshot" in refused("data", "import", tmp_path / "empty", tmp_path / "out")
    assert "does not exist" in refused("data", "import", tmp_path / "nowhere", tmp_path / "out", code=2)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "000.json").write_text("{}")
    np.save(tmp_path / "bad" / "000.ldos.npy", np.zeros((2, 2, 2, 3), np.float32))
    assert "000.json: config: field required" in refused("data", "import", tmp_path / "bad", tmp_path / "out")
    assert not (tmp_path / "out").exists()
