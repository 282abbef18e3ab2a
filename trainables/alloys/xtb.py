"""GFN1-xTB as a forward code, by the package tblite, inside the process.  eV, Å, K.

The Γ point alone, without spin: moments are zero.  Charges are Mulliken's, so never to be mixed with those of another
code.

Source: Grimme, Bannwarth, Shushkov, J. Chem. Theory Comput. 13, 1989 (2017).
"""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from pydantic import Field

from ..data.generating.computing import DONE, FAILURE
from ..data.generating.spec import Table
from ..errors import DatasetError, InputError, one_line
from ..files import read_text
from ..physics.units import BOHR, HARTREE, K_B
from .forward import Near
from .importers import read_lattice
from .lattice import Float64, Lattice
from .planning import FoundAlloy, FoundConfiguration

RESULT = "xtb.json"
HEAVIEST = 86  # GFN1-xTB has parameters up to radon


class XtbSettings(Table):
    """How GFN1-xTB computes: the table [xtb] of a specification."""

    cpus: int = Field(default=1, ge=1, le=1024, description="that a run takes")
    accuracy: float = Field(default=0.1, gt=0, le=1, description="of tblite: 1 is 1e-6 Hartree in the SCF")
    temperature: float = Field(default=300, gt=0, le=1e5, description="of the electrons [K]")
    iterations: int = Field(default=250, ge=1, le=100_000, description="of the SCF")


@dataclass(frozen=True)
class XtbOrder:
    """What is to be computed; fields as those of ``LsmsOrder``."""

    id: str
    lattice: Lattice
    symbols: tuple[str, ...]
    settings: XtbSettings
    key: str


def refuse_missing() -> None:
    """Raise InputError if the package is not installed on this machine."""
    if find_spec("tblite") is None:
        raise InputError(f"tblite is not installed on {os.uname().nodename}; pip install 'dftune[xtb]'")


def xtb(lattice: Lattice, symbols: Sequence[str], settings: XtbSettings) -> tuple[float, Float64]:
    """Energy and charges of a configuration.

    Args:
        lattice: its sites.
        symbols: the element on each site.
        settings: how it is computed.

    Returns:
        Total energy of the valence electrons [eV], and electrons of each site, Z minus Mulliken's charge, (n_sites,).

    Raises:
        InputError: tblite is not there, has no parameters, or the SCF does not converge.
    """
    refuse_missing()
    from tblite.exceptions import TBLiteRuntimeError
    from tblite.interface import Calculator

    numbers = np.array([atomic_numbers[symbol] for symbol in symbols])
    try:
        calculator = Calculator(
            "GFN1-xTB",
            numbers,
            lattice.positions / BOHR,
            lattice=np.array(lattice.cell) / BOHR,
            periodic=np.array([True] * 3),
        )
        calculator.set("verbosity", 0)
        calculator.set("accuracy", settings.accuracy)
        calculator.set("temperature", settings.temperature * K_B / HARTREE)
        calculator.set("max-iter", settings.iterations)
        found = calculator.singlepoint()
    except TBLiteRuntimeError as error:
        raise InputError(f"GFN1-xTB: {one_line(error, 200)}; raise [xtb] iterations or temperature") from None
    return float(found.get("energy")) * HARTREE, numbers - np.asarray(found.get("charges"), dtype=np.float64)


def compute(order: XtbOrder) -> dict[str, bytes]:
    """Compute a configuration; as ``lsms_run.compute``."""
    began, cpu = time.monotonic(), time.process_time()
    try:
        energy, charge = xtb(order.lattice, order.symbols, order.settings)
    except InputError as error:
        return {FAILURE: f"{one_line(error, 400)}\n".encode()}
    result = {"symbols": order.symbols, "energy": energy, "charge": charge.tolist()}
    about = {
        "key": order.key,
        "seconds": time.monotonic() - began,
        "cpu_seconds": time.process_time() - cpu,
        "machine": os.uname().nodename,
    }
    return {RESULT: json.dumps(result).encode(), DONE: json.dumps(about, indent=2).encode()}


class Xtb:
    """GFN1-xTB.

    Args:
        settings: how it computes.
        symbols: the two elements.

    Raises:
        InputError: there are no parameters of one.
    """

    name = "xtb"
    compute = staticmethod(compute)

    def __init__(self, settings: XtbSettings, symbols: tuple[str, str]) -> None:
        self.settings, self.cpus = settings, settings.cpus
        self.physics = settings.model_dump(mode="json", exclude={"cpus", "iterations"})
        if heavy := [symbol for symbol in symbols if atomic_numbers[symbol] > HEAVIEST]:
            raise InputError(f"GFN1-xTB has no parameters of {heavy[0]}; use another code")

    def refuse_missing(self) -> None:
        """As ``ForwardCode.refuse_missing``."""
        refuse_missing()

    def order(self, name: str, lattice: Lattice, symbols: tuple[str, ...], key: str, near: Near) -> XtbOrder:
        """As ``ForwardCode.order``; nothing is begun from a near one."""
        return XtbOrder(name, lattice, symbols, self.settings, key)

    def read(self, runs: Sequence[Path], lattice: Path) -> FoundAlloy:
        """As ``ForwardCode.read``."""
        found = [_read(folder / RESULT) for folder in runs]
        return FoundAlloy(found, read_lattice(lattice), "gfn1-xtb", "GFN1-xTB", settings=self.physics)


def _read(path: Path) -> FoundConfiguration:
    try:
        values = json.loads(read_text(path))
        numbers = np.array([atomic_numbers[symbol] for symbol in values["symbols"]])
        charge = np.array(values["charge"], dtype=np.float64)
        energy = float(values["energy"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: damaged ({one_line(error, 80)}); remove {path.parent}") from None
    return FoundConfiguration(path.parent.name, str(path), numbers, energy, charge, np.zeros(len(charge)), True)
