"""Optuna pruned by a score: the learnt bar, the fixed one, and what is trained because of them."""

import itertools
import math
import random
import re

import numpy as np
import pytest
from pydantic import ValidationError

from dftune.searchers.optuna_search import OptunaOptions, OptunaSearch
from dftune.searchers.pruned_search import PrunedOptions, PrunedSearch, learnt_bar
from dftune.searchers.searcher import WAIT, PastTrial, Pruned, SearchError
from dftune.searchers.space import Choice, Float
from dftune.testing.searchers import PLAIN as SPACE

CONDITIONAL = SPACE | {
    "optimizer": Choice(values=("adam", "adamw")),
    "weight_decay": Float(low=1e-6, high=1e-2, log=True, when={"optimizer": ("adamw",)}),
}
LINE = {"x": Float(low=0, high=1)}
LEAST = 0.3  # of value_of


def badness(config):
    """How far an architecture is from the best."""
    return (
        abs(math.log(config["width"] / 150)) + 0.3 * (config["activation"] == "tanh") + 0.2 * (3 - config["n_layers"])
    )


def value_of(config):
    return LEAST + badness(config) + 0.3 * abs(math.log(config["learning_rate"] / 1e-3))


def good_score(configs):
    return [-badness(c) for c in configs]


def x_of(configs):
    return [c["x"] for c in configs]


class Late:
    """A scorer that has a score only when asked for the second time."""

    def __init__(self, scorer):
        self._scorer, self.seen = scorer, []

    def __call__(self, configs):
        scores = [s if c in self.seen else None for c, s in zip(configs, self._scorer(configs), strict=True)]
        self.seen += [c for c in configs if c not in self.seen]
        return scores


def search(space=SPACE, scorer=good_score, seed=0, n_objectives=1, **options):
    return PrunedSearch(space, seed, scorer, PrunedOptions(**options), n_objectives=n_objectives)


def run(searcher, n, value_of=value_of):
    """``n`` proposals, trained one after the other; pruned ones are not told."""
    answers = []
    for trial in map(str, range(n)):
        while (answer := searcher.ask(trial)) is WAIT:
            pass
        answers.append(answer)
        if not isinstance(answer, Pruned):
            searcher.tell(trial, value_of(answer))
    return answers


def trained(answers):
    return [a for a in answers if not isinstance(a, Pruned)]


def pruned(answers):
    return [a.config for a in answers if isinstance(a, Pruned)]


# ---------------------------------------------------------------- the rule


def permutation(n, inversions):
    """A ranking of n with so many pairs out of order."""
    left, found, rest = inversions, [], list(range(n))
    while rest:
        place = min(left, len(rest) - 1)
        left -= place
        found.append(rest.pop(place))
    return found


def rule_by_brute_force(pairs):
    """The rule by counting pairs, as a function of the score: Kendall's tau-b, its standard error, the best 30 %."""
    n = len(pairs)
    order = [((a > c) - (a < c)) * ((b < d) - (b > d)) for (a, b), (c, d) in itertools.combinations(pairs, 2)]
    untied = [sum(p[k] != q[k] for p, q in itertools.combinations(pairs, 2)) for k in (0, 1)]
    tau = sum(order) / math.sqrt(untied[0] * untied[1]) if all(untied) else 0.0
    if abs(tau) <= math.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1))):
        return lambda score: True
    n_best = next(k for k in range(n + 1) if 10 * k >= 3 * n)
    best = [s for s, _ in sorted(pairs, key=lambda pair: pair[1])[:n_best]]
    return lambda score: score >= min(best) if tau > 0 else score <= max(best)


@pytest.mark.parametrize("slope", [-1.0, -0.5, 0.0, 0.2, 1.0])
@pytest.mark.parametrize("n", [8, 9, 10, 25, 60])
def test_the_learnt_bar_is_the_rule_by_brute_force(n, slope):
    rng = np.random.default_rng([n, int(10 * (slope + 1))])
    for _ in range(20):
        scores = rng.normal(size=n)
        pairs = [(s, float(v)) for s, v in zip(scores.round(1).tolist(), -slope * scores + rng.normal(size=n))]
        bar = learnt_bar(pairs)
        tries = [s for s, _ in pairs] + rng.normal(size=10).tolist()
        assert list(map(bar.passes, tries)) == list(map(rule_by_brute_force(pairs), tries))


def test_below_the_worst_score_of_the_best_three_of_ten_is_pruned():
    bar = learnt_bar([(float(n), 10.0 - n) for n in range(10)])
    assert [n for n in range(10) if bar.passes(n)] == [7, 8, 9]
    assert bar.passes(7.0)
    assert not bar.passes(np.nextafter(7.0, 0))


def test_a_score_that_points_the_other_way_prunes_above():
    bar = learnt_bar([(float(n), float(n)) for n in range(10)])
    assert [n for n in range(10) if bar.passes(n)] == [0, 1, 2]


def test_one_poorly_scored_trial_among_the_best_lowers_the_bar_to_it():
    scores, values = [9.0, 8.0, 1.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 0.0], range(10)
    bar = learnt_bar(list(zip(scores, map(float, values), strict=True)))
    assert [n for n in range(10) if not bar.passes(n)] == [0]


@pytest.mark.parametrize("inversions, useful", [(9, True), (10, False), (18, False), (19, True)])
def test_there_is_a_bar_only_while_tau_exceeds_its_standard_error(inversions, useful):
    # n = 8: tau = 1 - inversions / 14, standard error 0.289; 9 of 28 give 0.357, 10 give 0.286, 18 give -0.286.
    pairs = [(-float(s), float(v)) for v, s in enumerate(permutation(8, inversions))]
    bar = learnt_bar(pairs)
    assert bar.tau == pytest.approx(1 - inversions / 14)
    assert (not all(bar.passes(s) for s in np.linspace(-20, 20, 81))) == useful


@pytest.mark.parametrize("pairs", [[(1.0, float(n)) for n in range(20)], [(float(n), 1.0) for n in range(20)]])
def test_equal_scores_or_equal_values_give_no_bar(pairs):
    bar = learnt_bar(pairs)
    assert bar.passes(-1e9)
    assert bar.passes(1e9)


@pytest.mark.parametrize("warmup", [3, 8, 12])
def test_fewer_trials_than_the_warmup_give_no_bar(warmup):
    pairs = [(float(n), -float(n)) for n in range(warmup)]
    assert learnt_bar(pairs[:-1], warmup).passes(-1.0)
    assert not learnt_bar(pairs, warmup).passes(-1.0)


# ---------------------------------------------------------------- what is trained


def test_the_warmup_is_trained_and_then_what_the_score_rules_out_is_not():
    answers = run(search(LINE, x_of, warmup=8, sampler="random"), 60, lambda c: -c["x"])
    assert pruned(answers[:8]) == []
    assert 20 < len(pruned(answers)) < 45
    for n in range(8, 60):
        known = sorted((c["x"] for c in trained(answers[:n])), reverse=True)
        bar = known[math.ceil(0.3 * len(known)) - 1]
        ruled_out = (answers[n].config if isinstance(answers[n], Pruned) else answers[n])["x"] < bar
        assert ruled_out or not isinstance(answers[n], Pruned)
        assert not ruled_out or isinstance(answers[n], Pruned) or n in LET_THROUGH


LET_THROUGH = {n for n in range(60) if np.random.default_rng([0, 2, n]).random() < 0.05}


def test_one_in_twenty_of_those_ruled_out_is_trained_all_the_same():
    shares = []
    for seed in range(3):
        searcher = search(LINE, x_of, seed, warmup=8, sampler="random", lookahead=1)
        run(searcher, 8, lambda c: -c["x"])
        first = sorted(c["x"] for c in searcher._configs.values())
        later = [searcher.ask(str(n)) for n in range(8, 800)]  # told of nothing, so that the bar stays
        below = [a for a in later if isinstance(a, Pruned) or a["x"] < first[-3]]
        assert len(below) > 300
        shares.append(1 - len(pruned(below)) / len(below))
    assert np.mean(shares) == pytest.approx(0.05, abs=0.015)
    assert len(set(shares)) == 3


def test_a_score_and_its_opposite_prune_the_same():
    answers = run(search(), 40)
    assert run(search(scorer=lambda configs: [-s for s in good_score(configs)]), 40) == answers
    assert len(pruned(answers)) > 5


def test_a_score_of_one_for_all_prunes_nothing_and_leaves_optuna_as_it_is():
    answers = run(search(scorer=lambda configs: [1.0] * len(configs)), 20)
    assert answers == run(OptunaSearch(SPACE, 0, OptunaOptions()), 20)


def test_with_an_informative_score_the_same_training_finds_better_networks():
    regrets, n = [], 30
    for seed in range(4):
        plain = run(OptunaSearch(SPACE, seed, OptunaOptions()), n)
        answers, searcher = [], search(seed=seed, lookahead=1)
        while len(trained(answers)) < n:
            answers.append(searcher.ask(str(len(answers))))
            if not isinstance(answers[-1], Pruned):
                searcher.tell(str(len(answers) - 1), value_of(answers[-1]))
        regrets.append([min(map(value_of, configs)) - LEAST for configs in (plain, trained(answers))])
    plain, ours = np.mean(regrets, axis=0)
    assert ours < 0.65 * plain  # 0.10 and 0.21 over 12 seeds


def test_a_config_without_a_score_is_trained_only_while_there_is_no_bar():
    def half(configs):
        return [math.nan if c["x"] < 0.5 else c["x"] for c in configs]

    answers = run(search(LINE, half, warmup=6, sampler="random"), 80, lambda c: -c["x"])
    first = next(n for n, a in enumerate(answers) if isinstance(a, Pruned))
    assert any(c["x"] < 0.5 for c in answers[:first])
    assert sum(c["x"] >= 0.5 for c in answers[:first]) >= 6, "trials without a score do not count for the bar"
    nans = [n for n in range(first, 80) if not isinstance(answers[n], Pruned) and answers[n]["x"] < 0.5]
    assert all(np.random.default_rng([0, 2, n]).random() < 0.05 for n in nans)


def test_failed_trials_do_not_count_for_the_bar():
    searcher = search(LINE, x_of, warmup=4, sampler="random")
    answers = run(searcher, 40, lambda c: None if c["x"] > 0.5 else -c["x"])
    first = next(n for n, a in enumerate(answers) if isinstance(a, Pruned))
    assert sum(c["x"] <= 0.5 for c in answers[:first]) >= 4


# ---------------------------------------------------------------- the fixed threshold


def test_a_threshold_prunes_below_it_or_above_it_from_the_first_candidate_on():
    options = {"threshold": 0.4, "sampler": "random"}
    below = run(search(LINE, x_of, **options), 60, lambda c: c["x"])
    above = run(search(LINE, x_of, direction="original", **options), 60, lambda c: c["x"])
    assert all(c["x"] >= 0.4 for c in trained(below))
    assert all(c["x"] < 0.4 for c in pruned(below))
    assert trained(below) == pruned(above), "of equal candidates the one trains what the other prunes"
    assert pruned(below) == trained(above)


def test_the_published_direction_is_the_default_of_a_threshold():
    options = {"threshold": 0.4, "sampler": "random"}
    first, second = search(LINE, x_of, **options), search(LINE, x_of, direction="published", **options)
    assert run(first, 30, lambda c: c["x"]) == run(second, 30, lambda c: c["x"])


def test_a_threshold_that_prunes_everything_is_said_with_the_scores_seen():
    searcher = search(LINE, x_of, threshold=5.0, most_pruned=30)
    answers = [searcher.ask(str(n)) for n in range(30)]
    scores = sorted(c["x"] for c in pruned(answers))
    assert len(scores) == 30
    with pytest.raises(SearchError) as error:
        searcher.ask("30")
    assert str(error.value) == (
        f"threshold 5 pruned all of 30 candidates, whose scores lie between {scores[0]:.5g} and {scores[-1]:.5g}; "
        "choose a threshold between the scores, or leave it out to have it learnt"
    )


def test_a_threshold_on_scores_that_do_not_exist_is_said():
    searcher = search(LINE, lambda configs: [math.nan] * len(configs), threshold=0.0, most_pruned=5)
    for n in range(5):
        assert isinstance(searcher.ask(str(n)), Pruned)
    with pytest.raises(SearchError, match="pruned all of 5 candidates, none of which has a score; choose"):
        searcher.ask("5")


def test_many_pruned_in_a_row_after_one_that_was_trained_end_the_search_quietly():
    seen = itertools.count()
    searcher = search(LINE, lambda configs: [-float(next(seen)) for _ in configs], threshold=-0.5, lookahead=1,
                      most_pruned=7)  # fmt: skip
    assert isinstance(searcher.ask("0"), dict)
    assert all(isinstance(searcher.ask(str(n)), Pruned) for n in range(1, 8))
    assert searcher.ask("8") is None
    assert searcher.ask("8") is None


# ---------------------------------------------------------------- never idle


def test_a_score_under_way_makes_it_wait_and_no_longer():
    late = Late(good_score)
    searcher = search(scorer=late, lookahead=4)
    assert searcher.ask("0") is WAIT
    for n in range(4):  # the others were scored with the first
        assert isinstance(searcher.ask(str(n)), dict), "without anything being told"
        assert len(late.seen) == 4
    assert searcher.ask("4") is WAIT


def test_no_more_is_asked_of_optuna_than_needed_while_scores_are_there_at_once():
    searcher = search(lookahead=50)
    run(searcher, 12)
    assert len(searcher._inner._study.trials) == 12


def test_how_far_is_scored_ahead_does_not_change_the_search():
    assert run(search(scorer=Late(good_score), lookahead=7), 30) == run(search(lookahead=1), 30)


def test_candidates_asked_ahead_are_replaced_when_there_is_more_to_learn_from():
    nexts = []
    for value in (0.0, 100.0):  # the best trial so far, or the worst
        searcher = search(lookahead=6, scorer=Late(good_score))
        run(searcher, 12)
        assert searcher.ask("12") is WAIT
        assert isinstance(searcher.ask("12"), dict)
        before = list(searcher._ahead)
        assert len(before) == 5
        searcher.tell("12", value)
        assert searcher.ask("13") is WAIT
        nexts.append(list(searcher._ahead))
        assert nexts[-1][:5] != before
    assert nexts[0] != nexts[1]


def test_a_sampler_that_does_not_learn_keeps_what_it_asked_ahead():
    searcher = search(sampler="qmc", lookahead=5, scorer=Late(good_score))
    assert searcher.ask("0") is WAIT
    first = searcher.ask("0")
    ahead = list(searcher._ahead)
    searcher.tell("0", value_of(first))
    assert [searcher.ask(str(n)) for n in range(1, 5)] == ahead


# ---------------------------------------------------------------- replay


@pytest.mark.parametrize(
    "options",
    [{"warmup": 5}, {"warmup": 5, "sampler": "random"}, {"threshold": -0.9}, {"warmup": 5, "space": CONDITIONAL}],
    ids=["tpe", "random", "fixed", "conditional"],
)
def test_a_replay_at_any_cut_goes_on_as_the_undisturbed_search(options):
    # Three trials under way, ending in random order, every fifth failed; a new session before each proposal.
    order, searcher = random.Random(2), search(lookahead=4, **options)
    history, running, trailing = {}, [], 0
    for n in range(28):
        answer = searcher.ask(str(n))
        for scorer in (good_score, Late(good_score)):  # its scores come at once, or late
            again = search(scorer=scorer, lookahead=4, **options)
            again.replay(list(history.values()))
            while (continued := again.ask(str(n))) is WAIT:
                pass
            assert continued == answer
        trailing += n > 0 and history[n - 1].pruned
        if isinstance(answer, Pruned):
            history[n] = PastTrial(str(n), answer.config, True, None, pruned=True)
            continue
        history[n] = PastTrial(str(n), answer, False, None)
        running.append(n)
        if len(running) == 3:
            ended = running.pop(order.randrange(3))
            value = None if ended % 5 == 0 else value_of(history[ended].config)
            searcher.tell(str(ended), value)
            history[ended] = PastTrial(str(ended), history[ended].config, True, value)
    assert trailing >= 3, "cuts right after a pruned candidate"


def test_scores_of_an_earlier_session_that_are_not_known_yet_are_waited_for():
    whole = search()
    answers = run(whole, 8)
    late = [answers[0]]
    again = search(scorer=lambda configs: [None if c in late else s for c, s in zip(configs, good_score(configs))])
    again.replay([PastTrial(str(n), c, True, value_of(c)) for n, c in enumerate(answers)])
    assert again.ask("8") is WAIT
    assert again.explanation()[0].endswith("now the scores of some trained trials are not known")
    late.clear()
    assert again.ask("8") == whole.ask("8")


def test_pruned_candidates_of_an_earlier_session_count_towards_the_end():
    first, second = (search(LINE, x_of, threshold=5.0, most_pruned=6) for _ in range(2))
    history = [PastTrial(str(n), first.ask(str(n)).config, True, None, pruned=True) for n in range(4)]
    second.replay(history)
    assert isinstance(second.ask("4"), Pruned)
    assert isinstance(second.ask("5"), Pruned)
    with pytest.raises(SearchError, match="pruned all of 6 candidates"):
        second.ask("6")


# ---------------------------------------------------------------- value and cost


def test_value_and_cost_are_weighed_and_the_value_alone_is_judged_by_the_score():
    searcher = search(n_objectives=2, seed=1, lookahead=1)
    n_pruned = 0
    for n in range(40):
        answer = searcher.ask(str(n))
        if isinstance(answer, Pruned):
            n_pruned += 1
        else:
            searcher.tell(str(n), value_of(answer), float(answer["width"]))
    assert n_pruned > 5
    study = searcher._inner._study
    assert len(study.directions) == 2
    told = [t for t in study.trials if t.values is not None]
    assert all(t.values == [value_of(t.params), t.params["width"]] for t in told)


# ---------------------------------------------------------------- what it says


def test_it_says_how_many_were_pruned_and_by_which_bar():
    searcher = search(LINE, x_of, warmup=8, sampler="random")
    assert searcher.explanation() == []
    answers = run(searcher, 8, lambda c: -c["x"])
    bar = sorted(c["x"] for c in trained(answers))[-3]
    assert searcher.explanation() == [
        f"0 of 8 candidates pruned by their score; now those below {bar:.5g} are pruned (τ +1.00)"
    ]
    assert isinstance(next(a for a in map(searcher.ask, map(str, range(8, 40))) if isinstance(a, Pruned)), Pruned)
    assert re.match(r"1 of \d+ candidates pruned", searcher.explanation()[0])


def test_it_says_that_a_useless_score_prunes_nothing():
    searcher = search(LINE, lambda configs: [0.0] * len(configs))
    run(searcher, 9, lambda c: c["x"])
    assert searcher.explanation() == [
        "0 of 9 candidates pruned by their score; now all are trained (τ +0.00 says nothing)"
    ]


def test_a_fixed_bar_is_said_with_its_side():
    for direction, side in (("published", "below"), ("original", "above")):
        searcher = search(LINE, x_of, threshold=0.5, direction=direction)
        searcher.ask("0")
        assert searcher.explanation()[0].endswith(f"candidates pruned by their score; now those {side} 0.5 are pruned")


@pytest.mark.parametrize(
    "options, text",
    [
        ({"direction": "original"}, "direction belongs to a fixed threshold"),
        ({"threshold": 1.0, "warmup": 8}, "warmup belongs to a learnt bar"),
        ({"threshold": math.nan}, "finite number"),
        ({"warmup": 2}, "greater than or equal to 3"),
        ({"lookahead": 0}, "greater than or equal to 1"),
        ({"tolerance": 1}, "Extra inputs are not permitted"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, text):
    with pytest.raises(ValidationError, match=text):
        PrunedOptions(**options)


def test_it_needs_a_trial_beyond_the_warmup():
    assert search().least_trials == 9
    assert search(warmup=4).least_trials == 5
    assert search(threshold=0.0).least_trials == 11, "Optuna's own"
    assert search(threshold=0.0, sampler="random").least_trials == 1
