"""`--json` of all commands: one form, described in docs/json.md."""

import json
import re

import ase.build
import ase.io
import click
import pytest
from click.testing import CliRunner

from dftune.platform.cli.main import cli
from dftune.platform.cli.tables import enveloped
from dftune.tests.places import ROOT
from dftune.trainables.data.composing.selection import take


def commands(group: click.Group, above: tuple[str, ...] = ()):
    """All commands with --json, by their words."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*above, name))
        elif any("--json" in parameter.opts for parameter in command.params):
            yield (*above, name)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("json")
    model.save(path / "al4.model")
    ase.io.write(path / "POSCAR", ase.build.bulk("Al", cubic=True))
    return path


def numbers(value, above=""):
    """(name, name above it) of all numbers that are not whole, in nested values; not of what says its own unit."""
    if isinstance(value, dict):
        if value.get("unit"):
            return
        for name, part in value.items():
            if name != "units":
                yield from ((n or name, a or above) for n, a in numbers(part, name))
    elif isinstance(value, list):
        for part in value:
            yield from numbers(part, above)
    elif isinstance(value, float):
        yield "", ""


# Without a unit, as they are ratios, scores, or hyperparameters.
PLAIN = {"value", "tau", "tau_error", "regret", "learning_rate", "weight_decay", "ldos_r2", "ldos_r2_std", "rfr"}
PLAIN |= {
    "best_loss",
    "tolerance",
    "furthest",
    "distance",
    "usual_distance",
    "factor",
    "within_1",
    "within_2",
    "weight_scale",
    "connected",
    "penalty",
    "mean_abs",
    "first_width",
    "error",
    "threshold",
    "best",
    "outside",
    "top_occupation",
    "density_correlation",
    "density_difference",
    "unexplained_by_atoms",
    "width_error",
    "forces_error",
    "nearest",
}


@pytest.mark.parametrize(
    "words, arguments, name, some_units",
    [
        ("data show", ["{al4}"], "snapshots", {"temperature": "K", "total_energy": "eV", "energy_grid.width": "eV"}),
        ("data check", ["{al4}"], "snapshots", {"band_energy_error": "meV/atom"}),
        ("data export", ["{al4}", "{new}", "--format", "arrays"], "snapshots", {}),
        ("data split", ["{al4}", "{new}", "--by", "group"], "splits", {}),
        ("data merge", ["{first}", "{second}", "{new}"], "splits", {}),
        ("data select", ["{al4}", "{new}", "-n", "3"], "frames", {}),
        ("study list", ["--studies", "{studies}"], "studies", {}),
        ("study show", ["kept", "--studies", "{studies}"], "trials", {"seconds": "s", "band_energy_mae": "meV/atom"}),
        ("study watch", ["kept", "--studies", "{studies}"], "event", {"seconds": "s"}),
        ("model show", ["{folder}/al4.model"], "config", {"grid_spacing": "Å", "dos_rmse": "1/(eV atom)"}),
        ("model predict", ["{folder}/al4.model", "{folder}/POSCAR"], "predictions", {"free_energy": "eV"}),
    ],
)
def test_every_result_has_a_version_and_its_units(words, arguments, name, some_units, al4, studies, folder, tmp_path):
    places = {"al4": al4.path, "studies": studies, "folder": folder, "new": tmp_path / "new"}
    if words == "data merge":
        for part, ids in {"first": ["000", "006"], "second": ["003", "009"]}.items():
            places[part] = take(al4, tmp_path / part, ids).path
    result = CliRunner().invoke(cli, [*words.split(), *(a.format(**places) for a in arguments), "--json"])
    assert result.exception is None
    *_, line = [result.stdout] if words != "study watch" else result.stdout.splitlines()
    found = json.loads(line)
    assert found["schema_version"] == 1
    assert name in found
    assert some_units.items() <= found["units"].items()
    for number, above in numbers(found):
        known = {number, f"{above}.{number}", above} & found["units"].keys()
        assert known or number in PLAIN, f"{above}.{number} has no unit"


def test_every_command_with_json_is_described_and_no_other():
    described = set()
    for row in re.findall(
        r"^\| (`dftune [^|]+) \|", (ROOT / "docs" / "json.md").read_text(encoding="utf-8"), re.MULTILINE
    ):
        first, *others = re.findall(r"`([^`]+)`", row)
        words = tuple(first.removeprefix("dftune ").split())
        described |= {words, *((*words[:-1], other) for other in others)}
    assert described == set(commands(cli))


def test_units_are_those_of_names_that_are_there():
    found = enveloped({"a": 1.0, "b": {"c": 2.0}, "seconds": 3.0}, {"a": "eV", "b.c": "Å", "x": "K"})
    assert found["units"] == {"seconds": "s", "a": "eV", "b.c": "Å"}
