"""The linear neighbour-shell model, and the Bayesian regression below it."""

import ase.build
import numpy as np
import pyarrow.parquet as pq
import pytest

from dftune.trainables.alloys.lattice import Lattice
from dftune.trainables.alloys.linear import WIDTHS, LinearPosterior
from dftune.trainables.alloys.shell_model import DECAYS, FALLS, ShellModel, SiteModel, distinct_shells, drawn_models
from dftune.trainables.errors import InputError
from dftune.trainables.physics.units import BOHR, RYDBERG

FCC = Lattice.of(ase.build.bulk("Cu", "fcc", a=7.26 * BOHR, cubic=True).repeat((2, 2, 2)))
BCC = Lattice.of(ase.build.bulk("Fe", "bcc", a=5.77 * BOHR, cubic=True).repeat((2, 2, 4)))


def configurations(n, n_sites=32, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.random((n, n_sites)) < rng.random((n, 1))).astype(np.uint8)


def ising(species, lattice, couplings):
    """Σ of couplings σ_i σ_j over pairs less its value in the pure elements, by a loop over all sites [eV per cell]."""
    sigma = 2 * species.astype(int) - 1
    total = np.zeros(len(species))
    for coupling, shell in zip(couplings, lattice.shells(len(couplings))[1], strict=True):
        for site, neighbours in enumerate(shell):
            for neighbour in neighbours:
                total += 0.5 * coupling * (sigma[:, site] * sigma[:, neighbour] - 1)
    return total


def regression(n=30, p=4, noise=0.1):
    rng = np.random.default_rng(1)
    features = rng.normal(size=(n, p)) * [1.0, 10.0, 0.1, 3.0][:p]
    return features, features @ [2.0, -0.3, 5.0, 1.0][:p] + noise * rng.normal(size=n)


def test_many_targets_give_least_squares_and_its_errors():
    features, targets = regression(n=400)
    found = LinearPosterior.fit(features, targets)
    mean, rest, *_ = np.linalg.lstsq(features, targets)
    error = np.sqrt(rest[0] / 396 * np.diag(np.linalg.inv(features.T @ features)))
    assert found.mean == pytest.approx(mean, abs=0.1 * error.min())
    assert found.noise == pytest.approx(0.1, rel=0.1)
    assert found.std(np.eye(4)) == pytest.approx(error, rel=0.03)


@pytest.mark.parametrize("n", [5, 12])
def test_evidence_and_covariance_are_those_of_the_direct_formulas(n):
    features, targets = regression(n)
    squares = (features**2).mean(axis=0)
    direct = []
    for width in WIDTHS:
        covariance = np.eye(n) + width * features / squares @ features.T
        square = targets @ np.linalg.solve(covariance, targets)
        direct.append(-0.5 * np.linalg.slogdet(covariance)[1] - 0.5 * n * np.log(square))
    found = LinearPosterior.fit(features, targets)
    assert found.evidence == pytest.approx(max(direct))
    precision = features.T @ features + np.diag(squares) / WIDTHS[np.argmax(direct)]
    assert found.factor @ found.factor.T @ precision == pytest.approx(np.eye(4), abs=1e-6)
    assert precision @ found.mean == pytest.approx(features.T @ targets)


@pytest.mark.parametrize("n", [5, 12])
def test_expected_sizes_are_those_of_scaled_features(n):
    features, targets = regression(n)
    expected = np.array([1.0, 0.1, 0.5, 2.0])
    squares = (features**2).mean(axis=0) / expected**2
    direct = []
    for width in WIDTHS:
        covariance = np.eye(n) + width * features / squares @ features.T
        square = targets @ np.linalg.solve(covariance, targets)
        direct.append(-0.5 * np.linalg.slogdet(covariance)[1] - 0.5 * n * np.log(square))
    found = LinearPosterior.fit(features, targets, expected)
    assert found.evidence == pytest.approx(max(direct))
    precision = features.T @ features + np.diag(squares) / WIDTHS[np.argmax(direct)]
    assert precision @ found.mean == pytest.approx(features.T @ targets)


@pytest.mark.parametrize("n", [5, 12])
def test_draws_scatter_as_the_posterior_says(n):
    features, targets = regression(n)
    found = LinearPosterior.fit(features, targets)
    drawn = found.draws(20_000, np.random.default_rng(2))
    inner = np.diff(np.quantile(drawn, (0.25, 0.75), axis=0), axis=0)[0]
    at = np.eye(4)
    scale = found.std(at) / np.sqrt(n / (n - 2))
    quartiles = {5: 2 * 0.7267, 12: 2 * 0.6955}[n]  # of Student's t
    assert inner == pytest.approx(quartiles * scale, rel=0.05)
    assert np.median(drawn, axis=0) == pytest.approx(found.mean, abs=0.05 * inner.max())


def test_couplings_of_an_ising_model_are_found_and_carry_over_to_larger_cells():
    couplings = (0.030, -0.010, 0.004)
    species = configurations(40)
    model = ShellModel.fit(FCC, species, ising(species, FCC, couplings), n_shells=3, degree=0)
    assert model.sizes == (12, 6, 24)
    sizes = np.array(model.sizes)
    assert model.coefficients[1][:, 0] == pytest.approx(-np.array(couplings) * sizes / 2, rel=1e-4)
    assert model.coefficients[0] == pytest.approx([0.0], abs=1e-5)
    large = FCC.repeated((2, 1, 1))
    others = configurations(5, 64, seed=3)
    assert model.energy(large, others) == pytest.approx(ising(others, large, couplings), abs=1e-4)
    twice = np.concatenate([species[:5], species[:5]], axis=1)
    assert model.energy(large, twice) == pytest.approx(2 * model.energy(FCC, species[:5]))


def test_the_evidence_chooses_the_degree_and_leaves_far_shells_small():
    species = configurations(60)
    noise = 0.02 * np.random.default_rng(5).normal(size=60)
    model = ShellModel.fit(FCC, species, ising(species, FCC, (0.030, -0.010)) + noise)
    assert (model.n_shells, model.degree) == (4, 0)
    assert (abs(model.coefficients[1][2:]) < 0.03 * abs(model.coefficients[1][0])).all()
    assert model.noise == pytest.approx(0.02 / 32, rel=0.2)


def test_a_prior_that_falls_with_the_distance_predicts_better_from_few_rows(cuau):
    """CuAu from 20 rows, mean over 10 choices: 0.20 against 0.44 mRy/atom."""
    lattice, species, energies = cuau.info.lattice, cuau.all.species, cuau.formation_energies
    errors = {"falls": [], "alike": []}
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(len(species))
        some, rest = order[:20], order[20:]
        models = ShellModel.candidates(lattice, species[some], energies[some])
        alike = {model.degree: model for model in reversed(models)}.values()  # the first one of each degree
        for name, among in (("falls", models), ("alike", alike)):
            best = max(among, key=lambda model: model.posterior.evidence)
            errors[name].append(abs(best.energy(lattice, species[rest]) - energies[rest]).mean())
    assert np.mean(errors["falls"]) < 0.7 * np.mean(errors["alike"])


def test_drawn_models_scatter_as_the_posterior_says():
    species = configurations(60)
    energies = ising(species, FCC, (0.030, -0.010)) + 0.02 * np.random.default_rng(5).normal(size=60)
    model = ShellModel.fit(FCC, species, energies, n_shells=2, degree=0)
    features = 32 * model.features(FCC, species[0])
    drawn = [features @ draw.posterior.mean for draw in drawn_models([model], 2000, np.random.default_rng(0))]
    assert np.std(drawn) == pytest.approx(model.std(FCC, species[0])[0], rel=0.05)


def test_models_are_drawn_by_their_evidence():
    species = configurations(60)
    energies = ising(species, FCC, (0.030, -0.010)) + 0.02 * np.random.default_rng(5).normal(size=60)
    candidates = ShellModel.candidates(FCC, species, energies)
    assert len(candidates) == len(DECAYS) * (1 + 3 * len(FALLS))
    drawn = [draw.posterior.noise for draw in drawn_models(candidates, 2000, np.random.default_rng(0))]
    evidence = {model.posterior.noise: model.posterior.evidence for model in candidates}
    likely, next_likely = sorted(set(drawn), key=lambda noise: -evidence[noise])[:2]
    ratio = np.exp(evidence[next_likely] - evidence[likely])
    assert drawn.count(next_likely) / drawn.count(likely) == pytest.approx(ratio, rel=0.25)


def test_pure_elements_have_no_formation_energy():
    species = configurations(30)
    model = ShellModel.fit(BCC, species, ising(species, BCC, (0.01, 0.02)) + 0.1)
    pure = np.stack([np.zeros(32, np.uint8), np.ones(32, np.uint8)])
    assert model.energy(BCC, pure) == pytest.approx([0, 0], abs=1e-12)
    assert model.std(BCC, pure) == pytest.approx([0, 0], abs=1e-12)


def test_a_cell_tells_so_many_shells_apart():
    assert distinct_shells(FCC, 6) == 4  # shell 5, (3/2, 1/2, 0), holds the images of shell 1 in this cell
    assert distinct_shells(FCC.repeated((2, 2, 2)), 6) == 6


def test_charges_by_element_and_neighbours_are_found():
    species = configurations(40, seed=7)
    unlike = (species[:, FCC.shells(1)[1][0]] != species[:, :, None]).sum(axis=2)
    charges = np.where(species == 0, 0.02, -0.03) * unlike
    model = SiteModel.fit(FCC, species, charges)
    others = configurations(3, 256, seed=8)
    large = FCC.repeated((2, 2, 2))
    unlike = (others[:, large.shells(1)[1][0]] != others[:, :, None]).sum(axis=2)
    assert model.predict(large, others) == pytest.approx(np.where(others == 0, 0.02, -0.03) * unlike, abs=1e-4)


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda m, s: m.energy(BCC, s), r"other neighbours \(8 at 2.64 Å, .*\) than the model's \(12 at 2.72 Å"),
        (lambda m, s: m.energy(FCC, s[:, :16]), "16 sites, and the lattice 32"),
        (lambda m, s: m.energy(FCC, s + 1), "species are 0 .* or 1"),
        (lambda m, s: ShellModel.fit(FCC, s, np.zeros(3)), "20 configurations and 3 targets"),
        (
            lambda m, s: ShellModel.fit(FCC, s, np.zeros(20), n_shells=5),
            "4 shells apart; take from 1 to 4, not 5",
        ),
        (lambda m, s: ShellModel.fit(FCC, s[:2], np.zeros(2)), "2 values do not determine 2 coefficients; give more"),
        (lambda m, s: ShellModel.fit(FCC, s, np.full(20, np.nan)), "a target is not finite"),
        (lambda m, s: SiteModel.fit(FCC, s, np.zeros(20)), r"shape \(20,\), and species \(20, 32\)"),
        (lambda m, s: SiteModel.fit(FCC, 0 * s, np.zeros((20, 32))), "0 values do not determine 9 coefficients"),
    ],
)
def test_what_does_not_fit_is_refused(change, text):
    species = configurations(20)
    model = ShellModel.fit(FCC, species, ising(species, FCC, (0.01, 0.02)), n_shells=2, degree=0)
    with pytest.raises(InputError, match=text):
        change(model, species)


@pytest.mark.slow
@pytest.mark.parametrize("name, lattice, most", [("CuAu", FCC, 0.25), ("FePt", BCC, 0.29)])
def test_real_tables_are_predicted_out_of_sample(name, lattice, most, shared):
    """Each row is an orbit of its own.  Root mean square error in mRy/atom, mean over 60 random splits, 80 % to fit."""
    table = pq.read_table(shared(f"alloys/{name}_lsms.parquet"))
    species = np.array(table["species"].to_pylist(), dtype=np.uint8)
    energies = table["formation_energy"].to_numpy() * RYDBERG
    errors, inside = [], []
    for seed in range(60):
        order = np.random.default_rng(seed).permutation(len(energies))
        fitted, test = np.split(order, [int(0.8 * len(order))])
        model = ShellModel.fit(lattice, species[fitted], energies[fitted])
        error = (model.energy(lattice, species[test]) - energies[test]) / 32
        errors.append(np.sqrt((error**2).mean()))
        spread = np.hypot(model.std(lattice, species[test]) / 32, model.noise)
        inside.append((abs(error) < 2 * spread).mean())
    assert np.mean(errors) < most * 1e-3 * RYDBERG
    assert np.mean(inside) == pytest.approx(0.95, abs=0.03)
