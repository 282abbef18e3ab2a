"""Plug-ins: a package that is really there, on sys.path with its metadata, adds things by name."""

import itertools
import subprocess
import sys

import pytest

from dftune.searchers import SEARCHERS, Method, SearchTask
from dftune.searchers.registry import PluginError, Registry
from dftune.searchers.space import Float

GROUP = "dftune.searchers"
MODULE = """
from dftune.searchers import Method, NoOptions
from dftune.searchers.random_search import RandomSearch

METHOD = Method(lambda task, options: RandomSearch(task.space, task.seed + 1), NoOptions, None, "mine")
NUMBER = 3
"""
serial = itertools.count()


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package with these entry points: name -> object of its module, ``{}`` stands for the module."""

    def put(points, module=MODULE, package=None):
        name = package or f"plugin_of_test_{next(serial)}"
        (tmp_path / f"{name}.py").write_text(module, encoding="utf-8")
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
        lines = [f"{key} = {value.format(name)}" for key, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]), encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        return name

    return put


def registry(**built_in):
    return Registry(GROUP, {"random": SEARCHERS["random"], **built_in}, of=Method)


def test_a_method_of_a_package_is_found_after_the_built_in_ones(install):
    name = install({"mine": "{}:METHOD"})
    found = registry()
    assert list(found) == ["random", "mine"]
    assert len(found) == 2
    assert "mine" in found
    assert name not in sys.modules, "a name alone does not load it"
    task = SearchTask({"x": Float(low=0, high=1)}, seed=3)
    method = found["mine"]
    other = SearchTask(task.space, seed=4)
    assert method.build(task, method.options()).ask("0") == found["random"].build(other, method.options()).ask("0")


def test_what_is_not_there_is_a_missing_key(install):
    install({"mine": "{}:METHOD"})
    assert "other" not in registry()
    assert registry().get("other") is None
    with pytest.raises(KeyError, match="other"):
        registry()["other"]


@pytest.mark.parametrize(
    "value, module, text",
    [
        ("{}:METHOD", "import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("{}:METHOD", "raise RuntimeError('a\\nb')", "RuntimeError: a b"),
        ("{}:OTHER", MODULE, "has no attribute 'OTHER'"),
    ],
)
def test_a_broken_plugin_is_named_in_one_line(install, value, module, text):
    name = install({"mine": value}, module)
    found = registry()
    assert list(found) == ["random", "mine"], "its name can still be listed"
    assert found["random"]
    with pytest.raises(PluginError) as error:
        found["mine"]
    assert f"{GROUP}: 'mine' ({value.format(name)}) of package {name} cannot be loaded: " in str(error.value)
    assert text in str(error.value)
    assert "\n" not in str(error.value)


def test_an_object_of_another_type_is_refused(install):
    name = install({"mine": "{}:NUMBER"})
    with pytest.raises(PluginError, match=rf"'mine' \({name}:NUMBER\) of package {name} needs a Method, not 3"):
        registry()["mine"]


def test_a_name_given_twice_is_refused(install):
    one, two = install({"mine": "{}:METHOD"}), install({"mine": "{}:METHOD"})
    with pytest.raises(PluginError) as error:
        list(registry())
    assert {one, two} <= set(str(error.value).replace(";", "").split())
    assert str(error.value).endswith("remove one of them")


def test_the_name_of_a_built_in_thing_is_refused_and_the_built_in_one_stays(install):
    name = install({"random": "{}:METHOD"})
    found = registry()
    assert found["random"] is SEARCHERS["random"]
    with pytest.raises(PluginError, match=f"of package {name} has the name of what is built in"):
        list(found)


def test_built_in_names_cost_no_look_at_the_packages():
    code = (
        "import sys; from dftune.searchers.registry import Registry; before = set(sys.modules); "
        "found = Registry('g', {'a': 1}); assert found['a'] == 1 and 'a' in found; print(set(sys.modules) - before)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
