"""`dftune data grow`: DFT, a surrogate, and what it has to learn, round after round."""

from pathlib import Path
from typing import Any

import click

from .fit import tables_of
from .options import address_option, folder_argument, json_option
from .tables import echo, print_json, print_table


@click.command("grow")
@click.argument("spec", type=click.Path(path_type=Path, dir_okay=False))
@folder_argument("folder")
@click.option("--runs", type=int, required=True, help="DFT runs at most, with those of validation and test snapshots.")
@click.option(
    "--error",
    type=float,
    metavar="MEV",
    help="End when the free energies of validation snapshots are this good [meV/atom].",
)
@click.option("--first", default=4, show_default=True, help="Training snapshots before the first surrogate.")
@click.option("--each", default=2, show_default=True, help="Training snapshots of every further round.")
@click.option(
    "--md",
    type=float,
    metavar="KELVIN",
    help="Let molecular dynamics with the newest surrogate add candidates, at this temperature of the atoms.",
)
@click.option(
    "--md-steps",
    default=200,
    show_default=True,
    help="Steps of 1 fs of each of these runs; 20 frames of it are candidates.",
)
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="A setting of `dftune fit`, as descriptors.cutoff=3.0 or config.width=512; may be repeated.",
)
@address_option
@json_option
def data_grow(
    spec: Path,
    folder: Path,
    runs: int,
    error: float | None,
    first: int,
    each: int,
    md: float | None,
    md_steps: int,
    settings: tuple[str, ...],
    address: str | None,
    as_json: bool,
) -> None:
    """Compute what a surrogate has to learn, in rounds.  They end when it is good enough.

    SPEC is as for `dftune data generate`.  Its validation and test snapshots are computed first: they judge.  Its
    training snapshots are candidates, so give many; with --md the surrogate's own dynamics adds more.  A round computes
    some of them by DFT, fits a surrogate to all that is known (`dftune fit`), and chooses the candidates that would
    teach it most about the free energies of all of them.  It says which, and why.

    Growth ends when the validation snapshots reach --error, or after --runs.  FOLDER then has growth.png (the error
    over DFT runs, atoms and CPU time), grow.json (all rounds), and the dataset and model of each round.  After Ctrl-C,
    a crash or a failure the same command goes on; with more --runs, or another --error, it goes on from the end.

    Larger cells teach most.  Let SPEC have some that are twice the cutoff of the descriptors in each direction, also
    among the validation snapshots.

    \b
    Example:
      dftune data grow al.toml al-grown --runs 20 --error 1
      dftune data grow al.toml al-grown --runs 30 --error 1 --md 900 --set descriptors.cutoff=3.0
    """
    from ..grow.dynamics import Dynamics
    from ..grow.growth import FIGURE, Plan, grow
    from ..grow.record import UNITS
    from ..progress import for_terminal

    asked: dict[str, Any] = tables_of(settings)
    moves = None if md is None else Dynamics(md, md_steps)
    plan = Plan(runs=runs, error=error, first=first, each=each, dynamics=moves, settings=asked)
    made = grow(spec, folder, plan, address=address, progress=for_terminal())
    if as_json:
        return print_json(made.to_dict(), UNITS)
    print_table(made.record.rows(), units=UNITS)
    echo(made.ended)
    echo(f"figure: {made.path / FIGURE}; dataset: {made.data}; model: {made.model}")
