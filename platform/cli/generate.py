"""`dftune data generate` and `dftune data converge`: DFT data that are computed here."""

from contextlib import closing
from pathlib import Path

import click

from .options import ListOf, address_option, folder_argument, json_option
from .tables import echo, print_json, print_table


@click.command("generate")
@click.argument("spec", type=click.Path(path_type=Path, dir_okay=False))
@folder_argument("dataset")
@click.option(
    "--without-failed", is_flag=True, help="Make the dataset of the finished snapshots, although others have failed."
)
@click.option(
    "--select",
    metavar="MODEL",
    type=click.Path(path_type=Path),
    help="Compute those training snapshots only that teach this model most; give their --number.",
)
@click.option("--number", "-n", type=click.IntRange(min=1), help="How many to select.")
@address_option
@json_option
def data_generate(
    spec: Path,
    dataset: Path,
    without_failed: bool,
    select: Path | None,
    number: int | None,
    address: str | None,
    as_json: bool,
) -> None:
    """Compute the dataset that SPEC, a TOML file, describes.  Its snapshots or configurations become DATASET.

    Quantum ESPRESSO computes each snapshot in a Ray task of its own (Debian: apt-get install quantum-espresso
    quantum-espresso-data).  The LDOS comes straight from the wavefunctions.  DATASET.runs keeps what is finished, so
    that nothing is computed twice: after Ctrl-C, a crash or a failure the same command goes on.  Remove DATASET.runs
    once DATASET is there.

    With --select the training snapshots of SPEC are candidates only.  The command chooses those that teach MODEL most:
    fitted again with them, it would know the free energies of all candidates best.  It says why it chose them, and what
    they are worth.  Validation and test snapshots are computed anyway.

    With kind = "alloys", SPEC describes configurations of an alloy on a lattice.  Your own LSMS or GFN1-xTB computes
    them (docs/alloys.md).

    \b
    Example:
      dftune data generate al.toml al
      dftune data generate CuAu.toml CuAu --without-failed
      dftune data generate al.toml al --address head:6379
      dftune data generate more.toml more --select al.model --number 10
    """
    from ..generate import generate
    from ..progress import for_terminal

    made = generate(
        spec,
        dataset,
        select=select,
        number=number,
        address=address,
        without_failed=without_failed,
        progress=for_terminal(),
    )
    if as_json:
        return print_json({"datasets": [{"path": str(one.path), "snapshots": list(one.ids)} for one in made]})
    for one in made:
        echo(f"{len(one.ids)} {one.what} in {one.path}")


@click.command("converge")
@click.argument("spec", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--cutoffs",
    type=ListOf("numbers", "8,10,12"),
    default=[],
    metavar="RY,RY,...",
    help="Cutoffs of the wavefunctions to compare [Ry].",
)
@click.option(
    "--k-points",
    type=ListOf("whole numbers", "4,6,8", int),
    default=[],
    metavar="N,N,...",
    help="Meshes of k-points to compare: points along the longest reciprocal vector; the others follow the cell.",
)
@click.option(
    "--widths",
    type=ListOf("numbers", "0.25,0.5"),
    default=[],
    metavar="EV,EV,...",
    help="Broadenings of the DOS [eV].  [default: those of SPEC]",
)
@click.option("--figure", type=click.Path(path_type=Path, dir_okay=False), help="PNG file to draw.")
@click.option(
    "--runs", type=click.Path(path_type=Path, file_okay=False), help="Folder of the SCFs.  [default: SPEC.converge]"
)
@address_option
@json_option
def data_converge(
    spec: Path,
    cutoffs: list[float],
    k_points: list[int],
    widths: list[float],
    figure: Path | None,
    runs: Path | None,
    address: str | None,
    as_json: bool,
) -> None:
    """Find cutoff and k-points that are enough for SPEC.

    Its first structure is computed with several of them, and each is compared with the last.

    The table has the differences of the free energy, the Fermi level, the forces and the DOS, and the CPU seconds.  The
    DOS needs far more k-points than the energy; the smaller its broadening, the more.

    \b
    Example:
      dftune data converge al.toml --cutoffs 10,15,20,30 --k-points 4,6,8,10 --widths 0.25,0.5 --figure al.png
    """
    from ...cluster.dft.converge import converge
    from ...trainables.data.generating.convergence import convergence_figure, units
    from ...trainables.data.generating.spec import GenerateSpec
    from ..model.calculator import mover
    from ..progress import for_terminal

    with closing(for_terminal()) as progress:
        rows = converge(
            GenerateSpec.read(spec),
            runs or spec.with_suffix(".converge"),
            cutoffs=cutoffs,
            k_points=k_points,
            widths=widths,
            surrogate=mover(progress.say),
            address=address,
            progress=progress,
        )
    if figure is not None:
        from ...trainables.drawing import save

        save(convergence_figure(rows), figure)
    if as_json:
        return print_json({"rows": [row.to_dict() for row in rows]}, units(rows))
    print_table([row.to_dict() for row in rows], units=units(rows))
    if figure is not None:
        echo(f"figure: {figure}")
