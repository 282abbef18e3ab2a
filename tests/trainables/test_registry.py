"""Named things, ours and those of packages that are really there, on sys.path with their metadata."""

import itertools
import subprocess
import sys

import pytest

from dftune.tests.plugins import install, python
from dftune.trainables.errors import InputError
from dftune.trainables.registry import Registry

ASK = """
import sys
from dftune.trainables.errors import InputError
from dftune.trainables.registry import Registry
letters = Registry("letter", "dftune.letters", {"a": "alpha"}, needs=("upper",))
texts = Registry("letter", "dftune.letters", {"a": "alpha"}, of=str)
for question in sys.argv[1:]:
    try:
        print(eval(question))
    except InputError as error:
        print("refused:", error)
    print("plugged" in sys.modules)
"""


def ask(folder, *questions):
    """What a new process answers that has ``folder`` on its path, and whether it has imported the package by then."""
    lines = python(folder, ASK, *questions)
    return [(answer, imported == "True") for answer, imported in zip(lines[::2], lines[1::2], strict=True)]


def test_an_installed_package_adds_a_name(tmp_path):
    install(tmp_path, "plugged", {"b": "plugged:BETA"}, "BETA = 'beta'")
    names, number, there, loaded = ask(
        tmp_path,
        "list(letters)",
        "len(letters)",
        "('a' in letters, 'b' in letters, 'c' in letters)",
        "letters['b'], letters.get('b')",
    )
    assert names == ("['a', 'b']", False), "ours come first, and a name alone loads nothing"
    assert number == ("2", False)
    assert there == ("(True, True, False)", False)
    assert loaded == ("('beta', 'beta')", True)
    assert ask(tmp_path, "dict(letters)") == [("{'a': 'alpha', 'b': 'beta'}", True)]


def test_a_name_of_ours_does_not_wait_for_packages(tmp_path):
    install(tmp_path, "plugged", {"b": "plugged:BETA"}, "raise SystemExit('imported')")
    assert ask(tmp_path, "letters['a']") == [("alpha", False)]


def test_names_of_ours_cost_no_look_at_the_packages():
    code = (
        "import sys; from dftune.trainables.registry import Registry; before = set(sys.modules); "
        "found = Registry('thing', 'g', {'a': 1}); assert found['a'] == 1 and 'a' in found; "
        "print(set(sys.modules) - before)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


@pytest.mark.parametrize(
    "module, cause",
    [
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise RuntimeError('a\\nb')", "RuntimeError: a b"),
        ("", "AttributeError: module 'plugged' has no attribute 'BETA'"),
        ("BETA = 7", "AttributeError: 7 has no upper"),
        ("class BETA: name, upper = 'c', 1", "AttributeError: <class 'plugged.BETA'> calls itself 'c'"),
        ("BETA = (", "SyntaxError: '(' was never closed (plugged.py, line 1)"),
    ],
)
def test_a_broken_package_is_named_in_one_line(tmp_path, module, cause):
    install(tmp_path, "plugged", {"b": "plugged:BETA"}, module)
    answer = f"refused: letter 'b' of plugged 1.5 cannot be used ({cause}); update or uninstall the package"
    by_name, got, others = ask(tmp_path, "letters['b']", "letters.get('b')", "(list(letters), letters['a'])")
    assert by_name[0] == got[0] == answer
    assert others[0] == "(['a', 'b'], 'alpha')", "and disturbs no other"


def test_an_object_of_another_type_is_refused(tmp_path):
    install(tmp_path, "plugged", {"b": "plugged:BETA"}, "BETA = 7")
    ((answer, _),) = ask(tmp_path, "texts['b']")
    assert answer == (
        "refused: letter 'b' of plugged 1.5 cannot be used (TypeError: 7 is no str); update or uninstall the package"
    )


def test_a_name_of_ours_offered_again_is_refused_and_ours_stays(tmp_path):
    install(tmp_path, "plugged", {"a": "plugged:BETA"}, "BETA = 'beta'")
    message = "refused: letter 'a' comes from dftune and from plugged 1.5; uninstall one of them"
    assert ask(tmp_path, "list(letters)", "letters['a']") == [(message, False), ("alpha", False)]


def test_a_name_offered_twice_is_refused_and_disturbs_no_other(tmp_path):
    install(tmp_path, "plugged", {"b": "plugged:BETA", "c": "plugged:BETA"}, "BETA = 'beta'")
    install(tmp_path, "second", {"b": "second:BETA"})
    *refused, others = ask(tmp_path, "letters['b']", "list(letters)", "(letters['a'], letters['c'])")
    for answer, _ in refused:
        assert answer.startswith("refused: letter 'b' comes from ")
        words = answer.replace(";", "").split()  # in the order of the folder
        assert {"plugged 1.5", "second 1.5"} <= {" ".join(pair) for pair in itertools.pairwise(words)}
        assert answer.endswith("uninstall one of them")
    assert others[0] == "('alpha', 'beta')"


def test_an_unknown_name_is_refused_with_what_there_is():
    letters = Registry("letter", "dftune.letters", {"alpha": 1, "beta": 2})
    with pytest.raises(InputError, match="there is no letter 'alfa'; did you mean 'alpha'"):
        letters["alfa"]
    with pytest.raises(InputError, match="there is no letter 'z'; there are alpha, beta"):
        letters["z"]
    assert "z" not in letters
    assert letters.get("z") is None


def test_a_script_adds_a_name_once_and_what_fits():
    letters = Registry[object]("letter", "dftune.letters", {"alpha": "a"}, of=str, needs=("upper",))
    letters.add("beta", "b")
    assert dict(letters) == {"alpha": "a", "beta": "b"}
    for name, thing, text in (
        ("beta", "c", "there is a letter 'beta' already; choose another name"),
        ("gamma", 7, "letter 'gamma' cannot be added: 7 is no str"),
    ):
        with pytest.raises(InputError) as error:
            letters.add(name, thing)
        assert str(error.value) == text
