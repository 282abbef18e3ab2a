import json

import numpy as np
import pytest

from dftune.trainables.physics.ewald import ewald
from dftune.trainables.physics.units import COULOMB

TRICLINIC = np.array([[4.1, 0.3, -0.2], [1.1, 3.7, 0.5], [-0.6, 0.9, 4.4]])
POSITIONS = np.array([[0.1, 0.2, 0.3], [1.9, 2.1, 0.4], [0.8, 2.9, 2.6], [3.0, 1.3, 3.1]])
NEUTRAL, IONS = np.array([2.0, -1.0, 1.5, -2.5]), np.full(4, 3.0)
FCC = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
BCC = np.array([[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]])


@pytest.mark.parametrize(
    "cell, place, madelung, nearest",
    [
        (FCC, (0.5, 0.5, 0.5), 1.747564594633182, 0.5),  # NaCl
        (np.eye(3), (0.5, 0.5, 0.5), 1.762674773070988, np.sqrt(3) / 2),  # CsCl
        (FCC, (0.25, 0.25, 0.25), 1.638055053388789, np.sqrt(3) / 4),  # zincblende
    ],
)
def test_salts_have_the_madelung_constants_of_the_literature(cell, place, madelung, nearest):
    # Glasser, Inorg. Chem. 51, 2420 (2012): E = -M e²/d a pair of ions at the distance d.
    energy, forces, _ = ewald(5.6 * cell, 5.6 * np.array([(0, 0, 0), place]), np.array([1.0, -1.0]))
    assert energy == pytest.approx(-madelung * COULOMB / (5.6 * nearest), rel=1e-11)
    np.testing.assert_allclose(forces, 0, atol=1e-11)


@pytest.mark.parametrize(
    "cell, constant", [(FCC, -0.895873615), (BCC, -0.895929255), (np.eye(3), -0.880059442)], ids=["fcc", "bcc", "sc"]
)
def test_a_wigner_crystal_has_the_energy_of_the_literature(cell, constant):
    # E = constant e²/r_WS an ion; Fuchs, Proc. R. Soc. A 151, 585 (1935); later to more digits.
    radius = (3 * abs(np.linalg.det(2.86 * cell)) / (4 * np.pi)) ** (1 / 3)
    energy, _, _ = ewald(2.86 * cell, np.zeros((1, 3)), np.array([3.0]))
    assert energy == pytest.approx(9 * constant * COULOMB / radius, rel=1e-9)


@pytest.mark.parametrize("charges, expected", [(NEUTRAL, -69.13750180179), (IONS, -262.84108919168)])
def test_a_triclinic_cell_agrees_with_another_code(charges, expected):
    # pymatgen-core 2026.10.16: EwaldSummation(Structure(Lattice(cell), [{f"H{abs(q)}{'+' if q > 0 else '-'}": 1}
    # for q in charges], positions, coords_are_cartesian=True), acc_factor=16).total_energy; its e²/4πε₀ is
    # 14.399645468667815 eV Å, ours 7e-10 more.
    assert ewald(TRICLINIC, POSITIONS, charges)[0] == pytest.approx(expected, abs=1e-6)


def test_the_forces_agree_with_those_of_another_code():
    # As above, with compute_forces=True.
    expected = [
        [-7.54471745, -1.22348437, -27.82449377],
        [-2.05284701, 1.5138748, 1.62222297],
        [-1.27017856, -1.25060827, 8.68167415],
        [10.86774303, 0.96021784, 17.52059664],
    ]
    np.testing.assert_allclose(ewald(TRICLINIC, POSITIONS, NEUTRAL)[1], expected, atol=1e-7)


@pytest.mark.parametrize("charges", [NEUTRAL, IONS])
@pytest.mark.parametrize("splitting", [0.3, 0.6, 1.0, 1.6])
def test_the_result_does_not_depend_on_the_splitting(splitting, charges):
    energy, forces, _ = ewald(TRICLINIC, POSITIONS, charges)
    other, other_forces, _ = ewald(TRICLINIC, POSITIONS, charges, splitting=splitting)
    assert other == pytest.approx(energy, rel=1e-11)
    np.testing.assert_allclose(other_forces, forces, atol=1e-10)


@pytest.mark.parametrize("charges", [NEUTRAL, IONS])
def test_the_forces_are_minus_the_derivative_of_the_energy(charges):
    _, forces, _ = ewald(TRICLINIC, POSITIONS, charges)
    step = 1e-3

    def energy(atom, axis, h):
        moved = POSITIONS.copy()
        moved[atom, axis] += h
        return ewald(TRICLINIC, moved, charges)[0]

    for atom, axis in [(0, 0), (1, 1), (2, 2), (3, 0)]:
        near = energy(atom, axis, step) - energy(atom, axis, -step)
        far = energy(atom, axis, 2 * step) - energy(atom, axis, -2 * step)
        assert -(8 * near - far) / (12 * step) == pytest.approx(forces[atom, axis], abs=1e-7)
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-10)


@pytest.mark.parametrize("charges", [NEUTRAL, IONS])
def test_the_strain_derivative_is_that_of_the_energy(charges):
    step, expected = 1e-3, np.zeros((3, 3))
    for a, b in np.ndindex(3, 3):
        for shift, weight in ((1, 8), (-1, -8), (2, -1), (-2, 1)):
            strained = np.eye(3)
            strained[a, b] += shift * step
            expected[a, b] += weight * ewald(TRICLINIC @ strained.T, POSITIONS @ strained.T, charges)[0] / (12 * step)
    for splitting in (None, 0.4, 1.4):  # nearly all in one of the two sums
        found = ewald(TRICLINIC, POSITIONS, charges, splitting=splitting)[2]
        np.testing.assert_allclose(found, expected, atol=1e-7, err_msg=f"splitting {splitting}")


def test_the_pressure_of_point_charges_is_a_third_of_their_energy():
    # The energy goes as 1/length: the virial theorem.
    energy, _, strain = ewald(TRICLINIC, POSITIONS, IONS)
    assert np.trace(strain) == pytest.approx(-energy, rel=1e-11)


@pytest.mark.parametrize("charges", [NEUTRAL, IONS])
@pytest.mark.parametrize("splitting", [0.6, 1.4])
def test_a_mesh_gives_what_the_direct_sums_give(monkeypatch, splitting, charges):
    direct = ewald(TRICLINIC, POSITIONS - 7.3, charges, splitting=splitting)
    monkeypatch.setattr("dftune.trainables.physics.phases.MANY", 1)
    mesh = ewald(TRICLINIC, POSITIONS - 7.3, charges, splitting=splitting)
    for found, expected in zip(mesh, direct, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-10)


def test_a_large_supercell_has_as_many_times_the_energy():
    energy, forces, strain = ewald(TRICLINIC, POSITIONS, IONS)
    times = np.array([6, 4, 6])  # 576 atoms: over a mesh
    shifts = np.stack(np.meshgrid(*map(range, times), indexing="ij"), axis=-1).reshape(-1, 3) @ TRICLINIC
    many = np.diag(times) @ TRICLINIC, (shifts[:, None] + POSITIONS).reshape(-1, 3), np.tile(IONS, 144)
    total, all_forces, all_strain = ewald(*many)
    assert total == pytest.approx(144 * energy, rel=1e-12)
    np.testing.assert_allclose(all_forces, np.tile(forces, (144, 1)), atol=1e-9)
    np.testing.assert_allclose(all_strain, 144 * strain, rtol=1e-9, atol=1e-7)


def test_translations_lattice_vectors_and_the_choice_of_the_cell_do_not_matter():
    energy, forces, _ = ewald(TRICLINIC, POSITIONS, IONS)
    shifts = np.array([[1, 0, -2], [0, 3, 0], [-1, -1, 1], [5, 0, 0]]) @ TRICLINIC
    skewed = np.array([[1, 0, 0], [1, 1, 0], [-2, 1, 1]]) @ TRICLINIC  # of the same lattice
    for cell in (TRICLINIC, skewed, TRICLINIC[[1, 0, 2]], -TRICLINIC):
        same, same_forces, _ = ewald(cell, POSITIONS + shifts + [0.7, -0.1, 12.3], IONS)
        assert same == pytest.approx(energy, rel=1e-11)
        np.testing.assert_allclose(same_forces, forces, atol=1e-9)


def test_a_rotation_turns_the_forces():
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    energy, forces, _ = ewald(TRICLINIC, POSITIONS, NEUTRAL)
    turned, turned_forces, _ = ewald(TRICLINIC @ turn, POSITIONS @ turn, NEUTRAL)
    assert turned == pytest.approx(energy, rel=1e-11)
    np.testing.assert_allclose(turned_forces, forces @ turn, atol=1e-10)


def test_a_supercell_has_as_many_times_the_energy_in_few_atoms_or_many(monkeypatch):
    energy, forces, _ = ewald(TRICLINIC, POSITIONS, IONS)
    shifts = np.stack(np.meshgrid(range(3), range(2), range(4), indexing="ij"), axis=-1).reshape(-1, 3) @ TRICLINIC
    many = (np.diag([3, 2, 4]) @ TRICLINIC, (shifts[:, None] + POSITIONS).reshape(-1, 3), np.tile(IONS, 24))
    for chunk in (2**20, 3000):  # all atoms at once, and a few at a time
        monkeypatch.setattr("dftune.trainables.physics.ewald.CHUNK", chunk)
        total, all_forces, _ = ewald(*many)
        assert total == pytest.approx(24 * energy, rel=1e-11)
        np.testing.assert_allclose(all_forces, np.tile(forces, (24, 1)), atol=1e-9)


@pytest.mark.parametrize("name", ["al4", "al4_933K", "al8", "al32", "be4"])
def test_the_ions_have_the_energy_of_quantum_espresso(name, shared):
    # Measured: at most 0.0010 meV/atom, for al32.
    for path in sorted(shared(name).glob("[0-9]*.json")):
        facts = json.loads(path.read_text())
        config = facts["config"]
        cell, positions = np.array(config["cell_angstrom"]), np.array(config["positions_angstrom"])
        energy, _, _ = ewald(cell, positions, np.full(len(positions), float(config["zval"])))
        assert abs(energy - facts["qe_terms_ev"]["ewald"]) / len(positions) < 3e-6


def test_atoms_that_cannot_be_are_refused():
    twice = POSITIONS.copy()
    twice[3] = POSITIONS[1] + TRICLINIC[2]
    with pytest.raises(ValueError, match=r"atoms 1 and 3 \(from 0\) are at the same place"):
        ewald(TRICLINIC, twice, IONS)
    with pytest.raises(ValueError, match=r"positions of shape \(4, 3\) and charges of shape \(3,\) are no atoms"):
        ewald(TRICLINIC, POSITIONS, IONS[:3])
    with pytest.raises(ValueError, match="not finite"):
        ewald(TRICLINIC, np.full((4, 3), np.nan), IONS)
    with pytest.raises(ValueError, match="span no volume"):
        ewald(np.ones((3, 3)), POSITIONS, IONS)
