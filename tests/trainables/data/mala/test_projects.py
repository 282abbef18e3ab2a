"""Projects of MALA are imported, and written back."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from dftune import BispectrumSettings, Dataset
from dftune.tests.exported import refused
from dftune.tests.mala_project import KNOWN, SETTINGS, change, write_log, write_openpmd
from dftune.trainables.data.exporting.exporters import export_dataset
from dftune.trainables.data.importing import mala
from dftune.trainables.data.importing.importers import import_dataset
from dftune.trainables.physics.smearing import fermi_dirac
from dftune.trainables.physics.units import BOHR, RYDBERG


def same_numbers(a: Dataset, b: Dataset) -> None:
    for left, right in zip(a.snapshots, b.snapshots, strict=True):
        assert a.ldos(left).array().tobytes() == b.ldos(right).array().tobytes()
        assert a.density(left).array().tobytes() == b.density(right).array().tobytes()


def test_an_export_to_mala_comes_back_as_it_was(ours, tmp_path):
    export_dataset(ours, tmp_path / "mala", "mala")
    back = import_dataset([tmp_path / "mala"], tmp_path / "back", source=ours.info.source)
    assert back.fingerprint == ours.fingerprint
    assert [s.split for s in back] == [s.split for s in ours]
    same_numbers(back, ours)
    for s in ours:
        assert (
            back.descriptors(back[s.id], SETTINGS).array().tobytes() == ours.descriptors(s, SETTINGS).array().tobytes()
        )


def test_files_of_an_export_are_those_of_the_project_that_it_came_from(project, tmp_path):
    made = import_dataset([project], tmp_path / "made", **KNOWN)
    export_dataset(made, tmp_path / "again", "mala")
    for file in project.glob("*.npy"):
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()


def test_what_the_parameters_say_is_used(project, tmp_path):
    lines = []
    made = import_dataset([project], tmp_path / "made", report=lines.append, **KNOWN)
    grid = made.info.energy_grid
    assert (grid.minimum, grid.spacing, grid.n_energy, grid.kernel, grid.width) == (-6.0, 0.5, 37, "gaussian", 0.5)
    where = project / "dataset.params.json"
    assert lines[0] == f"energies: 37 from -6 to 12 eV, as {where} says"
    assert lines[1] == "descriptors are taken over: cutoff 4 Å, 2J_max 4"
    assert lines[2] == f"splits: as {where} says"


def test_splits_of_the_user_go_before_those_of_the_parameters(project, tmp_path):
    made = import_dataset([project], tmp_path / "made", validation=["000"], **KNOWN)
    assert [s.split for s in made] == ["validation", "train", "train"]


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"width": 0.5}, "nothing says the kernel of the broadening of the LDOS; give --kernel"),
        ({"kernel": "gaussian"}, "nothing says the width of the broadening of the LDOS; give --width"),
    ],
)
def test_kernel_and_width_are_asked_for(one, tmp_path, known, said):
    assert said in refused([one], tmp_path / "made", **known)


def test_the_log_says_what_broadened_the_ldos(ours, one, tmp_path):
    """A Fermi-Dirac kernel, which it was not here; and that shows."""
    write_log(one / "000.out", ours["000"])
    text = refused([one], tmp_path / "made", width=0.5)
    assert "or the kernel (fermi-dirac, 0.5 eV) is not the one it had; with a gaussian kernel" in text
    assert import_dataset([one], tmp_path / "made", **KNOWN).info.energy_grid.kernel == "gaussian"


def test_an_input_of_pp_x_that_asks_for_a_gaussian_goes_before_the_log(ours, one, tmp_path):
    write_log(one / "000.out", ours["000"], version="7.3")
    entries = "plot_num=3, emin=-6, emax=12, delta_e=0.5, degauss_ldos=0.5, use_gauss_ldos=.true."
    (one / "al.pp.in").write_text(f"&inputpp\n {entries}\n/\n")
    assert import_dataset([one], tmp_path / "made").info.energy_grid.kernel == "gaussian"


def test_pipes_among_the_files_are_not_waited_for(one, tmp_path):
    for name in ("other.params.json", "al.in", "other.json"):
        os.mkfifo(one / name)
    assert len(import_dataset([one], tmp_path / "right", **KNOWN)) == 1
    (one / "000.info.json").unlink()
    os.mkfifo(one / "000.info.json")
    assert refused([one], tmp_path / "made", **KNOWN) == f"{one / '000.info.json'}: a pipe; give a file"


def test_the_log_stands_in_for_a_missing_info(ours, one, tmp_path):
    write_log(one / "000.out", ours["000"])
    (one / "000.info.json").unlink()
    (found,), (theirs,) = import_dataset([one], tmp_path / "made", **KNOWN), ours.only(ours.snapshots[:1])
    for name in ("fermi_level", "total_energy", "hartree_energy", "xc_energy", "ewald_energy", "entropy_term"):
        assert getattr(found, name) == pytest.approx(getattr(theirs, name), abs=1e-4)
    assert found.positions == pytest.approx(theirs.positions, abs=1e-6)
    assert found.temperature == pytest.approx(theirs.temperature, rel=1e-5)


@pytest.mark.parametrize("emax", ["12.4", "12"])
def test_an_input_of_pp_x_may_end_between_energies(one, tmp_path, emax):
    """It makes energies up to emax, and none above."""
    for file in one.glob("*params.json"):
        file.unlink()
    text = f"&inputpp\n plot_num=3, emin=-6, emax={emax}, delta_e=0.5, degauss_ldos=0.5\n/\n"
    (one / "al.pp.in").write_text(text)
    grid = import_dataset([one], tmp_path / "al4", **KNOWN).info.energy_grid
    assert (grid.n_energy, grid.minimum, grid.spacing) == (37, -6.0, 0.5)


def test_an_input_of_pp_x_says_energies_and_width(one, tmp_path):
    (one / "dataset.params.json").unlink()
    (one / "inputs").mkdir()
    text = "&inputpp\n prefix='al', plot_num = 3,\n emin=-6.0d0, emax=12, delta_e=0.5, degauss_ldos=0.5\n/\n&plot\n/\n"
    (one / "inputs" / "al.pp.in").write_text(text)
    (one / "inputs" / "density.pp.in").write_text("&inputpp\n plot_num=0\n/\n")
    made = import_dataset([one], tmp_path / "made", kernel="gaussian", cutoff=4.0)
    assert made.info.energy_grid.model_dump(exclude={"rule"}) == {
        "minimum": -6.0,
        "spacing": 0.5,
        "n_energy": 37,
        "kernel": "gaussian",
        "width": 0.5,
    }


def write_cubes(folder: Path, energies, *, name="al_ldos", width=0.5):
    folder.mkdir(exist_ok=True)
    for n, energy in enumerate(energies, start=1):
        head = f" Cubefile created from PWScf calculation\n  Energy = {energy:10.4f} eV, broadening = {width:8.4f} eV\n"
        (folder / f"tmp.pp{n:03d}{name}.cube").write_text(head)


def test_windows_of_cubes_computed_one_by_one_say_the_energies(one, tmp_path):
    (one / "dataset.params.json").unlink()
    write_cubes(one / "cubes", np.arange(-6, 0.1, 0.5), name="al_part1")
    write_cubes(one / "cubes", np.arange(0, 12.1, 0.5), name="al_part2")
    made = import_dataset([one], tmp_path / "made", kernel="gaussian")
    assert (made.info.energy_grid.n_energy, made.info.energy_grid.width) == (37, 0.5)


def test_a_split_grid_of_one_spacing_is_one_grid(one, tmp_path):
    split_parameters(one, [13, 25], [-6, 0], [0.5, 0.5])
    assert import_dataset([one], tmp_path / "made", **KNOWN).info.energy_grid.n_energy == 37


def test_of_a_split_grid_the_energies_of_the_widest_spacing_are_kept(one, tmp_path):
    """As MALA has it, the last energy of a part is left out, where the next begins."""
    values, lines = np.load(one / "000.out.npy"), []
    finer = (values[..., 12:16:1] + values[..., 13:17]) / 2  # 0.25, 0.75, 1.25, 1.75 eV
    mixed = np.stack([values[..., 12:16], finer], axis=-1).reshape(*values.shape[:3], 8)
    np.save(one / "000.out.npy", np.concatenate([values[..., :12], mixed, values[..., 16:]], axis=-1))
    split_parameters(one, [13, 9, 21], [-6, 0, 2], [0.5, 0.25, 0.5])
    made = import_dataset([one], tmp_path / "made", report=lines.append, **KNOWN)
    assert lines[1] == "energies: every 0.5 eV of the split grid, 37 of its 41; the finer ones are left out"
    assert made.ldos(made["000"]).array().tobytes() == values.tobytes()


def test_a_split_grid_whose_parts_do_not_fit_is_refused(one, tmp_path):
    split_parameters(one, [13, 26], [-6, 0], [0.5, 0.48])
    np.save(one / "000.out.npy", np.load(one / "000.out.npy")[..., [*range(37), 36]])
    assert "its energies are no uniform grid, nor is a part of them" in refused([one], tmp_path / "made", **KNOWN)


def split_parameters(folder, sizes, offsets, spacings):
    names = ("ldos_gridsize", "ldos_gridoffset_ev", "ldos_gridspacing_ev")
    values = dict(zip((f"targets__{name}" for name in names), (sizes, offsets, spacings), strict=True))
    change(folder / "dataset.params.json", **values)


def test_units_of_the_parameters_and_of_the_user_are_converted(ours, one, tmp_path):
    factor = np.float32(RYDBERG * BOHR**3)
    np.save(one / "000.out.npy", np.load(one / "000.out.npy").astype(np.float32) * factor)
    text = refused([one], tmp_path / "made", **KNOWN)
    assert "the energy grid is too short or the unit is not 1/(eV Å³)" in text
    entry = json.loads((one / "dataset.params.json").read_text())["data"]["snapshot_directories_list"][0]
    entry["data"]["output_units"] = "1/(Ry*Bohr^3)"
    change(one / "dataset.params.json", data__snapshot_directories_list=[entry])
    made = import_dataset([one], tmp_path / "made", **KNOWN)
    theirs = ours.ldos(ours["000"]).array().astype(np.float64)
    assert np.allclose(made.ldos(made["000"]).array(), theirs, rtol=1e-6, atol=0)
    assert "but --unit says 1/(eV Å^3)" in refused([one], tmp_path / "other", unit="1/(eV Å^3)", **KNOWN)


def test_density_and_ldos_of_openpmd_are_those_of_npy(ours, one, tmp_path):
    for file, name, unit in (
        ("out", "LDOS", 1 / 1.602176634e-49),
        ("dens", "Density", 1e30),
        ("in", "Bispectrum", 1.0),
    ):
        npy = one / f"000.{file}.npy"
        write_openpmd(one / f"000.{file}.h5", name, np.load(npy), unit=unit)
        npy.unlink()
    made = import_dataset([one], tmp_path / "made", **KNOWN)
    same_numbers(made, ours.only(ours.snapshots[:1]))
    theirs = ours.descriptors(ours["000"], SETTINGS).array()
    assert made.descriptors(made["000"], SETTINGS).array().tobytes() == theirs.tobytes()


def test_npy_goes_before_openpmd_of_the_same_snapshot(one, tmp_path):
    write_openpmd(one / "000.out.h5", "LDOS", np.load(one / "000.out.npy"))
    lines = []
    import_dataset([one], tmp_path / "made", report=lines.append, **KNOWN)
    assert lines[0] == f"left out {one / '000.out.h5'}: there is 000.out.npy beside it"


def test_descriptors_without_coordinates_are_taken_over(one, tmp_path):
    np.save(one / "000.in.npy", np.load(one / "000.in.npy")[..., 3:])
    made = import_dataset([one], tmp_path / "made", **KNOWN)
    assert not made.without_descriptors(SETTINGS)


def test_descriptors_of_an_unknown_cutoff_are_left_out_and_said(one, tmp_path):
    change(one / "dataset.params.json", descriptors__bispectrum_cutoff=None)
    lines = []
    made = import_dataset([one], tmp_path / "made", report=lines.append, **KNOWN)
    left_out = (
        f"left out {one / '000.in.npy'} and all like it: nothing says R_cut of its descriptors; give --cutoff to "
    )
    assert f"{left_out}keep them" in lines
    assert made.described() == []


def test_one_right_file_of_descriptors_tells_r_cut_and_wrong_ones_are_named(project, tmp_path, monkeypatch):
    monkeypatch.setattr(mala, "CUTOFFS", (3.9, SETTINGS.cutoff))
    change(project / "dataset.params.json", descriptors__bispectrum_cutoff=None)
    shutil.copy(project / "001.in.npy", project / "000.in.npy")
    said = refused([project], tmp_path / "made", **KNOWN)
    assert "000.in.npy: at points 0 to 31 these descriptors differ by" in said


def test_other_descriptors_than_a_bispectrum_are_left_out_and_said(one, tmp_path):
    np.save(one / "000.in.npy", np.load(one / "000.in.npy")[..., :13])
    lines = []
    assert import_dataset([one], tmp_path / "made", report=lines.append, **KNOWN).described() == []
    assert any(
        line.endswith("of 1 species are no bispectrum of one species; descriptors are computed again") for line in lines
    )


# By MALA 1.4.0 from Be_snapshot0 and Be_snapshot1: mala.LDOS.from_numpy_file, read_additional_calculation_data.
PEER = {
    "Be_snapshot0": (10.240735437299623, 12.447077138958338, (0.2927220995, 0.2930515138, 0.2932141559)),
    "Be_snapshot1": (10.149207154844252, 12.279480141239908, (0.2155332845, 0.2178043372, 0.2242210102)),
}


def test_be2_as_it_lies_gives_the_numbers_of_mala(shared, tmp_path):
    made = import_dataset([shared("mala_be2")], tmp_path / "be2")
    grid = made.info.energy_grid
    assert (grid.n_energy, grid.kernel, grid.width, grid.rule) == (11, "fermi-dirac", 5.0, "linear")
    assert made.info.descriptors == BispectrumSettings(cutoff=4.67637, two_j_max=10)
    for s in made:
        fermi_level, band, density = PEER[s.id]
        found = made.energies(s)
        assert found.fermi_level == pytest.approx(fermi_level, abs=1e-8)
        assert found.band == pytest.approx(band, abs=1e-8)
        weights = grid.quadrature().weights(
            lambda e, level=found.fermi_level, t=s.temperature: fermi_dirac(e, fermi_level=level, temperature=t)
        )
        assert made.ldos(s).array()[:3].astype(float) @ weights == pytest.approx(density, abs=1e-8)


def test_be2_is_written_back_as_mala_wrote_it(shared, tmp_path):
    """Coordinates and descriptors to the last bit; the density, which MALA has in float64, to that of float32."""
    made = import_dataset([shared("mala_be2")], tmp_path / "be2")
    export_dataset(made, tmp_path / "back", "mala")
    for name in ("Be_snapshot0", "Be_snapshot1"):
        for ending in ("in.npy", "out.npy"):
            assert (tmp_path / "back" / f"{name}.{ending}").read_bytes() == shared(
                f"mala_be2/{name}.{ending}"
            ).read_bytes()
        ours, theirs = (
            json.loads((place / f"{name}.info.json").read_text()) for place in (tmp_path / "back", shared("mala_be2"))
        )
        for key in ("temperature", "band_energy_dft_calculation", "fermi_energy_dft", "atoms", "grid_dimensions"):
            assert ours[key] == theirs[key]
    density = np.load(shared("mala_be2/Be_snapshot0.dens.npy"))
    assert np.load(tmp_path / "back" / "Be_snapshot0.dens.npy") == pytest.approx(density, rel=1e-7)
