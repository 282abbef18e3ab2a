"""Inputs of pw.x and pp.x.  eV, Å, K inside; the programs want Ry."""

import io
from collections.abc import Mapping

import ase
from ase.io.espresso import write_espresso_in

from ...physics.smearing import Kernel
from ...physics.units import K_B, RYDBERG
from ..energy_grid import EnergyGrid
from .spec import Dft

PREFIX = "dft"
OUT, PSEUDO = "out", "pseudo"  # folders in that of a run
GENTLE = 0.2  # mixing_beta of the second try
MOST_STEPS = 100  # of the SCF, and twice as many of the second try


def pw_input(
    atoms: ase.Atoms,
    dft: Dft,
    names: Mapping[str, str],
    *,
    mesh: tuple[int, int, int],
    bands: int,
    gentle: bool = False,
    convergence: float | None = None,
    temperature: float | None = None,
) -> str:
    """The input of an SCF.

    No symmetry is made use of: the wavefunctions of all k-points are needed.  k and -k, whose |ψ|² are equal, are one.

    Args:
        atoms: the structure.
        dft: its settings.
        names: chemical symbol -> name of its UPF file, which lies in the folder PSEUDO.
        mesh: of k-points.
        bands: their number.
        gentle: with less mixing and more steps, for an SCF that did not converge.
        convergence: conv_thr [Ry], by default that of ``dft``.
        temperature: of the electrons [K], by default that of ``dft``.
    """
    settings = {
        "control": {
            "calculation": "scf",
            "prefix": PREFIX,
            "outdir": OUT,
            "pseudo_dir": PSEUDO,
            "tprnfor": True,
            "tstress": True,
        },
        "system": {
            "ecutwfc": dft.cutoff_ry,
            "ecutrho": dft.density_cutoff_ry or 4 * dft.cutoff_ry,
            "occupations": "smearing",
            "smearing": "fermi-dirac",
            "degauss": round(K_B * (dft.temperature if temperature is None else temperature) / RYDBERG, 12),
            "nbnd": bands,
            "nosym": True,
        },
        "electrons": {
            "conv_thr": dft.convergence if convergence is None else convergence,
            "mixing_beta": min(GENTLE, dft.mixing / 2) if gentle else dft.mixing,
            "electron_maxstep": 2 * MOST_STEPS if gentle else MOST_STEPS,
        },
    }
    text = io.StringIO()
    write_espresso_in(text, atoms, input_data=settings, pseudopotentials=dict(names), kpts=mesh)
    return text.getvalue()


def pp_input(grid: EnergyGrid, *, gaussian: bool) -> str:
    """The input of pp.x for an LDOS, a cube an energy.

    Args:
        grid: energies and width.
        gaussian: whether to ask for a Gaussian kernel, as versions from 7.2 on understand.
    """
    last = float(grid.energy[-1]) + 0.01 * grid.spacing  # pp.x 6.7 may leave out the last energy, by its rounding
    word = "\n use_gauss_ldos=.true." if gaussian else ""
    return (
        f"&INPUTPP\n prefix='{PREFIX}', outdir='{OUT}', plot_num=3, emin={grid.minimum:.8f}, emax={last:.8f}\n"
        f" delta_e={grid.spacing:.8f}, degauss_ldos={grid.width:.8f}{word}\n/\n"
        "&PLOT\n iflag=3, output_format=6, fileout='ldos.cube'\n/\n"
    )


def kernel_of_smearing(xml: str, kernel: Kernel) -> str:
    """data-file-schema.xml as pp.x before 7.2 needs it for a kernel: it takes that of the smearing that it finds here.

    Raises:
        ValueError: it has no Fermi-Dirac smearing.
    """
    if ">fd<" not in xml:
        raise ValueError("no Fermi-Dirac smearing")
    return xml.replace(">fd<", ">gaussian<") if kernel == "gaussian" else xml
