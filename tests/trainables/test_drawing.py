import os
import re
import subprocess
import sys

import pytest
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from dftune.tests.places import ROOT
from dftune.trainables.drawing import COLORS, DPI, MARKS, save

DRAW = """
import sys
from pathlib import Path
import matplotlib
from matplotlib.figure import Figure
from dftune.trainables.drawing import BLUE, save
for chosen in (None, "TkAgg"):
    if chosen is not None:
        matplotlib.rcParams["backend"] = chosen  # as MPLBACKEND does, or a file matplotlibrc
    figure, path = Figure(), Path(f"{chosen}.png")
    figure.subplots().plot([0, 1], color=BLUE)
    save(figure, path)
    print(matplotlib.get_backend(auto_select=False), "matplotlib.pyplot" in sys.modules, path.read_bytes()[1:4])
"""


def test_drawing_leaves_the_backend_of_the_caller_alone(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name not in ("MPLBACKEND", "DISPLAY")}
    out = subprocess.run(
        [sys.executable, "-c", DRAW], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert out.stdout.splitlines() == ["None False b'PNG'", "TkAgg False b'PNG'"]


class Counted(Artist):
    """An artist that counts how often it is drawn."""

    drawn = 0

    def draw(self, renderer):
        self.drawn += 1


def test_a_figure_is_drawn_once_and_is_the_one_that_matplotlib_saves(tmp_path):
    for layout in (None, "constrained"):
        ours, theirs = (Figure(figsize=(3, 2), layout=layout) for _ in range(2))
        for figure in (ours, theirs):
            figure.subplots().set(xlabel="energy [eV]", title="DOS")
        ours.add_artist(counted := Counted())
        save(ours, tmp_path / "ours.png")
        theirs.savefig(tmp_path / "theirs.png", dpi=DPI)
        assert (tmp_path / "ours.png").read_bytes() == (tmp_path / "theirs.png").read_bytes()
        assert counted.drawn == 1


@pytest.mark.parametrize("room", ["trainables", "searchers", "cluster", "platform"])
def test_no_file_sets_a_backend_or_needs_pyplot(room):
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / room).rglob("*.py")}
    pattern = r"import .*\bpyplot\b|matplotlib\.pyplot|\b(mpl|matplotlib)\.use\("
    assert re.search(pattern, 'import matplotlib as mpl\nmpl.use("Agg")')
    assert [path for path, text in sources.items() if re.search(pattern, text)] == []


def test_each_colour_of_a_line_has_a_mark_of_its_own():
    assert len(set(COLORS)) == len(set(MARKS)) == len(COLORS)
