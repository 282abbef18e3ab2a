"""What is computed for a specification: coarse SCFs first, whose bands decide about the rest.  Energies in eV."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import InputError, one_line
from ...physics.smearing import Kernel
from ...physics.units import K_B
from ..energy_grid import EnergyGrid
from ..importing.quantum_espresso.calculation import TAIL
from ..importing.quantum_espresso.pw_run import PwRun
from .computing import Order, check_window
from .inputs import pw_input
from .spec import GenerateError, GenerateSpec, Ldos
from .species import Species, free_bands, pw_memory
from .structures import Planned

WARM = 12.0  # k_B τ above the Fermi level where no electrons are left: 6e-6
COARSER = 2.0  # distance of the k-points of a first look, in those of the mesh
ROUGH = 1e-6  # conv_thr of a first look [Ry]
MOST_LOOKS = 4  # with more and more bands


@dataclass(frozen=True, eq=False)
class Look:
    """A coarse SCF of the smallest or the largest volume an atom of some snapshots of equal size.

    Attributes:
        order: of the SCF.
        planned: the snapshot whose structure it has.
        bands: their number.
    """

    order: Order
    planned: Planned
    bands: int


def size(planned: Planned) -> tuple[str, int]:
    """Snapshots that take equally many bands: those of one composition."""
    return planned.atoms.get_chemical_formula(), len(planned.atoms)


def to_look_at(spec: GenerateSpec, species: Species, planned: Sequence[Planned]) -> list[Look]:
    """First looks at the smallest and the largest volume of each composition."""
    found = []
    for composition in dict.fromkeys(map(size, planned)):
        alike = [one for one in planned if size(one) == composition]
        ends = [min(alike, key=lambda p: p.atoms.get_volume()), max(alike, key=lambda p: p.atoms.get_volume())]
        if ends[1].atoms.get_volume() < 1.001 * ends[0].atoms.get_volume():
            ends = ends[1:]
        found += [_look(spec, species, one, _guess(spec, species, one)) for one in ends]
    return found


def _guess(spec: GenerateSpec, species: Species, planned: Planned) -> int:
    if spec.dft.bands is not None:
        return spec.dft.bands
    reach = WARM * K_B * spec.hottest + 2 * TAIL * max(grid.width for grid in spec.ldos)
    return free_bands(planned.atoms.get_volume(), species.electrons(planned.atoms), reach)


def refuse_large(spec: GenerateSpec, species: Species, planned: Sequence[Planned], memory: float) -> None:
    """Raise GenerateError if pw.x takes more memory for a snapshot than so many bytes."""
    takes, worst = max(
        ((_memory(spec, one, _guess(spec, species, one)), one) for one in planned), key=lambda two: two[0]
    )
    if takes > memory:
        raise GenerateError(
            f"snapshot {worst.id}: pw.x would take {takes / 1e9:,.0f} GB for {len(worst.atoms)} atoms in "
            f"{worst.atoms.get_volume():,.0f} Å³ with some {_guess(spec, species, worst):,} bands, and this machine "
            f"has {memory / 1e9:.0f}; take a smaller cell, a lower cutoff_ry, fewer k-points, or a cluster by --address"
        )


def _memory(spec: GenerateSpec, planned: Planned, bands: int) -> float:
    """Bytes that pw.x takes for a snapshot."""
    points, pools = math.prod(spec.dft.mesh(np.array(planned.atoms.cell))), spec.run.pools or spec.run.ranks
    return pw_memory(planned.atoms.get_volume(), bands, points, spec.dft, pools=pools)


def _look(spec: GenerateSpec, species: Species, planned: Planned, bands: int) -> Look:
    dft = spec.dft
    mesh = dft.mesh(np.array(planned.atoms.cell), coarser=COARSER)
    most = dft.mesh(np.array(planned.atoms.cell))
    mesh = tuple(min(max(n, 2), m) for n, m in zip(mesh, most))  # type: ignore[assignment]  # three of them
    rough = max(ROUGH, dft.convergence)
    texts = [
        pw_input(
            planned.atoms,
            dft,
            species.names,
            mesh=mesh,
            bands=bands,
            gentle=gentle,
            convergence=rough,
            temperature=spec.hottest,
        )
        for gentle in (False, True)
    ]
    return Look(order_of(spec, species, f"first-look-{planned.id}-{bands}", texts, ()), planned, bands)


def order_of(
    spec: GenerateSpec,
    species: Species,
    name: str | None,
    inputs: Sequence[str],
    grids: Sequence[EnergyGrid],
    *,
    memory: float = 0.0,
) -> Order:
    """An order; without a name it has one of its key.  ``memory``: bytes that pw.x takes for it."""
    decides = [inputs[0], species.checksums, [grid.model_dump(exclude={"rule"}) for grid in grids], spec.run.source]
    key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
    return Order(
        id=name or key[:12],
        inputs=tuple(inputs),
        pseudopotentials={species.names[symbol]: content for symbol, content in species.contents.items()},
        grids=tuple(grids),
        run=spec.run,
        key=key,
        memory=memory,
    )


def look_again(
    spec: GenerateSpec, species: Species, look: Look, seen: PwRun, grids: Sequence[EnergyGrid]
) -> Look | None:
    """The same with more bands, where those seen end too early; None if they do not, or their number is given."""
    assert seen.bands is not None
    needed = max(float(grid.energy[-1]) + TAIL * grid.width for grid in grids)
    if spec.dft.bands is not None or seen.bands.complete_to >= needed:
        return None
    bottom = float(seen.bands.energy.min())
    more = ((needed - bottom) / max(seen.bands.complete_to - bottom, 1.0)) ** 1.5
    return _look(spec, species, look.planned, math.ceil(1.15 * more * look.bands) + 2)


def grids_of(spec: GenerateSpec, seen: Sequence[PwRun]) -> list[EnergyGrid]:
    """Energies of the LDOS: as given, or from below all states to where no electrons are.

    Raises:
        GenerateError: they do not fit together.
    """
    bottom = min(float(run.bands.energy.min()) for run in seen if run.bands is not None)
    fermi = max(run.fermi_level for run in seen if run.fermi_level is not None)
    found = []
    for one in spec.ldos:
        low = bottom - TAIL * one.width if one.minimum is None else one.minimum
        high = fermi + WARM * K_B * spec.hottest + TAIL * one.width if one.maximum is None else one.maximum
        if one.minimum is None:
            low = math.floor(low / one.spacing) * one.spacing
        n = math.floor((high - low) / one.spacing + (1e-6 if one.maximum is not None else 1))
        found.append(_grid(one, round(low, 9), n + 1, one.kernel))
    return found


def _grid(one: Ldos, low: float, n_energy: int, kernel: Kernel) -> EnergyGrid:
    try:
        return EnergyGrid(minimum=low, spacing=one.spacing, n_energy=n_energy, kernel=kernel, width=one.width)
    except ValueError as error:
        raise GenerateError(f"[ldos]: {one_line(error)}") from error


def check_looks(looks: Sequence[Look], seen: Sequence[PwRun], grids: Sequence[EnergyGrid]) -> None:
    """Raise GenerateError if a window cuts occupied states, or the bands end too early."""
    for look, run in zip(looks, seen):
        try:
            check_window(run, grids)
        except InputError as error:
            raise GenerateError(f"snapshot {look.planned.id}, with few k-points: {error}") from error


def bands_of(
    spec: GenerateSpec, looks: Sequence[Look], seen: Sequence[PwRun], grids: Sequence[EnergyGrid]
) -> dict[tuple[str, int], int]:
    """Bands that the snapshots of each composition need: a tenth more than those seen below the last energy."""
    needed = max(float(grid.energy[-1]) + TAIL * grid.width for grid in grids)
    found: dict[tuple[str, int], int] = {}
    for look, run in zip(looks, seen):
        assert run.bands is not None
        counted = int((run.bands.energy < needed).sum(axis=1).max())
        bands = spec.dft.bands or math.ceil(1.1 * counted) + 2
        found[size(look.planned)] = max(bands, found.get(size(look.planned), 0))
    return found


def orders_of(
    spec: GenerateSpec,
    species: Species,
    planned: Sequence[Planned],
    grids: Sequence[EnergyGrid],
    bands: Mapping[tuple[str, int], int],
) -> list[Order]:
    """All snapshots, to be computed."""
    found = []
    for one in planned:
        mesh = spec.dft.mesh(np.array(one.atoms.cell))
        texts = [
            pw_input(
                one.atoms,
                spec.dft,
                species.names,
                mesh=mesh,
                bands=bands[size(one)],
                gentle=gentle,
                temperature=one.temperature,
            )
            for gentle in (False, True)
        ]
        found.append(order_of(spec, species, one.id, texts, grids, memory=_memory(spec, one, bands[size(one)])))
    return found
