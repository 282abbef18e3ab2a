import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from dftune.tests.exported import REFERENCES, edit, edit_array, export, refused
from dftune.trainables.data.checked import summarise
from dftune.trainables.data.geometry_check import check_stored
from dftune.trainables.data.importing.importers import import_dataset
from dftune.trainables.physics.atom_fit import AtomFit
from dftune.trainables.physics.units import BOHR, RYDBERG

ALL = (*REFERENCES, "qe_terms_ev.hartree", "qe_terms_ev.xc", "qe_terms_ev.ewald", "forces_ev_per_angstrom")


@pytest.fixture
def raw(al4, tmp_path):
    """Snapshot 000 of the bundled dataset as files to import."""
    export(al4, al4["000"], tmp_path / "raw")
    return tmp_path / "raw"


def change(raw, key, function):
    record = json.loads((raw / "000.json").read_text(encoding="utf-8"))
    for name in key.split("."):
        record = record[name]
    edit(raw / "000.json", key=key, value=function(np.array(record)).tolist())


def without(raw, *keys):
    for key in keys:
        edit(raw / "000.json", key=key, value=None)


def test_a_right_snapshot_fits_in_all_that_is_checked_and_the_dataset_says_so(raw, tmp_path):
    lines = []
    made = import_dataset([raw], tmp_path / "al4", report=lines.append)
    (report,) = made.check()
    assert abs(report.electrons_error) < 1e-3
    assert abs(report.band_energy_error) < 0.2
    assert abs(report.entropy_error) < 0.1
    assert report.density_correlation > 0.99999
    assert report.density_difference < 1e-4
    assert report.unexplained_by_atoms == pytest.approx(0.00244, abs=1e-4)
    assert abs(report.ewald_error) < 1e-3
    assert report.terms_error is None
    said = made.info.checks
    assert [one.name for one in said if one.worst is None] == ["dos_error", "forces_error", "terms_error"]
    assert lines[-len(said) :] == [one.line() for one in said]
    assert next(line for line in lines if "Ewald energy" in line).startswith(
        "checked: Ewald energy of the positions, at most "
    )
    assert lines[-1].startswith("not checked: sum of the DFT's own terms; ")
    assert [f"at import {one.line()}" for one in said] == made.lines()[-len(said) :]
    assert summarise([report]) == said


def fortran(values):
    return np.stack([v.ravel().reshape(v.shape, order="F") for v in np.moveaxis(values, -1, 0)], axis=-1)


# Without what the DFT said, too: the density alone has to tell.
@pytest.mark.parametrize("references", ["all", "none"])
@pytest.mark.parametrize(
    "wrong, hint",
    [
        (lambda d: np.roll(d, 1, axis=0), "with the LDOS moved by -1 point along x"),
        (lambda d: np.roll(d, -1, axis=2), "with the LDOS moved by +1 point along z"),
        (lambda d: d.transpose(2, 1, 0, 3), "with the axes of the LDOS in the order zyx"),
        (fortran, "with the "),  # of a cube, Fortran order is the axes in the order zyx
        (lambda d: d[::-1], "with the LDOS mirrored along x"),
    ],
)
def test_an_ldos_whose_axes_are_not_those_of_the_density_is_refused_with_what_it_is(
    raw, tmp_path, wrong, hint, references
):
    if references == "none":
        without(raw, *ALL)
    edit_array(raw / "000.ldos.npy", lambda d: np.ascontiguousarray(wrong(d)))
    message = refused([raw], tmp_path / "al4")
    assert "the density of the LDOS and the density beside it correlate to 0." in message
    assert hint in message


@pytest.mark.parametrize("moved", [0.004, 0.02])
@pytest.mark.parametrize(
    "turn, hint",
    [
        (lambda d: d.swapaxes(0, 2), "with the axes of the positions in the order zyx"),
        (lambda d: np.roll(d[:, ::-1], 1, axis=1), "with the positions mirrored along y"),
        (lambda d: np.roll(d[::-1, ::-1, ::-1], 1, axis=(0, 1, 2)), "with the positions mirrored along all axes"),
    ],
)
def test_ldos_and_density_turned_alike_are_refused_in_a_nearly_symmetric_cell(raw, tmp_path, moved, turn, hint):
    """Atoms are at most 0.004 Å away from where they would be in a crystal; energies do not change by turning."""
    record = json.loads((raw / "000.json").read_text())
    side = record["config"]["cell_angstrom"][0][0]
    places = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    places += moved / side * np.random.default_rng(0).uniform(-1, 1, (4, 3))
    x = np.arange(20) / 20
    bumps = [[np.exp(6 * np.cos(2 * np.pi * (x - p))) for p in place] for place in places]
    density = sum(np.einsum("i,j,k->ijk", *bump) for bump in bumps) / np.exp(18) + 0.05
    density *= np.load(raw / "000.dens.npy").mean() / density.mean()
    spectrum = np.load(raw / "000.ldos.npy").mean(axis=(0, 1, 2), dtype=float)
    ldos = (density / density.mean())[..., None] * spectrum
    without(raw, *ALL, "config.ecutrho_ry")
    edit(raw / "000.json", key="config.positions_angstrom", value=(side * places).tolist())
    for values, name in ((density, "dens"), (ldos, "ldos")):
        np.save(raw / f"000.{name}.npy", values.astype(np.float32))
    assert len(import_dataset([raw], tmp_path / "right")) == 1
    for values, name in ((density, "dens"), (ldos, "ldos")):
        np.save(raw / f"000.{name}.npy", np.ascontiguousarray(turn(values).astype(np.float32)))
    assert hint in refused([raw], tmp_path / "al4")


def test_a_density_that_is_the_same_everywhere_is_not_one_of_atoms(raw, tmp_path):
    without(raw, *ALL)
    for name in ("ldos", "dens"):
        edit_array(raw / f"000.{name}.npy", lambda d: np.full_like(d, d.mean(axis=(0, 1, 2), dtype=float)))
    assert "000.json: the density is the same at all grid points" in refused([raw], tmp_path / "al4")


def test_files_of_another_snapshot_are_refused(al4, raw, tmp_path):
    export(al4, al4["003"], tmp_path / "other")  # of the same displacement
    for name in ("ldos", "dens"):
        kept = (raw / f"000.{name}.npy").read_bytes()
        shutil.copy(tmp_path / "other" / f"003.{name}.npy", raw / f"000.{name}.npy")
        refused([raw], tmp_path / "al4")
        (raw / f"000.{name}.npy").write_bytes(kept)


def test_an_ldos_in_another_unit_is_refused_where_only_the_density_can_tell(raw, tmp_path):
    without(raw, *ALL)
    edit_array(raw / "000.ldos.npy", lambda d: d.astype(np.float32) * (RYDBERG * BOHR**3))
    assert "differ by 2.5 % of the electrons; they are not of one snapshot or unit" in refused([raw], tmp_path / "al4")


@pytest.mark.parametrize(
    "unit, factor", [("1/(Ry bohr³)", RYDBERG * BOHR**3), ("1/(eV bohr^3)", BOHR**3), ("1/(eV A^3)", 1.0)]
)
def test_an_ldos_in_a_unit_that_is_said_is_converted(al4, raw, tmp_path, unit, factor):
    edit_array(raw / "000.ldos.npy", lambda d: d.astype(np.float64) * factor)
    edit(raw / "000.json", key="ldos_unit", value=unit)
    made = import_dataset([raw], tmp_path / "al4")
    true = al4.ldos(al4["000"]).array().astype(np.float32)
    np.testing.assert_allclose(made.ldos(made["000"]).array(), true, rtol=1e-6)


def test_an_ldos_whose_unit_nothing_shows_needs_it_said(raw, tmp_path):
    without(raw, *ALL)
    (raw / "000.dens.npy").unlink()
    message = refused([raw], tmp_path / "al4")
    assert "000.json: nothing shows whether the LDOS is in 1/(eV Å³); give fermi_ev, band_energy_ev or a" in message


def test_what_was_not_checked_is_never_said_to_agree(raw, tmp_path):
    without(raw, *ALL)
    (raw / "000.dens.npy").unlink()
    edit(raw / "000.json", key="ldos_unit", value="1/(eV Å³)")
    made = import_dataset([raw], tmp_path / "al4")
    lines = "\n".join(made.lines())
    assert "at import not checked: electrons of the LDOS; the DFT gave no Fermi level" in lines
    assert "at import not checked: density of the LDOS; there is no density beside the LDOS" in lines
    assert "at import checked: density around the atoms, at most 0.00244 " in lines  # by the density of the LDOS
    assert lines.count("not checked") == 12


@pytest.mark.parametrize("ewald", [True, False])
@pytest.mark.parametrize(
    "key, wrong, hint",
    [
        ("config.positions_angstrom", lambda r: r / 4.05, "positions that are fractions of the cell vectors"),
        ("config.positions_angstrom", lambda r: r / BOHR, "positions in bohr"),
        ("config.positions_angstrom", lambda r: r * BOHR, "positions divided by the bohr radius"),
        ("config.positions_angstrom", lambda r: r + np.array([0.2, 0, 0]), "the density moved by +1 point along x"),
        ("config.positions_angstrom", lambda r: r + np.array([0, 0.7, 0.4]), "they are not of one structure"),
        ("config.positions_angstrom", lambda r: 1.3 * r, "they are not of one structure"),
    ],
)
def test_atoms_that_are_elsewhere_than_the_density_says_are_refused(raw, tmp_path, key, wrong, hint, ewald):
    if not ewald:
        without(raw, "qe_terms_ev")
    change(raw, key, wrong)
    message = refused([raw], tmp_path / "al4")
    assert hint in message or (ewald and "the Ewald energy of the positions is " in message)
    assert ewald or "the density does not follow the atoms: shapes around them explain " in message


@pytest.mark.parametrize("wrong", [lambda r: 1.01 * r, lambda r: r + 0.1 * np.eye(4, 1) * np.eye(1, 3)])
def test_atoms_a_little_off_are_refused_by_the_ewald_energy_of_the_dft(raw, tmp_path, wrong):
    change(raw, "config.positions_angstrom", wrong)
    assert "the Ewald energy of the positions is -29" in refused([raw], tmp_path / "al4")


@pytest.mark.parametrize("factor", [1 / RYDBERG, 0.5, 2.0])
def test_a_temperature_in_another_unit_is_refused(raw, tmp_path, factor):
    change(raw, "kt_ev", lambda kt: factor * kt)
    message = refused([raw], tmp_path / "al4")
    assert "meV/atom, the DFT has -102; the temperature is not that of the DFT" in message


def test_terms_of_the_energy_that_do_not_sum_up_to_it_are_refused(raw, tmp_path):
    terms = {"one_electron": 152.26184902824727, "smearing": -0.40806779859287895}
    for name, value in terms.items():
        edit(raw / "000.json", key=f"qe_terms_ev.{name}", value=value)
    made = import_dataset([raw], tmp_path / "al4")
    (checked,) = (one for one in made.info.checks if one.name == "terms_error")
    assert abs(checked.worst) < 1e-3
    edit(raw / "000.json", key="qe_terms_ev.dispersion", value=0.01)
    message = refused([raw], tmp_path / "again")
    assert "the terms of the energy sum up to +0.0100 eV more than the total energy" in message


def test_a_structure_that_is_there_twice_is_refused(al4, raw, tmp_path):
    for file in list(raw.glob("000.*")):
        shutil.copy(file, file.with_name(file.name.replace("000", "copy")))
    message = refused([raw], tmp_path / "al4")
    assert message == (
        f"{raw / 'copy.json'}: has the same atoms as {raw / '000.json'}, at the same temperature; leave one of them out"
    )


@pytest.mark.parametrize("motion", ["moved", "ordered"])
def test_a_structure_of_another_split_that_was_moved_or_reordered_is_refused(raw, tmp_path, motion):
    for file in list(raw.glob("000.*")):
        shutil.copy(file, file.with_name(file.name.replace("000", "copy")))
    config = json.loads((raw / "copy.json").read_text(encoding="utf-8"))["config"]
    positions = np.array(config["positions_angstrom"])
    if motion == "ordered":
        positions = positions[::-1]
    else:  # by half of the cell's edges, which is 10 points of the grid
        positions = positions + np.array(config["cell_angstrom"]).sum(axis=0) / 2
        for name in ("ldos", "dens"):
            edit_array(raw / f"copy.{name}.npy", lambda a: np.roll(a, [n // 2 for n in a.shape[:3]], axis=(0, 1, 2)))
    edit(raw / "copy.json", key="config.positions_angstrom", value=positions.tolist())
    message = refused([raw], tmp_path / "al4", test=["copy"], validation=[])
    assert f"copy.json: is {raw / '000.json'} again, moved, turned, mirrored or with its atoms in another" in message
    assert "in the split test and not train" in message


def test_atoms_at_one_place_are_refused(raw, tmp_path):
    change(raw, "config.positions_angstrom", lambda positions: positions[[0, 0, 1, 2]])
    said = "atoms 0 and 1 (from 0) are at the same place; mend the structure"
    assert refused([raw], tmp_path / "al4") == f"{raw / '000.json'}: {said}"


def test_a_stored_snapshot_is_checked_as_at_import(fresh_al4):
    snapshot = replace(
        fresh_al4["000"], positions=fresh_al4["000"].positions + np.array([0.2, 0, 0]), ewald_energy=None
    )
    info = fresh_al4.info
    ldos, density = fresh_al4.ldos(snapshot), fresh_al4.density(snapshot)
    with pytest.raises(ValueError, match=r"000: the density does not follow the atoms"):
        check_stored(snapshot, info, ldos, density)


def random_atoms(seed, cell, shape):
    """Places, numbers, and a density of two sorts of Gaussians around them, periodic."""
    rng = np.random.default_rng(seed)
    places, numbers = rng.uniform(size=(6, 3)), np.array([4, 4, 13, 13, 13, 4])
    wave = np.stack(np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in shape), indexing="ij"), axis=-1)
    g2 = ((2 * np.pi * wave @ np.linalg.inv(cell).T) ** 2).sum(axis=-1)
    form = {4: 2 * np.exp(-0.10 * g2), 13: 3 * np.exp(-0.16 * g2) * (1 - 0.1 * g2)}
    waves = sum(form[z] * np.exp(-2j * np.pi * wave @ place) for place, z in zip(places, numbers, strict=True))
    return places, numbers, np.fft.ifftn(waves).real * np.prod(shape)


@pytest.mark.parametrize("cell", [np.diag([4.0, 5.0, 6.0]), [[4.0, 0.3, 0], [1.0, 5.0, 0], [0.5, -1.0, 6.0]]])
def test_a_sum_of_spherical_shapes_is_explained_in_any_cell_and_nothing_else_is(cell):
    cell = np.array(cell)
    places, numbers, density = random_atoms(0, cell, (18, 20, 24))
    fit = AtomFit(density, cell)
    assert fit.share(places, numbers) > 0.995
    assert fit.share(places[:, ::-1], numbers) < 0.5
    assert fit.share(places + np.array([1 / 18, 0, 0]), numbers) < 0.98
    assert fit.share(places + np.array([2 / 18, 0, -1 / 24]), numbers, [2, 0, -1]) == pytest.approx(
        fit.share(places, numbers)
    )
    moved = AtomFit(np.roll(density, (2, -1), (0, 2)), cell)
    assert moved.share(places + np.array([2 / 18, 0, -1 / 24]), numbers) == pytest.approx(fit.share(places, numbers))


def test_a_density_that_says_nothing_of_atoms_has_no_share():
    cell, places, numbers = 4.0 * np.eye(3), np.zeros((1, 3)), np.array([4])
    assert AtomFit(np.ones((8, 8, 8)), cell).share(places, numbers) is None
    assert AtomFit(np.random.default_rng(0).uniform(size=(2, 2, 2)), cell).share(places, numbers) is None
