"""Monte Carlo of a binary alloy with any function for energies, in batches of one configuration a temperature.  eV."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..physics.units import K_B
from .lattice import Float64
from .shell_model import Shells, Species

if TYPE_CHECKING:
    from .monte_carlo import Ordering

Energy = Callable[[Species], Float64]  # species (n, n_sites) -> formation energies (n,) [eV per cell]
COOLING = 20  # sweeps at each temperature on the way down


class Batched:
    """Replicas of any energy function: one attempt of all of them is one batch.

    Arguments are those of ``monte_carlo.sample``; ``correlations``, ``exchanged`` and ``accepted`` are sums of counts.
    """

    COST = 300

    def __init__(
        self,
        energy: Energy,
        temperatures: Float64,
        shells: Shells,
        ordering: "Ordering",
        start: Species,
        potential: float | None,
        sweeps: int,
        rng: np.random.Generator,
        cools: bool,
    ) -> None:
        self._energy, self._shells, self._ordering, self._rng = energy, shells, ordering, rng
        self._potential, self._steps, self._betas = potential, sweeps * len(start), 1 / (K_B * temperatures)
        self.species = start[None].repeat(len(temperatures), axis=0)  # by temperature
        self._energies, self._done = self._of(self.species), 0
        self.forget()
        for _ in range(COOLING * len(start) if cools else 0):  # all at the highest temperature
            self._attempt(np.full(len(temperatures), self._betas.min()))
        self.forget()

    def forget(self) -> None:
        """Forget what was counted."""
        n = len(self._betas)
        self.correlations = np.zeros((n, len(self._shells.radii)))
        self.exchanged, self.attempted = np.zeros(max(n - 1, 0)), np.zeros(max(n - 1, 0))
        self.accepted = np.zeros(n)

    def advance(self, rounds: int) -> tuple[Float64, Float64, Float64]:
        energies, squares, content = (np.empty((rounds, len(self._betas))) for _ in range(3))
        for step in range(rounds):
            for _ in range(self._steps):
                self._attempt(self._betas)
            m, correlations = self._shells.correlations(self.species)
            energies[step], content[step] = self._energies, 0.5 * (1 + m)
            squares[step] = self._ordering.order(self.species) ** 2 * self._ordering.n_cell * (1 - m**2)
            self.correlations += correlations
            self._exchange()
        return energies, squares, content

    def _of(self, species: Species) -> Float64:
        found = np.asarray(self._energy(species), dtype=float)
        if found.shape != (len(species),) or not np.isfinite(found).all():
            raise InputError(
                f"the energy function gave {found.shape} values for {len(species)} configurations, or one that is not "
                "finite; it must give one energy in eV for each"
            )
        return found - (self._potential or 0.0) * species.sum(axis=1)

    def _attempt(self, betas: Float64) -> None:
        rows = np.arange(len(betas))
        proposed = self.species.copy()
        if self._potential is None:
            keys = self._rng.random(proposed.shape)
            one = np.where(proposed == 1, keys, -1).argmax(axis=1)
            other = np.where(proposed == 0, keys, -1).argmax(axis=1)
            proposed[rows, one], proposed[rows, other] = 0, 1
        else:
            proposed[rows, self._rng.integers(proposed.shape[1], size=len(rows))] ^= 1
        energies = self._of(proposed)
        taken = np.log(1 - self._rng.random(len(rows))) < betas * (self._energies - energies)
        self.species[taken], self._energies[taken] = proposed[taken], energies[taken]
        self.accepted += taken

    def _exchange(self) -> None:
        for t in range(self._done % 2, len(self._betas) - 1, 2):
            self.attempted[t] += 1
            gain = (self._betas[t + 1] - self._betas[t]) * (self._energies[t + 1] - self._energies[t])
            if np.log(1 - self._rng.random()) < gain:
                self.exchanged[t] += 1
                for of in (self.species, self._energies):
                    of[[t, t + 1]] = of[[t + 1, t]]
        self._done += 1
