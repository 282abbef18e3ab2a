"""Units in which codes write an LDOS, and what turns them into ours, 1/(eV Å³)."""

import re

from ...errors import InputError
from ...physics.units import BOHR, RYDBERG

_ENERGIES = {"ev": 1.0, "ry": RYDBERG, "ha": 2 * RYDBERG, "hartree": 2 * RYDBERG}  # [eV]
_LENGTHS = {"å": 1.0, "a": 1.0, "ang": 1.0, "angstrom": 1.0, "bohr": BOHR, "a0": BOHR}  # [Å]
_UNIT = re.compile(r"1/\(([a-z]+)[\s*·]*([a-zå0]+?)(?:\^|\*\*)?[3³]\)")


def factor_of(unit: str) -> float:
    """What turns an LDOS in a unit, such as 1/(Ry bohr^3), into 1/(eV Å³).

    Raises:
        InputError: it is no such unit.
    """
    found = _UNIT.fullmatch(unit.strip().lower())
    if found is None or found[1] not in _ENERGIES or found[2] not in _LENGTHS:
        raise InputError(f"{unit[:40]!r} is no unit of an LDOS; write it as 1/(eV Å^3), 1/(Ry bohr^3) or 1/(eV bohr^3)")
    return 1 / (_ENERGIES[found[1]] * _LENGTHS[found[2]] ** 3)
