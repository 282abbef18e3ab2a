import numpy as np
import pytest

from dftune.trainables.data.importing.importers import import_dataset
from dftune.trainables.physics.energies import band_energy, energies, entropy_term, fermi_level, n_electrons
from dftune.trainables.physics.quadrature import LeastSquares, Linear
from dftune.trainables.physics.units import K_B

TEMPERATURES = [298.0, 933.0, 5000.0]


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_heating_a_constant_dos_adds_the_sommerfeld_terms(temperature):
    dos, quadrature = np.full(41, 3.0), Linear(np.linspace(-10.0, 10.0, 41))  # 1/eV, eV; ε_F = 0
    # Half a value at the bottom: with its whole hat it is the area of a step there, and its moment is h² D / 6 less.
    dos[0] /= 2
    cold = -0.5 * 3.0 * 10.0**2 - 0.5**2 * 3.0 / 6  # ∫ D ε dε from the band bottom to ε_F
    sommerfeld = 3.0 * np.pi**2 / 6 * (K_B * temperature) ** 2
    at = {"fermi_level": 0.0, "temperature": temperature}
    assert n_electrons(dos, quadrature, **at) == pytest.approx(30.0, rel=1e-11)
    assert band_energy(dos, quadrature, **at) - cold == pytest.approx(sommerfeld, rel=1e-6)
    # The entropy term is minus twice as large, so that the free energy falls by as much as the energy rises.
    assert entropy_term(dos, quadrature, **at) == pytest.approx(-2 * sommerfeld, rel=1e-6)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_fermi_level_of_a_linear_dos_falls_as_sommerfeld_says(temperature):
    # D = c ε: N = c (μ²/2 + π²/6 (k_B τ)²), without higher terms.
    energy = np.linspace(0.0, 12.0, 25)
    expected = np.sqrt(5.0**2 - np.pi**2 / 3 * (K_B * temperature) ** 2)
    found = fermi_level(0.4 * energy, Linear(energy), electrons=0.5 * 0.4 * 5.0**2, temperature=temperature)
    assert found == pytest.approx(expected, abs=1e-5 if temperature == 5000.0 else 1e-9)


def test_a_symmetric_dos_half_filled_has_its_fermi_level_in_the_middle():
    energy = np.linspace(-8.0, 8.0, 65)
    dos = np.exp(-((energy - 3) ** 2)) + np.exp(-((energy + 3) ** 2))
    half = 0.5 * 0.25 * dos.sum()
    assert fermi_level(dos, Linear(energy), electrons=half, temperature=933.0) == pytest.approx(0.0, abs=1e-9)


def test_there_is_no_entropy_term_at_zero_temperature():
    assert entropy_term(np.ones(5), Linear(np.linspace(-1, 1, 5)), fermi_level=0.0, temperature=0.0) == 0.0


@pytest.mark.parametrize("rule", ["least-squares", "linear"])
def test_energies_are_those_at_the_fermi_level_that_holds_the_electrons(al4, rule):
    snapshot, quadrature = al4["002"], al4.info.energy_grid.quadrature(rule)
    dos, temperature = al4.dos(snapshot), snapshot.temperature
    found = energies(dos, quadrature, electrons=12.0, temperature=temperature)
    at = {"fermi_level": found.fermi_level, "temperature": temperature}
    assert n_electrons(dos, quadrature, **at) == pytest.approx(12.0, abs=1e-9)
    assert found.band == band_energy(dos, quadrature, **at)
    assert found.entropy == entropy_term(dos, quadrature, **at) < 0


@pytest.mark.parametrize("rule", ["least-squares", "linear"])
def test_one_more_electron_costs_the_fermi_level_in_free_energy(al4, rule):
    # ∂(E_b - τS)/∂N = ε_F holds for each rule exactly, as its weights are linear in f, ε f and s.
    snapshot, quadrature = al4["000"], al4.info.energy_grid.quadrature(rule)
    dos = al4.dos(snapshot)
    less, exact, more = (
        energies(dos, quadrature, electrons=n, temperature=snapshot.temperature) for n in (11.99, 12.0, 12.01)
    )
    slope = (more.band + more.entropy - less.band - less.entropy) / 0.02
    assert slope == pytest.approx(exact.fermi_level, abs=1e-5)


def errors(dataset, rule):
    """Errors against Quantum ESPRESSO of all snapshots: band and entropy [meV/atom], ε_F [meV], electrons."""
    quadrature, rows = dataset.info.energy_grid.quadrature(rule), []
    for s in dataset.snapshots:
        dos = dataset.dos(s)
        found = energies(dos, quadrature, electrons=s.n_electrons, temperature=s.temperature)
        counted = n_electrons(dos, quadrature, fermi_level=s.fermi_level, temperature=s.temperature)
        band, entropy = (found.band - s.band_energy) / s.n_atoms, (found.entropy - s.entropy_term) / s.n_atoms
        rows.append([1e3 * band, 1e3 * entropy, 1e3 * (found.fermi_level - s.fermi_level), counted - s.n_electrons])
    return np.array(rows).T


def test_least_squares_energies_of_bundled_aluminium_meet_quantum_espresso(al4):
    # Measured: band -0.08 (-0.20 to 0.11), entropy at most 0.11 meV/atom, ε_F at most 0.9 meV, 0.0015 electrons.
    band, entropy, level, electrons = errors(al4, "least-squares")
    assert len(band) == 12
    assert abs(band.mean()) < 0.5
    assert np.abs(band).max() < 0.5
    assert np.abs(entropy).max() < 0.3
    assert np.abs(level).max() < 5.0
    assert np.abs(electrons).max() < 5e-3


def test_the_linear_rule_is_off_by_tens_of_mev_an_atom_as_the_broadening_has_it(al4):
    # Measured: band -36.0 (-36.4 to -35.1), entropy 1.3 meV/atom, ε_F -2.5 to -8.8 meV.
    band, entropy, _, _ = errors(al4, "linear")
    assert -50 < band.min() < band.max() < -20
    assert entropy.min() > 0.5


@pytest.mark.parametrize("name, bound", [("al4_933K", 1.5), ("be4", 0.2)])
def test_other_temperatures_and_metals_meet_quantum_espresso_too(name, bound, tmp_path, shared):
    # Measured mean band-energy errors: -0.85 meV/atom (aluminium at 933 K), -0.11 (beryllium, PBE ultrasoft).
    dataset = import_dataset([shared(name)], tmp_path / name)
    band, _, level, electrons = errors(dataset, "least-squares")
    assert abs(band.mean()) < bound
    assert np.abs(level).max() < 10.0
    assert np.abs(electrons).max() < 0.01


def test_a_dos_that_cannot_hold_the_electrons_is_refused_with_the_numbers():
    energy = np.linspace(-1.0, 1.0, 5)
    with pytest.raises(ValueError, match=r"from -1 to 1 eV holds 2\.\d+ electrons when full, but 12 are needed"):
        fermi_level(np.ones(5), Linear(energy), electrons=12.0, temperature=298.0)


@pytest.mark.parametrize("rule", [Linear, lambda energy: LeastSquares(energy, "gaussian", 0.5)])
@pytest.mark.parametrize(
    "dos, message",
    [
        (np.ones(4), r"dos has shape \(4,\) but its energy grid has \(5,\)"),
        (np.array([1.0, 1.0, np.nan, 1.0, 1.0]), "dos has values that are not finite"),
    ],
)
def test_a_dos_of_another_shape_or_not_finite_is_refused(rule, dos, message):
    with pytest.raises(ValueError, match=message):
        fermi_level(dos, rule(np.linspace(-1.0, 1.0, 5)), electrons=1.0, temperature=298.0)


@pytest.mark.parametrize("temperature", [60.0, 150.0, 300.0, 600.0])
def test_a_cold_band_energy_follows_sommerfeld_down_to_the_coldest_temperature(temperature, al4):
    # E_b at constant N grows by π²/6 D(ε_F) (k_B τ)²; here from 60 K, with the DOS at the Fermi level.
    grid = al4.info.energy_grid
    assert grid.coldest < temperature
    curve, quadrature = al4.dos(al4["000"]), grid.quadrature()
    at = [energies(curve, quadrature, electrons=12, temperature=t) for t in (temperature, 60.0)]
    rise = np.pi**2 / 6 * np.interp(at[1].fermi_level, grid.energy, curve) * K_B**2 * (temperature**2 - 60.0**2)
    assert at[0].band - at[1].band == pytest.approx(rise, abs=1e-3)  # eV a cell of 4 atoms
