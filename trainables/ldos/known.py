"""How well the last layer of a surrogate is known for a structure at hand.  eV, Å."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..data.snapshot import Snapshot
from ..descriptors.settings import BispectrumSettings
from ..descriptors.slabs import Slab
from .network import Network
from .readout.electrons import Electrons, Ions
from .readout.posterior import Posterior
from .readout.slopes import Slopes, energy_slopes, feature_sums, force_slopes
from .training_data import Scaling, SnapshotData

Float64 = NDArray[np.float64]


def known(
    network: Network,
    scaling: Scaling,
    posterior: Posterior,
    slabs: Iterable[tuple[Slab, NDArray[np.float32]]],
    hidden: Callable[[Slab, NDArray[np.float32]], Iterable[Tensor]],
    electrons: Electrons,
    ions: Ions,
    *,
    settings: BispectrumSettings | None = None,
) -> dict[str, Float64]:
    """Standard deviations of what is predicted, by what the posterior leaves open, in one pass over the grid.

    Args:
        network: the first initialisation alone.
        scaling: of descriptors and LDOS.
        posterior: of its last layer.
        slabs: of the structure's grid, and the descriptors of their points (n_points, n_components).
        hidden: the last hidden layer of a slab in chunks, (T, n_points_in_chunk, width), of which the first counts.
        electrons: of the predicted LDOS, with its gradient where the free energy is known.
        ions: of the structure.
        settings: of the descriptors: also forces, where the free energy is known.

    Returns:
        ``free_energy`` and ``band_energy`` () [eV per cell], ``dos`` (n_energy,) [1/eV], and ``forces`` (n_atoms, 3)
        [eV/Å] where asked for.
    """
    s, gradient = ions.snapshot, electrons.gradient
    sums = np.zeros((2, network.sizes[-2] + 1))
    moved: Slopes | None = None
    for slab, descriptors in slabs:
        u = np.zeros(slab.grid) if gradient is None else gradient.potential[slab.index]
        sums += feature_sums((chunk[0] for chunk in hidden(slab, descriptors)), u.ravel())
        if settings is not None and gradient is not None:
            part = replace(s, positions=slab.shifted(s.cell, s.positions), grid=slab.grid)
            here = replace(electrons, gradient=replace(gradient, potential=u))
            data = SnapshotData(part, [descriptors], ())
            some = force_slopes(network, scaling, data, here, settings, n_points=s.n_points, keep=False)
            moved = some if moved is None else replace(some, left=moved.left + some.left)
    slopes = energy_slopes(sums, electrons, ions, scaling, relative=network.reference is not None)
    # all at once, as all are of the same sums
    rights = np.concatenate([some.right for some in slopes.values()])
    deviations = Slopes(next(iter(slopes.values())).left, rights).std(posterior)
    ends = np.cumsum([len(some.right) for some in slopes.values()])
    found = dict(zip(slopes, np.split(deviations, ends[:-1]), strict=True))
    for name in found.keys() & {"free_energy", "band_energy"}:
        found[name] = s.n_atoms * found[name][0]
    if moved is not None:
        found["forces"] = moved.std(posterior).reshape(-1, 3)
    return found


def structure(
    cell: Float64,
    positions: Float64,
    numbers: NDArray[np.integer],
    grid: tuple[int, int, int],
    *,
    temperature: float,
    n_electrons: float,
) -> Snapshot:
    """A structure on its grid, without any reference; units as in ``Snapshot``."""
    return Snapshot(
        id="structure",
        cell=cell,
        positions=positions,
        numbers=numbers.astype(np.int64),
        grid=grid,
        temperature=temperature,
        n_electrons=n_electrons,
    )
