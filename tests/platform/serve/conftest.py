"""Surrogates that an endpoint serves."""

import pytest

from dftune.tests.places import ROOT


@pytest.fixture(scope="session")
def alloy(tmp_path_factory):
    """The folder of a surrogate of CuAu on 32 sites whose last layer was fitted."""
    from dftune import Model
    from dftune.trainables.alloys.data import AlloyData
    from dftune.trainables.alloys.kind import AlloyKind
    from dftune.trainables.alloys.splits import SplitSettings

    kind, settings, folder = AlloyKind(), SplitSettings(), tmp_path_factory.mktemp("models") / "CuAu"
    data = AlloyData.open(ROOT / "examples" / "alloys" / "CuAu")
    config = kind.config.of({"width": 9, "epochs": 2, "images": 1, "training": "none"})
    training, test = kind.split_for_training(data, settings)
    trained = kind.train(config, training, seeds=[1, 2], device="cpu", memory=1e9, report=lambda report: None)
    accuracy = kind.judge(trained, training, test).accuracy
    card = kind.card("by-hand", data, settings, config, trained.seeds, accuracy)
    Model.assemble(card, kind.tensors(trained), kind).save(folder)
    return folder
