"""Where a call from Python says how far it is, if it is told nothing: terminal, notebook, or nowhere."""

import io
import sys
import types

import pytest

from dftune.platform.progress import Plain, Silent, Terminal, default_progress
from dftune.trainables.progress import Within


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    "stream, modules, expected",
    [(Screen(), (), Terminal), (io.StringIO(), ("ipykernel",), Plain), (io.StringIO(), (), Silent)],
)
def test_the_default_depends_on_who_looks(monkeypatch, stream, modules, expected):
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    for name in modules:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    assert type(default_progress()) is expected


def test_the_progress_of_a_part_passes_on_what_is_said_and_ends_where_it_is_told_to(capsys):
    outer, stop = Plain(), []

    def check():
        if stop:
            raise KeyboardInterrupt

    part = Within(outer, check)
    part.update("trials", 1, 2)
    part.say("hello")
    part.close()
    stop.append(True)
    with pytest.raises(KeyboardInterrupt):
        part.update("trials", 2, 2)
    said = capsys.readouterr().err
    assert "hello" in said
    assert "trials: 1 of 2" in said
    assert "trials: 2 of 2" in said, "what was done is said before it ends"


def test_a_log_has_one_line_an_event(capsys):
    now = 0.0
    progress = Plain(lambda: now)

    def lines():
        return [line.partition("] ")[2] for line in capsys.readouterr().err.splitlines()]

    for trial in range(3):
        for epoch in range(10):
            now += 0.5
            progress.update("trials", trial, 12, f"trial {trial}: epoch {epoch}")
        progress.say(f"trial {trial} ended")
        progress.update("trials", trial + 1, 12)
    assert lines() == ["trials: 0 of 12 (trial 0: epoch 0)", "trial 0 ended", "trial 1 ended", "trial 2 ended"]
    for _ in range(130):  # a long trial: a sign of life a minute
        now += 1
        progress.update("trials", 3, 12, "trial 3: epoch 7")
    assert lines() == ["trials: 3 of 12 (trial 3: epoch 7)"] * 2
    progress.update("trials", 12, 12)
    assert lines() == ["trials: 12 of 12"], "the end of a stage is said always"
