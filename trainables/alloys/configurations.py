"""Which configurations of an alloy are computed: named ones, ones drawn at random, ones that models disagree on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..cells import StructureError
from ..data.generating.spec import GenerateError, Table
from ..errors import InputError
from ..structures import read_structures
from .data import AlloyData
from .lattice import Lattice, orbit_key
from .shell_model import ShellModel, drawn_models

Species = NDArray[np.uint8]
TRIES = 50  # draws of one composition that are all known before it is taken for exhausted
DRAWS = 40  # models whose disagreement is looked at


class Select(Table):
    """Configurations that are selected."""

    dataset: str = Field(description="folder of a dataset on the same sites, of which models are made")
    number: int = Field(ge=1, le=10_000, description="how many")
    among: int = Field(default=1000, ge=1, le=100_000, description="how many are drawn to select from")


class ConfigurationsTable(Table):
    """The table [configurations] of a specification.  The two pure crystals are always computed."""

    random: int = Field(default=0, ge=0, le=100_000, description="how many are drawn, all compositions in turn")
    seed: int = Field(default=0, ge=0, description="equal seeds draw equal configurations")
    files: tuple[str, ...] = Field(default=(), description="structure files, all structures of each")
    species: tuple[str, ...] = Field(
        default=(), description="elements in the order of the sites, as '0110...', or 'Cu Au ...'"
    )
    select: Select | None = Field(default=None, description="more of them, where models of a dataset disagree most")


@dataclass(frozen=True, eq=False)
class Configuration:
    """A configuration to compute; ``species`` 0 or 1 by site, (n_sites,)."""

    id: str
    species: Species

    @classmethod
    def of(cls, species: Species) -> "Configuration":
        """With a name of its own: atoms of the second element, and a hash."""
        return cls(f"{int(species.sum()):03d}-{hashlib.sha256(species.tobytes()).hexdigest()[:10]}", species)

    @property
    def n_second(self) -> int:
        """Atoms of the second element."""
        return int(self.species.sum())


def configurations(table: ConfigurationsTable, lattice: Lattice, symbols: tuple[str, str]) -> list[Configuration]:
    """All that is to be computed: the pure crystals, the named configurations, the drawn ones.

    Drawn ones have an equal share of each composition, as far as it has so many, and are equal by symmetry neither to
    each other nor to named ones.

    Raises:
        InputError: a structure or a text is no configuration, one is there twice, or there are not so many.
    """
    n = lattice.n_sites
    given = [np.zeros(n, dtype=np.uint8), np.ones(n, dtype=np.uint8)]
    seen = {one.tobytes(): "a pure crystal, which is computed anyway" for one in given}
    for where, species in _named(table, lattice, symbols):
        if species.tobytes() in seen:
            raise GenerateError(f"{where}: is the configuration of {seen[species.tobytes()]}; leave one of them out")
        seen[species.tobytes()] = where
        given.append(species)
    known = {orbit_key(species, lattice.permutations) for species in given}
    rng = np.random.default_rng(table.seed)
    drawn = draw(lattice, table.random, known, rng)
    if len(drawn) < table.random:
        raise GenerateError(
            f"key 'configurations.random': {table.random} are asked for, and {len(drawn)} were found that no symmetry "
            "makes equal; ask for fewer"
        )
    if table.select is not None:
        drawn += _disagreed(table.select, lattice, symbols, known, rng)
    return [Configuration.of(species) for species in (*given, *drawn)]


def species_of(text: str, symbols: tuple[str, str], n_sites: int) -> Species:
    """0 or 1 by site, of a text as '0110...' or 'Cu Au Au ...'.  Raises InputError: it is none of so many sites."""
    words = list(text.strip()) if text.strip().isdecimal() else text.replace(",", " ").split()
    names = {symbols[0]: 0, symbols[1]: 1, "0": 0, "1": 1}
    if other := [word for word in words if word not in names]:
        raise InputError(f"'{other[0][:20]}' is neither {symbols[0]} nor {symbols[1]}, nor 0 or 1")
    if len(words) != n_sites:
        raise InputError(f"{len(words)} elements, and the lattice has {n_sites} sites")
    return np.array([names[word] for word in words], dtype=np.uint8)


def _named(table: ConfigurationsTable, lattice: Lattice, symbols: tuple[str, str]) -> list[tuple[str, Species]]:
    found = []
    for number, text in enumerate(table.species):
        where = f"key 'configurations.species.{number}'"
        try:
            found.append((where, species_of(text, symbols, lattice.n_sites)))
        except InputError as error:
            raise GenerateError(f"{where}: {error}") from None
    for file in table.files:
        for number, atoms in enumerate(read_structures(Path(file), ":")):
            where = f"{file}, structure {number}"
            try:
                by_site = atoms.symbols[np.argsort(lattice.sites_of(atoms))]
                found.append((where, species_of(" ".join(by_site), symbols, lattice.n_sites)))
            except (StructureError, InputError) as error:
                raise GenerateError(f"{where}: {error}") from None
    return found


def draw(lattice: Lattice, number: int, known: set[int], rng: np.random.Generator) -> list[Species]:
    """Draw configurations that no symmetry makes equal, all compositions in turn; fewer if there are no more.

    Args:
        lattice: of all of them.
        number: how many.
        known: orbit keys that are not drawn; those that are drawn are added.
        rng: where chance comes from.
    """
    n, found = lattice.n_sites, list[Species]()
    left = list(range(1, n))
    while left and len(found) < number:
        for n_second in rng.permutation(left)[: number - len(found)].tolist():
            for _ in range(TRIES):
                species = np.zeros(n, dtype=np.uint8)
                species[rng.choice(n, n_second, replace=False)] = 1
                if (key := orbit_key(species, lattice.permutations)) not in known:
                    known.add(key)
                    found.append(species)
                    break
            else:
                left.remove(n_second)
    return found


def _disagreed(
    select: Select, lattice: Lattice, symbols: tuple[str, str], known: set[int], rng: np.random.Generator
) -> list[Species]:
    data = AlloyData.open(select.dataset)
    if data.info.lattice != lattice or data.info.symbols != symbols:
        raise GenerateError(
            f"{select.dataset}: is of {''.join(data.info.symbols)} on {data.info.lattice.n_sites} sites, not of this "
            "alloy and lattice; select by a dataset of the same sites in the same order"
        )
    rows = data.all.converged
    models = ShellModel.candidates(lattice, data.all.species[rows], data.formation_energies[rows])
    known |= {int(orbit, 16) for orbit in data.all.orbit}
    pool = draw(lattice, select.among, known, rng)
    if len(pool) < select.number:
        raise GenerateError(
            f"key 'configurations.select': {select.number} are asked for, and {len(pool)} were drawn that no symmetry "
            "makes equal to others; ask for fewer, or raise among"
        )
    return most_disagreed(drawn_models(models, DRAWS, rng), lattice, pool, select.number)


def most_disagreed(
    models: Sequence[ShellModel], lattice: Lattice, pool: Sequence[Species], number: int
) -> list[Species]:
    """The configurations whose formation energy scatters most between models, the most first."""
    scatter = np.std([model.energy(lattice, np.array(pool)) for model in models], axis=0)
    return [pool[i] for i in np.argsort(-scatter, kind="stable")[:number]]
