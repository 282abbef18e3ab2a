"""What a kind of surrogates is: all that studies, ledger, comparisons, models and the endpoint ask of it.

A kind learns from its own data with its own networks; ``kinds.py`` has all kinds by name.  Nothing outside a kind's
folder names it.  No Ray and no files here.

A kind writes ``class MyKind(Kind)`` and fills in what has no default.  Its methods import what is heavy where they need
it: every command reads the kinds.  An instance travels to other processes, so its class stands in a module.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from .errors import DftuneError, InputError, UnknownFormat
from .json_body import JSON, read_json

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class TrainingFailed(DftuneError, RuntimeError):
    """No initialisation gave a usable network; the message says when and why."""


@dataclass(frozen=True)
class Measure:
    """A number that trials or surrogates are judged by; lower is better.

    Args:
        report: its name in a trial's report, or in the numbers of a judgement.
        label: what it is, for an axis or a table.
        unit: of it; empty where it has none.
    """

    report: str
    label: str
    unit: str = ""

    @property
    def axis(self) -> str:
        """Label and unit, for an axis."""
        return f"{self.label} [{self.unit}]" if self.unit else self.label

    @property
    def suffix(self) -> str:
        """What stands after the number: a space and the unit, or nothing."""
        return f" {self.unit}" if self.unit else ""


@dataclass(frozen=True)
class Score:
    """A training-free score of configs.  Higher is better, by convention everywhere.

    Args:
        function: (configs, mini-batch, seed) -> one number a config, NaN where it cannot be formed.  The function
            itself travels to the processes that score, never its name.
        n_points: size of the mini-batch that it wants.
        label: what it is, for an axis or a table.
        direction: ``published``: the larger the better, as its authors say; ``learnt``: that is not to be relied on, so
            the methods learn it from the first trained trials.
        about: how it scores, in a few words for help texts.
        trivial: it costs nothing, and is the bar that other scores must beat.
        kind: name of the kind whose configs it scores.
    """

    function: Callable[[Sequence[Any], Any, int], list[float]]
    n_points: int
    label: str
    direction: Literal["published", "learnt"] = "published"
    about: str = ""
    trivial: bool = False
    kind: str = "ldos"


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that one training takes on its device.

    weights: with gradients, what the optimizer keeps, and the best weights so far.
    activations: of a mini-batch and its way forth and back, or of a chunk of validation data, whichever is more.
    points: all data, those of the training twice, since they are shuffled out of place.
    """

    weights: int = 0
    activations: int = 0
    points: int = 0

    @property
    def network(self) -> int:
        """All but the data, which can be streamed through less."""
        return self.weights + self.activations


class TrialConfig(Protocol):
    """All hyperparameters of one trial, checked.  ``str`` of it says the network in a few characters."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """From plain values.  Raises InputError: an unknown name or a value out of range, naming it."""
        ...

    @property
    def epochs(self) -> int:
        """Epochs of a training that is not stopped."""
        ...

    @property
    def seen_by_scores(self) -> Hashable:
        """All that a training-free score sees of it: numbers and texts in nested tuples."""
        ...

    def model_dump(self, *, mode: str = "python") -> dict[str, Any]:
        """As plain values."""
        ...


class Data(Protocol):
    """A dataset of a kind, opened: light, its arrays stay where they are."""

    @property
    def name(self) -> str: ...

    @property
    def location(self) -> str:
        """Where any process of any machine opens it: a folder or a URL."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of all that is learnt from: equal data, equal fingerprint."""
        ...

    def split(self, name: Split) -> Sequence[Any]:
        """What belongs to a split.  Raises DatasetError: nothing does."""
        ...

    def verify(self) -> None:
        """Compare every file with its checksum.  Raises DatasetError at the first that differs."""
        ...


class TrainingData(Protocol):
    """What one trial trains on and is validated on."""

    def sample(self, n_points: int, rng: np.random.Generator) -> Any:
        """A mini-batch of the training split for a score."""
        ...


class Accuracy(Protocol):
    """How good a surrogate is on data it has not seen."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, from which ``Kind.accuracy`` makes it again."""
        ...

    def numbers(self) -> dict[str, tuple[float | None, float | None]]:
        """Name in ``Kind.judged`` -> mean and standard deviation over the initialisations."""
        ...

    def lines(self) -> list[str]:
        """For people."""
        return [f"{name} {mean:.4g} ± {std:.4g}" for name, (mean, std) in self.numbers().items() if mean is not None]


class Judgement(Protocol):
    """A surrogate compared with the reference on data it has not seen; it can be sent between processes."""

    @property
    def accuracy(self) -> Any: ...

    def draw(self, folder: Path) -> list[Path]:
        """Draw what is behind the accuracy, and return the files."""
        return []


class Card(BaseModel):
    """The contents of model.json; each kind adds its own fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format_version: Literal[2] = 2
    kind: str = Field(default="ldos", description="kind of the surrogate")
    study: str = Field(description="the study that found it")
    config: dict[str, Any] = Field(description="hyperparameters of the network and its training")
    n_initializations: int = Field(ge=1, le=1000, description="T, networks trained from different initial weights")
    seeds: list[int]
    dataset: str = Field(description="name of the dataset it was trained on")
    dataset_sha256: str = Field(description="fingerprint of that dataset")
    accuracy: Any = Field(description="on the test data of that dataset")
    versions: dict[str, str] = Field(default={}, description="what made it")
    license: str = Field(default="as the data it was trained on", description="terms of use")

    @property
    def subject(self) -> str:
        """What it is, in two or three words."""
        return "surrogate"

    def facts(self) -> dict[str, str]:
        """What its kind adds, for people: label -> text."""
        return {}

    def lines(self) -> list[str]:
        """For people."""
        network = ", ".join(f"{name} {value}" for name, value in self.config.items() if value is not None)
        made = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        facts = {**self.facts(), "network": network, "made with": f"{made}; license: {self.license}"}
        found = [f"{self.subject} from study {self.study}, dataset {self.dataset}"]
        found += [f"  {label:11s}  {text}" for label, text in facts.items()]
        return [*found, "", *self.accuracy.lines()]


class Prediction(Protocol):
    """What a surrogate says of one structure."""

    @property
    def units(self) -> Mapping[str, str]:
        """Name in ``to_dict`` -> its unit."""
        return {}

    @property
    def warnings(self) -> list[str]:
        """Reasons to trust the numbers less, a sentence each."""
        return []

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        ...

    def lines(self) -> list[str]:
        """For people, without the structure's name."""
        return [f"  {name}: {value}" for name, value in self.to_dict().items()]

    def row(self) -> dict[str, Any]:
        """A row of a table of many predictions; columns with a unit are named in ``units``."""
        return self.to_dict()


def quiet(what: str, done: int, total: int) -> None:
    """No progress."""


Tell = Callable[[str, int, int], None]  # what is computed, how much is done, of how much


class Job(Protocol):
    """One structure, checked once, and what is asked of it."""

    @property
    def size(self) -> int:
        """How much work it is, in the unit of ``Surrogate.size_unit``; 0 where that is no matter."""
        return 0

    def run(self, *, cpus: int | None = None, progress: Tell = quiet) -> Any:
        """Predict.

        Args:
            cpus: threads; by default one for each CPU that this process may use.
            progress: called now and then; what it raises ends the prediction.

        Raises:
            InputError: the surrogate cannot say anything sensible of this structure.
        """
        ...

    def save(
        self, stem: Path, names: Sequence[str], *, cpus: int | None = None, progress: Tell = quiet
    ) -> tuple[Any, list[Path]]:
        """Predict, and write the file STEM.NAME for each of ``names``, of ``Surrogate.files``; errors as ``run``."""
        return self.run(cpus=cpus, progress=progress), []

    def batches(self, quantity: str, *, cpus: int | None = None, progress: Tell = quiet) -> Sequence[Any]:
        """Predict, and give one of ``Surrogate.quantities`` as Arrow record batches; errors as ``run``."""
        return []


class Surrogate(Protocol):
    """A trained surrogate, ready to predict.  A kind writes ``class MySurrogate(Surrogate)``.

    card: what it is.
    files: names that ``Job.save`` can write.  quantities: names that ``Job.batches`` can give.
    size_unit: what ``Job.size`` counts.
    request: model of the JSON body that asks for a prediction; besides ``structure``, its fields are what can be asked.
    formats: content types of a body that is a structure alone, besides JSON -> what it is.
    """

    card: Any
    files: ClassVar[tuple[str, ...]] = ()
    quantities: ClassVar[tuple[str, ...]] = ()
    size_unit: ClassVar[str] = ""
    request: ClassVar[type[BaseModel]]
    formats: ClassVar[Mapping[str, str]] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What its users should know of all its predictions, a line each."""
        return ()

    @property
    def refuses_energies(self) -> str | None:
        """Why it is no ASE calculator.

        None if it is one.  Predictions then have ``free_energy`` [eV], its standard deviation in ``std`` and, asked
        for with ``forces="mean"``, ``forces`` [eV/Å]; structures are ASE atoms.
        """
        return "this model predicts no free energy"

    def options(self) -> dict[str, Any]:
        """What is asked of a structure, with the defaults filled in.

        A surrogate that can be asked for something names it as keyword arguments.

        Raises:
            InputError: an impossible wish.
        """
        return {}

    def prepare(self, structure: Any, **asked: Any) -> Any:
        """The ``Job`` of a structure, checked once; ``asked`` as in ``options``.

        Raises:
            TooLarge: a structure larger than any that it takes.
            InputError: a structure that cannot be predicted, or an impossible wish.
        """
        ...

    def read(self, path: Path, frames: str = "-1") -> list[Any]:
        """The structures of a file.  Raises InputError: missing, unreadable, without such frames."""
        ...

    def parse(self, content: bytes, content_type: str, query: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The structure of a request, and what it asks for, as keywords of ``prepare``.

        Args:
            content: body of the request.
            content_type: JSON, or of ``formats``.
            query: fields of ``request`` that stand in its URL.

        Raises:
            UnknownFormat: of the content.
            Malformed: the content is not in that format.
            InputError: something unknown, missing or out of range.
        """
        if content_type != JSON:
            raise UnknownFormat(f"content type {content_type or 'missing'}; send {JSON}")
        asked = dict(read_json(self.request, content, query))
        return asked.pop("structure"), asked

    def example(self) -> dict[str, Any]:
        """The JSON of a request to try."""
        ...

    def tensors(self) -> dict[str, NDArray[Any]]:
        """All numbers that it needs besides its card, by name."""
        ...

    def check(self, data: Any, *, progress: Callable[[int, int, str], None]) -> Any:
        """Compare it with the reference on data it has not seen: a ``Check``.

        Args:
            data: the test data of the dataset it was trained on, or all of another one.
            progress: called with how much is done, of how much, and what is next.

        Raises:
            InputError: data that it cannot be compared with.
        """
        ...

    def warm_up(self, cpus: int) -> None:
        """Load what the first prediction would have to wait for, in a process that has so many CPUs."""


class Check(Protocol):
    """A surrogate against the reference, in detail."""

    @property
    def accuracy(self) -> Any: ...

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; ``accuracy`` is among them."""
        return {"accuracy": self.accuracy.to_dict()}

    def rows(self) -> list[dict[str, Any]]:
        """A table of mean errors, for people."""
        return [{"quantity": name, "mean": mean} for name, (mean, _) in self.accuracy.numbers().items()]

    def draw(self, path: Path) -> None:
        """Draw it as a PNG file.  Raises InputError: there is nothing to draw."""
        raise InputError("surrogates of this kind have no figure of their check")


class Kind(Protocol):
    """A kind of surrogates.

    name: by which a dataset says of which kind it is.
    table, settings: name and model of the kind's own table of a study file.
    config: hyperparameters.  space: the default search space, as a study file would say it.
    values: name in a study file -> what can be minimised, the default first; costs: what can be minimised beside it.
    compute: what counts the work of a training, summed over its epochs; a study file's budget has the name it reports.
    kept: numbers of a trial's report that the ledger keeps besides those above.
    judged: what surrogates are compared by, the most important first.
    scores: training-free scores, the default one first.
    baselines: what comes without a search: name -> (what it is, function of training data, test data and seed).
    packages: distributions whose versions a model card names.
    """

    name: str
    table: str
    settings: type[BaseModel]
    config: type[Any]
    values: Mapping[str, Measure]
    judged: Mapping[str, Measure]
    compute: Measure = Measure("points", "trained points x epochs, summed over trials")
    space: Mapping[str, Mapping[str, Any]] = {}
    costs: Mapping[str, Measure] = {}
    kept: tuple[str, ...] = ()
    scores: Mapping[str, Score] = {}
    baselines: Mapping[str, tuple[str, Callable[[Any, Any, int], Any]]] = {}
    packages: tuple[str, ...] = ()
    card_model: type[Card] = Card

    def open(self, location: str) -> Any:
        """The ``Data`` at a folder or URL.  Raises DatasetError."""
        ...

    def refuse(self, data: Any, settings: Any, minimize: str) -> None:
        """Check what would make a study fail, before it starts.  Raises InputError."""

    def refuse_space(self, space: Collection[str], config: Mapping[str, Any]) -> None:
        """Refuse hyperparameters to vary that have no use beside those held at one value.  Raises InputError."""

    def sizes(self, data: Any, settings: Any) -> dict[str, int]:
        """The numbers that decide what a training costs, as ``memory`` and ``terms`` take them.

        If the kind's work counts points, ``n_train`` is the number of points that one epoch trains on.
        """
        return {}

    def memory(self, config: Any, sizes: Mapping[str, int], n_initializations: int = 1) -> TrainingMemory:
        """What a training takes on its device."""
        return TrainingMemory()

    def terms(self, config: Any, sizes: Mapping[str, int]) -> Sequence[float]:
        """Numbers of which the time of training on one point is a sum with weights that are none negative."""
        return (1.0,)

    def split_for_training(self, data: Any, settings: Any) -> tuple[Any, Any]:
        """The ``TrainingData`` and the test data, as one process reads them."""
        ...

    def costs_of(self, config: Any, sizes: Mapping[str, int], device: str) -> dict[str, float]:
        """The numbers of ``costs``, by their names in reports, measured on the device."""
        return {}

    def train(
        self,
        config: Any,
        data: Any,
        *,
        seeds: Sequence[int],
        device: str,
        memory: float,
        report: Callable[[Mapping[str, Any]], None],
        checkpoint: Path | None = None,
        checkpoint_epochs: Collection[int] | None = None,
        for_ranking: bool = False,
    ) -> Any:
        """Train one network per seed, all at once.

        Args:
            config: of ``Kind.config``.
            data: ``TrainingData``.
            seeds: of the initial weights.
            device: ``cpu``, ``cuda`` or ``cuda:N``.
            memory: bytes that the data may take on the device.
            report: called after each epoch with ``epoch``, ``seconds``, the number of ``compute`` and those of
                ``values``, of the weights kept.
            checkpoint: file to go on from, and to write.
            checkpoint_epochs: after which it is written; by default each.
            for_ranking: the weights are thrown away, so less precision will do.

        Returns:
            What ``judge`` and ``tensors`` take.  It has ``seeds``, those whose training came to its end, and
            ``last_report``, what was reported last, also where a checkpoint left nothing to train.

        Raises:
            TrainingFailed: no initialisation came to its end.
        """
        ...

    def judge(self, trained: Any, data: Any, test: Any) -> Any:
        """The ``Judgement`` of what was trained on ``data``, on the test data."""
        ...

    def card(self, study: str, data: Any, settings: Any, config: Any, seeds: Sequence[int], accuracy: Any) -> Card:
        """The card of a surrogate just trained."""
        ...

    def tensors(self, trained: Any) -> dict[str, NDArray[Any]]:
        """All numbers of what was trained, by name."""
        ...

    def surrogate(self, card: Any, tensors: dict[str, NDArray[Any]]) -> Any:
        """The ``Surrogate``.  Raises InputError: card and tensors do not fit together."""
        ...

    def accuracy(self, values: Mapping[str, Any]) -> Any:
        """The ``Accuracy`` that ``to_dict`` gave these values."""
        ...

    def remark(self, reports: Iterable[Mapping[str, Any]]) -> str | None:
        """What people should know of trials that reported this; None if nothing."""
        return None


class StudyData(Protocol):
    """The data of a study where every worker can reach them; small enough to be sent to each."""

    def training_data(self) -> Any:
        """``TrainingData``."""
        ...

    def worker_data(self) -> Any:
        """As ``training_data``, fetched once for all the trials of a study that follow each other in a worker."""
        ...

    def test(self) -> Any:
        """The test data."""
        ...
