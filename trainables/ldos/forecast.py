"""What a prediction will take, before it starts: a sample of its own grid points is timed.  Seconds, bytes."""

import math
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..data.kohn_sham import KohnSham
from ..descriptors.bispectrum import bispectrum, bispectrum_forces
from ..errors import TooLarge
from ..memory import free_memory
from ..surrogate import Forecast
from .inference import LastLayer, last_hidden, pull_back
from .known import structure
from .network import Network
from .passes import IN_MEMORY, KEPT
from .readout.slopes import feature_sums
from .readout.tangents import tangents
from .training_data import SnapshotData

if TYPE_CHECKING:
    from .job import LdosJob

SAMPLE, SHARE = 1024, 1 / 64  # at most so many grid points, and so many of all
BUFFERS = 200e6  # bytes of slabs that are worked on
# A grid point of the density: bytes at the peak of E_H, E_xc and their derivatives, measured, and microseconds of
# energies, their derivatives, and the strain.
DENSITY = {"lda-pz": (110, 0.12, 0.42, 1.4), "pbe": (150, 0.34, 1.35, 3.64)}


def forecast(job: "LdosJob", cpus: int) -> Forecast:
    """Time from a sample of grid points, at the machine's present load; memory and disk from the sizes of arrays.

    Raises:
        TooLarge: more memory or disk than is free.
    """
    needed = room(job.network, job.card.descriptors.n_components, job.size, job.card.dft, job.slopes)
    refuse(needed)
    return Forecast(_seconds(job, cpus), needed.memory, needed.disk)


def room(network: Network, n_components: int, n_points: int, dft: KohnSham | None, forces: bool) -> Forecast:
    """Memory and disk of a grid [bytes]: densities of T networks, descriptors that wait, the hidden layer if kept."""
    fields = 8 * network.n_initializations * (3 if forces else 1)  # n, and n' and u
    physics = 0 if dft is None else DENSITY[dft.functional][0]
    waiting, hidden = 4 * n_points * n_components, hidden_bytes(network, n_points)
    memory = n_points * (fields + physics) + (hidden if hidden <= KEPT else 0) + min(waiting, IN_MEMORY) + BUFFERS
    return Forecast(0.0, memory, waiting if waiting > IN_MEMORY else 0.0)


def hidden_bytes(network: Network, n_points: int) -> int:
    """Of the last hidden layer of all grid points."""
    return 4 * n_points * network.n_initializations * network.sizes[-2]


def refuse(needed: Forecast) -> None:
    """Raise TooLarge if more memory or disk is needed than is free."""
    free, folder = free_memory(), tempfile.gettempdir()
    if needed.memory > free:
        raise TooLarge(
            f"this prediction needs {needed.memory / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free here; "
            "use a smaller cell or a machine with more memory"
        )
    if needed.disk and needed.disk > (there := shutil.disk_usage(folder).free):
        raise TooLarge(
            f"this prediction needs {needed.disk / 1e9:.1f} GB of temporary files, and {folder} has "
            f"{there / 1e9:.1f} GB left; set TMPDIR to a folder with more room"
        )


def _seconds(job: "LdosJob", cpus: int) -> float:
    """Time of all passes, from that of a few rows of grid points."""
    cell, numbers, settings = np.array(job.atoms.cell), job.atoms.numbers, job.card.descriptors
    rows = math.ceil(min(SAMPLE, SHARE * job.size) / job.grid[2])
    grid = (1, rows + rows % 2, job.grid[2])  # even, as the pass of ``readout.tangents`` takes every second point
    place = cell, job.atoms.positions, numbers, grid, settings
    last, n_points = LastLayer.of(job.network, job.scaling), math.prod(grid)
    x = bispectrum(*place)

    def network() -> None:
        for hidden in last_hidden(job.network, job.scaling, x):
            last.total(hidden)

    def compare() -> None:
        job.scaling.beyond(x)
        if job.neighbours is not None:
            job.neighbours.squares(job.scaling.descriptors(x))

    n_networks, dft = job.network.n_initializations, job.card.dft
    again = hidden_bytes(job.network, job.size) > KEPT
    a_point = _time(lambda: bispectrum(*place)) / cpus + (1 + again) * _time(network) + _time(compare)
    if job.forces != "none":
        part, potential = np.ones((n_networks, job.network.sizes[-2])), np.ones((n_networks, n_points))
        passes = n_networks if job.forces == "spread" else 1
        by_descriptor = np.ones((n_points, settings.n_components))
        a_point += _time(lambda: pull_back(job.network, job.scaling, x, (part, part), potential))
        a_point += passes * _time(lambda: bispectrum_forces(*place, by_descriptor)) / cpus
    if job.posterior is not None:
        first, u = job.network.only(0), np.zeros(n_points)
        kept = list(last_hidden(job.network, job.scaling, x))
        a_point += _time(lambda: feature_sums((h[0] for h in kept), u)) + again * _time(network)
        if job.forces == "spread" and dft is not None:
            atoms = structure(cell, job.atoms.positions, numbers, grid, temperature=0.0, n_electrons=0.0)
            sample = SnapshotData(atoms, [x], ())
            a_point += _time(lambda: deque(tangents(first, job.scaling, sample, settings, keep=False), maxlen=0))
    found = a_point * job.size / n_points
    if dft is not None:
        _, energies, slopes, strain = DENSITY[dft.functional]
        steps = energies + (slopes if job.forces != "none" else 0) + (strain if job.stress else 0)
        found += 1e-6 * job.size * n_networks * steps
    return found


def _time(function: Callable[[], object]) -> float:
    """Of a second call [s]: the first one warms up."""
    function()
    started = time.perf_counter()
    function()
    return time.perf_counter() - started
