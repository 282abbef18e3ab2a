"""What is asked of a run of molecular dynamics.  fs, K, GPa."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ...trainables.errors import InputError, one_line

Ensemble = Literal["nve", "nvt", "npt"]
OnExtrapolation = Literal["warn", "stop", "label"]


class MdSettings(BaseModel):
    """How atoms move.

    ``nve`` is velocity Verlet.  ``nvt`` adds the velocity rescaling of Bussi, Donadio and Parrinello, J. Chem. Phys.
    126, 014101 (2007).  ``npt`` has a Nosé-Hoover chain and a piston that scales the cell alike in all directions,
    Martyna, Tobias and Klein, J. Chem. Phys. 101, 4177 (1994).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    ensemble: Ensemble = Field(default="nvt", description="what is held: energy, temperature, or it and the pressure")
    temperature: float | None = Field(
        default=None, gt=0, le=1e6, description="of the atoms [K]; with nve that of the first velocities"
    )
    steps: int = Field(default=1000, ge=1, description="steps in all")
    timestep: float = Field(default=1.0, gt=0, le=100, description="length of a step [fs]")
    pressure: float | None = Field(default=None, ge=-1e4, le=1e4, description="that npt holds [GPa]; default 0")
    thermostat_time: float | None = Field(
        default=None,
        gt=0,
        le=1e6,
        description="in which nvt and npt bring the temperature back [fs]; default 100 steps",
    )
    barostat_time: float | None = Field(
        default=None, gt=0, le=1e6, description="in which npt brings the pressure back [fs]; default 1000 steps"
    )
    electronic_temperature: float | None = Field(
        default=None, gt=0, description="of the electrons, where the model takes one [K]; default as trained"
    )
    seed: int = Field(default=0, ge=0, description="equal seeds give equal runs")
    interval: int = Field(default=10, ge=1, description="steps between two frames of the trajectory")
    stress: bool = Field(default=False, description="also the pressure of each step; npt needs it and has it anyway")
    dos: bool = Field(default=False, description="also the density of states of each frame")
    on_extrapolation: OnExtrapolation = Field(
        default="warn", description="at a step unlike the training: say so, stop, or keep the frame for the DFT"
    )

    @classmethod
    def of(cls, **values: Any) -> "MdSettings":
        """They, from values of any origin.  Raises InputError: one is unknown, wrong or has no use."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InputError(one_line(error)) from error

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.temperature is None and self.ensemble != "nve":
            raise ValueError(f"{self.ensemble} needs a temperature")
        of_npt = {"pressure": self.pressure, "barostat_time": self.barostat_time}
        unused = of_npt if self.ensemble != "npt" else {}
        unused |= {"thermostat_time": self.thermostat_time} if self.ensemble == "nve" else {}
        for name, value in unused.items():
            if value is not None:
                raise ValueError(f"'{name}' has no use with ensemble '{self.ensemble}'; leave it out")
        for name in ("thermostat_time", "barostat_time"):
            if (time := getattr(self, name)) is not None and time < 10 * self.timestep:
                raise ValueError(f"'{name}' of {time:g} fs is less than ten steps of {self.timestep:g} fs; give more")
        return self

    @property
    def needs_stress(self) -> bool:
        """Whether each step needs the stress."""
        return self.stress or self.ensemble == "npt"
