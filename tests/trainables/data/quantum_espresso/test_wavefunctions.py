"""LDOS and density from wavefunctions, against pp.x 6.7 on the same calculations.

Two atoms of aluminium at 6 Ry, `pw.x` 6.7 with nosym: `mesh` has 2 x 2 x 1 k-points, `gamma` the one that needs half of
the plane waves.  `pp.x` broadened by a Gaussian of 1 eV at -4, 1, 6 and 11 eV; its cubes have five digits.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

from dftune.tests.places import DATA, unpack
from dftune.trainables.data.energy_grid import EnergyGrid
from dftune.trainables.data.importing.grid_files import blocks, read_head
from dftune.trainables.data.importing.quantum_espresso.wavefunctions import Wavefunctions, squared
from dftune.trainables.errors import DatasetError
from dftune.trainables.physics.units import BOHR, K_B, RYDBERG

CASES = ("mesh", "gamma")
GRID = EnergyGrid(minimum=-4.0, spacing=5.0, n_energy=4, kernel="gaussian", width=1.0)
OTHER = EnergyGrid(minimum=-10.0, spacing=0.5, n_energy=50, kernel="fermi-dirac", width=0.4)


@pytest.fixture(scope="module")
def computed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wavefunctions")
    unpack(DATA / "wavefunctions.tar.xz", folder)
    return folder


@pytest.fixture
def save(computed, tmp_path) -> Path:
    """A copy of prefix.save, to spoil."""
    return shutil.copytree(computed / "mesh/tmp/dft.save", tmp_path / "dft.save")


def of(computed: Path, case: str) -> Wavefunctions:
    return Wavefunctions(computed / case / "tmp/dft.save")


def together(found) -> list[np.ndarray]:
    return [np.concatenate(parts) for parts in zip(*found)]


def cubes(folder: Path, names: str) -> np.ndarray:
    return np.concatenate(list(blocks([read_head(path) for path in sorted(folder.glob(names))])))


def test_the_ldos_is_that_of_pp_x_within_its_digits(computed):
    (found,) = together(of(computed, "mesh").ldos([GRID]))
    theirs = cubes(computed / "mesh", "tmp.pp*ldos.cube") / (RYDBERG * BOHR**3)
    np.testing.assert_allclose(found, theirs, rtol=6e-5, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_occupied_states_are_the_density_of_pw_x(computed, case):
    """pw.x sums them up itself, to 12 digits; at the one k-point Γ, pp.x 6.7 writes an LDOS that does not."""
    waves = of(computed, case)
    temperature = waves.run.degauss / K_B
    level = waves.bands.energies(electrons=waves.run.n_electrons, temperature=temperature).fermi_level
    density = np.zeros(waves.grid).ravel()
    for point, (energy, weight) in enumerate(zip(waves.bands.energy, waves.bands.weight), 1):
        occupied = weight / (1 + np.exp((energy - level) / (K_B * temperature)))
        density += occupied @ squared(waves.waves(point), waves.grid, range(waves.grid[0])) / waves.volume
    np.testing.assert_allclose(density, waves.density().ravel(), rtol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_the_density_is_that_of_pp_x_within_its_digits(computed, case):
    theirs = cubes(computed / case, "density.cube")[:, 0] / BOHR**3
    np.testing.assert_allclose(of(computed, case).density().ravel(), theirs, rtol=6e-5)


@pytest.mark.parametrize("case", CASES)
def test_the_mean_over_the_cell_is_the_dos_of_the_eigenvalues(computed, case):
    waves = of(computed, case)
    _, found = together(waves.ldos([GRID, OTHER]))
    flat, weight = waves.bands.energy.ravel(), np.repeat(waves.bands.weight, waves.bands.energy.shape[1])
    x = (OTHER.energy - flat[:, None]) / OTHER.width
    dos = weight @ (0.25 / np.cosh(x / 2) ** 2 / OTHER.width)
    np.testing.assert_allclose(found.mean(axis=0) * waves.volume, dos, rtol=1e-5)


def test_several_grids_from_one_pass_are_those_of_one_each(computed):
    waves = of(computed, "mesh")
    for both, alone in zip(together(waves.ldos([GRID, OTHER])), ([GRID], [OTHER])):
        np.testing.assert_allclose(both, together(waves.ldos(alone))[0], rtol=1e-5)


def test_blocks_of_single_planes_are_the_whole(computed):
    waves = of(computed, "mesh")
    found = list(waves.ldos([GRID], held=1.0))
    assert [len(block) for (block,) in found] == [waves.grid[1] * waves.grid[2]] * waves.grid[0]
    np.testing.assert_allclose(
        np.concatenate([block for (block,) in found]), together(waves.ldos([GRID]))[0], rtol=1e-6
    )


def edit(save: Path, old: str, new: str) -> None:
    xml = save / "data-file-schema.xml"
    text = xml.read_text()
    assert old in text
    xml.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("<uspp>false", "<uspp>true", "lacks its augmentation charge; use pp.x"),
        ("<paw>false", "<paw>true", "ultrasoft or PAW"),
        ("<noncolin>false", "<noncolin>true", "spinors"),
        ("<nsym>1<", "<nsym>8<", "8 symmetries have left out k-points"),
    ],
)
def test_states_that_are_not_the_ldos_are_refused(save, old, new, said):
    edit(save, old, new)
    with pytest.raises(DatasetError, match=said):
        Wavefunctions(save)


def test_a_missing_file_is_named(save):
    (save / "wfc3.dat").unlink()
    with pytest.raises(DatasetError, match=r"wfc3.dat: missing; run pw.x again"):
        Wavefunctions(save)
    (save / "wfc3.hdf5").touch()
    with pytest.raises(DatasetError, match=r"wfc3.hdf5: wavefunctions in HDF5 are not read; use a pw.x without"):
        Wavefunctions(save)


def refused(save: Path) -> str:
    with pytest.raises(DatasetError) as error:
        list(Wavefunctions(save).ldos([GRID]))
    return str(error.value)


@pytest.mark.parametrize("length", [0, 10, 100, 1000, -1])
def test_a_truncated_file_is_named(save, length):
    file = save / "wfc2.dat"
    file.write_bytes(file.read_bytes()[:length])
    assert "wfc2.dat: not a whole file of wavefunctions" in refused(save)
    density = save / "charge-density.dat"
    density.write_bytes(density.read_bytes()[:length])
    with pytest.raises(DatasetError, match="not a whole file of a density"):
        Wavefunctions(save).density()


def test_files_of_another_calculation_are_refused(save, computed):
    shutil.copy(save / "wfc1.dat", save / "wfc2.dat")
    assert "k-point 1 with 8 states, but data-file-schema.xml beside it has 8 for k-point 2" in refused(save)
    edit(save, "<a3>0.000000000000000e0 0.000000000000000e0 7.", "<a3>0.000000000000000e0 0.000000000000000e0 8.")
    assert "wfc1.dat: of another cell" in refused(save)


def test_noise_in_the_coefficients_is_refused(save):
    file = save / "wfc1.dat"
    content = bytearray(file.read_bytes())
    content[-1008:-1000] = np.float64(3.0).tobytes()
    file.write_bytes(content)
    assert "states are not normalised" in refused(save)
