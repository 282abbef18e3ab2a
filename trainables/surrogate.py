"""What a trained surrogate of any kind is: its card, what it is asked, what it predicts, how it is checked.

No Ray and no files here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from .errors import InputError, UnknownFormat
from .json_body import JSON, one_each, read_json
from .progress import duration


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
    weights_sha256: str | None = Field(default=None, description="checksum of the weights; models of before have none")
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

    @property
    def outside_training(self) -> list[str]:
        """Those of the warnings that say that the structure is unlike those of the training."""
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

    def _repr_html_(self) -> str:
        """For notebooks."""
        return f"<pre>{escape(chr(10).join(self.lines()))}</pre>"


def quiet(what: str, done: int, total: int) -> None:
    """No progress."""


Tell = Callable[[str, int, int], None]  # what is computed, how much is done, of how much


@dataclass(frozen=True)
class Forecast:
    """What a prediction will take: seconds, bytes of memory, and bytes of files in the temporary folder."""

    seconds: float = 0.0
    memory: float = 0.0
    disk: float = 0.0

    def __str__(self) -> str:
        """For people."""
        files = f", {self.disk / 1e9:.1f} GB of temporary files" if self.disk > 1e8 else ""
        return f"about {duration(self.seconds)}, {self.memory / 1e9:.1f} GB of memory{files}"


class Job(Protocol):
    """One structure, checked once, and what is asked of it."""

    @property
    def size(self) -> int:
        """How much work it is, in the unit of ``Surrogate.size_unit``; 0 where that is no matter."""
        return 0

    def verify(self) -> None:
        """Check what takes longest, when the size is known.  Raises InputError: the structure cannot be predicted."""

    def forecast(self, *, cpus: int | None = None) -> Forecast:
        """What ``run`` will take.

        Args:
            cpus: as in ``run``.

        Raises:
            TooLarge: this machine has not got it.
        """
        return Forecast()

    def run(self, *, cpus: int | None = None, progress: Tell = quiet) -> Any:
        """Predict.

        Args:
            cpus: threads; by default one for each CPU that this process may use, or OMP_NUM_THREADS if that is less.
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


@dataclass(frozen=True)
class Lesson:
    """A structure that is to be computed, and why.

    number: among the candidates, from 0.  n_atoms: of it.  worth: how much it teaches, at the time of its choice.
    reason: that in words.
    """

    number: int
    n_atoms: int
    worth: float
    reason: str


@dataclass(frozen=True)
class Lessons:
    """Structures that teach a surrogate most, the most telling first.

    chosen: they.  n: candidates there were.  before, after: what is to be learnt of all candidates, before and after
    the chosen ones are known.  expected: that in words.  unit: of before, after and the worth of each.
    """

    chosen: tuple[Lesson, ...]
    n: int
    before: float
    after: float
    expected: str
    unit: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON, with their units."""
        values = asdict(self)
        return {**values, "units": dict.fromkeys(("before", "after", "worth"), values.pop("unit"))}


class Answer(BaseModel):
    """JSON of a prediction: the fields of its ``to_dict``, and their units."""

    model_config = ConfigDict(extra="allow")

    units: dict[str, str] = Field(description="name of a field -> its unit")


class Surrogate(Protocol):
    """A trained surrogate, ready to predict.  A kind writes ``class MySurrogate(Surrogate)``.

    card: what it is.
    files: names that ``Job.save`` can write.  quantities: names that ``Job.batches`` can give.
    size_unit: what ``Job.size`` counts.
    request: model of the JSON body that asks for a prediction; besides ``structure``, its fields are what can be asked.
    formats: content types of a body that is a structure alone, besides JSON -> what it is.
    answer: model of the JSON of a prediction, for the endpoint's description of itself.
    """

    card: Any
    files: ClassVar[tuple[str, ...]] = ()
    quantities: ClassVar[tuple[str, ...]] = ()
    size_unit: ClassVar[str] = ""
    request: ClassVar[type[BaseModel]]
    formats: ClassVar[Mapping[str, str]] = {}
    answer: ClassVar[type[Answer]] = Answer

    @property
    def notes(self) -> tuple[str, ...]:
        """What its users should know of all its predictions, a line each."""
        return ()

    @property
    def unstated(self) -> tuple[str, ...]:
        """What a surrogate of today knows of its training and this one, of an earlier version, does not."""
        return ()

    @property
    def of_tables(self) -> tuple[str, ...]:
        """What its users should know of a table of its predictions, a line each."""
        return ()

    @property
    def refuses_energies(self) -> str | None:
        """Why it is no ASE calculator.

        None if it is one.  Predictions then have ``free_energy`` [eV], its standard deviation in ``std`` and, asked
        for with ``forces="mean"``, ``forces`` [eV/Å], with ``stress=True`` ``stress``, (3, 3) [eV/Å³]; structures are
        ASE atoms.
        """
        return "this model predicts no free energy"

    @property
    def refuses_stress(self) -> str | None:
        """Why its stress must not move a cell; None if it may.  Only of one whose ``refuses_energies`` is None."""
        return None

    def options(self) -> dict[str, Any]:
        """What is asked of a structure, with the defaults filled in.

        A surrogate that can be asked for something names it as keyword arguments.

        Raises:
            InputError: an impossible wish.
        """
        return {}

    def prepare(self, structure: Any, **asked: Any) -> Any:
        """The ``Job`` of a structure, checked once but for ``Job.verify``; ``asked`` as in ``options``.

        Raises:
            TooLarge: a structure larger than any that it takes.
            InputError: a structure that cannot be predicted, or an impossible wish.
        """
        ...

    def held(self, job: Any, structure: Any) -> dict[str, Any] | None:
        """What to ask of a structure so that its energy has no step against that of a job on the same atoms.

        A grid, for instance, that would else follow the cell.  None: it cannot be held for this structure.
        """
        return {}

    def read(self, path: Path, frames: str = "-1") -> list[Any]:
        """The structures of a file.

        A surrogate that can be told how to read a file names it as keyword arguments: ``format``, the format's name;
        ``types``, the names of its atoms' types 1, 2, ....

        Raises:
            InputError: missing, unreadable, without such frames.
        """
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

    def split(self, content: bytes, content_type: str) -> Iterable[bytes] | None:
        """The bodies of single structures, for ``parse``, of one that has several; None if it is of one.

        Args:
            content: body of the request.
            content_type: as in ``parse``.

        Raises:
            InputError: no structure, or too many.
        """
        return one_each(content) if content_type == JSON else None

    def example(self) -> dict[str, Any]:
        """The JSON of a request to try."""
        ...

    def sites(self) -> dict[str, Any] | None:
        """``cell`` and ``positions`` [Å] of sites that a text fills with ``symbols``; None: it takes no such text."""
        return None

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

    def lessons(self, structures: Sequence[Any], number: int, progress: Tell = quiet) -> Lessons:
        """Choose structures whose reference would teach it most.

        Args:
            structures: the candidates.
            number: how many to choose.
            progress: called now and then.

        Raises:
            InputError: candidates that it cannot be asked about, too few of them, or a kind that does not say it.
        """
        raise InputError("models of this kind do not say which structures would teach them most")

    def warm_up(self, cpus: int) -> None:
        """Load what the first prediction would have to wait for, in a process that has so many CPUs."""


class Check(Protocol):
    """A surrogate against the reference, in detail."""

    @property
    def accuracy(self) -> Any: ...

    @property
    def units(self) -> Mapping[str, str]:
        """Name in ``to_dict`` -> its unit, besides those of the accuracy."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; ``accuracy`` is among them."""
        return {"accuracy": self.accuracy.to_dict()}

    def rows(self) -> list[dict[str, Any]]:
        """A table of mean errors, for people."""
        return [{"quantity": name, "mean": mean} for name, (mean, _) in self.accuracy.numbers().items()]

    def draw(self, path: Path) -> None:
        """Draw it as a PNG file.  Raises InputError: there is nothing to draw."""
        raise InputError("surrogates of this kind have no figure of their check")
