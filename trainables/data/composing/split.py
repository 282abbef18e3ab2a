"""Which snapshots are for training, validation and testing, chosen anew."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from ...errors import InputError, did_you_mean
from ...progress import Progress
from ..dataset import Dataset
from ..snapshot import Snapshot, Split
from ..structure_distance import atoms_of, distance, radial_distribution
from .parts import Part, compose

By = Literal["random", "group", "temperature", "structure"]
WAYS: tuple[By, ...] = get_args(By)


def new_splits(
    snapshots: Sequence[Snapshot], by: By, *, validation: float = 0.25, test: float = 0.25, seed: int = 0
) -> dict[str, Split]:
    """The split of each snapshot by its id.

    Args:
        snapshots: three or more; of two, one is for validation and none for testing.
        by: ``random``: of each group the same shares; ``group``: whole groups; ``temperature``: the hottest are for
            testing, the next for validation; ``structure``: those least like the others are for testing, by
            ``structure_distance``.  All but the first ask how a surrogate does on what it never saw.
        validation, test: shares of the snapshots, at least one snapshot each.
        seed: of the order, for ``random`` and ``group``.

    Raises:
        InputError: there are too few snapshots, groups or temperatures, or the shares leave nothing for training.
    """
    if by not in WAYS:
        raise InputError(f"there is no way '{by}' to split; {did_you_mean(by, WAYS)}")
    n = len(snapshots)
    if not (0 < validation < 1 and 0 < test < 1 and validation + test < 1):
        raise InputError(f"shares of {validation:g} and {test:g} leave nothing for training; give less than 1 in all")
    if n < 2:
        raise InputError("one snapshot cannot be split into training and validation; two are needed, better three")
    n_test, n_validation = (0, 1) if n == 2 else (max(1, round(test * n)), max(1, round(validation * n)))
    if n_test + n_validation >= n:
        raise InputError(
            f"shares of {validation:g} and {test:g} leave none of {n} snapshots for training; give smaller ones"
        )
    if by == "group":
        return _by_group(snapshots, n_validation, n_test, np.random.default_rng(seed))
    if by == "random":
        ordered = _mixed(snapshots, np.random.default_rng(seed))
    elif by == "temperature":
        if len({round(s.temperature, 3) for s in snapshots}) < 2:
            raise InputError("all snapshots have one temperature; split by group, structure or random")
        ordered = sorted(snapshots, key=lambda s: s.temperature)
    else:
        vectors = [radial_distribution(atoms_of(s)) for s in snapshots]
        middle = np.mean(vectors, axis=0)
        off = [distance(vector, middle) for vector in vectors]
        ordered = [snapshots[i] for i in np.argsort(off, kind="stable")]
    split: dict[str, Split] = {}
    for i, s in enumerate(ordered):
        split[s.id] = "train" if i < n - n_test - n_validation else "validation" if i < n - n_test else "test"
    return split


def split_dataset(
    dataset: Dataset,
    destination: Path,
    by: By,
    *,
    validation: float = 0.25,
    test: float = 0.25,
    seed: int = 0,
    progress: Progress | None = None,
) -> Dataset:
    """The same snapshots in a new folder, with splits as ``new_splits`` gives them; arguments and errors as it."""
    splits = new_splits(dataset.snapshots, by, validation=validation, test=test, seed=seed)
    parts = [Part(dataset, s, replace(s, split=splits[s.id])) for s in dataset]
    return compose(parts, dataset.info, destination, progress)


def _mixed(snapshots: Sequence[Snapshot], rng: np.random.Generator) -> list[Snapshot]:
    """In an order of which any part has of each group about its share."""
    groups: dict[str, list[Snapshot]] = {}
    for s in snapshots:
        groups.setdefault(s.group, []).append(s)
    places = []
    for members in groups.values():
        shuffled = [members[i] for i in rng.permutation(len(members))]
        places += [((i + rng.random()) / len(shuffled), s) for i, s in enumerate(shuffled)]
    return [s for _, s in sorted(places, key=lambda pair: pair[0])]


def _by_group(
    snapshots: Sequence[Snapshot], n_validation: int, n_test: int, rng: np.random.Generator
) -> dict[str, Split]:
    sizes: dict[str, int] = {}
    for s in snapshots:
        sizes[s.group] = sizes.get(s.group, 0) + 1
    if len(sizes) < 3:
        raise InputError(f"{len(sizes)} groups ({', '.join(sizes)}) cannot be split into three; split by another way")
    names = [list(sizes)[i] for i in rng.permutation(len(sizes))]
    chosen: dict[str, Split] = {names[0]: "test", names[1]: "validation", names[2]: "train"}
    counts = {"test": sizes[names[0]], "validation": sizes[names[1]]}
    for name in names[3:]:
        wanted: tuple[tuple[Split, int], ...] = (("test", n_test), ("validation", n_validation))
        chosen[name] = next((split for split, n in wanted if counts[split] + sizes[name] <= n), "train")
        if chosen[name] != "train":
            counts[chosen[name]] += sizes[name]
    return {s.id: chosen[s.group] for s in snapshots}
