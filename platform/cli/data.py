"""`dftune data`: import, copy, show and check datasets."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import IDS, dataset_argument, dataset_type, folder_argument, json_option
from .tables import echo, print_json, print_table

if TYPE_CHECKING:
    from ...trainables.kind import Data, Kind


@click.group()
def data() -> None:
    """Datasets: import or compute them, check, change, export."""


@data.command("import")
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@folder_argument("dataset")
@click.option(
    "--validation",
    type=IDS,
    metavar="ID,ID,...",
    help="Snapshots that trials are judged by.  [default: next to last quarter; of two, the last]",
)
@click.option(
    "--test",
    type=IDS,
    metavar="ID,ID,...",
    help="Snapshots that the surrogate is judged by.  [default: last quarter; of two, none]",
)
@click.option(
    "--pseudopotentials",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of the UPF files that the snapshots name, for total free energies.  [default: beside the snapshots]",
)
@click.option(
    "--rule",
    metavar="NAME",
    help="Rule of integration over the energies, least-squares or linear.  [default: the better one on their grid]",
)
@click.option(
    "--kernel",
    type=click.Choice(["gaussian", "fermi-dirac"]),
    help="Shape of the broadening of the LDOS, where no file says it.",
)
@click.option("--width", type=float, metavar="EV", help="Width of the broadening [eV], where no file says it.")
@click.option(
    "--energies",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File that says the energies of the LDOS, where its layout keeps them elsewhere.  [default: look for one]",
)
@click.option("--unit", metavar="UNIT", help="Unit of the LDOS, such as '1/(Ry bohr^3)', where no file says it.")
@click.option(
    "--cutoff", type=float, metavar="Å", help="R_cut of descriptors that lie beside the LDOS, where no file says it."
)
@click.option(
    "--check",
    type=click.Choice(["strict", "warn"]),
    default="strict",
    show_default=True,
    help="Refuse what does not agree with the DFT, or import it with a warning.",
)
@click.option(
    "--dry-run", is_flag=True, help="Say what is there, what is missing and what would be done; write nothing."
)
@click.option(
    "--reader",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Python script with an importer of your own, called READER.  It is run, so trust it.",
)
@click.option("--source", help="Note on the origin of the data.")
@click.option(
    "--format", "importer", metavar="NAME", help="Importer of the files.  [default: the one that recognises them]"
)
def data_import(
    sources: tuple[Path, ...],
    dataset: Path,
    validation: list[str] | None,
    test: list[str] | None,
    pseudopotentials: Path | None,
    kernel: str | None,
    width: float | None,
    energies: Path | None,
    unit: str | None,
    cutoff: float | None,
    rule: str | None,
    check: str,
    dry_run: bool,
    source: str | None,
    importer: str | None,
    reader: Path | None,
) -> None:
    """Import snapshots from SOURCES into a new folder DATASET.

    SOURCES are files or folders that an importer recognises; packages can add importers.  dftune has six.

    "quantum-espresso" reads folders that pw.x and pp.x have left, and the folders in them: the log or
    data-file-schema.xml, the LDOS (plot_num = 3, a cube or xsf file for each energy), and the density (plot_num = 0).

    "mala" reads folders of MALA, or files NAME.out.npy or NAME.out.h5, with NAME.info.json, and what lies beside them:
    NAME.in.npy (descriptors), NAME.dens.npy (density), saved parameters.

    "arrays" reads folders, or JSON files, of snapshots: NNN.json (cell, positions, energies, energy grid; eV, Å),
    NNN.ldos.npy (LDOS [nx, ny, nz, n_energy] in 1/(eV Å³)) and, if there is one, NNN.dens.npy (density [nx, ny, nz] in
    1/Å³).

    "lsms", "alloy-table" and "hydragnn" read configurations of a binary alloy on a lattice: folders of LSMS runs
    (info_evec_out, i_lsms, k.out); Parquet tables; folders of text files.  The last two need a structure file of the
    sites, too.

    The import checks that LDOS, density, atoms, temperature and energies of a snapshot belong together, and says what
    it could not check.

    Total free energies also need the functional and the core charges, from the UPF files of the pseudopotentials.
    Without these files everything else works, and the import says so.

    \b
    Example:
      dftune data import qe-runs/ al4 --dry-run
      dftune data import qe-runs/ al4
      dftune data import runs/al4/ al4 --validation 006,007,008 --test 009,010,011
      dftune data import runs/al4/ al4 --pseudopotentials ~/pseudo
      dftune data import CuAu.parquet CuAu_sites.xyz CuAu
    """
    from ...trainables.data.importing.importer import Told
    from ...trainables.data.importing.importers import plan_import, reader_of
    from ...trainables.data.importing.planning import Plan
    from ...trainables.data.importing.writing import write_dataset
    from ...trainables.files import refuse_existing
    from ...trainables.kinds import importers

    def report(line: str) -> None:
        echo(line, err=True)

    refuse_existing(dataset)
    plan = plan_import(
        sources,
        importer=importer if reader is None else reader_of(reader),
        told=Told(
            pseudopotentials=pseudopotentials,
            kernel=kernel,  # type: ignore[arg-type]  # one of the choices
            width=width,
            energies=energies,
            unit=unit,
            cutoff=cutoff,
        ),
        validation=validation,
        test=test,
        rule=rule,  # type: ignore[arg-type]  # a name that is none is refused with those there are
        check=check,  # type: ignore[arg-type]  # one of the choices
        report=report,
        others=importers(),
    )
    if dry_run:
        for line in plan.lines():
            echo(line)
        return
    if isinstance(plan, Plan):
        made = write_dataset(plan, dataset, source=source, report=report)
        echo(f"{len(made.snapshots)} snapshots in {made.path}")
    else:
        for line in plan.write(dataset, source=source).lines():
            echo(line)


def _open(dataset: str) -> "Data":
    """A dataset, whatever kind of surrogates learns from it."""
    return _kind(dataset).open(dataset)


def _kind(dataset: str) -> "Kind":
    """The kind of surrogates that learns from a dataset."""
    from ...trainables.kinds import kind_at

    return kind_at(dataset)


@data.command("copy")
@click.argument("source", type=dataset_type)
@click.argument("destination", type=dataset_type)
def data_copy(source: str, destination: str) -> None:
    """Copy a dataset to or from a folder or a URL.

    SOURCE and DESTINATION are each a folder or a URL (s3://, gs://, abfs://, hdfs://, file://).

    Descriptors are copied, too.  An interrupted copy is not taken for a dataset; the
    same command goes on with it.  Nothing is overwritten, and what was written is compared with the source.

    \b
    Example:
      dftune data copy al4 s3://bucket/al4
      dftune data copy al4 "s3://bucket/al4?endpoint_override=minio.example.org:9000"
    """
    from ...trainables.data.mirror import copy_dataset

    echo(f"{copy_dataset(source, destination)} files in {destination}")


@data.command("show")
@dataset_argument
@click.option(
    "--figure", type=click.Path(path_type=Path, dir_okay=False), help="Draw the data of all snapshots to a PNG file."
)
@json_option
def data_show(dataset: str, figure: Path | None, as_json: bool) -> None:
    """Show what DATASET holds, and what is known of it.

    \b
    Example:
      dftune data show examples/al4
      dftune data show examples/al4 --figure dos.png
    """
    opened = _open(dataset)
    if figure is not None:
        opened.draw(figure)
    if as_json:
        return print_json(opened.to_dict(), {**_kind(dataset).units, **opened.units})
    for line in opened.lines():
        echo(line)
    print_table(opened.rows(), units=opened.units)


@data.command("check")
@dataset_argument
@json_option
def data_check(dataset: str, as_json: bool) -> None:
    """Read every file of DATASET and check it.

    Checks are checksums, finite values, and those of an import: what the LDOS and the density give, against the DFT.

    \b
    Example:
      dftune data check examples/al4
    """
    opened = _open(dataset)
    rows = [asdict(found) for found in opened.check()]
    if as_json:
        return print_json({"snapshots": rows}, {**_kind(dataset).units, **opened.units})
    if rows:
        print_table(rows, units=opened.units)
    for line in opened.checked_lines():
        echo(line)
