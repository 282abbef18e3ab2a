"""`dftune cluster plan`: how long a study takes on other numbers of slots."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import ListOf, json_option, ledger_option, studies_option
from .tables import echo, print_json, print_table

if TYPE_CHECKING:
    from ..plan.plan import Plan


def _slots(text: str) -> int:
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


@click.command("plan")
@click.argument("names", nargs=-1, required=True, metavar="NAME [OTHER]...")
@click.option(
    "--slots",
    type=ListOf("whole numbers above 0", "1,4,16", _slots),
    metavar="N,N,...",
    default="1,2,4,8,16,32,64,128,256,512,1024",
    show_default=True,
    help="Numbers of slots; a slot is the resources of one trial.",
)
@click.option(
    "--methods",
    type=ListOf("methods", "random,oat", str),
    metavar="M,M,...",
    help="Methods to simulate; by default all that can be.",
)
@click.option("--figure", type=click.Path(path_type=Path, dir_okay=False), help="PNG file to draw.")
@studies_option
@ledger_option
@json_option
def plan(
    names: tuple[str, ...],
    slots: list[int],
    methods: list[str] | None,
    figure: Path | None,
    studies: Path,
    ledger: str | None,
    as_json: bool,
) -> None:
    """Forecast how long study NAME takes on other clusters.

    It does so for each method on 1 to 1,024 slots, and says how many slot-hours are reserved.

    The methods run in simulated time.  Their trials cost what the trials of NAME have cost; NAME therefore needs a few
    trials that have ended.  Trials of OTHER studies of the same data and space are used, too.  A method that scores
    candidates needs a study that has measured its score.  A budget stops new trials and
    lets those under way end, so more slots train more.

    \b
    Example:
      dftune cluster plan al4 --slots 1,4,16,64 --figure plan.png
    """
    from contextlib import closing

    from ..plan.plan import plan as forecast
    from ..progress import for_terminal
    from ..study.study import Study

    with closing(for_terminal()) as progress:
        found = forecast(
            [Study.open(name, studies, ledger) for name in names],
            methods=methods,
            slots=slots,
            progress=progress,
        )
    if figure is not None:
        from ...trainables.drawing import save
        from ..plan.figure import plan_figure

        save(plan_figure(found), figure)
    if as_json:
        return print_json(_json(found))
    _show(found)
    if figure is not None:
        echo("", f"figure: {figure}")


def _json(found: "Plan") -> dict[str, Any]:
    from dataclasses import asdict

    timings = [
        {"method": method}
        | asdict(t)
        | {"slot_hours": t.reserved / 3600, "gpu_hours": t.reserved / 3600 * found.gpus, "utilisation": t.utilisation}
        for method, some in found.timings.items()
        for t in some
    ]
    return asdict(found) | {"timings": timings}


def _show(found: "Plan") -> None:
    low, middle, high = found.trial_seconds
    echo(
        f"from {found.n_measured} trials: {middle:.3g} s of training ({low:.3g} to {high:.3g}), forecast within "
        f"{100 * found.error:.0f} % from the others (median);",
        f"a new process takes {found.overhead.start:.3g} s more, a slot is {found.slot}",
    )
    scale, unit = found.time_unit
    share, hours = (found.gpus, "GPU-hours") if found.gpus else (1.0, "slot-hours")
    echo("", f"time to result [{unit}] by slots:")
    print_table(
        [
            {"method": method, "trained": _range([t.trained for t in some])}
            | {f"{t.slots}": f"{t.seconds / scale:.3g}" for t in some}
            for method, some in found.timings.items()
        ]
    )
    echo("", f"{hours} reserved by slots, and the most slots that are used at least half of the time:")
    print_table(
        [
            {"method": method, "half used": max((t.slots for t in some if t.utilisation >= 0.5), default=None)}
            | {f"{t.slots}": f"{share * t.reserved / 3600:.3g}" for t in some}
            for method, some in found.timings.items()
        ]
    )
    if found.besides:
        stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in found.besides.items())
        echo("", f"besides, as measured: {stages}")
    if (readout := found.readout) is not None:
        echo(
            "",
            f"readout of the final training [s] by slots, {readout.parts} snapshots to share: sums "
            f"{readout.sums:.3g} s on one slot, solving {readout.solve:.3g} s,",
            f"{readout.megabytes:.3g} MB sent by each slot at 1 GB/s (assumed):",
        )
        print_table([{f"{n}": f"{seconds:.3g}" for n, seconds in readout.seconds.items()}])
    for method, reason in found.left_out.items():
        echo(f"left out: {method}: {reason}", err=True)


def _range(numbers: list[int]) -> str:
    """Numbers of trials: a budget is used up later where more of them are under way."""
    return f"{min(numbers)}" if len(set(numbers)) == 1 else f"{min(numbers)} to {max(numbers)}"
