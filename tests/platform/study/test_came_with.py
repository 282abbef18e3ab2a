"""Descriptors that came with the data of MALA are those of all that is made of them, unless others are said."""

import pytest
from click.testing import CliRunner

from dftune import Dataset, StudySpec
from dftune.platform.cli.main import cli
from dftune.platform.study.study_file import plan, study_file
from dftune.platform.study.suited import suited
from dftune.tests.mala_project import SETTINGS, as_mala_writes_it, change, described
from dftune.trainables.data.composing.merge import merge
from dftune.trainables.data.importing.importers import import_dataset
from dftune.trainables.descriptors.settings import BispectrumSettings

LINE = "descriptors: cutoff 4 Å, 2J_max 4, as those that came with the data; [descriptors] may say otherwise"


@pytest.fixture(scope="module")
def ours(al4, tmp_path_factory):
    return described(al4, tmp_path_factory.mktemp("described") / "al4")


@pytest.fixture(scope="module")
def made(ours, tmp_path_factory) -> Dataset:
    """A project of MALA with descriptors, as it is imported."""
    desk = tmp_path_factory.mktemp("mala")
    project = as_mala_writes_it(ours, desk / "al4")
    return import_dataset([project], desk / "made", kernel="gaussian", width=0.5, validation=["001"], test=["002"])


def spec_of(dataset, **said) -> StudySpec:
    return StudySpec.of({"name": "s", "dataset": str(dataset.path), "method": "random", **said})


def test_a_study_takes_the_settings_that_came_with_its_data_and_says_so(made, tmp_path):
    spec, lines = suited(spec_of(made), made)
    assert (spec.settings, lines) == (SETTINGS, [LINE])
    assert suited(spec, made) == (spec, []), "said once"
    assert LINE in plan(spec_of(made), tmp_path).lines()
    text = study_file(made.path, "s", tmp_path)
    assert "cutoff = 4.0 " in text
    assert "two_j_max = 4 " in text


@pytest.mark.parametrize("said", [{"cutoff": 3.5}, {"two_j_max": 10}, {"cutoff": 4.68, "two_j_max": 10}])
def test_settings_of_the_user_go_before_those_that_came_with_the_data(made, said):
    spec, lines = suited(spec_of(made, descriptors=said), made)
    assert (spec.settings, lines) == (BispectrumSettings(**said), [])


def test_the_engine_alone_says_no_setting(made):
    spec, lines = suited(spec_of(made, descriptors={"engine": "fastest"}), made)
    assert (spec.settings, spec.settings.engine, lines) == (
        SETTINGS.model_copy(update={"engine": "fastest"}),
        "fastest",
        [LINE],
    )


def test_descriptors_that_were_computed_here_change_no_default(ours):
    assert ours.described()
    assert suited(spec_of(ours), ours)[0].settings == BispectrumSettings()


def test_the_command_line_computes_those_that_came_with_the_data(made):
    found = CliRunner().invoke(cli, ["descriptors", "compute", str(made.path)])
    assert found.output.startswith("cutoff 4 Å, 2J_max 4: 0 computed, 3 there already, in ")
    shown = CliRunner().invoke(cli, ["data", "show", str(made.path)]).output
    assert f"{SETTINGS.key} ({SETTINGS.key} came with the data: cutoff 4 Å, 2J_max 4)" in shown


def test_descriptors_of_some_snapshots_only_came_with_none(ours, tmp_path):
    project = as_mala_writes_it(ours, tmp_path / "al4")
    (project / "001.in.npy").unlink()
    change(project / "dataset.params.json", data=None)
    made = import_dataset([project], tmp_path / "made", kernel="gaussian", width=0.5)
    assert made.info.descriptors is None


def test_a_merge_keeps_settings_that_are_the_same(made, ours, tmp_path):
    first, last = (made.only(some) for some in (made.snapshots[:2], made.snapshots[2:]))
    assert merge([first, last], tmp_path / "same").info.descriptors == SETTINGS
    without = ours.only(ours.snapshots[2:])
    assert merge([first, without], tmp_path / "other").info.descriptors is None
