"""Snapshots as files of the layout ``arrays``, to import, to spoil and to be refused."""

import json

import numpy as np
import pytest
from ase.data import chemical_symbols

from dftune.trainables.data.importing.importers import import_dataset
from dftune.trainables.data.importing.planning import REMEDY
from dftune.trainables.errors import InputError
from dftune.trainables.physics.units import K_B, RYDBERG

REFERENCES = {
    "total_energy_ev": "total_energy",
    "band_energy_ev": "band_energy",
    "minus_ts_ev": "entropy_term",
    "fermi_ev": "fermi_level",
}


def upf(*, element="Al", valence=3.0, functional="PZ", kind="NC", core=None):
    """A pseudopotential file, with what an import reads of it; ``core`` is n_core at 0, 1, 2 bohr [1/bohr³]."""
    nlcc = "" if core is None else f"<PP_NLCC>{core}</PP_NLCC>"
    return (
        f'<UPF version="2.0.1"><PP_HEADER element="{element}" z_valence="{valence}" functional="{functional}" '
        f'pseudo_type="{kind}" core_correction="{"F" if core is None else "T"}"/>'
        f"<PP_MESH><PP_R>0.0 1.0 2.0</PP_R></PP_MESH>{nlcc}</UPF>"
    )


def export(dataset, snapshot, folder):
    """Write one snapshot in the layout that the head of importing.py gives."""
    grid, name = dataset.info.energy_grid, snapshot.id
    energies = {"emin": grid.minimum, "spacing": grid.spacing, "count": grid.n_energy, "width": grid.width}
    symbol = chemical_symbols[snapshot.numbers[0]]
    record = {
        "config": {
            "cell_angstrom": snapshot.cell.tolist(),
            "positions_angstrom": snapshot.positions.tolist(),
            "symbol": symbol,
            "zval": dataset.info.species[symbol],
            "displacement_sigma_angstrom": float(snapshot.group.split()[1]),
            "pseudo": "Al.UPF",
            "ecutrho_ry": round(dataset.info.dft.density_cutoff / RYDBERG, 9),
            "energy_grid_ev": energies | {"kernel": "gaussian exp(-((E-e)/w)^2)/(w sqrt(pi))"},
        },
        "fft": snapshot.grid,
        "n_electrons": snapshot.n_electrons,
        "kt_ev": snapshot.temperature * K_B,
        "qe_terms_ev": {k: getattr(snapshot, f"{k}_energy") for k in ("hartree", "xc", "ewald")},
        "forces_ev_per_angstrom": snapshot.forces.tolist(),
    } | {key: getattr(snapshot, column) for key, column in REFERENCES.items()}
    folder.mkdir(exist_ok=True)
    (folder / "Al.UPF").write_text(upf())
    (folder / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")
    np.save(folder / f"{name}.ldos.npy", dataset.ldos(snapshot).array().reshape(*snapshot.grid, -1))
    np.save(folder / f"{name}.dens.npy", dataset.density(snapshot).array().reshape(snapshot.grid))


def edit(file, *, value, key):
    """Set one entry of a JSON file, or remove it where the value is None; ``key`` is a dotted path."""
    record = place = json.loads(file.read_text(encoding="utf-8"))
    *path, last = key.split(".")
    for name in path:
        place = place[name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    file.write_text(json.dumps(record), encoding="utf-8")


def edit_array(file, change):
    np.save(file, change(np.load(file)))


def refused(sources, destination, **options):
    """The one line with which an import is refused, having left nothing behind; without the remedy that all have.

    What was wrong is followed by what to do.
    """
    before = sorted(destination.parent.iterdir())
    with pytest.raises(InputError) as caught:
        import_dataset(sources, destination, **options)
    assert sorted(destination.parent.iterdir()) == before
    said = str(caught.value)
    assert "\n" not in said
    assert "; " in said
    return said.removesuffix(f"; {REMEDY}")


def led_in_a_circle(file):
    """Stands for a file that the system does not let be read, and says so: tests may run as root, who may read all."""
    file.unlink(missing_ok=True)
    file.symlink_to(file.name)
    return f"{file}: cannot be read (Too many levels of symbolic links)"
