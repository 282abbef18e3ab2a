"""Which files are logs, whose they are, and what is wrong with those that are none although their names say so."""

import re
from pathlib import Path
from typing import Literal

SUFFIXES = ("", ".out", ".log", ".txt", ".pwo", ".scf", ".nscf")
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")
HEAD, TAIL = 65_536, 4_096  # bytes that are looked at; queues and MPI write before pw.x does
LARGEST = 500_000_000  # bytes of a log of pw.x
# Of pw.x, of pp.x, of something else, or none that can be read.
Kind = Literal["pw", "pp", "other", "empty", "binary", "without its beginning", "unreadable"]
PROBLEMS: dict[Kind, str] = {
    "empty": "is empty",
    "binary": "is no text",
    "without its beginning": "has the end of a log of pw.x, and not its beginning",
}
_PROGRAM = re.compile(rb"Program (\S+)\s+v\.?\s*\d")
_PROGRAMS: dict[bytes, Kind] = {b"PWSCF": "pw", b"POST-PROC": "pp"}
_END = re.compile(rb"^\s+PWSCF\s+:.*WALL", re.MULTILINE)
_OF_PW = re.compile(r"(?<![a-z])(pw|n?scf|pwscf)(?![a-z])|\.pwo\b", re.IGNORECASE)


def has_name_of_log(path: Path) -> bool:
    """Whether a file has a name that people give to logs."""
    return path.suffix.lower() in SUFFIXES or ".out" in path.name


def has_name_of_pw(path: Path) -> bool:
    """Whether a file has a name that people give to logs of pw.x, and to no other file."""
    return path.suffix.lower() not in ("", ".txt") and _OF_PW.search(path.name) is not None


def kind_of(path: Path) -> Kind:
    """What a file is, by its beginning and its end."""
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD)
            stream.seek(max(0, path.stat().st_size - TAIL))
            tail = stream.read()
            ends = _END.search(tail) is not None
            if ends and _PROGRAM.search(head) is None:
                stream.seek(0)
                head = stream.read(LARGEST)
    except OSError:
        return "unreadable"
    if (program := _PROGRAM.search(head)) is not None:
        return _PROGRAMS.get(program[1], "other")
    if not head.strip():
        return "empty"
    if b"\0" in head or path.suffix.lower() in COMPRESSED:
        return "binary"
    return "without its beginning" if ends else "other"
