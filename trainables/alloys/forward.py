"""Forward codes: what computes energy, charges and moments of a configuration.  One interface for all of them.

To add one: a table of the specification, and a class here or beside.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from ..data.generating.spec import GenerateError
from .importers import LsmsImporter
from .lattice import Lattice
from .lsms_input import LsmsSettings
from .lsms_run import LsmsOrder, compute, find_command, potential_name
from .planning import FoundAlloy

Near = Callable[[str], tuple[str, bytes] | None]  # name of a kept file -> nearest finished run that has it, and content


class ForwardCode(Protocol):
    """A code, with its settings.

    name: of the stage in the progress.  cpus: that a run takes.  physics: what decides about its results.
    compute: does an order anywhere, and gives files to keep, ``DONE`` among them, or logs and ``FAILURE``.
    """

    @property
    def name(self) -> str: ...
    @property
    def cpus(self) -> int: ...
    @property
    def physics(self) -> Mapping[str, Any]: ...
    @property
    def compute(self) -> Callable[[Any], dict[str, bytes]]: ...

    def refuse_missing(self) -> None:
        """Raise InputError if the code is missing on this machine."""
        ...

    def order(self, name: str, lattice: Lattice, symbols: tuple[str, ...], key: str, near: Near) -> Any:
        """What ``compute`` takes.

        Args:
            name: of the configuration.
            lattice: its sites.
            symbols: the element on each of them.
            key: of all that decides about the result.
            near: gives a kept file of a near configuration, to begin from.
        """
        ...

    def read(self, runs: Sequence[Path], lattice: Path) -> FoundAlloy:
        """Finished runs, their folders in order; ``lattice`` is a structure file.  Raises DatasetError: damaged."""
        ...


class Lsms:
    """The user's own LSMS.

    Args:
        settings: how it is started, and how it computes.
        symbols: the two elements.

    Raises:
        InputError: potentials cannot be had, or the electrons of an element are not known.
    """

    name = "lsms"
    compute = staticmethod(compute)

    def __init__(self, settings: LsmsSettings, symbols: tuple[str, str]) -> None:
        self.settings, self.cpus, self.physics = settings, settings.cpus, settings.physics
        for symbol in symbols:
            settings.electrons_of(symbol)
        self._potentials = {symbol: _potential(settings, symbol) for symbol in symbols}

    def refuse_missing(self) -> None:
        """As ``ForwardCode.refuse_missing``."""
        find_command(self.settings.command)

    def order(self, name: str, lattice: Lattice, symbols: tuple[str, ...], key: str, near: Near) -> LsmsOrder:
        """As ``ForwardCode.order``; each element begins from the potential that is nearest, or from the given one."""
        potentials, sources = dict[str, bytes](), list[str]()
        for symbol, given in self._potentials.items():
            if symbol in symbols:
                found = near(potential_name(symbol))
                potentials[symbol] = found[1] if found else given
                sources += [found[0]] if found else []
        source = ", ".join(dict.fromkeys(sources)) if len(sources) == len(potentials) else None
        return LsmsOrder(name, lattice, symbols, self.settings, potentials, source, key)

    def read(self, runs: Sequence[Path], lattice: Path) -> FoundAlloy:
        """As ``ForwardCode.read``."""
        found = LsmsImporter().read([lattice, *runs], told=SimpleNamespace(), report=lambda line: None)
        return dataclasses.replace(found, settings=self.physics)


def _potential(settings: LsmsSettings, symbol: str) -> bytes:
    if symbol not in settings.potentials:
        raise GenerateError(f"key 'lsms.potentials': has no starting potential of {symbol}; name its file")
    path = Path(settings.potentials[symbol])
    try:
        return path.read_bytes()
    except OSError as error:
        raise GenerateError(f"{path}: the potential of {symbol} cannot be read ({error.strerror})") from None
