"""From a specification of structures and DFT to datasets."""

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from ...trainables.data.dataset import Dataset
from ...trainables.data.energy_grid import EnergyGrid
from ...trainables.data.generating.orders import (
    MOST_LOOKS,
    Look,
    bands_of,
    check_looks,
    grids_of,
    look_again,
    orders_of,
    to_look_at,
)
from ...trainables.data.generating.programs import find, find_launcher
from ...trainables.data.generating.results import PSEUDOPOTENTIALS, Runs, found, open_runs
from ...trainables.data.generating.spec import GenerateError, GenerateSpec, Run
from ...trainables.data.generating.species import Species, read_species, sparse_mesh
from ...trainables.data.generating.structures import Planned, plan_structures
from ...trainables.data.importing.planning import prepare
from ...trainables.data.importing.quantum_espresso.pw_run import PwRun
from ...trainables.data.importing.quantum_espresso.pw_xml import NAME, read_xml
from ...trainables.data.importing.writing import refuse_existing, write_dataset
from ...trainables.progress import Progress, Silent
from ...trainables.temporary import remove_left_over
from ..connection import connected, given_address
from .tasks import Runner

GIVE_UP = 3  # failures without a success


def generate(
    spec: GenerateSpec,
    destination: Path,
    *,
    address: str | None = None,
    without_failed: bool = False,
    progress: Progress | None = None,
) -> list[Dataset]:
    """Compute the snapshots of a specification by DFT, and make datasets of them.

    What is finished is in the folder DESTINATION.runs, and is never computed again; what has failed is.

    Args:
        spec: what to compute.
        destination: folder of the first dataset; those of other [[ldos]] have its name, a dash and theirs.
        address: of a running cluster; by default an embedded Ray on this machine.
        without_failed: make the datasets of what is finished, although some runs have failed.
        progress: how far it is.

    Returns:
        A dataset for each [[ldos]].

    Raises:
        InputError: the specification cannot be computed, a program is missing, or runs have failed.
    """
    progress = progress or Silent()
    places = [destination if one.name is None else _beside(destination, f"-{one.name}") for one in spec.ldos]
    for place in places:
        refuse_existing(place)
    planned = plan_structures(spec)
    atoms = [one.atoms for one in planned]
    species = read_species(spec.dft, atoms, spec.run.source)
    if (warning := sparse_mesh(spec.dft, species, atoms, spec.ldos)) is not None:
        progress.say(f"warning: {warning}")
    if given_address(address) is None:
        refuse_missing(spec.run)
    with open_runs(_beside(destination, ".runs")) as runs, closing(progress):
        _keep(species, runs)
        grids = compute_all(spec, species, planned, runs, address, without_failed=without_failed, progress=progress)
        finished = [one for one in planned if (runs.path(one.id)).exists()]
        if not finished:
            raise GenerateError(f"no snapshot is finished; see {runs.failed('')}")
        made = []
        for number, place in enumerate(places):
            words = ", ".join(dict.fromkeys(one.group for one in finished))
            given = found(runs, finished, grids, number, f"generated, {words}", progress.say)
            plan = prepare(given, report=progress.say)
            made.append(write_dataset(plan, place, report=progress.say))
        return made


def _beside(place: Path, words: str) -> Path:
    return place.with_name(f"{place.name}{words}")


def refuse_missing(run: Run) -> None:
    """Raise InputError if a program is missing on this machine."""
    pw = find(run.pw)
    if run.source == "pp.x":
        find(run.pp)
    if run.ranks > 1:
        find_launcher(pw, run.launcher)


def _keep(species: Species, runs: Runs) -> None:
    """Put the pseudopotentials beside the runs, where the import looks for them."""
    folder = runs.folder / PSEUDOPOTENTIALS
    folder.mkdir(exist_ok=True)
    for symbol, upf in species.read.items():
        if not (folder / upf.file.name).exists():
            shutil.copyfile(upf.file, folder / upf.file.name)
        elif (folder / upf.file.name).read_bytes() != species.contents[symbol]:
            raise GenerateError(
                f"{folder / upf.file.name}: another file than {upf.file}; name another DATASET, or remove {runs.folder}"
            )


def compute_all(
    spec: GenerateSpec,
    species: Species,
    planned: Sequence[Planned],
    runs: Runs,
    address: str | None,
    *,
    without_failed: bool,
    progress: Progress,
) -> list[EnergyGrid]:
    """Compute what is missing of all snapshots, and give the energies of their LDOS.  Raises InputError."""
    try:
        with connected(address, say=progress.say, remedy="the same command goes on"):
            runner = Runner(runs, spec.run.ranks, progress)
            grids, bands = _look(spec, species, planned, runs, runner)
            for grid in grids:
                progress.say(
                    f"LDOS: {grid.n_energy} energies from {grid.minimum:g} to {grid.energy[-1]:g} eV; bands: "
                    + ", ".join(f"{n} of {formula}" for (formula, _), n in bands.items())
                )
            orders = orders_of(spec, species, planned, grids, bands)
            failed = runner.run(orders, give_up=GIVE_UP)
    finally:
        remove_left_over(Path(tempfile.gettempdir()))
    if failed and not without_failed:
        name, reason = next(iter(failed.items()))
        others = f", and {len(failed) - 1} other{'s' if len(failed) > 2 else ''}" if len(failed) > 1 else ""
        raise GenerateError(
            f"snapshot {name}{others} failed: {reason}; the same command tries again, --without-failed leaves them out"
        )
    return grids


def _look(
    spec: GenerateSpec, species: Species, planned: Sequence[Planned], runs: Runs, runner: Runner
) -> tuple[list[EnergyGrid], dict[tuple[str, int], int]]:
    """Energies of the LDOS and bands, from coarse calculations that are made first."""
    looks = to_look_at(spec, species, planned)
    for _ in range(MOST_LOOKS):
        seen = _seen(looks, runs, runner)
        grids = grids_of(spec, seen)
        again = [look_again(spec, species, look, run, grids) for look, run in zip(looks, seen)]
        if not any(again):
            break
        looks = [more or look for more, look in zip(again, looks)]
    check_looks(looks, seen, grids)
    return grids, bands_of(spec, looks, seen, grids)


def _seen(looks: Sequence[Look], runs: Runs, runner: Runner) -> list[PwRun]:
    failed = runner.run([look.order for look in looks], stage="first look")
    if failed:
        raise GenerateError(f"a calculation with few k-points failed: {next(iter(failed.values()))}")
    return [read_xml(runs.path(look.order.id) / NAME) for look in looks]
