"""Datasets written for other programs."""

from dataclasses import replace

import ase.io
import numpy as np
import pyarrow.parquet as pq
import pytest
from ase.data import chemical_symbols

from dftune.tests.mala_project import described
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.data.exporting.exporters import FORMATS, export_dataset
from dftune.trainables.data.importing.arrays import ARRAYS
from dftune.trainables.data.importing.importer import Told
from dftune.trainables.data.importing.importers import import_dataset
from dftune.trainables.data.importing.mala import MALA
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.errors import DatasetError, InputError


@pytest.fixture(scope="module")
def four(al4) -> Dataset:
    return al4.only(al4.snapshots[:4])


def test_an_export_to_arrays_comes_back_as_it_was(four, tmp_path):
    export_dataset(four, tmp_path / "arrays", "arrays")
    back = import_dataset([tmp_path / "arrays"], tmp_path / "back", validation=[], source=four.info.source)
    assert back.fingerprint == four.fingerprint


def test_a_temperature_comes_back_to_the_last_bit(four, tmp_path):
    """One that k_B times it, divided by k_B, does not give."""
    odd = Dataset(four.path, four.info, [replace(four.snapshots[0], temperature=63696.53177045811)])
    for form, importer in (("arrays", ARRAYS), ("mala", MALA)):
        export_dataset(odd, tmp_path / form, form)
        (found,) = importer.read([tmp_path / form], told=Told(), report=str).snapshots
        assert found.snapshot.temperature == 63696.53177045811


def test_parquet_has_every_grid_point_with_its_place(four, tmp_path):
    export_dataset(four, tmp_path / "tables", "parquet")
    assert pq.read_table(tmp_path / "tables" / "snapshots.parquet").column("id").to_pylist() == [s.id for s in four]
    snapshot = four["002"]
    table = pq.read_table(tmp_path / "tables" / "002.parquet")
    ldos = table.column("ldos").combine_chunks().flatten().to_numpy().reshape(-1, 37)
    assert ldos.tobytes() == four.ldos(snapshot).array().tobytes()
    assert table.column("density").to_numpy().tobytes() == four.density(snapshot).array().tobytes()
    point = np.ravel_multi_index((3, 7, 11), snapshot.grid)
    place = [table.column(name)[int(point)].as_py() for name in "xyz"]
    assert place == pytest.approx(np.array([3, 7, 11]) / 20 @ snapshot.cell)
    assert table.schema.field("ldos").metadata == {b"unit": "1/(eV Å³)".encode()}


def test_a_stress_goes_out_and_comes_back(four, tmp_path):
    stress = np.array([[0.01, 0.002, 0.003], [0.002, -0.02, 0.004], [0.003, 0.004, 0.03]])
    one = Dataset(four.path, four.info, [replace(four.snapshots[0], stress=stress)])
    export_dataset(one, tmp_path / "arrays", "arrays")
    made = import_dataset([tmp_path / "arrays"], tmp_path / "made", validation=[])
    export_dataset(made, tmp_path / "one.xyz", "extxyz")
    np.testing.assert_array_equal(made.snapshots[0].stress, stress)
    assert ase.io.read(tmp_path / "one.xyz").get_stress(voigt=False) == pytest.approx(stress, abs=1e-8)


def test_extended_xyz_has_structures_energies_and_forces(four, tmp_path):
    export_dataset(four, tmp_path / "four.xyz", "extxyz")
    read = ase.io.read(tmp_path / "four.xyz", ":")
    for atoms, snapshot in zip(read, four.snapshots, strict=True):
        assert atoms.get_potential_energy() == pytest.approx(snapshot.total_energy, rel=1e-12)
        assert atoms.get_forces() == pytest.approx(snapshot.forces, abs=1e-7)
        assert atoms.info["band_energy"] == pytest.approx(snapshot.band_energy, rel=1e-12)
        assert atoms.info["group"] == snapshot.group
        assert f" id={snapshot.id} " in (tmp_path / "four.xyz").read_text("utf-8")
        assert [chemical_symbols[n] for n in snapshot.numbers] == atoms.get_chemical_symbols()


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "extxyz"])
def test_an_export_that_fails_leaves_nothing_behind(fresh_al4, tmp_path, form):
    (fresh_al4.path / "ldos" / "003.arrow").unlink()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DatasetError, match=r"003.arrow: missing"):
        export_dataset(fresh_al4, tmp_path / "out", form)
    assert sorted(tmp_path.iterdir()) == before


def test_what_cannot_be_exported_is_refused(four, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="exists already; choose another name or remove it first"):
        export_dataset(four, tmp_path / "there", "arrays")
    with pytest.raises(InputError, match="there is no format 'npy'; there are arrays, mala, parquet, extxyz"):
        export_dataset(four, tmp_path / "new", "npy")


def test_mala_has_one_setting_of_descriptors(al4, tmp_path):
    copy = described(al4, tmp_path / "al4", n=1)
    other = BispectrumSettings(cutoff=3.0, two_j_max=2)
    (s,) = copy.snapshots
    copy.write_descriptors(s, other, bispectrum(s.cell, s.positions, s.numbers, s.grid, other))
    with pytest.raises(InputError, match=r"has descriptors of several settings \(cutoff"):
        export_dataset(copy, tmp_path / "mala", "mala")
