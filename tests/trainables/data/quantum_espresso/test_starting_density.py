"""A density put into the file of a run is read back by ours and by pw.x."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy import fft

from dftune.tests.places import DATA, unpack
from dftune.trainables.data.exporting.starting_density import StartingDensity
from dftune.trainables.data.importing.quantum_espresso.pw_xml import NAME, read_xml
from dftune.trainables.data.importing.quantum_espresso.wavefunctions import DensityWaves, read_density
from dftune.trainables.errors import DatasetError

FILE = "charge-density.dat"


@pytest.fixture(scope="module")
def computed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("densities")
    unpack(DATA / "wavefunctions.tar.xz", folder)
    return folder


@pytest.fixture(params=["mesh", "gamma"])
def save(computed, tmp_path, request) -> Path:
    folder = tmp_path / "dft.save"
    folder.mkdir()
    for name in (NAME, FILE):
        shutil.copy(computed / request.param / "tmp/dft.save" / name, folder)
    return folder


def finer(density: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """The same Fourier sum on more points, by wave after wave."""
    waves, points = fft.fftn(density, norm="forward"), [np.arange(n) / n for n in shape]
    orders = [np.where(2 * np.arange(n) < n, np.arange(n), np.arange(n) - n) for n in density.shape]
    phases = [np.exp(2j * np.pi * np.outer(r, m)) for r, m in zip(points, orders)]
    return np.einsum("xa,yb,zc,abc->xyz", *phases, waves, optimize=True).real


def test_the_same_density_on_any_grid_gives_the_same_file(save):
    run = read_xml(save / NAME)
    density, before = read_density(save, run), DensityWaves.read(save / FILE)
    for shape in (run.grid, tuple(n + 3 for n in run.grid)):
        StartingDensity(save, run.cell).put(density if shape == run.grid else finer(density, shape))
        after = DensityWaves.read(save / FILE)
        np.testing.assert_allclose(after.coefficients, before.coefficients, atol=1e-14)
        np.testing.assert_array_equal(after.orders, before.orders)
        assert after.gamma == before.gamma
        assert (save / FILE).stat().st_size == 3 * 4 + 9 * 8 + len(before.orders) * (3 * 4 + 16) + 4 * 8


def test_waves_beyond_a_coarse_grid_are_nothing(save):
    run = read_xml(save / NAME)
    n = 2 * int(abs(DensityWaves.read(save / FILE).orders[:, 2]).max()) - 3
    x = np.cos(4 * np.pi * np.arange(n) / n)
    coarse = np.broadcast_to((1 + 0.1 * x) * run.n_electrons / abs(np.linalg.det(run.cell)), (9, 9, n))
    StartingDensity(save, run.cell).put(coarse)
    np.testing.assert_allclose(read_density(save, run).mean(axis=(0, 1))[0], 1.1 * coarse.mean(), rtol=1e-12)
    found = DensityWaves.read(save / FILE)
    some = np.abs(found.coefficients) > 1e-12
    assert set(map(tuple, np.abs(found.orders[some]))) == {(0, 0, 0), (0, 0, 2)}


def test_what_does_not_fit_is_refused(save, tmp_path):
    cell = read_xml(save / NAME).cell
    with pytest.raises(DatasetError, match=r"of another cell than the structure; give the folder of a run in its cell"):
        StartingDensity(save, 1.001 * cell)
    before = (save / FILE).read_bytes()
    with pytest.raises(DatasetError, match=r"of 6\.00 electrons, and the density has 8\.00; give a run with the same"):
        StartingDensity(save, cell).put(np.full((8, 8, 8), 8 / abs(np.linalg.det(cell))))
    assert (save / FILE).read_bytes() == before
    (save / FILE).rename(save / "charge-density.hdf5")
    with pytest.raises(DatasetError, match="a density in HDF5 is not written"):
        StartingDensity(save, cell)
    with pytest.raises(DatasetError, match=r"missing; run pw\.x again"):
        StartingDensity(tmp_path, cell)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["mesh", "gamma"])
def test_pw_x_starts_from_the_density_of_the_file(computed, tmp_path, case):
    """Its own converged density ends the SCF in a step or two; that of even electrons takes as long as usual."""
    assert shutil.which("pw.x"), "pw.x not found; apt-get install quantum-espresso quantum-espresso-data"
    save = Path(shutil.copytree(computed / case / "tmp", tmp_path / "tmp")) / "dft.save"
    run, steps = read_xml(save / NAME), []
    text = (computed / case / "pw.in").read_text().replace("&ELECTRONS", "&ELECTRONS\n startingpot='file',")
    (tmp_path / "pw.in").write_text(text)
    own = read_density(save, run)
    for density in (own, np.full(run.grid, own.mean())):
        StartingDensity(save, run.cell).put(density)
        found = subprocess.run(["pw.x", "-in", "pw.in"], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert "The initial density is read from file" in found.stdout
        steps.append(len(re.findall("estimated scf accuracy", found.stdout)))
        (energy,) = re.findall(r"!.*= +(\S+) Ry", found.stdout)
        assert f"{energy} Ry" in (computed / case / "pw.out").read_text()
    assert steps[0] <= 2 < 4 <= steps[1]
