"""`dftune descriptors`."""

from contextlib import closing
from pathlib import Path

import click

from .cli_shared import address_option, folder_argument


@click.group()
def descriptors() -> None:
    """Descriptors of the atomic environment of every grid point."""


@descriptors.command("compute")
@folder_argument("dataset")
@click.option("--cutoff", type=float, default=4.68, show_default=True, help="R_cut [Å].")
@click.option(
    "--two-j-max", type=int, default=10, show_default=True, help="2 J_max: 4, 6, 8, 10 give 14, 30, 55, 91 numbers."
)
@address_option
def descriptors_compute(dataset: Path, cutoff: float, two_j_max: int, address: str | None) -> None:
    """Compute the SNAP bispectrum of every grid point of DATASET, in parallel.

    Snapshots that have descriptors of these settings are left as they are, so an interrupted run goes on where it was.

    \b
    Example:
      dftune descriptors compute examples/al4 --cutoff 4.68 --two-j-max 10
    """
    from pydantic import ValidationError

    from ..trainables.bispectrum import BispectrumSettings
    from ..trainables.dataset import Dataset, one_line

    try:
        settings = BispectrumSettings(cutoff=cutoff, two_j_max=two_j_max)
    except ValidationError as error:
        raise click.UsageError(one_line(error)) from error
    opened = Dataset.open(dataset)
    missing = opened.without_descriptors(settings)
    place = opened.path / "descriptors" / settings.key
    if missing:
        from ..cluster.connection import connected
        from ..cluster.descriptors import compute_descriptors
        from .progress import for_terminal

        progress = for_terminal()
        with closing(progress), connected(address):
            compute_descriptors(
                opened, settings, progress=lambda done, total, text: progress.update("descriptors", done, total, text)
            ).close()
            progress.end("descriptors")
    click.echo(f"{settings}: {len(missing)} computed, {len(opened.snapshots) - len(missing)} there already, in {place}")
