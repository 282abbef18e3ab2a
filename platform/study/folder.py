"""The folder of a study: where its ledger is, and which study owns the folder."""

import json
import os
from contextlib import closing
from pathlib import Path

from ...trainables.files import write_text
from ..ledger.lease import remove_half_written
from ..ledger.ledger import Ledger
from ..ledger.places import Database, LedgerFile, Place
from ..spec import StudySpec
from .errors import StudyError

STUDIES = Path("studies")
OWNER = "study.json"  # in the folder of a study whose ledger is elsewhere: where that is


def place_of(folder: Path, ledger: str | None) -> Place:
    """Where the ledger is: a file in the folder, or a database by its URL."""
    return LedgerFile(folder / "ledger.db") if ledger is None else Database(ledger)


def of_name(name: str, studies: str | Path) -> Path:
    """The folder of a study.  Raises StudyError: no study has such a name."""
    if Path(name).name != name:
        raise StudyError(f"'{name}' is not the name of a study; `dftune study list` shows those there are")
    return Path(studies).expanduser().resolve() / name


def spec_of(folder: Path, place: Place, name: str) -> StudySpec:
    """The specification in the ledger of a study.

    Raises:
        StudyError: the folder is another study's.
        LedgerError: there is none of that name, or its ledger cannot be read.
    """
    if isinstance(place, LedgerFile) and not place.holds(name):
        refuse_folder_of_another(folder, place, None)
    with closing(Ledger.open(place, name)) as ledger:
        if ledger.spec.name != name:  # a copy: its place would be taken for that of the first one
            raise StudyError(
                f"{folder}: holds study '{ledger.spec.name}'; give the folder that name, in a --studies folder that "
                "has none of it"
            )
        return ledger.spec


def names_in(studies: Path) -> list[str]:
    """Names of the studies in a folder whose ledgers are there, whatever has become of these files, sorted.

    Raises:
        StudyError: the folder cannot be read.
    """
    try:
        return sorted(name for name in os.listdir(studies) if os.path.lexists(studies / name / "ledger.db"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StudyError(f"{studies}: cannot be read ({error.strerror}); choose another --studies folder") from error


def owner_of(folder: Path) -> dict[str, str] | None:
    """The study that owns the folder, if its ledger is elsewhere; else None.  Raises StudyError: nobody can tell."""
    try:
        found = json.loads((folder / OWNER).read_text(encoding="utf-8"))
        return {key: str(found[key]) for key in ("ledger", "id")}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{folder / OWNER}: damaged; remove the folder, or choose another") from error


def refuse_folder_of_another(folder: Path, place: Place, identity: str | None) -> None:
    """Refuse a folder with the files of another study: its scores and its model would be taken for this one's.

    Args:
        folder: of the study.
        place: of its ledger.
        identity: of the study; None for a new one.

    Raises:
        StudyError: it is another study's.
    """
    owner = owner_of(folder)
    if owner is not None and (identity is None or owner["id"] != identity):
        raise StudyError(
            f"{folder}: belongs to a study whose ledger is {owner['ledger']}; give that as DFTUNE_LEDGER or --ledger, "
            "or choose another name or --studies folder"
        )
    if isinstance(place, Database) and (folder / "ledger.db").exists():
        raise StudyError(
            f"{folder}: belongs to a study with a ledger of its own; choose another name or --studies folder"
        )


def refuse_existing(folder: Path, place: Place, name: str) -> None:
    """Refuse to begin a study that has begun, or in the folder of another one.  Raises StudyError."""
    go_on = f"go on with `dftune study resume {name}`"
    if place.holds(name):
        if isinstance(place, LedgerFile):
            raise StudyError(
                f"{folder}: a study of this name exists; {go_on}, choose another name, or remove the folder"
            )
        raise StudyError(f"{place}: a study '{name}' exists; {go_on}, or choose another name")
    refuse_folder_of_another(folder, place, None)


def make(folder: Path) -> None:
    """Make the folder if it is missing.  Raises StudyError: it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"{folder}: cannot be made ({error.strerror}); choose another --studies folder") from error


def model_of(folder: Path, place: Place, name: str, holder: Path | None) -> Path:
    """Where the model of a study is, ``holder / "model"``.

    Raises:
        StudyError: the study has not ended, so that ``holder`` is None, or its folder is not here.
    """
    if isinstance(place, Database) and owner_of(folder) is None:
        again = f", or make it again with `dftune study resume {name}`" if holder else ""
        raise StudyError(
            f"{folder}: the folder of study '{name}', which holds its model, is not here; give that of the host where "
            f"it ran with --studies{again}"
        )
    if holder is None or not (holder / "model").is_dir():
        raise StudyError(f"study '{name}' has no model yet; `dftune study resume {name}` ends it")
    return holder / "model"


def own(folder: Path, place: Place, identity: str) -> None:
    """If the ledger is elsewhere, note the owner in the folder.  Raises StudyError: the folder is another study's."""
    if isinstance(place, Database):
        refuse_folder_of_another(folder, place, identity)
        remove_half_written(folder)
        write_text(folder / OWNER, json.dumps({"ledger": str(place), "id": identity}))
