"""Structures in texts from whoever sends them: bounded before ASE reads them.  Lengths in Å.

ASE's readers take as much time and memory as a text tells them to.
"""

import io
import warnings

import ase
import ase.io.cif
import ase.io.vasp
import numpy as np
from ase.spacegroup import crystal

from .cells import StructureError
from .errors import TooLarge, one_line
from .json_body import check_number

LONGEST_CIF = 2_000_000  # characters, a second for so many
MOST_IMAGES = 1_000  # by symmetry operations of a CIF: ASE compares them pair by pair, in 4 s


def xyz_frames(content: bytes) -> list[bytes] | None:
    """The frames of an extended XYZ; None if it is one, or none that can be told.

    Raises:
        InputError: too many of them.
    """
    lines, found, at = content.splitlines(keepends=True), [], 0
    while at < len(lines):
        first = lines[at].strip()
        if not first:
            if any(line.strip() for line in lines[at:]):
                return None
            break
        if not first.isdigit() or len(first) > 9:
            return None
        end = at + 2 + int(first)
        found.append(b"".join(lines[at:end]))
        at = end
    if len(found) < 2:
        return None
    check_number(len(found))
    return found


def read_cif_text(text: str) -> ase.Atoms:
    """The structure of a CIF, with all that its symmetry makes of it.

    Raises:
        TooLarge: more than is read.
        StructureError: no CIF, none or several structures, or a partly occupied site.
    """
    if len(text) > LONGEST_CIF:
        raise TooLarge(f"the CIF has {len(text):,} characters, more than {LONGEST_CIF:,}; send extended XYZ or JSON")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tags that say nothing of the atoms
            blocks = [one for one in ase.io.cif.parse_cif(io.StringIO(text)) if one.has_structure()]
            if len(blocks) != 1:
                raise StructureError(f"a CIF of {len(blocks)} structures; give one block of data with atoms")
            (block,) = blocks
            group, sites = block.get_spacegroup(True), block.get_unsymmetrized_structure()
            occupancies = block.get("_atom_site_occupancy")
            images = len(sites) * group.nsymop
            if images == len(sites):
                sites.pbc = True
                if occupancies is not None:
                    sites.set_array("occupancy", np.array(occupancies, dtype=float), shape=())
                return sites
            if images > MOST_IMAGES:
                raise TooLarge(
                    f"the CIF has {len(sites):,} sites with {images:,} images, more than {MOST_IMAGES:,}; write all "
                    "atoms without symmetry, or send extended XYZ"
                )
            more = {} if occupancies is None else {"occupancies": occupancies, "onduplicates": "keep"}
            return crystal(sites, spacegroup=group, setting=group.setting, **more)
    except (StructureError, TooLarge):
        raise
    except Exception as error:  # whatever its parser runs into
        raise StructureError(f"not a CIF that ASE can read: {one_line(error, 200) or type(error).__name__}") from None


def read_poscar_text(text: str) -> ase.Atoms:
    """The structure of a POSCAR of VASP 5: its sixth line has the symbols, and its seventh how many there are of each.

    Raises:
        StructureError: not such a text.
    """
    lines = text.splitlines()
    symbols, counts = (lines[n].split() if n < len(lines) else [] for n in (5, 6))
    if not symbols or len(counts) != len(symbols) or not all(c.isdigit() and len(c) < 10 for c in counts):
        raise StructureError("a POSCAR has symbols on its sixth line, and on its seventh how many there are of each")
    if sum(map(int, counts)) > len(lines):
        raise StructureError(f"the POSCAR says {sum(map(int, counts)):,} atoms, and has {len(lines):,} lines")
    try:
        return ase.io.vasp.read_vasp(io.StringIO(text))
    except Exception as error:  # whatever its reader runs into
        raise StructureError(
            f"not a POSCAR that ASE can read: {one_line(error, 200) or type(error).__name__}"
        ) from None
