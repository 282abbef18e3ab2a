"""Models and their versions: which answers, and what becomes of a swap."""

import json
import shutil

import numpy as np
import pytest

from dftune.platform.model.model import Model, ModelError
from dftune.platform.serve.settings import EndpointError, EndpointSettings, named
from dftune.platform.serve.shelf import Shelf, UnknownModel
from dftune.platform.serve.web import web_app
from dftune.tests.platform.serve.asgi import ask
from dftune.tests.toy_kind import Line, ToyCard, ToyError, ToyKind

KIND = ToyKind()


def line(slope: float) -> Model:
    """The surrogate y = slope x."""
    accuracy, about = ToyError(error=0.0), {"study": "s", "dataset": "d", "dataset_sha256": "0", "kind": "toy"}
    card = ToyCard(**about, config={}, n_initializations=1, seeds=[0], accuracy=accuracy)
    return Model(Line(np.array([slope]), card=card), KIND)


def settings_of(**changes) -> EndpointSettings:
    return EndpointSettings(**{"without_token": True} | changes)


@pytest.fixture
def shelf(tmp_path):
    line(2).save(tmp_path / "up" / "9")
    line(-1).save(tmp_path / "down.model")
    models = named([str(tmp_path / "up"), str(tmp_path / "down.model")])
    return Shelf(settings_of(models=models), dict.fromkeys(models, KIND))


def y(shelf: Shelf, asked: str | None = None) -> float:
    return shelf.get(asked).model.predict(1.0).to_dict()["y"]


def test_each_model_answers_by_its_name_and_the_first_without_one(shelf):
    assert shelf.names == ["up", "down"]
    assert (y(shelf), y(shelf, "up"), y(shelf, "down"), y(shelf, "up@9")) == (2, 2, -1, 2)
    with pytest.raises(UnknownModel, match="no model 'upp' here; did you mean 'up'"):
        shelf.get("upp")
    with pytest.raises(UnknownModel, match="no version '8' of up; there are 9"):
        shelf.get("up@8")


def test_a_version_put_beside_the_others_answers_and_they_can_still_be_asked(shelf, tmp_path):
    asked_before = shelf.get("up")
    line(3).save(tmp_path / "up" / "10")  # the order is that of numbers, not of letters
    assert y(shelf) == 2, "not before it is looked at"
    shelf.look()
    assert (y(shelf), y(shelf, "up@9"), asked_before.model.predict(1.0).to_dict()["y"]) == (3, 2, 2)
    assert shelf.versions("up") == ["9", "10"]
    shutil.rmtree(tmp_path / "up" / "10")
    shelf.look()
    assert (y(shelf), shelf.versions("up")) == (2, ["9"])


def test_a_model_in_the_place_of_another_answers(shelf, tmp_path):
    (before,) = shelf.versions("down")
    shutil.rmtree(tmp_path / "down.model")
    shelf.look()
    assert y(shelf, "down") == -1, "while there is none, the one in memory goes on"
    assert "not a model" in shelf.describe("down")["problem"]
    line(-5).save(tmp_path / "down.model")
    shelf.look()
    assert y(shelf, "down") == -5
    assert shelf.versions("down") != [before]
    assert shelf.describe("down")["problem"] is None


def test_a_damaged_version_never_answers_and_is_said(shelf, tmp_path):
    line(3).save(tmp_path / "up" / "10")
    weights = tmp_path / "up" / "10" / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    shelf.look()
    shelf.look()
    about = shelf.describe("up")
    assert (y(shelf), about["version"]) == (2, "9")
    assert "damaged" in about["problem"]
    weights.write_bytes(whole)  # as when a copy comes to its end
    shelf.look()
    assert (y(shelf), shelf.describe("up")["problem"]) == (3, None)


def test_a_version_of_another_kind_never_answers(shelf, tmp_path):
    class OtherKind(ToyKind):
        name = "other"

    line(3).save(tmp_path / "up" / "10")
    shelf._kinds["up"] = OtherKind()
    shelf.look()
    assert y(shelf) == 2
    assert "of kind other, and up is of kind toy; serve it by another name" in shelf.describe("up")["problem"]


def test_a_version_for_other_elements_never_answers(shelf, tmp_path, monkeypatch):
    monkeypatch.setattr(type(line(3).card), "subject", property(lambda card: "surrogate for Fe"))
    line(3).save(tmp_path / "up" / "10")
    shelf.look()
    assert y(shelf) == 2
    assert "10: a surrogate for Fe, and up is a surrogate; serve it by another name" in shelf.describe("up")["problem"]


def test_few_models_are_in_memory_and_the_others_are_loaded_again(tmp_path):
    models = {f"m{n}": str(tmp_path / f"m{n}") for n in range(4)}
    for n, folder in enumerate(models.values()):
        line(n).save(folder)
    shelf = Shelf(settings_of(models=models, loaded=2), dict.fromkeys(models, KIND))
    for n in (0, 3, 0, 1, 2):
        assert y(shelf, f"m{n}") == n
    assert [name for name in models if shelf.describe(name)["loaded"]] == ["m1", "m2"]


def test_the_web_side_serves_all_models(shelf):
    app = web_app(shelf, settings_of(model="up"))
    assert ask(app, "/v1/models/down/predict", {"structure": 3.0}).json() == {"y": -3.0, "units": {}}
    assert ask(app, "/v1/predict", {"structures": [3.0, -1.0, 1.0]}).json()["predictions"] == [
        {"y": 6.0, "units": {}},
        {"detail": "numbers below zero have no line", "status": 422},
        {"y": 2.0, "units": {}},
    ]
    first, second = ask(app, "/v1/models").json()["models"]
    assert (first["name"], first["version"], second["name"]) == ("up", "9", "down")
    details = ask(app, "/v1/models/up").json()
    assert (details["card"]["accuracy"], details["limits"]["size"]) == ({"error": 0.0}, 500_000)
    assert 'dftune_model_info{kind="toy",model="up@9"} 1.0' in ask(app, "/metrics").content.decode()
    unknown = ask(app, "/v1/models/left/predict", {"structure": 3.0})
    assert (unknown.status, unknown.json()["detail"]) == (404, "no model 'left' here; there are up, down")


def test_names_follow_from_folders_unless_they_are_given():
    given = ["/models/al 4.model", "be=/models/x=1", "/a=b/c"]
    assert named(given) == {"al-4": "/models/al 4.model", "be": "/models/x=1", "c": "/a=b/c"}
    with pytest.raises(EndpointError, match=r"two models are named a: x/a and y/a\.model; name one by NAME=FOLDER"):
        named(["x/a", "y/a.model"])
    for text in ("a b=/x", "=/x", "a=", "é=/x"):
        with pytest.raises(EndpointError, match="give FOLDER or NAME=FOLDER"):
            named([text])


def test_settings_say_what_is_wrong(tmp_path):
    assert settings_of(model="/x/al.model").models == {"al": "/x/al.model"}
    for wrong, said in (
        ({"models": {}}, "at least 1 item"),
        ({"models": {"a/b": "x"}}, "match pattern"),
        ({"model": "x", "models": {"a": "x"}}, "give either model or models"),
        ({"model": "x", "replicas": 3, "max_replicas": 2}, "max_replicas is 2, below replicas, 3"),
    ):
        with pytest.raises(ValueError, match=said):
            settings_of(**wrong)
    with pytest.raises(ModelError, match="not a model"):
        Shelf(settings_of(model=str(tmp_path)))
    json.dumps(settings_of(model="x").model_dump(mode="json"))
