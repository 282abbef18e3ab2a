"""What a kind of surrogates is: all that studies, ledger, comparisons, models and the endpoint ask of it.

A kind, a class of ``Kind``, has its own data; ``kinds.py`` has all by name.  No Ray and no files here.  Its methods
import what is heavy where they need it.  An instance travels to other processes, so its class stands in a module.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from .errors import DftuneError, InputError
from .surrogate import Card as Card
from .surrogate import Check as Check
from .surrogate import Job as Job
from .surrogate import Prediction as Prediction
from .surrogate import Surrogate as Surrogate
from .surrogate import Tell as Tell
from .surrogate import quiet as quiet

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
        wants: hyperparameters and values of them by which trials are worth what they report of it.
    """

    report: str
    label: str
    unit: str = ""
    wants: tuple[tuple[str, Any], ...] = ()

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
        direction: ``published``: the larger the better, its authors say; ``learnt``: the first trained trials show it.
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

    judged_on: Split = "test"  # which judges surrogates; validation where nothing is kept for testing

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
        """What belongs to a split; for ``test`` to ``judged_on``.  Raises DatasetError: nothing does."""
        ...

    def verify(self) -> None:
        """Compare every file with its checksum.  Raises DatasetError at the first that differs."""
        ...

    @property
    def units(self) -> Mapping[str, str]:
        """Column -> unit, for the columns of ``rows`` and of what ``check`` yields."""
        return {}

    def rows(self) -> list[dict[str, Any]]:
        """The table that `dftune data show` prints, a dict a row; by default the sizes of the splits."""
        return [{"split": name, "size": len(self.split(name))} for name in SPLITS]

    def lines(self) -> list[str]:
        """What people read above the table of ``rows``."""
        return [self.location]

    def to_dict(self) -> dict[str, Any]:
        """What `dftune data show --json` prints."""
        return {"path": self.location, "name": self.name, "fingerprint": self.fingerprint, "rows": self.rows()}

    def check(self) -> Iterator[Any]:
        """Read every file, and yield a dataclass for each thing checked.  Raises DatasetError at the first damage."""
        self.verify()
        return iter(())

    def draw(self, path: Path) -> None:
        """Draw what it holds as a PNG file.  Raises InputError: a kind may have nothing to draw."""
        raise InputError(f"{self.location}: there is nothing to draw of datasets of this kind; leave out --figure")

    def checked_lines(self) -> list[str]:
        """What people read below the table of a ``check`` that found nothing wrong."""
        return [f"{self.location}: every file has the checksum that it should have"]


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
        return [
            f"{name} {mean:.4g}, spread of the trainings {std:.4g}"
            for name, (mean, std) in self.numbers().items()
            if mean is not None
        ]


class Judgement(Protocol):
    """A surrogate compared with the reference on data it has not seen; it can be sent between processes."""

    @property
    def accuracy(self) -> Any: ...

    def draw(self, folder: Path) -> list[Path]:
        """Draw what is behind the accuracy, and return the files."""
        return []


class Kind(Protocol):
    """A kind of surrogates.

    name: by which a dataset says of which kind it is.
    table, settings: name and model of the kind's own table of a study file.
    config: hyperparameters.  space: the default search space, as a study file would say it.
    values: name in a study file -> what can be minimised, the default first; costs: what can be minimised beside it.
    compute: what counts the work of a training, summed over its epochs; a study file's budget has the name it reports.
    kept: numbers of a trial's report that the ledger keeps besides those above.
    judged: what surrogates are compared by, the most important first.
    scores: training-free ones, the default one first.  packages: distributions whose versions a model card names.
    baselines: what comes without a search: name -> (what it is, function of training data, test data and seed).
    json_units: units of what else the JSON of its cards and accuracies holds, by name or "name above it.name".
    untrained: hyperparameters of a surrogate that is made without training, in one step; None if there is none.
    importers: of its data, as ``data.importing.importer.Importer``, whose ``read`` gives an ``OwnFound``.
    earlier: defaults of ``config`` that were others in studies whose ledger keeps none.
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
    json_units: Mapping[str, str] = {}
    packages: tuple[str, ...] = ()
    untrained: Mapping[str, Any] | None = None
    card_model: type[Card] = Card
    importers: Sequence[Any] = ()
    earlier: Mapping[str, Any] = {}

    @property
    def units(self) -> dict[str, str]:
        """Name of each number that trials, judgements and cards of the kind report -> its unit, where it has one."""
        measures = *self.values.items(), *self.costs.items(), *self.judged.items(), (self.compute.report, self.compute)
        of_measures = {n: m.unit for name, m in measures for n in (name, m.report, f"{m.report}_std") if m.unit}
        return {**of_measures, **self.json_units}

    def open(self, location: str) -> Any:
        """The ``Data`` at a folder or URL.  Raises DatasetError."""
        ...

    def refuse(self, data: Any, settings: Any, minimize: str) -> None:
        """Check what would make a study fail, before it starts.  Raises InputError."""

    def refuse_config(
        self, data: Any, config: Mapping[str, Any], space: Collection[str], minimized: Collection[str]
    ) -> None:
        """Check hyperparameters held, ``space`` of varied ones and ``minimized`` of ``values``.  Raises InputError."""
        return

    def suited(self, data: Any, config: Mapping[str, Any], space: Collection[str]) -> Mapping[str, tuple[Any, str]]:
        """Of those neither held nor varied: name -> the value that these data want instead of the default, and why."""
        return {}

    def settings_of(self, data: Any) -> tuple[Any, str] | None:
        """The kind's own table that these data want where nothing of it is said, and why; None: its defaults."""
        return None

    def refuse_space(self, space: Collection[str], config: Mapping[str, Any]) -> None:
        """Refuse hyperparameters to vary that have no use beside those held at one value.  Raises InputError."""

    def sizes(self, data: Any, settings: Any) -> dict[str, int]:
        """What ``memory``, ``terms`` and ``epoch_work`` take."""
        return {}

    def epoch_work(self, config: Any, sizes: Mapping[str, int], n_rows: int) -> float:
        """What an epoch of a trial adds to ``compute``, about, with so many snapshots or rows for training."""
        return sizes.get("n_train", n_rows)

    def memory(self, config: Any, sizes: Mapping[str, int], n_initializations: int = 1) -> TrainingMemory:
        """What a training takes on its device."""
        return TrainingMemory()

    def shared(self, config: Any, sizes: Mapping[str, int], n_initializations: int) -> tuple[int, int] | None:
        """How many parts the sums of a readout have that slots can share, and what a slot sends of them [bytes].

        None where trials do not report ``readout_sums`` and ``readout_solve``, the seconds of these and of the rest.
        """
        return None

    def terms(self, config: Any, sizes: Mapping[str, int]) -> Sequence[float]:
        """Numbers of which the time of training on one point is a sum with weights that are none negative."""
        return (1.0,)

    def split_for_training(self, data: Any, settings: Any) -> tuple[Any, Any]:
        """The ``TrainingData`` and the test data, as a process reads them.  Raises DatasetError: a file has changed."""
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
        begun: Any = None,
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
            checkpoint, checkpoint_epochs: file to go on from, and to write after these epochs; by default after each.
            for_ranking: the weights are thrown away, so less precision will do.
            begun: the network of the first seed, as ``alone`` gave it.

        Returns:
            What ``judge`` and ``tensors`` take.  It has ``seeds``, those whose training came to its end, and
            ``last_report``, of the last epoch, but of the weights returned, also where there was nothing to train.

        Raises:
            TrainingFailed: no initialisation came to its end.
        """
        ...

    def alone(self, config: Any, data: Any, test: Any, *, seed: int, device: str) -> tuple[Any, Any] | None:
        """One network of ``untrained``, for ``train``, and its ``Judgement``; None where all come as soon."""
        return None

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
