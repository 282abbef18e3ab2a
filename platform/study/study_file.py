"""A study file with plain defaults for a dataset, and what a study file would do, without running it."""

import json
import os
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...searchers.searcher import WAIT
from ...trainables.data.location import absolute, is_url, name_of
from ...trainables.errors import InputError
from ...trainables.kinds import kind_at
from ..methods import methods_of
from ..spec import StudySpec
from .folder import STUDIES
from .study import Study
from .suited import suited

WIDTH = 36  # of a key and its value; comments stand behind
MOST_ASKED = 1000  # proposals by which a method is asked how many there are


def study_file(dataset: str | Path, name: str, folder: Path) -> str:
    """The text of a study file with the defaults of the dataset's kind, and what each key means.

    Args:
        dataset: folder or URL of a dataset, which is there.
        name: of the study.
        folder: where the file will lie.

    Raises:
        InputError: no dataset is there, or the name is not that of a study.
    """
    location = absolute(dataset)
    kind = kind_at(location)
    spec, _ = suited(StudySpec.of({"name": name, "dataset": location}), kind.open(location))
    about = {key: field.description or "" for key, field in StudySpec.model_fields.items()}
    others = [method for method in methods_of(kind)[0] if method != spec.method]
    lines = [
        f"# A study on the dataset {name_of(location)}.  `dftune study check FILE` says what it will do, `dftune study",
        "# run FILE` does it.  What begins with # is not read; these lines show the defaults.",
        *_line("name", name, about["name"]),
        *_line("dataset", _relative(location, folder), "relative to this file, or a URL"),
        *_line("method", spec.method, f"{about['method']}; or {', '.join(others)}"),
        *_line("minimize", spec.value_name, f"{about['minimize']}: {', '.join(kind.values)}"),
        *(_line(key, getattr(spec, key), about[key])[0] for key in ("seed", "trials", "initializations")),
    ]
    table = spec.settings.model_dump(mode="json")
    if table:
        fields = type(spec.settings).model_fields
        lines += ["", f"[{kind.table}]"]
        lines += [line for key, value in table.items() for line in _line(key, value, fields[key].description or "")]
    lines += ["", "[space]" + " " * (WIDTH - 6) + f"# {about['space']}"]
    for key, values in spec.space.items():
        lines += _line(key, {"type": values.type, **values.model_dump(mode="json", exclude_defaults=True)}, "")
    lines += ["", "[config]" + " " * (WIDTH - 7) + f"# {about['config']}"]
    for key, value in spec.full({}).model_dump(mode="json").items():
        if value is not None and key not in spec.space:
            lines += [f"# {line}" for line in _line(key, value, "")]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Plan:
    """What a study file will do.

    ``trials`` are trained at most, ``exactly`` if that is their number; ``initializations`` of the best one then.
    ``work`` is what the trials take, in units of ``work_unit``, None if epochs vary.  ``seconds`` is the training time
    of all trials together [s], one after the other, from the pace of study ``paced_by`` on the same dataset.  ``begun``
    says that the study is there already.  ``decided`` are lines of what the data decide about the hyperparameters.
    """

    name: str
    kind: str
    dataset: str
    method: str
    about: str
    minimizes: str
    trials: int
    exactly: bool
    initializations: int
    epochs: int | None
    work: float | None
    work_unit: str
    seconds: float | None
    paced_by: str | None
    begun: bool
    decided: tuple[str, ...] = ()
    judged_on: str = "test"

    def lines(self) -> list[str]:
        """For people."""
        most = "" if self.exactly else "at most "
        judges = "the test data" if self.judged_on == "test" else f"the {self.judged_on} data, as none are for testing"
        lines = [
            f"study {self.name}: {self.kind} surrogates of {self.dataset}",
            f"method {self.method}: {self.about}",
            f"trains {most}{self.trials} trials{'' if self.epochs is None else f' of {self.epochs} epochs'}, minimises "
            f"{self.minimizes}, then trains the best one {self.initializations} times and judges it on {judges}",
        ]
        lines += self.decided
        if self.work is not None:
            lines.append(f"work: {most}{self.work:.3g} ({self.work_unit})")
        if self.seconds is not None:
            lines.append(f"time: {most}{self.seconds:.3g} s of training, at the pace of study {self.paced_by}")
        if self.begun:
            lines.append(f"it has begun already; go on with `dftune study resume {self.name}`")
        return lines


def plan(spec: StudySpec, studies: str | Path = STUDIES, ledger: str | None = None) -> Plan:
    """Check a specification with its dataset, as a run does before it starts, and say what it will do.

    Args:
        spec: of a study.
        studies: folder of studies, those on the same dataset tell the pace.
        ledger: URL of a PostgreSQL database that holds the ledgers instead.

    Raises:
        InputError: a run would end with this error.
    """
    kind = spec.of_kind
    spec.searcher()
    data = kind.open(spec.dataset)
    spec, lines = suited(spec, data)
    spec.refuse(data)
    trials, exactly = _proposals(spec)
    epochs = None if "epochs" in spec.space else spec.epochs
    per_epoch = kind.epoch_work(spec.full({}), kind.sizes(data, spec.settings), len(data.split("train")))
    per_trial = None if epochs is None else per_epoch * epochs
    pace, paced_by = _pace(spec, studies, ledger)
    return Plan(
        name=spec.name,
        kind=kind.name,
        dataset=spec.dataset,
        method=spec.method,
        about=spec.method_of().about,
        minimizes=", ".join(spec.minimize),
        trials=trials,
        exactly=exactly,
        initializations=spec.initializations,
        epochs=epochs,
        work=None if per_trial is None else float(trials * per_trial),
        work_unit=kind.compute.label,
        seconds=None if per_trial is None or pace is None else trials * per_trial * pace,
        paced_by=paced_by,
        begun=Study.from_spec(spec, studies, ledger).begun,
        decided=tuple(lines),
        judged_on=data.judged_on,
    )


def _proposals(spec: StudySpec) -> tuple[int, bool]:
    """How many trials a method asks for at most, and whether it is just so many, whatever values they reach."""
    screens = spec.method_of().score == spec.method  # it trains so many candidates, whatever their scores
    searcher = spec.searcher(lambda configs: [float(n) for n in range(len(configs))])
    if not screens and spec.method_of().score is not None:
        return spec.trials, False
    told = 0
    for n in range(min(spec.trials, MOST_ASKED)):
        asked = searcher.ask(str(n))
        while asked is WAIT and screens and told < n:
            searcher.tell(str(told), float(told))
            told += 1
            asked = searcher.ask(str(n))
        if asked is None:
            return n, True
        if asked is WAIT:  # it learns from values
            break
    return spec.trials, False


def _pace(spec: StudySpec, studies: str | Path, ledger: str | None) -> tuple[float | None, str | None]:
    """Seconds per unit of work of an earlier study on the same dataset, and its name."""
    for name in reversed(Study.names(studies, ledger)):
        try:
            study = Study.open(name, studies, ledger)
            if study.spec.dataset != spec.dataset or study.spec.kind != spec.kind:
                continue
            work = spec.of_kind.compute.report
            done = [(t.seconds, t.result.get(work)) for t in study.trials() if t.state == "finished"]
        except InputError:  # it tells nothing
            continue
        paces = [seconds / points for seconds, points in done if seconds and points]
        if paces:
            return statistics.median(paces), name
    return None, None


def _relative(location: str, folder: Path) -> str:
    if is_url(location):
        return location
    relative = os.path.relpath(location, folder.resolve())
    return location if relative.startswith("..") else relative


def _line(key: str, value: Any, comment: str) -> list[str]:
    """A key with its value in TOML, and a comment."""
    text = f"{key} = {_toml(value)}"
    return [f"{text:{WIDTH}} # {comment}" if comment else text]


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(part)}" for key, part in value.items() if part is not None) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)  # texts, numbers, true and false are written alike
