"""The card of an alloy surrogate: the contents of its model.json.  eV, Å."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer

from ..surrogate import Card
from .accuracy import AlloyAccuracy
from .config import AlloyConfig
from .data import AlloyData
from .lattice import Lattice
from .order import contents_of, ranges_of
from .splits import SplitSettings, split_rows

Numbers = dict[str, float | int | None]


def _accuracy(values: Any) -> AlloyAccuracy:
    try:
        return AlloyAccuracy.of(values) if isinstance(values, Mapping) else values
    except (KeyError, TypeError) as error:
        raise ValueError(f"no accuracy of an alloy surrogate ({error})") from None


class AlloyCard(Card):
    """What an alloy surrogate is, besides its weights and scaling."""

    symbols: tuple[str, str] = Field(description="elements 0 and 1")
    lattice: Lattice
    pure_energies: tuple[float, float] = Field(description="of the pure crystals of elements 0 and 1 [eV/atom]")
    code: str = Field(description="what computed the data")
    splits: SplitSettings = Field(description="which of the dataset's configurations it was trained and judged on")
    accuracy: Annotated[
        AlloyAccuracy,
        BeforeValidator(_accuracy, json_schema_input_type=Numbers),
        PlainSerializer(lambda accuracy: accuracy.to_dict(), return_type=Numbers),
    ] = Field(description="on the test configurations")
    order: list[tuple[float, float]] = Field(
        default=[],
        description="least and largest Warren-Cowley parameter of each of the first neighbour shells among the "
        "configurations of both elements that it was trained on; models of before have none",
    )

    contents: list[float] = Field(
        default=[],
        description="shares of the second element among the configurations that it was trained on; models of before "
        "have none",
    )

    @property
    def subject(self) -> str:
        """What it is, in two or three words."""
        return f"surrogate for {''.join(self.symbols)} on a lattice"

    def facts(self) -> dict[str, str]:
        """Lattice and reference, for people."""
        config = AlloyConfig.of(self.config)
        cells = "cells of any size of it" if config.architecture == "equivariant" else "this cell alone"
        return {
            "lattice": f"{self.lattice.n_sites} sites, {len(self.lattice.permutations):,} symmetry operations; {cells}",
            "reference": f"{self.code}; formation energies against {self.symbols[0]} and {self.symbols[1]}",
        }


def card_for(
    study: str, data: AlloyData, settings: SplitSettings, config: AlloyConfig, seeds: Sequence[int], accuracy: Any
) -> AlloyCard:
    """The card of a surrogate just trained."""
    info, trained = data.info, data.all.species[split_rows(data, settings)["train"]]
    return AlloyCard(
        kind="alloys",
        study=study,
        config=config.model_dump(mode="json"),
        n_initializations=len(seeds),
        seeds=list(seeds),
        dataset=data.name,
        dataset_sha256=data.fingerprint,
        accuracy=accuracy,
        symbols=info.symbols,
        lattice=info.lattice,
        pure_energies=info.pure_energies,
        code=info.code,
        splits=settings,
        order=ranges_of(info.lattice, trained),
        contents=contents_of(trained),
    )
