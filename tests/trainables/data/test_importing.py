import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dftune.tests.exported import REFERENCES, edit, edit_array, export, refused, upf
from dftune.tests.places import DATA
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.data.importing.importers import import_dataset
from dftune.trainables.data.info import NO_DFT
from dftune.trainables.errors import DatasetError
from dftune.trainables.physics.units import BOHR


@pytest.fixture
def raw(al4, tmp_path) -> Path:
    """Snapshots 000 to 003 of the bundled dataset as files to import."""
    for snapshot in al4.snapshots[:4]:
        export(al4, snapshot, tmp_path / "raw")
    return tmp_path / "raw"


def test_an_import_equals_what_was_exported(al4, raw, tmp_path):
    lines = []
    made = import_dataset([raw], tmp_path / "al4", source="a note", report=lines.append)
    assert made.path == (tmp_path / "al4").resolve()
    assert made.info == al4.info.model_copy(update={"source": "a note", "checks": made.info.checks})
    assert [line.split()[0] for line in lines[:5]] == ["rule", "000", "001", "002", "003"]
    for ours, theirs in zip(made.snapshots, al4.snapshots, strict=False):
        same = {"split": "", "temperature": 0, "ldos_sha256": "", "density_sha256": ""}
        assert ours.to_row() | same == theirs.to_row() | same
        assert ours.temperature == pytest.approx(theirs.temperature, rel=1e-14)
        assert made.ldos(ours).array().tobytes() == al4.ldos(theirs).array().tobytes()
        assert made.density(ours).array().tobytes() == al4.density(theirs).array().tobytes()
    assert len(list(made.check())) == 4


@pytest.mark.parametrize(
    "options, missing",
    [({"validation": ["000", "001"], "test": ["002", "003"]}, "train"), ({"test": ["003"]}, "validation"), ({}, "")],
)
def test_a_split_that_has_no_snapshot_is_said(raw, tmp_path, options, missing):
    lines = []
    import_dataset([raw], tmp_path / "al4", report=lines.append, **options)
    said = [line for line in lines if line.startswith("no snapshot is in the split")]
    assert [line.split(",")[0] for line in said] == ([f"no snapshot is in the split {missing}"] if missing else [])


def test_by_default_the_last_quarter_is_for_testing_and_the_one_before_for_validation(raw, tmp_path):
    made = import_dataset([raw], tmp_path / "al4")
    assert [s.split for s in made.snapshots] == ["train", "train", "validation", "test"]
    assert made.info.source == "imported from raw"


def test_splits_are_as_told_and_files_may_be_named_one_by_one(raw, tmp_path):
    made = import_dataset([raw / "003.json", raw / "001.json"], tmp_path / "al4", validation=["003"])
    assert [(s.id, s.split) for s in made.snapshots] == [("003", "validation"), ("001", "train")]


def test_only_what_a_snapshot_must_have_is_needed(raw, tmp_path):
    for key in (*REFERENCES, "qe_terms_ev", "forces_ev_per_angstrom", "config.displacement_sigma_angstrom"):
        edit(raw / "000.json", key=key, value=None)
    (raw / "000.dens.npy").unlink()
    edit(raw / "000.json", key="ldos_unit", value="1/(eV Å³)")
    (snapshot,) = import_dataset([raw / "000.json"], tmp_path / "al4").snapshots
    assert (snapshot.band_energy, snapshot.xc_energy, snapshot.forces, snapshot.group) == (None, None, None, "all")
    assert snapshot.density_sha256 is None
    assert not (tmp_path / "al4" / "density").exists()


def test_double_precision_is_stored_as_single(raw, tmp_path):
    edit_array(raw / "000.ldos.npy", lambda values: values.astype(np.float64) * (1 + 1e-4))
    made = import_dataset([raw / "000.json"], tmp_path / "al4")
    stored = made.ldos(made["000"]).array()
    assert stored.dtype == np.float32
    np.testing.assert_allclose(stored, np.load(raw / "000.ldos.npy").reshape(8000, 37), rtol=1e-7)


def test_an_energy_grid_that_ends_where_nobody_knows_is_refused_for_its_electrons(raw, tmp_path):
    edit_array(raw / "000.ldos.npy", lambda values: values[..., :28])
    edit(raw / "000.json", key="config.energy_grid_ev.count", value=28)
    edit(raw / "000.json", key="fermi_ev", value=None)
    text = refused([raw / "000.json"], tmp_path / "al4")
    assert re.search(r"the energy grid from -6 to 7\.5 eV holds 11\.\d+ electrons when full, but 12 are needed", text)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"])
def test_arrays_of_any_byte_order_and_layout_are_read_as_the_numbers_they_are(al4, raw, tmp_path, dtype, order):
    for file in ("ldos", "dens"):
        edit_array(raw / f"000.{file}.npy", lambda values: values.astype(dtype, order=order))
    made = import_dataset([raw / "000.json"], tmp_path / "al4")
    stored, true = made.ldos(made["000"]).array(), al4.ldos(al4["000"]).array()
    assert stored.dtype == (np.float16 if dtype[1:] == "f2" else np.float32)
    assert (stored == true).all()  # the bundled LDOS is float16, which all of these hold exactly
    density, true = made.density(made["000"]).array(), al4.density(al4["000"]).array()
    np.testing.assert_allclose(density, true, rtol=1e-3 if dtype[1:] == "f2" else 0)


@pytest.mark.parametrize("text, kernel", [("fd", "fermi-dirac"), ("fermi-dirac -df/de", "fermi-dirac")])
def test_a_broadening_by_the_scf_smearing_is_known_by_its_names_and_refused_where_it_is_not_so(
    raw, tmp_path, text, kernel
):
    # The data were broadened by a Gaussian: taken for -df/dε, their band energy is 158 meV/atom off.
    edit(raw / "000.json", key="config.energy_grid_ev.kernel", value=text)
    message = refused([raw / "000.json"], tmp_path / "al4")
    assert "000.ldos.npy: the LDOS gives a band energy +158 meV/atom off the DFT's" in message
    assert f"the kernel ({kernel}, 0.5 eV) is not the one it had" in message


def test_the_user_tells_the_broadening_that_no_file_says(raw, tmp_path):
    for key in ("kernel", "width"):
        edit(raw / "000.json", key=f"config.energy_grid_ev.{key}", value=None)
    sources, where = [raw / "000.json"], raw / "000.json"
    nothing = "nothing says the {0} of the broadening of the LDOS; give --{0}"
    assert refused(sources, tmp_path / "al4") == f"{where}: {nothing.format('kernel')}"
    assert refused(sources, tmp_path / "al4", kernel="gaussian") == f"{where}: {nothing.format('width')}"
    made = import_dataset(sources, tmp_path / "al4", kernel="gaussian", width=0.5)
    assert (made.info.energy_grid.kernel, made.info.energy_grid.width) == ("gaussian", 0.5)


def test_what_the_user_tells_does_not_contradict_the_files(raw, tmp_path):
    message = refused([raw / "000.json"], tmp_path / "al4", width=0.4)
    assert message == f"{raw / '000.json'}: the width of the broadening is 0.5, but --width says 0.4"


def test_an_energy_grid_that_cuts_off_the_bottom_of_the_band_is_refused(raw, tmp_path):
    # From -3 eV on, the electron count is right to 1 %, the band energy off by 55 meV/atom.
    edit_array(raw / "000.ldos.npy", lambda values: values[..., 6:])
    edit(raw / "000.json", key="config.energy_grid_ev.emin", value=-3.0)
    edit(raw / "000.json", key="config.energy_grid_ev.count", value=31)
    assert "the energy grid cuts off states at the bottom of the band" in refused([raw / "000.json"], tmp_path / "al4")


def test_states_below_the_lowest_energy_are_missed_where_the_dft_gave_no_energies(raw, tmp_path):
    """Nothing counts the electrons then: they fill the LDOS up to another Fermi level."""
    for key in (*REFERENCES, "qe_terms_ev"):
        edit(raw / "000.json", key=key, value=None)
    import_dataset([raw / "000.json"], tmp_path / "whole")
    edit_array(raw / "000.ldos.npy", lambda values: values[..., 6:])
    edit(raw / "000.json", key="config.energy_grid_ev.emin", value=-3.0)
    edit(raw / "000.json", key="config.energy_grid_ev.count", value=31)
    said = refused([raw / "000.json"], tmp_path / "al4")
    assert re.search(r"the DOS is 0\.2\d+ 1/eV at the lowest energy, -3 eV, so that states below it are missing", said)


def test_an_entropy_term_of_the_other_sign_is_refused(al4, raw, tmp_path):
    edit(raw / "000.json", key="minus_ts_ev", value=-al4["000"].entropy_term)
    said = refused([raw / "000.json"], tmp_path / "al4")
    assert "the DFT's entropy term is +102 meV/atom; it is -TS, which is never positive" in said


@pytest.mark.parametrize("kept", ["all", "fermi_ev"])
def test_a_fermi_level_a_few_hundredths_off_is_refused(al4, raw, tmp_path, kept):
    edit(raw / "000.json", key="fermi_ev", value=al4["000"].fermi_level + 0.04)
    for key in () if kept == "all" else set(REFERENCES) - {kept}:
        edit(raw / "000.json", key=key, value=None)
    said = refused([raw / "000.json"], tmp_path / "al4")
    assert "the Fermi level of the LDOS is 7.658 eV, the DFT's is 7.698; the Fermi level is of another" in said


def test_energies_that_nothing_tells_the_zero_of_are_said_not_to_be_checked(raw, tmp_path):
    lines = []
    import_dataset([raw / "000.json"], tmp_path / "whole", report=lines.append)
    assert any(line.startswith("checked: zero of the energies, at most ") for line in lines)
    edit(raw / "000.json", key="config.energy_grid_ev.emin", value=-5.0)  # a volt off
    for key in (*REFERENCES, "qe_terms_ev", "config.pseudo"):
        edit(raw / "000.json", key=key, value=None)
    lines.clear()
    made = import_dataset([raw / "000.json"], tmp_path / "al4", report=lines.append)
    zero = "not checked: zero of the energies; the DFT gave neither a band energy nor a Fermi level"
    assert zero in lines
    assert NO_DFT in lines
    assert {f"at import {zero}", f"at import {NO_DFT}"} < set(made.lines())


def test_snapshots_of_two_species_are_imported(almg):
    assert almg.info.species == {"Al": 3.0, "Mg": 2.0}
    assert [s.numbers.tolist() for s in almg.snapshots] == [[13, 12]] * 3
    assert almg.info.dft is None
    for found in almg.check():  # each valence at its place: the Ewald energy is that of the DFT
        assert abs(found.ewald_error) < 1e-3
        assert abs(found.band_energy_error) < 1.0
        assert found.unexplained_by_atoms < 0.05


def test_each_species_has_a_pseudopotential_of_its_own(tmp_path):
    (tmp_path / "Al.pz-vbc.UPF").write_text(upf(), encoding="utf-8")
    options = {"validation": ["001"], "test": ["002"], "pseudopotentials": tmp_path}
    assert "Mg.pz-n-vbc.UPF is not in" in refused([DATA / "almg"], tmp_path / "made", **options)
    # A core charge that is made up: the energy of the density by it is not that of the DFT, and the import sees it.
    (tmp_path / "Mg.pz-n-vbc.UPF").write_text(upf(element="Mg", valence=2.0, core="0.5 0.1 0.0"), encoding="utf-8")
    assert "and core charges of Mg" in refused([DATA / "almg"], tmp_path / "made", **options)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("config.symbol", "Al", "config: give either symbol, of all atoms, or symbols, of each atom"),
        ("config.symbols", None, "config: give either symbol, of all atoms, or symbols, of each atom"),
        ("config.symbols", ["Al"], "config: symbols of 1 atoms, but positions of 2"),
        ("config.symbols", ["Al", "Xx"], "config: 'Xx' is not a chemical symbol"),
        ("config.zval", 3.0, "config: zval of Al, Mg must be {symbol: value}"),
        ("config.zval", {"Al": 3.0}, "config: zval has no Mg"),
        ("config.pseudo", "Al.UPF", "config: pseudo of Al, Mg must be {symbol: value}"),
        ("config.pseudo", {"Mg": "Mg.UPF"}, "config: pseudo has no Al"),
        ("config.symbols", ["Al", "Al"], "2 Al with 3 valence electrons each are not the 5 electrons"),
    ],
)
def test_species_that_do_not_fit_are_named(tmp_path, key, value, message):
    shutil.copytree(DATA / "almg", tmp_path / "raw")
    edit(tmp_path / "raw" / "001.json", key=key, value=value)
    said = refused([tmp_path / "raw"], tmp_path / "made")
    assert said.startswith(str(tmp_path / "raw" / "001.json"))
    assert message in said


def test_a_json_without_an_ldos_beside_it_is_named(raw, tmp_path):
    (raw / "index.json").write_text("[]")
    lines = []
    import_dataset([raw], tmp_path / "al4", report=lines.append)
    assert lines[0] == f"left out {raw / 'index.json'}: no index.ldos.npy beside it"


def test_an_ldos_without_a_json_beside_it_is_named(raw, tmp_path):
    (raw / "002.json").unlink()
    lines = []
    import_dataset([raw], tmp_path / "al4", report=lines.append)
    assert f"left out {raw / '002.ldos.npy'}: no 002.json beside it" in lines


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("config", None, "config: field required"),
        ("config.zval", None, "config.zval: field required"),
        ("config.zval", float("nan"), "config.zval: input should be a finite number"),
        ("config.symbol", "Xx", "config: 'Xx' is not a chemical symbol"),
        ("config.cell_angstrom", [[1, 0, 0], [0, 1, 0]], "config.cell_angstrom"),
        ("config.positions_angstrom", [[0, 0]], "config.positions_angstrom.0.2: field required"),
        ("config.positions_angstrom", [], "config.positions_angstrom: list should have at least 1 item"),
        ("config.energy_grid_ev.spacing", 0.0, "config.energy_grid_ev.spacing: input should be greater than 0"),
        ("config.energy_grid_ev.count", 1, "n_energy: input should be greater than or equal to 2"),
        ("config.energy_grid_ev.kernel", "lorentzian", "unknown kernel 'lorentzian' of the LDOS; gaussian and"),
        ("config.displacement_sigma_angstrom", "big", "config.displacement_sigma_angstrom: input should be a valid"),
        ("fft", [20, 20], "fft.2: field required"),
        ("fft", [20, 20, -20], "fft.2: input should be greater than 0"),
        ("n_electrons", "many", "n_electrons: input should be a valid number"),
        ("kt_ev", -0.1, "kt_ev: input should be greater than or equal to 0"),
        ("band_energy_ev", float("inf"), "band_energy_ev: input should be a finite number"),
        ("forces_ev_per_angstrom", [[0, 0, 0]], "has forces of 1 atoms, but positions of 4"),
    ],
)
def test_a_bad_entry_is_refused_by_its_name(raw, tmp_path, key, value, message):
    edit(raw / "002.json", key=key, value=value)
    assert f"{raw / '002.json'}: {message}" in refused([raw], tmp_path / "al4")


@pytest.mark.parametrize("text", ["", "[]", '{"config": ', "\xff", "[" * 100_000])
def test_a_file_that_is_no_json_record_is_refused(raw, tmp_path, text):
    (raw / "002.json").write_text(text, encoding="latin-1")
    assert refused([raw], tmp_path / "al4").startswith(f"{raw / '002.json'}: ")


@pytest.mark.parametrize(
    "file, change, message",
    [
        ("ldos", lambda d: d[:, :, :19], "has shape (20, 20, 19, 37), but the JSON beside it says (20, 20, 20, 37)"),
        ("ldos", lambda d: d.reshape(8000, 37), "has shape (8000, 37)"),
        ("ldos", lambda d: d.astype(np.int32), "holds int32, not real floating-point numbers; save float32 or float64"),
        ("ldos", lambda d: d.astype(complex), "holds complex128, not real floating-point numbers"),
        ("dens", lambda d: d.astype(bool), "holds bool, not real floating-point numbers"),
        ("ldos", lambda d: -d, "the DOS is negative"),
        ("ldos", lambda d: d * 0.9, "electrons below the Fermi level of"),
        ("dens", lambda d: d[:19], "has shape (19, 20, 20), but the JSON beside it says (20, 20, 20)"),
        ("dens", lambda d: d * np.nan, "values are not finite"),
        ("dens", lambda d: d / 0.529177**3, "electrons, the DFT has 12; check that its unit is 1/Å³"),
    ],
)
def test_a_bad_array_is_refused_with_its_file(raw, tmp_path, file, change, message):
    edit_array(raw / f"002.{file}.npy", change)
    text = refused([raw], tmp_path / "al4")
    assert text.startswith(f"{raw / f'002.{file}.npy'}: ")
    assert message in text


def test_a_negative_grid_point_is_refused(raw, tmp_path):
    """It changes the band energy by 3 meV/atom only."""
    sign = np.where(np.arange(8000) == 423, -1, 1).reshape(20, 20, 20, 1)
    edit_array(raw / "002.ldos.npy", lambda values: values * sign)
    assert "002.json: the LDOS goes down to -0.0358" in refused([raw], tmp_path / "al4")


def test_a_nan_in_the_ldos_is_refused_with_its_grid_point(raw, tmp_path):
    def spoil(values):
        values[3, 14, 15, 9] = np.nan
        return values

    edit_array(raw / "002.ldos.npy", spoil)
    assert "002.ldos.npy: the LDOS is not finite (NaN or infinite) at 1 grid points, first at (3, 14, 15)" in refused(
        [raw], tmp_path / "al4"
    )


@pytest.mark.parametrize(
    "kept, message",
    [
        (
            slice(0, 26),
            r"the energies from -6 to 6\.5 eV do not hold the Fermi level of 7\.658 eV; compute the LDOS",
        ),
        (slice(0, 28), r"the energies from -6 to 7\.5 eV do not hold the Fermi level of 7\.658 eV; compute the LDOS"),
        (slice(7, 37), r"holds 11\.\d+ electrons below the Fermi level of 7\.658 eV, the DFT has 12; the energy grid"),
    ],
)
def test_an_energy_grid_too_short_for_the_electrons_is_refused(raw, tmp_path, kept, message):
    edit_array(raw / "000.ldos.npy", lambda values: values[..., kept])
    edit(raw / "000.json", key="config.energy_grid_ev.emin", value=-6.0 + 0.5 * kept.start)
    edit(raw / "000.json", key="config.energy_grid_ev.count", value=kept.stop - kept.start)
    text = refused([raw / "000.json"], tmp_path / "al4")
    assert text.startswith(f"{raw / '000.ldos.npy'}: ")
    assert re.search(message, text)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda file: file.write_bytes(file.read_bytes() + b"more"), "goes on for 4 bytes after its array"),
        (lambda file: file.write_bytes(file.read_bytes().replace(b"(20, ", b"(-1, ", 1)), "not a whole .npy file"),
        (lambda file: (file.unlink(), os.mkfifo(file)), "no file; save the LDOS as a .npy file"),
        (lambda file: (file.unlink(), file.mkdir()), "no file; save the LDOS as a .npy file"),
    ],
)
def test_what_is_no_array_is_refused_with_its_file(raw, tmp_path, spoil, message):
    spoil(raw / "002.ldos.npy")
    assert refused([raw], tmp_path / "al4").startswith(f"{raw / '002.ldos.npy'}: {message}")


def test_a_missing_or_truncated_ldos_is_refused(raw, tmp_path):
    (raw / "002.ldos.npy").unlink()
    text = refused([raw / "001.json", raw / "002.json"], tmp_path / "al4")
    assert text == f"{raw / '002.ldos.npy'}: missing; every snapshot needs its LDOS"
    os.truncate(raw / "001.ldos.npy", 100_000)
    assert "001.ldos.npy: not a whole .npy file; copy it again" in refused([raw], tmp_path / "al4")


class MakesAFolder:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("dump", [pickle.dumps, lambda trap: b"\x93NUMPY\x01\x00" + pickle.dumps(trap)])
def test_a_pickle_is_never_opened(raw, tmp_path, dump):
    (raw / "002.ldos.npy").write_bytes(dump(MakesAFolder(str(tmp_path / "executed"))))
    assert "002.ldos.npy: not a whole .npy file" in refused([raw], tmp_path / "al4")
    assert not (tmp_path / "executed").exists()


def test_snapshots_of_another_energy_grid_or_valence_are_refused(raw, tmp_path):
    edit(raw / "003.json", key="config.energy_grid_ev.width", value=0.4)
    text = refused([raw], tmp_path / "al4")
    assert text == (
        f"{raw / '003.json'}: its energy grid has width 0.4, that of {raw / '000.json'} has width 0.5; a dataset has "
        "one grid: import them apart, and then `dftune data merge`"
    )
    edit(raw / "003.json", key="config.energy_grid_ev.width", value=0.5)
    edit(raw / "003.json", key="config.zval", value=11)
    text = refused([raw], tmp_path / "al4")
    assert "003.json: 4 Al with 11 valence electrons each are not the 12 electrons it gives" in text


def test_what_exists_is_not_overwritten(raw, tmp_path):
    (tmp_path / "al4").mkdir()
    (tmp_path / "al4" / "precious").touch()
    assert "al4: exists already; choose another name" in refused([raw], tmp_path / "al4")
    assert (tmp_path / "al4" / "precious").exists()


def test_sources_that_hold_nothing_are_refused(raw, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty: holds no snapshot" in refused([raw, tmp_path / "empty"], tmp_path / "al4")
    assert "rwa: missing; give folders or" in refused([raw, tmp_path / "rwa"], tmp_path / "al4")
    assert "004.json: missing" in refused([raw, raw / "004.json"], tmp_path / "al4")
    assert "nothing to import" in refused([], tmp_path / "al4")


def test_a_snapshot_given_twice_is_refused(raw, tmp_path):
    assert "snapshot '001' is given twice" in refused([raw, raw / "001.json"], tmp_path / "al4")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"validation": ["004"]}, "no snapshot '004' to put into a split; there are 000, 001, 002, 003"),
        ({"validation": ["001"], "test": ["002", "001"]}, "snapshot '001' cannot be in validation and in test"),
    ],
)
def test_impossible_splits_are_refused(raw, tmp_path, options, message):
    assert message in refused([raw], tmp_path / "al4", **options)


def test_a_flipped_bit_in_the_table_never_goes_unnoticed(raw, tmp_path):
    made = import_dataset([raw], tmp_path / "al4")
    rows, file = [s.to_row() for s in made.snapshots], made.path / "snapshots.parquet"
    whole, rng, refusals = file.read_bytes(), np.random.default_rng(0), 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        file.write_bytes(damaged)
        try:
            assert [s.to_row() for s in Dataset.open(made.path).snapshots] == rows
        except DatasetError:
            refusals += 1
    assert refusals > 100
    file.write_bytes(whole)
    assert pq.read_table(file, page_checksum_verification=True).num_rows == 4


def imported(sources, destination, **options):
    """The ``dft`` of an import, and the lines that say why there is none."""
    lines = []
    made = import_dataset(sources, destination, report=lines.append, **options)
    return made.info.dft, [line for line in lines if line.startswith("no total free energies")]


def test_functional_cutoff_and_core_charge_come_from_the_json_and_the_pseudopotential(raw, tmp_path):
    (raw / "Al.UPF").write_text(upf(functional="SLA PW PBX PBC", core="0.3 0.1 0.0"))
    dft, said = imported([raw], tmp_path / "al4", check="warn")  # the DFT had another one
    assert said == []
    assert (dft.functional, dft.density_cutoff) == ("pbe", pytest.approx(60 * 13.605693, rel=1e-7))
    assert dft.core_charges["Al"].radius == pytest.approx((0.0, BOHR, 2 * BOHR))
    assert dft.core_charges["Al"].density == pytest.approx((0.3 / BOHR**3, 0.1 / BOHR**3, 0.0))
    assert Dataset.open(tmp_path / "al4").info.dft == dft


def test_the_pseudopotential_lies_beside_the_snapshots_or_in_the_folder_given(raw, tmp_path):
    (tmp_path / "pseudo").mkdir()
    (raw / "Al.UPF").rename(tmp_path / "pseudo" / "Al.UPF")
    dft, said = imported([raw / "000.json"], tmp_path / "without")
    assert dft is None
    assert said == [
        f"no total free energies from this dataset: Al.UPF is not in {raw}; give its folder with --pseudopotentials"
    ]
    dft, said = imported([raw / "000.json"], tmp_path / "with", pseudopotentials=tmp_path / "pseudo")
    assert (dft.functional, said) == ("lda-pz", [])
    text = refused([raw], tmp_path / "al4", pseudopotentials=tmp_path)
    assert text.startswith(f"Al.UPF is not in {tmp_path}; give its folder")
    assert text.endswith("or import without --pseudopotentials, for the LDOS and the band energy alone")


def test_of_a_path_in_the_json_only_the_name_counts(raw, tmp_path):
    (tmp_path / "Be.UPF").write_text(upf(functional="PBE"))
    (tmp_path / "Al.UPF").write_text(upf(functional="PBE"))
    edit(raw / "000.json", key="config.pseudo", value=f"{tmp_path}/../{tmp_path.name}/Al.UPF")
    assert imported([raw / "000.json"], tmp_path / "al4")[0].functional == "lda-pz"
    edit(raw / "000.json", key="config.pseudo", value="..")
    assert ".. is not in" in imported([raw / "000.json"], tmp_path / "none")[1][0]
    edit(raw / "000.json", key="config.pseudo", value="Al.UPF" * 100)
    assert "000.json: config.pseudo: string should match pattern" in refused([raw / "000.json"], tmp_path / "never")


@pytest.mark.parametrize("key", ["config.pseudo", "config.ecutrho_ry"])
def test_without_pseudopotential_or_cutoff_there_are_no_free_energies(raw, tmp_path, key):
    edit(raw / "002.json", key=key, value=None)
    dft, said = imported([raw], tmp_path / "al4")
    assert dft is None
    assert said == [
        f"no total free energies from this dataset: {raw / '002.json'} gives no {key}; add it and import again"
    ]
    assert f"002.json gives no {key}" in refused([raw], tmp_path / "other", pseudopotentials=raw)


@pytest.mark.parametrize(
    "changed, reason", [({"kind": "PAW"}, "a PAW dataset: its"), ({"functional": "PBESOL"}, "made for the functional")]
)
def test_paw_and_other_functionals_are_imported_for_what_they_allow_and_refused_where_asked_for(
    raw, tmp_path, changed, reason
):
    (raw / "Al.UPF").write_text(upf(**changed))
    dft, said = imported([raw], tmp_path / "al4")
    assert dft is None
    assert said[0].startswith(f"no total free energies from this dataset: {raw / 'Al.UPF'}: {reason}")
    text = refused([raw], tmp_path / "other", pseudopotentials=raw)
    assert text.startswith(f"{raw / 'Al.UPF'}: {reason}")
    assert text.endswith("; or import without --pseudopotentials, for the LDOS and the band energy alone")


@pytest.mark.parametrize("options", [{}, {"pseudopotentials": "raw"}])
@pytest.mark.parametrize(
    "content, message",
    [
        (upf(valence=11.0), "has 11 valence electrons, but Al had 3 in the DFT; give the one that it used"),
        (upf(element="Be"), "of Be, but named for Al; give the one that the DFT used"),
        (upf()[:-3], "truncated: the end is missing; copy again the file that the DFT used"),
    ],
)
def test_a_wrong_or_damaged_pseudopotential_is_refused(raw, tmp_path, options, content, message):
    (raw / "Al.UPF").write_text(content)
    text = refused([raw], tmp_path / "al4", **{key: tmp_path / value for key, value in options.items()})
    assert text == f"{raw / 'Al.UPF'}: {message}"


@pytest.mark.parametrize("key, value, before", [("ecutrho_ry", 80.0, "60.0"), ("pseudo", "other.UPF", "Al.UPF")])
def test_snapshots_of_different_cutoffs_or_pseudopotentials_are_refused(raw, tmp_path, key, value, before):
    edit(raw / "003.json", key=f"config.{key}", value=value)
    text = refused([raw], tmp_path / "al4")
    assert text == (
        f"{raw / '003.json'}: config.{key} is {value}, but {before} in {raw / '000.json'}; a dataset needs one"
    )


def test_files_of_one_name_beside_the_snapshots_must_be_the_same(al4, raw, tmp_path):
    export(al4, al4["004"], tmp_path / "more")
    assert imported([raw, tmp_path / "more"], tmp_path / "al4")[0] is not None
    (tmp_path / "more" / "Al.UPF").write_text(upf(core="0.3 0.1 0.0"))
    text = refused([raw, tmp_path / "more"], tmp_path / "other")
    assert text == (
        f"{tmp_path / 'more' / 'Al.UPF'}: differs from {raw / 'Al.UPF'}; a dataset needs one pseudopotential an element"
    )


def test_the_bundled_dataset_is_what_the_import_of_its_raw_data_gives(al4, tmp_path, shared):
    source, pseudopotentials = shared("al4_mini"), shared("al4")
    made = import_dataset([source], tmp_path / "al4", source=al4.info.source, pseudopotentials=pseudopotentials)
    assert made.fingerprint == al4.fingerprint
    for check, bundled in zip(made.info.checks, al4.info.checks, strict=True):
        worst = None if bundled.worst is None else pytest.approx(bundled.worst, rel=1e-3, abs=1e-4)
        assert vars(check) == vars(bundled) | {"worst": worst}, "sums differ in their last digits between machines"
    assert made.info.model_copy(update={"checks": al4.info.checks}) == al4.info


def coarser(raw, every):
    """Leave the LDOS of snapshot 000 at every n-th energy."""
    edit_array(raw / "000.ldos.npy", lambda values: values[..., ::every])
    edit(raw / "000.json", key="config.energy_grid_ev.spacing", value=0.5 * every)
    edit(raw / "000.json", key="config.energy_grid_ev.count", value=36 // every + 1)


def test_the_rule_of_integration_fits_the_grid_is_said_and_kept(raw, tmp_path):
    lines = []
    fine = import_dataset([raw / "000.json"], tmp_path / "fine", report=lines.append)
    assert fine.info.energy_grid.rule == "least-squares"
    assert re.search(
        r"rule of integration: least-squares; estimated error of a band energy \[meV per electron\]: "
        r"least-squares 0\.\d+, linear 16\.\d",
        lines[0],
    )
    coarser(raw, 2)  # a spacing of 1 eV for a width of 0.5 eV
    coarse = import_dataset([raw / "000.json"], tmp_path / "coarse")
    assert coarse.info.energy_grid.rule == "linear"
    # By the linear rule the band energy is 60 meV/atom off the DFT's, by least squares 183.
    assert next(coarse.check()).band_energy_error == pytest.approx(-60.2, abs=0.1)


def test_the_rule_of_integration_can_be_asked_for(raw, tmp_path):
    lines = []
    made = import_dataset([raw / "000.json"], tmp_path / "al4", rule="linear", report=lines.append)
    assert made.info.energy_grid.rule == "linear"
    assert lines[0].startswith("rule of integration: linear, as asked for; ")
    assert next(made.check()).band_energy_error == pytest.approx(-36.14, abs=0.01)
    message = refused([raw / "000.json"], tmp_path / "again", rule="liner")
    assert message == "there is no rule 'liner'; did you mean 'linear'?"


def test_a_wrong_kernel_is_found_whatever_rule_is_asked_for(raw, tmp_path):
    # By the linear rule, which knows no kernel, the band energy is 36 meV/atom off with any.
    edit(raw / "000.json", key="config.energy_grid_ev.kernel", value="fd")
    assert "158 meV/atom off the DFT's" in refused([raw / "000.json"], tmp_path / "al4", rule="linear")


@pytest.mark.parametrize("width", [1.0, 5.0])
@pytest.mark.parametrize("known", [True, False])
def test_a_width_that_is_told_too_large_is_refused(raw, tmp_path, width, known):
    """Where no band energy tells it, or the rule for so large a width is too coarse, the DOS itself does."""
    edit(raw / "000.json", key="config.energy_grid_ev.width", value=width)
    if not known:
        edit(raw / "000.json", key="band_energy_ev", value=None)
    text = refused([raw / "000.json"], tmp_path / "al4")
    if width == 1.0 and known:
        assert "the kernel (gaussian, 1 eV) is not the one it had" in text
    else:
        assert f"structure that a gaussian kernel of {width:g} eV would have smoothed away" in text
        (enough,) = re.findall(r"widths up to (\S+) eV would do", text)
        assert 0.5 <= float(enough) < 0.62


@pytest.mark.parametrize("width", [0.1, 0.3])
@pytest.mark.parametrize("known", [True, False])
def test_a_width_that_is_told_too_small_is_refused(raw, tmp_path, width, known):
    """The bands begin at -4 eV, and below them the DOS falls off as its kernel, of 0.5 eV."""
    edit(raw / "000.json", key="config.energy_grid_ev.width", value=width)
    if not known:
        edit(raw / "000.json", key="band_energy_ev", value=None)
    text = refused([raw / "000.json"], tmp_path / "al4")
    (smooth,) = re.findall(r"as smooth as with a gaussian kernel of (\S+) eV, so that its width was larger", text)
    assert 0.5 <= float(smooth) < 0.62
