"""Samplers of other people: by "package:Class" in a study file, as an object in Python."""

import optuna
import pytest
from pydantic import ValidationError

from dftune.searchers.optuna_search import OptunaOptions, OptunaSearch
from dftune.searchers.pruned_search import PrunedOptions, PrunedSearch
from dftune.searchers.searcher import PastTrial, SearchError
from dftune.searchers.space import Choice, Float, Int
from dftune.tests.searchers.foreign_sampler import Counting, NearTheBest

SPACE = {"x": Float(low=0, high=1), "n": Int(low=1, high=1000)}
MINE = "dftune.tests.searchers.foreign_sampler:NearTheBest"


def value_of(config):
    return (config["x"] - 0.3) ** 2 + config["n"] / 1000


def search(sampler=MINE, seed=0, space=SPACE, **options):
    options = options or ({"kept": "x"} if sampler == MINE else {})
    return OptunaSearch(space, seed, OptunaOptions(sampler=sampler, sampler_options=options))


def run(searcher, n, first=0):
    configs = []
    for trial in map(str, range(first, first + n)):
        configs.append(searcher.ask(trial))
        searcher.tell(trial, value_of(configs[-1]))
    return configs


def history_of(configs):
    return [PastTrial(str(n), config, True, value_of(config)) for n, config in enumerate(configs)]


# ---------------------------------------------------------------- by package and class


def test_a_class_of_a_package_proposes_with_its_options():
    configs = run(search(), 6)
    assert len({c["x"] for c in configs[:3]}) == 3
    for n in (3, 4, 5):
        assert configs[n]["x"] == min(configs[:n], key=value_of)["x"], "it learns what it is told"
    assert len({c["n"] for c in run(search(kept="x"), 6)}) == 6
    kept = run(search(kept="n"), 6)
    assert kept[5]["n"] == min(kept[:5], key=value_of)["n"]


def test_optunas_own_class_proposes_what_its_name_does():
    assert run(search("optuna.samplers:RandomSampler"), 6) == run(search("random"), 6)
    plain = {"multivariate": True, "n_startup_trials": 10}
    assert run(search("optuna.samplers:TPESampler", **plain), 14) == run(search("tpe"), 14)


def test_a_sampler_that_goes_through_all_configs_ends_the_search():
    space, brute = {"x": Choice(values=(0.1, 0.2, 0.4))}, "optuna.samplers:BruteForceSampler"

    def ask_all(searcher, history=()):
        searcher.replay(history)
        asked = []
        while (config := searcher.ask(str(len(history) + len(asked)))) is not None:
            asked.append(config)
            searcher.tell(str(len(history) + len(asked) - 1), config["x"])
        return asked

    def new():
        return OptunaSearch(space, 0, OptunaOptions(sampler=brute))

    asked = ask_all(new())
    assert sorted(c["x"] for c in asked) == [0.1, 0.2, 0.4]
    history = [PastTrial(str(n), c, True, c["x"]) for n, c in enumerate(asked)]
    assert ask_all(new(), history) == []
    assert ask_all(new(), history[:2]) == asked[2:]
    pruned = PrunedSearch(space, 0, lambda configs: [c["x"] for c in configs], PrunedOptions(sampler=brute))
    assert sorted(c["x"] for c in ask_all(pruned)) == [0.1, 0.2, 0.4]


@pytest.mark.parametrize("sampler", [MINE, "optuna.samplers:RandomSampler", "optuna.samplers:TPESampler"])
def test_equal_seeds_and_histories_propose_equal_configs(sampler):
    whole = run(search(sampler), 8)
    assert run(search(sampler), 8) == whole
    assert run(search(sampler, seed=1), 8) != whole
    again = search(sampler)
    again.replay(history_of(whole[:5]))
    assert run(again, 3, first=5) == whole[5:]


def test_a_seed_among_the_options_is_the_users():
    options = OptunaOptions(sampler=MINE, sampler_options={"kept": "x", "seed": 3})
    assert OptunaSearch(SPACE, 0, options).ask("0") == OptunaSearch(SPACE, 1, options).ask("0")


def test_conditional_hyperparameters_exist_where_their_conditions_say():
    space = SPACE | {"y": Float(low=0, high=1, when={"n": tuple(range(1, 500))})}
    configs = run(search(space=space), 12)
    assert all(("y" in c) == (c["n"] < 500) for c in configs)
    assert {("y" in c) for c in configs} == {True, False}


def test_it_can_be_pruned_by_a_score():
    options = PrunedOptions(sampler=MINE, sampler_options={"kept": "x"}, threshold=0.0)
    searcher = PrunedSearch(SPACE, 0, lambda configs: [1.0] * len(configs), options)
    assert run(searcher, 5) == run(search(), 5)
    assert searcher.least_trials == 1


@pytest.mark.parametrize(
    "sampler, options, text",
    [
        ("nothing_of_this_name:A", {}, "there is no module 'nothing_of_this_name'; install the package that has it"),
        ("optuna.nothing:A", {}, "there is no module 'optuna.nothing'; install the package that has it"),
        ("optuna.samplers:TPESampla", {}, "'optuna.samplers' has no class 'TPESampla'; did you mean 'TPESampler'?"),
        (MINE.replace("NearTheBest", "NoSampler"), {}, "foreign_sampler' is no subclass of BaseSampler"),
        ("math:sqrt", {}, "'sqrt' of 'math' is no subclass of BaseSampler"),
        (MINE, {"kepd": "x"}, "refuses its options {'kepd': 'x'}: TypeError: "),
        (MINE, {"kept": 3}, "refuses its options {'kept': 3}: TypeError: kept must be a name, not 3"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(sampler, options, text):
    with pytest.raises(SearchError) as error:
        search(sampler, **options)
    assert str(error.value).startswith(f"sampler '{sampler}'")
    assert text in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "options, text",
    [
        ({"sampler_options": {"seed": 3}}, "sampler_options belong to a sampler given as"),
        ({"sampler": MINE, "startup": 5}, "give the class's own in sampler_options"),
        ({"sampler": "my package:Class"}, "unknown sampler 'my package:Class'"),
        ({"sampler": "package:"}, "unknown sampler 'package:'"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, text):
    with pytest.raises(ValidationError, match=text):
        OptunaOptions(**options)


# ---------------------------------------------------------------- in Python


def test_a_factory_makes_a_sampler_for_each_proposal():
    def make(seed):
        return NearTheBest("x", seed)

    whole = run(OptunaSearch(SPACE, 0, sampler=make), 8)
    assert whole == run(search(), 8)
    again = OptunaSearch(SPACE, 0, sampler=make)
    again.replay(history_of(whole[:4]))
    assert run(again, 4, first=4) == whole[4:]


def test_an_instance_is_kept_for_the_search_and_the_users_own_is_not_touched():
    mine = Counting(seed=3)
    searcher = OptunaSearch(SPACE, 0, sampler=mine)
    configs = run(searcher, 5)
    assert len({c["x"] for c in configs}) == 5
    assert searcher._study.sampler.told == 5
    assert mine.told == 0
    assert run(OptunaSearch(SPACE, 1, sampler=mine), 5) == configs, "its seed is its own"


def test_an_instance_is_told_of_a_replayed_history():
    configs = run(OptunaSearch(SPACE, 0, sampler=Counting(seed=3)), 5)
    again = OptunaSearch(SPACE, 0, sampler=Counting(seed=4))
    again.replay(history_of(configs))
    assert again._study.sampler.told == 5
    assert [t.params for t in again._study.trials] == configs


def test_a_sampler_beside_options_is_refused():
    with pytest.raises(SearchError, match="give the sampler itself or options, not both"):
        OptunaSearch(SPACE, 0, OptunaOptions(), sampler=optuna.samplers.RandomSampler())
