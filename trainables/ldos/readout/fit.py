"""A surrogate in closed form: features of networks, sums and rows of the training's snapshots, and the last layer."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...kind import TrainingFailed
from ...progress import Steps
from ..config import SurrogateConfig
from ..epoch_report import EpochReport
from ..network import Network
from ..places import Timed
from ..training import Trained, memory_mb
from ..training_data import SnapshotData, TrainingData
from .evaluate import Evaluation, evaluate
from .features import random_network, readout_of, set_readout
from .gram import Gram, gram
from .penalty import WORDS, Errors, Judged, choose, judges, listed
from .posterior import WIDEST, Posterior
from .rows import LINEAR, RowKind, Rows
from .solve import Solver
from .weighted import ions_of, refuse_too_many_rows, rows_of, weights_of

Float64 = NDArray[np.float64]
SOLVERS = 2**28  # bytes of factors that are held at once: of 31 penalties with 1,024 features and few rows
CHORDS = 2  # times that rows are moved by the actual errors; more change nothing
TRIED = 1  # the same for a penalty that is judged; the second time moves errors by a tenth, and costs as much


def fit(
    config: SurrogateConfig,
    data: TrainingData,
    *,
    seeds: Sequence[int],
    device: str = "cpu",
    trained: Trained | None = None,
    posterior: bool = False,
    begun: Trained | None = None,
) -> Trained:
    """Networks whose last layer is solved, one a seed.

    Args:
        config: network, penalty and weights of the rows.
        data: with its scaling, and with ``dft`` and ``species`` for rows of the free energy.
        seeds: of the random hidden layers.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        trained: take its hidden layers and seeds in place of random ones.
        posterior: also how well the last layer is known.
        begun: what this function gave for the first seeds, of the same config and data; the others have its penalty.

    Raises:
        InputError: fewer grid points than features, more rows than memory holds, singular equations, or numbers that
            are not finite.
        DatasetError: energies of a snapshot that are not those of its LDOS.
    """
    started, places = time.perf_counter(), Timed(data.places)
    data, scaling = replace(data, places=places), data.scaling
    if trained is None:
        network = random_network(config, len(scaling.descriptor_mean), len(scaling.ldos_mean), list(seeds)).to(device)
    else:
        network, seeds = trained.network.to(device), trained.seeds
    n_points = sum(d.snapshot.n_points for d in data.train)
    if n_points < network.sizes[-2] + 1:
        raise InputError(
            f"the readout has {network.sizes[-2] + 1:,} features and the training {n_points:,} grid points, fewer; "
            "lower width or take more snapshots"
        )
    refuse_too_many_rows(config, data)
    there = 0 if begun is None else len(begun.seeds)
    others, judging = network.only(slice(there, None)), config.penalty is None and begun is None
    steps = Steps(2 + (2 - TRIED if judging else 0) + CHORDS * others.n_initializations + 1)
    steps("sums over grid points")
    sums = data.places.total(partial(_gram, data=data.about), others, data.train)
    steps("rows of energies and forces")
    rows = data.places.each(partial(rows_of, data=data.about, config=config), others, data.train)
    together = Rows.join(rows)

    penalty, chosen, tried = config.penalty if begun is None else begun.penalty, "as given", None
    if penalty is None:
        first = sums.only(0), [some.only(0) for some in rows], others.only(0)
        penalty, chosen, tried = _chosen(*first, data, config, steps)
    solutions = [] if begun is None else [readout_of(begun.network)]
    for t in range(others.n_initializations):
        own = [some.only(t) for some in rows]
        solver, chords = Solver(sums.only(t), Rows.join(own), penalty), CHORDS
        if t == 0 and tried is not None:  # as far as it was tried
            solution, chords = tried, CHORDS - TRIED
        else:
            solution = solver.solve(weights_of(config))
        solutions.append(_moved_until_right(solution, [solver], own, others.only(t), data, config, chords, steps))
    solution = np.concatenate(solutions)
    if not np.isfinite(solution).all():
        raise TrainingFailed("the readout's weights are not finite")
    set_readout(network, solution)
    forces, spent, summing = config.force_weight > 0, time.perf_counter() - started, places.seconds
    train_loss = sums.loss(solution[there:, :, : network.sizes[-1]])
    if begun is not None:
        train_loss = np.append(np.full(there, begun.last.train_loss), train_loss)
    steps("errors of validation snapshots")
    loss, last = _judged(network, data, train_loss, spent, forces=forces)
    last = replace(last, readout_sums=summing, readout_solve=spent - summing)
    if trained is not None:
        before = trained.last
        points, seconds = before.grid_points + last.grid_points, before.seconds + last.seconds
        last = replace(last, epoch=before.epoch, grid_points=points, seconds=seconds)
    epochs = (1,) * len(seeds) if trained is None else trained.best_epoch
    fitted = f"{_described(together, data, config)}; penalty {penalty:.4g}, {chosen}"
    known = None
    if begun is not None:
        fitted, known = begun.fitted or fitted, begun.posterior
        last = replace(last, seconds=begun.last.seconds + last.seconds)
    elif posterior:
        known = Posterior.of_fit(sums, together, penalty, weights_of(config), network.sizes[-1])
        if known is None:
            fitted += f"; how well it is known is not kept above {WIDEST:,} neurons, so errors go by the spread alone"
    found = tuple(seeds), tuple(loss.tolist()), epochs, last
    return Trained(network, scaling, *found, fitted=fitted, posterior=known, penalty=penalty)


def _chosen(
    sums: Gram,
    rows: Sequence[Rows],
    network: Network,
    data: TrainingData,
    config: SurrogateConfig,
    say: Callable[[str], None],
) -> tuple[float, str, Float64 | None]:
    """The penalty that validation snapshots choose for one network, how, in a few words, and its W as it was tried.

    All initialisations have the same: their errors have one cause, data and cutoff.
    """
    some, size = judges(data.train, data.validation)
    together = Rows.join(rows)
    at_once = max(1, SOLVERS // (sums.phi_phi.nbytes + 8 * len(together.kinds) ** 2))
    tried = dict[float, Float64]()

    def errors_at(penalties: Sequence[float]) -> list[Errors]:
        say("penalties " + ", ".join(f"{penalty:.3g}" for penalty in penalties))
        found: list[Errors] = []
        for start in range(0, len(penalties), at_once):
            found += errors_of_some(penalties[start : start + at_once])
        return found

    def errors_of_some(penalties: Sequence[float]) -> list[Errors]:
        solvers = [_solver(sums, together, penalty) for penalty in penalties]
        able = [solver for solver in solvers if isinstance(solver, Solver)]
        if not able:
            return [solver for solver in solvers if isinstance(solver, InputError)]
        linear = np.concatenate([solver.solve(weights_of(config)) for solver in able])
        readouts = _moved_until_right(linear, able, rows, network, data, config, TRIED)
        tried.update((solver.penalty, readout[None]) for solver, readout in zip(able, readouts, strict=True))
        judged = iter(_errors(network, readouts, data, some, set(together.kinds)))
        return [solver if isinstance(solver, InputError) else next(judged) for solver in solvers]

    found = choose(errors_at, size, stresses="stress" in together.kinds)
    cells = "of larger cells than the training's" if size == "larger" else "of cells no larger than the training's"
    how = f"chosen by {listed([WORDS[kind] for kind in found.by])} of {len(some)} validation snapshots {cells}"
    return found.penalty, how, tried.get(found.penalty)


def _solver(sums: Gram, rows: Rows, penalty: float) -> Solver | InputError:
    try:
        return Solver(sums, rows, penalty)
    except InputError as error:
        return error


def _errors(
    network: Network, readouts: Float64, data: TrainingData, snapshots: Sequence[SnapshotData], kinds: set[RowKind]
) -> list[dict[Judged, float]]:
    """Mean |error| of the LDOS (squared) and of those kinds of rows that snapshots have, of each of some last layers.

    The mean over snapshots is geometric where errors have no sign: one far from all others would else decide alone.
    A last layer that is not finite has none.
    """
    finite = np.asarray(np.isfinite(readouts).all(axis=(1, 2)))
    if not finite.any():
        return [{} for _ in readouts]
    one = partial(evaluated, data=data.about, forces=_derived(kinds), readouts=readouts[finite])
    found, at = data.places.each(one, network, snapshots), np.cumsum(finite) - 1
    return [_means(found, snapshots, at[t], kinds) if finite[t] else {} for t in range(len(readouts))]


def _means(
    found: Sequence[Evaluation], snapshots: Sequence[SnapshotData], t: int, kinds: set[RowKind]
) -> dict[Judged, float]:
    both = [(e, d.snapshot) for e, d in zip(found, snapshots, strict=True)]
    off: dict[Judged, list[float]] = {
        "stress": [float(np.log(np.abs(e.stress[t]).mean())) for e in found if e.stress is not None],
        "forces": [float(np.log(np.abs(e.forces[t]).mean())) for e in found if e.forces is not None],
        "free_energy": [float(np.abs(e.free_energy[t])) for e, s in both if s.total_energy is not None],
        "band_energy": [float(np.abs(e.band_energy[t])) for e, s in both if s.band_energy is not None],
        "ldos": [float(np.log(e.ldos.squares[t])) for e in found if e.ldos is not None],
    }
    means = {kind: float(np.mean(some)) for kind, some in off.items() if some and (kind in kinds or kind == "ldos")}
    return {kind: float(np.exp(mean)) if kind in ("stress", "forces", "ldos") else mean for kind, mean in means.items()}


def _described(rows: Rows, data: TrainingData, config: SurrogateConfig) -> str:
    """What the last layer was fitted to, and what to expect of other cells, in a few words."""
    weights, words = weights_of(config), [word for kind, word in WORDS.items() if kind in rows.kinds]
    first = ["LDOS", *words] if any(weights[k] > 0 for k in rows.kinds) else ["LDOS"]
    text = f"fitted to {listed(first)} of {len(data.train)} snapshots"
    cutoff = None if data.descriptors is None else data.descriptors.cutoff
    heights = [s.volume / np.linalg.norm(_faces(s.cell), axis=1).max() for s in (d.snapshot for d in data.train)]
    if cutoff is not None and max(heights) < 2 * cutoff:
        text += f", all of cells shorter than twice the cutoff of {cutoff:g} Å: larger cells are less accurate"
    return text


def _faces(cell: Float64) -> Float64:
    """Areas of the cell's faces as vectors, (3, 3) [Å²]."""
    return np.cross(cell[[1, 2, 0]], cell[[2, 0, 1]])


def with_free_energy(trained: Trained, data: TrainingData) -> Trained:
    """Trained networks whose last report has the error of the free energy, too."""
    if data.dft is None:
        return trained
    found = data.places.each(partial(evaluated, data=data.about, ldos=False), trained.network, data.validation)
    return replace(trained, last=replace(trained.last, best_free_energy_mae=_free_energy_mae(found)))


def component_errors(found: Sequence[Evaluation]) -> dict[str, float]:
    """Mean |error| of a component of forces [eV/Å] and stress [eV/Å³], by names in ``Accuracy.splits``.

    Those that are not known or not defined for all snapshots are left out.
    """
    errors = {
        "forces_mae": _component_mae([e.forces for e in found]),
        "stress_mae": _component_mae([e.stress for e in found]),
    }
    return {name: value for name, value in errors.items() if np.isfinite(value)}


def evaluated(
    network: Network,
    snapshot: SnapshotData,
    *,
    data: TrainingData,
    forces: bool = False,
    ldos: bool = True,
    readouts: Float64 | None = None,
    posterior: Posterior | None = None,
) -> Evaluation:
    """As ``evaluate``, with what the data say of their DFT."""
    about, settings = (network, data.scaling, snapshot, ions_of(data, snapshot)), data.descriptors
    return evaluate(*about, settings=settings, forces=forces, ldos=ldos, readouts=readouts, posterior=posterior)


def _gram(network: Network, snapshot: SnapshotData, *, data: TrainingData) -> Gram:
    return gram(network, data.scaling, snapshot)


def _derived(kinds: Collection[RowKind]) -> bool:
    """Whether there are rows of a derivative of A, which ``evaluated`` makes only when it is asked to."""
    return not {"forces", "stress"}.isdisjoint(kinds)


def _moved_until_right(
    solution: Float64,
    solvers: Sequence[Solver],
    rows: Sequence[Rows],
    network: Network,
    data: TrainingData,
    config: SurrogateConfig,
    chords: int,
    say: Callable[[str], None] = lambda what: None,
) -> Float64:
    """Last layers (n_solvers, p, n_energy), right to first order in the LDOS' error, moved until they are right.

    Each time the targets move by what the rows' actual errors are off from the linear ones, and the same factors serve.

    Args:
        solution: what each solver gave.
        solvers: of one initialisation, at one or more penalties.
        rows: of each training snapshot.
        network: whose hidden layers count, one initialisation.
        data, config: as in ``fit``.
        chords: how many times.
        say: called before each.
    """
    kinds = solvers[0].rows.kinds
    for k in range(0 if LINEAR.issuperset(kinds) else chords):
        say(f"actual errors of training snapshots, {k + 1} of {chords}")
        one = partial(evaluated, data=data.about, forces=_derived(kinds), ldos=False, readouts=solution)
        found = data.places.each(one, network, data.train)
        moved = [_moved(some, solution, own) for some, own in zip(rows, found, strict=True)]
        shift = np.concatenate(moved, axis=1)
        # A DOS that cannot hold the electrons has no energies: what was found before stays.
        solution = solution.copy()
        for i in map(int, np.flatnonzero(np.isfinite(shift).all(axis=1))):
            solution[i] = solvers[i].solve(weights_of(config), shift[i : i + 1])[0]
    return solution


def _moved(rows: Rows, solution: Float64, found: Evaluation) -> Float64:
    """The linear errors of a snapshot's rows minus the actual ones of the networks as they are, (T, n_rows)."""
    linear = rows.of(solution) - rows.target
    actual = linear.copy()
    for k, kind in enumerate(rows.kinds):  # the number of electrons at a fixed Fermi level is linear
        if kind in ("free_energy", "band_energy"):
            actual[:, k] = found.free_energy if kind == "free_energy" else found.band_energy
    forces, stress = ([k for k, kind in enumerate(rows.kinds) if kind == name] for name in ("forces", "stress"))
    if forces and found.forces is not None:
        actual[:, forces] = -found.forces.reshape(len(actual), -1)
    if stress and found.stress is not None:
        actual[:, stress] = found.stress
    return linear - actual


def _judged(
    network: Network, data: TrainingData, train_loss: Float64, seconds: float, *, forces: bool
) -> tuple[Float64, EpochReport]:
    """Validation loss of each initialisation, and the report."""
    scaling = data.scaling
    found = data.places.each(partial(evaluated, data=data.about, forces=forces), network, data.validation)
    n_values = sum(d.snapshot.n_points for d in data.validation) * len(scaling.ldos_mean)
    errors = [e.error(d) for e, d in zip(found, data.validation, strict=True)]
    loss = sum(e.squared_error for e in errors) / (n_values * scaling.ldos_scale**2)
    band = 1e3 * float(np.mean([np.abs(e.band_energy) for e in found]))
    n_points = sum(d.snapshot.n_points for d in data.train)
    return np.asarray(loss), EpochReport(
        epoch=1,
        train_loss=float(train_loss.mean()),
        validation_loss=float(np.mean(loss)),
        band_energy_mae=band,
        dos_rmse=float(np.mean([e.dos_rmse for e in errors])),
        best_loss=float(np.mean(loss)),
        best_band_energy_mae=band,
        grid_points=n_points,
        seconds=seconds,
        points_per_second=n_points / seconds,
        memory_mb=memory_mb(network.weights[0].device.type),
        share_in_memory=1.0,
        best_free_energy_mae=_free_energy_mae(found),
        best_forces_mae=_component_mae([e.forces for e in found]),
    )


def _free_energy_mae(found: Sequence[Evaluation]) -> float:
    """Mean |error| of A over snapshots and initialisations [meV/atom]."""
    return 1e3 * float(np.mean([np.abs(e.free_energy) for e in found]))


def _component_mae(errors: Sequence[Float64 | None]) -> float:
    """Mean |error| of a component over snapshots and initialisations, in the errors' unit."""
    return float(np.mean([np.nan if e is None else np.abs(e).mean() for e in errors]))
