"""The species of a dataset or a surrogate, as files give them."""

from typing import Annotated

from ase.data import atomic_numbers
from pydantic import AfterValidator, Field


def _symbol(name: str) -> str:
    if not atomic_numbers.get(name, 0) > 0:
        raise ValueError(f"{name[:20]!r} is no chemical symbol")
    return name


Symbol = Annotated[str, AfterValidator(_symbol)]
Valence = Annotated[float, Field(gt=0, le=118, allow_inf_nan=False)]  # valence electrons of a pseudopotential
Species = Annotated[dict[Symbol, Valence], Field(min_length=1)]
