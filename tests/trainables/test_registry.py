import os
import subprocess
import sys

import pytest

from dftune.trainables.errors import InputError
from dftune.trainables.registry import Registry

ASK = """
import sys
from dftune.trainables.errors import InputError
from dftune.trainables.registry import Registry
letters = Registry("letter", "dftune.letters", {"a": "alpha"}, needs=("upper",))
try:
    print(eval(sys.argv[1]))
except InputError as error:
    print("refused:", error)
print("plugged" in sys.modules)
"""


def install(folder, name, *points, module=""):
    """A package as pip leaves it: a module and the metadata with its entry points."""
    (folder / f"{name}.py").write_text(module, encoding="utf-8")
    about = folder / f"{name}-1.5.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n", encoding="utf-8")
    (about / "entry_points.txt").write_text("[dftune.letters]\n" + "\n".join(points), encoding="utf-8")


def ask(folder, question):
    """What a new process answers that has ``folder`` on its path, and whether it imported the package."""
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-c", ASK, question]
    out = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    answer, imported = out.stdout.splitlines()
    return answer, imported == "True"


def test_an_installed_package_adds_a_name(tmp_path):
    install(tmp_path, "plugged", "b = plugged:BETA", module="BETA = 'beta'")
    assert ask(tmp_path, "letters['b']") == ("beta", True)
    assert ask(tmp_path, "list(letters)") == ("['a', 'b']", False)
    assert ask(tmp_path, "('a' in letters, 'c' in letters)") == ("(True, False)", False)


def test_a_name_of_ours_does_not_wait_for_packages(tmp_path):
    install(tmp_path, "plugged", "b = plugged:BETA", module="raise SystemExit('imported')")
    assert ask(tmp_path, "letters['a']") == ("alpha", False)


@pytest.mark.parametrize(
    "module, cause",
    [
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("", "AttributeError: module 'plugged' has no attribute 'BETA'"),
        ("BETA = 7", "AttributeError: 7 has no upper"),
        ("BETA = (", "SyntaxError: '(' was never closed (plugged.py, line 1)"),
    ],
)
def test_a_broken_package_is_named_in_one_line(tmp_path, module, cause):
    install(tmp_path, "plugged", "b = plugged:BETA", module=module)
    assert ask(tmp_path, "letters['b']")[0] == (
        f"refused: letter 'b' of plugged 1.5 cannot be used ({cause}); update or uninstall the package"
    )


def test_a_name_given_twice_is_refused(tmp_path):
    install(tmp_path, "plugged", "a = plugged:BETA", module="BETA = 'beta'")
    message = "refused: letter 'a' comes from dftune and from plugged 1.5; uninstall one of them"
    assert ask(tmp_path, "list(letters)")[0] == message
    (tmp_path / "plugged-1.5.dist-info" / "entry_points.txt").write_text("[dftune.letters]\nb = plugged:BETA")
    install(tmp_path, "second", "b = second:BETA")
    answer = ask(tmp_path, "letters['b']")[0]
    assert answer.startswith("refused: letter 'b' comes from ")
    assert {"plugged 1.5", "second 1.5;"} <= {" ".join(pair) for pair in zip(answer.split(), answer.split()[1:])}


def test_an_unknown_name_is_refused_with_what_there_is():
    letters = Registry("letter", "dftune.letters", {"alpha": 1, "beta": 2})
    with pytest.raises(InputError, match="there is no letter 'alfa'; did you mean 'alpha'"):
        letters["alfa"]
    with pytest.raises(InputError, match="there is no letter 'z'; there are alpha, beta"):
        letters["z"]
