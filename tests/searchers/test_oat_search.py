import itertools
import random
import re

import numpy as np
import pytest
from pydantic import ValidationError

from dftune.searchers.grid_search import LevelGrid
from dftune.searchers.oat_search import OatOptions, OatSearch
from dftune.searchers.searcher import WAIT, PastTrial
from dftune.searchers.space import Choice, Float, Int

SPACE = {
    "activation": Choice(values=("relu", "tanh")),
    "width": Int(low=16, high=128, log=True, n_levels=4),
    "n_layers": Int(low=1, high=3),
    "learning_rate": Float(low=1e-4, high=1e-1, log=True, n_levels=4),
}
LEVELS = {name: values.grid_values for name, values in SPACE.items()}
# The weight of each hyperparameter in an additive value; levels of one differ by up to 1 before it.
WEIGHTS = {"activation": 0.3, "width": 3.0, "n_layers": 1.0, "learning_rate": 10.0}


def effects(seed=0):
    """Terms of an additive value, of span 1 times the weight for every hyperparameter."""
    rng = np.random.default_rng(seed)
    terms = {}
    for name, levels in LEVELS.items():
        spread = rng.permutation(np.linspace(0.0, 1.0, len(levels)))
        terms[name] = dict(zip(levels, WEIGHTS[name] * spread, strict=True))
    return terms


def additive(terms):
    return lambda config: 5.0 + sum(terms[name][config[name]] for name in terms)


def interacting(config):
    """Wide networks want small steps, narrow ones large: no level is best by itself."""
    wide = LEVELS["width"].index(config["width"]) - 1.5
    fast = LEVELS["learning_rate"].index(config["learning_rate"]) - 1.5
    return 5.0 + wide * fast


def search(space=SPACE, seed=0, **options):
    return OatSearch(space, seed, OatOptions(**options))


def run(searcher, value_of):
    """Ask until it waits or ends, then tell all: the configs in the order of asking."""
    asked, told = [], 0
    while True:
        answer = searcher.ask(str(len(asked)))
        if isinstance(answer, dict):
            asked.append(answer)
        elif answer is WAIT:
            assert told < len(asked), "it waits for nothing"
            for n in range(told, len(asked)):
                searcher.tell(str(n), value_of(asked[n]))
            told = len(asked)
        else:
            for n in range(told, len(asked)):
                searcher.tell(str(n), value_of(asked[n]))
            return asked


def true_optimum(value_of):
    return min((dict(zip(LEVELS, c, strict=True)) for c in itertools.product(*LEVELS.values())), key=value_of)


@pytest.mark.parametrize("seed", range(8))
def test_an_additive_value_is_minimised_by_the_last_trial(seed):
    value_of = additive(effects(seed))
    searcher = search(seed=seed)
    asked = run(searcher, value_of)
    best = true_optimum(value_of)
    assert best in asked
    assert best == asked[-1] or best in asked[:-1]
    analysis = searcher.analysis()
    assert analysis.optimum == best
    assert analysis.confirmed == value_of(best)
    assert analysis.predicted == pytest.approx(value_of(best), rel=1e-12)


def test_the_optimum_is_not_among_the_rows_by_luck():
    # Else the tests above would never see a confirmation trial.
    confirmed = [len(run(search(seed=s), additive(effects(s)))) - len(search(seed=s)._configs) for s in range(8)]
    assert 1 in confirmed
    assert set(confirmed) <= {0, 1}


def test_all_rows_are_proposed_before_any_is_told_and_then_it_waits():
    searcher = search()
    rows = [searcher.ask(str(n)) for n in range(16)]
    assert all(isinstance(row, dict) for row in rows)
    assert searcher.ask("16") is WAIT
    for n, row in enumerate(rows[:-1]):
        searcher.tell(str(n), additive(effects())(row))
    assert searcher.ask("16") is WAIT
    searcher.tell("15", None)
    assert isinstance(searcher.ask("16"), dict)
    assert searcher.ask("17") is None, "one confirmation trial, whether it has ended or not"


@pytest.mark.parametrize("space", [SPACE, {name: SPACE[name] for name in ("width", "n_layers", "activation")}])
@pytest.mark.parametrize("seed", range(4))
def test_differences_of_means_are_the_effects_of_an_additive_value(space, seed):
    # 4, 3, 2 levels: of 16 rows some coincide; trained once, they must count as often as they stand in the array.
    terms = {name: t for name, t in effects(seed).items() if name in space}
    searcher = search(space, seed=seed)
    asked = run(searcher, additive(terms))
    assert len({tuple(config.values()) for config in asked}) == len(asked), "no config is trained twice"
    for found in searcher.analysis().hyperparameters:
        expected = [terms[found.name][level] for level in found.levels]
        assert np.subtract(found.means, found.means[0]) == pytest.approx(np.subtract(expected, expected[0]), abs=1e-12)
        assert found.range == pytest.approx(WEIGHTS[found.name])
        assert searcher.analysis().optimum[found.name] == min(terms[found.name], key=terms[found.name].get)


def test_rows_that_coincide_are_trained_once_and_count_in_the_prediction():
    searcher = search({name: SPACE[name] for name in ("width", "n_layers", "activation")})
    assert searcher._copies.sum() == 16
    assert len(searcher._configs) < 16
    run(searcher, lambda c: c["width"] * c["n_layers"] ** (c["activation"] == "relu"))
    values = [searcher._values[searcher._trial_of[row]] for row in range(len(searcher._configs))]
    mean = np.average(values, weights=searcher._copies)
    analysis = searcher.analysis()
    assert analysis.unexplained > 0.01, "else the weights would not matter"
    assert analysis.predicted == pytest.approx(mean + sum(min(h.means) - mean for h in analysis.hyperparameters))


def test_hyperparameters_are_ordered_by_importance():
    searcher = search()
    run(searcher, additive(effects()))
    names = [h.name for h in searcher.analysis().hyperparameters]
    assert names == sorted(WEIGHTS, key=WEIGHTS.get, reverse=True)


@pytest.mark.parametrize("seed", range(4))
def test_the_check_sees_an_interaction_and_none_in_an_additive_value(seed):
    searcher = search(seed=seed)
    run(searcher, additive(effects(seed)))
    analysis = searcher.analysis()
    assert analysis.unexplained == pytest.approx(0.0, abs=1e-20)
    assert analysis.interactions is False

    searcher = search(seed=seed)
    run(searcher, interacting)
    analysis = searcher.analysis()
    assert analysis.unexplained > 0.5
    assert analysis.interactions is True
    assert abs(analysis.confirmed - analysis.predicted) > 1.0


def test_equal_values_leave_nothing_to_explain():
    searcher = search()
    run(searcher, lambda config: 0.1)
    analysis = searcher.analysis()
    assert analysis.unexplained == 0.0
    assert analysis.predicted == pytest.approx(0.1)


def test_an_array_without_spare_runs_cannot_tell_of_interactions():
    space = {name: Choice(values=(0, 1)) for name in "abc"}  # 4 runs for 1 + 3 terms
    searcher = search(space)
    run(searcher, lambda c: c["a"] * c["b"])
    analysis = searcher.analysis()
    assert analysis.unexplained is None
    assert analysis.interactions is None


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_a_level_whose_runs_all_failed_does_not_win(offset):
    terms = effects()
    terms["width"] = {level: offset + term for level, term in terms["width"].items()}
    terms["learning_rate"][1e-1] = -100.0  # it would win if failures counted as 0, or as anything else
    value_of = additive(terms)
    searcher = search()
    run(searcher, lambda c: None if c["learning_rate"] == 1e-1 else value_of(c))
    analysis = searcher.analysis()
    (rates,) = [h for h in analysis.hyperparameters if h.name == "learning_rate"]
    assert rates.means[rates.levels.index(1e-1)] is None
    # All the runs of one level less, and the others are still orthogonal.
    assert analysis.optimum == true_optimum(lambda c: np.inf if c["learning_rate"] == 1e-1 else value_of(c))
    assert analysis.confirmed == pytest.approx(analysis.predicted)


def test_a_failed_run_is_left_out_of_the_means():
    value_of, failed = additive(effects()), []

    def first_fails(config):
        failed[:] = failed or [config]
        return None if config == failed[0] else value_of(config)

    searcher = search()
    rows = run(searcher, first_fails)[:16]
    for found in searcher.analysis().hyperparameters:
        for level, mean in zip(found.levels, found.means, strict=True):
            alive = [value_of(r) for r in rows if r[found.name] == level and r != failed[0]]
            assert len(alive) < 16
            assert mean == pytest.approx(np.mean(alive))
    # The additive model needs no balance: it is exact on the other 15 runs too.
    assert searcher.analysis().predicted == pytest.approx(value_of(searcher.analysis().optimum))


def test_nothing_is_left_to_propose_if_all_rows_failed():
    searcher = search()
    assert len(run(searcher, lambda config: None)) == 16
    assert searcher.ask("16") is None
    with pytest.raises(ValueError, match="no row of the orthogonal array has a value yet"):
        searcher.analysis()


def test_an_optimum_that_is_a_row_is_not_trained_again():
    space = {"n_layers": SPACE["n_layers"], "activation": SPACE["activation"]}  # 6 runs: every config
    value_of = additive({name: effects()[name] for name in space})
    searcher = search(space)
    asked = run(searcher, value_of)
    assert len(asked) == 6
    assert searcher.ask("6") is None
    assert searcher.analysis().confirmed == min(map(value_of, asked))


def test_a_failed_confirmation_ends_the_search_without_a_confirmed_value():
    value_of = additive(effects(1))
    best = true_optimum(value_of)
    searcher = search()
    assert best not in searcher._configs
    assert len(run(searcher, lambda c: None if c == best else value_of(c))) == 17
    assert searcher.ask("17") is None
    assert searcher.analysis().confirmed is None


@pytest.mark.parametrize("n_asked", range(18))
def test_a_history_cut_anywhere_is_continued_exactly(n_asked):
    terms, order = effects(1), random.Random(n_asked)

    def value_of(config):
        return None if (config["width"], config["n_layers"]) == (16, 2) else additive(terms)(config)

    undisturbed = search()
    trials = run(undisturbed, value_of)
    assert len(trials) == 17, "16 rows and a confirmation trial, which is asked for when all rows have ended"
    finished = [order.random() < 0.5 or (n < 16 and n_asked == 17) for n in range(n_asked)]
    searcher = search()
    searcher.replay(
        [PastTrial(str(n), trials[n], done, value_of(trials[n]) if done else None) for n, done in enumerate(finished)]
    )
    for n in range(n_asked, 16):
        assert searcher.ask(str(n)) == trials[n]
    if n_asked < 16 or not all(finished[:16]):
        assert searcher.ask("16") is WAIT
    for n, config in enumerate(trials[:16]):
        if n >= n_asked or not finished[n]:
            searcher.tell(str(n), value_of(config))
    if n_asked < 17:
        assert searcher.ask("16") == trials[16]
    assert searcher.ask("17") is None
    searcher.tell("16", value_of(trials[16]))
    assert searcher.analysis() == undisturbed.analysis()


def test_a_history_of_another_space_is_refused():
    config = {"activation": "relu", "width": 17, "n_layers": 1, "learning_rate": 1e-3}
    with pytest.raises(ValueError, match=re.escape("trial 0 is no row of this orthogonal array: {'activation'")):
        search().replay([PastTrial("0", config, False, None)])


def test_the_seed_sets_the_order_and_which_level_is_which():
    value_of = additive(effects())
    orders = [run(search(seed=seed), value_of) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    rows = [{tuple(c.values()) for c in order[:16]} for order in orders]
    assert rows[0] != rows[2]


def test_a_range_of_one_value_is_a_constant():
    space = {"x": Float(low=0.5, high=0.5), "n": Int(low=3, high=3), "c": Choice(values=("p", "q"))}
    searcher = search(space)
    asked = run(searcher, lambda c: 1.0 if c["c"] == "p" else 2.0)
    assert sorted(asked, key=str) == [{"x": 0.5, "n": 3, "c": "p"}, {"x": 0.5, "n": 3, "c": "q"}]
    assert searcher.analysis().hyperparameters[0].name == "c"
    assert searcher.analysis().hyperparameters[-1].range == 0.0


def test_options_reach_the_array():
    with pytest.raises(ValueError, match="levels 2, 4, 3, 4 take an orthogonal array of 16 runs, but max_runs is 9"):
        search(max_runs=9)
    searcher = search(balanced=True)
    assert len(searcher._configs) == 48
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        OatOptions(balance=True)


def test_the_explanation_names_the_most_important_hyperparameter_first_and_says_how_the_optimum_did():
    value_of = additive(effects())
    searcher = search()
    assert searcher.explanation() == []
    run(searcher, value_of)
    lines = searcher.explanation()
    assert [line.split(":")[0].strip() for line in lines[1:5]] == ["learning_rate", "width", "n_layers", "activation"]
    analysis = searcher.analysis()
    assert f"predicted {analysis.predicted:.4g}, trained to {value_of(analysis.optimum):.4g}" in lines[5]
    assert lines[6].endswith("no sign of interactions")


def test_the_explanation_warns_of_interactions():
    searcher = search()
    run(searcher, interacting)
    assert searcher.explanation()[-1].endswith("hyperparameters interact, or values are noisy")


# A width for each layer that there is: 3 x ... of 4 levels each, 25 rows, two pairs of which become equal.
CONDITIONAL = {
    "n_layers": Int(low=1, high=3),
    "width_1": Int(low=16, high=128, log=True),
    "width_2": Int(low=16, high=128, log=True, when={"n_layers": (2, 3)}),
    "width_3": Int(low=16, high=128, log=True, when={"n_layers": (3,)}),
    "activation": Choice(values=("relu", "tanh", "gelu")),
    "learning_rate": Float(low=1e-4, high=1e-1, log=True),
}


def conditional_value(seed):
    """A constant and a term for each hyperparameter that exists; and the best config by trying all 1,008."""
    rng = np.random.default_rng(seed)
    terms = {name: dict(zip(r.grid_values, 3 * rng.random(len(r.grid_values)))) for name, r in CONDITIONAL.items()}

    def value_of(config):
        return 5.0 + sum(terms[name][value] for name, value in config.items())

    grid = LevelGrid(CONDITIONAL)
    return value_of, min(map(grid.config, range(grid.size)), key=value_of)


@pytest.mark.parametrize("seed", range(8))
def test_the_best_config_of_an_additive_value_is_found_where_hyperparameters_are_conditional(seed):
    # The smallest means alone find it in 40 % of such cases.
    value_of, best = conditional_value(seed)
    searcher = search(CONDITIONAL, seed=seed)
    asked = run(searcher, value_of)
    assert best in asked
    analysis = searcher.analysis()
    assert analysis.optimum == best
    assert analysis.predicted == pytest.approx(value_of(best), rel=1e-9)
    assert analysis.confirmed == value_of(best)
    assert analysis.interactions is False


@pytest.mark.parametrize("seed", range(4))
def test_rows_without_what_does_not_exist_are_trained_once_and_counted(seed):
    searcher = search(CONDITIONAL, seed=seed)
    value_of, _ = conditional_value(seed)
    rows = run(searcher, value_of)[: len(searcher._configs)]
    assert searcher._copies.sum() == 25
    assert len({tuple(row.items()) for row in rows}) == len(rows) < 25
    for row in rows:
        widths = [f"width_{k}" for k in range(1, row["n_layers"] + 1)]
        assert list(row) == ["n_layers", *widths, "activation", "learning_rate"]
    # Means by hand, over the runs in which the hyperparameter exists.
    for found in searcher.analysis().hyperparameters:
        for level, mean in zip(found.levels, found.means, strict=True):
            here = [
                value_of(row)
                for row, copies in zip(rows, searcher._copies, strict=True)
                for _ in range(copies)
                if row.get(found.name) == level
            ]
            assert mean == pytest.approx(np.mean(here))


def test_a_hyperparameter_that_exists_in_no_run_has_no_means_and_does_no_harm():
    # Levels 1 and 3 alone, so that nothing has two layers.
    space = {
        "n_layers": Int(low=1, high=3, levels=(1, 3)),
        "width_2": Int(low=1, high=4, when={"n_layers": (2,)}),
        "activation": Choice(values=("relu", "tanh")),
    }
    searcher = search(space)
    asked = run(searcher, lambda c: c["n_layers"] + (c["activation"] == "relu"))
    assert sorted(map(str, asked)) == sorted(
        str({"n_layers": n, "activation": a}) for n, a in itertools.product((1, 3), ("relu", "tanh"))
    )
    analysis = searcher.analysis()
    assert analysis.optimum == {"n_layers": 1, "activation": "tanh"}
    (never,) = [h for h in analysis.hyperparameters if h.name == "width_2"]
    assert (never.means, never.range) == ((None,) * 4, 0.0)
    assert "  width_2: 1: -, 2: -, 3: -, 4: -" in searcher.explanation()


def test_a_layer_whose_runs_all_failed_is_not_in_the_optimum():
    value_of, _ = conditional_value(0)
    searcher = search(CONDITIONAL)
    run(searcher, lambda c: None if c["n_layers"] == 3 else value_of(c) - 10 * c["n_layers"])
    analysis = searcher.analysis()
    assert analysis.optimum["n_layers"] == 2
    assert analysis.confirmed == pytest.approx(analysis.predicted)


@pytest.mark.parametrize("n_asked", [0, 1, 7, 20, 23, 24])
def test_a_conditional_history_cut_anywhere_is_continued_exactly(n_asked):
    value_of, _ = conditional_value(1)
    trials = run(search(CONDITIONAL), value_of)
    n_asked = min(n_asked, len(trials))
    searcher = search(CONDITIONAL)
    searcher.replay([PastTrial(str(n), c, True, value_of(c)) for n, c in enumerate(trials[:n_asked])])
    for n, config in enumerate(trials[n_asked:], n_asked):
        assert searcher.ask(str(n)) == config
        searcher.tell(str(n), value_of(config))
    assert searcher.ask("end") is None


def test_a_conditional_space_that_takes_too_many_runs_is_refused():
    with pytest.raises(
        ValueError, match="levels 3, 4, 4, 4, 3, 4 take an orthogonal array of 25 runs, but max_runs is 24"
    ):
        search(CONDITIONAL, max_runs=24)
