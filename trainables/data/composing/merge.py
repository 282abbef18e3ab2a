"""Datasets merged into one: the same species and DFT, one energy grid."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ...errors import DatasetError, InputError
from ...progress import Progress
from ..checked import Checked
from ..dataset import Dataset
from ..energy_grid import EnergyGrid
from ..kohn_sham import KohnSham
from ..snapshot import SPLITS
from ..snapshot_check import first_repeated, first_twins
from .align import Alignment, align, common_grid, reachable
from .parts import Part, compose
from .split import new_splits

Report = Callable[[str], None]


def merge(
    datasets: Sequence[Dataset],
    destination: Path,
    *,
    width: float | None = None,
    report: Report = lambda line: None,
    progress: Progress | None = None,
) -> Dataset:
    """Merge datasets into a new folder.  Splits stay, unless one of the three would have no snapshot.

    Ids that several have get the name of their dataset before them.  Energy grids that differ are brought to a common
    one, if the broadening allows it to 1 % of a state's peak.

    Args:
        datasets: two or more.
        destination: a folder that does not exist.
        width: of the broadening of the merged LDOS, wider than those there are, so that more grids fit [eV].
        report: told what was changed, and by how much that is off.
        progress: told how many snapshots are done.

    Raises:
        InputError: valences differ, a structure is there twice, or grids cannot be aligned; says which and why.
    """
    if len(datasets) < 2:
        raise InputError("one dataset is nothing to merge; give two or more")
    first = datasets[0]
    species = _species(datasets)
    grid, alignments = _grids(datasets, width, report)
    repeated = first_repeated(s.id for dataset in datasets for s in dataset) is not None
    if repeated:
        names = [dataset.name for dataset in datasets]
        if (twice := first_repeated(names)) is not None:
            raise InputError(f"two datasets are called '{twice}' and have snapshots of the same ids; rename a folder")
        report("ids are in several datasets, so each gets the name of its dataset before it")
    parts = [
        Part(dataset, s, replace(s, id=f"{dataset.name}-{s.id}") if repeated else s, alignment)
        for dataset, alignment in zip(datasets, alignments, strict=True)
        for s in dataset
    ]
    _refuse_twins(parts)
    parts = _with_splits(parts, report)
    info = first.info.model_copy(
        update={
            "species": species,
            "energy_grid": grid,
            "dft": _dft(datasets, report),
            "source": "merged from " + ", ".join(f"{d.name} ({d.info.source})" for d in datasets),
            "descriptors": first.info.descriptors if len({d.info.descriptors for d in datasets}) == 1 else None,
            "checks": None if any(alignments) else _checks(datasets),
            "warnings": tuple(f"{d.name}: {warning}" for d in datasets for warning in d.info.warnings),
        }
    )
    return compose(parts, info, destination, progress)


def _species(datasets: Sequence[Dataset]) -> dict[str, float]:
    """Chemical symbol -> valence electrons of all.  Raises InputError: they differ."""
    merged: dict[str, float] = {}
    for dataset in datasets:
        for symbol, valence in dataset.info.species.items():
            if merged.setdefault(symbol, valence) != valence:
                raise InputError(
                    f"{dataset.location}: {symbol} has {valence:g} valence electrons here and {merged[symbol]:g} in "
                    "the others; one pseudopotential an element is needed"
                )
    return merged


def _grids(
    datasets: Sequence[Dataset], width: float | None, report: Report
) -> tuple[EnergyGrid, list[Alignment | None]]:
    """The energy grid of the merged dataset, and how each comes to it.  Raises DatasetError: they cannot."""
    grids = [dataset.info.energy_grid for dataset in datasets]
    if width is None and all(grid.samples_as(grids[0]) for grid in grids):
        return grids[0], [None] * len(grids)
    new = reachable(grids, common_grid(grids, width))
    new = new.model_copy(update={"rule": new.better_rule})
    found = []
    for dataset, grid in zip(datasets, grids, strict=True):
        try:
            alignment = align(grid, new)
        except DatasetError as error:
            raise DatasetError(
                f"{dataset.location}: {error}; import it again on the grid of the others, or broaden all by --width"
            ) from error
        if alignment is not None:
            report(
                f"{dataset.location}: brought to {new.n_energy} energies from {new.minimum:g} to {new.energy[-1]:g} eV "
                f"and a {new.kernel} of {new.width:g} eV; states are off by at most {100 * alignment.error:.2g} % of "
                "their peak"
            )
        found.append(alignment)
    return new, found


def _with_splits(parts: list[Part], report: Report) -> list[Part]:
    """With splits chosen anew, if one of them has no snapshot: datasets of one or two snapshots have no others."""
    wanted = SPLITS[: len(parts)]
    missing = [split for split in wanted if all(part.new.split != split for part in parts)]
    if not missing or len(parts) == 1:
        return parts
    none = f"no snapshot was in the split {' or '.join(missing)}"
    report(f"{none}, so all are split anew at random; `dftune data split` does it otherwise")
    splits = new_splits([part.new for part in parts], "random")
    return [replace(part, new=replace(part.new, split=splits[part.new.id])) for part in parts]


def _refuse_twins(parts: Sequence[Part]) -> None:
    """Raise DatasetError if a structure is there twice at one temperature."""
    if (twins := first_twins(part.old for part in parts)) is not None:
        first, part = (parts[place] for place in twins)
        raise DatasetError(
            f"{part.dataset.location}: snapshot '{part.old.id}' has the atoms of '{first.old.id}' of "
            f"{first.dataset.location}, at the same temperature; leave one out with `dftune data select`"
        )


def _dft(datasets: Sequence[Dataset], report: Report) -> KohnSham | None:
    """What total free energies need, if all say the same.  Raises InputError: they are of different functionals."""
    said = [dataset.info.dft for dataset in datasets]
    first, *others = [dataset for dataset in datasets if dataset.info.dft is not None] or [datasets[0]]
    for other in others:
        a, b = (one.info.dft.functional for one in (first, other) if one.info.dft is not None)
        if a != b:
            raise InputError(
                f"{other.location}: computed with the functional {b}, but {first.location} with {a}; a surrogate "
                "learns one, so merge datasets of one functional"
            )
    if all(dft == said[0] for dft in said):
        return said[0]
    report("functional, cutoff or core charges differ or are not known of all, so there are no total free energies")
    return None


def _checks(datasets: Sequence[Dataset]) -> tuple[Checked, ...] | None:
    """What the imports compared, together; None where one of them does not say it."""
    said = [dataset.info.checks for dataset in datasets]
    if any(checks is None for checks in said):
        return None
    together = []
    for name in dict.fromkeys(check.name for checks in said for check in checks or ()):
        same = [check for checks in said for check in checks or () if check.name == name]
        worst = max((check.worst for check in same if check.worst is not None), key=abs, default=None)
        together.append(Checked(name=name, n=sum(c.n for c in same), n_snapshots=sum(map(len, datasets)), worst=worst))
    return tuple(together)
