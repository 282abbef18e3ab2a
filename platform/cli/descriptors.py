"""`dftune descriptors`: compute them, and find good settings for them."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from .options import SYMBOLS, ListOf, address_option, dataset_argument, json_option
from .tables import echo, print_json, print_table

if TYPE_CHECKING:
    from ...trainables.data.dataset import Dataset
    from ...trainables.descriptors.settings import BispectrumSettings, Engine
    from ..screen.result import Screen

cutoff_option = click.option("--cutoff", type=float, help="R_cut [Å].  [default: 4.68]")
two_j_max_option = click.option(
    "--two-j-max", type=int, help="2 J_max: 4, 6, 8, 10 give 14, 30, 55, 91 numbers.  [default: 10]"
)


class OfSpecies(click.ParamType):
    """Numbers of species, with commas between them."""

    name = "numbers of species"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            pairs = [part.split("=") for part in value.split(",")]
            found = {symbol.strip(): float(number) for symbol, number in pairs}
        except ValueError:
            self.fail(f"'{value}' does not give numbers of species, such as Al=1,Mg=0.7", param, ctx)
        if len(found) < len(pairs):
            self.fail(f"'{value}' names a species twice", param, ctx)
        return found


def species_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that tell species apart."""
    for option in (
        click.option(
            "--chem",
            type=SYMBOLS,
            metavar="X,X,...",
            default=[],
            help="Species that each get a density: n³ times the numbers for n species.",
        ),
        click.option(
            "--radii",
            type=OfSpecies(),
            metavar="X=R,...",
            default={},
            help="Radius of each species: it counts within 2 R R_cut.  [default: 0.5]",
        ),
        click.option(
            "--weights",
            type=OfSpecies(),
            metavar="X=W,...",
            default={},
            help="How much an atom of each species counts.  [default: 1]",
        ),
    ):
        command = option(command)
    return command


@click.group()
def descriptors() -> None:
    """Descriptors of the atomic environment of every grid point."""


@descriptors.command("compute")
@dataset_argument
@cutoff_option
@two_j_max_option
@click.option(
    "--inner",
    type=ListOf("lengths", "3.0,2.5"),
    default=[],
    metavar="R,R,...",
    help="Shorter cutoffs, with as many numbers for each [Å].",
)
@species_options
@click.option(
    "--engine",
    type=click.Choice(["native", "lammps", "fastest"]),
    default="native",
    show_default=True,
    help="What computes them. Both give the same numbers; LAMMPS takes some 15 times as long on a CPU. fastest: LAMMPS "
    "if it has a GPU and is faster there, else native.",
)
@click.option(
    "--cpus",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="CPUs of one node that share each piece of a snapshot: threads, or MPI ranks of LAMMPS.",
)
@address_option
def descriptors_compute(
    dataset: str,
    cutoff: float | None,
    two_j_max: int | None,
    inner: list[float],
    engine: "Engine",
    cpus: int,
    address: str | None,
    **of_species: Any,
) -> None:
    """Compute the descriptors of DATASET, in parallel.  They are the SNAP bispectrum of every grid point.

    Each CPU computes pieces of some 16,000 grid points, one after another.  With --cpus several CPUs share each piece.
    This can only be faster if there are fewer pieces than idle CPUs.

    Snapshots that have these descriptors already are skipped, so an interrupted run continues.  Where no setting is
    given and descriptors came with DATASET, as with a project of MALA, their settings are taken.

    \b
    Example:
      dftune descriptors compute examples/al4 --cutoff 4.68 --two-j-max 10
      dftune descriptors compute al256 --cpus 16
      dftune descriptors compute almg --weights Al=1,Mg=0.7
    """
    from ...trainables.data.dataset import Dataset
    from ...trainables.data.describable import check_settings
    from ...trainables.temporary import remove_left_over

    opened = Dataset.open(dataset)
    settings = _settings(opened, engine, {"cutoff": cutoff, "two_j_max": two_j_max, "inner": inner, **of_species})
    check_settings(opened, settings)
    remove_left_over(opened.path / "descriptors" / settings.key)
    missing = opened.without_descriptors(settings)
    place = f"{opened.location}/descriptors/{settings.key}"
    if missing:
        from ...cluster.connection import connected
        from ...cluster.descriptors.descriptors import compute_descriptors
        from ..progress import for_terminal

        progress = for_terminal()
        with closing(progress), connected(address, say=progress.say):
            compute_descriptors(
                opened,
                settings,
                cpus=cpus,
                progress=progress.update,
            ).close()
            progress.end("descriptors")
            if said := opened.not_stored(settings):
                progress.say(said)
    echo(f"{settings}: {len(missing)} computed, {len(opened.snapshots) - len(missing)} there already, in {place}")


@descriptors.command("check")
@dataset_argument
@click.option("--snapshot", metavar="ID", help="Snapshot to compute; the first one by default.")
@cutoff_option
@two_j_max_option
@species_options
@json_option
def descriptors_check(
    dataset: str,
    snapshot: str | None,
    cutoff: float | None,
    two_j_max: int | None,
    as_json: bool,
    **of_species: Any,
) -> None:
    """Compare the engines that compute descriptors.  They do so on some 2,000 grid points of a snapshot of DATASET.

    The native engine and LAMMPS must agree to 1e-10 of the largest value of each number. LAMMPS loses atoms that lie
    on a grid point, so all atoms are moved by 1e-7 Å for both. The exit code is 1 if they do not agree.

    \b
    Example:
      dftune descriptors check examples/al4 --two-j-max 8
    """
    from ...trainables.data.dataset import Dataset
    from ...trainables.data.describable import check_settings
    from ...trainables.descriptors.check import compare_engines
    from ...trainables.descriptors.species import species_of

    opened = Dataset.open(dataset)
    settings = _settings(opened, "native", {"cutoff": cutoff, "two_j_max": two_j_max, **of_species})
    check_settings(opened, settings)
    atoms = opened[snapshot] if snapshot is not None else opened.snapshots[0]
    species = species_of(atoms.numbers, settings)
    found = compare_engines(atoms.cell, atoms.positions, species, atoms.grid, settings)
    if as_json:
        print_json({"snapshot": atoms.id, **asdict(found), "agrees": found.agrees}, {"microseconds": "µs a grid point"})
    else:
        native, lammps = found.microseconds["native"], found.microseconds["lammps"]
        by = "LAMMPS on a GPU" if found.gpu else "LAMMPS"
        echo(
            f"snapshot {atoms.id}, {settings}, {found.n_points:,} grid points: native {native:.1f} µs a point, {by} "
            f"{lammps:.1f} µs ({lammps / native:.1f} times); they differ by {found.difference:.1e} of the largest value"
        )
    if not found.agrees:
        raise click.ClickException("the engines do not agree; please report this with the snapshot")


def _settings(dataset: "Dataset", engine: "Engine", options: Mapping[str, Any]) -> "BispectrumSettings":
    """Checked settings, of the descriptors that came with the dataset if no option says any; errors name the option."""
    from pydantic import ValidationError

    from ...trainables.descriptors.settings import BispectrumSettings
    from ...trainables.errors import one_line

    given = {name: value for name, value in options.items() if value or value == 0}
    if not given and dataset.info.descriptors is not None:
        return dataset.info.descriptors.model_copy(update={"engine": engine})
    try:
        return BispectrumSettings(**given, engine=engine)
    except ValidationError as error:
        raise click.UsageError(one_line(error)) from error


@descriptors.command("screen")
@dataset_argument
@click.option(
    "--cutoffs",
    type=ListOf("numbers", "3.0,3.5,4.0"),
    metavar="R,R,...",
    default="3,3.5,4,4.5,5,5.5",
    show_default=True,
    help="R_cut [Å].",
)
@click.option(
    "--two-j-max",
    type=ListOf("whole numbers", "4,6,8", int),
    metavar="N,N,...",
    default="4,6,8,10",
    show_default=True,
    help="2 J_max.",
)
@click.option(
    "--score",
    type=click.Choice(["kernel-ridge", "acsd"]),
    default="kernel-ridge",
    show_default=True,
    help="Score that decides the recommendation; both are computed.",
)
@click.option(
    "--variant",
    type=click.Choice(["paper", "clipped"]),
    default="paper",
    show_default=True,
    help="ACSD as the paper prints it, or with negative differences clipped as in the MALA code.",
)
@click.option(
    "--snapshots",
    type=int,
    default=4,
    show_default=True,
    help="Most training snapshots, and most validation snapshots, to use.",
)
@click.option(
    "--points", type=int, default=1000, show_default=True, help="Grid points to fit; 4/5 as many are predicted."
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the choice of snapshots and points.",
)
@click.option(
    "--train", is_flag=True, help="Also train a small network with each setting, and compare the scores with its error."
)
@species_options
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of results.  Results in it are not computed again.  [default: screens/DATASET]",
)
@address_option
@json_option
def descriptors_screen(
    dataset: str,
    cutoffs: list[float],
    two_j_max: list[int],
    score: Literal["kernel-ridge", "acsd"],
    variant: Literal["paper", "clipped"],
    snapshots: int,
    points: int,
    seed: int,
    train: bool,
    output: Path | None,
    address: str | None,
    as_json: bool,
    **of_species: Any,
) -> None:
    """Find cutoff and 2J_max for DATASET, without training.

    It scores every combination on a few grid points, in parallel.  The scores are the error on validation snapshots of
    kernel ridge regression fitted to training snapshots, and the paper's average cosine similarity distance (ACSD).
    Lower is better for both.  It recommends the smallest 2J_max, then the largest cutoff, whose score is within 1.5
    times the best.  An interrupted screen continues where it stopped.

    \b
    Example:
      dftune descriptors screen examples/al4 --cutoffs 2.5,3.5,4.68,5.5 --two-j-max 4,6,8,10
    """
    from ...trainables.data.dataset import Dataset
    from ..progress import for_terminal
    from ..screen.screen import screen

    progress = for_terminal()
    with closing(progress):
        found = screen(
            Dataset.open(dataset),
            cutoffs=cutoffs,
            two_j_max=two_j_max,
            score=score,
            variant=variant,
            snapshots=snapshots,
            points=points,
            seed=seed,
            train=train,
            output=output,
            address=address,
            progress=progress,
            **of_species,
        )
    if as_json:
        return print_json(found.as_dict())
    _show_screen(found)


def _show_screen(found: "Screen") -> None:
    trained = any(row.trained_error is not None for row in found.rows)
    rows = [
        {
            "cutoff": row.cutoff,
            "2J_max": row.two_j_max,
            "numbers": row.n_components,
            "kernel_ridge": float(f"{row.kernel_ridge:.3g}"),
            "acsd": float(f"{row.error('acsd', found.variant):.3g}"),
            "cost": float(f"{row.descriptor_cost:.3g}"),
            **({"trained": row.trained_error and float(f"{row.trained_error:.3g}")} if trained else {}),
            "": "<- recommended" if row == found.recommended else "",
        }
        for row in found.rows
    ]
    print_table(rows, units={"cutoff": "Å", "kernel_ridge": "1 - R²", "cost": "µs/grid point"})
    best = found.recommended
    echo("", f"recommended by {found.score}: --cutoff {best.cutoff:g} --two-j-max {best.two_j_max}")
    if found.regret is not None:
        echo(f"  its trained error is {100 * found.regret:.0f} % above that of the best setting")
    if found.qualities:
        echo("how well the scores rank the trained errors (τ = 1: perfectly):")
        for quality in found.qualities:
            echo(f"  {quality}")
    echo(f"table and figures: {found.folder}")
