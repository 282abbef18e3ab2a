"""Files that cannot be imported are refused by their names, with what is wrong there."""

import os
import pickle
import re

import numpy as np
import pyarrow.parquet as pq
import pytest

from dftune.tests.exported import edit, edit_array, refused
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.data.importing.importers import import_dataset
from dftune.trainables.errors import DatasetError


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
        ("stress_ev_per_angstrom3", [[0, 0, 1], [0, 0, 0], [0, 0, 0]], "a stress with components up to 1 eV/Å³ that"),
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
        (slice(8, 37), r"holds 11\.\d+ electrons below the Fermi level of 7\.658 eV, the DFT has 12; the energy grid"),
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
