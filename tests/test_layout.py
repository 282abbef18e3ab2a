"""The house: who may import whom, what is light, what names are free."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from dftune.tests.places import ROOT

# The rooms from the ground to the roof: a file imports what its own room or a room above it in this list has, nothing
# below it.  A room is a file or a folder; the longest match counts.
ROOMS = [
    "trainables/errors",
    "trainables/registry",
    "trainables/progress",
    "trainables/json_body",
    "trainables/tables",
    "trainables/weighted",
    "trainables/memory",
    "trainables/physics",
    "trainables/surrogate",
    "trainables/kind",
    "trainables/processes",
    "trainables/temporary",
    "trainables/files",
    "trainables/checkpoint",
    "trainables/optimizers",
    "trainables/scratch",
    "trainables/drawing",
    "trainables/near_atoms",
    "trainables/cells",
    "trainables/lammps_files",
    "trainables/structures",
    "trainables/structure_texts",
    "trainables/descriptors",
    "trainables/data",
    "trainables/ldos",
    "trainables/alloys",
    "trainables/kinds",
    "searchers",
    "cluster/processes",
    "cluster/ray_private",
    "cluster/agent_stand_in",
    "cluster/worker_stand_in",
    "cluster/embedded",
    "cluster/loss",
    "cluster/connection",
    "cluster/resources",
    "cluster/store",
    "cluster/tasks",
    "cluster/node_check",
    "cluster/study_data",
    "cluster/descriptors",
    "cluster/dft",
    "cluster/trials",
    "cluster/worker_imports",
    "cluster/worker_forks",
    "cluster/launch",
    "platform/version",
    "platform/progress",
    "platform/bugs",
    "platform/methods",
    "platform/tables",
    "platform/objective",
    "platform/spec",
    "platform/ledger",
    "platform/figures",
    "platform/model",
    "platform/md",
    "platform/teaching",
    "platform/screen",
    "platform/study",
    "platform/grow",
    "platform/serve",
    "platform/dashboard",
    "platform/submit",
    "platform/compare",
    "platform/plan",
    "platform/transition",
    "platform/generate",
    "platform/cli",
    "testing",
]
FOLDERS = ("trainables", "searchers", "cluster", "platform", "testing")
# The leaves meet in plain values: which folders a folder may import, and of trainables only these two from searchers.
OURS = {
    "trainables": {"trainables"},
    "searchers": {"searchers"},
    "cluster": {"cluster", "trainables"},
    "platform": {"platform", "searchers", "trainables", "cluster"},
    "testing": set(FOLDERS),
}
FOR_SEARCHERS = {("trainables", "errors"), ("trainables", "registry")}
HEAVY = {"torch", "optuna", "lammps", "mpi4py", "numba", "ray", "click", "sqlalchemy"}
LIGHT = {"numpy", "scipy", "pyarrow", "pydantic", "ase"}
# file or folder -> heavy packages it may import; the longest match counts
ALLOWED = {
    "trainables": {"torch"},
    "trainables/physics": set(),
    "trainables/descriptors/lammps_engine.py": {"lammps", "mpi4py"},
    "trainables/descriptors/native": {"numba"},
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
    "platform/serve/proxy.py": {"ray"},
    "platform/serve/server.py": {"ray"},
    "platform/study": {"ray"},
    "platform/submit": {"ray"},
    "testing": set(),
}
NAMES = {"id", "attr", "arg", "name", "module"}  # the fields of a node that have a name of the source
MOST_LINES = 400  # of a source file
# What names a kind of surrogates.  General parts use such words in help texts and comments only.
OF_A_KIND = re.compile(r"ldos|bispectrum|naswot|\brfr\b|n_layers|band_energy|grid_points|alloy|\btoy", re.IGNORECASE)
# These are about descriptors on a grid or of atoms, or are the one line by which a kind's data get to the workers.
SPECIFIC = (
    "platform/md/distill.py",
    "platform/screen",
    "platform/cli/descriptors.py",
    "platform/cli/snapshots.py",
    "platform/cli/generate.py",
    "cluster/descriptors",
    "cluster/dft",
    "cluster/trials/publish.py",
)
OLD_NAMES = {"platform/serve/settings.py": {"grid_points"}}  # still read in config files
SOURCES = sorted(p.relative_to(ROOT) for folder in FOLDERS for p in (ROOT / folder).rglob("*.py"))

BLOCKS = ("body", "handlers", "orelse", "finalbody", "cases")  # the parts of a statement that have statements in them

Module = tuple[str, ...]


def module_of(path: Path) -> Module:
    """A source file as the parts of its dotted name."""
    parts = path.with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


MODULES = {module_of(path) for path in SOURCES}


@dataclass(frozen=True)
class Imports:
    """What a file imports, anywhere in it: packages by their first name, modules of ours, those for types alone."""

    packages: set[str]
    ours: set[Module]
    for_types: set[Module]


@cache
def tree_of(path: Path) -> ast.Module:
    """A source file, parsed; each when a test asks for it."""
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def imports_of(tree: ast.Module, path: Path) -> Imports:
    """What a source at a path of the repository imports."""
    found = Imports(set(), set(), set())

    def visit(nodes: Iterable[ast.AST], ours: set[Module]) -> None:
        for node in nodes:
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                visit(node.body, found.for_types)
                visit(node.orelse, ours)
                continue
            if isinstance(node, ast.Import):
                found.packages.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.packages.add((node.module or "").split(".")[0])
            elif isinstance(node, ast.ImportFrom):
                inside = path.parent.parts[: len(path.parent.parts) - node.level + 1]
                target = (*inside, *(node.module.split(".") if node.module else ()))
                names = [(*target, alias.name) for alias in node.names]
                ours.update(name if name in MODULES else target for name in names)
            for block in BLOCKS:  # an import is a statement, and no expression has one in it
                visit(getattr(node, block, ()), ours)

    visit(tree.body, found.ours)
    return found


@cache
def imports_at(path: Path) -> Imports:
    """What a source file imports."""
    return imports_of(tree_of(path), path)


def room_of(module: Module) -> int:
    """The number of a module's room, from the ground; that of a folder's own ``__init__`` is its first one's."""
    name = "/".join(module)
    rooms = [room for room in ROOMS if name == room or name.startswith(f"{room}/")]
    if not rooms:
        return min(n for n, room in enumerate(ROOMS) if room.startswith(f"{name}/"))
    return ROOMS.index(max(rooms, key=len))


def arrows_up(path: Path, imports: Imports) -> list[str]:
    """Imports of a file that lead to a room above its own."""
    mine = room_of(module_of(path))
    return [
        f"{path} -> {'/'.join(module)}"
        for module in sorted(imports.ours | imports.for_types)
        if module in MODULES and room_of(module) > mine
    ]


def circles(arrows: Mapping[Module, set[Module]]) -> list[list[Module]]:
    """Groups of modules that reach each other (Tarjan, SIAM J. Comput. 1, 146 (1972))."""
    index: dict[Module, int] = {}
    low: dict[Module, int] = {}
    stack: list[Module] = []
    found: list[list[Module]] = []

    def visit(module: Module) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in arrows.get(module, ()):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                found.append(group)

    for module in arrows:
        if module not in index:
            visit(module)
    return found


def words_of_a_kind(tree: ast.Module) -> set[str]:
    """Identifiers and texts that name a kind; docstrings, help texts and comments may."""
    nodes = list(ast.walk(tree))
    prose = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    prose |= {id(node.value) for node in nodes if isinstance(node, ast.keyword) and node.arg == "help"}
    words: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            words.add(node.value)
        for field in NAMES.intersection(node._fields):
            if isinstance(value := getattr(node, field), str):
                words.add(value)
    return {match[0].lower() for word in words if (match := OF_A_KIND.search(word))}


def test_files_import_only_what_their_places_allow():
    for path in SOURCES:
        imports = imports_at(path)
        place = max((key for key in ALLOWED if str(path).startswith(key)), key=len)
        assert imports.packages & HEAVY <= ALLOWED[place], path
        ours = imports.ours | imports.for_types
        if path.parts[0] == "searchers":
            ours -= FOR_SEARCHERS
        assert {module[0] for module in ours if module[0] in FOLDERS} <= OURS[path.parts[0]], path
        assert {module for module in ours if module[0] in FOLDERS} <= MODULES | {(folder,) for folder in FOLDERS}, path
        if path.parts[:2] == ("trainables", "physics"):
            assert imports.packages - set(sys.stdlib_module_names) <= {"numpy", "scipy"}, path
        assert "dftune" not in imports.packages, f"modules import each other relatively, and {path} does not"


def test_no_import_leads_up():
    assert [arrow for path in SOURCES for arrow in arrows_up(path, imports_at(path))] == []


def test_every_file_has_a_room():
    named = {room for room in ROOMS if (*room.split("/"),) in MODULES or (ROOT / room).is_dir()}
    assert set(ROOMS) - named <= {"platform/bugs"}
    assert all(room_of(module) >= 0 for module in MODULES)


def test_no_modules_import_each_other_in_a_circle():
    arrows = {module_of(path): (imports_at(path).ours & MODULES) - {module_of(path)} for path in SOURCES}
    assert circles(arrows) == []


def test_the_rules_see_what_they_forbid():
    """Each rule fails on a file that breaks it."""
    up = imports_of(ast.parse("from ..platform.spec import StudySpec\n"), Path("trainables/files.py"))
    assert arrows_up(Path("trainables/files.py"), up) == ["trainables/files.py -> platform/spec"]
    lazily = imports_of(ast.parse("def f():\n    from .study.study import Study\n"), Path("platform/spec.py"))
    assert arrows_up(Path("platform/spec.py"), lazily) == ["platform/spec.py -> platform/study/study"]
    for_types = imports_of(ast.parse("if TYPE_CHECKING:\n    from .cli import main\n"), Path("platform/progress.py"))
    assert (for_types.ours, len(arrows_up(Path("platform/progress.py"), for_types))) == (set(), 1)
    assert imports_of(ast.parse("import ray.tune\nfrom torch import nn\n"), Path("x.py")).packages == {"ray", "torch"}
    a, b, c = ("a",), ("b",), ("c",)
    assert circles({a: {b}, b: {c}, c: {b}}) == [[b, c]]
    assert circles({a: {b}, b: {c}, c: set()}) == []
    assert words_of_a_kind(ast.parse("x.band_energy_mae = 1\n")) == {"band_energy"}
    assert words_of_a_kind(ast.parse('"""An LDOS."""\n@option(help="Of an LDOS.")\ndef f(): ...\n')) == set()


GENERAL = [p for p in SOURCES if p.parts[0] in ("platform", "searchers", "cluster") and not str(p).startswith(SPECIFIC)]


def test_general_parts_name_no_kind_of_surrogates():
    found = {str(p): words_of_a_kind(tree_of(p)) for p in GENERAL}
    assert {name: words for name, words in found.items() if not words <= OLD_NAMES.get(name, set())} == {}


def test_no_source_file_is_long():
    lengths = {str(p): len((ROOT / p).read_text(encoding="utf-8").splitlines()) for p in SOURCES}
    assert {name: n for name, n in lengths.items() if n > MOST_LINES} == {}


def test_the_platform_folder_does_not_shadow_the_standard_library():
    assert not (ROOT / "platform" / "__init__.py").exists()
    out = subprocess.run(
        [sys.executable, "-c", "import platform, numpy; print(platform.python_version())"],
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


CALLER = """
import importlib, logging, os, signal, sys
import matplotlib, numpy, optuna, plotly, ray, torch
from ray import serve, tune

def state():
    levels = {name: logging.getLogger(name).level for name in ("", "optuna", "ray", "ray.tune", "matplotlib", "dftune")}
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    settings = [dict(os.environ), dict(matplotlib.rcParams), numpy.geterr(), torch.get_num_threads()]
    return [*settings, levels, handlers]

before = state()
for name in sys.argv[1:]:
    importlib.import_module(name)
print([i for i, (a, b) in enumerate(zip(before, state())) if a != b])
"""


@pytest.mark.ray  # it imports Ray's packages, and that takes seconds
def test_importing_any_module_changes_nothing_in_the_callers_process(tmp_path):
    names = [".".join(("dftune", *module)) for module in sorted(MODULES) if module[0] != "testing"]
    # Not the environment of this process, which what other tests called may have changed already.
    empty = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    command = [sys.executable, "-c", CALLER, "dftune", *names]
    out = subprocess.run(command, cwd=tmp_path, env=empty, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_public_names_can_be_imported():
    import dftune

    found = [getattr(dftune, name).__name__ for name in dftune.__all__ if name != "__version__"]
    names = ["BispectrumSettings", "Dataset", "Study", "fit", "StudySpec", "Model", "Calculator"]
    assert found == [*names, "Client", "RemoteCalculator"]


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
