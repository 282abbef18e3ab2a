"""From a specification of structures and DFT to datasets."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from ...trainables.data.dataset import Dataset
from ...trainables.data.energy_grid import EnergyGrid
from ...trainables.data.generating.dynamics import Surrogate
from ...trainables.data.generating.orders import (
    MOST_LOOKS,
    Look,
    bands_of,
    check_looks,
    grids_of,
    look_again,
    orders_of,
    refuse_large,
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
from ...trainables.data.importing.writing import write_dataset
from ...trainables.files import refuse_existing
from ...trainables.memory import host_memory
from ...trainables.progress import Progress, Silent
from ...trainables.temporary import remove_left_over
from ..connection import connected, given_address
from .tasks import Runner

GIVE_UP = 3  # failures without a success
Choose = Callable[[Sequence[Planned]], Sequence[int]]  # candidates -> the numbers of those to compute


def generate(
    spec: GenerateSpec,
    destination: Path,
    *,
    choose: Choose | None = None,
    surrogate: Surrogate | None = None,
    address: str | None = None,
    without_failed: bool = False,
    progress: Progress | None = None,
) -> list[Dataset]:
    """Compute the snapshots of a specification by DFT, and make datasets of them.

    What is finished is in the folder DESTINATION.runs, and is never computed again; what has failed is.

    Args:
        spec: what to compute.
        destination: folder of the first dataset; those of other [[ldos]] have its name, a dash and theirs.
        choose: which of its training snapshots; by default all.  The other splits are computed whole.
        surrogate: gives the calculator of a model that moves atoms.
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
    if given_address(address) is None:
        refuse_missing(spec.run)  # before atoms are moved and candidates looked at
    runs_folder = _beside(destination, ".runs")
    planned = plan_structures(spec, surrogate=surrogate, runs=runs_folder)
    wanted = planned if choose is None else _chosen(planned, choose)
    with closing(progress), campaign(spec, planned, runs_folder, address, progress) as runs:
        failed = runs.compute(wanted)
        if failed and not without_failed:
            raise GenerateError(f"{words_of(failed)}; the same command tries again, --without-failed leaves them out")
        finished = [one for one in wanted if runs.is_finished(one)]
        if not finished:
            raise GenerateError(f"no snapshot is finished; see {runs.runs.failed('')}")
        return [runs.write(finished, place, number) for number, place in enumerate(places)]


def _chosen(planned: Sequence[Planned], choose: Choose) -> list[Planned]:
    """Training snapshots that are chosen, and all others."""
    candidates = [one for one in planned if one.split == "train"]
    names = {candidates[number].id for number in choose(candidates)}
    return [one for one in planned if one.split != "train" or one.id in names]


def _beside(place: Path, words: str) -> Path:
    return place.with_name(f"{place.name}{words}")


def words_of(failed: Mapping[str, str]) -> str:
    """Which runs have failed, and why the first one."""
    name, reason = next(iter(failed.items()))
    others = f", and {len(failed) - 1} other{'s' if len(failed) > 2 else ''}" if len(failed) > 1 else ""
    return f"snapshot {name}{others} failed: {reason}"


def refuse_missing(run: Run) -> None:
    """Raise InputError if a program is missing on this machine."""
    pw = find(run.pw)
    if run.source == "pp.x":
        find(run.pp)
    if run.ranks > 1:
        find_launcher(pw, run.launcher)


class Campaign:
    """DFT of one specification, some snapshots at a time, all with the same energies.  Made by ``campaign``."""

    def __init__(
        self, spec: GenerateSpec, species: Species, planned: Sequence[Planned], runs: Runs, progress: Progress
    ) -> None:
        self.runs, self._spec, self._species, self._progress = runs, spec, species, progress
        self._runner = Runner(runs, spec.run.ranks, progress)
        self._grids, self._bands = _look(spec, species, planned, runs, self._runner)
        for grid in self._grids:
            progress.say(
                f"LDOS: {grid.n_energy} energies from {grid.minimum:g} to {grid.energy[-1]:g} eV; bands: "
                + ", ".join(f"{n} of {formula}" for (formula, _), n in self._bands.items())
            )

    def compute(self, some: Sequence[Planned]) -> dict[str, str]:
        """Compute what is missing of some snapshots, and give those that failed: name -> why.  Raises InputError."""
        orders = orders_of(self._spec, self._species, some, self._grids, self._bands)
        return self._runner.run(orders, give_up=GIVE_UP)

    def is_finished(self, one: Planned) -> bool:
        """Whether the result of a snapshot is there."""
        return self.runs.path(one.id).exists()

    def write(self, finished: Sequence[Planned], place: Path, number: int = 0, *, again: bool = False) -> Dataset:
        """Make a dataset of finished snapshots with the LDOS on one of the grids.

        Args:
            finished: the snapshots.
            place: folder of the dataset.
            number: of the grid.
            again: only warnings are said, as the rest was said of such a dataset before.

        Raises:
            InputError: results are damaged or do not belong together, or the place cannot be written.
        """

        def say(line: str) -> None:
            if not again or line.startswith("warning"):
                self._progress.say(line)

        words = ", ".join(dict.fromkeys(one.group for one in finished))
        given = found(self.runs, finished, self._grids, number, f"generated, {words}", say)
        return write_dataset(prepare(given, report=say), place, report=say)


@contextmanager
def campaign(
    spec: GenerateSpec, planned: Sequence[Planned], folder: Path, address: str | None, progress: Progress
) -> Iterator[Campaign]:
    """Be ready to compute snapshots of a specification inside the block, connected to Ray.

    Args:
        spec: the settings.
        planned: snapshots whose cells decide about the energies of the LDOS and the bands, by coarse SCFs.
        folder: of the runs; what is finished there is not computed again.
        address: of a running cluster; by default an embedded Ray on this machine.
        progress: how far it is.

    Raises:
        InputError: the specification cannot be computed, or a program is missing.
    """
    atoms = [one.atoms for one in planned]
    species = read_species(spec.dft, atoms, spec.run.source)
    if (warning := sparse_mesh(spec.dft, species, atoms, spec.ldos)) is not None:
        progress.say(f"warning: {warning}")
    if given_address(address) is None:
        refuse_missing(spec.run)
        refuse_large(spec, species, planned, host_memory())
    with open_runs(folder) as runs:
        _keep(species, runs)
        try:
            with connected(address, say=progress.say, remedy="the same command goes on"):
                yield Campaign(spec, species, planned, runs, progress)
        finally:
            remove_left_over(Path(tempfile.gettempdir()))


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
