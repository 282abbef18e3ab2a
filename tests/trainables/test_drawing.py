import os
import subprocess
import sys

import pytest

from dftune.trainables.drawing import COLORS, MARKS

DRAW = """
import sys
import matplotlib
from dftune.platform.figures import png
from dftune.trainables.drawing import BLUE, Figure, save
figure = Figure()
figure.subplots().plot([0, 1], color=BLUE)
save(figure, __import__("pathlib").Path("figure.png"))
print(matplotlib.get_backend(auto_select=False), "matplotlib.pyplot" in sys.modules)
"""


@pytest.mark.parametrize("chosen", [None, "TkAgg"])
def test_drawing_leaves_the_backend_of_the_caller_alone(tmp_path, chosen):
    environment = {name: value for name, value in os.environ.items() if name not in ("MPLBACKEND", "DISPLAY")}
    if chosen is not None:
        environment["MPLBACKEND"] = chosen
    out = subprocess.run(
        [sys.executable, "-c", DRAW], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert out.stdout.lower().split() == [str(chosen).lower(), "false"]
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_each_colour_of_a_line_has_a_mark_of_its_own():
    assert len(set(COLORS)) == len(set(MARKS)) == len(COLORS)
