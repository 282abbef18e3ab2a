"""The hyperparameters of a surrogate: what a config λ may hold, their defaults and bounds."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import InputError

Activation = Literal["relu", "leaky_relu", "gelu", "silu", "tanh", "sigmoid"]


class SurrogateConfig(BaseModel):
    """Architecture and training of one LDOS network (Fiedler et al. 2022, Eq. 3)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_layers: int = Field(default=2, ge=1, le=20, description="number of hidden layers")
    width: int = Field(default=128, ge=1, le=16_384, description="neurons in each hidden layer")
    widths: tuple[Annotated[int, Field(ge=1, le=16_384)], ...] | None = Field(
        default=None, min_length=1, max_length=20, description="neurons layer by layer, instead of n_layers and width"
    )
    activation: Activation = Field(default="gelu", description="non-linearity after each hidden layer")
    learning_rate: float = Field(default=1e-3, gt=0, le=10, description="step of the optimizer")
    batch_size: int = Field(default=256, ge=1, le=1_000_000, description="grid points a step")
    optimizer: Literal["adam", "adamw", "sgd"] = Field(default="adam", description="optimizer")
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="decay of the weights")
    schedule: Literal["constant", "cosine"] = Field(default="cosine", description="learning rate over the epochs")
    epochs: int = Field(default=40, ge=1, le=100_000, description="largest number of epochs")
    patience: int = Field(default=8, ge=1, description="epochs without a better validation loss before stopping")

    @property
    def hidden(self) -> tuple[int, ...]:
        """Neurons of each hidden layer."""
        return self.widths or (self.width,) * self.n_layers

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "SurrogateConfig":
        """A config from plain values.

        Raises:
            InputError: an unknown name or a value out of range, naming it.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            if first["type"] == "extra_forbidden":
                close = difflib.get_close_matches(name, cls.model_fields, n=1)
                hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(cls.model_fields)}"
                raise InputError(f"unknown hyperparameter '{name}'; {hint}") from error
            raise InputError(f"hyperparameter '{name}': {first['msg']}, got {first['input']!r}") from error
