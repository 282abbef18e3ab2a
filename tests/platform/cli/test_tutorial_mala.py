"""The commands of docs/tutorial_mala.md run as they stand there, on a project of MALA that the test makes."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from dftune.tests.mala_project import SETTINGS
from dftune.tests.places import ROOT
from dftune.trainables.data.exporting.exporters import export_dataset
from dftune.trainables.descriptors.bispectrum import bispectrum

PAGE = (ROOT / "docs" / "tutorial_mala.md").read_text("utf-8")

pytestmark = [pytest.mark.slow, pytest.mark.ray]


def blocks(word: str) -> list[str]:
    return re.findall(rf"^```{word}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_the_tutorial_goes_from_a_folder_of_mala_to_an_answer(fresh_al4, tmp_path):
    for s in fresh_al4:
        fresh_al4.write_descriptors(s, SETTINGS, bispectrum(s.cell, s.positions, s.numbers, s.grid, SETTINGS))
    desk = tmp_path / "desk"
    desk.mkdir()
    export_dataset(fresh_al4, desk / "mala_project", "mala")
    shutil.copy(ROOT / "examples" / "POSCAR", desk)
    (study,) = blocks("toml")
    (desk / "al4.toml").write_text(study)
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for block in blocks("sh"):
        for command in block.splitlines():
            done = subprocess.run(command, shell=True, cwd=desk, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            if "--dry-run" in command:
                assert not (desk / "al4").exists()
            assert re.search(r"[1-9] to compute\)", done.stderr) is None, "the project's descriptors are used"
    for file in (desk / "mala_project").glob("*.npy"):
        assert (np.load(file) == np.load(desk / "mala_again" / file.name)).all()

    port = free_port()
    told = desk / "told"
    with told.open("w") as stream:
        served = subprocess.Popen(
            ["dftune", "serve", "al4.model", "--port", str(port)], cwd=desk, env=environment, stderr=stream
        )
    try:
        body = {
            "cell": [[0, 2.02, 2.02], [2.02, 0, 2.02], [2.02, 2.02, 0]],
            "positions": [[0, 0, 0]],
            "symbols": ["Al"],
        }
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/predict",
            json.dumps({"structure": body}).encode(),
            {"Content-Type": "application/json"},
        )
        answer = when_it_answers(request, served, told)
    finally:
        served.terminate()
        served.wait(60)
    assert answer["fermi_level"] == pytest.approx(7.6, abs=2)


def when_it_answers(request: urllib.request.Request, process: subprocess.Popen, told: Path) -> dict:
    until = time.monotonic() + 300
    while True:
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return json.load(response)
        except OSError:
            assert process.poll() is None, f"the endpoint ended: {told.read_text()}"
            assert time.monotonic() < until, "the endpoint does not answer"
            time.sleep(2)
