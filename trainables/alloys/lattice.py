"""A lattice of sites in a periodic cell: its symmetry, its neighbour shells, and atoms on it.  Å."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise, product
from typing import Annotated, Self

import ase
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from scipy.spatial import cKDTree

from ..cells import StructureError

Int = NDArray[np.int64]
Float64 = NDArray[np.float64]
_Vector = tuple[float, float, float]
EQUAL = 1e-4  # of the length of the shortest cell vector: sites, shells and metrics that differ by less are the same
OFF = 0.15  # of the distance of nearest sites: an atom further than that from every site is on none
AT_ONCE = 2**16  # positions that are looked for among the sites


class Lattice(BaseModel):
    """Sites of a periodic cell, all of one kind: which element is on which one is a configuration's.

    cell: rows are the cell vectors [Å].  sites: positions, in units of the cell vectors, each from 0 to below 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    cell: tuple[_Vector, _Vector, _Vector]
    sites: Annotated[tuple[_Vector, ...], Field(min_length=1, max_length=100_000)]

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if abs(np.linalg.det(self._cell)) < 1e-3:
            raise ValueError("the cell has no volume")
        if self.n_sites > 1 and self._nearest(self._scaled, 2)[0][:, 1].min() < EQUAL:
            raise ValueError("two sites are at the same place")
        return self

    def __eq__(self, other: object) -> bool:
        """By cell and sites alone: pydantic would compare the arrays that are kept, too."""
        return isinstance(other, Lattice) and (self.cell, self.sites) == (other.cell, other.sites)

    def __hash__(self) -> int:
        return hash((self.cell, self.sites))

    @classmethod
    def of(cls, atoms: ase.Atoms) -> Self:
        """The lattice whose sites are where the atoms of an ideal crystal are.

        Raises:
            StructureError: the cell has no volume, or two atoms are at the same place.
        """
        scaled = np.mod(np.round(atoms.get_scaled_positions(), 12), 1.0)
        try:
            return cls.model_validate({"cell": np.array(atoms.cell).tolist(), "sites": scaled.tolist()})
        except ValidationError as error:
            why = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise StructureError(f"no lattice: {why}; give a cell with one atom on each site") from None

    @property
    def n_sites(self) -> int:
        return len(self.sites)

    @cached_property
    def _cell(self) -> Float64:
        return np.array(self.cell)

    @cached_property
    def _scaled(self) -> Float64:
        return np.mod(np.array(self.sites), 1.0)

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self._scaled, boxsize=np.ones(3))

    def _nearest(self, scaled: Float64, n: int) -> tuple[Float64, Int]:
        """The n sites next to scaled positions, and how far they are in these units, both (n_positions, n).

        Positions may be (..., n_positions, 3), then both are (..., n_positions, n).
        """
        distance, sites = self._tree.query(np.mod(scaled, 1.0), k=list(range(1, n + 1)))
        return np.asarray(distance), np.asarray(sites, dtype=np.int64)

    @cached_property
    def positions(self) -> Float64:
        """Of the sites, (n_sites, 3) [Å]."""
        return self._scaled @ self._cell

    @cached_property
    def permutations(self) -> Int:
        """The symmetry of the empty lattice, (n_operations, n_sites); the first one is the identity.

        Row p says that site i goes to site p[i]: all translations and rotations, proper or not, that leave cell and
        sites as they are.  Operations that move the sites alike are one.
        """
        # Of a rotation one operation is enough: the others are it and a translation.
        translations = np.concatenate(list(self._operations(np.eye(3, dtype=np.int64))))
        found = [translations]
        for rotation in self._rotations():
            if (one := next((rows for rows in self._operations(rotation) if len(rows)), None)) is not None:
                found.append(translations[:, one[0]])
        rows = np.unique(np.concatenate(found), axis=0)
        identity = (rows == np.arange(self.n_sites)).all(axis=1)
        return np.concatenate([rows[identity], rows[~identity]])

    def _operations(self, rotation: Int) -> Iterator[Int]:
        """Rows of ``permutations`` of one rotation: for one place of the first site, then for some at once."""
        turned, at_once = self._scaled @ rotation, max(1, AT_ONCE // self.n_sites)
        for start, end in pairwise([0, *range(1, self.n_sites, at_once), self.n_sites]):
            targets = self._scaled[start:end, None]  # where the first site goes
            distance, sites = self._nearest(turned - turned[0] + targets, 1)
            together = (np.sort(sites[..., 0]) == np.arange(self.n_sites)).all(axis=1)
            yield sites[together & (distance.max(axis=(1, 2)) < EQUAL), :, 0]

    def _rotations(self) -> list[Int]:
        """Integer matrices W that leave the metric of the cell as it is, W G Wᵀ = G; scaled positions go to x W."""
        metric = self._cell @ self._cell.T
        lengths, tolerance = np.diag(metric), 2 * EQUAL * np.diag(metric).max()
        reach = [int(np.ceil(np.sqrt(lengths.max()) * np.linalg.norm(row))) for row in np.linalg.inv(self._cell).T]
        vectors = np.array(list(product(*(range(-n, n + 1) for n in reach))))
        squares = np.einsum("ni,ij,nj->n", vectors, metric, vectors)
        images = [vectors[abs(squares - length) < tolerance] for length in lengths]
        found = []
        for rows in product(*images):
            matrix = np.array(rows)
            if abs(matrix @ metric @ matrix.T - metric).max() < tolerance:
                found.append(matrix)
        return found

    def shells(self, n_shells: int) -> tuple[Float64, list[Int]]:
        """The nearest neighbour shells.

        Args:
            n_shells: how many, from the nearest.

        Returns:
            Their radii, (n_shells,) [Å], and of each the neighbours of all sites, (n_sites, n_neighbours).  A site
            stands in it as often as images of it are neighbours.

        Raises:
            StructureError: the sites differ in their number of neighbours, so that a shell has no size of its own.
        """
        if n_shells not in self._shells:
            self._shells[n_shells] = self._found_shells(n_shells)
        radii, shells = self._shells[n_shells]
        return radii.copy(), list(shells)

    @cached_property
    def _shells(self) -> dict[int, tuple[Float64, list[Int]]]:
        """Those found: simulations and models of one lattice ask for the same ones many times."""
        return {}

    def _found_shells(self, n_shells: int) -> tuple[Float64, list[Int]]:
        shortest = np.sqrt((self._cell**2).sum(1).min())
        margin, radius = EQUAL * shortest, 1.5 * (abs(np.linalg.det(self._cell)) / self.n_sites) ** (1 / 3)
        while True:
            site, neighbour, length = self._within(radius)
            radii = _distinct(length, margin)
            if len(radii) >= n_shells:
                break
            radius *= 1.3
        radii, shells = radii[:n_shells], []
        for r in radii:
            inside = abs(length - r) < margin
            size = np.bincount(site[inside], minlength=self.n_sites)
            if (size != size[0]).any():
                raise StructureError(f"sites of the lattice differ in the number of neighbours at {r:.3f} Å")
            shells.append(neighbour[inside].reshape(self.n_sites, size[0]))
        return radii, shells

    def _within(self, radius: float) -> tuple[Int, Int, Float64]:
        """All pairs of neighbours within a radius [Å]: site, neighbour, distance, sorted by site and neighbour."""
        volume = abs(np.linalg.det(self._cell))
        heights = volume / np.linalg.norm(np.cross(self._cell[[1, 2, 0]], self._cell[[2, 0, 1]]), axis=1)
        margin = radius / heights  # as a share of the cell; images further away are nobody's neighbours
        points, owners = [], []
        for shift in product(*(range(-n, n + 1) for n in np.ceil(margin).astype(int))):
            moved = self._scaled + shift
            near = np.flatnonzero(((moved > -margin - EQUAL) & (moved < 1 + margin + EQUAL)).all(axis=1))
            points.append(moved[near] @ self._cell)
            owners.append(near)
        images = cKDTree(np.concatenate(points))
        pairs = cKDTree(self.positions).sparse_distance_matrix(images, radius, output_type="ndarray")
        pairs = pairs[pairs["v"] > 1e-6]
        neighbours = np.concatenate(owners)[pairs["j"]]
        order = np.lexsort((neighbours, pairs["i"]))
        return pairs["i"][order], neighbours[order], pairs["v"][order]

    def repeated(self, times: tuple[int, int, int]) -> Self:
        """The lattice of a cell that is so many times as long along its vectors.

        Site i of copy c is site c n_sites + i; the copies are in ASE's order, along the last vector first.
        """
        return self.of(self.atoms(["H"] * self.n_sites).repeat(times))

    def sites_of(self, atoms: ase.Atoms) -> Int:
        """On which site each atom is, (n_sites,).

        Raises:
            StructureError: another cell, another number of atoms, an atom off the lattice, or two on one site.
        """
        if len(atoms) != self.n_sites:
            raise StructureError(f"{len(atoms)} atoms, and the lattice has {self.n_sites} sites")
        cell = np.array(atoms.cell)
        if not np.allclose(cell, self._cell, atol=1e-2 * np.sqrt((self._cell**2).sum(1).min())):
            raise StructureError("its cell is not the one of the lattice; give one of the same vectors")
        sites = self._nearest(atoms.get_scaled_positions(), 1)[1][:, 0]
        away = atoms.get_scaled_positions() - self._scaled[sites]
        distance = np.linalg.norm((away - np.round(away)) @ self._cell, axis=1)
        limit = OFF * (1.0 if self.n_sites == 1 else self.shells(1)[0][0])
        if distance.max() > limit:
            worst = int(distance.argmax())
            raise StructureError(
                f"atom {worst} ({atoms.symbols[worst]}) is {distance[worst]:.2f} Å from the next site of the lattice"
            )
        twice = np.flatnonzero(np.bincount(sites, minlength=self.n_sites) > 1)
        if len(twice):
            raise StructureError(f"two atoms are on site {twice[0]} of the lattice")
        return sites

    def atoms(self, symbols: Sequence[str]) -> ase.Atoms:
        """A configuration as atoms; ``symbols`` by site."""
        return ase.Atoms(symbols=list(symbols), scaled_positions=self._scaled, cell=self._cell, pbc=True)


def _distinct(values: Float64, margin: float) -> Float64:
    """The distinct ones among numbers, sorted; those within a margin are one, their mean."""
    ordered = np.sort(values)
    groups = np.split(ordered, np.flatnonzero(np.diff(ordered) > margin) + 1)
    return np.array([group.mean() for group in groups if len(group)])


def orbit_key(species: NDArray[np.uint8], permutations: Int) -> int:
    """What all symmetry images of a configuration have in common: the smallest number that one of them has in binary.

    Args:
        species: 0 or 1 by site, (n_sites,); site i is bit i.
        permutations: as ``Lattice.permutations``.
    """
    images = np.zeros((len(permutations), 32 * -(-species.size // 32)), dtype=np.uint8)
    images[:, : species.size] = species[permutations]  # image p has on site i what was on site p[i]
    words = np.packbits(images, axis=1, bitorder="little").view("<u4")
    return int.from_bytes(words[np.lexsort(words.T)[0]].tobytes(), "little")
