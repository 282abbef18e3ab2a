"""A wrong study file is refused in one line, before anything is written or started."""

import pytest

from dftune.tests.platform.cli.commands import SPEC, refused


@pytest.mark.parametrize(
    "change, text",
    [
        (("trials = 2", "trails = 2"), "unknown key 'trails'; did you mean 'trials'?"),
        (('"int", low = 4', '"int", lwo = 4'), "unknown key 'space.width.lwo'; did you mean 'low'?"),
        (("[config]", "[config]\nepocs = 3"), "unknown hyperparameter 'epocs'; did you mean 'epochs'?"),
        (("[space]", "[space]\ndepth = { type = 'int', low = 1, high = 2 }"), "unknown hyperparameter 'depth'"),
        (("low = 4, high = 16", "low = 40, high = 16"), "low (40) is above high (16)"),
        (("low = 4, high = 16", "low = 0, high = 16"), "hyperparameter 'width': Input should be greater than or equal"),
        (('type = "int"', 'type = "integer"'), "key 'space.width'"),
        (('method = "random"', 'method = "randm"'), "unknown method 'randm'; did you mean 'random'?"),
        (('method = "random"', 'method = "rfr"\noptions = { tops = 3 }'), "unknown key 'tops'; did you mean 'top'?"),
        (("trials = 2", "trials = 0"), "key 'trials': Input should be greater than or equal to 1, got 0"),
        (("n_layers = 1", "width = 3"), "'width' stands in [space] and in [config]"),
        (('name = "quick"', 'name = "../quick"'), "key 'name'"),
        (('dataset = "al4"', ""), "key 'dataset' is missing"),
        (("trials = 2", "trials = "), "not a readable TOML file"),
        (('dataset = "al4"', 'dataset = "nowhere"'), "not a dataset (no dataset.json)"),
    ],
)  # fmt: skip
def test_a_wrong_study_file_is_refused_in_one_line(tmp_path, change, text):
    (tmp_path / "wrong.toml").write_text(SPEC.replace(*change))
    assert change[0] in SPEC
    line = refused("study", "run", tmp_path / "wrong.toml", "--studies", tmp_path / "studies")
    assert text in line
    assert not (tmp_path / "studies").exists(), "nothing half-written"


def test_a_missing_study_file_or_study_is_refused(tmp_path):
    assert "no such file; see examples/al4.toml" in refused("study", "run", tmp_path / "none.toml")
    assert "no ledger; `dftune study list`" in refused("study", "show", "none", "--studies", tmp_path)
    assert "no ledger" in refused("study", "resume", "none", "--studies", tmp_path)
