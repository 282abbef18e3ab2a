"""`dftune md fleet`: many runs at once, over temperatures and volumes."""

from pathlib import Path
from typing import Any

import click

from .options import ListOf, address_option, folder_argument, json_option
from .tables import echo, print_json, print_table

_NUMBERS = ListOf("numbers", "300,600,900")


@click.command("fleet")
@folder_argument("model")
@click.argument("structure", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--temperatures", type=_NUMBERS, metavar="T,...", required=True, help="Temperatures of the atoms [K].")
@click.option(
    "--volumes",
    type=_NUMBERS,
    metavar="V,...",
    default="1",
    show_default=True,
    help="Volumes, in units of STRUCTURE's.",
)
@click.option("--steps", type=int, help="Steps of each run in all.  [default: 1000]")
@click.option("--timestep", type=float, help="Length of a step [fs].  [default: 1]")
@click.option("--repeat", type=click.IntRange(1), nargs=3, metavar="NX NY NZ", help="Cells along each vector.")
@click.option("--electrons-follow", is_flag=True, help="The electrons have the temperature of the atoms.")
@click.option(
    "--left-out",
    default=0.2,
    show_default=True,
    help="Share of each run, from its start, that is left out of all means.",
)
@click.option("--seed", type=int, help="Equal seeds give equal runs.  [default: 0]")
@click.option(
    "--output", type=click.Path(path_type=Path), default="fleet", show_default=True, help="Folder of the runs."
)
@click.option(
    "--figure", type=click.Path(path_type=Path, dir_okay=False), help="Also draw free energies to a PNG file."
)
@address_option
@json_option
def md_fleet(model: Path, structure: Path, output: Path, figure: Path | None, as_json: bool, **asked: Any) -> None:
    """Run dynamics at many temperatures and volumes at once.  Each run of STRUCTURE is a Ray task of one CPU.

    The table has the mean free energy of the electrons, the pressure, and the free energy of electrons and atoms along
    each isotherm, which is the integral of the pressure.  After a stop or a kill the same command goes on.

    \b
    Example:
      dftune md fleet volumes.model POSCAR --temperatures 300,600,900 --volumes 0.96,1,1.04 --repeat 2 2 2
    """
    from ..md.fleet import UNITS, run_fleet
    from ..progress import for_terminal

    given = {name: value for name, value in asked.items() if value is not None}
    try:
        found = run_fleet(model, structure, output, progress=for_terminal(), **given)
    except KeyboardInterrupt:
        echo("stopped by Ctrl-C; the same command goes on", err=True)
        raise click.exceptions.Exit(130) from None
    if figure is not None:
        found.draw(figure)
    if as_json:
        return print_json(found.to_dict(), UNITS)
    print_table(found.to_dict()["points"], units=UNITS)
    for line in found.lines():
        echo(line)
