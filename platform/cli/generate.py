"""`dftune data generate` and `dftune data converge`: DFT data that are computed here."""

from contextlib import closing
from pathlib import Path

import click

from .options import address_option, folder_argument, json_option
from .tables import echo, print_json


@click.command("generate")
@click.argument("spec", type=click.Path(path_type=Path, dir_okay=False))
@folder_argument("dataset")
@click.option(
    "--without-failed", is_flag=True, help="Make the dataset of the finished snapshots, although others have failed."
)
@address_option
@json_option
def data_generate(spec: Path, dataset: Path, without_failed: bool, address: str | None, as_json: bool) -> None:
    """Compute the snapshots that SPEC, a TOML file, describes, and make DATASET of them.

    Quantum ESPRESSO computes (Debian: apt-get install quantum-espresso quantum-espresso-data), a Ray task for each
    snapshot.  The LDOS comes straight from the wavefunctions.  What is finished is kept in DATASET.runs and is never
    computed again: after Ctrl-C, a crash or a failure the same command goes on.  Remove DATASET.runs once DATASET is
    there.

    \b
    Example:
      dftune data generate al.toml al
      dftune data generate al.toml al --address head:6379
    """
    from ...cluster.dft.generate import generate
    from ...trainables.data.generating.spec import GenerateSpec
    from ..progress import for_terminal

    with closing(for_terminal()) as progress:
        made = generate(
            GenerateSpec.read(spec), dataset, address=address, without_failed=without_failed, progress=progress
        )
    if as_json:
        return print_json({"datasets": [{"path": str(one.path), "snapshots": [s.id for s in one]} for one in made]})
    for one in made:
        echo(f"{len(one)} snapshots in {one.path}")
