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
    part.say("hello")
    part.update("trials", 1, 2)
    part.close()
    stop.append(True)
    with pytest.raises(KeyboardInterrupt):
        part.update("trials", 2, 2)
    said = capsys.readouterr().err
    assert "hello" in said
    assert "trials: 1 of 2" in said
    assert "trials: 2 of 2" in said, "what was done is said before it ends"
