"""A trained LDOS surrogate: checked when it is put together, and then at work on structures.  eV, Å, K."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from itertools import pairwise
from operator import or_
from pathlib import Path
from typing import Any, ClassVar

import ase
import numpy as np
import torch
from ase.data import atomic_numbers
from numpy.typing import NDArray
from pydantic import BaseModel

from ..data.dataset import Dataset, Snapshot
from ..descriptors.bispectrum import bispectrum
from ..errors import DatasetError, InputError, ModelError
from ..kind import Surrogate
from ..structure_texts import xyz_frames
from ..structures import as_atoms, check_structure, read_structures
from ..surrogate import Answer, Lessons, Tell, quiet
from .answer import PredictAnswer
from .card import LdosCard
from .check import LdosCheck, check_terms
from .config import SurrogateConfig
from .files import FILES
from .job import LdosJob
from .judgement import judge
from .known import structure as structure_of
from .neighbours import Neighbours
from .network import Network
from .passes import Forces
from .prediction import MOST_TEMPERATURES
from .prediction_grid import Grid, check_grid, grid_of, grid_points
from .ranges import NO_STRESS
from .readout.electrons import Ions
from .readout.evaluate import slopes_of
from .readout.posterior import Posterior
from .readout.slopes import Slopes
from .request import FORMATS, XYZ, PredictRequest, example, parse
from .teaching import lessons
from .total_energy import Ingredients
from .training_data import Scaling, SnapshotData, relative_to_fermi_levels

BESIDES = ("scaling.", "neighbours.", "posterior.")  # tensors that are no weights
NO_FREE_ENERGY = (
    "the dataset of this model does not say which functional and density cutoff its DFT had; "
    "import it again with --pseudopotentials and train on it"
)


class LdosSurrogate(Surrogate):
    """T networks from descriptors of grid points to their LDOS, and the physics behind them.

    Args:
        card: what it is.
        network: T networks.
        scaling: of descriptors and LDOS.
        neighbours: what says how far a structure is from the training; models of early versions have none.
        posterior: how well the last layer is known, where it is in closed form.
    """

    files: ClassVar[tuple[str, ...]] = FILES
    quantities: ClassVar[tuple[str, ...]] = ("density", "ldos")
    size_unit: ClassVar[str] = "grid points"
    request: ClassVar[type[BaseModel]] = PredictRequest
    formats: ClassVar[Mapping[str, str]] = FORMATS
    answer: ClassVar[type[Answer]] = PredictAnswer

    def __init__(
        self,
        card: LdosCard,
        network: Network,
        scaling: Scaling,
        neighbours: Neighbours | None = None,
        posterior: Posterior | None = None,
    ) -> None:
        self.card, self.network, self.scaling = card, network, scaling
        self.neighbours, self.posterior = neighbours, posterior

    @classmethod
    def assemble(cls, card: LdosCard, tensors: Mapping[str, NDArray[Any]]) -> "LdosSurrogate":
        """From a card, and weights and scaling by name.

        Raises:
            InputError: they are damaged, or not those of the card's network.
        """
        config = SurrogateConfig.of(card.config)
        n_in, n_out = card.descriptors.n_components, card.energy_grid.n_energy
        scaling = _scaling(tensors)
        for name in ("descriptor_mean", "descriptor_std", "descriptor_min", "descriptor_max", "ldos_mean"):
            found, expected = getattr(scaling, name).shape, n_out if name == "ldos_mean" else n_in
            if found != (expected,):
                raise ModelError(f"scaling of {found} {name}, the model has {expected}")
        if not all(np.isfinite(n).all() for n in tensors.values()) or not (scaling.descriptor_std > 0).all():
            raise ModelError("weights or scaling that are not finite")
        if not scaling.ldos_scale > 0:
            raise ModelError(f"a scale of the LDOS of {scaling.ldos_scale:g}; it must be positive")
        weights = {name: values for name, values in tensors.items() if not name.startswith(BESIDES)}
        stored = sum(values.size for values in weights.values())
        sizes = (n_in, *config.hidden, n_out)
        needed = sum((a + 1) * b for a, b in pairwise(sizes)) + (config.hidden[-1] + 1) * (config.energies == "fermi")
        needed *= card.n_initializations
        if stored != needed:  # asked before a network is made, which may not fit into memory
            raise ModelError(f"weights do not fit the network of model.json: {stored:,} numbers, and it has {needed:,}")
        network = Network(config, n_in, n_out, seeds=[0] * card.n_initializations)
        if config.energies == "fermi":
            network.reference = torch.zeros(card.n_initializations, config.hidden[-1] + 1)
        try:
            network.load_state_dict({name: torch.from_numpy(np.array(w)) for name, w in weights.items()})
        except RuntimeError as error:
            raise ModelError(
                f"weights do not fit the network of model.json: {str(error).splitlines()[-1].strip()}"
            ) from error
        known = Posterior.of(tensors, config.hidden[-1] + 1, n_out + (config.energies == "fermi"))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(card, network.to(device), scaling, Neighbours.of(tensors, n_in), known)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Weights of the networks, the scaling under ``scaling.NAME``, and so on for neighbours and posterior."""
        parts = [part.tensors() for part in (self.scaling, self.neighbours, self.posterior) if part is not None]
        return reduce(or_, parts, self.network.arrays())

    def __repr__(self) -> str:
        return f"<LdosSurrogate for {', '.join(self.card.species)}, {self.card.n_initializations} initialisations>"

    @property
    def notes(self) -> tuple[str, ...]:
        """Why there is no free energy, if there is none."""
        return () if self.card.dft is not None else (f"no free energy: {NO_FREE_ENERGY}",)

    @property
    def unstated(self) -> tuple[str, ...]:
        """As ``LdosCard.unstated``, and what tells errors where the last layer is not in closed form."""
        far = ["distance from the training"] if self.neighbours is None and self.posterior is None else []
        return (*self.card.unstated, *far)

    @property
    def of_tables(self) -> tuple[str, ...]:
        """What the spreads are, and the test error."""
        return (self.card.accuracy.beside_spread,)

    @property
    def refuses_energies(self) -> str | None:
        """Why there is no free energy and so no forces; None if there are."""
        return None if self.card.dft is not None else f"no calculator without the free energy: {NO_FREE_ENERGY}"

    @property
    def refuses_stress(self) -> str | None:
        """The training held one volume an atom, or its volumes are not known."""
        if self.card.ranges is None:
            return "this model does not know the volumes of its training; train it again"
        return f"{NO_STRESS}: train over volumes" if self.card.ranges.without_stress else None

    def grid(self, cell: NDArray[np.float64]) -> Grid:
        """The grid of a cell, as ``grid_of``."""
        return grid_of(cell, spacing=self.card.grid_spacing, density_cutoff=self._density_cutoff)

    @property
    def _density_cutoff(self) -> float | None:
        """Of the plane waves of the density [eV]; None where it is not known."""
        return None if self.card.dft is None else self.card.dft.density_cutoff

    def held(self, job: LdosJob, structure: ase.Atoms) -> dict[str, Any] | None:
        """The grid of a job, for its atoms in another cell; None: the cell needs more points.

        Two grids give energies that differ by up to some meV a cell (docs/physics.md, section 14).
        """
        try:
            check_grid(job.grid, np.array(structure.cell), density_cutoff=self._density_cutoff)
        except InputError:
            return None
        except ValueError:  # of a cell without volume, which ``prepare`` refuses in better words
            pass
        return {"grid": job.grid}

    def options(
        self,
        *,
        temperature: float | None = None,
        temperatures: Sequence[float] = (),
        grid: Grid | None = None,
        forces: Forces | bool = "none",
        stress: bool = False,
    ) -> dict[str, Any]:
        """What is asked of a structure, with the defaults filled in.

        Args:
            temperature: electronic temperature τ [K]; by default that of the training data.  Not below ``coldest`` of
                the energy grid, nor so high that states at its top are occupied.
            temperatures: more of them [K]: A, its terms and the heat capacity of each are in ``Prediction.heated``.
            grid: numbers of points along the cell vectors; by default as ``grid`` says.  Energies of one grid have no
                steps between them, so give it where a cell is strained.
            forces: ``none``; ``mean``, those of the mean free energy; ``spread`` or True, with their standard
                deviations, at T times the cost.
            stress: also the stress, with the forces.

        Raises:
            ModelError: too cold, not finite, too many temperatures, no free energy for forces, or a grid that is none.
        """
        if isinstance(forces, bool):
            forces = "spread" if forces else "none"
        if stress and forces == "none":
            forces = "mean"
        if len(temperatures) > MOST_TEMPERATURES:
            raise ModelError(f"{len(temperatures)} temperatures; give {MOST_TEMPERATURES} or fewer")
        if forces != "none" and self.card.dft is None:
            raise ModelError(f"no forces without the free energy: {NO_FREE_ENERGY}")
        return {
            "temperature": self._temperature(temperature),
            "temperatures": tuple(self._temperature(kelvin) for kelvin in temperatures),
            "grid": None if grid is None else grid_points(grid),
            "forces": forces,
            "stress": stress,
        }

    def prepare(self, structure: ase.Atoms | Mapping[str, Any], **asked: Any) -> LdosJob:
        """Check a structure, once but for ``LdosJob.verify``, and lay its grid.

        Args:
            structure: ASE's atoms, or their ``todict()``.
            asked: as in ``options``.

        Raises:
            StructureError: not periodic, or of other species.
            ModelError: as ``options``, or a grid that is too coarse for the cell.
            TooLarge: too many atoms.
        """
        structure = as_atoms(structure)
        check_structure(structure, self.card.species)
        options, cell = self.options(**asked), np.array(structure.cell)
        grid = options["grid"]
        if grid is not None:
            check_grid(grid, cell, density_cutoff=self._density_cutoff)
        return LdosJob(
            self.card,
            self.network,
            self.scaling,
            self.neighbours,
            self.posterior,
            structure,
            grid=self.grid(cell) if grid is None else grid,
            temperature=options["temperature"],
            forces=options["forces"],
            stress=options["stress"],
            temperatures=options["temperatures"],
        )

    def slopes(self, structure: ase.Atoms, *, forces: bool = False) -> dict[str, Slopes]:
        """How a structure's energies, DOS and forces go with the last layer; no LDOS is needed.

        With ``posterior``, ``slopes(atoms)["free_energy"].std(posterior)[0]`` is how well A is known [eV/atom], and the
        products of ``coordinates(posterior)`` are covariances of A of several structures.

        Args:
            structure: as in ``prepare``.
            forces: also forces.

        Raises:
            InputError: as ``prepare``, or a predicted DOS that cannot hold the electrons.
        """
        job = self.prepare(structure)
        atoms, card = job.atoms, self.card
        electrons = sum(card.species[symbol] for symbol in atoms.get_chemical_symbols())
        about = np.array(atoms.cell), atoms.positions, atoms.numbers, job.grid
        s = structure_of(*about, temperature=job.temperature, n_electrons=electrons)
        values = bispectrum(s.cell, s.positions, s.numbers, s.grid, card.descriptors)
        ions = Ions(s, card.energy_grid, card.dft, card.species)
        settings = card.descriptors if forces else None
        try:
            return slopes_of(self.network, self.scaling, SnapshotData(s, [values], ()), ions, settings)
        except ValueError as error:
            raise ModelError(str(error)) from error

    def _temperature(self, temperature: float | None) -> float:
        """The electronic temperature to predict at [K]."""
        if temperature is None:
            return self.card.temperature
        coldest = self.card.energy_grid.coldest
        if not math.isfinite(temperature):
            raise ModelError(f"a temperature of {temperature:g} K is none; give a number")
        if temperature < coldest:
            raise ModelError(
                f"{temperature:g} K is below the {coldest:.0f} K that the energy grid of this model resolves; "
                "choose a higher temperature"
            )
        return temperature

    def read(
        self, path: Path, frames: str = "-1", *, format: str | None = None, types: Sequence[str] = ()
    ) -> list[ase.Atoms]:
        """As ``read_structures``."""
        return read_structures(path, frames, format=format, types=types)

    def parse(self, content: bytes, content_type: str, query: Mapping[str, Any]) -> tuple[ase.Atoms, dict[str, Any]]:
        """As ``request.parse``."""
        return parse(content, content_type, query)

    def split(self, content: bytes, content_type: str) -> Iterable[bytes] | None:
        """As ``Surrogate.split``; also the frames of an extended XYZ."""
        return xyz_frames(content) if content_type == XYZ else super().split(content, content_type)

    def example(self) -> dict[str, Any]:
        """A crystal of its first species."""
        return example(next(iter(self.card.species)))

    def unseen(self, dataset: Dataset) -> list[Snapshot]:
        """What to judge it by: the test snapshots of the dataset it was trained on, all of any other.

        Raises:
            DatasetError: no test snapshot, or another energy grid, species or DFT than the model's.
        """
        card = self.card
        stored, ours_grid = dataset.info.energy_grid, card.energy_grid
        if card.relative:  # any grid of the same steps can be moved to it
            stored = stored.model_copy(update={"minimum": ours_grid.minimum, "n_energy": ours_grid.n_energy})
        if not stored.samples_as(ours_grid):
            raise DatasetError(f"{dataset.location}: has another energy grid than the model; they cannot be compared")
        if unknown := sorted(set(dataset.info.species) - set(card.species)):
            raise DatasetError(f"{dataset.location}: has {', '.join(unknown)}, which the model does not know")
        for symbol, valence in dataset.info.species.items():
            if valence != (known := card.species[symbol]):
                raise DatasetError(
                    f"{dataset.location}: {symbol} has {valence:g} valence electrons, and {known:g} in the model; "
                    "they cannot be compared"
                )
        ours, theirs = card.dft, dataset.info.dft
        if ours is not None and theirs is not None and ours.functional != theirs.functional:
            raise DatasetError(
                f"{dataset.location}: its DFT is {theirs.functional}, the model's {ours.functional}; "
                "they cannot be compared"
            )
        return dataset.split("test") if dataset.fingerprint == card.dataset_sha256 else dataset.snapshots

    def check(
        self,
        data: Dataset,
        *,
        progress: Callable[[int, int, str], None] = lambda done, total, what: None,
        forces: bool = False,
    ) -> LdosCheck:
        """Compare it with the DFT of the ``unseen`` snapshots, term by term, and judge it by them.

        Args:
            data: of the same energy grid, species and functional.
            progress: called after each snapshot.
            forces: also forces, three or four times slower.

        Raises:
            InputError: as ``unseen`` and ``check_terms``.
        """
        snapshots = self.unseen(data)
        terms = check_terms(self.prepare, data, snapshots, forces=forces, progress=progress)
        card = self.card
        described = (self._described(data, s) for s in snapshots)  # one in memory at a time
        if card.relative:
            grids = data.info.energy_grid, card.energy_grid
            described = (one for d in described for one in relative_to_fermi_levels([d], *grids))
        judgement = judge(
            self.network,
            self.scaling,
            card.energy_grid,
            described,
            ingredients=None if card.dft is None else Ingredients(card.dft, card.species),
            bars=card.accuracy.error_bars,
            posterior=self.posterior,
            judged_on=data.judged_on if data.fingerprint == card.dataset_sha256 else "test",
        )
        return LdosCheck(judgement, terms)

    def _described(self, dataset: Dataset, snapshot: Snapshot) -> SnapshotData:
        """A snapshot with its descriptors, computed where the dataset does not have them."""
        s, ldos = snapshot, dataset.ldos(snapshot).stored()
        try:
            return SnapshotData(s, dataset.descriptors(s, self.card.descriptors).stored(), ldos)
        except DatasetError:
            values = bispectrum(s.cell, s.positions, s.numbers, s.grid, self.card.descriptors)
            return SnapshotData(s, np.split(values, np.cumsum([len(shard) for shard in ldos])[:-1]), ldos)

    def lessons(self, structures: Sequence[ase.Atoms], number: int, progress: Tell = quiet) -> Lessons:
        """As ``teaching.lessons``."""
        return lessons(self, structures, number, progress)

    def warm_up(self, cpus: int) -> None:
        """Load the kernel of descriptors, and let torch have a thread a CPU."""
        number = atomic_numbers[next(iter(self.card.species))]
        bispectrum(4.0 * np.eye(3), np.zeros((1, 3)), np.array([number]), (2, 2, 2), self.card.descriptors)
        torch.set_num_threads(cpus)


def _scaling(tensors: Mapping[str, NDArray[Any]]) -> Scaling:
    """The scaling among tensors.  Raises ModelError: a part of it is missing or has another shape."""
    try:
        parts: dict[str, Any] = {name: tensors[f"scaling.{name}"] for name in Scaling.__annotations__}
        return Scaling(**parts | {"ldos_scale": float(np.asarray(parts["ldos_scale"]).reshape(()))})
    except (KeyError, ValueError) as error:
        raise ModelError(f"weights are damaged ({error})") from error
