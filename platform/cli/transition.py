"""`dftune transition`: the temperature at which order is lost."""

from pathlib import Path
from typing import Any

import click

from .options import address_option, dataset_argument, json_option
from .tables import echo, print_json


@click.command()
@dataset_argument
@click.option("--content", type=float, help="Share of the second element.  [default: 0.5]")
@click.option(
    "--copies", type=click.IntRange(1), nargs=3, metavar="NX NY NZ", help="Copies of the data's cell.  [default: 2 2 2]"
)
@click.option(
    "--model",
    type=click.Path(path_type=Path, file_okay=False),
    help="Take the energies of the networks in this model folder.  [default: a shell model of the data]",
)
@click.option(
    "--draws", type=int, help="Models drawn from what the data leave possible, each simulated.  [default: 40]"
)
@click.option(
    "--configurations", type=int, help="Use this number of the configurations, drawn at random.  [default: all]"
)
@click.option("--temperatures", type=int, help="Temperatures of a simulation.  [default: 24]")
@click.option("--rounds", type=int, help="Measurements at each temperature.  [default: 2000]")
@click.option("--sweeps", type=int, help="Moves tried for each site between two measurements.  [default: 2]")
@click.option("--seed", type=int, help="Equal seeds give equal results.  [default: 0]")
@click.option("--figure", type=click.Path(path_type=Path, dir_okay=False), help="Also draw it, as a PNG file.")
@address_option
@json_option
def transition(
    dataset: str, model: Path | None, figure: Path | None, address: str | None, as_json: bool, **options: Any
) -> None:
    """Find the temperature at which an alloy loses its order.  DATASET is of it; an error bar comes with the answer.

    A linear shell model is fitted to the formation energies.  Many such models are drawn from what the data leave
    possible, and each is simulated by Monte Carlo with exchange of temperatures.  The transition is where the heat
    capacity is largest.  With --model the networks of a model take their place, and their spread is the error bar.

    \b
    Example:
      dftune transition examples/alloys/CuAu --figure CuAu.png
      dftune transition examples/alloys/CuAu --configurations 40 --json > CuAu40.json
    """
    from ..progress import for_terminal
    from ..transition import transition

    asked = {name: value for name, value in options.items() if value is not None}
    found = transition(dataset, model=model, address=address, progress=for_terminal(), **asked)
    if figure is not None:
        found.draw(figure)
    if as_json:
        return print_json(found.to_dict())
    echo(*found.lines())
    if figure is not None:
        echo(f"figure: {figure}")
