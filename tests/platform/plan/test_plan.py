"""The cost model, from what studies measured, and plans that are made with it."""

import json
import math
from contextlib import closing
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from click.testing import CliRunner

from dftune.platform.cli.plan import plan as command
from dftune.platform.ledger.ledger import Ledger
from dftune.platform.ledger.trial import LedgerTrial
from dftune.platform.methods import method_names
from dftune.platform.plan.costs import Evidence, Measured, PlanError
from dftune.platform.plan.places import Interpolation, SeenPlaces
from dftune.platform.plan.plan import plan
from dftune.platform.plan.simulation import simulate
from dftune.platform.spec import StudySpec
from dftune.platform.study.study import Study
from dftune.searchers.random_search import RandomSearch
from dftune.searchers.space import Choice, Float, Int
from dftune.tests.toy_kind import ToyKind
from dftune.trainables.kinds import KINDS
from dftune.trainables.ldos.config import SurrogateConfig

SPACE = {
    "n_layers": Int(low=1, high=3),
    "width": Int(low=16, high=256, log=True),
    "activation": Choice(values=("relu", "gelu", "tanh")),
    "learning_rate": Float(low=3e-4, high=3e-3, log=True),
}
POINTS, EPOCHS = 48_000, 5
SIGNS = {"rfr": 1, "rfr30": 1, "naswot": -1}  # of what scores say of the number of neurons
SIZES = {"n_in": 91, "n_out": 37, "n_train": POINTS, "n_validation": 8_000}


def spec_of(method="random", **settings):
    space = {name: values.model_dump() for name, values in SPACE.items()}
    values = {"name": "al4", "dataset": "/nowhere", "method": method, "space": space, "trials": 20}
    return StudySpec.of(values | {"config": {"epochs": EPOCHS, "batch_size": 128}} | settings)


def sizes(config):
    full = SurrogateConfig.of(config)
    return full.hidden, sum((a + 1) * b for a, b in pairwise((SIZES["n_in"], *full.hidden, SIZES["n_out"])))


def true_seconds(config):
    hidden, n_parameters = sizes(config)
    weights = n_parameters - sum(hidden) - SIZES["n_out"]
    return EPOCHS * POINTS * (1e-6 + 3e-9 * sum(hidden) + 1e-10 * weights)


def trials_of(n, *, noise=0.0, start=4.0, reset=0.25, slots=2, scores=False, seed=0):
    """Trials as a ledger would have them: one after the other on each slot, the first one in a new process."""
    rng = np.random.default_rng(seed)
    search, free, found = RandomSearch(SPACE, seed), [0.0] * slots, []
    for number in range(n):
        config = search.ask(str(number))
        seconds = true_seconds(config) * float(np.exp(noise * rng.normal()))
        started = min(free)
        ended = started + seconds + (start if number < slots else reset)
        free[free.index(started)] = ended
        hidden, n_parameters = sizes(config)
        found.append(
            LedgerTrial(
                number=number,
                config=config,
                state="finished",
                value=1 / sum(hidden) + config["learning_rate"],
                scores={name: sign * float(sum(hidden)) for name, sign in SIGNS.items()} if scores else {},
                seed=number,
                seconds=seconds,
                result={
                    "seconds": seconds,
                    "epoch": EPOCHS,
                    "grid_points": EPOCHS * POINTS,
                    "n_parameters": n_parameters,
                },
                started_at=started,
                ended_at=ended,
            )
        )
    return found


def evidence(spec, trials):
    """What such a study has measured, without scores."""
    return Evidence(spec, trials, {}, {}, sizes=SIZES)


def test_the_cost_model_foretells_a_trial_that_it_has_not_seen():
    measured = Measured([evidence(spec_of(), trials_of(20))])
    assert measured.error < 1e-3
    assert measured.overhead.start == pytest.approx(4.0, abs=0.01)
    assert measured.overhead.reset == pytest.approx(0.25)
    for trial in range(100, 120):
        config = RandomSearch(SPACE, trial).ask("0")
        cost = measured.cost_of(config)
        assert cost.seconds == pytest.approx(true_seconds(config), rel=0.02)
        assert (cost.epochs, cost.work) == (EPOCHS, EPOCHS * POINTS)


@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_leave_one_out_states_the_scatter_of_the_measurements(noise):
    errors = [Measured([evidence(spec_of(), trials_of(60, noise=noise, seed=seed))]).error for seed in range(5)]
    assert np.mean(errors) == pytest.approx(0.674 * noise, rel=0.25)  # the median of |normal| is 0.674 σ


def test_scatter_of_the_measurements_does_not_change_the_sum_of_what_is_foretold():
    trials = trials_of(200, noise=0.4)
    measured = Measured([evidence(spec_of(), trials)])
    others = [RandomSearch(SPACE, seed).ask("0") for seed in range(1000, 1400)]
    mean = np.exp(0.4**2 / 2)  # of the log-normal scatter
    ratio = sum(measured.cost_of(c).seconds for c in others) / sum(map(true_seconds, others))
    assert ratio == pytest.approx(mean, rel=0.1)


def test_a_measured_config_costs_and_tells_what_was_measured():
    trials = trials_of(20, noise=0.3)
    measured = Measured([evidence(spec_of(), trials)])
    for trial in trials[2:]:
        cost = measured.cost_of(trial.config)
        assert (cost.seconds, cost.value) == (pytest.approx(trial.seconds), pytest.approx(trial.value))


def test_the_simulation_of_a_measured_study_takes_as_long_as_it_took():
    spec, trials = spec_of(), trials_of(20, noise=0.3, slots=4)
    measured = Measured([evidence(spec, trials)])
    # The first trials, in new processes, say how long a process takes to start, but their own seconds are not used.
    found = simulate(spec.searcher(), 4, measured.cost_of, replace(measured.overhead, ask=0, report=0), max_trials=20)
    assert found.seconds == pytest.approx(max(t.ended_at for t in trials), rel=0.1)


def test_a_kind_that_says_nothing_of_its_costs_is_planned_by_its_work(monkeypatch):
    monkeypatch.setitem(KINDS._ours, "toy", ToyKind())
    spec = StudySpec.of({"name": "toys", "kind": "toy", "dataset": "/nowhere"})

    def trial(number, rate):
        result = {"points": 40.0 * 3, "best_error": rate, "epoch": 3, "seconds": 6.0}
        return LedgerTrial(
            number, {"rate": rate}, "finished", value=rate, scores={"rate": rate}, seconds=6.0, result=result,
            started_at=7.0 * number, ended_at=7.0 * number + 6.5,
        )  # fmt: skip

    trials = [trial(n, rate) for n, rate in enumerate((0.2, 0.4, 0.6, 0.8))]
    scores = {spec.full(t.config).seen_by_scores: t.scores["rate"] for t in trials}
    measured = Measured([Evidence(spec, trials, scores, {"scores": 2.0})])
    cost = measured.cost_of({"rate": 0.5})
    assert (cost.seconds, cost.work, cost.epochs) == (pytest.approx(6.0), 120.0, 3)
    scorer = measured.scorer("rate", 1, beside_trials=False)
    scorer([{"rate": 0.4}, {"rate": 0.5}])
    scorer.now = 1e9
    known, between = scorer([{"rate": 0.4}, {"rate": 0.5}])
    assert known == 0.4 < between < 0.6
    found = simulate(spec.searcher(scorer), 2, measured.cost_of, measured.overhead, scorer=scorer, max_trials=4)
    assert found.trained >= 1


def test_too_few_trials_and_other_studies_are_refused():
    with pytest.raises(PlanError, match="study 'al4' has 2 trials that ended, and it takes 3"):
        Measured([evidence(spec_of(), trials_of(2))])
    other = spec_of(name="other", config={"epochs": 9})
    with pytest.raises(PlanError, match="study 'other' has another config than 'al4'"):
        Measured([evidence(spec_of(), trials_of(9)), evidence(other, trials_of(9))])


# --- what scores see, as points ---------------------------------------------------------------------------------


def test_places_of_what_scores_see_keep_like_things_together():
    known = [((64,), "gelu"), ((32, 32), "gelu"), ((128, 128), "tanh"), ((64, 64), "relu")]
    places = SeenPlaces(known)

    def distance(a, b):
        return np.linalg.norm(places(a) - places(b))

    assert {len(places(seen)) for seen in known} == {2 * 2 + 3}, "two layers and three texts"
    assert distance(((32, 64), "gelu"), ((64, 128), "gelu")) == pytest.approx(0.5), "all layers twice as wide"
    assert distance(((64,), "gelu"), ((64, 64), "gelu")) == pytest.approx(math.sqrt(0.5)), "a layer more"
    assert distance(((64, 64), "gelu"), ((64, 64), "tanh")) == pytest.approx(math.sqrt(2)), "another text"
    assert distance(((64, 64), "silu"), ((64, 64), "tanh")) == pytest.approx(1), "nobody has seen silu"
    assert distance(((64, 64, 9), "gelu"), ((64, 64), "gelu")) == 0, "nor a third layer"


def test_places_take_numbers_and_texts_however_they_are_nested():
    assert SeenPlaces([3, 12])(12) == pytest.approx([math.sqrt(0.5), math.log2(12) / 2]), "without a tuple around it"
    places = SeenPlaces([(0.0, True), (-3.0, None)])
    assert places((1.0, True)) - places((-3.0, True)) == pytest.approx([0, 2, 0, 0]), "no logarithm of what may be 0"
    places = SeenPlaces([((1.0, 4.0), (2.0, "a")), ((1.0,), ("b", 3.0))])
    assert np.isfinite(places(((0.0,), ("a", "a")))).all()


def test_scores_are_interpolated_between_what_was_seen_and_exact_there():
    rng = np.random.default_rng(0)

    def draw():
        widths = 2 ** rng.integers(4, 9, size=rng.integers(1, 4))
        return tuple(widths.tolist()), str(rng.choice(["relu", "tanh"]))

    def score(seen):
        return sum(map(math.log2, seen[0])) + 5 * (seen[1] == "tanh")

    known, others = {draw() for _ in range(150)}, [draw() for _ in range(200)]
    places = SeenPlaces(list(known))
    guess = Interpolation([places(seen) for seen in known], [score(seen) for seen in known])
    assert all(guess(places(seen)) == score(seen) for seen in known)
    foretold, true = ([f(seen) for seen in others if seen not in known] for f in (lambda s: guess(places(s)), score))
    assert len(true) > 50
    assert np.corrcoef(foretold, true)[0, 1] > 0.85


# --- the plan -----------------------------------------------------------------------------------------------------


def ended(folder, spec, trials, seconds, sizes=SIZES):
    """A study on disk with these trials; the ledger stamps them with the time of writing."""
    path = folder / spec.name
    path.mkdir()
    with closing(Ledger.create(path / "ledger.db", spec, "0" * 64)) as ledger:
        ledger.placed({"gpus": 0.0} | ({} if sizes is None else {"sizes": sizes}))
        for t in trials:
            ledger.asked(t.number, t.config, seed=0, scores=t.scores)
            ledger.told(t.number, t.value, t.result | {"best_loss": t.value}, None)
        config = trials[0].config
        ledger.conclude({"trial": 0, "config": config, "value": 1.0, "accuracy": {}, "seconds": seconds})
    return Study.from_spec(spec, folder)


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    seconds = {"descriptors": 2.0, "scores": 0.5, "search": 60.0, "final": 30.0}
    for name, method in (("al4", "rfr"), ("al4-rfr30", "rfr30"), ("al4-naswot", "naswot")):
        spec = spec_of(method, name=name, trials=17, options={"candidates": 17, "top": 3})
        ended(folder, spec, trials_of(12, noise=0.1, scores=True), seconds)
    return folder


def test_every_method_is_planned_and_the_plan_is_the_same_every_time(studies):
    both = [Study.open(name, studies) for name in ("al4", "al4-rfr30", "al4-naswot")]
    found = plan(both, slots=(1, 8, 64))
    assert set(found.timings) == set(method_names(spec_of().of_kind))
    assert found.left_out == {}
    again = [name for name in found.timings if "rfr30" not in name and "naswot" not in name]  # as those of rfr
    assert {name: [found.timings[name][1]] for name in again} == plan(both, methods=again, slots=(8,)).timings
    assert found.besides == {"descriptors": 2.0, "final": 30.0}
    for some in found.timings.values():
        for t in some:
            assert 0 < t.used <= t.reserved
            assert t.trained <= 17
        assert some[0].seconds > some[1].seconds or some[0].trained == 1
    assert found.timings["random"][0].used == pytest.approx(found.timings["random"][2].used)
    assert found.timings["rfr"][0].trained == 3
    # What more slots cannot change is not simulated again.
    assert found.timings["rfr"][1] == replace(found.timings["rfr"][2], slots=8)


def test_a_score_that_nobody_measured_leaves_its_methods_out(studies):
    found = plan([Study.open("al4", studies)], slots=(2,))
    methods = ("{}", "optuna+{}", "{}>optuna")
    assert {m.format(score) for m in methods for score in ("naswot", "rfr30")} == set(found.left_out)
    with pytest.raises(PlanError, match="naswot: no study named has measured the score naswot"):
        plan([Study.open("al4", studies)], methods=["naswot"], slots=(2,))
    with pytest.raises(PlanError, match=r"unknown method 'nas'; did you mean 'naswot'?"):
        plan([Study.open("al4", studies)], methods=["nas"], slots=(2,))


def test_the_command_prints_tables_json_and_a_figure(studies, tmp_path):
    figure = tmp_path / "plan.png"
    arguments = ["al4", "--studies", str(studies), "--methods", "random,oat", "--slots", "1,16"]
    result = CliRunner().invoke(command, [*arguments, "--figure", str(figure)], catch_exceptions=False)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("from 11 trials: ")
    assert "time to result [min] by slots:" in lines or "time to result [s] by slots:" in lines
    assert sum(line.startswith("random") for line in lines) == 2  # times, and slot-hours
    assert "besides, as measured: descriptors 2 s, final 30 s" in lines
    assert figure.read_bytes()[:4] == b"\x89PNG"
    result = CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False)
    rows = json.loads(result.stdout)["timings"]
    assert [(row["method"], row["slots"]) for row in rows] == [("random", 1), ("random", 16), ("oat", 1), ("oat", 16)]
    assert rows[1]["slot_hours"] == pytest.approx(16 * rows[1]["seconds"] / 3600)


def test_a_readout_is_shared_by_as_many_slots_as_there_are_snapshots(tmp_path, studies):
    spec, trials = spec_of(name="readout", initializations=3), trials_of(12)
    best = min(trials, key=lambda t: t.value)
    for t in trials:
        t.result.update(readout_sums=4.0 if t is best else 7.0, readout_solve=0.5)
    sizes = SIZES | {"n_train_snapshots": 18}
    found = plan([ended(tmp_path, spec, trials, {}, sizes)], methods=["random"], slots=(1, 2, 8, 1024))
    features, start = spec.full(best.config).hidden[-1] + 1, found.overhead.start
    sent = 3 * 8 * features * (features + 37)
    readout = found.readout
    assert (readout.sums, readout.solve, readout.parts, readout.megabytes) == (12.0, 1.5, 18, sent / 1e6)
    assert readout.seconds[1] == 13.5
    assert readout.seconds[2] == pytest.approx(12 / 2 + 1.5 + start + sent / 1e9)
    assert readout.seconds[8] == pytest.approx(12 * 3 / 18 + 1.5 + start + 3 * sent / 1e9)  # three snapshots at most
    assert readout.seconds[1024] == pytest.approx(12 / 18 + 1.5 + start + 5 * sent / 1e9)  # 18 slots, five sums deep
    arguments = ["readout", "--studies", str(tmp_path), "--methods", "random", "--slots", "1,1024"]
    said = CliRunner().invoke(command, arguments, catch_exceptions=False).stdout
    assert "18 snapshots to share: sums 12 s on one slot, solving 1.5 s" in said
    assert plan([Study.open("al4", studies)], methods=["random"], slots=(1,)).readout is None
    (tmp_path / "early").mkdir()
    early = plan([ended(tmp_path / "early", spec, trials, {})], methods=["random"], slots=(1,))
    assert early.readout is None, "a ledger without the number of snapshots"


def test_damaged_scores_are_refused_with_the_remedy(studies, tmp_path):
    spec = spec_of("rfr", name="damaged", options={"candidates": 32, "top": 3})
    study = ended(tmp_path, spec, trials_of(12, scores=True), {"scores": 0.5})
    seen = ((7, 7), "relu")
    (study.folder / "scores.json").write_text(json.dumps([{"seen": seen, "score": 0.25}]))
    found = Evidence.of(study)
    assert found.scores[seen] == 0.25
    assert len(found.scores) == 1 + len({SurrogateConfig.of(t.config).seen_by_scores for t in found.trials})
    assert found.sizes == SIZES
    (study.folder / "scores.json").write_text("[")
    with pytest.raises(PlanError, match=r"scores.json: damaged; remove it .* or to plan from the trials alone"):
        Evidence.of(study)


def test_a_ledger_of_an_earlier_version_takes_the_sizes_from_the_dataset(al4, tmp_path):
    spec = spec_of(dataset=al4.path, descriptors={"cutoff": 4.0, "two_j_max": 4})
    study = ended(tmp_path, spec, trials_of(5), {}, sizes=None)
    assert Evidence.of(study).sizes == spec.of_kind.sizes(al4, spec.descriptors)


@pytest.mark.parametrize("slots", ["1,two", "0,1", "", "1,,4", "1,"])
def test_numbers_of_slots_are_checked(slots):
    result = CliRunner().invoke(command, ["al4", "--slots", slots])
    assert result.exit_code == 2
    assert f"'{slots}' is not a list of whole numbers above 0 as in 1,4,16" in " ".join(result.output.split())
