"""A kind of surrogates in one file of its own runs through everything there is."""

import asyncio
import dataclasses
import json
import math
import re
import shutil
import urllib.request

import numpy as np
import pytest
from click.testing import CliRunner

import dftune
from dftune import Model, Study
from dftune.platform.cli.main import cli
from dftune.platform.serve.server import served
from dftune.platform.serve.settings import EndpointSettings
from dftune.platform.serve.shelf import Shelf
from dftune.platform.serve.web import web_app
from dftune.platform.spec import StudySpec
from dftune.platform.study.conclusion import Conclusion
from dftune.platform.study.defaults import result_lines
from dftune.platform.study.errors import StudyError
from dftune.platform.study.trainer import FIRST_SEED
from dftune.platform.study.untrained import is_better
from dftune.tests.places import ROOT
from dftune.tests.platform.serve.asking import free_port
from dftune.tests.toy_kind import ToyConfig, ToyKind
from dftune.trainables.errors import InputError
from dftune.trainables.progress import Silent

pytestmark = pytest.mark.usefixtures("toy")
FEW = {"candidates": 4, "top": 3, "calibration": 0}  # which one process scores
ONE = {"concurrent": 1}


def run(*arguments):
    """What a command prints."""
    result = CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="dftune")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_nothing_outside_a_kinds_own_files_names_it():
    sources = [
        p for folder in ("platform", "searchers", "cluster", "trainables") for p in (ROOT / folder).rglob("*.py")
    ]
    assert len(sources) > 100
    assert [str(p) for p in sources if re.search(r"\btoys?\b", p.read_text(encoding="utf-8"), re.IGNORECASE)] == []


# ---------------------------------------------------------------- a model, without Ray


@pytest.fixture(scope="module")
def by_hand(toy, numbers, tmp_path_factory):
    """The folder of a model that was trained here."""
    data = toy.open(str(numbers))
    training, test = toy.split_for_training(data, toy.settings())
    config = ToyConfig(epochs=9)
    trained = toy.train(config, training, seeds=[1, 2], report=lambda report: None)
    accuracy = toy.judge(trained, training, test).accuracy
    card = toy.card("by-hand", data, toy.settings(), config, [1, 2], accuracy)
    folder = tmp_path_factory.mktemp("models") / "line.model"
    Model.assemble(card, toy.tensors(trained)).save(folder)
    return folder


def test_a_model_is_opened_by_the_kind_that_its_card_names(toy, by_hand):
    model = Model.open(by_hand)
    assert model.kind is toy
    assert model.predict(3.0).to_dict()["y"] == pytest.approx(6.0, abs=0.3)
    with pytest.raises(InputError, match="numbers below zero have no line"):
        model.predict(-1.0)
    with pytest.raises(InputError, match="this model takes no temperature"):
        model.predict(3.0, temperature=1.0)


def test_the_commands_show_predict_and_check_a_model(by_hand, numbers, tmp_path):
    (tmp_path / "three").write_text("3.0")
    (tmp_path / "four").write_text("4.0")
    shown = run("model", "show", by_hand)
    assert shown.startswith("surrogate from study by-hand, dataset numbers\n")
    assert "rate 0.5, epochs 9" in shown
    (found,) = json.loads(run("model", "predict", by_hand, tmp_path / "three", "--json"))["predictions"]
    assert found["y"] == Model.open(by_hand).predict(3.0).to_dict()["y"]
    table = run("model", "predict", by_hand, tmp_path / "three", tmp_path / "four")
    assert [name in table for name in ("three", "four", f"{found['y']:.5g}")] == [True] * 3, table
    checked = run("model", "check", by_hand, numbers)
    assert "the stated accuracy is confirmed" in checked
    assert json.loads(run("model", "check", by_hand, numbers, "--json"))["differences"] == []


def asked(app, path, body=None, kind="application/json"):
    """Status and content of an answer of an ASGI application."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": body or b"", "more_body": False}

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", kind.encode()), (b"host", b"here")]
    scope = {"type": "http", "http_version": "1.1", "method": "GET" if body is None else "POST", "scheme": "http"}
    scope |= {"path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers, "root_path": ""}
    asyncio.run(app({**scope, "server": ("here", 80), "client": ("there", 1)}, receive, send))
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent))


def test_the_endpoint_of_a_model_asks_its_surrogate_for_everything(by_hand):
    model = Model.open(by_hand)
    app = web_app(Shelf.of(model), EndpointSettings(model=str(by_hand), without_token=True))
    assert asked(app, "/v1/predict", b'{"structure": 3.0}') == (200, model.predict(3.0).to_dict() | {"units": {}})
    assert asked(app, "/v1/model") == (200, model.card.model_dump(mode="json"))
    assert asked(app, "/v1/predict", b'{"structure": -3.0}') == (422, {"detail": "numbers below zero have no line"})
    assert asked(app, "/v1/predict", b'{"structure": "x"}')[0] == 422
    assert asked(app, "/v1/predict", b"{")[0] == 400
    assert asked(app, "/v1/predict", b"3.0", "text/plain") == (
        415,
        {"detail": "content type text/plain; send application/json"},
    )
    schemas = asked(app, "/openapi.json")[1]["components"]["schemas"]
    assert schemas["Request"]["properties"].keys() == {"structure"}


# ---------------------------------------------------------------- a study


@pytest.fixture(scope="module")
def study(local_ray, toy, numbers, tmp_path_factory):
    """A study that has ended: three of four candidates trained."""
    study = Study(
        "line", numbers, method="rate", options=FEW, initializations=2, toys={"shift": 0.5},
        studies=tmp_path_factory.mktemp("studies"),
    )  # fmt: skip
    study.run()
    return study


def test_a_study_trains_the_best_scored_and_chooses_the_best(study, toy, numbers):
    opened = Study.open("line", study.folder.parent)
    trials = opened.trials()
    assert opened.spec == study.spec
    assert [(t.state, t.scores["rate"]) for t in trials] == [("finished", t.config["rate"]) for t in trials]
    assert len(trials) == 3
    training, _ = toy.split_for_training(toy.open(str(numbers)), study.spec.settings)
    for t in trials:
        alone = toy.train(ToyConfig(**t.config), training, seeds=[t.seed], report=lambda report: None)
        assert t.value == alone.last_report["best_error"]
        price = abs(t.config["rate"] - 0.5)
        reported = {"best_error": t.value, "best_bias": alone.last_report["best_bias"], "price": price}
        assert t.result == {"epoch": 3, "seconds": 0.0, "points": 12, **reported}
    conclusion, best = opened.conclusion(), min(trials, key=lambda t: t.value)
    assert (conclusion.trial, conclusion.value) == (best.number, best.value)
    seeds = [study.spec.trial_seed(FIRST_SEED + t) for t in range(2)]
    default = toy.train(ToyConfig(), training, seeds=seeds, report=lambda report: None)
    accuracy = toy.judge(default, training, toy.split_for_training(toy.open(str(numbers)), study.spec.settings)[1])
    assert conclusion.defaults["config"] == ToyConfig().model_dump()
    assert conclusion.defaults["accuracy"] == accuracy.accuracy.to_dict()
    assert opened.best_config == best.config
    with opened.reading() as ledger:
        assert ledger.placement()["sizes"] == {}
    assert "rate" in {quality.name for quality in opened.score_qualities()}
    assert list(opened.dataframe()["rate"]) == [t.config["rate"] for t in trials]


def test_its_model_is_exported_and_keeps_its_stated_accuracy(study, numbers, tmp_path):
    model = study.export(tmp_path / "line.model")
    opened = Model.open(tmp_path / "line.model")
    assert opened.card == model.card
    assert (opened.card.kind, opened.card.study, opened.card.n_initializations) == ("toy", "line", 2)
    assert opened.card.versions.keys() >= {"dftune", "ray", "python"}
    conclusion = study.conclusion()
    assert conclusion.untrained["value"] < conclusion.final_value, "so that one is handed over"
    assert opened.card.accuracy.to_dict() == conclusion.untrained["accuracy"] != conclusion.accuracy
    assert Model.open(study.folder / "model").card.accuracy.to_dict() == conclusion.accuracy
    assert opened.predict(2.0).to_dict() == {"y": 2.0 * float(np.mean(opened.surrogate.slopes))}


def test_a_model_that_is_gone_is_said_and_made_again_by_resume(study, tmp_path):
    shutil.copytree(study.folder, tmp_path / "line")
    again, first = Study.open("line", tmp_path), study.conclusion()
    assert again.resume() == first
    shutil.rmtree(again.folder / "untrained")
    with pytest.raises(StudyError, match="has no model yet; `dftune study resume line` ends it"):
        again.export(tmp_path / "x")
    again.resume()
    made = again.conclusion()
    assert dataclasses.replace(made, seconds=first.seconds) == first
    assert again.model().card.accuracy.error == first.untrained["accuracy"]["error"]
    shutil.rmtree(again.folder / "untrained")
    again.resume(defaults=False)
    assert (again.conclusion().surrogate, again.model().card.accuracy.to_dict()) == ("trial", first.accuracy)


def test_the_commands_show_and_plot_a_study(study, tmp_path):
    places = ("--studies", study.folder.parent)
    shown = run("study", "show", "line", *places)
    assert "best_error" not in shown, "people read the label"
    assert re.search(r"error .* cm", shown), shown
    assert "trials at once" in shown
    drawn = run("study", "plot", "line", *places, "--output", tmp_path)
    assert (tmp_path / "plots.html").is_file(), drawn
    assert (tmp_path / "history.png").is_file(), drawn
    assert "error [cm]" in (tmp_path / "plots.html").read_text(encoding="utf-8")


def test_the_surrogate_without_training_comes_first_and_stays_beside_it(study, toy, numbers):
    training, test = toy.split_for_training(toy.open(str(numbers)), study.spec.settings)
    x, y = training.train.T
    slope = (x * y).sum() / (x * x).sum()
    first = study.conclusion().untrained
    assert first["config"] == ToyConfig(rate=1.0, epochs=1).model_dump()
    assert first["accuracy"] == {"error": pytest.approx(np.square(slope * test[:, 0] - test[:, 1]).mean())}
    model = Model.open(study.folder / "untrained" / "model")
    assert model.surrogate.slopes == pytest.approx(np.full(2, slope))
    assert "without training (" in run("study", "show", "line", "--studies", study.folder.parent)


def test_the_first_network_is_shown_before_all_of_them_and_kept_until_then(local_ray, numbers, tmp_path):
    said, models, folder = [], [], tmp_path / "line" / "untrained" / "model"

    class Heard(Silent):
        def say(self, text):
            said.append(text)
            self.update("", 0, None)

        def update(self, stage, done, total, text=""):
            if (folder / "model.json").is_file():
                models.append(Model.open(folder).card.n_initializations)

    study = Study("line", numbers, method="random", trials=1, initializations=2, studies=tmp_path, resources=ONE)
    conclusion = study.run(progress=Heard())
    first = next(k for k, line in enumerate(said) if line.startswith("one network without training ("))
    assert said[first].endswith(", the first of 2:")
    assert said[first + 1].startswith("error ")
    assert any(line.startswith("without training (") for line in said[first + 1 :])
    assert [n for k, n in enumerate(models) if k == 0 or models[k - 1] != n] == [1, 2]
    assert conclusion.seconds["first network"] > 0
    assert conclusion.untrained["accuracy"] == Model.open(folder).card.accuracy.to_dict()


def test_without_a_search_one_trial_is_the_surrogate_that_needs_no_training(local_ray, toy, numbers, tmp_path):
    asked = {"initializations": 2, "resources": ONE}
    study = Study("none", numbers, method="none", config={"epochs": 2}, studies=tmp_path, **asked)
    conclusion = study.run()
    assert (len(study.trials()), conclusion.untrained) == (1, None), "it is the result itself"
    assert conclusion.config == ToyConfig(rate=1.0, epochs=2).model_dump(), "what is held at a value keeps it"
    fitted = dftune.fit(numbers, tmp_path / "line.model", config={"epochs": 2}, **asked)
    assert fitted.card.accuracy == study.model().card.accuracy
    assert list(fitted.surrogate.slopes) == list(study.model().surrogate.slopes)
    assert Model.open(tmp_path / "line.model").predict(2.0).to_dict() == fitted.predict(2.0).to_dict()
    with pytest.raises(InputError, match=r"line\.model: exists already; choose another name or remove it first"):
        dftune.fit(numbers, tmp_path / "line.model")


def test_a_place_that_cannot_be_written_is_known_before_a_fit(toy, numbers, tmp_path):
    """Ray is not started, which no test without its mark may."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file: cannot be written \(File exists\); choose a folder"):
        dftune.fit(numbers, tmp_path / "file" / "line.model")


def test_a_study_goes_on_without_the_surrogate_that_could_not_be_made(local_ray, numbers, tmp_path, monkeypatch):
    monkeypatch.setattr(ToyKind, "untrained", {"rate": 1e200, "epochs": 3})
    said = []
    progress = type("Said", (Silent,), {"say": lambda self, text: said.append(text)})()
    study = Study("line", numbers, method="random", trials=1, initializations=1, studies=tmp_path, resources=ONE)
    conclusion = study.run(progress=progress)
    assert conclusion.untrained == {"left_out": "the slopes are not finite; lower the rate"}
    assert study.model().card.accuracy.to_dict() == conclusion.accuracy
    assert "no surrogate without training: the slopes are not finite; lower the rate" in said
    assert not (study.folder / "untrained").exists()


@pytest.mark.parametrize(
    ("minimize", "value", "surrogate", "said"),
    [
        (
            "error",
            0.1,
            "untrained",
            "the one without training is better: error 0.1 cm, trial 3\nerror 0.2 cm after its",
        ),
        (
            "error",
            0.3,
            "trial",
            "trial 3 is better after its final training: error 0.2 cm,\nwithout training error 0.3 cm",
        ),
        ("error", math.nan, "trial", "trial 3 is better"),
        (["error", "price"], 0.1, "trial", ""),
    ],
)
def test_a_study_hands_over_the_better_one_by_its_validation_data(toy, numbers, minimize, value, surrogate, said):
    spec = StudySpec.of({"name": "line", "dataset": str(numbers), "method": "optuna", "minimize": minimize})
    untrained = {"network": "x", "accuracy": {"error": 1.0}, "value": value}
    assert is_better(spec, untrained, 0.2) == (surrogate == "untrained")
    found = Conclusion(3, {}, 0.5, {"error": 2.0}, {}, untrained=untrained, surrogate=surrogate, final_value=0.2)
    assert said in "\n".join(result_lines(spec, found))
    assert ("is the surrogate of this study" in result_lines(spec, found)[-1]) == bool(said)


def test_a_kind_that_needs_training_is_not_fitted_without(toy, numbers, tmp_path, monkeypatch):
    monkeypatch.setattr(ToyKind, "untrained", None)
    for make in (
        lambda: dftune.fit(numbers, tmp_path / "line.model"),
        lambda: Study("none", numbers, method="none", studies=tmp_path).run(),
    ):
        with pytest.raises(InputError, match="method none: surrogates of kind 'toy' need training; choose another"):
            make()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "minimize, sampler", [(["error + 3 bias", "price"], "tpe"), (["error", "price", "bias"], "nsgaii")]
)
def test_values_and_costs_are_minimised_beside_each_other(local_ray, numbers, tmp_path, minimize, sampler):
    study = Study(
        "several", numbers, method="optuna", minimize=minimize, studies=tmp_path, trials=3, initializations=1,
        resources=ONE, options={"startup": 2, "sampler": sampler},
    )  # fmt: skip
    ended = study.run(progress=Silent(), defaults=False)
    trials = study.trials()
    assert len(trials) == 3
    for trial in trials:
        error, bias, price = (trial.result[name] for name in ("best_error", "best_bias", "price"))
        expected = (error + 3 * bias, price) if len(minimize) == 2 else (error, price, bias)
        assert trial.objectives == pytest.approx(expected, rel=1e-12)
    assert ended.trial in {t.number for t in study.pareto_front()}


def test_an_endpoint_serves_a_kind_that_its_replicas_have_not_registered(local_ray, by_hand):
    port = free_port()
    with served(EndpointSettings(model=str(by_hand), without_token=True), port=port):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/predict", b'{"structure": 3.0}', {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            found = json.loads(answer.read())
    assert found == Model.open(by_hand).predict(3.0).to_dict() | {"units": {}}
