"""A specification: what is refused before anything is computed, and which structures it makes."""

import copy
import re

import ase.build
import ase.io
import numpy as np
import pytest
from ase.calculators.lj import LennardJones

from dftune.tests.places import ROOT
from dftune.trainables.data.energy_grid import EnergyGrid
from dftune.trainables.data.generating.inputs import kernel_of_smearing, pp_input, pw_input
from dftune.trainables.data.generating.orders import bands_of, grids_of, look_again, orders_of, refuse_large, to_look_at
from dftune.trainables.data.generating.spec import GenerateError, GenerateSpec
from dftune.trainables.data.generating.species import dos_error, free_bands, pw_memory, read_species, sparse_mesh
from dftune.trainables.data.generating.structures import plan_structures
from dftune.trainables.data.importing.quantum_espresso.inputs import namelists, read_inputs
from dftune.trainables.data.importing.quantum_espresso.pw_xml import read_xml
from dftune.trainables.physics.units import K_B, RYDBERG

SPEC = {
    "structure": {"lattice": "fcc", "symbols": "Al", "a": 4.05},
    "snapshots": [{"train": 3, "validation": 1, "test": 1, "displacement": [0.05, 0.1]}],
    "dft": {"pseudopotentials": {"Al": "Al.UPF"}, "cutoff_ry": 15, "k_points": [10, 10, 10], "temperature": 3157.75},
    "ldos": {"minimum": -6, "maximum": 12, "spacing": 0.25, "width": 0.5},
}
UPF = """<UPF version="2.0.1">
<PP_HEADER element="{element}" pseudo_type="{kind}" core_correction="F" functional="{functional}" z_valence="3.0"
 is_ultrasoft="{ultrasoft}" is_paw="F" is_coulomb="F"/>
</UPF>
"""


def spec(**changes) -> GenerateSpec:
    """The one above, with values at dotted places."""
    values = copy.deepcopy(SPEC)
    for place, value in changes.items():
        table, *keys = place.split("__")
        inside = values
        for part in [table, *keys][:-1]:
            inside = inside.setdefault(part, {}) if isinstance(inside, dict) else inside[int(part)]
        key = [table, *keys][-1]
        if value is None:
            del inside[key]
        else:
            inside[key] = value
    return GenerateSpec.of(values)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"snapshotz": 1}, "unknown key 'snapshotz'; did you mean 'snapshots'?"),
        ({"dft__cutof_ry": 1}, "unknown key 'dft.cutof_ry'; did you mean 'cutoff_ry'?"),
        ({"snapshots__0__vacancy": 1}, "unknown key 'snapshots.0.vacancy'; did you mean 'vacancies'?"),
        ({"dft__temperature": None}, "key 'dft.temperature' is missing"),
        ({"dft__cutoff_ry": -3}, "key 'dft.cutoff_ry': Input should be greater than or equal to 2, got -3"),
        ({"structure": None}, "[structure] is missing: a lattice, or a file"),
        ({"structure__lattice": "ffc"}, "key 'structure': lattice 'ffc' is unknown; did you mean 'fcc'?"),
        ({"structure__a": None}, "key 'structure': a lattice needs symbols and a"),
        ({"structure__file": "x"}, "key 'structure': give lattice, symbols and a, or a file"),
        ({"snapshots": [{}]}, "key 'snapshots.0': give train, validation or test"),
        ({"snapshots__0__displacement": 2}, "displacement is from 0 to 1 Å"),
        ({"snapshots__0__temperature": [300, 0]}, "key 'snapshots.0': temperature is from 50 to 1,000,000 K"),
        ({"snapshots__0__temperature": []}, "temperature is from 50 to 1,000,000 K"),
        ({"snapshots__0__md": {"temperature": 300}}, "md moves the atoms, so leave displacement out"),
        ({"snapshots__0__volumes": [1.1, 0.9]}, "volumes are shares of the ideal volume"),
        ({"dft__k_spacing": 0.2}, "give k_points, or k_spacing where cells differ"),
        ({"dft__density_cutoff_ry": 30}, "density_cutoff_ry is 4 times cutoff_ry or more"),
        ({"ldos__width": 0.1}, "width is 0.6 spacings or more, or states between two energies are lost"),
        ({"ldos__maximum": -6}, "maximum is above minimum"),
        ({"ldos": [SPEC["ldos"], SPEC["ldos"]]}, "several [[ldos]] need different names"),
        ({"run__ranks": 4, "run__pools": 3}, "pools divide the ranks"),
        ({"snapshots": [{"train": True}]}, "key 'snapshots.0.train': a number is needed, without quotes, got True"),
        ({"dft__cutoff_ry": "15"}, "key 'dft.cutoff_ry': a number is needed, without quotes, got '15'"),
        ({"dft__k_points": [2, True, 2]}, "key 'dft.k_points': a number is needed"),
        ({"snapshots__0__displacement": "0.1"}, "key 'snapshots.0.displacement': a number is needed"),
    ],
)
def test_a_wrong_value_is_named(changes, said):
    with pytest.raises(GenerateError) as error:
        spec(**changes)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_names_itself_and_its_files_are_relative_to_it(tmp_path):
    path = tmp_path / "al.toml"
    with pytest.raises(GenerateError, match=r"al.toml: no such file; docs/from_a_cell.md has"):
        GenerateSpec.read(path)
    path.write_text("[dft\n")
    with pytest.raises(GenerateError, match=r"al.toml: not a readable TOML file"):
        GenerateSpec.read(path)
    path.write_text(
        '[structure]\nfile = "cell.cif"\n[[snapshots]]\ntrain = 1\n[ldos]\nspacing = 1\nwidth = 1\n'
        '[dft]\npseudopotentials = { Al = "pseudo/Al.UPF" }\ncutoff_ry = 8\nk_spacing = 0.2\ntemperature = 1000\n'
    )
    read = GenerateSpec.read(path)
    assert read.structure.file == str(tmp_path / "cell.cif")
    assert read.dft.pseudopotentials == {"Al": str(tmp_path / "pseudo/Al.UPF")}


def test_snapshots_are_displaced_in_turn_and_equal_for_equal_seeds():
    planned = plan_structures(spec())
    assert [one.id for one in planned] == ["000", "001", "002", "003", "004"]
    assert [one.split for one in planned] == ["train", "train", "train", "validation", "test"]
    ideal = ase.build.bulk("Al", "fcc", a=4.05, cubic=True).positions
    moved = [one.atoms.positions - ideal for one in planned]
    for again, one in zip(plan_structures(spec(snapshots__0__train=2)), planned[:2]):
        np.testing.assert_array_equal(again.atoms.positions, one.atoms.positions)
    assert np.abs(moved[0] - plan_structures(spec(snapshots__0__seed=1))[0].atoms.positions + ideal).max() > 0.01
    for change in moved:
        np.testing.assert_allclose(change.mean(axis=0), 0, atol=1e-12)
    many = plan_structures(spec(snapshots__0__train=80))
    sigma = [np.std([one.atoms.positions - ideal for one in many[n::2]]) for n in (0, 1)]
    np.testing.assert_allclose(sigma, np.array([0.05, 0.1]) * np.sqrt(3 / 4), rtol=0.1)  # the mean of 4 atoms is 0


def test_each_temperature_has_all_displacements():
    given = spec(snapshots=[{"train": 160, "displacement": [0.05, 0.1], "temperature": [1000, 5000]}])
    planned, ideal = plan_structures(given), ase.build.bulk("Al", "fcc", a=4.05, cubic=True).positions
    for kelvin in (1000, 5000):
        moved = np.array([one.atoms.positions - ideal for one in planned if one.temperature == kelvin])
        sigma = [np.std(some) for some in (moved[::2], moved[1::2])]
        np.testing.assert_allclose(sigma, np.array([0.05, 0.1]) * np.sqrt(3 / 4), rtol=0.1)


def test_snapshots_have_the_temperatures_of_their_table_in_turn(upf):
    given = spec(
        snapshots=[{"train": 3, "temperature": [1000, 5000]}, {"test": 1, "displacement": 0.1}],
        dft__pseudopotentials={"Al": upf()},
    )
    planned = plan_structures(given)
    assert [one.temperature for one in planned] == [1000, 5000, 1000, 3157.75]
    assert [one.group for one in planned] == ["Al4-1000K", "Al4-5000K", "Al4-1000K", "Al4"]
    species = read_species(given.dft, [p.atoms for p in planned], "wavefunctions")
    orders = orders_of(given, species, planned, [], {("Al4", 4): 18})
    said = [float(namelists(order.inputs[0])["system"]["degauss"]) * RYDBERG / K_B for order in orders]
    np.testing.assert_allclose(said, [1000, 5000, 1000, 3157.75], rtol=1e-6)
    (look,) = to_look_at(given, species, planned)  # the hottest need the most bands and energies
    assert float(namelists(look.order.inputs[0])["system"]["degauss"]) * RYDBERG / K_B == pytest.approx(5000)


def test_two_tables_of_one_seed_move_atoms_in_other_directions():
    table = {"train": 1, "displacement": 0.1}
    planned = plan_structures(spec(snapshots=[table, table | {"displacement": 0.05}]))
    ideal = ase.build.bulk("Al", "fcc", a=4.05, cubic=True).positions
    a, b = ((one.atoms.positions - ideal).ravel() for one in planned)
    assert abs(a @ b) < 0.9 * np.linalg.norm(a) * np.linalg.norm(b)


def test_each_split_divides_the_volumes_and_strains_have_their_sigma():
    number = {"snapshots__0__train": 3, "snapshots__0__validation": 1, "snapshots__0__test": 2}
    planned = plan_structures(spec(snapshots__0__volumes=[0.9, 1.1], snapshots__0__strain=0.02, **number))
    np.testing.assert_allclose([p.atoms.get_volume() / 4.05**3 for p in planned], [0.9, 1, 1.1, 1, 0.95, 1.05])
    many = plan_structures(spec(snapshots__0__strain=0.02, snapshots__0__train=100))
    strains = np.array([np.array(p.atoms.cell) / 4.05 - np.eye(3) for p in many])
    np.testing.assert_allclose(strains, strains.transpose(0, 2, 1), atol=1e-12)
    np.testing.assert_allclose(strains.std(axis=0), 0.02, rtol=0.25)


def test_supercells_vacancies_and_molecular_dynamics():
    (one, *_) = plan_structures(spec(snapshots__0__supercell=[2, 1, 1], snapshots__0__vacancies=1))
    assert one.atoms.get_chemical_formula() == "Al7"
    md = {"temperature": 900, "steps": 5, "equilibration": 5}
    moved = spec(snapshots__0__displacement=0, snapshots__0__md=md, snapshots__0__supercell=[2, 1, 1])
    found = [p.atoms.positions for p in plan_structures(moved)]
    assert 0.001 < np.abs(found[0] - found[1]).max() < 1
    np.testing.assert_array_equal(found, [p.atoms.positions for p in plan_structures(moved)])


LJ = {"sigma": 2.6, "epsilon": 0.1, "rc": 4.5}
MD = {"temperature": 500, "steps": 3, "equilibration": 4}


def moved_by(md: dict, **how) -> list[np.ndarray]:
    moved = spec(snapshots__0__displacement=0, snapshots__0__md=MD | md, snapshots__0__supercell=[2, 1, 1])
    return [p.atoms.positions for p in plan_structures(moved, **how)]


def test_lammps_and_a_model_move_atoms_as_the_same_potential_of_ase_does(tmp_path):
    """Lennard-Jones by LAMMPS' own code, in a file whose table is relative to it, and by ASE's as a model."""
    (tmp_path / "pair.in").write_text("include more.in\n")
    (tmp_path / "more.in").write_text("pair_style lj/cut 4.5\npair_coeff 1 1 0.1 2.6 # metal\n")
    by_lammps = moved_by({"lammps": str(tmp_path / "pair.in")})
    asked: list[str] = []
    by_ase = moved_by({"model": "al.model"}, surrogate=lambda folder: asked.append(folder) or LennardJones(**LJ))
    assert asked == ["al.model"]
    np.testing.assert_allclose(by_lammps, by_ase, atol=1e-8)
    assert 0.01 < np.abs(by_ase[0] - by_ase[-1]).max() < 1


def test_frames_of_molecular_dynamics_are_kept_and_not_moved_again(tmp_path):
    """A sum in another order would soon put a resumed command on another path."""
    given = {"runs": tmp_path / "al.runs"}
    first = moved_by({"model": "al.model"}, surrogate=lambda folder: LennardJones(**LJ), **given)
    np.testing.assert_array_equal(first, moved_by({"model": "al.model"}, surrogate=None, **given))
    again = moved_by({"model": "al.model", "temperature": 501}, surrogate=lambda folder: LennardJones(**LJ), **given)
    assert np.abs(np.array(again) - first).max() > 1e-6
    for file in (tmp_path / "al.runs").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    moved = moved_by({"model": "al.model"}, surrogate=lambda folder: LennardJones(**LJ), **given)
    np.testing.assert_array_equal(first, moved)


@pytest.mark.parametrize(
    "md, text, said",
    [
        ({"lammps": "pair.in", "model": "al.model"}, "", "give lammps or model, not both"),
        ({"lammps": "pair.in"}, None, "md: pair.in: no such file; give a file with the pair_style"),
        ({"lammps": "."}, None, "md: .: a folder; give a file with the pair_style"),
        ({"lammps": "pair.in"}, "pair_style nothing\n", "LAMMPS cannot move Al8 by it: ERROR: Unrecognized pair style"),
        ({"lammps": "pair.in"}, "", "LAMMPS cannot move Al8 by it: it has no pair_style"),
        ({"lammps": "pair.in"}, "pair_style lj/cut 4.5\n", "LAMMPS cannot move Al8 by it: ERROR: All pair coeffs are"),
        ({"model": "al.model"}, "", "md: a model moves atoms from the command line"),
    ],
)
def test_a_potential_that_cannot_move_the_atoms_is_said(md, text, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / "pair.in").write_text(text)
    with pytest.raises(GenerateError) as error:
        moved_by(md)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_trajectory_gives_a_frame_to_each_snapshot(tmp_path):
    frames = [ase.build.bulk("Al", "fcc", a=a, cubic=True) for a in (3.9, 4.0, 4.1)]
    ase.io.write(tmp_path / "md.xyz", frames)
    trajectory = {"file": str(tmp_path / "md.xyz"), "frames": ":"}
    planned = plan_structures(spec(structure=trajectory, snapshots__0__train=1))
    assert [round(p.atoms.cell[0, 0], 3) for p in planned] == [3.9, 4.0, 4.1]
    with pytest.raises(GenerateError, match=r"\[\[snapshots\]\]: 5 snapshots, but .*md.xyz has 3 frames :"):
        plan_structures(spec(structure=trajectory))
    with pytest.raises(GenerateError, match=r"nothing.xyz: no such file"):
        plan_structures(spec(structure={"file": str(tmp_path / "nothing.xyz")}))


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"structure__a": 1.0}, "Å apart, closer than 1 Å"),
        ({"structure__lattice": "rocksalt"}, "ASE makes no such lattice"),
        ({"snapshots__0__vacancies": 4}, "4 vacancies in a cell of 4 atoms; take a supercell"),
        (
            {"structure__symbols": "Mg", "snapshots__0__displacement": 0, "snapshots__0__md": {"temperature": 300}},
            "md: the potential EMT does not know Mg; give one of lammps, a model, or a trajectory as file",
        ),
    ],
)
def test_a_structure_that_cannot_be_computed_is_refused(changes, said):
    with pytest.raises(GenerateError) as error:
        plan_structures(spec(**changes))
    assert said in str(error.value)


@pytest.fixture
def upf(tmp_path):
    """Writes a pseudopotential."""

    def write(name="Al.UPF", element="Al", kind="NC", functional="SLA PZ NOGX NOGC", ultrasoft="F") -> str:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(UPF.format(element=element, kind=kind, functional=functional, ultrasoft=ultrasoft))
        return str(tmp_path / name)

    return write


AL, MG = ase.build.bulk("Al", cubic=True), ase.build.bulk("Mg")


def refused(files, structures=(AL,), source="wavefunctions") -> str:
    with pytest.raises(GenerateError) as error:
        read_species(spec(dft__pseudopotentials=files).dft, structures, source)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_pseudopotentials_that_do_not_do_are_refused(upf, tmp_path):
    pbe, pz = "SLA PW PBX PBC", upf()
    assert "[dft] pseudopotentials.Al: " in refused({"Al": str(tmp_path / "x.UPF")})
    assert "x.UPF: missing" in refused({"Al": str(tmp_path / "x.UPF")})
    assert "pseudopotentials: none for Mg, which the structures have" in refused({"Al": pz}, [AL, MG])
    assert "a PAW dataset" in refused({"Al": upf("paw.UPF", kind="PAW")})
    assert "is of Mg" in refused({"Al": upf("Mg.UPF", element="Mg")})
    mixed = {"Al": pz, "Mg": upf("Mg.UPF", element="Mg", functional=pbe)}
    assert "made for pbe, but" in refused(mixed, [AL, MG])
    soft = {"Al": upf("us.UPF", kind="US", ultrasoft="T")}
    assert 'lacks the augmentation charge; set [run] source = "pp.x"' in refused(soft)
    assert read_species(spec(dft__pseudopotentials=soft).dft, [AL], "pp.x").names == {"Al": "us.UPF"}
    same = {"Al": pz, "Mg": upf("b/Al.UPF", element="Mg")}
    assert "two files have one name" in refused(same, [AL, MG])
    assert "functional" in refused({"Al": upf("b3.UPF", functional="B3LYP")})


def test_the_mesh_follows_the_cell_and_a_sparse_one_is_warned_of(upf):
    """Measured on four atoms and 0.5 eV: 3 % off with 10 x 10 x 10 points, 17 % with 6 x 6 x 6."""
    dft = spec(dft__k_points=None, dft__k_spacing=0.156).dft
    assert dft.mesh(np.diag([4.05, 8.1, 12.15])) == (10, 5, 4)
    assert spec().dft.mesh(np.eye(3), coarser=2) == (5, 5, 5)
    ideal = ase.build.bulk("Al", "fcc", a=4.05, cubic=True)
    assert dos_error(ideal, 12, (10, 10, 10), 0.5) == pytest.approx(0.03, rel=0.1)
    assert dos_error(ideal, 12, (6, 6, 6), 0.5) == pytest.approx(0.17, rel=0.1)
    assert dos_error(ideal.repeat((2, 2, 2)), 96, (5, 5, 5), 0.5) == pytest.approx(0.03, rel=0.1)
    species = read_species(spec(dft__pseudopotentials={"Al": upf()}).dft, [ideal], "wavefunctions")
    assert sparse_mesh(spec().dft, species, [ideal], spec().ldos) is None
    said = sparse_mesh(spec(dft__k_points=[6, 6, 6]).dft, species, [ideal], spec().ldos)
    assert said.startswith(
        "6x6x6 k-points are sparse for a width of 0.5 eV: the DOS may be off by 17 %; k_spacing = 0.15"
    )


def test_memory_of_pw_x_is_foretold(upf):
    """What pw.x 6.7 says of an atom in 10 Å with 60 bands and 8 k-points, and of four in 4.05 Å with 20 and 112."""
    dft, small = spec(dft__cutoff_ry=12).dft, spec(dft__cutoff_ry=12, dft__k_points=[6, 6, 6]).dft
    assert pw_memory(10**3, 60, 16, dft) == pytest.approx(79.43 * 2**20, rel=0.15)
    assert pw_memory(4.05**3, 20, 216, small) == pytest.approx(12.84 * 2**20, rel=0.15)
    large = spec(structure__a=400.0, dft__pseudopotentials={"Al": upf()}, dft__k_points=[1, 1, 1])
    planned = plan_structures(large)
    species = read_species(large.dft, [planned[0].atoms], "wavefunctions")
    refuse_large(spec(), species, plan_structures(spec()), 1e9)
    with pytest.raises(GenerateError, match=r"snapshot 000: pw.x would take [\d,]+ GB for 4 atoms in 64,000,000 Å³"):
        refuse_large(large, species, planned, 1e12)


def test_free_bands_are_those_of_free_electrons():
    """12 electrons fill 6 bands up to the Fermi level, and 2^1.5 times as many up to twice that energy."""
    assert free_bands(66.43, 12, 0) == np.ceil(1.2 * 6) + 4
    fermi = 11.65  # eV, of three electrons in 16.6 Å³
    assert free_bands(66.43, 12, fermi) == np.ceil(1.2 * 6 * 2**1.5) + 4


def test_the_input_of_pw_x_says_what_the_specification_says(tmp_path, upf):
    ideal = ase.build.bulk("Al", "fcc", a=4.05, cubic=True)
    text = pw_input(ideal, spec().dft, {"Al": "Al.UPF"}, mesh=(10, 9, 8), bands=18)
    (tmp_path / "pw.in").write_text(text)
    _, (read,), _ = read_inputs([tmp_path / "pw.in"])
    assert read.k_mesh == (10, 9, 8)
    assert read.degauss / K_B == pytest.approx(3157.75, rel=1e-8)
    said = namelists(text)
    assert said["system"]["nosym"] == ".true."
    assert float(said["system"]["ecutrho"]) == 60
    assert said["electrons"]["mixing_beta"] == "0.5"
    gentle = namelists(pw_input(ideal, spec().dft, {"Al": "Al.UPF"}, mesh=(1, 1, 1), bands=18, gentle=True))
    assert gentle["electrons"]["mixing_beta"] == "0.2"
    atoms = ase.io.read(tmp_path / "pw.in", format="espresso-in")
    np.testing.assert_allclose(atoms.positions, ideal.positions, atol=1e-9)


def test_the_input_of_pp_x_has_all_energies(tmp_path):
    grid = EnergyGrid(minimum=-6, spacing=0.25, n_energy=73, kernel="gaussian", width=0.5)
    (tmp_path / "pp.in").write_text(pp_input(grid, gaussian=True))
    (read,), _, _ = read_inputs([tmp_path / "pp.in"])
    assert (read.n_energies, read.gaussian, read.width) == ((73, 73), True, 0.5)
    assert read.maximum > grid.energy[-1]
    assert kernel_of_smearing("<smearing>fd</smearing>", "gaussian") == "<smearing>gaussian</smearing>"
    assert kernel_of_smearing("<smearing>fd</smearing>", "fermi-dirac") == "<smearing>fd</smearing>"
    with pytest.raises(ValueError, match="no Fermi-Dirac smearing"):
        kernel_of_smearing("<smearing>mp</smearing>", "gaussian")


def test_a_first_look_decides_about_energies_and_bands(recorded, upf):
    seen = read_xml(recorded / "tmp/dft.save/data-file-schema.xml")  # states from -2.98 eV, Fermi level 8.69 eV
    given = spec(dft__pseudopotentials={"Al": upf()})
    planned = plan_structures(given)
    species = read_species(given.dft, [p.atoms for p in planned], "wavefunctions")
    (look,) = to_look_at(given, species, planned)
    assert look.order.grids == ()
    assert namelists(look.order.inputs[0])["electrons"]["conv_thr"] == "1e-06"
    own = spec(ldos={"spacing": 0.5, "width": 0.4}, dft__pseudopotentials={"Al": upf()})
    (grid,) = grids_of(own, [seen])
    assert grid.minimum == -5.0  # four widths below the lowest state, on a multiple of the spacing
    assert 8.69 + 12 * 0.2721 + 1.6 <= grid.energy[-1] < 8.69 + 12 * 0.2721 + 1.6 + 0.5
    (as_given,) = grids_of(given, [seen])
    assert (as_given.minimum, as_given.energy[-1], as_given.n_energy) == (-6, 12, 73)
    more = look_again(given, species, look, seen, [as_given])  # the bands seen end at 13.5 eV, 14 are needed
    assert more.bands > look.bands
    assert more.order.id != look.order.id
    assert look_again(given, species, look, seen, [grid.model_copy(update={"n_energy": 30})]) is None
    below = int((seen.bands.energy < 14.0).sum(axis=1).max())
    (bands,) = bands_of(given, [look], [seen], [as_given]).values()
    assert bands == np.ceil(1.1 * below) + 2


def test_energies_reach_as_far_as_the_hottest_snapshots_need(recorded):
    seen = read_xml(recorded / "tmp/dft.save/data-file-schema.xml")
    ldos = {"spacing": 0.5, "width": 0.4}
    warm, hot = (
        grids_of(spec(ldos=ldos, snapshots__0__temperature=kelvin), [seen])[0].energy[-1]
        for kelvin in ([3157.75], [300, 9000])
    )
    assert hot - warm == pytest.approx(12 * K_B * (9000 - 3157.75), abs=0.5)


def test_volumes_have_two_first_looks(upf):
    given = spec(dft__pseudopotentials={"Al": upf()}, snapshots__0__volumes=[0.9, 1.1])
    planned = plan_structures(given)
    species = read_species(given.dft, [p.atoms for p in planned], "wavefunctions")
    assert [look.planned.id for look in to_look_at(given, species, planned)] == ["000", "002"]


def test_the_key_is_that_of_what_decides(upf):
    given = spec(dft__pseudopotentials={"Al": upf()})
    planned = plan_structures(given)
    species = read_species(given.dft, [p.atoms for p in planned], "wavefunctions")
    grid = EnergyGrid(minimum=-6, spacing=0.25, n_energy=73, kernel="gaussian", width=0.5)
    bands = {("Al4", 4): 18}

    def keys(one: GenerateSpec, grids=(grid,)) -> list[str]:
        return [order.key for order in orders_of(one, species, plan_structures(one), grids, bands)]

    first = keys(given)
    assert len(set(first)) == 5
    assert keys(spec(run__ranks=2, run__silence=5)) == first
    assert not set(keys(spec(dft__cutoff_ry=16))) & set(first)
    assert not set(keys(given, [grid.model_copy(update={"width": 0.4})])) & set(first)
    assert keys(spec(snapshots__0__train=1))[0] == first[0]


def test_the_specifications_of_the_documentation_are_read(tmp_path):
    page = (ROOT / "docs" / "from_a_cell.md").read_text(encoding="utf-8")
    (made,) = re.findall(r"^cat > al.toml <<'END'\n(.*?)^END$", page, re.MULTILINE | re.DOTALL)
    shown = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert shown
    for text in (made, *shown):
        quicker = text.replace("steps = 200", "steps = 2, equilibration = 2")  # of dynamics, between two snapshots
        (tmp_path / "al.toml").write_text(quicker, encoding="utf-8")
        read = GenerateSpec.read(tmp_path / "al.toml")
        assert len(plan_structures(read)) == sum(some.number for some in read.snapshots)
