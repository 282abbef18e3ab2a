"""`dftune model`: look at a surrogate, predict with it, check it."""

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import dataset_argument, folder_argument, json_option, print_json, print_table, show_accuracy

if TYPE_CHECKING:
    import ase

    from ...trainables.ldos.prediction import Prediction

# What `model predict --save` writes; here and not beside the writers, which are slow to import.
KINDS = ("density.cube", "density.npy", "density.arrow", "ldos.npy", "ldos.arrow", "dos.png")


@dataclass(frozen=True)
class _Found:
    """A structure by its file and number among the frames, what was predicted of it, and the files written."""

    name: str
    atoms: "ase.Atoms"
    prediction: "Prediction"
    files: list[Path]

    def to_dict(self) -> dict[str, Any]:
        return {"structure": self.name, **self.prediction.to_dict(), "files": list(map(str, self.files))}


# In the order of the sum A = E_b - τS - E_H + E_xc - ∫ v_xc n dr + E_Ewald.
_TERMS = {
    "band_energy": "band energy",
    "entropy_term": "entropy term -τS",
    "hartree_energy": "Hartree energy (subtracted)",
    "xc_energy": "xc energy",
    "xc_potential_energy": "∫ v_xc n dr (subtracted)",
    "ewald_energy": "Ewald energy",
}


def _print_prediction(found: _Found) -> None:
    """One prediction, for people."""
    p, atoms = found.prediction, found.atoms
    spacing = max(length / n for length, n in zip(atoms.cell.lengths(), p.grid, strict=True))
    grid = " x ".join(map(str, p.grid))
    click.echo(f"{found.name}: {p.n_atoms} atoms, {p.n_electrons:g} electrons at {p.temperature:.1f} K")
    click.echo(f"  grid {grid}: {spacing:.4f} Å apart, no more than in the training")

    def line(label: str, name: str, more: str = "") -> None:
        value = getattr(p, name)
        if value is not None:
            click.echo(f"  {label:32s}{value:14.4f} ± {p.std[name]:.4f} eV{more}")

    per_atom = "" if p.free_energy is None else f"   {p.free_energy / p.n_atoms:.5f} eV/atom"
    line("free energy", "free_energy", per_atom)
    for name, label in _TERMS.items():
        line(f"  {label}", name)
    line("Fermi level", "fermi_level")
    if p.forces is not None and p.forces_std is not None:
        click.echo("  forces [eV/Å]")
        for symbol, force, std in zip(atoms.get_chemical_symbols(), p.forces, p.forces_std, strict=True):
            numbers = "  ".join(f"{f:9.4f} ± {s:.4f}" for f, s in zip(force, std, strict=True))
            click.echo(f"    {symbol:2s}  {numbers}")
    share = f"{100 * p.outside:.2g} % of the grid points, by up to {p.furthest:.2g} standard deviations"
    click.echo(f"  outside the training range: {share if p.outside else 'none'}")
    times = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in p.seconds.items())
    click.echo(f"  time: {times}")


def _row(found: _Found) -> dict[str, Any]:
    """One prediction as a row of a table."""
    p = found.prediction
    return {
        "structure": found.name,
        "atoms": p.n_atoms,
        "grid": "x".join(map(str, p.grid)),
        "free_energy": None if p.free_energy is None else f"{p.free_energy:.4f} ± {p.std['free_energy']:.4f}",
        "fermi_level": f"{p.fermi_level:.4f} ± {p.std['fermi_level']:.4f}",
        "largest_force": None if p.forces is None else float(abs(p.forces).max()),
        "furthest": round(p.furthest, 2),
        "seconds": round(sum(p.seconds.values()), 2),
    }


@click.group()
def model() -> None:
    """Surrogates: look at one, predict with it, check its stated accuracy."""


@model.command("show")
@folder_argument("model")
@json_option
def model_show(model: Path, as_json: bool) -> None:
    """Show what the surrogate in folder MODEL is and how accurate it was on its test snapshots.

    \b
    Example:
      dftune model show al4.model
    """
    from ..model.model import Model

    card = Model.open(model).card
    if as_json:
        return print_json(card.model_dump(mode="json"))
    click.echo(f"surrogate for {', '.join(card.species)} from study {card.study}, dataset {card.dataset}")
    click.echo(f"  descriptors  {card.descriptors}, grid spacing up to {card.grid_spacing:.4f} Å")
    click.echo("  network      " + ", ".join(f"{k} {v}" for k, v in card.config.items() if v is not None))
    grid = card.energy_grid
    click.echo(f"  LDOS         {grid.n_energy} energies from {grid.minimum:g} eV in steps of {grid.spacing:g} eV")
    click.echo(f"  temperature  {card.temperature:.1f} K")
    click.echo(f"  made with    {', '.join(f'{k} {v}' for k, v in card.versions.items())}; license: {card.license}")
    show_accuracy(card.accuracy)


@model.command("predict")
@folder_argument("model")
@click.argument("structures", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--temperature", type=click.FloatRange(min=0), help="Electronic temperature [K].  [default: as trained]")
@click.option(
    "--frames", default="-1", show_default=True, help="Of each file: -1 the last, : all, 0:100:10 every tenth."
)
@click.option("--forces", is_flag=True, help="Also forces, with their spread; three or four times slower per network.")
@click.option(
    "--save",
    "kinds",
    multiple=True,
    type=click.Choice(KINDS),
    help="Also write the mean density [1/Å³; 1/bohr³ in a cube] or LDOS [1/(eV Å³)], or draw the DOS; repeatable.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    show_default=True,
    help="Folder for --save; files are named after their structure.",
)
@json_option
def model_predict(
    model: Path,
    structures: tuple[Path, ...],
    temperature: float | None,
    frames: str,
    forces: bool,
    kinds: tuple[str, ...],
    output: Path,
    as_json: bool,
) -> None:
    """Predict the free energy, its terms, Fermi level and DOS of STRUCTURES (any file that ASE reads).

    Each number is the mean over the model's initialisations, with their standard deviation.  A warning says when a
    structure is unlike those the model was trained on.  --json adds the DOS and the time spent.

    \b
    Example:
      dftune model predict al4.model POSCAR --forces
      dftune model predict al4.model md.traj --frames ::100 --json > energies.json
      dftune model predict al4.model POSCAR --save density.cube --save dos.png
    """
    from ...trainables.errors import InputError
    from ...trainables.structures import StructureError, check_structure, read_structures
    from ..model.files import predict_to_files
    from ..model.model import NO_FREE_ENERGY, Model
    from ..progress import for_terminal

    opened = Model.open(model)
    asked: list[tuple[str, str, ase.Atoms]] = []  # name of the structure, of its files, and itself
    for path in structures:
        read = read_structures(path, frames)
        for number, atoms in enumerate(read, 1):
            which, file = ("", "") if len(read) == 1 else (f" {number}/{len(read)}", f"-{number}")
            try:
                check_structure(atoms, opened.card.species)
            except StructureError as error:
                raise StructureError(f"{path}{which}: {error}") from error
            asked.append((f"{path}{which}", path.name + file, atoms))
    stems = [stem for _, stem, _ in asked]
    if kinds and (twice := next((stem for stem in stems if stems.count(stem) > 1), None)):
        raise StructureError(f"two structures are named {twice}: predict them apart, each with an --output of its own")
    found: list[_Found] = []
    failed: Exception | None = None
    with closing(for_terminal()) as progress:
        for name, stem, atoms in asked:

            def show(what: str, done: int, total: int, name: str = name) -> None:
                progress.update(what, done, total, name)

            try:
                prediction, files = predict_to_files(
                    opened, atoms, output / stem, kinds,
                    temperature=temperature, forces="spread" if forces else "none", progress=show,
                )  # fmt: skip
            except InputError as error:
                failed = StructureError(f"{name}: {error}")
                break
            except KeyboardInterrupt:
                failed = click.Abort()
                break
            # The densities of a long trajectory would fill the memory.
            found.append(_Found(name, atoms, replace(prediction, density=prediction.density[:0]), files))
    _print_found(found, as_json)
    if opened.card.dft is None:
        click.echo(f"no free energy: {NO_FREE_ENERGY}", err=True)
    if failed is not None:  # what was finished before is not lost
        raise failed


def _print_found(found: list[_Found], as_json: bool) -> None:
    """Predictions for people, or for programs."""
    if as_json:
        return print_json([f.to_dict() for f in found])
    if len(found) == 1:
        _print_prediction(found[0])
    elif found:
        print_table([_row(f) for f in found], units={"free_energy": "eV", "fermi_level": "eV", "furthest": "σ"})
    for one in found:
        for file in one.files:
            click.echo(f"written: {file}")
        for text in one.prediction.warnings:
            click.echo(f"warning: {one.name}: {text}", err=True)


@model.command("check")
@folder_argument("model")
@dataset_argument
@click.option("--forces", is_flag=True, help="Also forces; four times slower.")
@click.option("--figure", type=click.Path(path_type=Path, dir_okay=False), help="Draw it to this PNG file.")
@json_option
def model_check(model: Path, dataset: str, forces: bool, figure: Path | None, as_json: bool) -> None:
    """Compare MODEL with the DFT of DATASET, term by term, and recompute its stated accuracy.

    On the dataset the model was trained on, its test snapshots are predicted, and the stated accuracy must come out
    again; if not, the exit code is 1.  On any other dataset all snapshots are.  Errors of energies are those of the
    mean over the initialisations, as `model predict` gives it.

    \b
    Example:
      dftune model check al4.model examples/al4 --figure check.png
      dftune model check al4.model al32 --forces
    """
    from dataclasses import asdict

    from ...trainables.data.dataset import Dataset
    from ..model.check import check_terms, draw, summary, table
    from ..model.model import NO_FREE_ENERGY, Model
    from ..progress import for_terminal

    opened, reference = Model.open(model), Dataset.open(dataset)
    unseen = opened.unseen(reference)
    with closing(for_terminal()) as progress:
        checks = check_terms(
            opened, reference, unseen, forces=forces, progress=lambda *at: progress.update("snapshots", *at)
        )
    accuracy = opened.check(reference).accuracy
    same = reference.fingerprint == opened.card.dataset_sha256
    differences = opened.differences(accuracy) if same else []
    if as_json:
        print_json(
            {
                "same_dataset": same,
                "accuracy": asdict(accuracy),
                "differences": differences,
                "terms": summary(checks),
                "snapshots": [c.to_dict() for c in checks],
            }
        )
    else:
        click.echo("mean |prediction - DFT| of the snapshots:\n")
        print_table(table(summary(checks)))
        show_accuracy(accuracy)
        if not same:
            click.echo("another dataset than the one it was trained on: nothing stated to compare with")
        elif not differences:
            click.echo("the stated accuracy is confirmed")
        if opened.card.dft is None:
            click.echo(f"no free energy: {NO_FREE_ENERGY}", err=True)
    if figure is not None:
        draw(figure, checks, opened.energy)
        click.echo(f"written: {figure}", err=True)
    if differences:
        raise click.ClickException(f"the stated accuracy is not confirmed: {'; '.join(differences)}")
