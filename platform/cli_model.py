"""`dftune model`: look at a surrogate, predict with it, check it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .cli_shared import folder_argument, json_option, print_json, print_table, show_accuracy

if TYPE_CHECKING:
    from .model import Prediction


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
    from .model import Model

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
@json_option
def model_predict(model: Path, structures: tuple[Path, ...], temperature: float | None, as_json: bool) -> None:
    """Predict Fermi level, band energy, entropy term and DOS of STRUCTURES (any file that ASE reads).

    Each number is the mean over the model's initialisations, with their standard deviation.  --json adds the DOS.

    \b
    Example:
      dftune model predict al4.model POSCAR other.xyz
    """
    from ..trainables.errors import InputError
    from .model import Model, ModelError

    opened = Model.open(model)
    found: list[tuple[Path, Prediction]] = []
    for path in structures:
        try:
            found.append((path, opened.predict(path, temperature=temperature)))
        except (InputError, ValueError) as error:
            text = str(error)
            raise ModelError(text if str(path) in text else f"{path}: {text}") from error
    if as_json:
        return print_json([{"file": str(path), **p.to_dict()} for path, p in found])
    print_table(
        [
            {
                "file": str(path),
                "atoms": p.n_atoms,
                "grid": "x".join(map(str, p.grid)),
                "fermi_level": f"{p.fermi_level:.4f} ± {p.fermi_level_std:.4f}",
                "band_energy": f"{p.band_energy:.4f} ± {p.band_energy_std:.4f}",
                "entropy_term": f"{p.entropy_term:.4f} ± {p.entropy_term_std:.4f}",
                "seconds": round(sum(p.seconds.values()), 2),
            }
            for path, p in found
        ],
        units={"fermi_level": "eV", "band_energy": "eV", "entropy_term": "eV"},
    )


@model.command("check")
@folder_argument("model")
@folder_argument("dataset")
@json_option
def model_check(model: Path, dataset: Path, as_json: bool) -> None:
    """Recompute the accuracy of MODEL on the test snapshots of DATASET.

    On the dataset the model was trained on, the stated accuracy must come out again; if not, the exit code is 1.

    \b
    Example:
      dftune model check al4.model examples/al4
    """
    from dataclasses import asdict

    from ..trainables.dataset import Dataset
    from .model import Model

    opened, reference = Model.open(model), Dataset.open(dataset)
    accuracy = opened.check(reference).accuracy
    same = reference.fingerprint == opened.card.dataset_sha256
    differences = opened.differences(accuracy) if same else []
    if as_json:
        print_json({"same_dataset": same, "accuracy": asdict(accuracy), "differences": differences})
    else:
        show_accuracy(accuracy)
        if not same:
            click.echo("another dataset than the one it was trained on: nothing stated to compare with")
        elif not differences:
            click.echo("the stated accuracy is confirmed")
    if differences:
        raise click.ClickException(f"the stated accuracy is not confirmed: {'; '.join(differences)}")
