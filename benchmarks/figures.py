"""Run what the documents show, and put its numbers and figures into them: `make figures`.

demo      the study of examples/al4.toml: README.md, docs/studies.md and dos, score and configs in docs/figures
compare   `dftune compare examples/compare.toml`: compare in docs/figures
screen    `dftune descriptors screen`, 16 settings with a small network each: screen in docs/figures
pages     the endpoint's page in Chromium (`apt-get install chromium`), with surrogates that `dftune fit` makes:
          serve_page and serve_page_alloy in docs/figures

Figures and numbers of one part come from one run.  Studies are made in a temporary folder.

    python benchmarks/figures.py [demo] [compare] [screen] [pages]     (default: all; a quarter of an hour on two cores)
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from dftune.platform.serve.proxy import AnswerAlways
from dftune.platform.serve.settings import EndpointSettings
from dftune.platform.serve.shelf import Shelf
from dftune.platform.serve.web import web_app
from dftune.tests.platform.serve.asgi import listening
from dftune.tests.platform.serve.chromium import chromium

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "docs" / "figures"
DETAILS = re.compile(  # no room in the README
    r"\d+ trials at once|    displacement|  error bar, |  last layer  |  DOS RMSE  |"
    r"  (?:free|band)-energy error +test "
)
DFTUNE = [sys.executable, "-m", "dftune.platform.cli.main"]


def dftune(*arguments: object) -> tuple[str, str]:
    """What a command prints: (result, progress).

    Raises:
        subprocess.CalledProcessError: it failed; its own words are on stderr.
    """
    command = [*DFTUNE, *map(str, arguments)]
    # Progress passes through, so that whoever waits sees it, and is kept line by line.
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            sys.stderr.write(line)
            lines.append(line)
        result = process.stdout.read()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return result, "".join(lines)


def demo(folder: Path) -> None:
    """The study that the README shows."""
    run_of = origin()  # before this writes into the tree
    result, progress = dftune("study", "run", "examples/al4.toml", "--studies", folder)
    dftune("study", "plot", "al4", "--studies", folder, "--format", "png")
    places = [Path(f) for f in re.findall(r"^figures: (.*)", result, re.M)[0].split(", ")]
    surrogate, study = places[0], places[-1]
    for shown, drawn in (("dos", surrogate / "dos"), ("score", study / "score"), ("configs", study / "parallel")):
        shutil.copyfile(drawn.with_suffix(".png"), FIGURES / f"{shown}.png")
    result = result.replace(str(folder), "studies").strip()
    result = re.sub(r"^without a search, .*?\n\n", "", result, flags=re.DOTALL | re.MULTILINE)  # no room for it, either
    result = "\n".join(line for line in result.splitlines() if not DETAILS.match(line)).strip()
    put(ROOT / "README.md", "demo", f"```\n{result}\n```\n\nNumbers and figure: {run_of}.")
    # Ray's own lines carry process numbers and addresses of this machine.
    ours = "\n".join(line for line in progress.splitlines() if re.match(r"\[ *\d+ s\] ", line))
    ours = ours.replace(str(folder), "studies").replace(str(ROOT) + os.sep, "")
    put(ROOT / "docs" / "studies.md", "progress", f"```\n{ours}\n```")


def compare(folder: Path) -> None:
    """Every method at an equal budget."""
    dftune("compare", "examples/compare.toml", "--output", folder)
    shutil.copyfile(folder / "al4-quick" / "figures" / "compute.png", FIGURES / "compare.png")


def screen(folder: Path) -> None:
    """Sixteen settings of the descriptors."""
    settings = ("--cutoffs", "2.5,3.5,4.68,5.5", "--two-j-max", "4,6,8,10", "--train")
    dftune("descriptors", "screen", "examples/al4", *settings, "--output", folder)
    shutil.copyfile(folder / "screen.png", FIGURES / "screen.png")


def pages(folder: Path) -> None:
    """What a browser shows of a prediction of aluminium, and of one of iron and platinum."""
    rng = random.Random(0)
    alloy = " ".join(rng.sample(["Fe", "Pt"] * 16, 32))
    shown = {
        "serve_page": ("al4", ROOT / "examples" / "al4", (ROOT / "examples" / "POSCAR").read_text()),
        "serve_page_alloy": ("FePt", ROOT / "examples" / "alloys" / "FePt", alloy),
    }
    with chromium() as tab:
        for picture, (name, dataset, text) in shown.items():
            dftune("fit", dataset, folder / name)
            settings = EndpointSettings(models={name: str(folder / name)}, without_token=True)
            with listening(AnswerAlways(web_app(Shelf(settings), settings), lambda: True)) as url:
                tab.open(url)
                tab.run(f"$('text').value = {json.dumps(text)}; $('forces').checked = true; predict()")
                tab.until("$('said').textContent.startsWith('done')")
                if text == alloy:
                    tab.run("$('atom').value = 5; choose()")
                tab.screenshot(FIGURES / f"{picture}.png")


def origin() -> str:
    """Commit, machine and day of this run."""
    described = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(described, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = models[0].partition(":")[2].strip() if models else "unknown"
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[2]
    return f"commit {commit}, {cores} cores ({name}), load {load:.1f}, {datetime.now(UTC):%Y-%m-%d}"


def put(document: Path, name: str, text: str) -> None:
    """Replace what stands between the marks of a name in a document.

    Raises:
        ValueError: the marks are not there, once each.
    """
    old = document.read_text(encoding="utf-8")
    new, n = re.subn(
        rf"(<!-- {name}: [^\n]*-->\n).*?(\n<!-- end of {name} -->)",
        lambda match: match[1] + text + match[2],
        old,
        flags=re.DOTALL,
    )
    if n != 1:
        raise ValueError(f"{document}: has {n} places for '{name}', needs one")
    document.write_text(new, encoding="utf-8")


PARTS: dict[str, Callable[[Path], None]] = {"demo": demo, "compare": compare, "screen": screen, "pages": pages}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        with tempfile.TemporaryDirectory(prefix="dftune-figures-") as temporary:
            PARTS[part](Path(temporary) / part)
