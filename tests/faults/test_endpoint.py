"""The endpoint under load, with processes killed, and asked nonsense: by the benchmarks, which judge themselves.

In ordinary runs they are small.  `DFTUNE_WHOLE=1 python -m pytest -m slow tests/faults/test_endpoint.py` runs the whole
of them, three hours.
"""

import os
import subprocess
import sys

import pytest

from dftune.tests.places import ROOT

WHOLE = os.environ.get("DFTUNE_WHOLE") == "1"


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "al4"
    model.save(path)
    return path


def run(script, *arguments, small=(), whole=()):
    """Run a benchmark; it fails where its claim does not hold."""
    command = [sys.executable, ROOT / "benchmarks" / script, *arguments, *(whole if WHOLE else small)]
    ran = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-3000:]
    return ran.stdout


@pytest.mark.slow
@pytest.mark.parametrize("which", ["folder", "alloy"])
def test_malformed_requests_get_neither_5xx_nor_memory(which, request):
    run("endpoint_fuzz.py", request.getfixturevalue(which), small=["--requests", 1000], whole=["--requests", 10_000])


@pytest.mark.slow
def test_valid_requests_as_large_as_allowed_leave_no_memory(folder):
    run(
        "endpoint_fuzz.py",
        folder,
        "--requests",
        0,
        small=["--large", 2, "--size", 200_000],
        whole=["--large", 5, "--size", 500_000],
    )


@pytest.mark.slow
def test_what_the_description_allows_has_the_answers_that_it_describes(folder, alloy):
    small, whole = ["--examples", 5, "--seconds", 60], ["--examples", 50, "--seconds", 1800]
    run("endpoint_openapi.py", f"al4={folder}", f"CuAu={alloy}", small=small, whole=whole)


@pytest.mark.ray
@pytest.mark.slow
def test_ten_times_too_many_requests_are_sent_away_and_leave_nothing(folder):
    asked = ["--swaps", 0, "--kills", 0]
    run("endpoint_faults.py", folder, *asked, small=["--overload", 10], whole=["--overload", 120])


@pytest.mark.ray
@pytest.mark.slow
def test_memory_stays_flat_whatever_is_asked(folder):
    small = ["--seconds", 60, "--warm", 60, "--swaps", 1, "--large", 30]
    run("endpoint_soak.py", folder, small=small, whole=["--seconds", 3600])


@pytest.mark.ray
@pytest.mark.slow
def test_replicas_become_more_and_fewer_and_no_request_is_lost(folder):
    run("endpoint_scaling.py", folder)


@pytest.mark.ray
@pytest.mark.slow
def test_models_are_replaced_and_replicas_killed_and_no_request_is_lost(folder):
    small = ["--swaps", 3, "--kills", 1, "--requests", 50]
    whole = ["--swaps", 20, "--kills", 10, "--requests", 2000]
    run("endpoint_faults.py", folder, "--overload", 0, small=small, whole=whole)
