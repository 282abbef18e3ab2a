"""Reader of the log of pw.x, its standard output (versions 5 to 7).  The log has Rydberg atomic units.

Source: the writers of Quantum ESPRESSO (PW/src/summary.f90, PW/src/electrons.f90, PW/src/print_ks_energies.f90).
"""

import re
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from ....errors import DatasetError, printable
from ....files import read_text
from ....physics.units import BOHR, RYDBERG
from .log_kinds import LARGEST
from .pw_run import Bands, PwRun, element, smearing

BEGINNING = "Program PWSCF"
AGAIN = "give the whole log, as pw.x wrote it"
_TERMS = {
    "one-electron contribution": "one_electron",
    "hartree contribution": "hartree",
    "xc contribution": "xc",
    "ewald contribution": "ewald",
    "smearing contrib. (-TS)": "smearing",
    "smearing contrib. (-TS, in F)": "smearing",
}
# They are no terms, but sums of them.
_SUMS = ("internal energy", "total all-electron energy", "total energy", "Harris-Foulkes estimate")
_NUMBER = r"([-+]?\d+\.?\d*(?:[EeDd][-+]?\d+)?)"
_TERM = re.compile(rf"^!?\s+(\S.*?)\s*=\s*{_NUMBER} Ry\b")
_SPIN = "spin-polarised; dftune knows electrons without spin polarisation, so run pw.x with nspin = 1"
_NOT_COVERED = {
    "Starting magnetic structure": _SPIN,
    "------ SPIN UP": _SPIN,
    "convergence NOT achieved": "the SCF did not converge; run pw.x to convergence",
    "Maximum CPU time exceeded": "pw.x ran out of time; run it to its end",
    "Error in routine": "pw.x ended with an error; mend its input and run it again",
}
# What keeps total energies away, where no term of the sum says it.
_BEYOND = {
    "2D cutoff": "assume_isolated = '2D'",
    "Martyna-Tuckerman method": "assume_isolated = 'mt'",
    "Effective Screening Medium Method": "assume_isolated = 'esm'",
    "EXX-fraction": "exact exchange",
    "LDA+U calculation": "a Hubbard U",
    "DFT+U calculation": "a Hubbard U",
}


def read_log(path: Path) -> PwRun:
    """Read what pw.x found.

    Raises:
        DatasetError: written by half, or of a calculation that did not converge or is not covered; names the line.
    """
    # Paths and names in it have the encoding of their machine; numbers are read as they are.
    return _Log(path, read_text(path, LARGEST, other="latin-1").splitlines()).run()


class _Log:
    """The lines of a log, and where in them something stands."""

    def __init__(self, path: Path, lines: list[str]) -> None:
        self.path, self.lines = path, lines

    def run(self) -> PwRun:
        self._forget_cycles_of_exchange()
        self._refuse()
        alat = float(self.need(rf"celldm\(1\)=\s*{_NUMBER}")[1]) * BOHR
        start, _ = self._after(r"crystal axes")
        axes = [self._floats(start + i, r"\(([^()]*)\)\s*$") for i in (1, 2, 3)]
        symbols, positions = self._atoms()
        valences, files, checksums = self._species()
        kind, width = self._occupations()
        terms, total, beyond = self._energies()
        fermi = self.find(rf"the Fermi energy is\s+{_NUMBER} ev")
        return PwRun(
            where=self.path,
            version=self.need(r"Program PWSCF\s+v\.?\s*(\S+)")[1],
            calculation="scf" if total is not None else "nscf",
            cell=np.array(axes) * alat,
            positions=positions * alat,
            symbols=symbols,
            valences=valences,
            pseudopotentials=files,
            checksums=checksums,
            n_electrons=float(self.need(rf"number of electrons\s+=\s+{_NUMBER}")[1]),
            grid=self._grid(),
            wave_cutoff=float(self.need(rf"kinetic-energy cutoff\s+=\s+{_NUMBER}\s+Ry")[1]) * RYDBERG,
            density_cutoff=float(self.need(rf"charge density cutoff\s+=\s+{_NUMBER}\s+Ry")[1]) * RYDBERG,
            functional=self._functional(),
            smearing=kind,
            degauss=width * RYDBERG,
            degauss_error=0.5e-4 * RYDBERG,  # printed as F8.4
            terms=terms,
            total_energy=total,
            fermi_level=None if fermi is None else float(fermi[1]),
            forces=self._forces(len(symbols)),
            stress=self._stress(),
            bands=self._bands(),
            beyond=beyond,
        )

    def find(self, pattern: str) -> re.Match[str] | None:
        compiled = re.compile(pattern)
        return next((found for line in self.lines if (found := compiled.search(line))), None)

    def need(self, pattern: str) -> re.Match[str]:
        if (found := self.find(pattern)) is None:
            words = re.sub(r"\\s[+*]|\(\[.*|[\\^$]", " ", pattern).strip()
            raise DatasetError(
                f"{self.path}: has no line '{words} ...'; not a whole log of pw.x, so give the whole one"
            )
        return found

    def _after(self, pattern: str) -> tuple[int, str]:
        compiled = re.compile(pattern)
        for i, line in enumerate(self.lines):
            if compiled.search(line):
                return i, line
        raise DatasetError(f"{self.path}: has no line '{pattern}'; not a whole log of pw.x, so give the whole one")

    def refuse(self, i: int, problem: str) -> NoReturn:
        raise DatasetError(f"{self.path}, line {i + 1}: {problem}")

    def _floats(self, i: int, pattern: str) -> list[float]:
        found = re.search(pattern, self.lines[i]) if i < len(self.lines) else None
        try:
            values = [float(word) for word in found[1].split()] if found else []
        except ValueError:
            values = []
        if len(values) != 3:
            line = printable(self.lines[i].strip())[:40] if i < len(self.lines) else "the end"
            self.refuse(i, f"{line!r} where three numbers belong; {AGAIN}")
        return values

    def _forget_cycles_of_exchange(self) -> None:
        """Of a hybrid functional the last SCF cycle counts: before it, pw.x repeats them with a better exchange."""
        starts = [i for i, line in enumerate(self.lines) if "Self-consistent Calculation" in line]
        if starts and any("EXX-fraction" in line for line in self.lines):
            self.lines[starts[0] : starts[-1]] = [""] * (starts[-1] - starts[0])

    def _refuse(self) -> None:
        """Raise DatasetError where the log is not of one converged calculation that the physics covers."""
        for i, line in enumerate(self.lines):
            for words, problem in _NOT_COVERED.items():
                if words in line:
                    self.refuse(i, problem)
        if any("total magnetization" in line for line in self.lines):
            self.refuse(self._after("total magnetization")[0], _SPIN.replace("spin-polarised", "magnetic"))
        starts = [i for i, line in enumerate(self.lines) if BEGINNING in line]
        if len(starts) > 1:
            self.refuse(starts[1], "a second run in one log; keep the log of one run a file")
        if not any("JOB DONE" in line for line in self.lines):
            raise DatasetError(f"{self.path}: ends before JOB DONE; run pw.x to its end, or give the whole log")
        cycles = [i for i, line in enumerate(self.lines) if re.match(r"!(?!!)", line)]
        if len(cycles) > 1:
            self.refuse(
                cycles[1],
                f"{len(cycles)} SCF cycles in one log, of a relaxation or molecular dynamics; its LDOS is that of the "
                "last structure only, so run an scf calculation of that",
            )

    def _atoms(self) -> tuple[list[str], NDArray[np.float64]]:
        """Symbols, and positions in units of alat."""
        pattern = re.compile(r"^\s+\d+\s+(\S+)\s+tau\(\s*\d+\)\s+=\s+\((.*?)\)")
        first = self._after(r"positions \(alat units\)|positions \(a_0 units\)")[0] + 1
        symbols, positions = list[str](), list[list[float]]()
        while first + len(symbols) < len(self.lines) and (found := pattern.match(self.lines[first + len(symbols)])):
            positions.append(self._floats(first + len(symbols), r"=\s+\((.*?)\)"))
            symbols.append(element(found[1], self.path))
        if len(symbols) != int(self.need(r"number of atoms/cell\s+=\s+(\d+)")[1]):
            self.refuse(first + len(symbols), f"atoms are missing in the table of positions; {AGAIN}")
        return symbols, np.array(positions)

    def _species(self) -> tuple[dict[str, float], dict[str, str], dict[str, str]]:
        """Valences, files and MD5 of the pseudopotentials, by element."""
        row = self._after(r"atomic species\s+valence")[0] + 1
        valences, files, checksums = dict[str, float](), dict[str, str](), dict[str, str]()
        while row < len(self.lines) and len(words := self.lines[row].split()) >= 3:
            symbol, valence = element(words[0], self.path), float(words[1])
            if valences.setdefault(symbol, valence) != valence:
                self.refuse(row, f"{symbol} has another valence than before; one pseudopotential an element is needed")
            row += 1
        for i, line in enumerate(self.lines):
            if found := re.match(r"\s+PseudoPot\. #\s*\d+ for\s+(\S+)\s+read from file:?\s*(\S*)", line):
                symbol = element(found[1], self.path)
                name = found[2] or self.lines[i + 1].strip()
                if files.setdefault(symbol, name) != name:
                    self.refuse(i, f"{symbol} has two pseudopotentials; one an element is needed")
                if md5 := re.search(r"MD5 check sum:\s*([0-9a-f]{32})", "\n".join(self.lines[i : i + 4])):
                    checksums[symbol] = md5[1]
        return valences, files, checksums

    def _grid(self) -> tuple[int, int, int]:
        found = self.need(r"FFT dimensions:\s*\(\s*(\d+),\s*(\d+),\s*(\d+)\)")
        return int(found[1]), int(found[2]), int(found[3])

    def _functional(self) -> str:
        words = self.need(r"Exchange-correlation\s*=\s*(.*)")[1]
        return " ".join(re.split(r"\(\s*\d", words)[0].split())

    def _occupations(self) -> tuple[str, float]:
        found = self.find(rf"number of k points=\s*\d+\s+(\S+) smearing, width \(Ry\)=\s*{_NUMBER}")
        if found is not None:
            return smearing(found[1]), float(found[2])
        tetrahedra = self.find(r"number of k points=.*tetrahedr")
        return ("tetrahedra" if tetrahedra else "fixed occupations"), 0.0

    def _energies(self) -> tuple[dict[str, float], float | None, tuple[str, ...]]:
        """Known terms and the total [eV], and what else is in it."""
        beyond = [name for words, name in _BEYOND.items() if any(words in line for line in self.lines)]
        start = next((i for i, line in enumerate(self.lines) if line.startswith("!")), None)
        if start is None:
            return {}, None, tuple(beyond)
        terms, total = dict[str, float](), None
        for line in self.lines[start : start + 40]:
            if "convergence has been achieved" in line:
                break
            if (found := _TERM.match(line)) is None:
                continue
            value = float(found[2].replace("D", "E")) * RYDBERG
            if line.startswith("!"):
                total = value
            elif found[1] in _TERMS:
                terms[_TERMS[found[1]]] = value
            elif not found[1].startswith(_SUMS):
                terms[found[1]] = value
                beyond.append(f"a term '{found[1]}'")
        return terms, total, tuple(beyond)

    def _forces(self, n: int) -> NDArray[np.float64] | None:
        pattern = re.compile(r"^\s+atom\s+\d+ type\s+\d+\s+force =(.*)$")
        start = next((i for i, line in enumerate(self.lines) if "Forces acting on atoms" in line), None)
        if start is None:
            return None
        rows = [found[1].split() for line in self.lines[start : start + n + 10] if (found := pattern.match(line))]
        return np.array(rows[:n], dtype=np.float64) * RYDBERG / BOHR if len(rows) >= n else None

    def _stress(self) -> NDArray[np.float64] | None:
        start = next((i for i, line in enumerate(self.lines) if re.match(r"\s+total +stress +\(Ry/bohr", line)), None)
        if start is None:
            return None
        rows = [line.split()[:3] for line in self.lines[start + 1 : start + 4]]
        return -np.array(rows, dtype=np.float64).reshape(3, 3) * RYDBERG / BOHR**3

    def _bands(self) -> Bands | None:
        """Eigenvalues, which logs of verbosity 'high' have."""
        weights = [float(found[1]) for line in self.lines if (found := re.search(r"^\s+k\(.*wk =\s+(\S+)$", line))]
        starts = [i for i, line in enumerate(self.lines) if re.search(r"^\s+k =.*(bands|band energies) \(ev\)", line)]
        n_bands = int(self.need(r"number of Kohn-Sham states=\s*(\d+)")[1])
        if not starts or len(weights) < len(starts):
            return None
        energy = []
        for i in starts:
            values: list[str] = []
            for line in self.lines[i + 2 :]:
                if len(values) >= n_bands:
                    break
                values += re.findall(r"-?\d+\.\d{4}", line)
            energy.append(values[:n_bands])
        weight = np.array(weights[: len(starts)])  # printed twice: Cartesian and crystal coordinates
        full = 1.0 if self.find("Noncollinear calculation") else 2.0
        return Bands(np.array(energy, dtype=np.float64), weight * full / weight.sum())
