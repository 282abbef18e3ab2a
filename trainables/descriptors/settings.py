"""Settings of the bispectrum descriptors.  Lengths in Å."""

import hashlib
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_serializer, model_validator

FURTHEST = 20.0  # [Å]
MOST_COMPONENTS = 10_000
RADIUS = 0.5  # LAMMPS' radius of a species, for which the cutoff is R_cut


def _symbol(name: str) -> str:
    if not re.fullmatch("[A-Z][a-z]?", name):
        raise ValueError(f"{name[:20]!r} is no chemical symbol")
    return name


Symbol = Annotated[str, AfterValidator(_symbol)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Engine = Literal["native", "lammps", "fastest"]
OPTIONAL = ("weights", "radii", "chem", "inner")  # left out of keys where they say nothing


class BispectrumSettings(BaseModel):
    """SNAP bispectrum descriptors around each grid point (Fiedler et al. 2022, Eq. 7).

    Structures of several species need ``weights`` of all of them, or ``chem``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cutoff: float = Field(default=4.68, gt=0, le=FURTHEST, allow_inf_nan=False, description="R_cut [Å]")
    two_j_max: int = Field(default=10, ge=2, le=14, multiple_of=2, description="2 J_max, as LAMMPS counts it")
    inner: tuple[Number, ...] = Field(
        default=(), description="shorter cutoffs, with as many numbers for each, behind those of R_cut [Å]"
    )
    weights: dict[Symbol, Number] = Field(
        default={}, description="chemical symbol -> how much an atom counts, not 0; 1 by default"
    )
    radii: dict[Symbol, Number] = Field(
        default={}, description="chemical symbol -> R; an atom counts within 2 R R_cut; 0.5 by default"
    )
    chem: tuple[Symbol, ...] = Field(
        default=(), description="species with a density each; n³ times the numbers: LAMMPS' keyword chem"
    )

    engine: Engine = Field(
        default="native",
        exclude=True,
        description="what computes them, always the same numbers; fastest: LAMMPS on a GPU if faster, else native",
    )

    @field_validator("weights", "radii")
    @classmethod
    def _in_order(cls, values: dict[str, float]) -> dict[str, float]:
        return dict(sorted(values.items()))

    @field_validator("chem")
    @classmethod
    def _each_once(cls, chem: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(chem)))

    @field_validator("inner")
    @classmethod
    def _longest_first(cls, inner: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sorted(set(inner), reverse=True))

    @model_validator(mode="after")
    def _inside(self) -> "BispectrumSettings":
        if self.inner and not 0 < self.inner[-1] <= self.inner[0] < self.cutoff:
            raise ValueError(f"inner cutoffs must be above 0 and below the cutoff of {self.cutoff:g} Å")
        if self.inner and self.engine == "lammps":
            raise ValueError("inner cutoffs are computed by the native engine; leave engine out")
        return self

    @model_validator(mode="after")
    def _tells_species_apart(self) -> "BispectrumSettings":
        for symbol, weight in self.weights.items():
            if weight == 0:
                raise ValueError(f"weights of 0 hide {symbol}; give another number")
        for symbol, radius in self.radii.items():
            if not 0 < 2 * radius * self.cutoff <= FURTHEST:
                raise ValueError(
                    f"radii of {radius:g} let {symbol} count within {2 * radius * self.cutoff:g} Å (2 R R_cut); "
                    f"more than 0 and at most {FURTHEST:g} Å are possible"
                )
        if strange := sorted((set(self.weights) | set(self.radii)) - set(self.species)):
            where = "chem" if self.chem else "weights"
            raise ValueError(f"{where} must name {', '.join(strange)}, too, as there are weights or radii of it")
        seen: dict[tuple[float, float], str] = {}
        for symbol in () if self.chem else self.species:
            other = seen.setdefault((self.weight(symbol), self.radius(symbol)), symbol)
            if other != symbol:
                raise ValueError(
                    f"weights and radii of {other} and {symbol} are equal, so that descriptors could not tell them "
                    "apart; give other weights, or chem"
                )
        if self.n_components > MOST_COMPONENTS:
            cutoffs = f" at {1 + len(self.inner)} cutoffs" if self.inner else ""
            raise ValueError(
                f"chem of {len(self.chem)} species and 2J_max = {self.two_j_max}{cutoffs} give "
                f"{self.n_components:,} numbers a point, more than {MOST_COMPONENTS:,}; lower 2J_max, or use weights"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: Callable[["BispectrumSettings"], dict[str, Any]]) -> dict[str, Any]:
        """Without what one species and one cutoff do not need, so that keys of stored descriptors stay."""
        return {name: value for name, value in handler(self).items() if value or name not in OPTIONAL}

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols that they are for, in order; none: any one species."""
        return self.chem or tuple(self.weights) or tuple(self.radii)

    def weight(self, symbol: str) -> float:
        """How much an atom counts."""
        return self.weights.get(symbol, 1.0)

    def radius(self, symbol: str) -> float:
        """LAMMPS' radius: an atom counts within 2 R cutoff."""
        return self.radii.get(symbol, RADIUS)

    @property
    def n_components(self) -> int:
        """Length of the descriptor: 14, 30, 55, 91 for 2 J_max = 4, 6, 8, 10; with chem of n species n³ times that.

        And so many times that as there are cutoffs.
        """
        j = self.two_j_max // 2
        return (j + 1) * (j + 2) * (2 * j + 3) // 6 * max(1, len(self.chem)) ** 3 * (1 + len(self.inner))

    @property
    def of_each_cutoff(self) -> tuple["BispectrumSettings", ...]:
        """Those of each cutoff alone, in the order of their numbers."""
        return tuple(self.model_copy(update={"cutoff": r, "inner": ()}) for r in (self.cutoff, *self.inner))

    @property
    def key(self) -> str:
        """Name of the folder that holds descriptors of these settings: a hash of them."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    @property
    def options(self) -> str:
        """They as options of the command line."""
        found = [f"--cutoff {self.cutoff:g} --two-j-max {self.two_j_max}"]
        if self.inner:
            found.append(f"--inner {','.join(f'{r:g}' for r in self.inner)}")
        for name in ("weights", "radii"):
            if values := getattr(self, name):
                found.append(f"--{name} {','.join(f'{symbol}={value:g}' for symbol, value in values.items())}")
        return " ".join([*found, *([f"--chem {','.join(self.chem)}"] if self.chem else [])])

    def __str__(self) -> str:
        found = [f"cutoff {' and '.join(f'{r:g}' for r in (self.cutoff, *self.inner))} Å, 2J_max {self.two_j_max}"]
        for name in ("weights", "radii"):
            if values := getattr(self, name):
                found.append(f"{name} {' '.join(f'{symbol} {value:g}' for symbol, value in values.items())}")
        return ", ".join([*found, *([f"chem {' '.join(self.chem)}"] if self.chem else [])])
