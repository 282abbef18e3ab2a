"""Packages as pip leaves them: a module, and metadata with entry points."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def install(
    folder: Path, name: str, points: Mapping[str, str], module: str = "", group: str = "dftune.letters"
) -> None:
    """Put a package into a folder.

    Args:
        folder: to put it in.
        name: of the package and of its module.
        points: name of an entry point -> what it names, "module:OBJECT".
        module: source of the module.
        group: of the entry points.
    """
    (folder / f"{name}.py").write_text(module, encoding="utf-8")
    about = folder / f"{name}-1.5.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n", encoding="utf-8")
    lines = [f"{point} = {value}" for point, value in points.items()]
    (about / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]), encoding="utf-8")


def python(folder: Path, code: str, *arguments: str) -> list[str]:
    """The lines that a new process prints which has ``folder`` on its path."""
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-c", code, *arguments]
    out = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    return out.stdout.splitlines()
