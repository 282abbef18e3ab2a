"""Surrogates that are trained in seconds, for tests of what is done with one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dftune import BispectrumSettings, Model
from dftune.trainables.alloys.data import AlloyData
from dftune.trainables.alloys.kind import AlloyKind
from dftune.trainables.alloys.splits import SplitSettings
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.ldos.card import card_for
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.error_bars import calibrated
from dftune.trainables.ldos.judgement import judge
from dftune.trainables.ldos.neighbours import Neighbours
from dftune.trainables.ldos.training import train
from dftune.trainables.ldos.training_data import Scaling, SnapshotData, TrainingData

ALUMINIUM = BispectrumSettings(cutoff=4.68, two_j_max=6)


def as_test(snapshots: Sequence[SnapshotData]) -> list[SnapshotData]:
    """The same snapshots, of the split for the test."""
    return [replace(d, snapshot=replace(d.snapshot, split="test")) for d in snapshots]


def small_model(dataset: Dataset, settings: BispectrumSettings = ALUMINIUM) -> Model:
    """A surrogate that is trained in five seconds: T = 2, of al4 some 15 meV/atom off."""

    def data_of(split) -> list[SnapshotData]:
        return [
            SnapshotData(
                s, [bispectrum(s.cell, s.positions, s.numbers, s.grid, settings)], list(dataset.ldos(s).arrays())
            )
            for s in dataset.split(split)
        ]

    training, grid = data_of("train"), dataset.info.energy_grid
    validation = data_of("validation")
    info = dataset.info
    data = TrainingData(training, validation[:1], grid, Scaling.fit(training), settings, info.species, info.dft)
    config = SurrogateConfig(n_layers=2, width=48, activation="silu", epochs=12, batch_size=128, learning_rate=2e-3)
    trained = train(config, data, seeds=[1, 2])
    surrogate, known = (trained.network, data.scaling, grid), {"ingredients": data.ingredients}
    bars = calibrated(judge(*surrogate, data.validation, **known).errors)
    accuracy = judge(*surrogate, data_of("test"), **known, bars=bars).accuracy
    card = card_for("by hand", config, [1, 2], dataset, settings, accuracy)
    near = Neighbours.fit(replace(data, validation=validation))
    return Model.assemble(card, trained.network.arrays() | data.scaling.tensors() | near.tensors())


def small_alloy(data: AlloyData, **values: Any) -> Model:
    """A surrogate of an alloy that is trained in a moment, with these hyperparameters besides."""
    kind, settings = AlloyKind(), SplitSettings()
    config = kind.config.of({"width": 9, "epochs": 2, "images": 1, **values})
    training, test = kind.split_for_training(data, settings)
    trained = kind.train(config, training, seeds=[1, 2], device="cpu", memory=1e9, report=lambda report: None)
    accuracy = kind.judge(trained, training, test).accuracy
    card = kind.card("by-hand", data, settings, config, trained.seeds, accuracy)
    return Model.assemble(card, kind.tensors(trained), kind)
