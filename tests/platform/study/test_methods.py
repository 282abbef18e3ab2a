"""The methods in real studies: pruned candidates, two stages, budget, cost, and what is refused."""

from contextlib import closing
from dataclasses import replace

import optuna
import pytest
from click.testing import CliRunner

from dftune import Study
from dftune.platform.cli.main import cli
from dftune.platform.ledger.ledger import Ledger
from dftune.platform.ledger.trial import LedgerTrial
from dftune.platform.study.conclusion import chosen_of
from dftune.platform.study.errors import SearchStopped
from dftune.platform.study.words import explained
from dftune.searchers.pruned_search import learnt_bar

POINTS = 4 * 3  # points x epochs of a trial
BOTH = 'minimize = ["validation_loss", "n_parameters"]'


@pytest.fixture(scope="module")
def pruned(local_ray, toy, numbers, tmp_path_factory) -> Study:
    """An ended study of the toy kind, of one trial at a time, so that it is the same whenever it runs."""
    study = Study(
        "pruned", numbers, studies=tmp_path_factory.mktemp("studies"), method="optuna+rate", trials=5, seed=2,
        options={"warmup": 3, "startup": 6, "lookahead": 3}, resources={"concurrent": 1}, initializations=1,
    )  # fmt: skip
    study.run()
    return study


def test_candidates_that_the_score_rules_out_are_in_the_ledger_and_not_trained(pruned):
    trials = pruned.trials()
    ruled_out = [t for t in trials if t.state == "pruned"]
    trained = [t for t in trials if t.state == "finished"]
    assert len(trained) == 5, "trials counts those that are trained"
    assert len(ruled_out) > 5
    assert [t.number for t in trials] == list(range(len(trials)))
    for trial in ruled_out:
        assert (trial.value, trial.seed, trial.result, trial.seconds) == (None, None, {}, None)
        assert trial.scores == {"rate": trial.config["rate"]}
        before = [(t.scores["rate"], t.value) for t in trained if t.number < trial.number]
        assert not learnt_bar(before, 3).passes(trial.scores["rate"])
    assert pruned.conclusion().trial in {t.number for t in trained}
    with pruned.reading() as ledger:
        said = explained(ledger, pruned.own)[0]
    assert said.startswith(f"{len(ruled_out)} of {len(trials)} candidates pruned by their score;")
    assert all(q.n_trials == 5 for q in pruned.score_qualities())


def test_optuna_tools_see_pruned_candidates_as_pruned(pruned):
    loaded = optuna.load_study(study_name="pruned", storage=f"sqlite:///{pruned.folder / 'ledger.db'}")
    states = [t.state.name for t in loaded.trials]
    assert states == [{"pruned": "PRUNED", "finished": "COMPLETE"}[t.state] for t in pruned.trials()]
    assert loaded.best_trial.number == pruned.conclusion().trial


def test_a_pruned_study_that_was_killed_goes_on_as_if_nothing_had_happened(pruned, tmp_path):
    # The ledger as a kill leaves it: a trial under way that began after a candidate was pruned.
    whole = pruned.trials()
    cut = next(n for n, t in enumerate(whole) if n and t.state == "finished" and whole[n - 1].state == "pruned")
    assert cut < len(whole) - 1
    settings = pruned.spec.model_dump(exclude={"name", "dataset"})
    study = Study("pruned", pruned.spec.dataset, studies=tmp_path, **settings)
    study.folder.mkdir()
    with closing(Ledger.open(pruned.folder / "ledger.db")) as ledger:
        fingerprint = ledger.dataset_sha256
    with closing(Ledger.create(study.folder / "ledger.db", study.spec, fingerprint)) as ledger:
        for trial in whole[: cut + 1]:
            if trial.state == "pruned":
                ledger.pruned(trial.number, trial.config, scores=trial.scores)
                continue
            ledger.asked(trial.number, trial.config, seed=trial.seed, scores=trial.scores)
            if trial.number < cut:
                ledger.told(trial.number, trial.value, trial.result, None)
    conclusion = study.resume()
    for trial, before in zip(study.trials(), whole, strict=True):
        assert (trial.config, trial.state, trial.seed) == (before.config, before.state, before.seed)
        assert trial.scores == pytest.approx(before.scores)
        assert trial.value == pytest.approx(before.value)
    assert conclusion.trial == pruned.conclusion().trial


def test_the_score_chooses_what_it_sees_and_optuna_the_rest(local_ray, toy, numbers, tmp_path):
    """Of the toy kind the score sees the rate, as others see the architecture; the pause stands for a learning rate."""
    space = {**toy.space, "pause": {"type": "float", "low": 0.001, "high": 0.004, "log": True}}
    study = Study(
        "stages", numbers, studies=tmp_path, method="rate>optuna", trials=6, initializations=1, space=space,
        options={"candidates": 4, "top": 2, "startup": 2}, resources={"concurrent": 1},
    )  # fmt: skip
    conclusion = study.run()
    trials = study.trials()
    assert [t.state for t in trials] == ["finished"] * 6
    rates = [t.config["rate"] for t in trials]
    better = min(trials[:2], key=lambda t: t.value)
    assert len(set(rates[:2])) == 2
    assert set(rates[2:]) == {better.config["rate"]}
    assert [t.config["pause"] for t in trials[:2]] == [pytest.approx(0.002)] * 2
    assert len({t.config["pause"] for t in trials[2:]}) == 4
    assert conclusion.value == min(t.value for t in trials)


@pytest.fixture(scope="module")
def weighed(local_ray, toy, numbers, tmp_path_factory) -> Study:
    """An ended study of the toy kind with a budget that minimises its error and its price."""
    study = Study(
        "weighed", numbers, studies=tmp_path_factory.mktemp("studies"), method="optuna", trials=50, initializations=1,
        options={"startup": 2}, budget={"points": 4.5 * POINTS}, resources={"concurrent": 1},
        minimize=["error", "price"], tolerance=1e6,
    )  # fmt: skip
    study.run()
    return study


def test_a_budget_of_points_ends_the_search(weighed):
    assert [t.result["points"] for t in weighed.trials()] == [POINTS] * 5, "the fifth began within the budget"


def test_the_cheapest_surrogate_nearly_as_good_as_the_best_is_chosen(weighed):
    trials = weighed.trials()
    for trial in trials:
        assert trial.others[0] == trial.result["price"] == abs(trial.config["rate"] - 0.5)
    cheapest, best = min(trials, key=lambda t: t.others), min(trials, key=lambda t: t.value)
    assert weighed.conclusion().trial == cheapest.number != best.number
    assert weighed.conclusion().value == cheapest.value
    assert chosen_of(trials, 0.0) == best
    for tolerance in (0.01, 0.1, 1.0, 10.0):
        good = [t for t in trials if t.value <= best.value * (1 + tolerance)]
        assert chosen_of(trials, tolerance).others == min(t.others for t in good)


def test_of_three_objectives_the_last_is_lowest_among_trials_good_in_the_others():
    rows = [(1.0, 5.0, 9.0), (1.05, 4.0, 8.0), (1.04, 4.1, 1.0), (1.05, 4.3, 0.0), (1.2, 1.0, 0.0)]
    trials = [LedgerTrial(n, {}, "finished", value=row[0], others=row[1:]) for n, row in enumerate(rows)]
    assert [chosen_of(trials, tolerance).number for tolerance in (0.0, 0.05, 0.1, 0.2)] == [0, 2, 3, 4]
    below = [replace(t, value=t.value - 10) for t in trials]
    assert chosen_of(below, 0.0).number == 0, "a share of what is below zero, too"


def test_each_proposal_follows_from_the_ledger_before_it(weighed):
    with closing(Ledger.open(weighed.folder / "ledger.db")) as ledger:
        history = ledger.history()
    assert all(past.others for past in history)
    for n, past in enumerate(history):
        searcher = weighed.spec.searcher()
        searcher.replay(history[:n])
        assert searcher.ask(str(n)) == past.config


def test_optuna_finds_the_pareto_front_of_a_study(weighed):
    trials = weighed.trials()
    loaded = optuna.load_study(study_name="weighed", storage=f"sqlite:///{weighed.folder / 'ledger.db'}")
    points = {t.number: t.objectives for t in trials}
    front = {
        n for n, (v, c) in points.items() if not any(p != (v, c) and p[0] <= v and p[1] <= c for p in points.values())
    }
    assert {t.number for t in loaded.best_trials} == front
    shown = CliRunner().invoke(cli, ["study", "show", "weighed", "--studies", str(weighed.folder.parent)]).output
    assert f"than one of these ({len(front)}):" in shown
    assert loaded.metric_names == ["error", "price"]


# ---------------------------------------------------------------- refusals


def run(folder, text):
    (folder / "wrong.toml").write_text(text)
    result = CliRunner().invoke(cli, ["study", "run", str(folder / "wrong.toml"), "--studies", str(folder / "studies")])
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert result.stderr.splitlines()[-1] == line
    return line


SPEC = """
name = "wrong"
dataset = "{dataset}"
method = "{method}"
trials = {trials}
initializations = 1
descriptors = {{ cutoff = 4.0, two_j_max = 4 }}
{more}
[space]
width = {{ type = "int", low = 4, high = 16 }}
learning_rate = {{ type = "float", low = 1e-3, high = 1e-2 }}
[config]
n_layers = 1
epochs = 1
"""


def spec(dataset, method, more="", trials=20):
    return SPEC.format(dataset=dataset.path, method=method, more=more, trials=trials)


@pytest.mark.parametrize(
    "method, trials, more, text",
    [
        ("optuna+nas", 20, "", "unknown method 'optuna+nas'; did you mean 'optuna+naswot'?"),
        ("optuna+rfr", 8, "", "method optuna+rfr with these options needs at least 9 trials, and trials = 8; raise"),
        ("rfr>optuna", 5, "", "method rfr>optuna with these options needs at least 6 trials, and trials = 5; raise"),
        ("naswot>optuna", 13, "", "needs at least 14 trials, and trials = 13"),
        ("naswot", 8, "", "needs at least 9 trials, and trials = 8"),
        ("optuna", 10, "", "needs at least 11 trials, and trials = 10"),
        ("rfr>optuna", 20, 'options = { architecture = ["width", "learning_rate"] }', "Optuna has nothing to choose"),
        ("rfr>optuna", 20, 'options = { architecture = ["depth"] }', "names 'depth', which is not in the space; there"),
        ("rfr", 20, BOTH, "method 'rfr' minimises one value; take optuna, optuna+rfr,"),
        ("optuna", 20, BOTH + '\noptions = { sampler = "cmaes" }', "'cmaes' minimises one number"),
        ("optuna", 20, "tolerance = 0.2", "tolerance has no use where minimize is one value"),
        ("optuna+rfr", 20, "options = { threshold = 1.0, warmup = 4 }", "warmup belongs to a learnt bar"),
        ("optuna+rfr", 20, 'options = { direction = "original" }', "direction belongs to a fixed threshold"),
        ("optuna+rfr", 20, "options = { treshold = 1.0 }", "unknown key 'treshold'; did you mean 'threshold'?"),
        ("random", 20, "budget = { grid_point = 3 }", "unknown key 'budget.grid_point'; did you mean 'grid_points'?"),
        ("random", 20, "budget = {}", "key 'budget': needs grid_points or seconds"),
        ("random", 20, "budget = { seconds = 0 }", "key 'budget.seconds': Input should be greater than 0, got 0"),
    ],
)  # fmt: skip
def test_what_a_method_cannot_do_is_refused_before_anything_starts(al4, tmp_path, method, trials, more, text):
    assert text in run(tmp_path, spec(al4, method, more, trials))
    assert not (tmp_path / "studies").exists()


def test_an_architecture_alone_leaves_the_two_stage_methods_nothing_to_do(al4, tmp_path):
    text = spec(al4, "naswot>optuna").replace("learning_rate", "n_layers").replace("n_layers = 1", "")
    text = text.replace('"float", low = 1e-3, high = 1e-2', '"int", low = 1, high = 2')
    line = run(tmp_path, text)
    assert (
        "method naswot>optuna: Optuna has nothing to choose: width, n_layers are all of the architecture; add" in line
    )


def test_a_threshold_that_prunes_everything_ends_the_study_with_the_scores_seen(local_ray, toy, numbers, tmp_path):
    options = "trials = 20\noptions = { threshold = 100.0, most_pruned = 12 }"
    line = run(tmp_path, f'name = "wrong"\ndataset = "{numbers}"\nmethod = "optuna+rate"\n{options}\n')
    trials = Study.open("wrong", tmp_path / "studies").trials()
    scores = sorted(t.scores["rate"] for t in trials)
    assert [t.state for t in trials] == ["pruned"] * 12
    assert line == (
        "Error: method optuna+rate: threshold 100 pruned all of 12 candidates, whose scores lie between "
        f"{scores[0]:.5g} and {scores[-1]:.5g}; choose a threshold between the scores, or leave it out to have it "
        "learnt"
    )
    with pytest.raises(SearchStopped, match="threshold 100 pruned all of 12 candidates, whose scor"):
        Study.open("wrong", tmp_path / "studies").resume()
