"""`dftune compare`: every method on one dataset."""

from pathlib import Path

import click

from .options import address_option, json_option
from .tables import echo, print_json, print_table


@click.command()
@click.argument("spec", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default="comparisons",
    show_default=True,
    help="Folder that holds the comparisons.",
)
@address_option
@json_option
def compare(spec: Path, output: Path, address: str | None, as_json: bool) -> None:
    """Compare the methods on one dataset, at equal budgets.  Dataset and space are those of the study file SPEC.

    Each method searches with the same budget of training.  Its best config is trained again from several
    initialisations and judged on the test data.  Table [compare] of SPEC says which methods, seeds and budget.  The
    default is all methods that work in its space, with the training of 20 trials.  With `splits`, the best config
    is trained and judged on that many splits of the data, and so are the kind's baselines.  Ctrl-C stops it; repeat the
    command to continue.

    \b
    Example:
      dftune compare examples/compare.toml
    """
    import json

    from ..compare.comparison import Comparison
    from ..compare.report import baseline_rows, method_rows, score_rows, tables_over_splits
    from ..progress import for_terminal
    from ..spec import StudySpec

    study = StudySpec.read(spec)
    compared = Comparison(study, output).run(address=address, progress=for_terminal())
    if as_json:
        written = json.loads((compared.folder / "comparison.json").read_text(encoding="utf-8"))
        return print_json(written, study.of_kind.units)
    for heading, rows in (
        ("methods", method_rows(compared)),
        ("without a search", baseline_rows(compared)),
        ("scores", score_rows(compared)),
        *((heading, rows) for heading, _, rows in tables_over_splits(compared)),
    ):
        echo(f"{heading}:")
        if rows:
            print_table(rows)
        echo()
    echo(f"report: {compared.folder / 'report.html'}", f"        {compared.folder / 'report.md'}")
