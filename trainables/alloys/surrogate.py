"""A trained alloy surrogate at work on configurations.  eV, Å; energies for people in mRy/atom."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import ase
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel

from ..cells import StructureError
from ..errors import DatasetError, InputError, ModelError
from ..structure_texts import xyz_frames
from ..structures import as_atoms, check_structure, is_configuration, read_structures
from ..surrogate import Job, Prediction, Surrogate, Tell, quiet
from .accuracy import spread_of
from .card import AlloyCard
from .config import AlloyConfig, Task
from .configurations import species_of
from .data import AlloyData, total_energy
from .judgement import AlloyCheck, AlloyJudgement
from .lattice import Lattice
from .network import Network, chains
from .order import far_content, unlike
from .request import FORMATS, XYZ, ConfigurationRequest, parse
from .splits import split_rows
from .training import Scaling, predict
from .training_data import Targets
from .units import MRY

Float64 = NDArray[np.float64]


class AlloySurrogate(Surrogate):
    """T networks from the elements on all sites to energy, charges and moments.

    Args:
        card: what it is.
        network: T networks.
        scaling: of the targets.
    """

    request: ClassVar[type[BaseModel]] = ConfigurationRequest
    formats: ClassVar[Mapping[str, str]] = FORMATS

    def __init__(self, card: AlloyCard, network: Network, scaling: Scaling) -> None:
        self.card, self.network, self.scaling = card, network, scaling

    @classmethod
    def assemble(cls, card: AlloyCard, tensors: Mapping[str, NDArray[Any]]) -> "AlloySurrogate":
        """From a card, and weights and scaling by name.  Raises ModelError: damaged, or not those of the card."""
        config = AlloyConfig.of(card.config)
        scaling: Scaling = {}
        for task in config.learnt:
            values = tensors.get(f"scaling.{task}")
            if values is None or values.shape != (card.n_initializations, 2):
                raise ModelError(f"its scaling of '{task}' is missing or damaged")
            if not (np.isfinite(values).all() and (values[:, 1] > 0).all()):
                raise ModelError(f"its scaling of '{task}' is none")
            scaling[task] = np.asarray(values, dtype=np.float64)
        weights = {name: values for name, values in tensors.items() if not name.startswith("scaling.")}
        if not all(np.isfinite(values).all() for values in weights.values()):
            raise ModelError("weights that are not finite")
        largest = max(a * b for chain in chains(config, card.lattice.n_sites).values() for a, b in pairwise(chain))
        if card.n_initializations * largest > 4 * sum(values.size for values in weights.values()):
            raise ModelError("weights do not fit the network of model.json")  # it may not fit into memory, either
        network = Network(config, card.lattice, seeds=[0] * card.n_initializations)
        try:
            network.load(weights)
        except ValueError as error:
            raise ModelError(f"weights do not fit the network of model.json: {error}") from error
        return cls(card, network, scaling)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Weights of the networks, and the scaling under ``scaling.TASK``."""
        return self.network.arrays() | {f"scaling.{task}": values for task, values in self.scaling.items()}

    @property
    def any_cell(self) -> bool:
        """Whether it predicts other cells of its lattice."""
        return self.network.config.architecture == "equivariant"

    def predict(self, species: NDArray[np.uint8], lattice: Lattice | None = None) -> dict[Task, Float64]:
        """Many configurations at once, all T networks: (T, n, n_out), as ``training.predict``.

        Args:
            species: 0 or 1 by site, (n, n_sites).
            lattice: of them, by default the model's.

        Raises:
            ModelError: another lattice than the model's, or other numbers of sites.
        """
        lattice = lattice or self.card.lattice
        if species.shape[1] != lattice.n_sites:
            raise ModelError(f"configurations of {species.shape[1]} sites, and the lattice has {lattice.n_sites}")
        return predict(self.on(lattice), self.scaling, 2 * species.astype(np.float32) - 1)

    def on(self, lattice: Lattice) -> Network:
        """The networks on a cell.  Raises ModelError: it is of another lattice."""
        if lattice == self.card.lattice:
            return self.network
        if not self.any_cell:
            raise ModelError(
                f"the model is for its cell of {self.card.lattice.n_sites} sites alone; "
                "an equivariant one predicts others"
            )
        n_shells = self.network.config.shells
        (radii, shells), (ours, of_ours) = lattice.shells(n_shells), self.card.lattice.shells(n_shells)
        same = [a.shape[1] == b.shape[1] for a, b in zip(shells, of_ours, strict=True)]
        if not all(same) or not np.allclose(radii, ours, rtol=0.02):
            raise ModelError(
                f"another lattice than the model's: neighbours at {', '.join(f'{r:.2f}' for r in radii)} Å, "
                f"and {', '.join(f'{r:.2f}' for r in ours)} Å in the model's"
            )
        other = Network(self.network.config, lattice, seeds=[0] * self.network.n_networks)
        other.load(self.network.arrays())
        return other

    def prepare(self, structure: ase.Atoms | Mapping[str, Any] | str, **asked: Any) -> "AlloyJob":
        """Find the sites of a structure's atoms.

        Args:
            structure: ASE's atoms, their ``todict()``, or the elements on the sites of the model's lattice in their
                order, as "Cu Au ..." or "01...".
            asked: nothing can be asked.

        Raises:
            InputError: other elements, an atom off the lattice, or another lattice than the model's.
        """
        self.options(**asked)
        card, lattice = self.card, self.card.lattice
        if isinstance(structure, str):
            return AlloyJob(self, lattice, self._species_of(structure), np.arange(lattice.n_sites))
        atoms = as_atoms(structure)
        check_structure(atoms, card.symbols)
        try:
            sites = lattice.sites_of(atoms)
        except StructureError as why:
            if not self.any_cell:
                raise
            lattice = Lattice.of(atoms)
            sites = np.arange(len(atoms))
            try:
                self.on(lattice)  # refuses another lattice
            except StructureError as error:
                raise StructureError(f"{why}; and as a cell of its own, {error}") from None
        species = np.empty(lattice.n_sites, dtype=np.uint8)
        species[sites] = [card.symbols.index(symbol) for symbol in atoms.get_chemical_symbols()]
        return AlloyJob(self, lattice, species, sites)

    def _species_of(self, text: str) -> NDArray[np.uint8]:
        """0 or 1 by site, of a text.  Raises ModelError: it is none of the model's lattice."""
        try:
            return species_of(text, self.card.symbols, self.card.lattice.n_sites)
        except InputError as error:
            raise ModelError(str(error)) from None

    def read(self, path: Path, frames: str = "-1", *, format: str | None = None) -> list[Any]:
        """As ``read_structures``; or, in place of a file, the elements on all sites, as in ``prepare``."""
        if is_configuration(str(path)):
            return [str(path)]
        return list(read_structures(path, frames, format=format))

    def parse(self, content: bytes, content_type: str, query: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """As ``request.parse``."""
        return parse(content, content_type, query), {}

    def split(self, content: bytes, content_type: str) -> Iterable[bytes] | None:
        """As ``Surrogate.split``; also the frames of an extended XYZ."""
        return xyz_frames(content) if content_type == XYZ else super().split(content, content_type)

    def example(self) -> dict[str, Any]:
        """The elements in turn."""
        return {"structure": " ".join(self.card.symbols[i % 2] for i in range(self.card.lattice.n_sites))}

    def sites(self) -> dict[str, Any]:
        """As ``Surrogate.sites``."""
        lattice = self.card.lattice
        return {
            "cell": lattice.cell,
            "positions": lattice.positions.round(4).tolist(),
            "symbols": self.card.symbols,
        }

    @property
    def unstated(self) -> tuple[str, ...]:
        """Of the order and the contents of what it was trained on."""
        card = self.card
        order = [] if card.order else ["order of the training's configurations"]
        return (*order, *([] if card.contents else ["contents of the training's configurations"]))

    def check(
        self, data: AlloyData, *, progress: Callable[[int, int, str], None] = lambda done, total, what: None
    ) -> AlloyCheck:
        """Compare it with the reference: on the test configurations of its dataset, or on all of another one.

        Raises:
            DatasetError: other elements, another code, or another lattice.
        """
        card, info = self.card, data.info
        if info.symbols != card.symbols or info.code != card.code:
            raise DatasetError(
                f"{data.location}: {''.join(info.symbols)} by {info.code}, and the model is for "
                f"{''.join(card.symbols)} by {card.code}; they cannot be compared"
            )
        same = data.fingerprint == card.dataset_sha256
        rows = split_rows(data, card.splits)["test"] if same else np.flatnonzero(data.all.converged)
        reference = Targets.of(data.all.take(rows), info)
        try:
            predicted = self.predict(reference.species, info.lattice)
        except InputError as error:
            raise DatasetError(f"{data.location}: {error}") from None
        progress(len(rows), len(rows), "")
        return AlloyCheck(AlloyJudgement(predicted, reference))

    def warm_up(self, cpus: int) -> None:
        """Let torch have a thread a CPU, and evaluate the networks once."""
        torch.set_num_threads(cpus)
        self.predict(np.zeros((1, self.card.lattice.n_sites), dtype=np.uint8))


@dataclass(frozen=True, eq=False)
class AlloyJob(Job):
    """A configuration, checked.  species: by site.  sites: that of each atom, in the order of the structure."""

    surrogate: AlloySurrogate
    lattice: Lattice
    species: NDArray[np.uint8]
    sites: NDArray[np.int64]

    def verify(self) -> None:
        """Nothing is left to check."""

    def run(self, *, cpus: int | None = None, progress: Tell = quiet) -> "AlloyPrediction":
        """Predict."""
        found = self.surrogate.predict(self.species[None], self.lattice)
        card, n = self.surrogate.card, self.lattice.n_sites
        values: dict[str, Any] = {"n_atoms": n, card.symbols[1]: int(self.species.sum())}
        outside = far_content(float(self.species.mean()), card.contents, card.symbols[1])
        outside += unlike(self.lattice, self.species, card.order)
        values["expected_errors"] = "unknown" if outside else card.accuracy.stated_error
        if "E" in found:
            of_networks = found["E"][:, 0, 0]
            total = total_energy(n * of_networks.mean(keepdims=True), self.species[None], card.pure_energies)
            values["formation_energy"] = float(of_networks.mean() / MRY)
            if (spread := spread_of(of_networks)) is not None:
                values["formation_energy_std"] = float(spread / MRY)
            values["total_energy"] = float(total[0])
        for task, name in (("C", "charge"), ("M", "moment")):
            if task in found:
                by_atom = found[task][:, 0, self.sites]
                values[name] = by_atom.mean(axis=0).tolist()
                if (spread := spread_of(by_atom)) is not None:
                    values[f"{name}_std"] = spread.tolist()
        return AlloyPrediction(values | {"warnings": outside})


@dataclass(frozen=True)
class AlloyPrediction(Prediction):
    """What is predicted of a configuration; ``*_std``, of several trainings, are their spreads, no error bars."""

    values: dict[str, Any]

    @property
    def warnings(self) -> list[str]:
        return list(self.values["warnings"])

    @property
    def outside_training(self) -> list[str]:
        return self.warnings

    @property
    def units(self) -> dict[str, str]:
        return {name: UNITS[name] for name in self.values if name in UNITS}

    def to_dict(self) -> dict[str, Any]:
        return dict(self.values)

    def lines(self) -> list[str]:
        """For people."""
        v = self.values
        (second, count) = list(v.items())[1]
        lines = [f"  {count} {second} on {v['n_atoms']} sites"]
        if "formation_energy" in v:
            spread = v.get("formation_energy_std")
            beside = "" if spread is None else f" (spread of the trainings {spread:.2g})"
            lines.append(f"  formation energy {v['formation_energy']:.4f} mRy/atom{beside}")
            lines.append(f"  total energy {v['total_energy']:.4f} eV, all electrons")
        for name, what in (("charge", "net electrons"), ("moment", "moments [mu_B]")):
            if name in v:
                lines.append(f"  {what} by atom: " + " ".join(f"{value:.3f}" for value in v[name]))
        return [*lines, f"  errors to expect: {v['expected_errors']}"]

    def row(self) -> dict[str, Any]:
        """Without what has a number an atom, and without words."""
        return {name: value for name, value in self.values.items() if not isinstance(value, (list, str))}


UNITS = {
    "formation_energy": "mRy/atom",
    "formation_energy_std": "mRy/atom",
    "total_energy": "eV",
    "charge": "e",
    "charge_std": "e",
    "moment": "mu_B",
    "moment_std": "mu_B",
}
