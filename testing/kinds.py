"""The contract of kinds of surrogates: what studies, models, command line and endpoint rely on.

    def test_my_kind(tmp_path):
        check_kind(MyKind(), "data/small", "data/structure.xyz", hyperparameters={"epochs": 2})

It trains a few networks of one config, so give it a small dataset and a small config.
"""

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from ..searchers.space import SPACE, checked
from ..trainables.errors import InputError, Malformed, UnknownFormat
from ..trainables.json_body import JSON
from ..trainables.kind import SPLITS, Kind, Measure, Score, Surrogate, TrainingFailed
from ..trainables.kinds import FIRST, kind_of
from ..trainables.temporary import temporary_folder
from .damage import check_damage
from .scores import configs_of

NAME = re.compile(r"[a-z][a-z0-9_]*")
# Numbers that every trial reports, and those of Ray Tune.
TAKEN = {"epoch", "seconds", "failure", "complete", "config", "done", "pid", "date", "timestamp", "trial_id"}
SEEDS = (1, 2)
MEMORY = 1e9  # bytes for the data


def check_kind(
    kind: Kind,
    location: str | Path,
    structure: Any,
    *,
    settings: Mapping[str, Any] | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
    failing: Mapping[str, Any] | None = None,
    impossible: Any = None,
) -> None:
    """All promises of a kind of surrogates.

    Args:
        kind: the kind.
        location: folder of a small dataset.
        structure: to predict: as the kind has them, or a file of one.
        settings: the kind's own table of a study file; by default its defaults.
        hyperparameters: of the networks to train; by default those of an empty config.
        failing: hyperparameters with which no training comes to its end, if there are such.
        impossible: a structure that cannot be predicted, if there is one.

    Raises:
        AssertionError: a promise is not kept; the message says which.
    """
    own_table = kind.settings.model_validate(dict(settings or {}))
    check_names(kind, own_table)
    check_travel(kind)
    check_configs(kind)
    data = check_data(kind, str(location), own_table)
    check_damage(kind, str(location), own_table)
    config = kind.config.of(dict(hyperparameters or {}))
    check_costs(kind, data, own_table, [config, *configs_of(kind)])
    training, test = kind.split_for_training(data, own_table)
    trained = check_training(kind, config, training)
    if failing is not None:
        check_failure(kind, kind.config.of(dict(failing)), training)
    accuracy = check_judgement(kind, trained, training, test)
    card = check_card(kind, data, own_table, config, trained, accuracy)
    surrogate = check_surrogate(kind, card, kind.tensors(trained))
    check_prediction(surrogate, structure, impossible)
    check_request(surrogate)
    check_check(kind, surrogate, data)


def check_names(kind: Kind, settings: BaseModel) -> None:
    """No name of it is in use: not its table, not what it reports, not its scores."""
    from ..platform.spec import StudySpec
    from ..platform.study.study import Study
    from ..platform.tables import Budget
    from ..searchers import SEARCHERS

    assert NAME.fullmatch(kind.name), f"name '{kind.name}' needs small letters, digits and underscores"
    assert NAME.fullmatch(kind.table), f"table '{kind.table}' needs small letters, digits and underscores"
    keys = {*StudySpec.model_fields, *signature(Study.__init__).parameters}
    assert kind.table not in keys, f"table '{kind.table}' is a key of every study file, or an argument of Study"
    assert kind.values, "it has nothing to minimise: `values` is empty"
    assert kind.judged, "surrogates are compared by nothing: `judged` is empty"
    try:
        kind.settings.model_validate({**settings.model_dump(), "no_such_name": 1})
    except ValidationError:
        pass  # as it should be
    else:
        raise AssertionError(f"an unknown key of [{kind.table}] is not refused; settings need extra='forbid'")
    both = sorted(set(kind.values) & set(kind.costs))
    assert not both, f"'{', '.join(both)}' is a value and a cost"
    measures = [*kind.values.values(), *kind.costs.values(), kind.compute, *kind.judged.values()]
    for measure in measures:
        assert isinstance(measure, Measure), f"{measure!r} is no Measure"
        assert measure.label, f"'{measure.report}' needs a label"
    reports = [m.report for m in (*kind.values.values(), *kind.costs.values(), kind.compute)] + list(kind.kept)
    twice = sorted({name for name in reports if reports.count(name) > 1})
    assert not twice, f"trials report '{', '.join(twice)}' as two numbers"
    taken = sorted(TAKEN & set(reports))
    assert not taken, f"trials cannot report '{', '.join(taken)}': the name is in use"
    fields = {*Budget.model_fields}
    assert kind.compute.report not in fields, f"'{kind.compute.report}' is a key of [budget] already"
    for name, score in kind.scores.items():
        assert isinstance(score, Score), f"score '{name}' is {score!r}, no Score"
        assert name not in SEARCHERS, f"score '{name}' has the name of a method"
    for package in kind.packages:
        try:
            version(package)
        except PackageNotFoundError as error:
            raise AssertionError(f"packages: '{package}' is not installed, so a model card cannot name it") from error


def check_travel(kind: Kind) -> None:
    """It can be sent to other processes."""
    from ..cluster.study_data import travelled

    try:
        there = travelled(kind)
    except Exception as error:  # whatever the objects that it holds raise
        raise AssertionError(f"it cannot be sent to another process: {type(error).__name__}: {error}") from error
    assert there.name == kind.name, f"sent to another process, '{kind.name}' is '{there.name}'"


def check_configs(kind: Kind) -> None:
    """Configs of its space can be made, sent as plain values, and told apart by what scores see of them."""
    try:
        checked(SPACE.validate_python(kind.space) if kind.space else {})
        configs_of(kind)
    except ValueError as error:
        raise AssertionError(f"its space cannot be searched: {error}") from error
    for config in configs_of(kind):
        assert kind.config.of(config.model_dump()) == config, f"{config!r} is another one once it was plain values"
        _check_json(config.model_dump(mode="json"), f"{config!r}")
        assert config.epochs in range(1, sys.maxsize), f"{config!r} has {config.epochs!r} epochs"
        seen = config.seen_by_scores
        _check_json(seen, "seen_by_scores")
        again = _nested_tuples(json.loads(json.dumps(seen)))
        assert again == seen, f"seen_by_scores {seen} comes back as {again}: only numbers and texts in tuples do"
    _check_refused(lambda: kind.config.of({"no_such_name": 1}), "an unknown hyperparameter", "no_such_name")


def check_data(kind: Kind, location: str, settings: Any) -> Any:
    """A dataset is opened, of its kind, and the same every time; where there is none, that is said."""
    data = kind.open(location)
    assert kind.name == FIRST or kind_of(location) == kind.name, (
        f'its dataset.json needs "kind": "{kind.name}", so that a study file need not say it'
    )
    for again in (kind.open(location), kind.open(data.location)):
        assert again.fingerprint == data.fingerprint, "opened again, a dataset has another fingerprint"
        assert again.name == data.name, "opened again, a dataset has another name"
    for split in SPLITS:
        assert len(data.split(split)) > 0, f"the dataset has no data to {split} with; take another one for this check"
    data.verify()
    rows = data.rows()
    assert rows, "it has no rows, and `dftune data show` prints them"
    columns = {*data.units, *(column for row in rows for column in row)}
    _check_json(data.to_dict(), "data.to_dict()")
    for found in data.check():
        assert is_dataclass(found), f"its check yields {found!r}, no dataclass"
        columns |= asdict(found).keys()
    for text in (*columns, *data.units.values(), *data.lines(), *data.checked_lines()):
        assert isinstance(text, str), f"{text!r} is for people: a text"
    for minimize in kind.values:
        kind.refuse(data, settings, minimize)
    _check_refused(lambda: kind.open(f"{location}/nowhere"), "a dataset that is not there", "nowhere")
    return data


def check_costs(kind: Kind, data: Any, settings: Any, configs: Iterable[Any]) -> None:
    """What a training costs is known before it begins."""
    sizes, lengths = kind.sizes(data, settings), set[int]()
    _check_json(sizes, "sizes")
    assert all(isinstance(size, int) for size in sizes.values()), f"sizes {sizes} need whole numbers"
    for config in configs:
        one, two = kind.memory(config, sizes), kind.memory(config, sizes, 2)
        assert min(one.weights, one.activations, one.points) >= 0, f"{config!r} takes {one}"
        assert one.network <= two.network, f"two initialisations of {config!r} take less memory than one"
        terms = kind.terms(config, sizes)
        lengths.add(len(terms))
        assert all(math.isfinite(term) and term >= 0 for term in terms), f"{config!r} has the terms {terms}"
        costs = kind.costs_of(config, sizes, "cpu")
        wanted = {measure.report for measure in kind.costs.values()}
        assert costs.keys() == wanted, f"costs_of gives {sorted(costs)}, and `costs` names {sorted(wanted)}"
    assert len(lengths) == 1, f"configs have different numbers of terms: {sorted(lengths)}"
    assert lengths != {0}, "the time of a training is a sum of no terms"


def check_training(kind: Kind, config: Any, training: Any) -> Any:
    """Training reports every epoch, equal seeds give equal weights, and it goes on from its checkpoint."""
    reports: list[Mapping[str, Any]] = []
    trained = _train(kind, config, training, reports)
    epochs = [report["epoch"] for report in reports]
    assert epochs == list(range(1, len(epochs) + 1)), f"it reports the epochs {epochs}"
    assert 1 <= len(epochs) <= config.epochs, f"it reports {len(epochs)} epochs of {config.epochs}"
    for report in reports:
        for name in ("seconds", kind.compute.report, *(measure.report for measure in kind.values.values())):
            assert name in report, f"a report has no '{name}'"
            assert isinstance(report[name], (int, float)), f"'{name}' of a report is {report[name]!r}, no plain number"
    for name in ("seconds", kind.compute.report):
        so_far = [report[name] for report in reports]
        assert so_far == sorted(so_far), f"'{name}' is that of all epochs so far, and cannot fall: {so_far}"
    last = trained.last_report
    assert (last["epoch"], last.keys()) == (epochs[-1], reports[-1].keys()), (
        "last_report is no report of the last epoch"
    )
    assert set(trained.seeds) in ({1}, {2}, {1, 2}), f"of the seeds {SEEDS} it trained {trained.seeds}"
    first = kind.tensors(trained)
    _check_tensors(first, kind.tensors(_train(kind, config, training, [])), "trained again with equal seeds")
    with temporary_folder("check") as folder:
        there = folder / "training.safetensors"
        for what in ("with a checkpoint to write", "with a checkpoint that leaves nothing to train"):
            again = _train(kind, config, training, [], there)
            _check_tensors(first, kind.tensors(again), what)
            same = np.array_equal(_values_of(kind, again), _values_of(kind, trained), equal_nan=True)
            assert same, f"{what}, last_report has other values"
    return trained


def check_failure(kind: Kind, config: Any, training: Any) -> None:
    """A training that comes to nothing says so as TrainingFailed."""
    try:
        _train(kind, config, training, [])
    except TrainingFailed as error:
        said = str(error)
    else:
        raise AssertionError(f"training of {config!r} should have failed, and came to its end")
    assert said, "TrainingFailed needs to say when and why"


def check_judgement(kind: Kind, trained: Any, training: Any, test: Any) -> Any:
    """The judgement of a training has what surrogates are compared by, and can be sent and written down."""
    from ..cluster.study_data import travelled

    judgement = travelled(kind.judge(trained, training, test))
    accuracy = judgement.accuracy
    numbers, values = accuracy.numbers(), accuracy.to_dict()
    missing = sorted(set(kind.judged) - set(numbers))
    assert not missing, f"the accuracy has no '{', '.join(missing)}', which `judged` names"
    _check_json(values, "accuracy.to_dict()")
    again = kind.accuracy(json.loads(json.dumps(values))).to_dict()
    assert json.dumps(again) == json.dumps(values), f"accuracy {values} is {again} once it was written down"
    assert all(isinstance(line, str) for line in accuracy.lines()), "accuracy.lines() are for people: texts"
    with temporary_folder("check") as folder:
        missing = [str(path) for path in judgement.draw(folder) if not path.is_file()]
        assert not missing, f"draw says that it drew {', '.join(missing)}, and it is not there"
    return accuracy


def check_card(kind: Kind, data: Any, settings: Any, config: Any, trained: Any, accuracy: Any) -> Any:
    """A card says what was trained on what, and is the same once it was a file."""
    seeds = list(trained.seeds)
    card = kind.card("check", data, settings, config, seeds, accuracy)
    model = kind.card_model
    assert isinstance(card, model), f"the card is a {type(card).__name__}, and card_model says {model.__name__}"
    expected = {"kind": kind.name, "study": "check", "n_initializations": len(seeds), "seeds": seeds}
    expected |= {"dataset": data.name, "dataset_sha256": data.fingerprint, "config": config.model_dump(mode="json")}
    for name, value in expected.items():
        assert getattr(card, name) == value, f"the card says {name} = {getattr(card, name)!r}, and it is {value!r}"
    again = model.model_validate_json(card.model_dump_json())
    assert again.model_dump() == card.model_dump(), "the card is another one once it was a file"
    assert all(isinstance(line, str) for line in card.lines()), "card.lines() are for people: texts"
    return card


def check_surrogate(kind: Kind, card: Any, tensors: Mapping[str, Any]) -> Surrogate:
    """A surrogate is made of its card and tensors alone, as a model folder keeps them."""
    from ..platform.model.model import Model

    assert tensors, "it has no tensors"
    with temporary_folder("check") as folder:
        Model.assemble(card, tensors, kind).save(folder / "model")
        surrogate = Model.open(folder / "model", kind).surrogate
    assert surrogate.card.model_dump() == card.model_dump(), "saved and opened, a model has another card"
    _check_tensors(tensors, surrogate.tensors(), "saved and opened")
    one = next(iter(tensors))
    without = {name: values for name, values in tensors.items() if name != one}
    _check_refused(lambda: kind.surrogate(card, without), f"a model without its tensor '{one}'")
    return surrogate


def check_prediction(surrogate: Surrogate, structure: Any, impossible: Any = None) -> None:
    """A structure has one prediction, in plain values.  Numbers in seconds may differ from time to time."""
    if isinstance(structure, (str, Path)):
        structure = surrogate.read(Path(structure))[0]
    job = surrogate.prepare(structure)
    assert job.size in range(sys.maxsize), f"the size of a job is {job.size!r}"
    first, second = job.run(cpus=1), surrogate.prepare(structure).run(cpus=1)
    values = first.to_dict()
    _check_json(values, "a prediction")
    assert values, "a prediction has no values"
    others = sorted(set(first.units) - set(values) - set(first.row()))
    assert not others, f"a prediction has units of '{', '.join(others)}', which it has not"
    for name, value in values.items():
        if first.units.get(name) != "s":
            assert second.to_dict()[name] == value, f"predicted again, a structure has another '{name}'"
    for text in (*first.lines(), *first.warnings, *surrogate.notes):
        assert isinstance(text, str), f"{text!r} is for people: a text"
    if impossible is not None:
        _check_refused(lambda: surrogate.prepare(impossible), "a structure that cannot be predicted")


def check_request(surrogate: Surrogate) -> None:
    """The example of a request is predicted; what is no request is refused."""
    assert "structure" in surrogate.request.model_fields, "a request needs the field 'structure'"
    example = surrogate.example()
    _check_json(example, "the example of a request")
    try:
        structure, asked = surrogate.parse(json.dumps(example).encode(), JSON, {})
        surrogate.prepare(structure, **asked).run(cpus=1)
    except InputError as error:
        raise AssertionError(f"the example of a request is refused: {error}") from error
    _check_refused(lambda: surrogate.parse(b"{", JSON, {}), "a body that is no JSON", of=Malformed)
    _check_refused(lambda: surrogate.parse(b"{}", JSON, {}), "a request without a structure", "structure")
    _check_refused(lambda: surrogate.parse(b"", "text/none", {}), "an unknown content type", of=UnknownFormat)


def check_check(kind: Kind, surrogate: Surrogate, data: Any) -> None:
    """Checked on the dataset it was trained on, a surrogate has the accuracy that its card states."""
    from ..platform.model.model import Model

    found = surrogate.check(data, progress=lambda done, total, what: None)
    different = Model(surrogate, kind).differences(found.accuracy)
    assert not different, f"the check finds another accuracy than the card states: {'; '.join(different)}"
    _check_json(found.to_dict(), "a check")
    assert found.rows(), "a check has no rows for people"


def _train(kind: Kind, config: Any, training: Any, reports: list[Any], checkpoint: Path | None = None) -> Any:
    return kind.train(
        config,
        training,
        seeds=SEEDS,
        device="cpu",
        memory=MEMORY,
        report=lambda report: reports.append(dict(report)),
        checkpoint=checkpoint,
    )


def _values_of(kind: Kind, trained: Any) -> list[float]:
    return [trained.last_report[measure.report] for measure in kind.values.values()]


def _check_tensors(first: Mapping[str, Any], second: Mapping[str, Any], what: str) -> None:
    assert first.keys() == second.keys(), f"{what}, it has the tensors {sorted(second)} and not {sorted(first)}"
    for name, values in first.items():
        assert isinstance(values, np.ndarray), f"tensor '{name}' is a {type(values).__name__}, no NumPy array"
        assert np.array_equal(values, second[name]), f"{what}, it has another '{name}'"


def _check_json(value: Any, what: str) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{what} cannot be written as JSON: {error}") from error


def _check_refused(attempt: Any, what: str, name: str = "", of: type[InputError] = InputError) -> None:
    """An InputError of one line, which names what is wrong."""
    try:
        attempt()
    except of as error:
        said = str(error)
    except Exception as error:  # whatever is raised instead
        raise AssertionError(f"{what} is refused by {type(error).__name__}, not by {of.__name__}: {error}") from error
    else:
        raise AssertionError(f"{what} is not refused; raise {of.__name__}")
    assert "\n" not in said, f"of {what} it says more than one line: {said}"
    assert name in said, f"of {what} it says what does not name '{name}': {said}"


def _nested_tuples(value: Any) -> Any:
    return tuple(map(_nested_tuples, value)) if isinstance(value, list) else value
