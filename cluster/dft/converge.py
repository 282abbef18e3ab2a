"""Scans of cutoff and k-points, before data are computed with them."""

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from ...trainables.data.generating.computing import DONE
from ...trainables.data.generating.convergence import Row, compare, steps
from ...trainables.data.generating.dynamics import Surrogate
from ...trainables.data.generating.results import open_runs
from ...trainables.data.generating.spec import GenerateError, GenerateSpec
from ...trainables.data.generating.species import read_species
from ...trainables.data.generating.structures import plan_structures
from ...trainables.data.importing.quantum_espresso.pw_xml import NAME, read_xml
from ...trainables.progress import Progress, Silent
from ..connection import connected, given_address
from .generate import refuse_missing
from .tasks import Runner


def converge(
    spec: GenerateSpec,
    folder: Path,
    *,
    cutoffs: Sequence[float] = (),
    k_points: Sequence[int] = (),
    widths: Sequence[float] = (),
    surrogate: Surrogate | None = None,
    address: str | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Compute the first structure of a specification with several cutoffs and meshes of k-points.

    Args:
        spec: the rest of the settings.
        folder: of the runs; what is finished there is not computed again.
        cutoffs: of the wavefunctions [Ry], going up.
        k_points: along the longest reciprocal vector, going up; the others follow the cell.
        widths: of the broadening of the DOS that is compared [eV]; by default those of the specification.
        surrogate: gives the calculator of a model that moves atoms.
        address: of a running cluster; by default an embedded Ray on this machine.
        progress: how far it is.

    Returns:
        A row for each value, compared with the last one of its scan.

    Raises:
        InputError: the specification cannot be computed, or an SCF failed.
    """
    progress = progress or Silent()
    first = plan_structures(spec, surrogate=surrogate, runs=folder)[0]
    species = read_species(spec.dft, [first.atoms], spec.run.source)
    wanted = steps(spec, species, first, cutoffs=cutoffs, k_points=k_points)
    if given_address(address) is None:
        refuse_missing(spec.run)
    with open_runs(folder) as runs, closing(progress):
        orders = list({step.order.id: step.order for step in wanted}.values())
        with connected(address, say=progress.say, remedy="the same command goes on"):
            failed = Runner(runs, spec.run.ranks, progress).run(orders)
        if failed:
            raise GenerateError(f"an SCF failed: {next(iter(failed.values()))}")
        found = [runs.path(step.order.id) for step in wanted]
        seconds = [float(json.loads((path / DONE).read_text())["cpu_seconds"]) for path in found]
        shown = widths or list(dict.fromkeys(grid.width for grid in spec.ldos))
        return compare(wanted, [read_xml(path / NAME) for path in found], seconds, widths=shown)
