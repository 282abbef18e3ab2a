"""Scans of cutoff and k-points: which SCFs, and what is compared."""

from dataclasses import replace

import numpy as np
import pytest

from dftune.trainables.data.generating.convergence import compare, convergence_figure, steps, units
from dftune.trainables.data.generating.species import read_species
from dftune.trainables.data.generating.structures import plan_structures
from dftune.trainables.data.importing.quantum_espresso.inputs import namelists
from dftune.trainables.data.importing.quantum_espresso.pw_xml import read_xml
from dftune.trainables.errors import InputError

from .test_spec import spec
from .test_spec import upf as upf


@pytest.fixture
def scan(upf):
    """The steps of scans of a cell that is twice as long in one direction."""
    given = spec(dft__pseudopotentials={"Al": upf()}, snapshots__0__supercell=[1, 1, 2], dft__k_points=[6, 6, 3])
    first = plan_structures(given)[0]
    species = read_species(given.dft, [first.atoms], "wavefunctions")
    return lambda cutoffs=(), k_points=(): steps(given, species, first, cutoffs=cutoffs, k_points=k_points)


def test_each_scan_varies_one_setting(scan):
    found = scan([10, 15], [4, 6])
    assert [(s.scan, s.cutoff, s.mesh) for s in found] == [
        ("cutoff", 10, (6, 6, 3)),
        ("cutoff", 15, (6, 6, 3)),
        ("k-points", 15, (4, 4, 2)),
        ("k-points", 15, (6, 6, 3)),
    ]
    assert found[1].order.id == found[3].order.id  # computed once
    assert len({s.order.id for s in found}) == 3
    said = namelists(found[0].order.inputs[0])["system"]
    assert (float(said["ecutwfc"]), float(said["ecutrho"])) == (10, 40)


@pytest.mark.parametrize(
    "values, said",
    [
        ({"cutoffs": [10]}, "cutoffs: give two values or more that go up"),
        ({"k_points": [6, 4]}, "k-points: give two values or more that go up"),
        ({"k_points": [0, 4]}, "k-points: give two values"),
        ({}, "give --cutoffs or --k-points to compare"),
    ],
)
def test_a_scan_of_nothing_is_refused(scan, values, said):
    with pytest.raises(InputError, match=said):
        scan(**values)


def test_differences_are_from_the_last_of_each_scan(scan, recorded):
    run = read_xml(recorded / "tmp/dft.save/data-file-schema.xml")
    bands = replace(run.bands, energy=run.bands.energy + 0.1)
    other = replace(
        run,
        total_energy=run.total_energy + 0.004,
        fermi_level=run.fermi_level - 0.02,
        forces=run.forces + np.array([0, 0.03, 0]),
        bands=bands,
    )
    rows = compare(scan([10, 15], [4, 6]), [other, run, run, other], [1.0, 2.0, 3.0, 4.0], widths=[0.5, 5.0])
    first, last, *_ = rows
    assert first.free_energy == pytest.approx(2.0)  # meV/atom, two atoms
    assert first.fermi_level == pytest.approx(-20.0)
    assert first.forces == pytest.approx(0.03)
    assert (last.free_energy, last.forces, last.dos) == (0, 0, {0.5: 0, 5.0: 0})
    assert rows[2].free_energy == pytest.approx(-2.0)
    # A peak that moves by x changes by x √2 exp(-1/2) / w of its height at most.
    alone = replace(run, bands=replace(run.bands, energy=np.array([[0.0, 30.0]]), weight=np.array([2.0])))
    moved = replace(alone, bands=replace(alone.bands, energy=np.array([[0.01, 30.0]])))
    (row, _) = compare(scan([10, 15]), [moved, alone], [1, 1], widths=[0.5])
    assert row.dos[0.5] == pytest.approx(100 * 0.01 * np.sqrt(2) * np.exp(-0.5) / 0.5, rel=0.03)


def test_the_table_has_units_and_the_figure_a_panel_a_scan(scan, recorded):
    run = read_xml(recorded / "tmp/dft.save/data-file-schema.xml")
    other = replace(run, total_energy=run.total_energy + 0.004)
    rows = compare(scan([10, 15], [4, 6]), [other, run] * 2, [1.0] * 4, widths=[0.5])
    assert units(rows)["dos at 0.5 eV"] == "%"
    assert set(units(rows)) >= set(rows[0].to_dict()) - {"scan", "k-points"}
    figure = convergence_figure(rows)
    assert [axes.get_xlabel().split()[0] for axes in figure.axes] == ["cutoff", "k-points"]
