"""A model: a folder with a surrogate of any kind, and all it needs to predict.

    model.json             the card, of the kind's ``card_model``
    weights.safetensors    all numbers of the surrogate, by name

Loading runs no code from the folder.
"""

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from ...trainables.errors import InputError, ModelError, TooLarge, one_line
from ...trainables.files import atomic_folder, read_text, refuse_existing
from ...trainables.kind import Accuracy, Card, Check, Job, Kind, Surrogate, Tell, quiet
from ...trainables.kinds import KINDS
from ..version import __version__


class _Envelope(BaseModel):
    """What every model.json says: of which kind it is; those of early versions do not."""

    kind: str = Card.model_fields["kind"].default


class Model:
    """A trained surrogate.

    Args:
        surrogate: what predicts.
        kind: of which it is.
        whole: whether its numbers are known to be those of its card: by a checksum, or because no file is between.
    """

    def __init__(self, surrogate: Surrogate, kind: Kind, *, whole: bool = True) -> None:
        self.surrogate, self.kind, self.whole = surrogate, kind, whole

    @classmethod
    def assemble(cls, card: Card, tensors: Mapping[str, NDArray[Any]], kind: Kind | None = None) -> "Model":
        """A surrogate just trained.

        Args:
            card: what it is.
            tensors: all its numbers by name.
            kind: by default the one of the card's name.

        Raises:
            InputError: the tensors are not those of the card.
        """
        kind = kind or KINDS[card.kind]
        return cls(kind.surrogate(card, dict(tensors)), kind)

    @classmethod
    def open(cls, path: str | Path, kind: Kind | None = None) -> "Model":
        """Open a model folder.

        Args:
            path: the folder.
            kind: by default the one that its card names.

        Raises:
            ModelError: missing, damaged, of another format version or of an unknown kind.
        """
        path = Path(path)
        kind, card = read_card(path, kind)
        weights_file = path / "weights.safetensors"
        try:
            content = weights_file.read_bytes()
            tensors = safetensors.numpy.load(content)
        except FileNotFoundError as error:
            raise ModelError(f"{weights_file}: missing; export the model again") from error
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise ModelError(f"{weights_file}: damaged ({error}); export the model again") from error
        if card.weights_sha256 not in (None, hashlib.sha256(content).hexdigest()):
            raise ModelError(
                f"{weights_file}: not the weights that model.json was written for (another SHA-256); bring back both "
                "files of one model, or export it again"
            )
        whole = card.weights_sha256 is not None
        card = card.model_copy(update={"weights_sha256": None})  # of the file; ``save`` writes that of another
        try:
            return cls(kind.surrogate(card, tensors), kind, whole=whole)
        except InputError as error:
            raise ModelError(f"{path}: {error}; export the model again") from error

    def save(self, path: str | Path) -> None:
        """Write the model folder, whole or not at all.

        Raises:
            InputError: the folder exists, or cannot be written.
        """
        path = Path(path).expanduser().absolute()
        refuse_existing(path)
        with atomic_folder(path) as folder:
            folder.mkdir()
            content = safetensors.numpy.save(self.surrogate.tensors())
            card = self.card.model_copy(update={"weights_sha256": hashlib.sha256(content).hexdigest()})
            (folder / "model.json").write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
            # Written by Python: an error of safetensors' own, on a full disk, is no OSError.
            (folder / "weights.safetensors").write_bytes(content)

    @property
    def card(self) -> Any:
        """What it is: a ``Card`` with the fields of its kind."""
        return self.surrogate.card

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all its numbers, the one of its weights file."""
        return hashlib.sha256(safetensors.numpy.save(self.surrogate.tensors())).hexdigest()

    def options(self, **asked: Any) -> dict[str, Any]:
        """What is asked of a structure, with the model's defaults filled in.

        Raises:
            InputError: something that this model does not take, or cannot do.
        """
        _refuse_others(asked, _keywords(self.surrogate.options))
        return self.surrogate.options(**asked)

    def read(self, path: Path, frames: str = "-1", **how: Any) -> list[Any]:
        """The structures of a file, as ``Surrogate.read`` of its kind.

        Raises:
            InputError: missing, unreadable, without such frames, or a way to read that this model does not know.
        """
        _refuse_others(how, _keywords(self.surrogate.read))
        return self.surrogate.read(path, frames, **how)

    def prepare(self, structure: Any, *, largest: int | None = None, files: bool = True, **asked: Any) -> Job:
        """A structure checked once, with its size known, ready to ``run``.

        Args:
            structure: as the kind has them, ASE atoms for instance, or a file, of which the last one is taken.
            largest: size beyond which it is refused, before what takes longest is checked; by default any.
            files: whether a text may name a file; never a text that somebody else sent.
            asked: as in ``options``.

        Raises:
            TooLarge: a structure beyond ``largest``.
            InputError: a structure that cannot be predicted, or as ``options``.
        """
        _refuse_others(asked, _keywords(self.surrogate.options))
        if files and isinstance(structure, (str, Path)):
            structure = self.read(Path(structure))[0]
        job: Job = self.surrogate.prepare(structure, **asked)
        if largest is not None and job.size > largest:
            unit = self.surrogate.size_unit
            raise TooLarge(f"the structure needs {job.size:,} {unit}, more than {largest:,}; use a smaller one")
        job.verify()
        return job

    def predict(self, structure: Any, *, cpus: int | None = None, progress: Tell = quiet, **options: Any) -> Any:
        """Predict a structure.

        Args:
            structure: as in ``prepare``.
            cpus: threads; by default one for each CPU that this process may use, or OMP_NUM_THREADS if that is less.
            progress: called now and then; what it raises ends the prediction.
            options: what is asked, as in ``prepare``, and more keywords of the job's ``run``.

        Returns:
            The ``Prediction`` of the kind.

        Raises:
            InputError: as ``prepare``, or the surrogate cannot say anything sensible of this structure.
        """
        known = _keywords(self.surrogate.options)
        job = self.prepare(structure, **{name: value for name, value in options.items() if name in known})
        rest = {name: value for name, value in options.items() if name not in known}
        _refuse_others(rest, _keywords(job.run))
        return job.run(cpus=cpus, progress=progress, **rest)

    def check(
        self, data: Any, *, progress: Callable[[int, int, str], None] = lambda done, total, what: None, **asked: Any
    ) -> Check:
        """Compare it with the reference on data it has not seen.

        Args:
            data: of its kind; of the dataset it was trained on the test data are taken, all of any other.
            progress: called with how much is done, of how much, and what is next.
            asked: what else the kind can compare.

        Raises:
            InputError: data that it cannot be compared with, or something that this model cannot compare.
        """
        _refuse_others(asked, _keywords(self.surrogate.check))
        check: Check = self.surrogate.check(data, progress=progress, **asked)
        return check

    def is_trained_on(self, data: Any) -> bool:
        """Whether a dataset is the one that it was trained on."""
        return bool(data.fingerprint == self.card.dataset_sha256)

    def differences(self, found: Accuracy) -> list[str]:
        """Where recomputed accuracy differs from the stated one by more than rounding; spreads are left out.

        Rounding is 0.1 %, or a microelectronvolt (microrydberg) of an energy, or 1e-5 of anything else.  What is not
        stated cannot differ; ``unchecked`` says what that is.
        """
        new, different = _numbers(found.to_dict()), []
        for name, old in _numbers(self.card.accuracy.to_dict()).items():
            unit = self.kind.units.get(name.partition("/")[0], "")
            rounding = 1e-3 if unit.startswith(("meV", "mRy")) else 1e-5
            if name not in new:
                different.append(f"{name}: stated {old:.6g}, found none")
            elif abs(new[name] - old) > max(1e-3 * abs(old), rounding):
                different.append(f"{name}: stated {old:.6g}, found {new[name]:.6g}")
        return different

    def unchecked(self, found: Accuracy) -> list[str]:
        """What a check cannot compare, because the model is of an earlier version and does not state it."""
        stated = _numbers(self.card.accuracy.to_dict())
        parts = {name.partition("/")[0] for name in stated}
        lacking = [name for name in _numbers(found.to_dict()) if name not in stated]
        numbers = [name if name.partition("/")[0] in parts else name.partition("/")[0] for name in lacking]
        return [*dict.fromkeys(numbers), *self.surrogate.unstated, *([] if self.whole else ["checksum of the weights"])]

    def __repr__(self) -> str:
        return f"<Model: {self.card.lines()[0]}>"

    def _repr_html_(self) -> str:
        """What it is, for notebooks."""
        title, *lines = self.card.lines()
        return f"<b>{escape(title)}</b><pre>{escape(chr(10).join(lines))}</pre>"


def read_card(path: Path, kind: Kind | None = None) -> tuple[Kind, Card]:
    """The kind of a model folder, by default the one that its card names, and its card.

    Raises:
        ModelError: missing, damaged, of another format version or of an unknown kind.
    """
    file = path / "model.json"
    if not file.is_file():
        raise ModelError(f"{path}: not a model (no model.json); make one with `dftune study export`")
    try:
        text = read_text(file)
        kind = kind or KINDS[_Envelope.model_validate_json(text).kind]
        return kind, kind.card_model.model_validate_json(text)
    except (ValidationError, OSError) as error:
        raise ModelError(f"{file}: {one_line(error)}; export the model again") from error
    except InputError as error:
        raise ModelError(f"{file}: {one_line(error).removeprefix(f'{file}: ')}") from error


def made_with(kind: Kind) -> dict[str, str]:
    """Versions of all that makes a surrogate of a kind, for its card."""
    python = ".".join(map(str, sys.version_info[:3]))
    return {"dftune": __version__, "python": python} | {name: version(name) for name in (*kind.packages, "ray")}


def _numbers(values: Any, name: str = "") -> dict[str, float]:
    """The numbers of an accuracy by name, those of a part as PART/NAME, but for spreads and what no check computes."""
    if isinstance(values, bool) or not isinstance(values, Mapping | Sequence | int | float) or isinstance(values, str):
        return {}
    if isinstance(values, int | float):
        return {} if name.endswith("_std") else {name: values}
    parts = values.items() if isinstance(values, Mapping) else enumerate(values)
    inside = [_numbers(one, f"{name}/{part}" if name else str(part)) for part, one in parts if part != "splits"]
    return {path: number for numbers in inside for path, number in numbers.items()}


def _keywords(function: Callable[..., Any]) -> set[str]:
    """Names of the keyword arguments of a function."""
    return {name for name, one in inspect.signature(function).parameters.items() if one.kind is one.KEYWORD_ONLY}


def _refuse_others(asked: Iterable[str], known: Iterable[str]) -> None:
    """Raises ModelError: something is asked for that is not known."""
    for name in asked:
        if name not in known:
            raise ModelError(f"this model takes no {name}")
