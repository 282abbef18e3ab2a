"""The hyperparameters of an alloy network: what a config may hold, their defaults and bounds."""

from collections.abc import Hashable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import InputError, did_you_mean

Task = Literal["E", "C", "M"]
TASKS: tuple[Task, ...] = ("E", "C", "M")
Tasks = Literal["E", "C", "M", "EC", "EM", "CM", "ECM"]
NAMES: Mapping[Task, str] = {"E": "energy", "C": "charge", "M": "moment"}

_Whole = Annotated[int, Field(strict=True)]
_Number = Annotated[float, Field(strict=True)]
_Weight = Annotated[_Number, Field(gt=0, le=1e6)]


class AlloyConfig(BaseModel):
    """One network from the elements on all sites to energy, charges and moments (Lupo Pasini et al. 2020, sec. 3.2)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    architecture: Literal["single", "multi", "equivariant"] = Field(
        default="multi",
        description="a network a task; one with a common trunk, whose last hidden layer has width/T neurons a task; or "
        "one on neighbour shells, which no symmetry of the lattice changes and which fits cells of any size",
    )
    tasks: Tasks = Field(default="EC", description="what is learnt: E energy, C charges, M moments")
    depth: _Whole = Field(default=2, ge=1, le=20, description="number of hidden layers")
    width: _Whole = Field(default=200, ge=3, le=16_384, description="neurons in a hidden layer, of all tasks together")
    activation: Literal["relu", "leaky_relu", "gelu", "silu", "tanh", "sigmoid"] = Field(
        default="gelu", description="non-linearity after each hidden layer"
    )
    learning_rate: _Number = Field(default=2e-3, gt=0, le=10, description="step of the optimizer, at the beginning")
    alpha_energy: _Weight = Field(default=1.0, description="weight of the energy in the loss; only ratios count")
    alpha_charge: _Weight = Field(default=1.0, description="weight of the charges in the loss")
    alpha_moment: _Weight = Field(default=1.0, description="weight of the moments in the loss")
    epochs: _Whole = Field(default=200, ge=1, le=1_000_000, description="number of epochs")
    batch_size: _Whole = Field(default=128, ge=1, le=1_000_000, description="configurations a step")
    images: _Whole = Field(
        default=8,
        ge=0,
        le=10_000,
        description="images of each configuration in an epoch, drawn anew in each; 0: the configuration itself",
    )
    shells: _Whole = Field(default=6, ge=1, le=12, description="neighbour shells of an equivariant network")
    training: Literal["adam", "none"] = Field(
        default="adam", description="by the optimizer; or none, an equivariant network is its linear part alone"
    )

    @model_validator(mode="before")
    @classmethod
    def _without_training(cls, values: Any) -> Any:
        """What is not said of a network that is not trained."""
        if not isinstance(values, Mapping) or values.get("training") != "none":
            return values
        return {**values, "architecture": "equivariant", "width": 3, "depth": 1, "epochs": 1}

    @model_validator(mode="after")
    def _has_room(self) -> "AlloyConfig":
        if self.width < len(self.tasks):
            raise ValueError(f"width {self.width} leaves no neuron for each of {len(self.tasks)} tasks")
        return self

    @property
    def learnt(self) -> tuple[Task, ...]:
        """The tasks, in the order of TASKS."""
        return tuple(task for task in TASKS if task in self.tasks)

    @property
    def weights(self) -> dict[Task, float]:
        """α of each task in the loss; their sum is 1."""
        given = {task: getattr(self, f"alpha_{NAMES[task]}") for task in self.learnt}
        return {task: alpha / sum(given.values()) for task, alpha in given.items()}

    @property
    def n_images(self) -> int:
        """Images of a configuration in an epoch; an equivariant network sees no difference between them."""
        return 1 if self.architecture == "equivariant" else max(1, self.images)

    @property
    def seen_by_scores(self) -> Hashable:
        """All that a training-free score sees of it."""
        of_network = (self.architecture, self.tasks, self.depth, self.width, self.activation)
        return (*of_network, self.shells) if self.architecture == "equivariant" else of_network

    def __str__(self) -> str:
        """The network in a few characters: multi ECM 2 x 200 gelu."""
        if self.training == "none":
            return f"clusters {self.tasks} in {self.shells} shells"
        return f"{self.architecture} {self.tasks} {self.depth} x {self.width} {self.activation}"

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "AlloyConfig":
        """A config from plain values.  Raises InputError: an unknown name or a value out of range, naming it."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else "config"
            if first["type"] == "extra_forbidden":
                raise InputError(f"unknown hyperparameter '{name}'; {did_you_mean(name, cls.model_fields)}") from error
            said = first["msg"].removeprefix("Value error, ")
            given = f", got {first['input']!r}" if first["loc"] else ""
            raise InputError(f"hyperparameter '{name}': {said}{given}") from error
