"""What is to become of the snapshots that an importer found: splits, one grid, one rule.  Energies in eV, lengths in Å.

Nothing is written here, and no array is read.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from ase.data import chemical_symbols

from ...errors import DatasetError, InputError, did_you_mean
from ...physics.ewald import ewald
from ...physics.quadrature import RULES, Rule
from ...tables import text_table
from ..check import Fail
from ..energy_grid import RESOLVED, EnergyGrid
from ..kohn_sham import KohnSham
from ..snapshot import TOO_FEW, Split
from ..snapshot_check import check_snapshot, first_repeated, first_twins
from .importer import Found, FoundSnapshot, Report

Checking = Literal["strict", "warn"]
REMEDY = "mend it, or import it as it is with --check warn"
SAME_CELL = 1e-3  # [Å]
SAME_EWALD = 1e-7  # [eV/atom]
MOST_MESHES = 1.5  # ratio of the densest to the sparsest mesh of k-points of a dataset, in points a volume
# Fields of a snapshot that may be missing -> what cannot be compared then.
REFERENCES = {
    "fermi_level": "Fermi level",
    "band_energy": "band energy",
    "entropy_term": "entropy term",
    "total_energy": "total energy",
    "hartree_energy": "Hartree energy",
    "xc_energy": "exchange-correlation energy",
    "ewald_energy": "Ewald energy",
    "forces": "forces",
}


@dataclass(frozen=True, eq=False)
class Plan:
    """What is to be written, and how.

    Attributes:
        found: the snapshots.
        splits: id -> split.
        species: chemical symbol -> valence electrons.
        grid: with its rule of integration.
        dft: what total free energies need; None where it is not known.
        fail: called with what does not agree with the DFT.
        warnings: what did not agree, where that is only warned of.
    """

    found: Found
    splits: Mapping[str, Split]
    species: Mapping[str, float]
    grid: EnergyGrid
    dft: KohnSham | None
    fail: Fail
    warnings: list[str]

    def lines(self) -> list[str]:
        """What was found and what is missing, for people."""
        grid = self.grid
        lines = [
            f"{self.found.source}: {len(self.found.snapshots)} snapshots",
            f"LDOS: {grid.n_energy} energies from {grid.minimum:g} to {grid.energy[-1]:g} eV, {grid.kernel} kernel of "
            f"{grid.width:g} eV",
        ]
        lines += [f"{one.snapshot.id}: {one.files}" for one in self.found.snapshots if one.files]
        lines += text_table([self._row(one) for one in self.found.snapshots], units={"temperature": "K"})
        total = "possible" if self.dft else "not possible, as said above"
        return [*lines, f"total free energies: {total}", "nothing was written; the numbers themselves were not read"]

    def _row(self, one: FoundSnapshot) -> dict[str, Any]:
        s = one.snapshot
        atoms = Counter(chemical_symbols[number] for number in s.numbers)
        missing = [words for name, words in REFERENCES.items() if getattr(s, name) is None]
        return {
            "id": s.id,
            "split": self.splits[s.id],
            "atoms": " ".join(f"{n} {symbol}" for symbol, n in atoms.items()),
            "grid": _times(s.grid),
            "k-points": _times(one.k_mesh),
            "temperature": round(s.temperature, 1),
            "group": s.group,
            "missing": ", ".join([*([] if one.density else ["density"]), *missing]) or "nothing",
        }


def prepare(
    found: Found,
    *,
    validation: Sequence[str] | None = None,
    test: Sequence[str] | None = None,
    rule: Rule | None = None,
    check: Checking = "strict",
    report: Report = lambda line: None,
) -> Plan:
    """Check what can be known before any array is read; arguments and errors as ``import_dataset``."""
    if check not in get_args(Checking):
        raise InputError(f"there is no check '{check}'; {did_you_mean(str(check), get_args(Checking))}")
    warnings = list[str]()
    fail: Fail = _refuse if check == "strict" else _warner(warnings, report)
    ids = _unique_ids(found.snapshots)
    _refuse_repeated(found.snapshots)
    splits = _splits(ids, validation, test, found.splits)
    for one in found.snapshots:
        check_snapshot(one.snapshot, one.species, where=one.where)
    grid, species = _shared_grid(found.snapshots), _shared_species(found.snapshots)
    _check_meshes(found.snapshots, fail)
    _check_images(found.snapshots, splits, species, fail)
    grid = with_rule(grid, rule, report)
    if (missing := _missing(splits)) is not None:
        report(missing)
    return Plan(found, splits, species, grid, found.dft(species), fail, warnings)


def _refuse(problem: str) -> None:
    raise DatasetError(f"{problem}; {REMEDY}")


def _warner(warnings: list[str], report: Report) -> Callable[[str], None]:
    def warn(problem: str) -> None:
        warnings.append(problem)
        report(f"warning: {problem}")

    return warn


def _check_meshes(snapshots: Sequence[FoundSnapshot], fail: Fail) -> None:
    """Fail if one cell has several grids, or the meshes of k-points are not equally dense: their errors differ."""
    first = snapshots[0]
    for one in snapshots:
        same = np.abs(one.snapshot.cell - first.snapshot.cell).max() < SAME_CELL
        if same and one.snapshot.grid != first.snapshot.grid:
            fail(
                f"{one.where}: a grid of {one.snapshot.grid} points, but {first.snapshot.grid} in the same cell in "
                f"{first.where}; compute all snapshots of a dataset with one cutoff and one grid"
            )
    meshes = [(float(np.prod(one.k_mesh)) * one.snapshot.volume, one) for one in snapshots if one.k_mesh is not None]
    if meshes:
        (most, dense), (least, sparse) = max(meshes, key=lambda m: m[0]), min(meshes, key=lambda m: m[0])
        if most > MOST_MESHES * least:
            fail(
                f"{sparse.where}: its k-points are {most / least:.1f} times sparser than those of {dense.where} "
                f"({_times(sparse.k_mesh)} and {_times(dense.k_mesh)}); compute all snapshots of a dataset with one "
                "density of k-points"
            )


def _check_images(
    snapshots: Sequence[FoundSnapshot], splits: Mapping[str, Split], species: Mapping[str, float], fail: Fail
) -> None:
    """Fail if a structure of one split is in another one too, moved, turned or otherwise ordered.

    Its Ewald energy tells, to 1e-7 eV/atom, which goes with atoms 1e-6 Å off.
    """
    seen: dict[tuple[object, ...], list[tuple[float, FoundSnapshot]]] = {}
    for one in snapshots:
        s = one.snapshot
        charges = np.array([species[chemical_symbols[n]] for n in s.numbers])
        try:
            energy = ewald(s.cell, s.positions, charges)[0] / s.n_atoms
        except ValueError as error:
            raise DatasetError(f"{one.where}: {error}; mend the structure") from error
        alike = seen.setdefault((tuple(sorted(s.numbers)), round(s.temperature, 3)), [])
        for known, first in alike:
            if abs(energy - known) < SAME_EWALD and splits[s.id] != splits[first.snapshot.id]:
                fail(
                    f"{one.where}: is {first.where} again, moved, turned, mirrored or with its atoms in another order, "
                    f"in the split {splits[s.id]} and not {splits[first.snapshot.id]}; leave one of them out"
                )
        alike.append((energy, one))


def _times(numbers: Sequence[int] | None) -> str:
    return "-" if numbers is None else "x".join(map(str, numbers))


def _shared_grid(snapshots: Sequence[FoundSnapshot]) -> EnergyGrid:
    """The energy grid of all snapshots.  Raises DatasetError if they differ."""
    first = max(snapshots, key=lambda one: one.energy_grid.n_energy)
    for one in snapshots:
        ours, theirs = one.energy_grid, first.energy_grid
        if ours != theirs:
            names = [name for name in EnergyGrid.model_fields if getattr(ours, name) != getattr(theirs, name)]
            here, there = (", ".join(f"{name} {getattr(grid, name)}" for name in names) for grid in (ours, theirs))
            raise DatasetError(
                f"{one.where}: its energy grid has {here}, that of {first.where} has {there}; "
                f"{_missing_of(ours, theirs)}a dataset has one grid: import them apart, and then `dftune data merge`"
            )
    return first.energy_grid


def _missing_of(ours: EnergyGrid, theirs: EnergyGrid) -> str:
    """The remedy, where a grid is another one without some energies at its ends; else nothing."""
    below, above = theirs.spacing * 0.01, theirs.energy[-1]
    missing = [e for e in theirs.energy if e < ours.minimum - below or e > ours.energy[-1] + below]
    cut = ours.model_copy(update={"minimum": theirs.minimum, "n_energy": theirs.n_energy}) == theirs
    if not cut or len(missing) + ours.n_energy != theirs.n_energy or above + below < ours.energy[-1]:
        return ""
    some = ", ".join(f"{e:g}" for e in missing[:4]) + (" eV and more" if len(missing) > 4 else " eV")
    return f"the LDOS at {some} is missing here, so compute or copy it; else, as "


def with_rule(grid: EnergyGrid, rule: Rule | None, report: Report) -> EnergyGrid:
    """The grid with the rule that was asked for, or the better one; says which it is, and how far off both may be."""
    if rule not in (None, *RULES):
        raise InputError(f"there is no rule '{rule}'; {did_you_mean(str(rule), RULES)}")
    chosen: Rule = rule or grid.better_rule
    off = {one: 1e3 * grid.rule_error(one).band_energy for one in RULES}
    why = "" if rule is None else ", as asked for"
    if rule is None and off[chosen] > min(off.values()):
        why = f", as least squares are not to be trusted beyond {1e3 * RESOLVED:g}"
    errors = ", ".join(f"{one} {error:.3g}" for one, error in off.items())
    report(f"rule of integration: {chosen}{why}; estimated error of a band energy [meV per electron]: {errors}")
    return grid.model_copy(update={"rule": chosen})


def _shared_species(snapshots: Sequence[FoundSnapshot]) -> dict[str, float]:
    """Chemical symbol -> valence electrons of all snapshots.  Raises InputError if they differ."""
    merged: dict[str, float] = {}
    for one in snapshots:
        for symbol, valence in one.species.items():
            if merged.setdefault(symbol, valence) != valence:
                raise InputError(
                    f"{one.where}: {symbol} has {valence:g} valence electrons here and {merged[symbol]:g} before; "
                    "import them apart"
                )
    return merged


def _unique_ids(snapshots: Sequence[FoundSnapshot]) -> list[str]:
    ids = [one.snapshot.id for one in snapshots]
    if not ids:
        raise DatasetError("nothing to import: the importer found no snapshot; give folders that hold some")
    if (twice := first_repeated(ids)) is not None:
        first, second, *_ = (one.where for one in snapshots if one.snapshot.id == twice)
        raise DatasetError(
            f"{second}: snapshot '{twice}' is given twice, before in {first}, and ids are unique; leave one out, or "
            "import the folders one by one and join the datasets with `dftune data merge`"
        )
    return ids


def _refuse_repeated(snapshots: Sequence[FoundSnapshot]) -> None:
    """Raise DatasetError if a structure is there twice at one temperature."""
    if (twins := first_twins(one.snapshot for one in snapshots)) is not None:
        first, one = (snapshots[place] for place in twins)
        raise DatasetError(
            f"{one.where}: has the same atoms as {first.where}, at the same temperature; leave one of them out"
        )


def _missing(splits: Mapping[str, Split]) -> str | None:
    """What comes of splits without a snapshot; None: there are none."""
    choose = "choose with --validation and --test, or by `dftune data split`"
    if missing := [split for split in ("train", "validation") if split not in splits.values()]:
        remedy = TOO_FEW if len(splits) < 2 else choose
        return f"no snapshot is in the split {' or '.join(missing)}, and a surrogate needs one in each; {remedy}"
    if "test" in splits.values():
        return None
    remedy = "import three or more" if len(splits) < 3 else choose
    return (
        "no snapshot is in the split test: surrogates will be judged on those of validation, which choose them, too, "
        f"so that errors look smaller than they are; to keep some for testing, {remedy}"
    )


def _splits(
    ids: list[str], validation: Sequence[str] | None, test: Sequence[str] | None, said: Mapping[str, Split] | None
) -> dict[str, Split]:
    if validation is None and test is None and said is not None:
        return dict(said)
    if validation is None and test is None and len(ids) >= 3:
        quarter = max(1, len(ids) // 4)
        validation, test = ids[-2 * quarter : -quarter], ids[-quarter:]
    elif validation is None and test is None and len(ids) == 2:
        validation = ids[1:]
    validation, test = list(validation or []), list(test or [])
    if unknown := [i for i in validation + test if i not in ids]:
        raise DatasetError(f"no snapshot '{unknown[0]}' to put into a split; there are {', '.join(ids)}")
    if both := sorted(set(validation) & set(test)):
        raise DatasetError(f"snapshot '{both[0]}' cannot be in validation and in test; name it once")
    return {i: "validation" if i in validation else "test" if i in test else "train" for i in ids}
