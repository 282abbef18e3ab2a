import dataclasses
import json
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dftune.trainables.data.check import LdosCheck
from dftune.trainables.data.dataset import Dataset, descriptor_path
from dftune.trainables.data.info import kind_of
from dftune.trainables.data.kohn_sham import KohnSham
from dftune.trainables.data.shards import to_batches, write
from dftune.trainables.data.snapshot import SNAPSHOTS, Snapshot
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.errors import DatasetError
from dftune.trainables.physics.units import RYDBERG

SETTINGS = BispectrumSettings(cutoff=4.0, two_j_max=2)  # 5 components


def check_ldos(shards, snapshot, grid, *, where):
    check = LdosCheck(snapshot, grid, where=where)
    for shard in shards:
        check.add(shard)
    return check.report()


def descriptors(snapshot, seed=0):
    values = np.random.default_rng(seed).normal(size=(snapshot.n_points, SETTINGS.n_components))
    return values.astype(np.float32)


def test_the_bundled_aluminium_is_what_its_source_says(al4):
    assert [s.id for s in al4.snapshots] == [f"{i:03d}" for i in range(12)]
    assert [len(al4.split(name)) for name in ("train", "validation", "test")] == [6, 3, 3]
    assert al4.info.species == {"Al": 3.0}
    assert al4.info.energy_grid.energy[[0, -1]].tolist() == [-6.0, 12.0]
    assert al4.info.dft == KohnSham(functional="lda-pz", density_cutoff=60.0 * RYDBERG)
    for s in al4.snapshots:
        assert (s.n_atoms, s.n_points, s.n_electrons) == (4, 8000, 12.0)
        assert s.volume == pytest.approx(4.05**3)
        assert s.temperature == pytest.approx(3157.75, abs=0.01)  # 0.02 Ry
        assert s.forces.shape == s.positions.shape == (4, 3)
        np.testing.assert_allclose(s.forces.sum(axis=0), 0.0, atol=0.01)


def test_a_snapshot_is_its_row_of_the_table(al4):
    for snapshot in al4.snapshots:
        again = Snapshot.from_row(snapshot.to_row())
        assert again.to_row() == snapshot.to_row()
        assert again.structure_hash == snapshot.structure_hash


def test_the_ldos_is_a_read_only_view_of_the_file(al4):
    ldos = al4.ldos(al4["000"]).array()
    assert ldos.shape == (8000, 37)
    assert ldos.dtype == np.float16
    assert not ldos.flags.writeable


@pytest.mark.parametrize("dtype, largest", [(np.float16, 60_000.0), (np.float32, 1.0), (np.float32, 3e38)])
def test_the_dos_of_a_check_is_the_mean_in_double_precision(al4, dtype, largest):
    snapshot, grid = al4["000"], al4.info.energy_grid
    ldos = (largest * np.random.default_rng(0).uniform(size=(8000, grid.n_energy))).astype(dtype)
    check = LdosCheck(snapshot, grid, where="here")
    for shard in np.split(ldos, [7, 16, 1000, 6011]):
        check.add(shard)
    exact = snapshot.volume * ldos.mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(check.dos, exact, rtol=2e-8)


def test_energies_come_from_the_reference_ldos(al4):
    snapshot = al4["005"]
    found = al4.energies(snapshot)
    assert found.band == pytest.approx(snapshot.band_energy, abs=4 * 1e-3)
    assert found.entropy == pytest.approx(snapshot.entropy_term, abs=4 * 3e-4)


def test_a_whole_dataset_passes_its_check(al4):
    reports = list(al4.check())
    assert [r.id for r in reports] == [s.id for s in al4.snapshots]
    assert max(abs(r.band_energy_error) for r in reports) < 1.0
    assert max(abs(r.electrons_error) for r in reports) < 5e-3


def test_a_copied_folder_is_the_same_dataset(al4, tmp_path):
    shutil.copytree(al4.path, tmp_path / "elsewhere")
    copy = Dataset.open(str(tmp_path / "elsewhere"))
    assert copy.fingerprint == al4.fingerprint
    assert copy.energies(copy["003"]) == al4.energies(al4["003"])


def test_the_fingerprint_follows_the_table_and_the_energy_grid(al4, fresh_al4):
    table = pq.read_table(fresh_al4.path / "snapshots.parquet")
    pq.write_table(table.slice(0, 11), fresh_al4.path / "snapshots.parquet")
    assert Dataset.open(fresh_al4.path).fingerprint != al4.fingerprint
    grid = al4.info.energy_grid.model_copy(update={"width": 0.4})
    other = Dataset(al4.path, al4.info.model_copy(update={"energy_grid": grid}), al4.snapshots)
    assert other.fingerprint != al4.fingerprint


def test_the_fingerprint_is_that_of_what_is_trained_on_whether_or_not_the_dft_is_known(al4):
    other = Dataset(al4.path, al4.info.model_copy(update={"dft": None}), al4.snapshots)
    assert other.fingerprint == al4.fingerprint


def test_a_dataset_of_before_total_free_energies_is_read(al4, fresh_al4):
    file = fresh_al4.path / "dataset.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    del content["dft"]
    file.write_text(json.dumps(content), encoding="utf-8")
    old = Dataset.open(fresh_al4.path)
    assert old.info.dft is None
    assert old.fingerprint == al4.fingerprint


def test_a_dataset_is_read_without_dftune(al4):
    info = json.loads((al4.path / "dataset.json").read_text(encoding="utf-8"))
    row = pq.read_table(al4.path / "snapshots.parquet").to_pylist()[7]
    with pa.ipc.open_file(str(al4.path / "ldos" / f"{row['id']}.arrow")) as file:
        ldos = file.read_all()
    n_energy = ldos.schema.field("ldos").type.list_size
    values = ldos["ldos"].combine_chunks().flatten().to_numpy().reshape(*row["grid"], n_energy)
    dos = values.mean(axis=(0, 1, 2), dtype=float) * np.linalg.det(np.array(row["cell"]))
    assert n_energy == info["energy_grid"]["n_energy"]
    np.testing.assert_allclose(dos, al4.dos(al4[row["id"]]), rtol=1e-12)
    assert ldos.schema.metadata[b"unit"].decode() == "1/(eV Å³), both spins summed"
    assert SNAPSHOTS.field("band_energy").metadata[b"unit"] == b"eV"


def test_a_dataset_is_a_collection_of_its_snapshots(al4):
    assert len(al4) == 12
    assert [s.id for s in al4] == [s.id for s in al4.snapshots]
    assert al4["005"] is al4.snapshots[5]
    assert al4.snapshots[5] in al4


def test_a_dataset_says_what_it_is_in_one_line(al4):
    shown = "Dataset al4: 6 train, 3 validation, 3 test snapshots of Al; 37 energies from -6 to 12 eV"
    assert repr(al4) == shown
    assert repr(al4.only(al4.split("test"))) == shown.replace("6 train, 3 validation, 3", "3")


def test_a_dataset_is_a_table_in_a_notebook(al4):
    odd = dataclasses.replace(al4["000"], id="<000>", band_energy=None)
    table = al4.only([odd, *al4.snapshots[1:]])._repr_html_()
    assert "<caption>Dataset al4: 6 train, " in table
    assert "<th>temperature [K]</th>" in table
    assert "<td>&lt;000&gt;</td><td>train</td><td>displacement 0.05 Å</td><td>4</td><td>20x20x20</td>" in table
    assert table.count("<tr>") == 13


def test_a_dataset_of_before_kinds_is_read(al4, fresh_al4):
    file = fresh_al4.path / "dataset.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content.pop("kind") == "ldos"
    file.write_text(json.dumps(content), encoding="utf-8")
    old = Dataset.open(fresh_al4.path)
    assert old.info == al4.info
    # Of the bundled dataset, before there were kinds.
    assert old.fingerprint == al4.fingerprint == "3e867330aad66481fe121f15c23734dbda22ef7a762e3ed464cb40cbf09449bf"


def test_the_kind_of_a_dataset_is_known_before_the_rest_of_it(fresh_al4, tmp_path, monkeypatch):
    monkeypatch.setenv("DFTUNE_CACHE", str(tmp_path / "cache"))
    assert kind_of(fresh_al4.path) == kind_of(f"file://{fresh_al4.path}") == "ldos"
    (fresh_al4.path / "dataset.json").write_text('{"kind": "alloys", "lattice": "bcc"}')
    assert kind_of(fresh_al4.path) == "alloys"


def test_an_unknown_snapshot_is_refused_with_those_there_are(al4):
    with pytest.raises(DatasetError, match="has no snapshot '012'; it has 000, 001, 002"):
        al4["012"]


def test_a_split_without_snapshots_is_refused(al4):
    training = Dataset(al4.path, al4.info, al4.split("train"))
    for name in ("validation", "test"):
        with pytest.raises(DatasetError, match=r"has no validation snapshot; `dftune data split .*al4 NEW` makes"):
            training.split(name)
    one = Dataset(al4.path, al4.info, al4.split("train")[:1])
    with pytest.raises(DatasetError, match=r"has no validation snapshot; import two snapshots or more, better three"):
        one.split("validation")


def test_validation_judges_where_nothing_is_for_testing(al4):
    assert al4.judged_on == "test"
    two = Dataset(al4.path, al4.info, al4.split("train")[:1] + al4.split("validation")[:1])
    assert two.judged_on == "validation"
    assert two.split("test") == two.split("validation")


def edit_json(path, **changed):
    file = path / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changed), encoding="utf-8")


def without_a_column(path):
    table = pq.read_table(path / "snapshots.parquet")
    pq.write_table(table.drop_columns(["fermi_level"]), path / "snapshots.parquet")


def without_rows(path):
    pq.write_table(SNAPSHOTS.empty_table(), path / "snapshots.parquet")


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda p: (p / "dataset.json").unlink(), r"al4: not a dataset \(no dataset.json\); make one with"),
        (lambda p: edit_json(p, format_version=2), r"dataset.json: format_version: input should be 1; import"),
        (lambda p: edit_json(p, kind="alloys"), r"dataset.json: a dataset of kind 'alloys', not 'ldos'; give a"),
        (lambda p: edit_json(p, kind="<b>"), r"dataset.json: kind: string should match pattern"),
        (lambda p: edit_json(p, kind=7), r"dataset.json: kind: input should be a valid string"),
        (lambda p: edit_json(p, colour="red"), r"dataset.json: colour: extra inputs are not permitted; import"),
        (lambda p: edit_json(p, energy_grid={}), r"dataset.json: energy_grid.minimum: field required; import"),
        (lambda p: edit_json(p, dft={"functional": "b3lyp"}), r"dataset.json: dft.functional: input should be"),
        (lambda p: os.truncate(p / "dataset.json", 100), r"dataset.json: Invalid JSON.*; import"),
        (lambda p: (p / "dataset.json").write_bytes(b"\xff{}"), r"dataset.json: .*; import the dataset again"),
        (lambda p: (p / "snapshots.parquet").unlink(), r"snapshots.parquet: missing or damaged; import"),
        (lambda p: os.truncate(p / "snapshots.parquet", 2000), r"snapshots.parquet: missing or damaged; import"),
        (without_a_column, r"snapshots.parquet: columns differ from this version's; import"),
        (without_rows, r"snapshots.parquet: holds no snapshot; import"),
    ],
)
def test_an_incomplete_or_damaged_dataset_is_refused(fresh_al4, damage, message):
    damage(fresh_al4.path)
    with pytest.raises(DatasetError, match=message) as caught:
        Dataset.open(fresh_al4.path)
    assert str(fresh_al4.path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["ldos", "density"])
def test_a_flipped_byte_is_found_by_the_check(fresh_al4, kind):
    path = fresh_al4.path / kind / "004.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"{kind}/004\.arrow: its SHA-256 differs from the table's"):
        list(fresh_al4.check())


def test_a_missing_ldos_is_found_by_the_check(fresh_al4):
    (fresh_al4.path / "ldos" / "002.arrow").unlink()
    with pytest.raises(DatasetError, match=r"ldos/002\.arrow: missing; import the dataset again"):
        list(fresh_al4.check())


def test_an_ldos_of_other_energies_is_refused(fresh_al4):
    ldos = fresh_al4.ldos(fresh_al4["002"]).array()
    write(fresh_al4.path / "ldos" / "002.arrow", to_batches(ldos[:, :36], "ldos", {}))
    with pytest.raises(DatasetError, match="expected 8000 grid points of 37 numbers"):
        fresh_al4.ldos(fresh_al4["002"])


@pytest.mark.parametrize(
    "edit, message",
    [
        (
            lambda d: np.where(np.arange(8000)[:, None] == 4321, np.nan, d),
            r"not finite .* at 1 grid points, .*10, 16, 1",
        ),
        (lambda d: -d, r"the DOS is negative \(-\d.+ 1/eV\); check the sign of the LDOS"),
        (lambda d: 1.02 * d, r"holds 12\.2\d+ electrons below the Fermi level of 7\.\d+ eV, the DFT has 12;"),
        (lambda d: d / 0.529177**3, r"holds 80\.\d+ electrons below .* or the unit is not 1/\(eV Å³\)"),
    ],
)
def test_an_ldos_that_contradicts_the_dft_is_refused(al4, edit, message):
    # 4321 = (10 * 20 + 16) * 20 + 1
    snapshot = al4["000"]
    ldos = edit(al4.ldos(snapshot).array().astype(np.float32))
    with pytest.raises(DatasetError, match=message):
        check_ldos([ldos], snapshot, al4.info.energy_grid, where="000.ldos.npy")


def test_shards_of_an_ldos_are_checked_as_the_whole(al4):
    snapshot, ldos = al4["000"], al4.ldos(al4["000"]).array()
    whole = check_ldos([ldos], snapshot, al4.info.energy_grid, where="000")
    parts = check_ldos([ldos[:3000], ldos[3000:]], snapshot, al4.info.energy_grid, where="000")
    assert parts.electrons_error == pytest.approx(whole.electrons_error, abs=1e-9)
    assert parts.band_energy_error == pytest.approx(whole.band_energy_error, abs=1e-6)
    bad = np.where(np.arange(8000)[:, None] >= 4321, np.nan, ldos)
    with pytest.raises(DatasetError, match=r"not finite .* at 3679 grid points, first at \(10, 16, 1\)"):
        check_ldos([bad[:3000], bad[3000:5000], bad[5000:]], snapshot, al4.info.energy_grid, where="000")


def test_without_a_fermi_level_of_the_dft_the_electrons_are_not_counted(al4):
    """Counted at the level where the LDOS itself holds them, they always agree."""
    snapshot = dataclasses.replace(al4["000"], fermi_level=None, band_energy=None)
    report = check_ldos(al4.ldos(snapshot).arrays(), snapshot, al4.info.energy_grid, where="000")
    assert report.electrons_error is None
    assert report.band_energy_error is None


def test_descriptors_come_back_as_written_in_shards_of_the_ldos(fresh_al4):
    snapshot = fresh_al4["000"]
    fresh_al4.write_descriptors(snapshot, SETTINGS, descriptors(snapshot))
    file = fresh_al4.descriptors(snapshot, SETTINGS)
    np.testing.assert_array_equal(file.array(), descriptors(snapshot))
    assert [len(a) for a in file.arrays()] == [len(a) for a in fresh_al4.ldos(snapshot).arrays()]
    assert [s.id for s in fresh_al4.without_descriptors(SETTINGS)] == [s.id for s in fresh_al4.snapshots[1:]]


def test_missing_descriptors_are_refused_with_the_command_that_makes_them(al4):
    with pytest.raises(DatasetError, match=r"missing; run `dftune descriptors compute .*--cutoff 4 --two-j-max 2`"):
        al4.descriptors(al4["000"], SETTINGS)


def test_descriptors_of_another_setting_are_refused(fresh_al4):
    snapshot, other = fresh_al4["000"], BispectrumSettings(cutoff=4.5, two_j_max=2)
    fresh_al4.write_descriptors(snapshot, SETTINGS, descriptors(snapshot))
    path = descriptor_path(fresh_al4.path, other, snapshot.id)
    path.parent.mkdir()
    shutil.copy(descriptor_path(fresh_al4.path, SETTINGS, snapshot.id), path)
    with pytest.raises(DatasetError, match=r'descriptors of another setting, .*"cutoff":4\.0.*, not .*"cutoff":4\.5'):
        fresh_al4.descriptors(snapshot, other)
    assert len(fresh_al4.without_descriptors(other)) == 12


def test_descriptors_of_another_structure_are_refused(fresh_al4):
    snapshot = fresh_al4["000"]
    fresh_al4.write_descriptors(snapshot, SETTINGS, descriptors(snapshot))
    moved = dataclasses.replace(snapshot, positions=snapshot.positions + [[1e-4, 0, 0]] * 4)
    with pytest.raises(DatasetError, match="descriptors of another structure than snapshot 000; run `dftune desc"):
        fresh_al4.descriptors(moved, SETTINGS)
    unmoved = dataclasses.replace(snapshot, positions=snapshot.positions + 1e-9)
    assert fresh_al4.descriptors(unmoved, SETTINGS).array().shape == (8000, 5)


def test_the_rule_of_integration_changes_the_fingerprint_only_where_it_is_another_than_older_datasets_have(fresh_al4):
    file = fresh_al4.path / "dataset.json"
    head = json.loads(file.read_text(encoding="utf-8"))
    del head["energy_grid"]["rule"], head["checks"]  # as datasets were before they said so
    file.write_text(json.dumps(head), encoding="utf-8")
    earlier = Dataset.open(fresh_al4.path)
    assert earlier.info.energy_grid.rule == "least-squares"
    assert earlier.fingerprint == fresh_al4.fingerprint
    fingerprints = []
    for rule in ("least-squares", "linear"):
        head["energy_grid"]["rule"] = rule
        file.write_text(json.dumps(head), encoding="utf-8")
        fingerprints.append(Dataset.open(fresh_al4.path).fingerprint)
    assert fingerprints[0] == fresh_al4.fingerprint != fingerprints[1]
