"""A prediction against a snapshot made by hand: signs, units and counts of the errors."""

from dataclasses import replace

import numpy as np
import pytest

from dftune.trainables.ldos.check import check_snapshot, draw, summary, table
from dftune.trainables.ldos.prediction import Prediction


@pytest.fixture(scope="module")
def snapshot(al4):
    return al4["009"]


@pytest.fixture(scope="module")
def exact(al4, snapshot) -> Prediction:
    """What a perfect surrogate would say."""
    s, grid = snapshot, al4.info.energy_grid
    return Prediction(
        symbols=("Al",) * 4,
        cell=s.cell,
        n_atoms=4,
        n_electrons=12.0,
        grid=s.grid,
        temperature=s.temperature,
        fermi_level=s.fermi_level,
        band_energy=s.band_energy,
        entropy_term=s.entropy_term,
        hartree_energy=s.hartree_energy,
        xc_energy=s.xc_energy,
        xc_potential_energy=-114.0,
        ewald_energy=s.ewald_energy,
        free_energy=s.total_energy,
        std={"free_energy": 0.008, "band_energy": 0.004},
        gap=0.0,
        outside=0.0,
        furthest=0.25,
        top_occupation=0.0,
        energy=grid.energy,
        dos=al4.dos(s),
        dos_std=np.zeros(37),
        density=al4.density(s).array().reshape(s.grid).astype(float),
        forces=s.forces,
        forces_std=None,
        stress=None,
        stress_std=None,
        seconds={},
    )


def test_a_perfect_prediction_has_no_error(exact, snapshot, al4):
    found = check_snapshot(exact, snapshot, al4)
    assert set(found.energies.values()) == {0.0}
    assert found.fermi_level == found.dos_rmse == found.density == found.force_mae == 0
    assert found.spread == {"free_energy": 2.0, "band_energy": 1.0}  # meV/atom


def test_errors_are_prediction_minus_dft_in_mev_an_atom(exact, snapshot, al4):
    s = snapshot
    shifted = replace(
        exact,
        free_energy=s.total_energy + 0.004,
        hartree_energy=s.hartree_energy - 0.008,
        fermi_level=s.fermi_level + 0.003,
        dos=exact.dos + 0.2,
        density=exact.density + np.where(np.arange(20) < 10, 0.001, -0.001),
        forces=s.forces + 0.05,
    )
    found = check_snapshot(shifted, s, al4)
    assert found.energies["free_energy"] == pytest.approx(1.0)
    assert found.energies["hartree_energy"] == pytest.approx(-2.0)
    assert found.energies["band_energy"] == 0
    assert found.fermi_level == pytest.approx(3.0)
    assert found.dos_rmse == pytest.approx(0.05)
    assert found.density == pytest.approx(0.001 * s.volume / 12)
    assert found.force_mae == pytest.approx(0.05)


def test_what_has_no_reference_has_no_error(exact, snapshot, al4):
    bare = replace(snapshot, total_energy=None, fermi_level=None, forces=None, density_sha256=None)
    found = check_snapshot(replace(exact, hartree_energy=None), bare, al4)
    assert found.energies["free_energy"] is found.energies["hartree_energy"] is None
    assert found.fermi_level is found.density is found.force_mae is None
    names = {row["name"] for row in summary([found])}
    assert names == {"band_energy", "entropy_term", "xc_energy", "ewald_energy", "dos_rmse", "spread", "furthest"}


def test_the_summary_averages_sizes_over_groups_and_all(exact, snapshot, al4):
    checks = [
        check_snapshot(replace(exact, free_energy=snapshot.total_energy + error), replace(snapshot, group=group), al4)
        for error, group in ((0.004, "a"), (-0.012, "a"), (0.008, "b"))
    ]
    rows = {row["group"]: row for row in summary(checks) if row["name"] == "free_energy"}
    assert [rows[g]["n"] for g in ("a", "b", "all")] == [2, 1, 3]
    assert [rows[g]["mean_abs"] for g in ("a", "b", "all")] == pytest.approx([2.0, 2.0, 2.0])
    (line,) = (row for row in table(summary(checks)) if row["quantity"] == "free energy")
    assert list(line) == ["quantity", "unit", "a (2)", "b (1)", "all (3)"]


def test_the_figure_is_drawn_with_and_without_forces(exact, snapshot, al4, tmp_path):
    check = check_snapshot(exact, snapshot, al4)
    for name, one in (("forces.png", check), ("density.png", replace(check, forces=None))):
        draw(tmp_path / name, [one], exact.energy)
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
