"""`dftune md`: molecular dynamics with a surrogate."""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .descriptors import OfSpecies
from .md_fleet import md_fleet
from .options import folder_argument, json_option
from .tables import echo, print_json

if TYPE_CHECKING:
    from ..md.dynamics import MdResult

BEGIN = "run"
stop_option = click.option(
    "--on-extrapolation",
    type=click.Choice(["warn", "stop", "label"]),
    help="At a step unlike the training: say so, stop, or write its frame to the folder label, for the DFT.  "
    "[default: warn]",
)
there_option = click.option(
    "--address", help="Run as a task of this Ray cluster, whose nodes see MODEL and the folder."
)


class _Md(click.Group):
    """`dftune md MODEL STRUCTURE` is `dftune md run MODEL STRUCTURE`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in self.get_help_option_names(ctx):
            args = [BEGIN, *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Md)
def md() -> None:
    """Molecular dynamics with a surrogate's forces.

    \b
    Example:
      dftune md al.model POSCAR --temperature 300 --steps 1000
    """


@md.command(BEGIN)
@folder_argument("model")
@click.argument("structure", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--ensemble",
    type=click.Choice(["nve", "nvt", "npt"]),
    help="Hold energy (nve), temperature (nvt), or temperature and pressure (npt).  [default: nvt]",
)
@click.option("--temperature", type=float, help="Temperature of the atoms [K]; with nve that of the first velocities.")
@click.option("--steps", type=int, help="Steps in all.  [default: 1000]")
@click.option("--timestep", type=float, help="Length of a step [fs].  [default: 1]")
@click.option("--pressure", type=float, help="Pressure that npt holds [GPa].  [default: 0]")
@click.option("--thermostat-time", type=float, help="Time constant of the thermostat [fs].  [default: 100 steps]")
@click.option("--barostat-time", type=float, help="Time constant of the barostat [fs].  [default: 1000 steps]")
@click.option("--electronic-temperature", type=float, help="Temperature of the electrons [K].  [default: as trained]")
@click.option("--repeat", type=click.IntRange(1), nargs=3, metavar="NX NY NZ", help="Cells along each vector.")
@click.option("--seed", type=int, help="Equal seeds give equal runs.  [default: 0]")
@click.option("--interval", type=int, help="Steps between two frames of the trajectory.  [default: 10]")
@click.option("--stress", is_flag=True, help="Write the pressure of each step, too; npt does so anyway.")
@click.option("--dos", is_flag=True, help="Write the density of states of each frame, too.")
@stop_option
@click.option(
    "--output", type=click.Path(path_type=Path), default="md", show_default=True, help="Folder to make for the run."
)
@there_option
@json_option
def md_run(
    model: Path,
    structure: Path,
    repeat: tuple[int, int, int] | None,
    output: Path,
    address: str | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Move the atoms of STRUCTURE with the forces of MODEL.  The word `run` may be left out.

    The folder holds trajectory.xyz, thermo.csv and all that `dftune md resume` needs to go on after a stop or a kill.
    Forces are derivatives of the free energy, so the electrons stay at the electronic temperature.

    \b
    Example:
      dftune md al.model POSCAR --temperature 300 --steps 1000 --repeat 2 2 2
      dftune md run al.model POSCAR --temperature 933 --on-extrapolation label --output melt
      dftune md volumes.model POSCAR --ensemble npt --temperature 300 --pressure 10
    """
    from ..md.dynamics import run_md
    from ..progress import for_terminal

    run: Callable[..., MdResult] = run_md
    if address is not None:
        from ..md.there import run_there

        run = partial(run_there, address=address)
    given = {name: value for name, value in asked.items() if value is not None}
    if repeat is not None:
        given["repeat"] = repeat
    with closing(for_terminal()) as progress:
        try:
            _end(run(model, structure, output, progress=progress, **given), as_json)
        except KeyboardInterrupt:
            _say_how_to_go_on(output)


@md.command("resume")
@folder_argument("run")
@click.option("--steps", type=int, help="Steps in all.  [default: as before]")
@stop_option
@click.option("--model", type=click.Path(path_type=Path, file_okay=False), help="Where the model is now.")
@there_option
@json_option
def md_resume(
    run: Path, steps: int | None, on_extrapolation: Any, model: Path | None, address: str | None, as_json: bool
) -> None:
    """Go on with the run in folder RUN.  It was stopped or killed, or is to have more steps.

    It goes on as if it had never stopped, on the same machine to the last bit.

    \b
    Example:
      dftune md resume md
      dftune md resume md --steps 5000 --on-extrapolation warn
    """
    from ..md.dynamics import resume_md
    from ..progress import for_terminal

    resume: Callable[..., MdResult] = resume_md
    if address is not None:
        from ..md.there import resume_there

        resume = partial(resume_there, address=address)
    with closing(for_terminal()) as progress:
        try:
            result = resume(run, model=model, steps=steps, on_extrapolation=on_extrapolation, progress=progress)
        except KeyboardInterrupt:
            _say_how_to_go_on(run)
        else:
            _end(result, as_json)


def _say_how_to_go_on(folder: Path) -> None:
    """After Ctrl-C.  Raises Exit."""
    if folder.is_dir():
        echo(f"stopped by Ctrl-C; `dftune md resume {folder}` goes on", err=True)
    raise click.exceptions.Exit(130)


def _end(result: "MdResult", as_json: bool) -> None:
    """How it ended.  Raises ClickException: it stopped early."""
    if as_json:
        print_json(result.to_dict(), {"drift": "eV/atom"})
    else:
        echo(f"{result.steps} of {result.of} steps in {result.path}")
        echo(f"{result.outside} of {result.steps + 1} structures, the first one included, are unlike the training")
        echo(f"the conserved energy has changed by {1e3 * result.drift:.3f} meV/atom since the first step")
    if result.stopped is not None:
        raise click.ClickException(
            f"{result.stopped}; `dftune md resume {result.path} --on-extrapolation warn` goes on all the same"
        )


@md.command("ipi")
@folder_argument("model")
@click.argument("structure", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("address")
@click.option(
    "--no-virial", is_flag=True, help="Send zeros for the virial, where the model has no stress: hold the cell fixed."
)
@click.option("--electronic-temperature", type=float, help="Temperature of the electrons [K].  [default: as trained]")
def md_ipi(model: Path, structure: Path, address: str, no_virial: bool, electronic_temperature: float | None) -> None:
    """Give the forces of MODEL to an i-PI server.

    It is at ADDRESS, HOST:PORT or unix:NAME, and gets them until it is done.

    The server moves the atoms: i-PI, or ASE's SocketIOCalculator.  STRUCTURE says the species of its atoms, in their
    order.  It waits 30 seconds for the server.

    \b
    Example:
      dftune md ipi al.model POSCAR localhost:31415
      dftune md ipi al.model POSCAR unix:aluminium --no-virial
    """
    from ..md.ipi import give_forces
    from ..model.model import Model
    from ..progress import for_terminal

    opened = Model.open(model)
    atoms = opened.read(structure)[0]
    asked = {} if electronic_temperature is None else {"temperature": electronic_temperature}
    with closing(for_terminal()) as progress:
        answered = give_forces(opened, atoms, address, virial=not no_virial, say=progress.say, **asked)
    echo(f"{answered} structures answered")


@md.command("distill")
@folder_argument("model")
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.argument("potential", type=click.Path(path_type=Path))
@click.option("--frames", default=":", show_default=True, help="Structures of SOURCE, as ::10 for every tenth.")
@click.option(
    "--number", "-n", type=int, help="Displace the atoms of those, and fit this number of the structures that result."
)
@click.option("--rattle", default=0.1, show_default=True, help="Largest standard deviation of their displacements [Å].")
@click.option("--strain", default=0.0, show_default=True, help="Largest component of their strain.")
@click.option("--cutoff", type=float, help="Cutoff of the potential [Å].  [default: 4.7]")
@click.option("--two-j-max", type=int, help="2J_max of the potential.  [default: 6]")
@click.option(
    "--weights",
    type=OfSpecies(),
    metavar="X=W,...",
    default={},
    help="How much an atom of each species counts, where there are several.",
)
@click.option("--seed", default=0, show_default=True, help="Equal seeds give equal structures.")
@json_option
def md_distill(
    model: Path,
    source: Path,
    potential: Path,
    cutoff: float | None,
    two_j_max: int | None,
    weights: dict[str, float],
    as_json: bool,
    **asked: Any,
) -> None:
    """Fit a linear SNAP potential to MODEL.  It is written to the folder POTENTIAL, for any LAMMPS.

    SOURCE is a run of `dftune md`, or a file of structures.  Without a trajectory, --number makes displaced structures.
    It fits energies, forces and, where the model has one, stresses, and states the errors against MODEL.

    \b
    Example:
      dftune md distill al.model md al.snap
      dftune md distill al.model POSCAR al.snap --number 40 --rattle 0.15 --strain 0.02
    """
    from ..md.distill import UNITS, distill
    from ..progress import for_terminal

    given = {"cutoff": cutoff, "two_j_max": two_j_max, "weights": weights or None}
    settings = {name: value for name, value in given.items() if value is not None}
    with closing(for_terminal()) as progress:
        made = distill(model, source, potential, settings=settings, progress=progress, **asked)
    if as_json:
        return print_json({"path": str(potential), **made.model_dump(mode="json"), "beyond": made.beyond}, UNITS)
    echo(*made.lines())
    for text in made.beyond:
        echo(f"warning: {text}", err=True)


@md.command("judge")
@folder_argument("potential")
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.option("--frames", default=":", show_default=True, help="Structures of SOURCE, as ::100 for every hundredth.")
@click.option("--model", type=click.Path(path_type=Path, file_okay=False), help="Where its surrogate is now.")
@json_option
def md_judge(potential: Path, source: Path, frames: str, model: Path | None, as_json: bool) -> None:
    """Compare a distilled POTENTIAL with its surrogate.  The structures are those of SOURCE.

    SOURCE is a file of any format that the surrogate reads: a dump that LAMMPS wrote with the potential, for instance.

    \b
    Example:
      dftune md judge al.snap dump.xyz --frames ::100
    """
    from ..md.distill import UNITS, judge
    from ..progress import for_terminal

    with closing(for_terminal()) as progress:
        found = judge(potential, source, frames=frames, model=model, progress=progress)
    if as_json:
        return print_json(found.model_dump(mode="json"), UNITS)
    echo(f"against the surrogate, {found}")


md.add_command(md_fleet)
