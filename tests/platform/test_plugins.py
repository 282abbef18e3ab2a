"""Installed packages add scores, searchers, importers and kinds, and a broken one disturbs nothing but itself."""

import json
from pathlib import Path

import pytest

from dftune.tests.places import ROOT
from dftune.tests.plugins import install, python

ASK = """
import sys
from pathlib import Path
from dftune import StudySpec
from dftune.platform.methods import method_names, methods_of, scores_of
from dftune.searchers import SEARCHERS
from dftune.trainables.data.importing.importers import IMPORTERS, recognised
from dftune.trainables.errors import InputError
from dftune.trainables.kinds import KINDS

def own(names):
    return [name for name in names if "mine" in name or "other" in name]

def opened(spec):
    return spec.of_kind.name, spec.of_kind.open(spec.dataset).split("test").tolist()

def spec(method="random", **more):
    return StudySpec.of({"name": "own", "dataset": sys.argv[1], "method": method, **more})

for question in sys.argv[2:]:
    try:
        print(eval(question))
    except InputError as error:
        print("refused:", error)
"""
WIDTH = """
from dftune.trainables.kind import Score

def width(configs, batch, seed):
    return [float(sum(config.hidden)) for config in configs]

WIDTH = Score(width, 4, "sum of the widths", direction="learnt")
ELSEWHERE = Score(width, 4, "sum of the widths", kind="another")
"""
SECOND = """
from pydantic import BaseModel
from dftune.searchers import Method
from dftune.searchers.random_search import RandomSearch

class Options(BaseModel, extra="forbid"):
    shift: int = 1

METHOD = Method(lambda task, options: RandomSearch(task.space, task.seed + options.shift), Options, None, "mine")
"""
LINKS = """
from pathlib import Path
from dftune.trainables.data.importing.arrays import ARRAYS

class Links:
    name, about = "links", "text files with the path of a folder of arrays"

    def recognises(self, path):
        return path.suffix == ".link"

    def read(self, sources, **more):
        return ARRAYS.read([Path(source.read_text()) for source in sources], **more)

LINKS = Links()
"""
AL4 = str(ROOT / "examples" / "al4")


def ask(folder: Path, *questions: str, dataset: str = AL4) -> list[str]:
    """What a new process answers that has the packages of a folder."""
    return python(folder, ASK, dataset, *questions)


def test_a_score_of_a_package_makes_its_three_methods(tmp_path):
    install(tmp_path, "widths", {"mine": "widths:WIDTH", "other": "widths:ELSEWHERE"}, WIDTH, "dftune.scores")
    study = (ROOT / "examples" / "al4.toml").read_text().replace('"al4" ', f'"{AL4}" ')
    study = study.replace('method = "rfr"', 'method = "mine"').replace('name = "al4"', 'name = "own"')
    (tmp_path / "own.toml").write_text(study)
    read, built, pruned, stages, names, both, label, other = ask(
        tmp_path,
        f"(lambda s: (s.method, s.score()))(StudySpec.read(Path({str(tmp_path / 'own.toml')!r})))",
        "type(spec('mine').searcher()).__name__",
        "type(spec('optuna+mine').searcher()).__name__",
        "type(spec('mine>optuna', trials=40).searcher()).__name__",
        "own(method_names(KINDS['ldos']))",
        "[own(some(KINDS['ldos'])[0]) for some in (methods_of, scores_of)]",
        "scores_of(KINDS['ldos'])[0]['mine'].label",
        "spec('other')",
    )
    assert read == "('mine', 'mine')"
    assert [built, pruned, stages] == ["ScreenedSearch", "PrunedSearch", "TwoStageSearch"]
    assert names == "['mine', 'other', 'optuna+mine', 'mine>optuna', 'optuna+other', 'other>optuna']", "of any kind"
    assert both == "[['mine', 'optuna+mine', 'mine>optuna'], ['mine']]"
    assert label == "sum of the widths"
    assert other == "refused: score 'other' is for surrogates of kind 'another', not 'ldos'"


def test_a_score_of_a_package_does_not_replace_one_of_the_kind_in_silence(tmp_path):
    install(tmp_path, "widths", {"naswot": "widths:WIDTH", "rfr": "widths:ELSEWHERE"}, WIDTH, "dftune.scores")
    kept, said, of_another_kind = ask(
        tmp_path,
        "scores_of(KINDS['ldos'])[0]['naswot'] is KINDS['ldos'].scores['naswot']",
        "methods_of(KINDS['ldos'])[1]['naswot']",
        "'rfr' in scores_of(KINDS['ldos'])[1]",
    )
    assert (kept, of_another_kind) == ("True", "False")
    assert said == "score 'naswot' of a package has the name of one of ldos, which is used instead"


def test_a_method_of_a_package_is_built_with_its_options(tmp_path):
    install(tmp_path, "second", {"mine": "second:METHOD"}, SECOND, "dftune.searchers")
    same, name, wrong, there = ask(
        tmp_path,
        "spec('mine', seed=3, options={'shift': 2}).searcher().ask('0') == spec('random', seed=5).searcher().ask('0')",
        "spec('mine').method",
        "spec('mine', options={'shirt': 2})",
        "'mine' in methods_of(KINDS['ldos'])[0]",
    )
    assert (same, name, there) == ("True", "mine", "True")
    assert wrong == "refused: [options] of method mine: unknown key 'shirt'; did you mean 'shift'?"


def test_a_kind_of_a_package_opens_its_dataset(tmp_path):
    module = (ROOT / "tests" / "toy_kind.py").read_text() + "\n\nTOY = ToyKind()\n"
    install(tmp_path, "toys", {"toy": "toys:TOY"}, module, "dftune.kinds")
    data = tmp_path / "line"
    data.mkdir()
    splits = {"train": [[1.0, 2.0]], "validation": [[2.0, 4.0]], "test": [[3.0, 6.0]]}
    (data / "dataset.json").write_text(json.dumps({"kind": "toy", "numbers": splits}))
    kind, method, table, shifted, names, unknown = ask(
        tmp_path,
        "opened(StudySpec.of({'name': 'own', 'dataset': sys.argv[1]}))",
        "StudySpec.of({'name': 'own', 'dataset': sys.argv[1]}).method",
        "spec().settings",
        "spec(toys={'shift': 1.5}).settings",
        "list(KINDS)",
        "spec(kind='tow')",
        dataset=str(data),
    )
    assert kind == "('toy', [[3.0, 6.0]])"
    assert (method, table, shifted) == ("rate", "shift=0.0", "shift=1.5")
    assert names == "['ldos', 'alloys', 'toy']"
    assert unknown == "refused: key 'kind': there is no kind of surrogates 'tow'; did you mean 'toy'?"


def test_an_importer_of_a_package_recognises_its_files(tmp_path):
    install(tmp_path, "links", {"links": "links:LINKS"}, LINKS, "dftune.importers")
    install(tmp_path, "worse", {"worse": "worse:WORSE"}, "1 / 0", "dftune.importers")
    said, found, none, worse = ask(
        tmp_path,
        "recognised([Path('some.link')], print).name",
        "recognised([Path('nowhere')])",
        "IMPORTERS['worse']",
    )
    cause = "importer 'worse' of worse 1.5 cannot be used (ZeroDivisionError: division by zero); "
    assert (said, found) == (f"{cause}update or uninstall the package", "links")
    assert none.startswith("refused: nowhere: missing; there are arrays: ")
    assert "; links: text files with the path of a folder of arrays; " + cause in none
    assert worse == f"refused: {cause}update or uninstall the package"


BROKEN = {"dftune.scores": "score", "dftune.searchers": "method", "dftune.kinds": "kind of surrogates"}


@pytest.fixture(scope="module")
def broken(tmp_path_factory) -> dict[str, tuple[str, ...]]:
    """What a process answers that has a broken package of each sort: answers by the packages' group."""
    folder, questions = tmp_path_factory.mktemp("packages"), {}
    install(folder, "widths", {"mine": "widths:WIDTH"}, WIDTH, "dftune.scores")
    for n, (group, thing) in enumerate(BROKEN.items()):
        name = f"worse{n}"
        install(folder, name, {name: f"{name}:WORSE"}, "import nowhere", group)
        questions[group] = (
            f"spec(kind='{name}')" if thing.startswith("kind") else f"spec('{name}')",
            "spec('optuna+rfz')",
            f"(spec('rfr').searcher() and spec('rfr').score(), '{name}' in sys.modules)",
            f"(lambda found: ['mine' in found[0], 'random' in found[0], '{name}' in found[0]])"
            "(methods_of(KINDS['ldos']))",
            f"methods_of(KINDS['ldos'])[1].get('{name}')",
        )
    answers = iter(ask(folder, *(question for some in questions.values() for question in some)))
    return {group: tuple(next(answers) for _ in some) for group, some in questions.items()}


@pytest.mark.parametrize("group", BROKEN)
def test_a_broken_package_is_named_where_it_is_used_and_disturbs_nothing_else(broken, group):
    refused, unknown, loaded, methods, left_out = broken[group]
    name, thing = f"worse{[*BROKEN].index(group)}", BROKEN[group]
    text = f"{thing} '{name}' of {name} 1.5 cannot be used (ModuleNotFoundError: No module named 'nowhere'); "
    assert refused == (
        f"refused: {'key ' + repr('kind') + ': ' if 'kind' in thing else ''}{text}update or uninstall the package"
    )
    assert unknown == "refused: unknown method 'optuna+rfz'; did you mean 'optuna+rfr'?"
    assert loaded == "('rfr', False)"
    assert methods == "[True, True, False]"
    assert left_out == ("None" if "kind" in thing else f"{text}update or uninstall the package")
