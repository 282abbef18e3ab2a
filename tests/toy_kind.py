"""A toy kind of surrogates, y = a x: the proof that a kind needs nothing outside its own files."""

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from dftune.trainables.errors import DatasetError, InputError, ModelError, one_line
from dftune.trainables.kind import Accuracy, Data, Judgement, Kind, Measure, Score, TrainingFailed
from dftune.trainables.surrogate import Card, Check, Job, Prediction, Surrogate


class ToySettings(BaseModel, extra="forbid"):
    shift: float = 0.0  # added to all y


class ToyConfig(BaseModel, extra="forbid"):
    rate: float = 0.5
    epochs: int = 3
    pause: float = 0.0  # seconds after each epoch

    @classmethod
    def of(cls, values: Any) -> "ToyConfig":
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InputError(one_line(error)) from error

    seen_by_scores = property(lambda self: ("rate", self.rate))


class Numbers(Data):
    """Pairs (x, y) of each split, in the dataset.json of a folder."""

    location = name = fingerprint = ""

    def __init__(self, location: str) -> None:
        try:
            text = (Path(location) / "dataset.json").read_text()
            self._splits = json.loads(text)["numbers"]
        except (OSError, ValueError, KeyError) as error:
            raise DatasetError(f"{location}: holds no numbers; give the folder of a dataset.json") from error
        self.location, self.name = str(location), Path(location).name
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()

    def split(self, name: str) -> Any:
        return np.array(self._splits[name])

    def verify(self) -> None: ...


@dataclass
class Points:
    train: Any
    validation: Any

    def sample(self, n_points: int, rng: Any) -> Any:
        return self.train[:n_points]


@dataclass
class Line(Surrogate, Job, Prediction, Judgement, Check):
    """y = a x for T slopes, from the training to the prediction."""

    slopes: Any
    seeds: tuple[int, ...] = ()
    last_report: Any = None
    card: Any = None
    x: float = 0.0
    accuracy: Any = None
    request = type("Request", (BaseModel,), {"__annotations__": {"structure": float}})

    def prepare(self, structure: float) -> "Line":
        if structure < 0:
            raise InputError("numbers below zero have no line")
        return Line(self.slopes, x=structure)

    def run(self, **how: Any) -> "Line":
        return self

    def to_dict(self) -> dict[str, Any]:
        return {"y": float(np.mean(self.slopes) * self.x)}

    def read(self, path: Path, frames: str = "-1") -> list[float]:
        try:
            return [float(path.read_text())]
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: holds no number ({one_line(error)})") from error

    def example(self) -> dict[str, Any]:
        return {"structure": 2.0}

    def tensors(self) -> dict[str, Any]:
        return {"slopes": self.slopes}

    def check(self, data: Numbers, *, progress: Any) -> "Line":
        return Line(self.slopes, accuracy=ToyError(error=_error(self.slopes, data.split("test"))))


@dataclass
class ToyError(Accuracy):
    error: float

    def to_dict(self) -> dict[str, Any]:
        return {"error": self.error}

    def numbers(self) -> dict[str, tuple[float, float]]:
        return {"error": (self.error, 0.0)}


class ToyCard(Card):
    accuracy: ToyError


def _error(slopes: Any, pairs: Any) -> float:
    x, y = pairs.T
    return float(np.square(np.mean(slopes) * x - y).mean())


def rate(configs: Any, batch: Any, seed: int) -> list[float]:
    """The score of a config is its rate."""
    return [config.rate for config in configs]


def exact(data: Points, test: Any, seed: int) -> ToyError:
    """The line of least squares."""
    x, y = data.train.T
    return ToyError(error=_error(x @ y / (x @ x), test))


class ToyKind(Kind):
    name, table, settings, config, card_model = "toy", "toys", ToySettings, ToyConfig, ToyCard
    values = {"error": Measure("best_error", "error", "cm"), "bias": Measure("best_bias", "bias", "cm")}
    judged = {"error": Measure("error", "error", "cm")}
    costs = {"price": Measure("price", "price")}
    space = {"rate": {"type": "float", "low": 0.1, "high": 0.9}}
    scores = {"rate": Score(rate, 1, "rate", kind="toy")}
    baselines = {"exact": ("closed form", exact)}
    untrained = {"rate": 1.0, "epochs": 1}  # one step ends at the least squares

    def open(self, location: str) -> Numbers:
        return Numbers(location)

    def costs_of(self, config: ToyConfig, sizes: Any, device: str) -> dict[str, float]:
        return {"price": abs(config.rate - 0.5)}

    def split_for_training(self, data: Numbers, settings: ToySettings) -> tuple[Points, Any]:
        shift = np.array([0.0, settings.shift])
        return Points(data.split("train") + shift, data.split("validation") + shift), data.split("test") + shift

    def train(self, config: ToyConfig, data: Points, *, seeds: Any, report: Any, **where: Any) -> Line:
        x, y = data.train.T
        slopes = np.array([np.random.default_rng(seed).normal() for seed in seeds])
        if where.get("begun") is not None:
            slopes[0] = where["begun"].slopes[0]
        for epoch in range(1, config.epochs + 1):
            time.sleep(config.pause)
            slopes += config.rate * ((y * x).mean() - slopes * (x * x).mean()) / (x * x).mean()
            last = {"epoch": epoch, "seconds": epoch * config.pause, "points": epoch * len(x)}
            off = np.mean(slopes) * data.validation[:, 0] - data.validation[:, 1]
            last |= {"best_error": _error(slopes, data.validation), "best_bias": abs(float(off.mean()))}
            report(last)
            if not np.isfinite(slopes).all():
                raise TrainingFailed("the slopes are not finite; lower the rate")
        return Line(slopes, tuple(seeds), last)

    def alone(self, config: ToyConfig, data: Points, test: Any, *, seed: int, device: str) -> tuple[Line, Line]:
        found = self.train(config, data, seeds=[seed], report=lambda epoch: None)
        return found, self.judge(found, data, test)

    def judge(self, trained: Line, data: Points, test: Any) -> Line:
        return Line(trained.slopes, accuracy=ToyError(error=_error(trained.slopes, test)))

    def card(self, study: str, data: Numbers, settings: Any, config: Any, seeds: Any, accuracy: Any) -> ToyCard:
        about = {"dataset": data.name, "dataset_sha256": data.fingerprint, "config": config.model_dump()}
        return ToyCard(kind="toy", study=study, n_initializations=len(seeds), seeds=seeds, accuracy=accuracy, **about)

    def accuracy(self, values: Any) -> ToyError:
        return ToyError(**values)

    def tensors(self, trained: Line) -> dict[str, Any]:
        return trained.tensors()

    def surrogate(self, card: ToyCard, tensors: Any) -> Line:
        if "slopes" not in tensors:
            raise ModelError("it has no slopes")
        return Line(tensors["slopes"], card=card)
