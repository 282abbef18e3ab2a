"""`dftune model check` compares a model with a dataset, term by term."""

import json
import re
import shutil

from dftune.tests.platform.cli.commands import run


def test_model_check_compares_term_by_term(model_folder, al4, tmp_path):
    figure = tmp_path / "check.png"
    shown = run("model", "check", model_folder, al4.path, "--forces", "--figure", figure).stdout
    for label in ("free energy", "hartree energy", "ewald energy", "density, ", "force components", "Fermi level"):
        assert re.search(rf"^{label}.*( +\d\S*){{4}}$", shown, re.MULTILINE), label
    assert figure.read_bytes().startswith(b"\x89PNG")
    found = json.loads(run("model", "check", model_folder, al4.path, "--json").stdout)
    assert [s["id"] for s in found["snapshots"]] == ["009", "010", "011"], "the test snapshots, and no others"
    assert max(abs(s["energies"]["ewald_energy"]) for s in found["snapshots"]) < 0.01


def test_model_check_fails_when_the_stated_accuracy_does_not_come_out(model_folder, al4, tmp_path):
    shutil.copytree(model_folder, tmp_path / "false.model")
    card = json.loads((tmp_path / "false.model" / "model.json").read_text())
    card["accuracy"]["ldos_r2"] = 0.99999
    (tmp_path / "false.model" / "model.json").write_text(json.dumps(card))
    result = run("model", "check", tmp_path / "false.model", al4.path, code=1)
    assert "the stated accuracy is not confirmed: ldos_r2: stated 0.99999" in result.stderr
