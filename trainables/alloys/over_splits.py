"""What a comparison repeats over many splits: the rows of Tables 3 and 4, baselines, what was found; learning curves.

Source: Lupo Pasini et al. (2020), Tables 3 and 4.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import DatasetError
from .baselines import shell_model
from .config import AlloyConfig
from .data import AlloyData
from .repeated import Baseline, Repeat, Repeated, filled, papers_rows, repeat
from .splits import SplitSettings, split_rows
from .training_data import read_training_data

CLOSED, PAPER, FOUND, CURVE = "closed form", "paper", "found", "curve"  # groups of models


def planned(
    data: AlloyData,
    settings: SplitSettings,
    config: Mapping[str, Any],
    found: Mapping[str, AlloyConfig],
    baselines: Mapping[str, Baseline],
    n: int,
    orbits: Sequence[int] = (),
) -> "Planned":
    """Tasks: baselines, the rows of the paper, what was found, and the learning curves of some of them.

    Args:
        data: opened.
        settings: of the splits, but for the seed.
        config: hyperparameters that the study holds at one value; the paper's rows have its epochs, images and batches.
        found: configs that searches found, by the names that they shall have.
        baselines: by their names.
        n: number of splits.
        orbits: numbers of orbits to train on, for the learning curves.

    Raises:
        DatasetError: too few orbits for a split, or for a point of the learning curves.
    """
    training, _ = read_training_data(data, settings)
    everything = "".join(training.varying)
    held = {name: value for name, value in config.items() if name in ("epochs", "images", "batch_size")}
    clusters = AlloyConfig.of({"tasks": everything, "training": "none"})
    rows = papers_rows(AlloyConfig.of(held), training.varying)

    def task(name: str, group: str, limited: SplitSettings = settings, **what: Any) -> Repeat:
        return Repeat(name, group, data.location, limited, n, **what)

    tasks = [task(name, CLOSED, baseline=judge) for name, judge in baselines.items()]
    tasks += [task(str(clusters), CLOSED, config=clusters)]
    tasks += [task(f"{one.architecture} {one.tasks}", PAPER, config=one) for one in rows]
    tasks += [task(f"{name}: {one}", FOUND, config=one) for name, one in found.items()]
    whole = split_rows(data, settings.model_copy(update={"rows": None}))["train"]
    there = len({data.all.orbit[row] for row in whole})
    for number in orbits:
        if number > there:
            raise DatasetError(f"{data.location}: {there} orbits to train on; a curve cannot have a point at {number}")
        limited = settings.model_copy(update={"rows": number})
        split_rows(data, limited)
        tasks += [
            task("shell model", CURVE, limited, baseline=shell_model),
            task("linear in clusters", CURVE, limited, config=clusters),
            task("multi-task, paper", CURVE, limited, config=rows[-1]),
            *(task(name, CURVE, limited, config=one) for name, one in list(found.items())[:1]),
        ]
    return Planned(tasks, n)


@dataclass(frozen=True)
class Planned:
    """What is to be repeated over n splits."""

    tasks: Sequence[Repeat]
    n: int

    @property
    def work(self) -> Callable[[Repeat], dict[str, Any]]:
        """Does a task; its result is plain values, of which ``found`` takes one a task."""
        return _done

    def found(self, results: Sequence[Mapping[str, Any]]) -> "OverSplits":
        """What the tasks came to, in their order."""
        return OverSplits([Repeated(**result) for result in results], self.n)


def _done(task: Repeat) -> dict[str, Any]:
    """Do a task.  Raises InputError: as ``repeat``."""
    return asdict(repeat(task))


@dataclass(frozen=True)
class OverSplits:
    """What models came to on many splits; ``n`` of them."""

    found: Sequence[Repeated]
    n: int

    @property
    def tables(self) -> list[tuple[str, str, list[dict[str, str]]]]:
        """Heading, what it shows, and rows of each table."""
        rows = [one.row() for one in self.found if one.group != CURVE]
        paper = [one for one in self.found if one.group == PAPER]
        alike = {one.tasks: one for one in paper}
        # single-task ones come first
        several = [one.beside(alike.values(), self.n) for one in paper if len(one.tasks) > 1]
        chosen = [one for one in self.found if one.group == FOUND and one.tasks in alike]
        found = [one.beside([alike[one.tasks]], self.n) for one in chosen]
        tables = [
            (f"Over {self.n} splits", ROWS_TEXT, rows),
            ("What the search found, beside equal weights", BESIDE_TEXT, found),
            ("Several tasks beside one", SINGLE_TEXT, several),
        ]
        return [(heading, text, filled(rows)) for heading, text, rows in tables if rows]

    def draw(self, folder: Path) -> list[tuple[str, str, str]]:
        """Draw learning curves into a folder: name, heading and caption of each figure."""
        curve = [one for one in self.found if one.group == CURVE]
        if not curve:
            return []
        from .figures import learning_curves

        learning_curves(curve, folder / "curve.png")
        return [("curve", "Error against the number of configurations", CURVE_TEXT)]

    def to_dict(self) -> list[dict[str, Any]]:
        """Plain values: of each model all numbers on each split."""
        return [asdict(one) for one in self.found]


ROWS_TEXT = (
    "Each model on the same splits, by whole symmetry orbits, as Tables 3 and 4 of Lupo Pasini et al. (2020): mean and "
    "standard deviation over the splits on the test data of each. Networks of the paper have equal weights of all "
    "tasks. R² of the total energy, which the paper gives, is near 1 for a line in composition already. Configs that a "
    "search found were chosen by the validation data of one split, or of its folds, which other splits test on."
)
BESIDE_TEXT = (
    "Difference to the network of the paper that learns the same, with equal weights: mean and standard deviation over "
    "the splits, each with itself. Below zero is better."
)
SINGLE_TEXT = "The same for networks of several tasks, each error beside that of the network of this task alone."
CURVE_TEXT = (
    "Errors on test configurations against the number of orbits trained on; bars are the standard deviation over the "
    "splits."
)
