import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from dftune.tests.places import DATA
from dftune.trainables.physics.core_charge import core_density
from dftune.trainables.physics.energies import Energies, energies
from dftune.trainables.physics.ewald import ewald
from dftune.trainables.physics.exchange_correlation import exchange_correlation
from dftune.trainables.physics.free_energy import (
    DensityEnergies,
    density_energies,
    density_gradient,
    density_strain,
    free_energy,
    ldos_gradient,
)
from dftune.trainables.physics.hartree import hartree
from dftune.trainables.physics.local import density, density_response, dos
from dftune.trainables.physics.quadrature import LeastSquares, Linear
from dftune.trainables.physics.reciprocal import DensitySphere
from dftune.trainables.physics.smearing import fermi_dirac, fermi_dirac_slope
from dftune.trainables.physics.units import COULOMB, K_B, RYDBERG

# Two calculations by pw.x 6.7: snapshot 002 of four aluminium atoms (LDA-PZ, ecutrho = 60 Ry, displaced by 0.15 Å) and
# 001 of four beryllium atoms (PBE, ultrasoft, with a core charge, 100 Ry, 0.10 Å), as the README of their data
# describes: density (pp.x plot_num=0, float32), energies of the log file and of the eigenvalues [eV].
BUNDLED = DATA / "free_energy.npz"
TRICLINIC = np.array([[4.1, 0.3, -0.2], [1.1, 3.7, 0.5], [-0.6, 0.9, 4.4]])
GRID = (10, 11, 12)
CASES = [("lda-pz", False), ("pbe", False), ("pbe", True)]  # functional, whether there is a core


def sphere_of(cell=TRICLINIC):
    return DensitySphere(cell, GRID, 60.0)


def smooth(sphere, seed, mean, size):
    """mean plus random plane waves of up to about ``size``."""
    field = sphere.to_real(sphere.to_reciprocal(np.random.default_rng(seed).normal(size=sphere.grid)))
    return mean + size * field / np.abs(field).max()


def core_of(sphere):
    return smooth(sphere, 9, 0.1, 0.08)


@pytest.fixture(scope="module")
def bundled():
    with np.load(BUNDLED) as data:
        return dict(data)


CALCULATIONS = [
    ("al4", 60.0, "lda-pz", 3.0, 0.05),
    ("be4", 100.0, "pbe", 2.0, 0.05),
]


@pytest.mark.parametrize("name, cutoff, functional, charge, bound", CALCULATIONS)
def test_each_term_is_that_of_quantum_espresso(name, cutoff, functional, charge, bound, bundled):
    # meV/atom; measured: Al total -0.001, one-electron -0.003, xc 0.002; Be total and one-electron 0.028; all the rest
    # below 0.0005.
    qe = {key.removeprefix(f"{name}_"): value for key, value in bundled.items() if key.startswith(name)}
    n = qe["density"].astype(float)
    sphere = DensitySphere(qe["cell"], n.shape, cutoff * RYDBERG)
    core = None
    if functional == "pbe":
        core = core_density(sphere, qe["positions"], bundled["be_core_radius"], bundled["be_core_density"])
    ions, _, _ = ewald(qe["cell"], qe["positions"], np.full(4, charge))
    electrons = Energies(float(qe["fermi_level"]), float(qe["band"]), float(qe["entropy"]))
    found = free_energy(electrons, density_energies(n, sphere, functional, core), ewald=ions)
    one_electron = found.band - 2 * found.hartree - found.xc_potential
    for value, term, least in [
        (found.total, "total", bound),
        (one_electron, "one_electron", bound),
        (found.hartree, "hartree", 0.002),
        (found.xc, "xc", 0.006),
        (found.ewald, "ewald", 0.001),
    ]:
        assert abs(value - qe[term]) / 4 < 1e-3 * least, term


@pytest.mark.parametrize(
    "name, functional, mean, largest",
    [
        ("al4", "lda-pz", 0.03, 0.06),
        ("al4_933K", "lda-pz", 0.05, 0.06),
        ("al8", "lda-pz", 0.05, 0.06),
        ("al32", "lda-pz", 0.05, 0.06),
        ("be4", "pbe", 0.05, 0.06),
    ],
)
def test_the_free_energy_of_the_density_is_that_of_quantum_espresso(name, functional, mean, largest, bundled, shared):
    # meV/atom; measured: mean |A - QE| 0.010 over the 30 of al4 (at most 0.042), 0.001 al8, 0.009 al32, 0.006 at 933 K,
    # 0.012 over the 4 of be4 (at most 0.028).
    errors = []
    for path in sorted(shared(name).glob("[0-9]*.json")):
        facts = json.loads(path.read_text())
        config = facts["config"]
        positions = np.array(config["positions_angstrom"])
        cutoff = config["ecutrho_ry"] * RYDBERG
        sphere = DensitySphere(np.array(config["cell_angstrom"]), tuple(facts["fft"]), cutoff)
        core = None
        if functional == "pbe":
            core = core_density(sphere, positions, bundled["be_core_radius"], bundled["be_core_density"])
        n = np.load(path.with_name(f"{path.stem}.dens.npy")).astype(float)
        ions, _, _ = ewald(sphere.cell, positions, np.full(len(positions), float(config["zval"])))
        electrons = Energies(facts["fermi_ev"], facts["band_energy_ev"], facts["minus_ts_ev"])
        found = free_energy(electrons, density_energies(n, sphere, functional, core), ewald=ions)
        errors.append(1e3 * (found.total - facts["total_energy_ev"]) / len(positions))
    assert np.abs(errors).mean() < mean
    assert np.abs(errors).max() < largest


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("name, bound", [("al4", 0.5), ("al4_933K", 1.2), ("be4", 0.5)])
def test_the_free_energy_of_the_ldos_alone_is_that_of_quantum_espresso(name, bound, step, bundled, shared):
    # meV/atom; measured mean |A - QE|: 0.12 and 0.10 (al4, every and every second energy; the first three here),
    # 0.66 and 0.45 (933 K), 0.08 and 0.06 (be4).
    errors = []
    for path in sorted(shared(name).glob("[0-9]*.json"))[:3]:
        facts = json.loads(path.read_text())
        config, stored = facts["config"], facts["config"]["energy_grid_ev"]
        positions, cell = np.array(config["positions_angstrom"]), np.array(config["cell_angstrom"])
        ldos = np.load(path.with_name(f"{path.stem}.ldos.npy"))[..., ::step].astype(float)
        sphere = DensitySphere(cell, ldos.shape[:3], config["ecutrho_ry"] * RYDBERG)
        energy = stored["emin"] + step * stored["spacing"] * np.arange(ldos.shape[-1])
        rule, temperature = LeastSquares(energy, "gaussian", stored["width"]), facts["kt_ev"] / K_B
        curve = dos(ldos, volume=sphere.volume)
        electrons = energies(curve, rule, electrons=facts["n_electrons"], temperature=temperature)
        n = density(ldos, rule, fermi_level=electrons.fermi_level, temperature=temperature)
        core, functional = None, "lda-pz"
        if config["symbol"] == "Be":
            core = core_density(sphere, positions, bundled["be_core_radius"], bundled["be_core_density"])
            functional = "pbe"
        ions, _, _ = ewald(cell, positions, np.full(len(positions), float(config["zval"])))
        found = free_energy(electrons, density_energies(n, sphere, functional, core), ewald=ions)
        errors.append(1e3 * (found.total - facts["total_energy_ev"]) / len(positions))
    assert np.abs(errors).mean() < bound


def test_the_total_adds_up_with_the_signs_of_its_equation():
    electrons, by_density = Energies(7.0, band=1.0, entropy=-20.0), DensityEnergies(300.0, -4000.0, -50000.0)
    found = free_energy(electrons, by_density, ewald=-600000.0)
    assert found.total == 1 - 20 - 300 - 4000 + 50000 - 600000
    assert found.fermi_level == 7.0
    assert replace(found, hartree=301.0).total == found.total - 1


@pytest.mark.parametrize("functional, with_core", CASES)
def test_the_energies_of_the_density_are_those_of_their_own_files(functional, with_core):
    sphere = sphere_of()
    n, core = smooth(sphere, 0, 0.2, 0.1), core_of(sphere) if with_core else None
    found = density_energies(n, sphere, functional, core)
    energy, potential = exchange_correlation(n + core if with_core else n, sphere, functional)
    assert found.hartree == hartree(n, sphere)[0]  # the core has no part in it
    assert found.xc == energy
    assert found.xc_potential == pytest.approx(sphere.volume * (potential * n).mean())


@pytest.mark.parametrize("functional, with_core", CASES)
def test_the_density_gradient_is_the_derivative_of_the_energies_of_the_density(functional, with_core):
    sphere, rng = sphere_of(), np.random.default_rng(1)
    n, core = smooth(sphere, 0, 0.2, 0.1), core_of(sphere) if with_core else np.zeros(GRID)
    by_density, by_core = density_gradient(n, sphere, functional, core)

    def energy(h_density, h_core):
        e = density_energies(n + h_density * change, sphere, functional, core + h_core * change)
        return -e.hartree + e.xc - e.xc_potential

    for gradient, step in [(by_density, np.array([1.0, 0.0])), (by_core, np.array([0.0, 1.0]))]:
        change = rng.normal(size=GRID)
        h = 5e-5 * step
        slope = (8 * (energy(*h) - energy(*-h)) - energy(*2 * h) + energy(*-2 * h)) / (12 * 5e-5)
        assert slope == pytest.approx(sphere.integral(gradient * change), rel=1e-6, abs=1e-6)


def test_without_a_core_the_density_gradient_is_that_of_an_empty_one():
    sphere = sphere_of()
    n = smooth(sphere, 0, 0.2, 0.1)
    for found, empty in zip(density_gradient(n, sphere, "pbe"), density_gradient(n, sphere, "pbe", np.zeros(GRID))):
        np.testing.assert_array_equal(found, empty)


ENERGY = np.linspace(-6.0, 12.0, 37)
RULES = {"least-squares": LeastSquares(ENERGY, "gaussian", 0.5), "linear": Linear(ENERGY)}
ELECTRONS, TEMPERATURE = 12.0, 3158.0


def ldos_of(sphere):
    """A smooth LDOS like a metal's: √ε from -3 eV on, for each energy another shape in space."""
    bulk = 0.013 * np.sqrt(np.maximum(ENERGY + 3.0, 0.05))
    shapes = np.stack([smooth(sphere, 0, 1.0, 0.3), smooth(sphere, 1, 0.0, 0.3)], axis=-1)
    mixed = shapes[..., :1] + shapes[..., 1:] * np.cos(ENERGY / 3)
    return mixed * bulk


def total(ldos, sphere, rule, functional, core):
    """A without E_Ewald, of the LDOS alone [eV]."""
    curve = dos(ldos, volume=sphere.volume)
    electrons = energies(curve, rule, electrons=ELECTRONS, temperature=TEMPERATURE)
    n = density(ldos, rule, fermi_level=electrons.fermi_level, temperature=TEMPERATURE)
    return free_energy(electrons, density_energies(n, sphere, functional, core), ewald=0.0).total


def gradient_of(ldos, sphere, rule, functional, core):
    curve = dos(ldos, volume=sphere.volume)
    level = energies(curve, rule, electrons=ELECTRONS, temperature=TEMPERATURE).fermi_level
    at = {"fermi_level": level, "temperature": TEMPERATURE}
    u, _ = density_gradient(density(ldos, rule, **at), sphere, functional, core)
    response = density_response(ldos, rule, **at)
    return ldos_gradient(u, response, curve, rule, volume=sphere.volume, **at)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("functional, with_core", CASES)
def test_the_ldos_gradient_is_the_derivative_of_the_free_energy_at_constant_electrons(functional, with_core, rule):
    sphere, rule = sphere_of(), RULES[rule]
    ldos, core = ldos_of(sphere), core_of(sphere) if with_core else None
    g = gradient_of(ldos, sphere, rule, functional, core)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        change = (rng.normal(size=len(ENERGY)) + rng.normal(size=ldos.shape)) * ldos  # noise alone would average out

        def energy(h, change=change):
            return total(ldos + h * change, sphere, rule, functional, core)

        by_point = g.constant + g.weights * g.potential[..., None]
        expected = sphere.integral((by_point * change).sum(axis=-1))
        slope = (8 * (energy(1e-3) - energy(-1e-3)) - energy(2e-3) + energy(-2e-3)) / 12e-3
        assert abs(expected) > 0.1
        assert slope == pytest.approx(expected, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("functional, with_core", CASES)
def test_the_strain_derivative_at_a_fixed_ldos_is_that_of_the_free_energy(functional, with_core):
    sphere, rule = sphere_of(), RULES["least-squares"]
    ldos, h = ldos_of(sphere), 1e-3
    factor = core_of(sphere)

    def core(there):  # an atom's charge spreads with the volume, and its form factor falls with G
        return (
            there.to_real(sphere.to_reciprocal(factor) * np.exp(-0.01 * there.squared)) * sphere.volume / there.volume
        )

    n_core = core if with_core else lambda there: None
    expected = np.zeros((3, 3))
    for a, b in np.ndindex(3, 3):
        for steps, weight in ((1, 8), (-1, -8), (2, -1), (-2, 1)):
            strain = np.zeros((3, 3))
            strain[a, b] = steps * h
            there = sphere.strained(strain)
            expected[a, b] += weight * total(ldos, there, rule, functional, n_core(there)) / (12 * h)
    gradient = gradient_of(ldos, sphere, rule, functional, n_core(sphere))
    curve = dos(ldos, volume=sphere.volume)
    level = energies(curve, rule, electrons=ELECTRONS, temperature=TEMPERATURE).fermi_level
    n = density(ldos, rule, fermi_level=level, temperature=TEMPERATURE)
    found = density_strain(n, sphere, functional, n_core) + gradient.volume_slope(curve) * np.eye(3)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())


def test_the_strain_derivative_of_the_density_is_its_closed_form_without_gradients():
    # Ω and 1/G² change: each term goes with the volume, and E_H by 4πe²/2 Ω Σ |n(G)|² 2 G_a G_b/G⁴ besides.
    sphere = sphere_of()
    n = smooth(sphere, 0, 0.2, 0.1)
    found, terms = density_strain(n, sphere, "lda-pz"), density_energies(n, sphere, "lda-pz")
    squared = np.where(sphere.squared > 0, sphere.squared, np.inf)
    weight = np.abs(sphere.to_reciprocal(n)) ** 2 * sphere.multiplicity / squared**2
    vectors = np.array([sphere.component(axis) for axis in range(3)])
    by_shape = 4 * np.pi * COULOMB * sphere.volume * np.einsum("ijk,aijk,bijk->ab", weight, *2 * [vectors])
    expected = (terms.xc - terms.xc_potential - terms.hartree) * np.eye(3) - by_shape
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_adding_states_everywhere_at_one_energy_moves_the_fermi_level_too():
    # A uniform change at the lowest energies fills states there and lowers ε_F: the largest part of δA is ε_j - ε_F.
    sphere, rule = sphere_of(), RULES["least-squares"]
    ldos = ldos_of(sphere)
    g = gradient_of(ldos, sphere, rule, "pbe", None)
    for j in (10, 20, 25):  # below, near and above ε_F
        change = np.zeros(ldos.shape)
        change[..., j] = 1e-4
        slope = (
            total(ldos + change, sphere, rule, "pbe", None) - total(ldos - change, sphere, rule, "pbe", None)
        ) / 2e-4
        expected = sphere.volume * (g.constant[j] + g.weights[j] * g.potential.mean())
        assert slope == pytest.approx(expected, rel=1e-4)


def test_the_density_response_is_the_derivative_of_the_density():
    ldos, h = ldos_of(sphere_of()), 1e-4
    for rule in RULES.values():
        up, down = (density(ldos, rule, fermi_level=5.0 + s, temperature=TEMPERATURE) for s in (h, -h))
        found = density_response(ldos, rule, fermi_level=5.0, temperature=TEMPERATURE)
        np.testing.assert_allclose(found, (up - down) / (2 * h), rtol=1e-6)


def test_the_slope_of_the_occupation_is_its_derivative():
    energy, at = np.linspace(-3.0, 3.0, 61), {"temperature": 933.0}
    up, down = (fermi_dirac(energy, fermi_level=0.1 + s, **at) for s in (1e-5, -1e-5))
    np.testing.assert_allclose(fermi_dirac_slope(energy, fermi_level=0.1, **at), (up - down) / 2e-5, atol=1e-6)


def test_where_nothing_answers_to_the_fermi_level_there_is_no_gradient():
    sphere, rule = sphere_of(), RULES["least-squares"]
    field, at = np.ones(GRID), {"volume": sphere.volume, "fermi_level": 5.0}
    with pytest.raises(ValueError, match="at 0 K the free energy has no derivative"):
        ldos_gradient(field, field, np.ones(37), rule, temperature=0.0, **at)
    with pytest.raises(ValueError, match="gives 0 electrons/eV at ε_F = 5 eV"):
        ldos_gradient(field, field, np.zeros(37), rule, temperature=933.0, **at)


def test_the_energies_of_a_density_take_the_memory_of_nine_at_most():
    n = 96
    sphere = DensitySphere(np.eye(3) * 8.0, (n, n, n), 4000.0)
    field = 0.2 + 0.05 * np.cos(2 * np.pi * np.arange(n) / n)[:, None, None] * np.ones((n, n, n))
    core = 0.1 * field
    tracemalloc.start()
    try:
        density_energies(field, sphere, "pbe", core)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 9 * field.nbytes, "at 200 cubed points one of them is 64 MB"
