"""A screen of descriptor settings: it scores cutoffs and 2J_max without training, and recommends one of each."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...cluster.connection import connected
from ...trainables.data.dataset import Dataset
from ...trainables.descriptors.settings import BispectrumSettings
from ...trainables.descriptors.species import check_species
from ...trainables.errors import InputError, one_line
from ...trainables.files import read_text, write_text
from ...trainables.ldos.acsd import Variant
from ...trainables.ldos.config import SurrogateConfig
from ...trainables.ldos.descriptor_screen import Sample, sample
from ..ledger.lease import held
from ..ledger.score_quality import ScoreQuality, score_quality
from ..progress import Progress, Silent
from .figures import score_against_cutoff, score_against_trained
from .result import Score, Screen, ScreenRow, recommend

# What --train trains: small, the same for every setting.  T initialisations at once.
NETWORK = SurrogateConfig(n_layers=2, width=128, activation="gelu", learning_rate=1e-3, epochs=25)
INITIALIZATIONS = (0, 1, 2)
Place = tuple[int, float]  # 2J_max, cutoff [Å]


class ScreenError(InputError):
    """A screen cannot be started or go on as asked."""


class _Conditions(BaseModel):
    """The conditions that all rows of one screen share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str = Field(description="fingerprint")
    seed: int
    points: int
    snapshots: tuple[str, ...]
    network: SurrogateConfig
    initializations: tuple[int, ...]
    weights: dict[str, float] = {}  # this and the next two as in BispectrumSettings
    radii: dict[str, float] = {}
    chem: tuple[str, ...] = ()


class _File(BaseModel):
    """Contents of screen.json."""

    model_config = ConfigDict(extra="forbid")

    format_version: Literal[1] = 1
    conditions: _Conditions
    rows: list[ScreenRow] = []


def screen(
    dataset: Dataset,
    *,
    cutoffs: Sequence[float] = (3.0, 3.5, 4.0, 4.5, 5.0, 5.5),
    two_j_max: Sequence[int] = (4, 6, 8, 10),
    score: Score = "kernel-ridge",
    variant: Variant = "paper",
    snapshots: int = 4,
    points: int = 1000,
    seed: int = 0,
    train: bool = False,
    weights: Mapping[str, float] = MappingProxyType({}),
    radii: Mapping[str, float] = MappingProxyType({}),
    chem: Sequence[str] = (),
    output: str | Path | None = None,
    address: str | None = None,
    progress: Progress | None = None,
) -> Screen:
    """Score every (cutoff, two_j_max) in parallel on sampled grid points of a few snapshots.

    Args:
        dataset: with LDOS; nothing is written into it unless ``train``.
        cutoffs: R_cut [Å].
        two_j_max: 2 J_max.
        score, variant: decide the recommendation; all scores are computed.
        snapshots: most training snapshots, whose points are fitted, and most validation snapshots, whose points are
            predicted; of as many groups as possible.  Test snapshots are never used.
        points: number of points to fit; four fifths as many are predicted.
        seed: of the choice of snapshots and points.
        train: also train one small network with each setting on the whole training split; the descriptors of training
            and validation snapshots then stay in the dataset.
        weights, radii, chem: of species, as in ``BispectrumSettings``, the same for all settings.
        output: folder of screen.json and the figures, ``screens/DATASETNAME`` by default.  Results in it are not
            computed again, so a screen that was stopped goes on.
        address: of a Ray cluster; an embedded local Ray by default.

    Raises:
        InputError: a setting is out of range; the dataset has no LDOS, training or validation snapshots; or the output
            folder has a screen under other conditions.
    """
    progress = progress or Silent()
    grid = _grid(cutoffs, two_j_max, weights=weights, radii=radii, chem=chem)
    check_species(dataset.info.species, grid[0])
    _check(score, variant, snapshots, points)
    folder = Path(output if output is not None else Path("screens") / dataset.name).expanduser().resolve()

    sampled = sample(dataset, snapshots=snapshots, points=points, seed=seed)
    chosen = [p.snapshot.id for p in (*sampled.train, *sampled.validation)]
    conditions = _Conditions(
        dataset=dataset.fingerprint,
        seed=seed,
        points=points,
        snapshots=tuple(chosen),
        network=NETWORK,
        initializations=INITIALIZATIONS,
        weights=grid[0].weights,
        radii=grid[0].radii,
        chem=grid[0].chem,
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ScreenError(f"{folder}: cannot be made ({error.strerror}); choose another --output") from error
    with held(folder, progress.say) as lease:
        done = _read(folder / "screen.json", conditions)
        missing = [s for s in grid if _order(s) not in done]
        untrained = [s for s in grid if train and (s in missing or done[_order(s)].trained_error is None)]

        def keep(row: ScreenRow) -> None:
            lease.check()
            done[_order(row)] = row
            content = _File(conditions=conditions, rows=sorted(done.values(), key=_order))
            write_text(folder / "screen.json", content.model_dump_json(indent=1))

        if missing or untrained:
            with connected(address, say=progress.say):
                if missing:
                    _score(missing, sampled, keep, progress)
                if untrained:
                    _train(dataset, untrained, done, keep, progress)
        rows = sorted((done[_order(s)] for s in grid), key=_order)
        found = Screen(rows, recommend(rows, score, variant), score, variant, chosen, _qualities(rows), folder)
        score_against_cutoff(found, folder / "screen.png")
        if any(q.tau is not None for q in found.qualities):
            score_against_trained(found, folder / "trained.png")
    return found


def _score(
    settings: Sequence[BispectrumSettings], sampled: Sample, keep: Callable[[ScreenRow], None], progress: Progress
) -> None:
    from ...cluster.descriptors.screening import score_settings

    progress.update("screen", 0, len(settings))
    for n, (setting, scores) in enumerate(score_settings(settings, sampled), start=1):
        keep(ScreenRow(**asdict(scores), n_components=setting.n_components))
        progress.update("screen", n, len(settings), f"{setting}: kernel ridge {scores.kernel_ridge:.3g}")
    progress.end("screen")


def _train(
    dataset: Dataset,
    settings: Sequence[BispectrumSettings],
    rows: dict[Place, ScreenRow],
    keep: Callable[[ScreenRow], None],
    progress: Progress,
) -> None:
    from ...cluster.descriptors.descriptors import compute_descriptors
    from ...cluster.descriptors.screening import train_settings

    used = dataset.only([s for s in dataset.snapshots if s.split != "test"])
    total = len(settings) * len(used.snapshots)
    for n, setting in enumerate(settings):
        before = n * len(used.snapshots)
        if used.without_descriptors(setting):
            compute_descriptors(
                used,
                setting,
                progress=lambda stage, done, _, text, before=before: progress.update(  # type: ignore[misc]
                    stage, before + done, total, text
                ),
            ).close()
        progress.update("descriptors", before + len(used.snapshots), total, str(setting))
    progress.end("descriptors")
    progress.update("training", 0, len(settings))
    for n, (setting, losses) in enumerate(train_settings(used, settings, NETWORK, INITIALIZATIONS), start=1):
        if isinstance(losses, str):
            progress.say(f"{setting}: {losses}; no trained error")
        else:
            update = {"trained_error": float(np.mean(losses)), "trained_std": float(np.std(losses))}
            keep(rows[_order(setting)].model_copy(update=update))
            progress.update("training", n, len(settings), f"{setting}: loss {np.mean(losses):.4g}")
    progress.end("training")


def _qualities(rows: Sequence[ScreenRow]) -> list[ScoreQuality]:
    """τ of minus the log of each number with the trained error."""
    trained = [(row, row.trained_error) for row in rows if row.trained_error is not None]
    if len(trained) < 2:
        return []
    values = [value for _, value in trained]
    kinds: dict[str, Callable[[ScreenRow], float]] = {
        "kernel-ridge": lambda row: row.kernel_ridge,
        "acsd": lambda row: row.acsd,
        "acsd clipped": lambda row: row.acsd_clipped,
        "n_components": lambda row: 1 / row.n_components,  # the trivial score: more is better
    }
    return [score_quality(name, [-math.log(kind(row)) for row, _ in trained], values) for name, kind in kinds.items()]


def _grid(cutoffs: Sequence[float], two_j_max: Sequence[int], **of_species: Any) -> list[BispectrumSettings]:
    """Every combination, once.  Errors name the value."""
    if not cutoffs or not two_j_max:
        raise ScreenError(f"no {'two_j_max' if cutoffs else 'cutoff'} to screen; give one or more")
    grid = []
    for j in sorted(set(two_j_max)):
        for cutoff in sorted(set(cutoffs)):
            try:
                grid.append(BispectrumSettings(cutoff=cutoff, two_j_max=j, **of_species))
            except ValidationError as error:
                given = error.errors()[0]["input"]
                raise ScreenError(f"{one_line(error)}{f', got {given}' * isinstance(given, int | float)}") from error
    return grid


def _check(score: str, variant: str, snapshots: int, points: int) -> None:
    for name, value, known in (("score", score, get_args(Score)), ("variant", variant, get_args(Variant))):
        if value not in known:
            raise ScreenError(f"unknown {name} '{value}'; there are {', '.join(known)}")
    if snapshots < 1:
        raise ScreenError(f"snapshots: {snapshots} is too few; 1 or more of each split")
    if not 50 <= points <= 4000:
        raise ScreenError(f"points: {points} is outside 50 to 4000 grid points")


def _read(path: Path, conditions: _Conditions) -> dict[Place, ScreenRow]:
    """The rows of settings done before, under the same conditions."""
    if not path.exists():
        return {}
    try:
        content = _File.model_validate_json(read_text(path))
    except ValidationError as error:
        raise ScreenError(f"{path}: {one_line(error)}; remove it or choose another --output") from error
    for name in _Conditions.model_fields:
        old, new = getattr(content.conditions, name), getattr(conditions, name)
        if old != new:
            raise ScreenError(
                f"{path}: holds a screen with other {name} ({old!s:.60}, now {new!s:.60}); "
                "remove it or choose another --output"
            )
    return {_order(row): row for row in content.rows}


def _order(row: ScreenRow | BispectrumSettings) -> Place:
    return row.two_j_max, row.cutoff
