"""The command line: each command a shell around one library call.

Results go to stdout, progress to stderr.  Exit code 0 done, 1 failed, 2 wrong usage.
"""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..trainables.accuracy import Accuracy
    from .ledger import LedgerTrial
    from .model import Prediction
    from .study import Conclusion, Study

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Cli(click.Group):
    """Turns a user's mistake into one line and exit code 1, wherever it was found."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ValueError as error:
            from ..trainables.errors import InputError

            if not isinstance(error, InputError):
                raise
            raise click.ClickException(" ".join(str(error).split())) from error


def folder_argument(name: str) -> Callable[..., Any]:
    """An argument that is a folder."""
    return click.argument(name, type=click.Path(path_type=Path, file_okay=False))


def studies_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where studies lie."""
    return click.option(
        "--studies",
        type=click.Path(path_type=Path, file_okay=False),
        default="studies",
        envvar="DFTUNE_STUDIES",
        show_default=True,
        show_envvar=True,
        help="Folder that holds the studies.",
    )(command)


def address_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which Ray cluster."""
    return click.option(
        "--address",
        envvar="RAY_ADDRESS",
        show_envvar=True,
        help="Ray cluster to work on; by default an embedded local Ray.",
    )(command)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def _study_names(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from .study import Study

    return [n for n in Study.names(Path(ctx.params.get("studies") or "studies")) if n.startswith(incomplete)]


study_argument = click.argument("name", shell_complete=_study_names)


@click.group(cls=Cli, context_settings=CONTEXT)
@click.version_option(package_name="dftune", message="%(prog)s %(version)s")
def cli() -> None:
    """Find machine-learning surrogates of electronic structure, and use them.

    \b
    From DFT snapshots to a surrogate:
      dftune data import qe-run/ al4          DFT results -> a dataset
      dftune study run al4.toml               search, train, judge, save
      dftune study export al4 al4.model       the surrogate as a folder
      dftune model predict al4.model POSCAR   use it

    \b
    Tab completion (bash; zsh and fish alike):
      eval "$(_DFTUNE_COMPLETE=bash_source dftune)"
    """


# ---------------------------------------------------------------- data


@cli.group()
def data() -> None:
    """Datasets of DFT snapshots: import, look at, check."""


@data.command("import")
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@folder_argument("dataset")
@click.option(
    "--validation", metavar="ID,ID,...", help="Snapshots to judge trials by.  [default: next to last quarter]"
)
@click.option("--test", metavar="ID,ID,...", help="Snapshots to judge the surrogate by.  [default: last quarter]")
@click.option("--source", help="Note on the origin of the data.")
def data_import(
    sources: tuple[Path, ...], dataset: Path, validation: str | None, test: str | None, source: str | None
) -> None:
    """Import snapshots from SOURCES into a new folder DATASET.

    SOURCES are folders, or JSON files, of snapshots in this layout: NNN.json (cell, positions, energies, energy grid;
    eV, Å), NNN.ldos.npy (LDOS [nx, ny, nz, n_energy] in 1/(eV Å³)) and, if there is one, NNN.dens.npy (density
    [nx, ny, nz] in 1/Å³).  Every snapshot is checked: shapes, finite values, electron count.

    \b
    Example:
      dftune data import runs/al4/ al4 --validation 006,007,008 --test 009,010,011
    """
    from ..trainables.importing import import_arrays

    made = import_arrays(
        sources,
        dataset,
        validation=_ids(validation),
        test=_ids(test),
        source=source,
        report=lambda line: click.echo(line, err=True),
    )
    click.echo(f"{len(made.snapshots)} snapshots in {made.path}")


def _ids(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


@data.command("show")
@folder_argument("dataset")
@json_option
def data_show(dataset: Path, as_json: bool) -> None:
    """Show what DATASET holds.

    \b
    Example:
      dftune data show examples/al4
    """
    from ..trainables.dataset import Dataset

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
    settings = [path.name for path in sorted((opened.path / "descriptors").glob("*")) if path.is_dir()]
    if as_json:
        return _json({"path": str(opened.path), **opened.info.model_dump(), "snapshots": rows, "descriptors": settings})
    grid = opened.info.energy_grid
    click.echo(f"{opened.path}: {opened.info.source}")
    species = ", ".join(f"{symbol} ({valence:g} electrons)" for symbol, valence in opened.info.species.items())
    click.echo(
        f"species {species}; {grid.n_energy} energies from {grid.minimum:g} to {grid.energy[-1]:g} eV, "
        f"{grid.kernel} kernel of {grid.width:g} eV; descriptors computed: {', '.join(settings) or 'none'}"
    )
    _table(rows, units={"temperature": "K", "total_energy": "eV", "band_energy": "eV", "fermi_level": "eV"})


@data.command("check")
@folder_argument("dataset")
@json_option
def data_check(dataset: Path, as_json: bool) -> None:
    """Read every file of DATASET: checksums, finite values, electron counts, band energies against DFT.

    \b
    Example:
      dftune data check examples/al4
    """
    from ..trainables.dataset import Dataset

    rows = [
        {"id": r.id, "electrons_error": r.electrons_error, "band_energy_error": r.band_energy_error}
        for r in Dataset.open(dataset).check()
    ]
    if as_json:
        return _json(rows)
    _table(rows, units={"band_energy_error": "meV/atom"})
    click.echo("LDOS and densities are whole and agree with the DFT")


# ---------------------------------------------------------------- descriptors


@cli.group()
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


# ---------------------------------------------------------------- study


@cli.group()
def study() -> None:
    """Studies: search for a surrogate, look at the search, take the surrogate out."""


@study.command("run")
@click.argument("spec", type=click.Path(path_type=Path, dir_okay=False))
@studies_option
@address_option
@json_option
def study_run(spec: Path, studies: Path, address: str | None, as_json: bool) -> None:
    """Run the study that the TOML file SPEC describes, to its end.

    Descriptors are computed where missing, configs chosen and trained, the best one trained again with several
    initialisations and judged on the test snapshots.  Ctrl-C stops it; `dftune study resume` goes on.

    \b
    Example:
      dftune study run examples/al4.toml
    """
    from .progress import for_terminal
    from .spec import StudySpec
    from .study import Study

    found = Study.from_spec(StudySpec.read(spec), studies)
    _conclude(found, found.run(address=address, progress=for_terminal()), as_json)


@study.command("resume")
@study_argument
@studies_option
@address_option
@json_option
def study_resume(name: str, studies: Path, address: str | None, as_json: bool) -> None:
    """Go on with study NAME after it was stopped or killed.

    Finished trials stay as they are; those that were running start again.

    \b
    Example:
      dftune study resume al4
    """
    from .progress import for_terminal
    from .study import Study

    found = Study.open(name, studies)
    _conclude(found, found.resume(address=address, progress=for_terminal()), as_json)


@study.command("list")
@studies_option
@json_option
def study_list(studies: Path, as_json: bool) -> None:
    """List the studies there are.

    \b
    Example:
      dftune study list
    """
    from ..trainables.errors import InputError
    from .study import Study

    rows: list[dict[str, Any]] = []
    for name in Study.names(studies):
        try:
            found = Study.open(name, studies)
            trials, conclusion = found.trials(), found.conclusion()
        except InputError as error:
            click.echo(f"warning: {error}", err=True)
            continue
        best = min((t.value for t in trials if t.value is not None), default=None)
        rows.append(
            {
                "name": name,
                "state": "ended" if conclusion else "unfinished",
                "method": found.spec.method,
                "dataset": found.spec.dataset.name,
                "trials": len(trials),
                "best": best,
                "minimizes": found.spec.minimize,
            }
        )
    if as_json:
        return _json(rows)
    if rows:
        _table(rows)
    else:
        click.echo(f"no study in {studies}; start one with `dftune study run`")


@study.command("show")
@study_argument
@studies_option
@json_option
def study_show(name: str, studies: Path, as_json: bool) -> None:
    """Show the trials of study NAME, how far its score is to be trusted, and what it came to.

    \b
    Example:
      dftune study show al4
    """
    from dataclasses import asdict

    from .study import Study

    found = Study.open(name, studies)
    trials, conclusion = found.trials(), found.conclusion()
    if as_json:
        return _json(
            {
                "spec": found.spec.model_dump(mode="json"),
                "trials": [asdict(t) for t in trials],
                "scores": [asdict(q) for q in found.score_qualities()],
                "conclusion": None if conclusion is None else asdict(conclusion),
            }
        )
    _show_trials(trials, found.spec.minimize)
    _show_study(found, conclusion)


@study.command("export")
@study_argument
@folder_argument("destination")
@studies_option
def study_export(name: str, destination: Path, studies: Path) -> None:
    """Write the surrogate of study NAME to the folder DESTINATION.

    \b
    Example:
      dftune study export al4 al4.model
    """
    from .study import Study

    Study.open(name, studies).export(destination)
    click.echo(f"model in {destination}; try `dftune model show {destination}`")


def _conclude(found: "Study", conclusion: "Conclusion", as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        return _json(asdict(conclusion))
    _show_study(found, conclusion)


def _show_trials(trials: Sequence["LedgerTrial"], minimize: str) -> None:
    rows = [
        {"trial": t.number, "state": t.state, minimize: t.value, "seconds": t.seconds, **t.config, **t.scores}
        for t in trials
    ]
    if rows:
        _table(rows)
    for trial in trials:
        if trial.failure:
            click.echo(f"trial {trial.number} failed: {trial.failure}")


def _show_study(found: "Study", conclusion: "Conclusion | None") -> None:
    from ..trainables.accuracy import Accuracy
    from .spec import UNITS
    from .study import describe

    qualities = found.score_qualities()
    if qualities:
        click.echo("\nhow far scores are to be trusted (τ = 1: a higher score always meant a lower error;")
        click.echo("regret: by how much the value of the best-scored trial exceeds the best):")
        for quality in qualities:
            click.echo(f"  {quality}")
    if explanation := found.explanation():
        click.echo("\n" + "\n".join(explanation))
    if conclusion is None:
        return click.echo(f"\nnot ended; go on with `dftune study resume {found.spec.name}`")
    minimize = found.spec.minimize
    click.echo(f"\nchosen: trial {conclusion.trial} ({minimize} {conclusion.value:.4g}{UNITS[minimize]})")
    varied = {name: conclusion.config[name] for name in found.spec.space}
    click.echo(f"  {describe(varied)}")
    _show_accuracy(Accuracy(**conclusion.accuracy))
    spent = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in conclusion.seconds.items())
    click.echo(f"\ntime: {spent}")
    click.echo(
        f"model:   {found.folder / 'model'}\nfigures: {found.folder / 'figures'}\nledger:  {found.folder / 'ledger.db'}"
    )


def _show_accuracy(accuracy: "Accuracy") -> None:
    click.echo(
        f"\non {accuracy.n_snapshots} test snapshots, mean and standard deviation over "
        f"{accuracy.n_initializations} initialisations:"
    )
    if accuracy.band_energy_mae is None:
        click.echo("  band-energy error  not defined: no reference, or a predicted DOS that cannot hold the electrons")
    else:
        click.echo(f"  band-energy error  {accuracy.band_energy_mae:.1f} ± {accuracy.band_energy_mae_std:.1f} meV/atom")
    for group, (size, signed) in accuracy.by_group.items():
        click.echo(f"    {group}: {size:.1f} meV/atom (signed {signed:+.1f})")
    click.echo(f"  LDOS R²            {accuracy.ldos_r2:.4f} ± {accuracy.ldos_r2_std:.4f}")
    click.echo(f"  DOS RMSE           {accuracy.dos_rmse:.5f} ± {accuracy.dos_rmse_std:.5f} 1/(eV atom)")


# ---------------------------------------------------------------- model


@cli.group()
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
        return _json(card.model_dump(mode="json"))
    click.echo(f"surrogate for {', '.join(card.species)} from study {card.study}, dataset {card.dataset}")
    click.echo(f"  descriptors  {card.descriptors}, grid spacing up to {card.grid_spacing:.4f} Å")
    click.echo("  network      " + ", ".join(f"{k} {v}" for k, v in card.config.items() if v is not None))
    grid = card.energy_grid
    click.echo(f"  LDOS         {grid.n_energy} energies from {grid.minimum:g} eV in steps of {grid.spacing:g} eV")
    click.echo(f"  temperature  {card.temperature:.1f} K")
    click.echo(f"  made with    {', '.join(f'{k} {v}' for k, v in card.versions.items())}; license: {card.license}")
    _show_accuracy(card.accuracy)


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
        return _json([{"file": str(path), **p.to_dict()} for path, p in found])
    _table(
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
        _json({"same_dataset": same, "accuracy": asdict(accuracy), "differences": differences})
    else:
        _show_accuracy(accuracy)
        if not same:
            click.echo("another dataset than the one it was trained on: nothing stated to compare with")
        elif not differences:
            click.echo("the stated accuracy is confirmed")
    if differences:
        raise click.ClickException(f"the stated accuracy is not confirmed: {'; '.join(differences)}")


# ---------------------------------------------------------------- output


def _json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def _table(rows: Sequence[dict[str, Any]], units: dict[str, str] | None = None) -> None:
    """A plain table: column names with units, a line a row, wide enough for its content."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_cell(row.get(name)) for name in names] for row in rows]
    heads = [f"{name} [{units[name]}]" if units and name in units else name for name in names]
    widths = [max(len(line[i]) for line in [heads, *cells]) for i in range(len(names))]
    numeric = [all(isinstance(row.get(name), (int, float, type(None))) for row in rows) for name in names]
    for line in [heads, *cells]:
        click.echo("  ".join(_aligned(line, widths, numeric)).rstrip())


def _aligned(line: Iterable[str], widths: Iterable[int], right: Iterable[bool]) -> list[str]:
    return [cell.rjust(width) if r else cell.ljust(width) for cell, width, r in zip(line, widths, right, strict=True)]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Entry point of the ``dftune`` command."""
    try:
        cli(standalone_mode=True)
    except BrokenPipeError:  # `dftune ... | head`
        sys.stderr.close()


if __name__ == "__main__":
    main()
