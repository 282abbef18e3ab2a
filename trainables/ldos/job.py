"""One structure on its grid, checked, for an LDOS surrogate to predict.  eV, Å, K."""

import errno
import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ase
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import InputError, ModelError
from ..kind import Tell, quiet
from ..structures import check_distances, left_out
from ..surrogate import Forecast
from .accuracy import ENERGIES
from .card import LdosCard
from .files import ldos_of, write_files
from .forecast import forecast, refuse, room
from .neighbours import Neighbours
from .network import Network
from .passes import Forces, predict
from .prediction import Prediction, density_batches, ldos_batches
from .ranges import NO_RANGES, NO_STRESS
from .readout.posterior import Posterior
from .training_data import Scaling


@dataclass(frozen=True, eq=False)
class LdosJob:
    """A structure that ``LdosSurrogate.prepare`` has checked, and what is asked of it.

    card, network, scaling, neighbours, posterior: of the surrogate.  grid: numbers of points along the cell vectors.
    temperature: τ [K].  temperatures: more of them, for ``Prediction.heated``.
    forces: ``none``; ``mean``, those of the mean free energy; ``spread``, with their standard deviations.
    stress: also the stress.
    """

    card: LdosCard
    network: Network
    scaling: Scaling
    neighbours: Neighbours | None
    posterior: Posterior | None
    atoms: ase.Atoms
    grid: tuple[int, int, int]
    temperature: float
    forces: Forces
    stress: bool = False
    temperatures: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """Grid points."""
        return math.prod(self.grid)

    @property
    def slopes(self) -> bool:
        """Whether the derivative of A by the LDOS is needed."""
        return self.forces != "none" or (self.posterior is not None and self.card.dft is not None)

    @property
    def _judged_by_posterior(self) -> bool:
        """Whether the posterior says of an energy how far a structure is from the training."""
        bars = self.card.accuracy.error_bars
        return self.posterior is not None and any(bars[name].posterior for name in ENERGIES if name in bars)

    def verify(self) -> None:
        """Raise StructureError if two atoms are on top of each other."""
        check_distances(self.atoms)

    def forecast(self, *, cpus: int | None = None) -> Forecast:
        """As ``forecast.forecast``; ``cpus`` as in ``run``."""
        return forecast(self, _threads(cpus))

    def empty_ldos(self) -> NDArray[np.float32]:
        """An array for ``run`` to put the LDOS into, (nx, ny, nz, n_energy)."""
        return np.empty(self._ldos_shape, dtype=np.float32)

    def run(
        self, *, ldos: NDArray[np.float32] | None = None, cpus: int | None = None, progress: Tell = quiet
    ) -> Prediction:
        """Predict.

        Args:
            ldos: an array to put the mean LDOS into, as ``empty_ldos`` gives it or mapped from a file [1/(eV Å³)].
            cpus: threads; by default one for each CPU that this process may use, or OMP_NUM_THREADS if that is less.
            progress: called after each slab of grid points.

        Raises:
            ModelError: too coarse a grid, too hot, or a predicted DOS that cannot hold the electrons.
            TooLarge: more memory or disk than is free.
        """
        refuse(room(self.network, self.card.descriptors.n_components, self.size, self.card.dft, self.slopes))
        try:
            found = predict(
                self.network,
                self.scaling,
                neighbours=None if self._judged_by_posterior else self.neighbours,
                posterior=self.posterior,
                descriptors=self.card.descriptors,
                energy_grid=self.card.energy_grid,
                dft=self.card.dft,
                cell=np.array(self.atoms.cell),
                positions=self.atoms.positions,
                numbers=self.atoms.numbers,
                valences=np.array([self.card.species[s] for s in self.atoms.get_chemical_symbols()]),
                grid=self.grid,
                temperature=self.temperature,
                temperatures=self.temperatures,
                forces=self.forces,
                stress=self.stress,
                ldos=ldos,
                cpus=_threads(cpus),
                progress=progress,
            )
        except InputError:
            raise
        except ValueError as error:  # what the physics says of a DOS or a grid that will not do
            raise ModelError(str(error)) from error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise InputError(
                f"{tempfile.gettempdir()} has no room for the descriptors ({error.strerror}); set TMPDIR to a folder "
                "with more"
            ) from error
        unlike, omitted = self._unlike(found.ewald_energy), tuple(left_out(self.atoms))
        found = replace(found, accuracy=self.card.accuracy, unlike=unlike, left_out=omitted)
        return found if found.left_open is None else replace(found, distance=found.left_open[1], usual_distance=1.0)

    def save(
        self, stem: Path, names: Sequence[str], *, cpus: int | None = None, progress: Tell = quiet
    ) -> tuple[Prediction, list[Path]]:
        """Predict, and write the file STEM.NAME for each name, of ``files.FILES``.

        Args:
            stem: path without the suffix; its folder is made where it is missing.
            names: of the files.
            cpus, progress: as in ``run``.

        Raises:
            InputError: as ``run``, or a file cannot be written.
        """
        paths = {name: stem.with_name(f"{stem.name}.{name}") for name in names}
        with ldos_of(paths, self._ldos_shape) as ldos:
            prediction = self.run(ldos=ldos, cpus=cpus, progress=progress)
        write_files(paths, prediction, self.atoms)
        return prediction, list(paths.values())

    def batches(self, quantity: str, *, cpus: int | None = None, progress: Tell = quiet) -> list[pa.RecordBatch]:
        """Predict, and give ``density`` or ``ldos`` as Arrow record batches; arguments and errors as ``run``."""
        if quantity == "density":
            return density_batches(self.run(cpus=cpus, progress=progress))
        ldos = self.empty_ldos()
        self.run(ldos=ldos, cpus=cpus, progress=progress)
        return ldos_batches(ldos)

    def _unlike(self, ewald: float | None) -> tuple[str, ...]:
        """In which respects the cell is unlike those of the training."""
        if self.card.ranges is None:
            return (NO_RANGES,)
        found = self.card.ranges.outside(np.array(self.atoms.cell), len(self.atoms), ewald)
        if self.stress and self.card.ranges.without_stress:
            found.append(f"{NO_STRESS}: train over volumes")
        return tuple(found)

    @property
    def _ldos_shape(self) -> tuple[int, ...]:
        return (*self.grid, self.card.energy_grid.n_energy)


def _threads(cpus: int | None) -> int:
    """By default one for each CPU that this process may use, or OMP_NUM_THREADS if that is less: Ray tasks set it."""
    if cpus is not None:
        return max(1, cpus)
    most, said = len(os.sched_getaffinity(0)), os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(most, max(1, int(said))) if said.isdecimal() else most
