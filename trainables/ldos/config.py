"""The hyperparameters of a surrogate: what a config λ may hold, their defaults and bounds."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..descriptors.settings import FURTHEST, BispectrumSettings
from ..errors import InputError, did_you_mean, one_line

Activation = Literal["relu", "leaky_relu", "gelu", "silu", "tanh", "sigmoid"]
Architecture = tuple[tuple[int, ...], str]  # neurons of the hidden layers, activation
MOST_LAYERS = 20
SOLVED = (("readout", "always"),)  # without it energies and forces of a trial say nothing of those in the end
OF_LAYER = re.compile(r"width_([1-9]|1\d|20)")  # the neurons of one layer, in place of ``width``

# Whole numbers and numbers as they are: "2" and true are neither.
_Whole = Annotated[int, Field(strict=True)]
_Number = Annotated[float, Field(strict=True)]
_Width = Annotated[_Whole, Field(ge=1, le=16_384)]


class SurrogateConfig(BaseModel):
    """Architecture and training of one LDOS network (Fiedler et al. 2022, Eq. 3)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_layers: _Whole = Field(default=2, ge=1, le=MOST_LAYERS, description="number of hidden layers")
    width: _Width = Field(
        default=128, description="neurons in each hidden layer that has none of its own (width_1, ...)"
    )
    widths: tuple[_Width, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_LAYERS,
        description="neurons layer by layer, instead of n_layers and width",
    )
    activation: Activation = Field(default="gelu", description="non-linearity after each hidden layer")
    learning_rate: _Number = Field(default=3e-3, gt=0, le=10, description="step of the optimizer")
    batch_size: _Whole = Field(default=256, ge=1, le=1_000_000, description="grid points a step")
    optimizer: Literal["adam", "adamw", "sgd"] = Field(default="adam", description="optimizer")
    weight_decay: _Number = Field(default=0.0, ge=0, le=1, description="decay of the weights")
    schedule: Literal["constant", "cosine"] = Field(default="cosine", description="learning rate over the epochs")
    epochs: _Whole = Field(default=4, ge=1, le=100_000, description="largest number of epochs")
    patience: _Whole = Field(default=8, ge=1, description="epochs without a better validation loss before stopping")
    training: Literal["adam", "none"] = Field(
        default="adam", description="of the hidden layers: by the optimizer, or none, they stay as they are drawn"
    )
    readout: Literal["never", "final", "always"] = Field(
        default="final",
        description="when the last layer is solved in closed form: in the final training, or in trials too",
    )
    weight_scale: _Number = Field(
        default=1.0, gt=0, le=100, description="factor of the hidden layers' random weights, without training"
    )
    connected: _Number = Field(
        default=1.0,
        gt=0,
        le=1,
        description="share of the layer before it that a random neuron sees, without training",
    )
    penalty: _Number | None = Field(
        default=None, gt=0, le=1e12, description="ridge penalty of the readout; None: validation snapshots choose it"
    )
    energy_weight: _Number = Field(
        default=1e8,
        ge=0,
        le=1e15,
        description="of the training snapshots' energies in the readout [(eV/atom)^-2]; 0: none",
    )

    energies: Literal["absolute", "fermi"] = Field(
        default="absolute",
        description="of the LDOS: as the DFT has them, or relative to the Fermi level, which holds over volumes",
    )
    force_weight: _Number = Field(
        default=1e6, ge=0, le=1e15, description="of the training snapshots' forces in the readout [(eV/Å)^-2]; 0: none"
    )

    stress_weight: _Number = Field(
        default=0.0,
        ge=0,
        le=1e15,
        description="of the training snapshots' stresses in the readout [(eV/Å³)^-2]; 0: none",
    )

    dos_weight: _Number = Field(
        default=0.0,
        ge=0,
        le=1e15,
        description="of the training snapshots' DOS in the readout [(eV atom)^2]; 0: none",
    )

    cutoff: _Number | None = Field(
        default=None, gt=0, le=FURTHEST, description="of the descriptors [Å]; None: what [descriptors] says"
    )
    inner_share: _Number | None = Field(
        default=None, ge=0, lt=1, description="of the cutoff: a shorter one beside it; 0: none"
    )
    two_j_max: _Whole | None = Field(
        default=None, ge=2, le=14, multiple_of=2, description="of the descriptors; None: what [descriptors] says"
    )

    @model_validator(mode="before")
    @classmethod
    def _without_training(cls, values: Any) -> Any:
        """What is not said of a network that is not trained: one wide layer, one pass over the data."""
        if not isinstance(values, Mapping) or values.get("training") != "none":
            return values
        return {"n_layers": 1, "width": 1024, "activation": "silu", **values, "epochs": 1, "readout": "always"}

    @model_validator(mode="after")
    def _with_a_readout(self) -> "SurrogateConfig":
        """The energy that a Fermi level is measured from is part of the readout."""
        if self.energies == "fermi" and self.readout == "never":
            raise ValueError("energies = 'fermi' needs the readout; leave out readout = 'never'")
        return self

    @property
    def hidden(self) -> tuple[int, ...]:
        """Neurons of each hidden layer."""
        return self.widths or (self.width,) * self.n_layers

    def descriptors(self, settings: BispectrumSettings) -> BispectrumSettings:
        """Those that it learns from, where it does not leave them to ``settings``.

        Raises:
            InputError: as ``BispectrumSettings``.
        """
        inner = None
        if self.inner_share is not None:
            length = round(self.inner_share * (self.cutoff or settings.cutoff), 6)  # [Å]
            inner = (length,) if length else ()
        own = {"cutoff": self.cutoff, "two_j_max": self.two_j_max, "inner": inner}
        changed = {name: value for name, value in own.items() if value is not None}
        try:
            return BispectrumSettings.model_validate({**settings.model_dump(), "engine": settings.engine, **changed})
        except ValidationError as error:
            raise InputError(one_line(error)) from error

    def n_in(self, sizes: Mapping[str, int]) -> int:
        """Components of its descriptors, of the sizes of a study; early ledgers say no 2J_max, nor do their configs."""
        if "two_j_max" not in sizes:
            return sizes["n_in"]
        said, own = sizes["two_j_max"], self.two_j_max or sizes["two_j_max"]
        n_cutoffs = sizes["n_cutoffs"] if self.inner_share is None else 1 + (self.inner_share > 0)
        one_cutoff = sizes["n_in"] // sizes["n_cutoffs"]
        of_one_species = BispectrumSettings(two_j_max=said).n_components
        return one_cutoff // of_one_species * n_cutoffs * BispectrumSettings(two_j_max=own).n_components

    @property
    def seen_by_scores(self) -> Architecture:
        """All that a training-free score sees of it."""
        return self.hidden, self.activation

    def __str__(self) -> str:
        """The network in a few characters: 2 x 128 gelu."""
        widths = self.hidden
        size = f"{len(widths)} x {widths[0]}" if len(set(widths)) == 1 else "-".join(map(str, widths))
        return f"{size} {self.activation}"

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "SurrogateConfig":
        """A config from plain values; ``width_1``, ``width_2``, ... are the neurons of single layers.

        Raises:
            InputError: an unknown name, a value out of range, or a layer that there is not, naming it.
        """
        own = {name: value for name, value in values.items() if OF_LAYER.fullmatch(name)}
        config = cls._of({name: value for name, value in values.items() if name not in own})
        if not own:
            return config
        if config.widths is not None:
            raise InputError(f"'widths' says the neurons of all layers; leave it or '{next(iter(own))}' out")
        for name in own:
            if int(name.removeprefix("width_")) > config.n_layers:
                raise InputError(
                    f"'{name}' is of a layer that a network with n_layers = {config.n_layers} has not; "
                    "give it in [space] with when = { n_layers = [...] }, the numbers of layers that have it"
                )
        widths = tuple(own.get(f"width_{k}", config.width) for k in range(1, config.n_layers + 1))
        return cls._of({**config.model_dump(), "widths": widths}, a_width="width_{}")

    @classmethod
    def _of(cls, values: Mapping[str, Any], *, a_width: str = "widths, layer {}") -> "SurrogateConfig":
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors()[0]
            if not first["loc"]:  # of several together
                raise InputError(first["msg"].removeprefix("Value error, ")) from error
            field, *places = first["loc"]
            name = a_width.format(int(places[0]) + 1) if places else str(field)
            if first["type"] == "extra_forbidden":
                layers = f"width_1 to width_{MOST_LAYERS}"
                hint = (
                    f"layers have {layers}"
                    if name.startswith("width_")
                    else did_you_mean(name, [*cls.model_fields, layers])
                )
                raise InputError(f"unknown hyperparameter '{name}'; {hint}") from error
            raise InputError(f"hyperparameter '{name}': {first['msg']}, got {first['input']!r}") from error
