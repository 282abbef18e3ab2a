"""From configurations that an importer found to a dataset: one lattice, two elements, pure crystals.  eV, Å."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from ..cells import StructureError
from ..errors import DatasetError
from .data import AlloyData, Configurations, formation_energy, with_orbits, write_dataset
from .lattice import Lattice
from .units import MRY

Report = Callable[[str], None]
SAME_CHARGE = 0.02  # [e]: charges of equal sites differ by no more, whatever the code leaves of the symmetry
SAME_ENERGY = 1e-3  # [eV/atom]: a pure crystal's energy may differ by so much from the one that is recorded


@dataclass(frozen=True, eq=False)
class FoundConfiguration:
    """A configuration as an importer found it, atoms in the order of their file.

    where: file to name in an error.  numbers: atomic, charge: electrons in each atom's cell, moment [μ_B], (n_atoms,).
    energy: total [eV].  converged: None: nothing tells.  atoms: where they are; None: in the order of the sites.
    """

    id: str
    where: str
    numbers: NDArray[np.int64]
    energy: float
    charge: NDArray[np.float64]
    moment: NDArray[np.float64]
    converged: bool | None
    residual: float | None = None
    atoms: ase.Atoms | None = None


@dataclass(frozen=True, eq=False)
class FoundAlloy:
    """All that an importer found.

    lattice: of all of them.  symbols, pure_energies [eV/atom]: as the files say, or None.
    """

    configurations: Sequence[FoundConfiguration]
    lattice: Lattice
    code: str
    source: str
    symbols: tuple[str, str] | None = None
    pure_energies: tuple[float, float] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def plan(
        self,
        *,
        validation: Sequence[str] | None = None,
        test: Sequence[str] | None = None,
        check: str = "strict",
        report: Report = lambda line: None,
        **other: Any,
    ) -> "AlloyPlan":
        """Check all of it, and say what will be written.

        Args:
            validation, test: refused; splits are drawn by the study.
            check: ``strict`` refuses unconverged configurations, ``warn`` marks them.
            report: called with one line for each that is marked.
            other: what is said of other kinds of data.

        Raises:
            DatasetError: something is inconsistent; names file, reason and remedy.
        """
        if validation or test:
            raise DatasetError("splits of configurations are drawn by each study; leave --validation and --test out")
        if given := [name for name, value in other.items() if value is not None]:
            raise DatasetError(f"--{given[0]} is for other data than configurations on a lattice; leave it out")
        if not self.configurations:
            raise DatasetError("nothing to import: the importer found no configuration")
        symbols = self.symbols or self._symbols()
        species, order = self._by_site(symbols)
        self._refuse_twice(species)
        converged = self._converged(check, report)
        energy = np.array([one.energy for one in self.configurations])
        pure = self._pure(symbols, species, energy)
        orbit, multiplicity = with_orbits(species, self.lattice)
        charges = np.array([one.charge[o] for one, o in zip(self.configurations, order, strict=True)])
        self._refuse_other_sites(species, charges, converged, check, report)
        found = Configurations(
            tuple(one.id for one in self.configurations),
            species,
            energy,
            charges,
            np.array([one.moment[o] for one, o in zip(self.configurations, order, strict=True)]),
            converged,
            np.array([np.nan if c.residual is None else c.residual for c in self.configurations]),
            orbit,
            multiplicity,
        )
        for name in ("energy", "charge", "moment"):
            finite = np.isfinite(getattr(found, name)).reshape(len(found), -1).all(axis=1)
            if not finite.all():
                where = self.configurations[int(finite.argmin())].where
                raise DatasetError(f"{where}: '{name}' is not finite; leave this configuration out")
        return AlloyPlan(self, symbols, pure, found)

    def _symbols(self) -> tuple[str, str]:
        """The two elements, by atomic number."""
        first: dict[int, str] = {}
        for one in self.configurations:
            for number in np.unique(one.numbers):
                first.setdefault(int(number), one.where)
        if len(first) != 2:
            named = ", ".join(f"{chemical_symbols[n]} (in {where})" for n, where in sorted(first.items())[:4])
            raise DatasetError(f"two elements are needed, and there are {len(first)}: {named}; import others apart")
        one_, two = sorted(first)
        return chemical_symbols[one_], chemical_symbols[two]

    def _by_site(self, symbols: tuple[str, str]) -> tuple[NDArray[np.uint8], list[NDArray[np.int64]]]:
        """Species by site, (n, n_sites), and of each configuration the atom on each site."""
        number_of = {chemical_symbols.index(symbol): n for n, symbol in enumerate(symbols)}
        rows, orders = [], []
        for one in self.configurations:
            if other := set(one.numbers.tolist()) - set(number_of):
                named = chemical_symbols[min(other)]
                raise DatasetError(f"{one.where}: has {named}, and the alloy is {''.join(symbols)}; import it apart")
            if len(one.numbers) != self.lattice.n_sites:
                raise DatasetError(
                    f"{one.where}: {len(one.numbers)} atoms, and the lattice has {self.lattice.n_sites} sites; "
                    "a dataset has one cell"
                )
            order = np.arange(self.lattice.n_sites)
            if one.atoms is not None:
                try:
                    order = np.argsort(self.lattice.sites_of(one.atoms))
                except StructureError as error:
                    raise DatasetError(f"{one.where}: {error}") from None
            orders.append(order)
            rows.append([number_of[int(number)] for number in one.numbers[order]])
        return np.array(rows, dtype=np.uint8), orders

    def _refuse_twice(self, species: NDArray[np.uint8]) -> None:
        seen: dict[bytes, str] = {}
        ids: dict[str, str] = {}
        for one, row in zip(self.configurations, species, strict=True):
            if one.id in ids:
                raise DatasetError(f"{one.where}: id '{one.id}' is that of {ids[one.id]}, too; ids are unique")
            if (other := seen.setdefault(row.tobytes(), one.where)) != one.where or ids.get(one.id):
                raise DatasetError(f"{one.where}: is the configuration of {other}; leave one of them out")
            ids[one.id] = one.where

    def _converged(self, check: str, report: Report) -> NDArray[np.bool_]:
        for one in self.configurations:
            if one.converged:
                continue
            why = "nothing says whether it has converged" if one.converged is None else "it has not converged"
            if one.residual is not None:
                why += f" (residual {one.residual:.1e})"
            if check != "warn":
                raise DatasetError(f"{one.where}: {why}; run it longer, or import with --check warn, which marks it")
            report(f"warning: {one.where}: {why}; it is marked, and not learnt from")
        return np.array([bool(one.converged) for one in self.configurations])

    def _refuse_other_sites(
        self, species: NDArray[np.uint8], charges: NDArray[np.float64], converged: NDArray[np.bool_], check: str,
        report: Report,
    ) -> None:  # fmt: skip
        """Refuse sites that are no crystal, or that a configuration's own symmetry makes equal, of other charges."""
        remedy = (
            "give the structure file of this lattice, its atoms in the order of the sites, or import with --check warn"
        )
        try:
            self.lattice.shells(1)
        except StructureError as error:
            if check != "warn":
                raise DatasetError(f"{self.source}: {error}; {remedy}") from None
            report(f"warning: {self.source}: {error}")
        for row in np.flatnonzero(converged):
            moved = species[row][self.lattice.permutations]
            own = self.lattice.permutations[(moved == species[row]).all(axis=1)]
            differ = float(np.ptp(charges[row][own], axis=0).max())
            if differ > SAME_CHARGE:
                said = (
                    f"{self.configurations[int(row)].where}: charges of sites that the lattice's symmetry makes equal "
                    f"differ by {differ:.2g} e"
                )
                if check != "warn":
                    raise DatasetError(f"{said}; {remedy}")
                report(f"warning: {said}")

    def _pure(
        self, symbols: tuple[str, str], species: NDArray[np.uint8], energy: NDArray[np.float64]
    ) -> tuple[float, float]:
        """Energies of the pure crystals [eV/atom], as recorded or as found among the configurations."""
        n = self.lattice.n_sites
        found = [energy[species.sum(axis=1, dtype=int) == count] / n for count in (0, n)]
        pure = []
        for k, symbol in enumerate(symbols):
            if self.pure_energies is None and not len(found[k]):
                raise DatasetError(
                    f"no configuration is pure {symbol}, and no energy of it is recorded; formation energies need it, "
                    f"so compute {n} atoms of {symbol} on the same lattice by the same code"
                )
            recorded = found[k][0] if self.pure_energies is None else self.pure_energies[k]
            if len(found[k]) and abs(found[k][0] - recorded) > SAME_ENERGY:
                raise DatasetError(
                    f"pure {symbol} has {found[k][0]:.6f} eV/atom, and {recorded:.6f} is recorded; "
                    "all energies of a dataset come from one code with one setting"
                )
            pure.append(float(recorded))
        return pure[0], pure[1]


@dataclass(frozen=True, eq=False)
class AlloyPlan:
    """What is to be written."""

    found: FoundAlloy
    symbols: tuple[str, str]
    pure_energies: tuple[float, float]
    configurations: Configurations

    def lines(self) -> list[str]:
        """For people."""
        c, n = self.configurations, self.found.lattice.n_sites
        energy = formation_energy(c.energy, c.species, self.pure_energies) / n / MRY
        return [
            f"{self.found.source}: {len(c)} configurations of {''.join(self.symbols)} on {n} sites, "
            f"{len(set(c.orbit))} that no symmetry makes equal; {int((~c.converged).sum())} unconverged",
            f"formation energies from {energy.min():.2f} to {energy.max():.2f} mRy/atom",
            "nothing was written",
        ]

    def write(self, destination: Path, *, source: str | None = None) -> AlloyData:
        """Write the dataset; errors as ``data.write_dataset``."""
        return write_dataset(
            destination,
            self.configurations,
            symbols=self.symbols,
            lattice=self.found.lattice,
            pure_energies=self.pure_energies,
            code=self.found.code,
            settings=dict(self.found.settings),
            source=source or self.found.source,
        )
