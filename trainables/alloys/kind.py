"""The alloy kind of surrogates: elements on the sites of a lattice to energy, charges, moments (Lupo Pasini 2020)."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ..errors import DatasetError, InputError
from ..kind import Card, Kind, Measure, TrainingMemory
from ..progress import Execute, Progress
from .config import NAMES, AlloyConfig
from .scores import SCORES
from .splits import SplitSettings, split_rows

if TYPE_CHECKING:
    from .accuracy import AlloyAccuracy
    from .data import AlloyData
    from .generation import AlloyGeneration
    from .judgement import AlloyJudgement
    from .over_splits import Planned
    from .surrogate import AlloySurrogate
    from .training import Trained
    from .training_data import Targets, TrainingData
    from .transition import Transition


def _baseline(name: str, data: Any, test: Any, seed: int) -> Any:
    """Call a function of ``baselines``, which is imported for that."""
    from . import baselines

    return getattr(baselines, name)(data, test, seed)


class AlloyKind(Kind):
    """Networks on configurations of a binary alloy.

    The sizes of a study are ``n_sites``, ``n_train`` and ``n_validation``, configurations, and ``n_folds``.
    """

    name = "alloys"
    table, settings = "splits", SplitSettings
    config = AlloyConfig
    space = {
        "width": {"type": "int", "low": 30, "high": 300, "log": True},
        "depth": {"type": "int", "low": 1, "high": 3},
        "activation": {"type": "choice", "values": ["relu", "gelu", "silu", "tanh"]},
        "learning_rate": {"type": "float", "low": 3e-4, "high": 1e-2, "log": True},
        "alpha_charge": {"type": "float", "low": 0.01, "high": 100.0, "log": True},
    }
    values = {
        "error": Measure(
            "best_geometric_error", "validation error, geometric mean of 1 - R² over energy, charges, moments"
        ),
        "energy_mae": Measure("best_energy_mae", "validation formation-energy error", "mRy/atom"),
        "charge_mae": Measure("best_charge_mae", "validation charge error", "e"),
        "moment_mae": Measure("best_moment_mae", "validation moment error", "mu_B"),
    }
    costs = {
        "n_parameters": Measure("n_parameters", "parameters of the network"),
        "inference_time": Measure("inference_time", "inference time", "µs a configuration"),
    }
    compute = Measure("configurations", "trained configurations and images x epochs, summed over trials")
    kept = ("train_loss",)
    judged = {
        "energy_mae": Measure("energy_mae", "test formation-energy error", "mRy/atom"),
        "charge_mae": Measure("charge_mae", "test charge error", "e"),
        "moment_mae": Measure("moment_mae", "test moment error", "mu_B"),
        "energy_loss": Measure("energy_loss", "test formation energy, 1 - R²"),
        "charge_loss": Measure("charge_loss", "test charge, 1 - R²"),
        "moment_loss": Measure("moment_loss", "test moment, 1 - R²"),
        "total_energy_loss": Measure("total_energy_loss", "test total energy, 1 - R²"),
    }
    scores = SCORES
    json_units = {
        "energy_rmse": "mRy/atom",
        "energy_rmse_std": "mRy/atom",
        "charge_rmse": "e",
        "charge_rmse_std": "e",
        "moment_rmse": "mu_B",
        "moment_rmse_std": "mu_B",
        "pure_energies": "eV/atom",
        "lattice.cell": "Å",
    }
    packages = ("torch", "numpy")
    untrained = {"training": "none"}

    @property
    def baselines(self) -> dict[str, tuple[str, Callable[[Any, Any, int], Any]]]:  # type: ignore[override]
        """Boosted trees are among them where XGBoost is installed."""
        from importlib.util import find_spec

        trees = {"XGBoost": ("default settings, 8 images a configuration", partial(_baseline, "boosted_trees"))}
        return {
            "composition": (
                "a line in composition; charges and moments: mean of the element",
                partial(_baseline, "composition"),
            ),
            "shell model": ("linear in neighbour shells", partial(_baseline, "shell_model")),
            **(trees if find_spec("xgboost") is not None else {}),
        }

    @property
    def importers(self) -> Sequence[Any]:  # type: ignore[override]
        """Of LSMS runs, tables, and folders of text files."""
        from .importers import IMPORTERS

        return IMPORTERS

    @property
    def card_model(self) -> type[Card]:  # type: ignore[override]
        """Of model.json."""
        from .card import AlloyCard

        return AlloyCard

    def open(self, location: str) -> "AlloyData":
        """The dataset in a folder.  Raises DatasetError."""
        from .data import AlloyData

        return AlloyData.open(location)

    def refuse(self, data: "AlloyData", settings: SplitSettings, minimize: str) -> None:
        """Raises DatasetError: too few orbits to split, or no moments where they are to be minimised."""
        split_rows(data, settings)
        if minimize == "moment_mae" and not data.all.moment.any():
            raise DatasetError(f"{data.location}: all moments are zero; minimize something else")

    def suited(
        self, data: "AlloyData", config: Mapping[str, Any], space: Collection[str]
    ) -> Mapping[str, tuple[Any, str]]:
        """All tasks that the data have something to learn of."""
        if "tasks" in config or "tasks" in space or not data.all.moment.any():
            return {}
        return {"tasks": ("ECM", "the data have moments")}

    def refuse_space(self, space: Collection[str], config: Mapping[str, Any]) -> None:
        """Raises InputError: something to vary that has no use beside what is held fixed."""
        if "architecture" not in space:
            equivariant = AlloyConfig.of(config).architecture == "equivariant"
            useless = "images" if equivariant else "shells"
            if useless in space:
                kind = "an equivariant network" if equivariant else "this architecture"
                raise InputError(f"{kind} has no use for '{useless}' in [space]; leave it out")
        if "tasks" not in space:
            learnt = {f"alpha_{NAMES[task]}" for task in AlloyConfig.of(config).learnt}
            weights = {name for name in space if name.startswith("alpha_")}
            if other := sorted(weights - learnt):
                raise InputError(f"'{other[0]}' in [space] weighs a task that is not learnt; leave it out")
            if weights and weights == learnt:
                raise InputError(f"only ratios of weights count; hold one of {', '.join(sorted(learnt))} fixed")

    def sizes(self, data: "AlloyData", settings: SplitSettings) -> dict[str, int]:
        """``n_sites``, ``n_train``, ``n_validation`` and ``n_folds``."""
        rows = split_rows(data, settings)
        n_sites, n_folds = data.info.lattice.n_sites, settings.folds
        n_train, n_validation = len(rows["train"]), len(rows["validation"])
        return {"n_sites": n_sites, "n_train": n_train, "n_validation": n_validation, "n_folds": n_folds}

    def epoch_work(self, config: AlloyConfig, sizes: Mapping[str, int], n_rows: int) -> float:
        """Images of all configurations, in each fold."""
        return sizes["n_train"] * config.n_images * sizes["n_folds"]

    def memory(self, config: AlloyConfig, sizes: Mapping[str, int], n_initializations: int = 1) -> TrainingMemory:
        """Float32 weights with gradients, two moments of the optimizer and the best so far; activations twice."""
        from .network import n_parameters

        n_networks = max(n_initializations, sizes["n_folds"])  # folds are trained on in trials alone
        rows = max(config.batch_size, sizes["n_validation"])
        per_row = config.width * (config.depth + 1) * len(config.learnt) + 4 * sizes["n_sites"]
        if config.architecture == "equivariant":
            per_row *= sizes["n_sites"] * (1 + config.shells)
        return TrainingMemory(
            weights=4 * 5 * n_networks * n_parameters(config, sizes["n_sites"]),
            activations=4 * 2 * n_networks * rows * per_row,
            points=4 * 4 * n_networks * sizes["n_train"] * sizes["n_sites"],
        )

    def terms(self, config: AlloyConfig, sizes: Mapping[str, int]) -> Sequence[float]:
        """What an image costs, a step of the optimizer, and a weight."""
        from .network import n_parameters

        weights = n_parameters(config, sizes["n_sites"]) / 1e4
        if config.architecture == "equivariant":
            weights *= sizes["n_sites"]
        n = config.n_images
        return (float(n), n / config.batch_size, n * weights)

    def split_for_training(self, data: "AlloyData", settings: SplitSettings) -> tuple["TrainingData", "Targets"]:
        """By whole orbits."""
        from .training_data import read_training_data

        return read_training_data(data, settings)

    def costs_of(self, config: AlloyConfig, sizes: Mapping[str, int], device: str) -> dict[str, float]:
        """Number of parameters, and time of a prediction among a thousand [µs a configuration]."""
        from .inference import inference_time
        from .network import n_parameters

        n_sites = sizes["n_sites"]
        return {
            "n_parameters": n_parameters(config, n_sites),
            "inference_time": inference_time(config, n_sites, device=device),
        }

    def train(
        self,
        config: AlloyConfig,
        data: "TrainingData",
        *,
        seeds: Sequence[int],
        device: str,
        memory: float,
        report: Callable[[Mapping[str, Any]], None],
        checkpoint: Path | None = None,
        checkpoint_epochs: Collection[int] | None = None,
        for_ranking: bool = False,
        begun: Any = None,
    ) -> "Trained":
        """As ``training.train``; reports are those of ``EpochReport``, of all folds together in a trial."""
        from .training import train

        sets = data.folds if for_ranking and data.folds else (data,)
        return train(
            config,
            [one for one in sets for _ in seeds],
            seeds=list(seeds) * len(sets),
            device=device,
            all_or_none=len(sets) > 1,
            report=lambda epoch: report(asdict(epoch)),
            checkpoint=checkpoint,
            checkpoint_epochs=checkpoint_epochs,
        )

    def judge(self, trained: "Trained", data: "TrainingData", test: "Targets") -> "AlloyJudgement":
        """Predictions beside the reference."""
        from .judgement import AlloyJudgement
        from .training import predict

        return AlloyJudgement(predict(trained.network, trained.scaling, test.sigma), test)

    def card(
        self,
        study: str,
        data: "AlloyData",
        settings: SplitSettings,
        config: AlloyConfig,
        seeds: Sequence[int],
        accuracy: "AlloyAccuracy",
    ) -> Card:
        """As ``card_for``."""
        from .card import card_for

        return card_for(study, data, settings, config, seeds, accuracy)

    def tensors(self, trained: "Trained") -> dict[str, NDArray[Any]]:
        """Weights of the networks, and the scaling under ``scaling.TASK``."""
        return trained.network.arrays() | {f"scaling.{task}": values for task, values in trained.scaling.items()}

    def surrogate(self, card: Any, tensors: dict[str, NDArray[Any]]) -> "AlloySurrogate":
        """As ``AlloySurrogate.assemble``."""
        from .surrogate import AlloySurrogate

        return AlloySurrogate.assemble(card, tensors)

    def accuracy(self, values: Mapping[str, Any]) -> "AlloyAccuracy":
        """From plain values."""
        from .accuracy import AlloyAccuracy

        return AlloyAccuracy.of(values)

    def generation(self, spec: Path) -> "AlloyGeneration":
        """What a specification, a TOML file, asks to compute.  Raises InputError."""
        from .generation import AlloyGeneration, AlloySpec

        return AlloyGeneration(AlloySpec.read(spec))

    def transition(
        self,
        data: "AlloyData",
        asked: Mapping[str, Any],
        execute: Execute,
        progress: Progress,
        surrogate: "AlloySurrogate | None" = None,
    ) -> "Transition":
        """Where the order of the alloy is lost; ``asked`` are keys of ``TransitionSettings``."""
        from .transition import transition_of

        return transition_of(data, asked, execute, progress, surrogate)

    def over_splits(
        self,
        data: "AlloyData",
        settings: SplitSettings,
        config: Mapping[str, Any],
        found: Mapping[str, AlloyConfig],
        n: int,
        orbits: Sequence[int],
    ) -> "Planned":
        """What a comparison repeats over n splits; as ``over_splits.planned``, with all baselines."""
        from .over_splits import planned

        baselines = {name: judge for name, (_, judge) in self.baselines.items()}
        return planned(data, settings, config, found, baselines, n, orbits)
