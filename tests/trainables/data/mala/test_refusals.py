"""Projects of MALA whose files do not fit together are refused."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from dftune.tests.exported import refused
from dftune.tests.mala_project import KNOWN, change, write_log, write_openpmd


def swap(project: Path, file: str) -> None:
    first, second = project / f"000.{file}", project / f"001.{file}"
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (
            "out.npy",
            "000.out.npy: the LDOS gives a band energy -64 meV/atom off the DFT's; it is of another snapshot, ",
        ),
        ("dens.npy", "000.out.npy: the density of the LDOS and the density beside it correlate to"),
        ("in.npy", "000.in.npy: at points 0 to 31 these descriptors differ by"),
        ("info.json", "000.out.npy: the LDOS gives a band energy +64 meV/atom off the DFT's"),
    ],
)
def test_files_of_different_snapshots_side_by_side_are_refused(project, tmp_path, file, said):
    swap(project, file)
    assert said in refused([project], tmp_path / "made", **KNOWN)


def test_a_log_of_another_snapshot_is_refused(ours, one, tmp_path):
    write_log(one / "000.out", ours["001"])
    text = refused([one], tmp_path / "made", width=0.5)
    assert text.startswith(
        f"{one / '000.out'}: has a Fermi level of {ours['001'].fermi_level:.4f} eV, but the info.json "
    )
    assert text.endswith("they are of different snapshots, so put that of the same snapshot there")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"atoms__numbers": [12, 12, 12, 12]}, "has the atoms Al Al Al Al, but the info.json has Mg Mg Mg Mg"),
        ({"temperature": 1578.9}, "has a temperature of 3158 K, but the info.json 1579 K"),
        ({"atoms__cell": [[4.05, 0, 0], [0, 4.05, 0], [0, 0, 4.06]]}, "its cell vectors differ by 0.0100 Å from those"),
    ],
)
def test_an_info_that_contradicts_the_log_is_refused(ours, one, tmp_path, changed, said):
    write_log(one / "000.out", ours["000"])
    change(one / "000.info.json", **changed)
    assert refused([one], tmp_path / "made", width=0.5).startswith(f"{one / '000.out'}: {said}")


def test_two_snapshots_of_one_id_are_refused(one, tmp_path):
    shutil.copytree(one, tmp_path / "twin")
    text = refused([one, tmp_path / "twin"], tmp_path / "made", **KNOWN)
    assert text.startswith(f"{tmp_path / 'twin' / '000.out.npy'}: snapshot '000' is given twice, before in {one}")


def no_info(one):
    (one / "000.info.json").unlink()


def info_without_grid(one):
    change(one / "000.info.json", grid_dimensions=None)


def info_without_temperature(one):
    change(one / "000.info.json", temperature="298 K")


def info_of_a_slab(one):
    change(one / "000.info.json", atoms__pbc=[True, True, False])


def info_of_another_grid(one):
    change(one / "000.info.json", grid_dimensions=[20, 20, 21])


def shuffled(one):
    np.save(one / "000.out.npy", np.load(one / "000.out.npy").reshape(-1, 37))


def too_many_energies(one):
    np.save(one / "000.out.npy", np.load(one / "000.out.npy")[..., [*range(37), 36]])


def truncated(one):
    file = one / "000.out.npy"
    file.write_bytes(file.read_bytes()[:-100])


def coordinates_of_another_cell(one):
    values = np.load(one / "000.in.npy")
    values[..., :3] *= 1.01
    np.save(one / "000.in.npy", values)


def another_cutoff(one):
    change(one / "dataset.params.json", descriptors__bispectrum_cutoff=4.001)


def contradicting_parameters(one):
    shutil.copy(one / "dataset.params.json", one / "other.params.json")
    change(one / "other.params.json", descriptors__bispectrum_cutoff=3.0)


def energies_that_contradict(one):
    (one / "al.pp.in").write_text("&inputpp\n plot_num=3, emin=-5, emax=13, delta_e=0.5\n/\n")


def complex_ldos(one):
    np.save(one / "000.out.npy", np.load(one / "000.out.npy").astype(complex))


def not_finite_descriptors(one):
    values = np.load(one / "000.in.npy")
    values[10, 10, 10, 7] = np.nan
    np.save(one / "000.in.npy", values)


@pytest.mark.parametrize(
    ("spoil", "file", "said"),
    [
        (no_info, "000.info.json", "missing, and no log of pw.x beside it; MALA writes it from the log"),
        (info_without_grid, "000.info.json", "grid_dimensions: field required"),
        (info_without_temperature, "000.info.json", "temperature: input should be a valid number"),
        (info_of_a_slab, "000.info.json", "only cells periodic in all directions are read"),
        (info_of_another_grid, "000.out.npy", "but the grid of 000.info.json is (20, 20, 21)"),
        (shuffled, "000.out.npy", "they are of different snapshots, or the points are shuffled"),
        (too_many_energies, "000.out.npy", "has 38 energies, but nothing says which"),
        (truncated, "000.out.npy", "not a whole .npy file; copy it again"),
        (coordinates_of_another_cell, "000.in.npy", "its coordinates are up to "),
        (another_cutoff, "000.in.npy", "give its --cutoff, or remove the file to have them computed again"),
        (contradicting_parameters, "other.params.json", "choose one with --energies"),
        (energies_that_contradict, "dataset.params.json", "energies or broadening differ from those of"),
        (complex_ldos, "000.out.npy", "holds complex128, not real floating-point numbers"),
        (not_finite_descriptors, "000.in.npy", "descriptors are not finite"),
    ],
)
def test_a_spoilt_project_is_refused_with_its_file(one, tmp_path, spoil, file, said):
    spoil(one)
    text = refused([one], tmp_path / "made", **KNOWN)
    assert text.startswith(f"{one / file}: ")
    assert said in text


def other_layout(path, values):
    with h5py.File(path, "w") as file:
        file["ldos"] = values


def other_mesh(path, values):
    write_openpmd(path, "DOS", values)


def other_unit(path, values):
    write_openpmd(path, "LDOS", values, unit=1.0)


def gap(path, values):
    write_openpmd(path, "LDOS", values)
    with h5py.File(path, "a") as file:
        del file["data/0/meshes/LDOS/5"]


def no_hdf5(path, values):
    path.write_bytes(b"\x89HDF nothing else")


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (other_layout, "not a file of MALA in the openPMD layout (no attributes openPMD and is_mala_data)"),
        (other_mesh, "no mesh LDOS; it has DOS"),
        (other_unit, "LDOS has the unit 1 in SI; MALA's 1/(eV Å³) and 1/Å³ are read"),
        (gap, "the components of LDOS are not numbered 0, 1, 2, ...; write it again"),
        (no_hdf5, "not a whole HDF5 file; copy it again"),
    ],
)
def test_hdf5_of_another_layout_is_refused(one, tmp_path, write, said):
    write(one / "000.out.h5", np.load(one / "000.out.npy"))
    (one / "000.out.npy").unlink()
    text = refused([one], tmp_path / "made", **KNOWN)
    assert text.startswith(f"{one / '000.out.h5'}: ")
    assert said in text


def test_without_h5py_openpmd_says_what_to_install(one, tmp_path, monkeypatch):
    (one / "000.out.npy").rename(one / "000.out.h5")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    assert refused([one], tmp_path / "made", **KNOWN).endswith("install it with `pip install 'dftune[mala]'`")
