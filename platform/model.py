"""A model: a folder with a surrogate and all it needs to predict.  eV, Å, K.

    model.json             ModelCard
    weights.safetensors    weights of T initialisations and the scalers, float32

Loading runs no code from the folder.
"""

import math
import sys
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import ase
import ase.io
import numpy as np
import safetensors
import safetensors.numpy
import torch
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .. import __version__
from ..trainables.accuracy import Accuracy
from ..trainables.bispectrum import BispectrumSettings, bispectrum
from ..trainables.dataset import Dataset, one_line
from ..trainables.energy_grid import EnergyGrid
from ..trainables.errors import DatasetError, InputError
from ..trainables.files import atomic
from ..trainables.network import Network
from ..trainables.physics.energies import energies
from ..trainables.surrogate import Judgement, judge, predict_dos
from ..trainables.surrogate_config import SurrogateConfig
from ..trainables.training_data import Scaling, SnapshotData

NEAREST_ATOMS = 1.0  # [Å]; LAMMPS' neighbour lists overflow far below
LONGEST_CELL = 1000.0  # [Å]
LARGEST_PREDICTION = 2_000_000  # grid points of one structure; 91 descriptors of them are 0.7 GB


class ModelError(InputError):
    """A model folder is missing or damaged, or a structure is not one the model can predict."""


class ModelCard(BaseModel):
    """The contents of model.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    study: str = Field(description="the study that found it")
    config: dict[str, Any] = Field(description="hyperparameters of the network and its training")
    n_initializations: int = Field(ge=1, description="T, networks trained from different initial weights")
    seeds: list[int]
    descriptors: BispectrumSettings
    energy_grid: EnergyGrid
    species: dict[str, float] = Field(description="chemical symbol -> valence electrons")
    grid_spacing: float = Field(gt=0, description="largest distance of grid points in training [Å]")
    temperature: float = Field(ge=0, description="electronic temperature of the training data [K]")
    dataset: str = Field(description="name of the dataset it was trained on")
    dataset_sha256: str = Field(description="fingerprint of that dataset")
    accuracy: Accuracy = Field(description="on the test snapshots of that dataset")
    versions: dict[str, str]
    license: str = Field(default="as the data it was trained on", description="terms of use")


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the surrogate says of a structure: mean over T initialisations, and standard deviation where named so.

    fermi_level, band_energy, entropy_term: [eV per cell]; dos, dos_std: (n_energy,) [1/eV]; energy: (n_energy,) [eV];
    grid: points along each cell vector; seconds: where the time went.
    """

    n_atoms: int
    n_electrons: float
    grid: tuple[int, int, int]
    temperature: float
    fermi_level: float
    fermi_level_std: float
    band_energy: float
    band_energy_std: float
    entropy_term: float
    entropy_term_std: float
    energy: NDArray[np.float64]
    dos: NDArray[np.float64]
    dos_std: NDArray[np.float64]
    seconds: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in asdict(self).items()}


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
        return cls(card, network, scaling)

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
        tensors = {name: w.numpy() for name, w in self.network.state_dict().items()}
        for name in Scaling.__annotations__:
            tensors[f"scaling.{name}"] = np.asarray(getattr(self.scaling, name), dtype=np.float32)
        with atomic(path) as folder:
            folder.mkdir()
            (folder / "model.json").write_text(self.card.model_dump_json(indent=2) + "\n", encoding="utf-8")
            safetensors.numpy.save_file(tensors, folder / "weights.safetensors")

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

    def predict(self, structure: "ase.Atoms | str | Path", *, temperature: float | None = None) -> Prediction:
        """Predict the electronic structure of atoms.

        Args:
            structure: ASE atoms, or a file that ASE reads.
            temperature: electronic temperature [K]; by default that of the training data, at least ``coldest`` of the
                energy grid.

        Raises:
            ModelError: unreadable, not periodic, of other species, with atoms on top of each other, or too large.
            ValueError: the predicted DOS cannot hold the electrons.
        """
        atoms = read_structure(structure) if isinstance(structure, (str, Path)) else structure
        self._check(atoms)
        cell, symbols = np.array(atoms.cell), atoms.get_chemical_symbols()
        grid = self.grid(cell)
        electrons = sum(self.card.species[s] for s in symbols)
        temperature = self.card.temperature if temperature is None else temperature
        coldest = self.card.energy_grid.coldest
        if not coldest <= temperature < math.inf:
            raise ModelError(
                f"{temperature:g} K is below the {coldest:.0f} K that the energy grid of this model resolves; "
                "choose a higher temperature"
            )
        threads = torch.get_num_threads()
        started = time.perf_counter()
        descriptors = bispectrum(cell, atoms.positions, atoms.numbers, grid, self.card.descriptors)
        described = time.perf_counter()
        torch.set_num_threads(threads)  # loading LAMMPS leaves one thread
        dos = predict_dos(self.network, self.scaling, [descriptors], volume=abs(float(np.linalg.det(cell))))
        evaluated = time.perf_counter()
        quadrature = self.card.energy_grid.quadrature()
        each = [energies(d, quadrature, electrons=electrons, temperature=temperature) for d in dos]
        level, band, entropy = np.array([(e.fermi_level, e.band, e.entropy) for e in each]).T
        return Prediction(
            n_atoms=len(atoms),
            n_electrons=electrons,
            grid=grid,
            temperature=temperature,
            fermi_level=float(level.mean()),
            fermi_level_std=float(level.std()),
            band_energy=float(band.mean()),
            band_energy_std=float(band.std()),
            entropy_term=float(entropy.mean()),
            entropy_term_std=float(entropy.std()),
            energy=self.energy,
            dos=dos.mean(axis=0),
            dos_std=dos.std(axis=0),
            seconds={
                "descriptors": described - started,
                "network": evaluated - described,
                "physics": time.perf_counter() - evaluated,
            },
        )

    def _check(self, atoms: "ase.Atoms") -> None:
        if len(atoms) == 0:
            raise ModelError("the structure has no atoms")
        if not (np.isfinite(atoms.positions).all() and np.isfinite(np.array(atoms.cell)).all()):
            raise ModelError("positions or cell are not finite")
        largest = np.abs(np.array(atoms.cell)).max()
        if largest > LONGEST_CELL:
            raise ModelError(f"the cell is {largest:.3g} Å long, more than {LONGEST_CELL:g} Å; check its unit")
        if not atoms.pbc.all() or abs(np.linalg.det(np.array(atoms.cell))) < 1e-3:
            raise ModelError("the structure is not periodic in three dimensions; give it a cell")
        if unknown := sorted(set(atoms.get_chemical_symbols()) - set(self.card.species)):
            raise ModelError(f"the model knows {', '.join(self.card.species)} but not {', '.join(unknown)}")
        # Images of an atom count: a cell may be smaller than two atoms' distance.
        too_close = neighbor_list("d", atoms, NEAREST_ATOMS)
        if len(too_close):
            raise ModelError(
                f"two atoms, or images of one, are {too_close.min():.2f} Å apart, closer than {NEAREST_ATOMS:g} Å; "
                "check positions and cell"
            )

    def check(self, dataset: Dataset) -> Judgement:
        """Accuracy on the test snapshots of a dataset, recomputed.

        Raises:
            DatasetError: no test snapshot, or another energy grid than the model's.
        """
        if dataset.info.energy_grid != self.card.energy_grid:
            raise DatasetError(f"{dataset.path}: has another energy grid than the model; they cannot be compared")
        threads, data = torch.get_num_threads(), []
        for s in dataset.split("test"):
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
        grid_spacing=spacing,
        temperature=float(np.mean([s.temperature for s in train])),
        dataset=dataset.path.name,
        dataset_sha256=dataset.fingerprint,
        accuracy=accuracy,
        versions={"dftune": __version__, "python": ".".join(map(str, sys.version_info[:3]))}
        | {name: version(name) for name in ("torch", "lammps", "numpy", "ray")},
    )


def read_structure(path: str | Path) -> "ase.Atoms":
    """The last configuration of a file that ASE reads.

    Raises:
        ModelError: missing or unreadable.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    if path.suffix in (".traj", ".pckl", ".pkl", ".pickle", ".py"):
        raise ModelError(f"{path}: files of this type are not read, for safety; convert it to extended XYZ or CIF")
    try:
        return ase.io.read(path)
    except Exception as error:  # ASE's hundred readers raise whatever their parsing runs into
        raise ModelError(f"{path}: ASE cannot read it: {one_line(error) or type(error).__name__}") from error


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
