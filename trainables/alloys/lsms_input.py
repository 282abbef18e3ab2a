"""Inputs of LSMS from a configuration.  Å here; bohr and Ry in the file.

i_lsms                  the calculation, in Lua; of each atom where it is, and which potential it starts from
v_NAME.0, v_NAME.1 ...  starting potentials, as text; LSMS writes those it ends with to w_NAME.0 ..., one a site
"""

from collections.abc import Sequence
from typing import Annotated, Self

import numpy as np
from ase.data import atomic_numbers
from pydantic import Field, field_validator, model_validator

from ..data.generating.spec import Table
from ..errors import InputError
from ..physics.units import BOHR
from .lattice import Lattice
from .lsms import CONVERGED

# The rows of transition metals: first and last atomic number, electrons of the core and of the semicore.
_METALS = ((21, 30, 10, 8), (39, 48, 28, 8), (72, 80, 46, 22))


class LsmsSettings(Table):
    """How LSMS computes, and how it is started: the table [lsms] of a specification."""

    command: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=("lsms",), min_length=1, description="the program, or how it is started"
    )
    cpus: int = Field(default=1, ge=1, le=1024, description="that a run takes, on one node")
    limit: float = Field(default=3600, gt=0, description="seconds after which a run is taken to hang")
    potentials: dict[str, str] = Field(min_length=1, description="chemical symbol -> file of its starting potential")
    electrons: dict[str, tuple[int, int, int]] = Field(
        default={}, description="chemical symbol -> core, semicore and valence electrons; transition metals need none"
    )
    spin: bool = Field(default=False, description="moments, along one direction")
    zone: float = Field(gt=0, le=50, description="radius of the local interaction zone [Å]")
    lmax: int = Field(default=3, ge=1, le=6, description="largest angular momentum")
    iterations: int = Field(default=60, ge=1, le=10_000, description="of the SCF; if they do not do, as many again")
    tolerance: float = Field(default=1e-6, gt=0, le=CONVERGED, description="largest residual of a converged run")
    energies: int = Field(default=31, ge=3, le=1000, description="points of the energy contour")
    bottom_ry: float = Field(default=-0.5, ge=-10, lt=0, description="where the contour begins [Ry]")
    mixing: float = Field(default=0.1, gt=0, le=1, description="Broyden mixing of the potential")
    first_mixing: float | None = Field(
        default=None, gt=0, le=1, description="while there are no potentials but the given ones; default mixing"
    )

    @field_validator("command", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _electrons_add_up(self) -> Self:
        for symbol, parts in self.electrons.items():
            if symbol not in atomic_numbers or min(parts) < 0 or sum(parts) != atomic_numbers[symbol]:
                raise ValueError(f"electrons of {symbol} are {list(parts)}, which is not all that it has")
        return self

    @property
    def physics(self) -> dict[str, object]:
        """What decides about the results, but for their tolerance."""
        how = {"command", "cpus", "limit", "potentials", "iterations", "mixing", "first_mixing"}
        return self.model_dump(mode="json", exclude=how)

    def electrons_of(self, symbol: str) -> tuple[int, int, int]:
        """Core, semicore and valence electrons of an element, as LSMS's own examples have them.

        Raises:
            InputError: it is no transition metal, and nothing is said of it.
        """
        if symbol in self.electrons:
            return self.electrons[symbol]
        z = atomic_numbers[symbol]
        for first, last, core, semicore in _METALS:
            if first <= z <= last:
                return core, semicore, z - core - semicore
        raise InputError(
            f"{symbol} is no transition metal, so say its core, semicore and valence electrons: [lsms.electrons] "
            f"{symbol} = [core, semicore, valence]"
        )


def lsms_input(
    lattice: Lattice, symbols: Sequence[str], potentials: Sequence[int], settings: LsmsSettings, *, mixing: float
) -> str:
    """The i_lsms of a configuration.

    Args:
        lattice: where its sites are.
        symbols: the element on each site.
        potentials: the number of the starting potential of each site.
        settings: how it is computed.
        mixing: of the potential.

    Raises:
        InputError: the electrons of an element are not known.
    """
    name = name_of(symbols)
    lines = [
        f'systemid="{name}"',
        f'system_title="{name} fixed-lattice configuration"',
        "pot_in_type=1",
        "pot_out_type=1",
        f"num_atoms={lattice.n_sites}",
        f"nspin={2 if settings.spin else 1}",
        "mtasa=0",
        "xcFunctional={0,1}",
        "iprint=-1",
        "default_iprint=-1",
        "print_node=0",
        'istop="main"',
        f"nscf={settings.iterations}",
        f"rmsTolerance={settings.tolerance:g}",
        "energyTolerance=1.e-10",
        "xRepeat=1",
        "yRepeat=1",
        "zRepeat=1",
        "makeTypesUnique=1",
        f"energyContour={{npts={settings.energies},grid=2,ebot={settings.bottom_ry:g},etop=0.0,eitop=0.825,"
        "eibot=0.0025}",
        "bravais={}",
        *(f"bravais[{n}]={_vector(row)}" for n, row in enumerate(np.array(lattice.cell) / BOHR, 1)),
        f'mixing={{{{quantity="potential",algorithm="broyden",mixing_parameter={mixing:g}}}}}',
        "numberOfMixQuantities=1",
        "site={}",
    ]
    for n, (place, symbol, potential) in enumerate(zip(lattice.positions / BOHR, symbols, potentials, strict=True), 1):
        core, semicore, valence = settings.electrons_of(symbol)
        lines.append(
            f"site[{n}]={{pos={_vector(place)},evec={{0,0,1}},pot_in_idx={potential},"
            f'atom="{symbol}",Z={atomic_numbers[symbol]},Zc={core},Zs={semicore},Zv={valence},'
            f"lmax={settings.lmax},rLIZ={settings.zone / BOHR:g},rsteps={{89.5,91.5,93.2,99.9}},rad=2}}"
        )
    return "\n".join(lines) + "\n"


def name_of(symbols: Sequence[str]) -> str:
    """The name by which LSMS calls the potentials of a configuration."""
    return "".join(sorted(set(symbols)))


def _vector(values: Sequence[float]) -> str:
    return "{" + ",".join(f"{value + 0.0:.12f}" for value in values) + "}"
