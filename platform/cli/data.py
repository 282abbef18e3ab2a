"""`dftune data`: import, copy, look at, check datasets."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import dataset_argument, dataset_type, folder_argument, json_option
from .tables import print_json, print_table

if TYPE_CHECKING:
    from ...trainables.data.dataset import DatasetInfo


@click.group()
def data() -> None:
    """Datasets of DFT snapshots: import, copy, look at, check."""


@data.command("import")
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@folder_argument("dataset")
@click.option(
    "--validation", metavar="ID,ID,...", help="Snapshots to judge trials by.  [default: next to last quarter]"
)
@click.option("--test", metavar="ID,ID,...", help="Snapshots to judge the surrogate by.  [default: last quarter]")
@click.option(
    "--pseudopotentials",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of the UPF files that the snapshots name, for total free energies.  [default: beside the snapshots]",
)
@click.option("--source", help="Note on the origin of the data.")
def data_import(
    sources: tuple[Path, ...],
    dataset: Path,
    validation: str | None,
    test: str | None,
    pseudopotentials: Path | None,
    source: str | None,
) -> None:
    """Import snapshots from SOURCES into a new folder DATASET.

    SOURCES are folders, or JSON files, of snapshots in this layout: NNN.json (cell, positions, energies, energy grid;
    eV, Å), NNN.ldos.npy (LDOS [nx, ny, nz, n_energy] in 1/(eV Å³)) and, if there is one, NNN.dens.npy (density
    [nx, ny, nz] in 1/Å³).  Every snapshot is checked: shapes, finite values, electron count.

    Total free energies need the functional and the core charges too.  They come from the UPF files of the
    pseudopotentials; without these the import says so, and the rest works.

    \b
    Example:
      dftune data import runs/al4/ al4 --validation 006,007,008 --test 009,010,011
      dftune data import runs/al4/ al4 --pseudopotentials ~/pseudo
    """
    from ...trainables.data.importing.arrays import import_arrays

    made = import_arrays(
        sources,
        dataset,
        validation=_ids(validation),
        test=_ids(test),
        source=source,
        pseudopotentials=pseudopotentials,
        report=lambda line: click.echo(line, err=True),
    )
    click.echo(f"{len(made.snapshots)} snapshots in {made.path}")


def _ids(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


@data.command("copy")
@click.argument("source", type=dataset_type)
@click.argument("destination", type=dataset_type)
def data_copy(source: str, destination: str) -> None:
    """Copy the dataset SOURCE to DESTINATION; each is a folder or a URL (s3://, gs://, abfs://, hdfs://, file://).

    Descriptors come along.  The copy is a dataset only once all of it is there.

    \b
    Example:
      dftune data copy al4 s3://bucket/al4
      dftune data copy al4 "s3://bucket/al4?endpoint_override=minio.example.org:9000"
    """
    from ...trainables.data.mirror import copy_dataset

    click.echo(f"{copy_dataset(source, destination)} files in {destination}")


@data.command("show")
@dataset_argument
@json_option
def data_show(dataset: str, as_json: bool) -> None:
    """Show what DATASET holds.

    \b
    Example:
      dftune data show examples/al4
    """
    from ...trainables.data.dataset import Dataset

    opened = Dataset.open(dataset)
    rows = [
        {
            "id": s.id,
            "split": s.split,
            "group": s.group,
            "atoms": s.n_atoms,
            "grid": "x".join(map(str, s.grid)),
            "temperature": round(s.temperature, 1),
            "electrons": s.n_electrons,
            "total_energy": s.total_energy,
            "band_energy": s.band_energy,
            "fermi_level": s.fermi_level,
        }
        for s in opened.snapshots
    ]
    settings = opened.described()
    if as_json:
        return print_json(
            {"path": opened.location, **opened.info.model_dump(), "snapshots": rows, "descriptors": settings}
        )
    grid = opened.info.energy_grid
    click.echo(f"{opened.location}: {opened.info.source}")
    species = ", ".join(f"{symbol} ({valence:g} electrons)" for symbol, valence in opened.info.species.items())
    click.echo(
        f"species {species}; {grid.n_energy} energies from {grid.minimum:g} to {grid.energy[-1]:g} eV, "
        f"{grid.kernel} kernel of {grid.width:g} eV; descriptors computed: {', '.join(settings) or 'none'}"
    )
    click.echo(_free_energies(opened.info))
    print_table(rows, units={"temperature": "K", "total_energy": "eV", "band_energy": "eV", "fermi_level": "eV"})


def _free_energies(info: "DatasetInfo") -> str:
    """What total free energies of this dataset rest on, or how to get them."""
    if info.dft is None:
        return (
            "total free energies: not available, as the functional and the core charges are not known; import again "
            "with the UPF files of the pseudopotentials (--pseudopotentials)"
        )
    cores = ", ".join(info.dft.core_charges) or "none"
    return (
        f"total free energies: functional {info.dft.functional}, density cutoff {info.dft.density_cutoff:.2f} eV, "
        f"core corrections: {cores}"
    )


@data.command("check")
@dataset_argument
@json_option
def data_check(dataset: str, as_json: bool) -> None:
    """Read every file of DATASET: checksums, finite values, electron counts, band energies against DFT.

    \b
    Example:
      dftune data check examples/al4
    """
    from ...trainables.data.dataset import Dataset

    opened = Dataset.open(dataset)
    rows = [
        {"id": r.id, "electrons_error": r.electrons_error, "band_energy_error": r.band_energy_error}
        for r in opened.check()
    ]
    if as_json:
        return print_json(rows)
    print_table(rows, units={"band_energy_error": "meV/atom"})
    click.echo("LDOS and densities are whole and agree with the DFT")
    click.echo(_free_energies(opened.info))
