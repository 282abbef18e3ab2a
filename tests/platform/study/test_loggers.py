"""The table [loggers] of a study file: callbacks of Ray Tune, off by default."""

import math
import struct
from collections import defaultdict
from types import SimpleNamespace

import pytest

from dftune import Study
from dftune.platform.study.errors import StudyError
from dftune.platform.study.loggers import callbacks_of
from dftune.tests.log_records import log_records


def events(folder):
    """The scalars of the files of TensorBoard events in a folder: name -> [(step, value)].

    A file is a sequence of records: the length in 8 bytes, 4 bytes of checksum, the event, and 4 more.
    """
    from tensorboardX.proto.event_pb2 import Event

    found = defaultdict(list)
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (size,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + size])
            at += size + 16
            for value in event.summary.value:
                found[value.tag].append((event.step, value.simple_value))
    return dict(found)


@pytest.mark.parametrize(
    "loggers, says",
    [
        ({"tensorbord": {}}, "[loggers] tensorbord: is unknown; did you mean 'tensorboard'?"),
        ({"nowhere:Logger": {}}, "[loggers] nowhere:Logger: there is no module 'nowhere'; install the package"),
        ({"json:Logger": {}}, "[loggers] json:Logger: 'json' has no class 'Logger'; there are none"),
        ({"tensorboard": {"flder": "x"}}, "it takes folder"),
        ({"pathlib:Path": {}}, "[loggers] pathlib:Path: 'Path' of 'pathlib' is no subclass of Callback"),
    ],
)
def test_a_logger_that_cannot_be_used_is_refused(tmp_path, loggers, says):
    with pytest.raises(StudyError) as refused:
        callbacks_of(loggers, tmp_path, "al4")
    assert says in str(refused.value)


def test_no_logger_is_on_by_default(tmp_path):
    assert callbacks_of({}, tmp_path, "al4") == []


def test_what_a_trial_does_not_know_is_left_out_of_tensorboard_without_a_word(tmp_path):
    trial = SimpleNamespace(trial_id="a", config={"trial": 3})
    (logger,) = callbacks_of({"tensorboard": {}}, tmp_path, "al4")
    with log_records("tensorboardX") as records:
        logger.on_trial_result(0, [], trial, {"epoch": 1, "best_loss": 0.5, "best_force_mae": math.nan})
        logger.on_trial_complete(0, [], trial)
    assert events(tmp_path / "tensorboard" / "trial-3").keys() == {"epoch", "best_loss"}
    assert records == []


def test_tensorboard_gets_every_epoch_of_every_trial(local_ray, toy, numbers, tmp_path):
    study = Study("logged", numbers, method="random", trials=2, loggers={"tensorboard": {}}, studies=tmp_path)
    study.run()
    for trial in study.trials():
        logged = events(study.folder / "logs" / "tensorboard" / f"trial-{trial.number}")
        assert [step for step, _ in logged["best_error"]] == [1, 2, 3]
        assert logged["best_error"][-1][1] == pytest.approx(trial.value, rel=1e-6)
