"""Installed packages add scores, searchers, importers and kinds, and a broken one disturbs nothing but itself."""

import ast
import json

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

def toy(**more):
    return StudySpec.of({"name": "own", "dataset": ".", **more})

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
TOY = "\n\nTOY = ToyKind()\n"
AL4 = str(ROOT / "examples" / "al4")


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[str, str]:
    """What one process answers that has packages of each sort: question -> answer."""
    folder = tmp_path_factory.mktemp("packages")
    install(folder, "widths", {"mine": "widths:WIDTH", "other": "widths:ELSEWHERE"}, WIDTH, "dftune.scores")
    install(folder, "clash", {"naswot": "widths:WIDTH", "rfr": "widths:ELSEWHERE"}, "", "dftune.scores")
    install(folder, "second", {"second": "second:METHOD"}, SECOND, "dftune.searchers")
    toy = (ROOT / "tests" / "toy_kind.py").read_text(encoding="utf-8") + TOY
    install(folder, "toys", {"toy": "toys:TOY"}, toy, "dftune.kinds")
    install(folder, "links", {"links": "links:LINKS"}, LINKS, "dftune.importers")
    install(folder, "worse", {"worse": "worse:WORSE"}, "1 / 0", "dftune.importers")
    study = (ROOT / "examples" / "al4.toml").read_text(encoding="utf-8").replace('"al4" ', f'"{AL4}" ')
    study = study.replace('method = "rfr"', 'method = "mine"').replace('name = "al4"', 'name = "own"')
    (folder / "own.toml").write_text(study, encoding="utf-8")
    splits = {"train": [[1.0, 2.0]], "validation": [[2.0, 4.0]], "test": [[3.0, 6.0]]}
    (folder / "dataset.json").write_text(json.dumps({"kind": "toy", "numbers": splits}), encoding="utf-8")
    for name, (group, _) in BROKEN.items():
        install(folder, name, {name: f"{name}:WORSE"}, "import nowhere", group)
    return dict(zip(QUESTIONS, python(folder, ASK, AL4, *QUESTIONS.values()), strict=True))


# The process's folder is that of the packages, of "own.toml", and of a dataset of the toy kind.
QUESTIONS = {
    "read": "(lambda s: (s.method, s.score()))(StudySpec.read(Path('own.toml')))",
    "screened": "type(spec('mine').searcher()).__name__",
    "pruned": "type(spec('optuna+mine').searcher()).__name__",
    "stages": "type(spec('mine>optuna', trials=40).searcher()).__name__",
    "names": "own(method_names(KINDS['ldos']))",
    "both": "[own(some(KINDS['ldos'])[0]) for some in (methods_of, scores_of)]",
    "label": "scores_of(KINDS['ldos'])[0]['mine'].label",
    "other": "spec('other')",
    "kept": "scores_of(KINDS['ldos'])[0]['naswot'] is KINDS['ldos'].scores['naswot']",
    "clash": "methods_of(KINDS['ldos'])[1]['naswot']",
    "of another kind": "'rfr' in scores_of(KINDS['ldos'])[1]",
    "same": "spec('second', seed=3, options={'shift': 2}).searcher().ask('0')"
    " == spec('random', seed=5).searcher().ask('0')",
    "second": "spec('second').method",
    "wrong option": "spec('second', options={'shirt': 2})",
    "there": "'second' in methods_of(KINDS['ldos'])[0]",
    "opened": "opened(toy())",
    "toy's method": "toy().method",
    "toy's table": "toy().settings",
    "shifted": "toy(toys={'shift': 1.5}).settings",
    "kinds": "list(KINDS)",
    "unknown kind": "spec(kind='tow')",
    "importer": "(lambda said: (recognised([Path('some.link')], said.append).name, *said))([])",
    "no importer": "recognised([Path('nowhere')])",
    "worse importer": "IMPORTERS['worse']",
}
# Names of packages that cannot be imported: their group, and what they would add.
BROKEN = {
    "worse0": ("dftune.scores", "score"),
    "worse1": ("dftune.searchers", "method"),
    "worse2": ("dftune.kinds", "kind of surrogates"),
}
for name, (_, thing) in BROKEN.items():
    QUESTIONS |= {
        f"{name} refused": f"spec(kind='{name}')" if thing.startswith("kind") else f"spec('{name}')",
        f"{name} unknown": "spec('optuna+rfz')",
        f"{name} loaded": f"(spec('rfr').searcher() and spec('rfr').score(), '{name}' in sys.modules)",
        f"{name} methods": f"(lambda found: ['mine' in found[0], 'random' in found[0], '{name}' in found[0]])"
        "(methods_of(KINDS['ldos']))",
        f"{name} left out": f"methods_of(KINDS['ldos'])[1].get('{name}')",
    }


def test_a_score_of_a_package_makes_its_three_methods(answers):
    assert answers["read"] == "('mine', 'mine')"
    assert [answers[one] for one in ("screened", "pruned", "stages")] == [
        "ScreenedSearch", "PrunedSearch", "TwoStageSearch",
    ]  # fmt: skip
    names = "['mine', 'other', 'optuna+mine', 'mine>optuna', 'optuna+other', 'other>optuna']"
    assert answers["names"] == names, "of any kind"
    assert answers["both"] == "[['mine', 'optuna+mine', 'mine>optuna'], ['mine']]"
    assert answers["label"] == "sum of the widths"
    assert answers["other"] == "refused: score 'other' is for surrogates of kind 'another', not 'ldos'"


def test_a_score_of_a_package_does_not_replace_one_of_the_kind_in_silence(answers):
    assert (answers["kept"], answers["of another kind"]) == ("True", "False")
    said = "score 'naswot' of a package has the name of one of ldos, which is used instead"
    assert answers["clash"] == said


def test_a_method_of_a_package_is_built_with_its_options(answers):
    assert (answers["same"], answers["second"], answers["there"]) == ("True", "second", "True")
    said = "refused: [options] of method second: unknown key 'shirt'; did you mean 'shift'?"
    assert answers["wrong option"] == said


def test_a_kind_of_a_package_opens_its_dataset(answers):
    assert answers["opened"] == "('toy', [[3.0, 6.0]])"
    found = (answers["toy's method"], answers["toy's table"], answers["shifted"])
    assert found == ("rate", "shift=0.0", "shift=1.5")
    assert answers["kinds"] == "['ldos', 'alloys', 'toy', 'worse2']", (
        "also one that is said to be broken when it is used"
    )
    said = "refused: key 'kind': there is no kind of surrogates 'tow'; did you mean 'toy'?"
    assert answers["unknown kind"] == said


def test_an_importer_of_a_package_recognises_its_files(answers):
    cause = "importer 'worse' of worse 1.5 cannot be used (ZeroDivisionError: division by zero); "
    said = f"{cause}update or uninstall the package"
    assert ast.literal_eval(answers["importer"]) == ("links", said)
    assert answers["no importer"].startswith("refused: nowhere: missing; there are arrays: ")
    assert "; links: text files with the path of a folder of arrays; " + cause in answers["no importer"]
    assert answers["worse importer"] == f"refused: {said}"


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_package_is_named_where_it_is_used_and_disturbs_nothing_else(answers, name):
    thing = BROKEN[name][1]
    text = f"{thing} '{name}' of {name} 1.5 cannot be used (ModuleNotFoundError: No module named 'nowhere'); "
    assert answers[f"{name} refused"] == (
        f"refused: {'key ' + repr('kind') + ': ' if 'kind' in thing else ''}{text}update or uninstall the package"
    )
    assert answers[f"{name} unknown"] == "refused: unknown method 'optuna+rfz'; did you mean 'optuna+rfr'?"
    assert answers[f"{name} loaded"] == "('rfr', False)"
    assert answers[f"{name} methods"] == "[True, True, False]"
    assert answers[f"{name} left out"] == ("None" if "kind" in thing else f"{text}update or uninstall the package")
