"""The figures of a study: what they show against independent computation, that they are drawn, and when they refuse."""

import html
import json
import math
import re
import tomllib
from contextlib import closing
from dataclasses import replace

import numpy as np
import optuna
import pytest
from click.testing import CliRunner
from PIL import Image

from dftune.platform.cli.main import cli
from dftune.platform.figures import trials as plots
from dftune.platform.figures.axes import is_log, ticks_between
from dftune.platform.figures.axes import number as at_tick
from dftune.platform.figures.draw import FIGURES
from dftune.platform.figures.draw import draw as draw_figures
from dftune.platform.figures.table import toml
from dftune.platform.figures.trials import NotDrawn, pareto_front
from dftune.platform.figures.values import pareto
from dftune.platform.ledger.ledger import Ledger
from dftune.platform.ledger.trial import LedgerTrial
from dftune.platform.spec import StudySpec
from dftune.platform.study.errors import StudyError
from dftune.platform.study.study import Study
from dftune.searchers.space import draw
from dftune.tests.toy_kind import ToyKind
from dftune.trainables.kinds import KINDS

STATES = ("finished", "finished", "failed", "finished", "pruned", "stopped")
SPEC = StudySpec.of(
    {
        "name": "synthetic",
        "dataset": "al4",
        "method": "rfr",
        "space": {
            "n_layers": {"type": "int", "low": 1, "high": 3},
            "width": {"type": "int", "low": 16, "high": 256, "log": True},
            "activation": {"type": "choice", "values": ["relu", "silu", "tanh"]},
            "optimizer": {"type": "choice", "values": ["adam", "sgd"]},
            "weight_decay": {"type": "float", "low": 0.0, "high": 0.1, "when": {"optimizer": ["adam"]}},
        },
    }
)


def synthetic(n: int, spec: StudySpec = SPEC) -> list[LedgerTrial]:
    """Trials in all states, that end in another order than they began; the activation decides their value."""
    rng = np.random.default_rng(1)
    found = []
    for number in range(n):
        state = "running" if number == n - 1 else STATES[number % len(STATES)]
        config = draw(spec.space, rng)
        loss = {"relu": 0.03, "silu": 0.01, "tanh": 0.05}[config["activation"]] * math.exp(0.2 * rng.normal())
        trained = state in ("finished", "failed", "stopped")
        result = {
            "epoch": 10,
            "best_loss": loss,
            "best_band_energy_mae": 1e3 * loss,
            "best_forces_mae": 0.1 + 0.01 * (number % 3),
            "seconds": float(rng.uniform(1, 5)),
            "grid_points": float(rng.integers(1e5, 1e6)),
            "n_parameters": 100 * config["width"],
            "inference_time": 0.01 * config["width"],
        }
        found.append(
            LedgerTrial(
                number=number,
                config=config,
                state=state,
                value=result[spec.metric] if state == "finished" else None,
                others=tuple(result[m.report] for m in spec.other_measures) if state == "finished" else (),
                scores={"rfr": float(rng.normal()), "first_width": float(config["width"])},
                seed=number,
                seconds=result["seconds"] if trained else None,
                failure="loss is not <finite>" if state == "failed" else None,
                result=result if trained else {},
                started_at=float(number),
                ended_at=float(number + rng.uniform(1, 4)) if trained else None,
            )
        )
    return found


TRIALS = synthetic(44)


def recorded(path, trials, spec=SPEC) -> Study:
    """A real ledger of these trials, and the study of it."""
    with closing(Ledger.create(path / spec.name / "ledger.db", spec, "0" * 64)) as ledger:
        for trial in trials:
            if trial.state == "pruned":
                ledger.pruned(trial.number, trial.config, scores=trial.scores)
                continue
            ledger.asked(trial.number, trial.config, seed=trial.seed, scores=trial.scores)
            if trial.state != "running":
                ledger.reported(trial.number, 1, 2 * trial.result[spec.metric])
                value = None if trial.state == "failed" else trial.result[spec.metric]
                stopped = trial.state == "stopped"
                ledger.told(trial.number, value, trial.result, trial.failure, stopped=stopped)
    return Study.open(spec.name, path)


def test_history_has_every_trial_once_and_the_best_value_up_to_each():
    data = plots.history(TRIALS, SPEC)
    shown = [t.number for t, _ in data.valued] + [t.number for some in data.others.values() for t in some]
    assert sorted(shown) == list(range(44))
    assert all(t.state in ("finished", "stopped") for t, _ in data.valued)
    assert {state: {t.state for t in some} for state, some in data.others.items()} == {
        s: {s} for s in ("failed", "pruned", "running")
    }
    assert all(v == t.result["best_loss"] for t, v in data.valued)
    for number, best in data.best:
        assert best == min(t.value for t in TRIALS[: number + 1] if t.value is not None)
    assert len(data.best) == sum(t.state == "finished" for t in TRIALS)


@pytest.mark.parametrize("i, measure", [(0, "grid_points"), (1, "seconds")])
def test_compute_is_what_all_trials_had_used_when_one_ended(i, measure):
    data = plots.compute(TRIALS, SPEC)[i]

    def used(until):
        return sum(t.result[measure] for t in TRIALS if t.ended_at is not None and t.ended_at <= until)

    assert {t.state for t, _, _ in data.valued} == {"finished", "stopped"}
    for trial, at, value in data.valued:
        assert at == pytest.approx(used(trial.ended_at))
        assert value == trial.result["best_loss"]
    for at, best in data.best:
        before = [t.value for t in TRIALS if t.value is not None and used(t.ended_at) <= at * (1 + 1e-12)]
        assert best == min(before)
    assert data.best[-1][0] == pytest.approx(used(math.inf)), "what failed has cost something too"


def test_compute_without_grid_points_has_seconds_alone():
    bare = [replace(t, result={k: v for k, v in t.result.items() if k != "grid_points"}) for t in TRIALS]
    (panel,) = plots.compute(bare, SPEC)
    assert panel.label == plots.SECONDS_LABEL


def test_scores_begin_with_the_studys_own_and_keep_pruned_trials_apart():
    first, second = plots.scores(TRIALS, SPEC)
    assert (first.quality.name, first.is_main, second.is_main) == ("rfr", True, False)
    assert [(t.number, s, v) for t, s, v in first.pairs] == [
        (t.number, t.scores["rfr"], t.value) for t in TRIALS if t.state == "finished"
    ]
    assert [t.number for t, _ in first.pruned] == [t.number for t in TRIALS if t.state == "pruned"]


def test_a_score_of_a_script_that_is_not_here_has_its_name_as_label():
    spec = StudySpec.of(SPEC.model_dump() | {"method": "optuna+mine"}, as_it_was=True)
    (panel,) = plots.scores([replace(t, scores={"mine": float(t.number)}) for t in TRIALS], spec)
    assert (panel.label, panel.is_main, panel.is_trivial) == ("mine", False, False)
    assert [(p.label, p.is_trivial) for p in plots.scores(TRIALS, SPEC)] == [
        ("random-feature readout, -log E", False),
        ("width of the first layer", True),
    ]


def test_importance_finds_the_hyperparameter_that_decides():
    trials = synthetic(100)
    data = plots.importance(trials, SPEC)
    assert (data.n_trials, data.n_best) == (50, 17)
    assert data.names[0] == "activation"
    assert set(data.names) == set(SPEC.space)
    assert sum(data.shares) == pytest.approx(1)
    assert all(low <= share <= high for low, share, high in zip(data.low, data.shares, data.high, strict=True))
    assert data.low[0] > max(data.shares[1:])
    assert data == plots.importance(trials, SPEC), "seeded"
    with pytest.raises(NotDrawn, match="19 finished trials, at least 20 are needed"):
        plots.importance([t for t in TRIALS if t.value is not None][:19], SPEC)
    with pytest.raises(NotDrawn, match="all values are equal"):
        plots.importance([replace(t, value=0.1) for t in trials], SPEC)
    with pytest.raises(NotDrawn, match="fewer than two hyperparameters vary"):
        plots.importance([replace(t, config={"n_layers": 1, "width": t.config["width"]}) for t in trials], SPEC)


def test_parallel_axes_give_the_configs_back():
    data = plots.parallel(TRIALS, SPEC)
    axes = {axis.name: axis for axis in data.axes}
    assert list(axes) == [*SPEC.space, "validation_loss"]
    assert [t.value for t in data.trials] == sorted((t.value for t in TRIALS if t.value is not None), reverse=True)
    for i, trial in enumerate(data.trials):
        config, place = trial.config, {name: axis.positions[i] for name, axis in axes.items()}
        assert 16 * 16 ** place["width"] == pytest.approx(config["width"])
        assert 1 + 2 * place["n_layers"] == pytest.approx(config["n_layers"])
        assert ["relu", "silu", "tanh"][round(2 * place["activation"])] == config["activation"]
        if "weight_decay" in config:
            assert 0.1 * place["weight_decay"] == pytest.approx(config["weight_decay"])
        else:
            assert place["weight_decay"] == plots.UNSET
    assert axes["weight_decay"].ticks[0] == (plots.UNSET, "not set")
    assert [text for _, text in axes["n_layers"].ticks] == ["1", "2", "3"]
    for place, text in axes["width"].ticks:
        assert 16 * 16**place == pytest.approx(float(text))


def test_the_pareto_front_is_that_of_all_pairs_compared():
    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 40, 200):
        points = [tuple(map(float, pair)) for pair in rng.integers(12 if n < 100 else 60, size=(n, 2))]
        brute = [
            i for i, p in enumerate(points)
            if not any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in points)
        ]  # fmt: skip
        assert sorted(pareto_front(points)) == brute


def test_the_front_is_that_of_all_that_is_minimised():
    first = TRIALS[0].result
    assert pareto(TRIALS, SPEC).points[0][1] == (first["n_parameters"], first["best_loss"])
    spec = SPEC.model_copy(update={"minimize": ("validation_loss", "inference_time", "forces_mae")})
    data = pareto(synthetic(40, spec), spec)
    assert data.labels[0] == "inference time [µs a grid point]"
    assert data.points[0][1] == (first["inference_time"], first["best_forces_mae"], first["best_loss"])
    with pytest.raises(NotDrawn, match="no finished trial has its n_parameters recorded"):
        pareto([replace(t, result={}) for t in TRIALS], SPEC)


def test_figures_have_the_labels_of_the_kind(monkeypatch, tmp_path):
    monkeypatch.setitem(KINDS._ours, "toy", ToyKind())
    spec = StudySpec.of({"name": "toys", "kind": "toy", "dataset": str(tmp_path)})
    trials = [
        replace(t, config={"rate": 0.1 + 0.01 * t.number}, result=t.result and {"best_error": t.value, "points": 9.0})
        for t in TRIALS[:12]
        if t.state != "stopped"
    ]
    (panel,) = plots.compute([replace(t, scores={}) for t in trials], spec)
    assert panel.label == "trained points x epochs, summed over trials"
    drawn = draw_figures(trials, spec, tmp_path, "html")
    assert drawn.left_out["pareto"] == "no finished trial has its price recorded"
    assert "<dt>minimises</dt><dd>error [cm]</dd>" in (tmp_path / "plots.html").read_text()


def test_a_kind_without_costs_has_no_front(monkeypatch):
    monkeypatch.setattr(type(SPEC.of_kind), "costs", {})
    with pytest.raises(NotDrawn, match="surrogates of this kind report no cost of use"):
        pareto(TRIALS, SPEC)


@pytest.mark.parametrize(
    "low, high, log, expected",
    [
        (0.93, 1.07, False, [0.95, 1, 1.05]),
        (0.012, 0.045, True, [0.015, 0.02, 0.03, 0.04]),
        (0.01, 0.15, True, [0.01, 0.02, 0.03, 0.05, 0.1]),
        (900, 60000, True, [1e3, 2e3, 5e3, 1e4, 2e4, 5e4]),
        (1e-4, 10, True, [1e-4, 1e-3, 1e-2, 0.1, 1, 10]),
        (1e-2, 1e18, True, [1e-2, 10, 1e4, 1e7, 1e10, 1e13, 1e16]),
        (2, 2, False, [2]),
    ],
)
def test_ticks_are_few_round_numbers(low, high, log, expected):
    found = ticks_between(low, high, log)
    assert {f"{v:.6g}" for v in expected} <= {f"{v:.6g}" for v in found}
    assert all(low <= v * (1 + 1e-9) and v <= high * (1 + 1e-9) for v in found)
    assert len(found) <= 8


def test_axes_are_logarithmic_where_numbers_are_far_apart():
    assert is_log([0.01, 0.05])
    assert not is_log([0.93, 1.07])
    assert not is_log([0.0, 5.0])
    assert not is_log([-1.0, 5.0])


@pytest.mark.parametrize(
    "value, text", [(1000, "1000"), (0.001, "0.001"), (12345, "12300"), (0.3, "0.3"), (-2.5, "-2.5"), (2e7, "2e+07")]
)
def test_numbers_at_ticks_are_no_powers_of_ten_where_they_need_not_be(value, text):
    assert at_tick(value) == text


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return recorded(tmp_path_factory.mktemp("studies"), TRIALS)


@pytest.fixture(scope="module")
def drawn(study):
    return study.plot()


def test_all_figures_are_drawn_from_a_ledger_in_use(study, drawn):
    assert [p.relative_to(study.folder) for p in drawn.paths] == [
        *(study.folder.joinpath("figures", f"{n}.png").relative_to(study.folder) for n in FIGURES),
        study.folder.joinpath("figures", "plots.html").relative_to(study.folder),
    ]
    assert drawn.left_out == {}
    for path in drawn.paths[:-1]:
        with Image.open(path) as image:
            image.verify()
            assert image.width >= 1000


def test_learning_curves_are_those_of_the_ledger_with_the_best_marked(study):
    data = plots.curves(study.trials(), SPEC)
    by_number = {t.number: t for t in TRIALS}
    assert {t.number for t, _, _ in data.curves} == {t.number for t, _ in plots.valued(TRIALS, SPEC)}
    for trial, epochs, values in data.curves:
        value = by_number[trial.number].result[SPEC.metric]
        assert (epochs, values) == ([1, 10], pytest.approx([2 * value, value]))
    assert data.best == min((t for t in TRIALS if t.value is not None), key=lambda t: t.value).number
    with pytest.raises(NotDrawn, match="no trial has reported two epochs"):
        plots.curves(TRIALS, SPEC)


def test_the_page_has_result_config_and_a_table_to_sort(study, tmp_path):
    path = draw_figures(study.trials(), SPEC, tmp_path, "html", result=["accuracy <1>"]).paths[-1]
    page = path.read_text(encoding="utf-8")
    assert "<pre>accuracy &lt;1&gt;</pre>" in page
    best = min((t for t in TRIALS if t.value is not None), key=lambda t: t.value)
    (config,) = re.findall(r"<pre>(\[config\].*?)</pre>", page, re.DOTALL)
    assert tomllib.loads(html.unescape(config)) == {"config": {**SPEC.config, **best.config}}
    table = page.partition("<table class=trials>")[2]
    rows = re.findall(r"<tr( class=best)?><td data-value=\"(\d+)\">", table)
    assert [int(number) for _, number in rows] == [t.number for t in TRIALS]
    assert [int(number) for marked, number in rows if marked] == [best.number]
    assert f'data-value="{best.value!r}"' in table, "sorted by all digits"


def test_a_config_as_toml_can_be_read_again():
    values = {"a": 1, "b": 1e-5, "c": True, "d": 'x"\\\n', "e": [1, 2], "f": None, "g": 2.0}
    assert tomllib.loads(toml("config", values)) == {"config": {n: v for n, v in values.items() if v is not None}}


def test_the_page_needs_nothing_else_and_says_what_each_trial_is(drawn):
    page = drawn.paths[-1].read_text(encoding="utf-8")
    assert not re.search(r'<(script|link|img)[^>]*(src|href)="(?!data:)', page), "opens without a network"
    # Plotly's button would upload a figure to its makers' servers.
    assert page.count('"showSendToCloud": false') == len(FIGURES)
    head, body = page.split("</head>")
    assert len(head) > 1e6
    assert len(body) < 1e6, "the library is there once"
    for name in FIGURES:
        assert f'id="{name}"' in body
    for trial in TRIALS:
        assert f"\\u003cb\\u003etrial {trial.number}\\u003c\\u002fb\\u003e, {trial.state}" in body
    best = min((t for t in TRIALS if t.value is not None), key=lambda t: t.value)
    assert f"width {best.config['width']}" in body
    assert "&lt;finite&gt;" in json.loads(f'"{re.search("loss is not [^<]*?finite[^<]*?;", body).group()}"')


def test_any_optuna_tool_opens_the_ledger_and_sees_every_state(study):
    loaded = optuna.load_study(study_name="synthetic", storage=f"sqlite:///{study.folder / 'ledger.db'}")
    assert loaded.metric_names == ["validation_loss"]
    names = {"finished": "COMPLETE", "failed": "FAIL", "pruned": "PRUNED", "stopped": "PRUNED", "running": "RUNNING"}
    assert [t.state.name for t in loaded.trials] == [names[t.state] for t in TRIALS]
    for theirs, ours in zip(loaded.trials, TRIALS, strict=True):
        assert theirs.params == ours.config
        assert theirs.value == ours.value or ours.value is None
        assert bool(theirs.intermediate_values) == bool(ours.result)
        assert theirs.user_attrs["score:rfr"] == ours.scores["rfr"]
    # Their own figures come out of it.
    assert optuna.visualization.plot_optimization_history(loaded).data
    assert optuna.visualization.plot_parallel_coordinate(loaded).data


def test_optuna_finds_the_front_of_a_ledger_with_three_objectives(tmp_path):
    names = ["validation_loss", "inference_time", "forces_mae"]
    spec = StudySpec.of(SPEC.model_dump() | {"method": "optuna", "minimize": names, "options": {}})
    trials = synthetic(25, spec)
    study = recorded(tmp_path, trials, spec)
    loaded = optuna.load_study(study_name="synthetic", storage=f"sqlite:///{study.folder / 'ledger.db'}")
    assert loaded.metric_names == names
    data = pareto(study.trials(), spec)
    front = {t.number for (t, _), best in zip(data.points, data.front, strict=True) if best}
    assert front == {t.number for t in loaded.best_trials} == {t.number for t in study.pareto_front()}


def plot(folder, *options, code=0):
    result = CliRunner().invoke(cli, ["study", "plot", "synthetic", "--studies", str(folder), *map(str, options)])
    assert result.exit_code == code, result.output
    return result


def test_the_command_prints_what_it_wrote_and_what_it_left_out(tmp_path):
    recorded(tmp_path, TRIALS[:2])
    result = plot(tmp_path, "--format", "png", "--output", tmp_path / "out")
    written = {p.name for p in (tmp_path / "out").iterdir()}
    assert {line.rsplit("/", 1)[-1] for line in result.stdout.splitlines()} == written
    assert written == {f"{name}.png" for name in FIGURES if name != "importance"}
    assert result.stderr == "left out: importance: 2 finished trials, at least 20 are needed\n"
    assert not (tmp_path / "synthetic" / "figures").exists()
    (line,) = plot(tmp_path, "--format", "html").stdout.splitlines()
    assert line == str(tmp_path / "synthetic" / "figures" / "plots.html")
    assert (
        "Left out: 2 finished trials, at least 20 are needed."
        in (tmp_path / "synthetic/figures/plots.html").read_text()
    )


def test_one_finished_trial_has_its_figures_too(tmp_path):
    drawn = recorded(tmp_path, TRIALS[:1]).plot(form="png")
    assert [p.stem for p in drawn.paths] == ["history", "compute", "curves", "score", "pareto", "slots"]


@pytest.mark.parametrize(
    "trials, message",
    [
        ([], "study 'synthetic' has nothing to draw: no trial has a value yet (no trials)"),
        (
            [replace(TRIALS[2], number=0)],
            "study 'synthetic' has nothing to draw: no trial has a value yet (1 failed); trial 0: loss is not <finite>",
        ),
    ],
)
def test_a_study_without_a_value_is_refused_in_one_line(tmp_path, trials, message):
    study = recorded(tmp_path, trials)
    with pytest.raises(StudyError) as error:
        study.plot()
    assert str(error.value) == message
    assert plot(tmp_path, code=1).stderr == f"Error: {message}\n"
    assert not (study.folder / "figures").exists()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    recorded(tmp_path, TRIALS[:1])
    (tmp_path / "file").write_text("in the way")
    line = plot(tmp_path, "--output", tmp_path / "file" / "out", "--format", "png", code=1).stderr
    assert line.startswith(f"Error: {tmp_path / 'file' / 'out' / 'history.png'}: cannot be written")
