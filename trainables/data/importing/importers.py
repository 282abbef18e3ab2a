"""The importers there are, and the import of a dataset with the one that knows its files.

An importer of one's own is an object like ``ARRAYS``.  A package offers it under the entry-point group
``dftune.importers``; a script hands it to ``import_dataset``.
"""

import runpy
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...errors import DatasetError, InputError, one_line, unreadable
from ...files import refuse_existing
from ...physics.quadrature import Rule
from ...physics.smearing import Kernel
from ...registry import Registry
from ..dataset import Dataset
from .arrays import ARRAYS
from .importer import Found, Importer, OwnPlan, Report, Told
from .mala import MALA
from .planning import Checking, Plan, prepare
from .quantum_espresso.importer import QUANTUM_ESPRESSO
from .writing import write_dataset

NEEDS = ("name", "about", "recognises", "read")
OURS: tuple[Importer, ...] = (ARRAYS, MALA, QUANTUM_ESPRESSO)
IMPORTERS: Registry[Importer] = Registry(
    "importer",
    "dftune.importers",
    {importer.name: importer for importer in OURS},
    needs=NEEDS,
)


def import_dataset(
    sources: Iterable[Path],
    destination: Path,
    *,
    importer: str | Importer | None = None,
    validation: Sequence[str] | None = None,
    test: Sequence[str] | None = None,
    source: str | None = None,
    pseudopotentials: Path | None = None,
    kernel: Kernel | None = None,
    width: float | None = None,
    energies: Path | None = None,
    unit: str | None = None,
    cutoff: float | None = None,
    rule: Rule | None = None,
    check: Checking = "strict",
    report: Report = lambda line: None,
) -> Dataset:
    """Import snapshots into a new dataset folder, which appears whole or not at all.

    Args:
        sources: files of the snapshots, or folders that hold them.
        destination: the folder to make; it must not exist.
        importer: one of IMPORTERS by its name, or one of your own; by default the one that recognises the sources.
        validation, test: ids of the snapshots of these splits; by default the last quarter is for testing and the
            quarter before it for validation.
        source: a note on the origin of the data for dataset.json; by default the importer's.
        pseudopotentials: folder of the UPF files that the snapshots name; by default they are looked for beside the
            snapshots.  Without them, or where they are PAW or of another functional, the dataset has no ``dft``.
        kernel, width: how the LDOS was broadened [eV], where the files do not say it.
        energies, unit, cutoff: what else the files may not say, as in ``Told``.
        rule: of integration over the energies; by default the better one on their grid.
        check: ``strict`` refuses what does not agree with the DFT, ``warn`` reports it and writes it into dataset.json.
        report: called with one line a snapshot, one for the rule, a table of what was compared, and a line that says
            why there is no ``dft``.

    Raises:
        InputError: a file is missing, what it holds is inconsistent, or no importer knows it; names file and reason.
    """
    places = list(sources)
    refuse_existing(destination)
    told = Told(
        pseudopotentials=pseudopotentials,
        kernel=kernel,
        width=width,
        energies=energies,
        unit=unit,
        cutoff=cutoff,
    )
    plan = plan_import(
        places, importer=importer, told=told, validation=validation, test=test, rule=rule, check=check, report=report
    )
    if not isinstance(plan, Plan):
        raise InputError(f"{places[0]}: holds no snapshots; import it by `dftune data import`")
    return write_dataset(plan, destination, source=source, report=report)


def plan_import(
    sources: Iterable[Path],
    *,
    importer: str | Importer | None = None,
    told: Told | None = None,
    validation: Sequence[str] | None = None,
    test: Sequence[str] | None = None,
    rule: Rule | None = None,
    check: Checking = "strict",
    report: Report = lambda line: None,
    others: Sequence[Importer] = (),
) -> Plan | OwnPlan:
    """What an import would do.  It reads what the files say of themselves, not their arrays, and writes nothing.

    Arguments and errors as ``import_dataset``, whose other ones are in ``told``; ``others`` are importers beside those
    of IMPORTERS, of kinds with data of their own.
    """
    places = list(sources)
    try:
        if importer is None:
            importer = recognised(places, report, others)
        elif isinstance(importer, str):
            importer = next((one for one in others if one.name == importer), None) or IMPORTERS[importer]
        found = importer.read(places, told=told or Told(), report=report)
    except OSError as error:  # of a folder or a file whose reader has no words for it
        raise unreadable(error.filename or places[0], error) from error
    if isinstance(found, Found):
        return prepare(found, validation=validation, test=test, rule=rule, check=check, report=report)
    if not hasattr(found, "plan"):
        raise InputError(f"importer '{importer.name}' gave a {type(found).__name__}, not Found; see docs/extending.md")
    return found.plan(validation=validation, test=test, rule=rule, check=check, report=report)


def reader_of(script: Path) -> Importer:
    """The importer of a script: what it calls READER.  The script runs, so it is one that you trust.

    Raises:
        InputError: it cannot be run, or has no such importer.
    """
    try:
        found = runpy.run_path(str(script), run_name=script.stem).get("READER")
    except Exception as error:  # other people's code may raise anything
        raise InputError(
            f"{script}: cannot be run ({type(error).__name__}: {one_line(error)}); mend the script"
        ) from error
    missing = [name for name in NEEDS if not hasattr(found, name)]
    if found is None or missing:
        what = "has no READER" if found is None else f"its READER has no {', '.join(missing)}"
        raise InputError(f"{script}: {what}; a reader is described in docs/extending.md")
    reader: Importer = found
    return reader


def recognised(
    sources: Sequence[Path], report: Report = lambda line: None, others: Sequence[Importer] = ()
) -> Importer:
    """The importer that recognises a source; it says itself what is wrong with the others.

    Args:
        sources: files or folders.
        report: called with one line for each installed importer that cannot be used.
        others: importers beside those of IMPORTERS.

    Raises:
        InputError: no importer recognises any source, or several do.
    """
    importers, broken = list(others), list[str]()
    for name in IMPORTERS:
        try:
            importers.append(IMPORTERS[name])
        except InputError as error:
            broken.append(str(error))
    there_are = "; ".join(["there are " + _described(importers), *broken])
    if not sources:
        raise DatasetError(f"nothing to import; {there_are}")
    fitting = [one for one in importers if any(one.recognises(place) for place in sources)]
    if not fitting:
        place = sources[0]
        problem = "holds no snapshot that an importer recognises" if place.exists() else "missing"
        raise DatasetError(f"{place}: {problem}; {there_are}")
    if len(fitting) > 1:
        names = " and ".join(one.name for one in fitting)
        raise InputError(f"{sources[0]}: {names} recognise the sources; choose one with --format, or import apart")
    for line in broken:
        report(line)
    return fitting[0]


def _described(importers: Sequence[Importer]) -> str:
    return "; ".join(f"{one.name}: {one.about}" for one in importers)
