"""An endpoint of an alloy's surrogate: configurations in, predictions out."""

import io
import json
import re

import ase
import ase.io
import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner

from dftune import Model
from dftune.platform.cli.main import cli
from dftune.platform.serve.client import Client
from dftune.platform.serve.proxy import AnswerAlways, Replicas
from dftune.platform.serve.settings import EndpointSettings
from dftune.platform.serve.shelf import Shelf
from dftune.platform.serve.web import web_app
from dftune.tests.places import ROOT
from dftune.tests.platform.serve.asgi import ask, listening

L10 = ROOT / "examples" / "alloys" / "CuAu_L10.xyz"
ONE = {"cell": (4 * np.eye(3)).tolist(), "positions": [[0, 0, 0]], "symbols": ["Al"]}


def endpoint(model):
    """Its application."""
    return web_app(Shelf.of(model), EndpointSettings(model="here", without_token=True))


def test_the_card_of_an_alloy_is_as_the_endpoint_describes_it(alloy):
    app = endpoint(Model.open(alloy))
    components = ask(app, "/openapi.json").json()["components"]
    schema = {"$ref": "#/components/schemas/Model", "components": components}
    jsonschema.validate(ask(app, "/v1/models/model").json(), schema)


def test_an_alloy_is_asked_for_by_atoms_texts_and_digits(alloy, tmp_path):
    atoms, model = ase.io.read(L10), Model.open(alloy)
    expected = model.predict(atoms).to_dict()
    symbols = atoms.get_chemical_symbols()
    digits = "".join("01"[symbol == "Au"] for symbol in symbols)
    app, sink = endpoint(model), io.StringIO()
    ase.io.write(sink, atoms, format="extxyz")
    answer = ask(app, "/v1/predict", sink.getvalue().encode(), headers={"content-type": "chemical/x-xyz"}).json()
    assert answer["formation_energy"] == pytest.approx(expected["formation_energy"], abs=1e-6)
    assert answer["units"]["formation_energy"] == "mRy/atom"
    model.surrogate.answer.model_validate(answer)
    with listening(AnswerAlways(app, lambda: Replicas.RUN)) as url, Client(url) as client:
        alone = [client.predict(one) for one in (atoms, " ".join(symbols), digits)]
        batch = client.predict([digits, "Cu", atoms], on_error="return")
        text = client.text(digits)
        there = CliRunner().invoke(cli, ["model", "predict", "model", digits, "--url", url, "--json"])
    assert [one.formation_energy for one in alone] == pytest.approx([expected["formation_energy"]] * 3, abs=1e-6)
    assert batch[0].charge == pytest.approx(np.array(expected["charge"]), abs=1e-5)
    assert "1 elements, and the lattice has 32 sites" in str(batch[1])
    assert "formation energy" in text
    (found,) = json.loads(there.stdout)["predictions"]
    assert (found["structure"], found["Au"]) == (digits, 16)


def test_the_page_knows_where_the_sites_of_an_alloy_are(alloy):
    """So that a text of elements is drawn: atoms there are predicted as the text."""
    model = Model.open(alloy)
    text = ask(endpoint(model), "/", headers={"accept": "text/html"}).content.decode()
    about = json.loads(re.search("<script type=application/json id=about>(.*)</script>", text)[1])["model"]
    sites, digits = about["sites"], "01101001100101100010110111010010"
    atoms = ase.Atoms([sites["symbols"][int(one)] for one in digits], sites["positions"], cell=sites["cell"], pbc=True)
    expected = model.predict(digits).to_dict()
    assert model.predict(atoms).to_dict()["charge"] == pytest.approx(expected["charge"], abs=1e-6)
    accuracy = model.card.accuracy.to_dict()
    assert f"charge {accuracy['charge_mae']:.2g} e" in expected["expected_errors"]
    assert expected["expected_errors"] in "\n".join(model.predict(digits).lines())


@pytest.mark.parametrize(
    "body, said",
    [
        ({"structure": "Cu " * 31}, "31 elements, and the lattice has 32 sites"),
        ({"structure": "Cu Xx"}, "'Xx' is neither Cu nor Au, nor 0 or 1"),
        ({"structure": str(L10)}, f"'{str(L10)[:20]}' is neither Cu nor Au, nor 0 or 1"),
        ({"structure": "9" * 400}, "'9' is neither Cu nor Au, nor 0 or 1"),
        ({"structure": ONE}, "the model knows Cu, Au but not Al"),
        ({"structure": "01" * 16, "forces": "mean"}, "forces: extra inputs are not permitted"),
        ({}, "structure: field required"),
    ],
)
def test_what_is_no_configuration_of_an_alloy_is_refused(alloy, body, said):
    """Nor is a text the name of a file on the endpoint's machine."""
    answer = ask(endpoint(Model.open(alloy)), "/v1/predict", body)
    assert (answer.status, answer.json()["detail"]) == (422, said)
