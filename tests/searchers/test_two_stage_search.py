"""The score chooses the architecture, then Optuna the training hyperparameters."""

import math
import random

import pytest
from pydantic import ValidationError

from dftune.searchers.searcher import WAIT, PastTrial, SearchError
from dftune.searchers.space import Choice, Float, Int
from dftune.searchers.two_stage_search import TwoStageOptions, TwoStageSearch

SPACE = {
    "learning_rate": Float(low=1e-4, high=1e-2, log=True),
    "n_layers": Int(low=1, high=3),
    "optimizer": Choice(values=("adam", "sgd")),
    "width": Int(low=16, high=256, log=True),
    "activation": Choice(values=("relu", "tanh")),
    "batch_size": Int(low=64, high=512),
}
ARCHITECTURE = ("n_layers", "width", "activation")
MIDDLE = {"learning_rate": pytest.approx(1e-3), "optimizer": "adam", "batch_size": 288}


def badness(config):
    return (
        abs(math.log(config["width"] / 150)) + 0.3 * (config["activation"] == "tanh") + 0.2 * (3 - config["n_layers"])
    )


def value_of(config):
    return 0.3 + badness(config) + abs(math.log(config["learning_rate"] / 3e-3)) + 0.1 * (config["optimizer"] == "sgd")


def good_score(configs):
    return [-badness(c) for c in configs]


def seen(config):
    """What a score sees: the network."""
    return tuple((n, v) for n, v in config.items() if n in ARCHITECTURE or n.startswith("width_"))


def search(space=SPACE, scorer=good_score, seed=0, direction="published", seen=seen, **options):
    options = TwoStageOptions(**{"candidates": 40, **options})
    return TwoStageSearch(space, seed, scorer, options, direction=direction, seen=seen)


def run(searcher, n, value_of=value_of):
    """``n`` trials one after the other: their configs."""
    configs = []
    for trial in map(str, range(n)):
        configs.append(searcher.ask(trial))
        searcher.tell(trial, value_of(configs[-1]))
    return configs


def part(config, names=ARCHITECTURE):
    return {n: config[n] for n in names if n in config}


def rest(config):
    return {n: v for n, v in config.items() if n not in ARCHITECTURE}


# ---------------------------------------------------------------- the two stages


def test_the_score_is_asked_about_architectures_alone():
    seen = []

    def scorer(configs):
        seen.extend(configs)
        return good_score(configs)

    run(search(scorer=scorer), 8)
    assert len(seen) == 40
    assert all(tuple(c) == ARCHITECTURE for c in seen)
    assert len({tuple(c.items()) for c in seen}) == 40


def test_the_best_scored_architecture_is_trained_first_with_the_rest_in_the_middle():
    scored = []

    def scorer(configs):
        scored[:] = configs
        return good_score(configs)

    first = search(scorer=scorer).ask("0")
    assert part(first) == min(scored, key=badness)
    assert rest(first) == MIDDLE


def test_in_the_second_stage_the_architecture_stays_and_all_else_varies():
    configs = run(search(), 20)
    assert all(part(c) == part(configs[0]) for c in configs)
    assert len({c["learning_rate"] for c in configs}) == 20
    assert {c["optimizer"] for c in configs} == {"adam", "sgd"}
    for name, values in SPACE.items():
        assert all(values.holds(c[name]) for c in configs)


def test_configs_are_in_the_order_of_the_space_in_both_stages():
    assert all(list(c) == list(SPACE) for c in run(search(top=3), 12))


def test_optuna_learns_from_the_first_stage_and_from_its_own_trials():
    # Startup trials are random whatever was told; the one after them is not.
    told = run(search(startup=4), 8)
    first_other = run(search(startup=4), 8, lambda c: 0.0 if rest(c) == MIDDLE else value_of(c))
    assert told[:4] == first_other[:4]
    assert told[4:] != first_other[4:], "the trial of the first stage is the first that Optuna knows"
    late = run(search(startup=4), 40)[10:]
    assert sum(abs(math.log(c["learning_rate"] / 3e-3)) < 1 for c in late) > 18  # 13 of 30 by chance


def test_of_several_architectures_the_one_of_the_lowest_value_is_taken():
    # The score likes width 150, the trained value 16.
    searcher = search(top=4)
    configs = run(searcher, 12, lambda c: c["width"])
    assert len({tuple(part(c).items()) for c in configs[:4]}) == 4
    assert all(rest(c) == MIDDLE for c in configs[:4])
    narrowest = min(configs[:4], key=lambda c: c["width"])
    assert all(part(c) == part(narrowest) for c in configs[4:])


def test_it_waits_until_all_architectures_are_judged():
    searcher = search(top=3)
    configs = [searcher.ask(str(n)) for n in range(3)]
    assert searcher.ask("3") is WAIT
    searcher.tell("1", 2.0)
    searcher.tell("0", 1.0)
    assert searcher.ask("3") is WAIT
    searcher.tell("2", None)
    assert part(searcher.ask("3")) == part(configs[0])


def test_one_architecture_alone_is_not_waited_for():
    searcher = search()
    first = searcher.ask("0")
    ahead = [searcher.ask(str(n)) for n in range(1, 4)]
    assert all(part(c) == part(first) and rest(c) != MIDDLE for c in ahead)
    searcher.tell("0", 1.0)
    searcher.tell("2", None)


def test_scores_under_way_make_it_wait():
    answers = iter([[None] * 40])
    searcher = search(scorer=lambda configs: next(answers, None) or good_score(configs))
    assert searcher.ask("0") is WAIT
    assert searcher.ask("0") == search().ask("0")


@pytest.mark.parametrize("sign", [1, -1])
def test_an_unknown_direction_is_learnt_in_the_first_stage(sign):
    # A score that points the right way or the wrong way leads to the same architecture.
    searcher = search(scorer=lambda configs: [sign * s for s in good_score(configs)], direction="auto")
    configs = run(searcher, 16)
    calibration = configs[:8]
    assert len({tuple(part(c).items()) for c in calibration}) == 8
    assert all(rest(c) == MIDDLE for c in calibration)
    second = [c for c in configs if rest(c) != MIDDLE]
    assert len(second) >= 6
    assert all(part(c) == min(map(part, configs), key=badness) for c in second)


def test_the_original_direction_takes_the_smallest_score():
    reversed_score = search(scorer=lambda configs: [badness(c) for c in configs], direction="original")
    assert run(reversed_score, 6) == run(search(), 6)


def test_architectures_that_fail_are_passed_over():
    searcher = search(top=3)
    failed = []
    for n in range(3):
        config = searcher.ask(str(n))
        searcher.tell(str(n), None if n < 2 else 5.0)
        failed += [part(config)] if n < 2 else []
    chosen = part(searcher.ask("3"))
    assert chosen not in failed


def test_failed_trials_of_the_second_stage_do_not_stop_it():
    configs = run(search(), 15, lambda c: None if c["optimizer"] == "sgd" else value_of(c))
    assert len(configs) == 15
    assert all(part(c) == part(configs[0]) for c in configs)


def test_the_search_goes_on_where_all_of_the_first_stage_failed():
    configs = run(search(top=2), 6, lambda c: None if rest(c) == MIDDLE else value_of(c))
    assert all(part(c) in map(part, configs[:2]) for c in configs)


def test_no_architecture_with_a_score_ends_the_search():
    assert search(scorer=lambda configs: [math.nan] * len(configs)).ask("0") is None


def test_the_user_may_say_what_the_architecture_is():
    seen = []

    def scorer(configs):
        seen.extend(configs)
        return [float(c["width"]) for c in configs]

    configs = run(search(scorer=scorer, architecture=("width",)), 12)
    assert all(tuple(c) == ("width",) for c in seen)
    assert len({c["width"] for c in configs}) == 1
    assert len({c["activation"] for c in configs}) == 2


def test_widths_of_single_layers_are_architecture():
    space = {"width_1": Int(low=4, high=64), "width_2": Int(low=4, high=64), "batch_size": Int(low=8, high=64)}
    configs = run(search(space, lambda cs: [float(c["width_1"] - c["width_2"]) for c in cs]), 6, lambda c: 1.0)
    assert len({(c["width_1"], c["width_2"]) for c in configs}) == 1
    assert len({c["batch_size"] for c in configs}) > 3


def test_a_score_that_sees_everything_leaves_optuna_nothing():
    with pytest.raises(SearchError, match="Optuna has nothing to choose"):
        search(seen=None)


def test_a_sampler_of_other_people_can_choose_the_training():
    foreign = run(search(sampler="optuna.samplers:RandomSampler"), 6)
    assert foreign[0] == run(search(sampler="random"), 1)[0]
    assert len({c["learning_rate"] for c in foreign}) == 6
    assert search(sampler="optuna.samplers:RandomSampler").least_trials == 1 + 1


# ---------------------------------------------------------------- conditions

CONDITIONAL = {
    "n_layers": Int(low=1, high=3),
    "width_2": Int(low=16, high=256, log=True, when={"n_layers": (2, 3)}),
    "optimizer": Choice(values=("adam", "adamw"), when={"n_layers": (2, 3)}),
    "weight_decay": Float(low=1e-6, high=1e-2, log=True, when={"optimizer": ("adamw",)}),
    "learning_rate": Float(low=1e-4, high=1e-2, log=True),
}


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_hyperparameters_exist_in_both_stages_where_their_conditions_say(n_layers):
    searcher = search(CONDITIONAL, lambda configs: [float(c["n_layers"] == n_layers) for c in configs])
    configs = run(searcher, 16, lambda c: abs(math.log(c["learning_rate"] / 1e-3)))
    for config in configs:
        assert config["n_layers"] == n_layers
        exists = {
            "n_layers": True,
            "width_2": n_layers >= 2,
            "optimizer": n_layers >= 2,
            "weight_decay": config.get("optimizer") == "adamw",
            "learning_rate": True,
        }
        assert list(config) == [name for name in CONDITIONAL if exists[name]]
    assert ("optimizer" in configs[0]) == (n_layers >= 2)
    assert "weight_decay" not in configs[0], "the middle of a choice is its first value, adam"
    assert len({c.get("optimizer") for c in configs}) == (2 if n_layers >= 2 else 1)


def test_a_condition_of_the_architecture_on_the_training_is_refused():
    space = {
        "optimizer": Choice(values=("adam", "sgd")),
        "width": Int(low=4, high=64),
        "n_layers": Int(low=1, high=3, when={"optimizer": ("adam",)}),
    }
    with pytest.raises(SearchError, match="'n_layers' depends on 'optimizer', which is chosen after it"):
        search(space, architecture=("width", "n_layers"))


def test_what_brings_the_architecture_into_being_belongs_to_it():
    # Another optimizer has another number of layers, which the score sees.
    space = {
        "optimizer": Choice(values=("adam", "sgd")),
        "width": Int(low=4, high=64),
        "n_layers": Int(low=1, high=3, when={"optimizer": ("adam",)}),
        "learning_rate": SPACE["learning_rate"],
    }
    asked = []

    def scorer(configs):
        asked.extend(configs)
        return [float(c["width"]) for c in configs]

    search(space, scorer).ask("0")
    assert {tuple(c) for c in asked} == {("optimizer", "width", "n_layers"), ("optimizer", "width")}


def test_a_condition_that_names_nothing_in_the_space_is_refused_at_once():
    space = SPACE | {"weight_decay": Float(low=0, high=1, when={"optimiser": ("adam",)})}
    with pytest.raises(ValueError, match="'weight_decay' names 'optimiser', which is not in the space; did you mean"):
        search(space)


# ---------------------------------------------------------------- replay


def score_of_layers(configs):
    return [-abs(math.log(c.get("width_2", 30) / 90)) + c["n_layers"] for c in configs]


def rate(config):
    return abs(math.log(config["learning_rate"] / 1e-3)) + config.get("width_2", 0) / 100


@pytest.mark.parametrize(
    "space, scorer, value_of",
    [(SPACE, good_score, value_of), (CONDITIONAL, score_of_layers, rate)],
    ids=["plain", "conditional"],
)
@pytest.mark.parametrize(
    "options",
    [{}, {"top": 4}, {"top": 2, "direction": "auto", "calibration": 5}, {"sampler": "random"}],
    ids=["one", "several", "calibrated", "random"],
)
def test_a_replay_at_any_cut_goes_on_as_the_undisturbed_search(space, scorer, value_of, options):
    # Up to three trials under way, ending in random order, some failed; a new session before each proposal.
    order, searcher = random.Random(3), search(space, scorer, **options)
    history, running, waited = {}, [], 0

    def end_one():
        ended = running.pop(order.randrange(len(running)))
        value = None if ended % 5 == 1 else value_of(history[ended].config)
        searcher.tell(str(ended), value)
        history[ended] = PastTrial(str(ended), history[ended].config, True, value)

    while len(history) < 20:
        n = len(history)
        again = search(space, scorer, **options)
        again.replay(list(history.values()))
        answer = searcher.ask(str(n))
        assert again.ask(str(n)) == answer
        if answer is WAIT:
            waited += 1
            end_one()
            continue
        history[n] = PastTrial(str(n), answer, False, None)
        running.append(n)
        if len(running) == 3:
            end_one()
    assert (waited > 0) == (options.get("top", 1) > 1)


def test_a_replayed_trial_under_way_is_told_to_optuna_when_it_ends():
    whole, again = search(startup=2), search(startup=2)
    configs = run(whole, 8)
    past = [PastTrial(str(n), c, n != 0, None if n == 0 else value_of(c)) for n, c in enumerate(configs)]
    again.replay(past)
    again.tell("0", value_of(configs[0]))
    assert again.ask("8") == whole.ask("8")


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "space, options, text",
    [
        (
            {"learning_rate": SPACE["learning_rate"], "batch_size": SPACE["batch_size"]},
            {},
            "the score has nothing to choose: learning_rate, batch_size are all of the training",
        ),
        (
            {"width": SPACE["width"], "n_layers": SPACE["n_layers"]},
            {},
            "Optuna has nothing to choose: width, n_layers are all of the architecture; add hyperparameters of the "
            "training to the space, or take the method without '>optuna'",
        ),
        (
            SPACE,
            {"architecture": ("width", "depth")},
            "architecture names 'depth', which is not in the space; there are learning_rate, n_layers, optimizer",
        ),
        (SPACE, {"architecture": tuple(SPACE)}, "Optuna has nothing to choose"),
    ],
)
def test_a_space_for_one_stage_only_is_refused(space, options, text):
    with pytest.raises(SearchError) as error:
        search(space, **options)
    assert text in str(error.value)
    assert "\n" not in str(error.value)


def test_options_that_do_not_exist_or_have_no_use_are_refused():
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        TwoStageOptions(tops=3)
    with pytest.raises(ValidationError, match="sampler 'qmc' does not learn"):
        TwoStageOptions(sampler="qmc", startup=3)
    with pytest.raises(ValidationError, match="sampler_options belong to a sampler given as"):
        TwoStageOptions(sampler_options={"seed": 3})


def test_it_needs_both_stages():
    assert search().least_trials == 1 + 5  # one architecture, four at random, one that has learnt
    assert search(top=4, startup=3).least_trials == 4 + 3
    assert search(direction="auto").least_trials == 8 + 1 + 5
    assert search(sampler="random").least_trials == 1 + 1
