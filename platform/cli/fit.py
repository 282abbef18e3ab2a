"""`dftune fit`: a surrogate without training and without a search."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from .options import address_option, dataset_argument, json_option
from .tables import echo, print_json


@click.command()
@dataset_argument
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="A key of a study file, as descriptors.cutoff=3.0 or config.width=512; may be repeated.",
)
@click.option(
    "--initializations",
    type=click.IntRange(min=1),
    help="T, networks whose mean predicts and whose spread is stated.  [default: 5]",
)
@click.option("--seed", type=click.IntRange(min=0), help="Equal seeds give equal surrogates.  [default: 0]")
@address_option
@json_option
def fit(
    dataset: str,
    model: Path,
    settings: tuple[str, ...],
    initializations: int | None,
    seed: int | None,
    address: str | None,
    as_json: bool,
) -> None:
    """Make a surrogate of DATASET without training.

    There is no search, either.  The surrogate is written to the folder MODEL.

    The hidden layers of its networks are random.  Their last layer is solved in one step, from the LDOS and, where the
    dataset has them, from the DFT's energies and forces.  The test snapshots judge it, as they judge the surrogate of a
    study; if there are none, those of validation do, which chose it, too.  `dftune study run` begins with the same one,
    and searches for a better one.

    \b
    Example:
      dftune fit examples/al4 al4.model
      dftune fit examples/al4 al4.model --set descriptors.cutoff=3.0 --set descriptors.two_j_max=8
    """
    from ..progress import for_terminal
    from ..study.fit import fit

    asked: dict[str, Any] = tables_of(settings)
    asked |= {k: v for k, v in (("initializations", initializations), ("seed", seed)) if v is not None}
    made = fit(dataset, model, address=address, progress=for_terminal(), **asked)
    if as_json:
        return print_json(made.card.model_dump(mode="json"), made.kind.units)
    echo(*made.card.lines())
    echo("", f"model: {model}; use it with `dftune model predict {model} STRUCTURE`")


def tables_of(settings: Sequence[str]) -> dict[str, Any]:
    """Keys with dots as tables in tables; a value is as in TOML, or a text.  Raises BadParameter: one without ``=``."""
    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        *tables, name = key.strip().split(".")
        if not equals or not all([*tables, name]):
            raise click.BadParameter(f"{setting!r} is not KEY=VALUE", param_hint="--set")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text.strip()
        place = found
        for table in tables:
            place = place.setdefault(table, {})
            if not isinstance(place, dict):
                raise click.BadParameter(f"{setting!r}: {table} has a value already", param_hint="--set")
        place[name] = value
    return found
