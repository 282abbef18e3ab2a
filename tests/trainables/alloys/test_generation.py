"""Configurations of alloys by a real process that stands in for LSMS, and goes wrong in every way."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from dftune.tests.places import ROOT
from dftune.trainables.alloys.configurations import draw, most_disagreed
from dftune.trainables.alloys.data import AlloyData
from dftune.trainables.alloys.generation import AlloyGeneration, AlloySpec
from dftune.trainables.alloys.lattice import Lattice, orbit_key
from dftune.trainables.alloys.lsms import read_lsms
from dftune.trainables.alloys.lsms_input import LsmsSettings, lsms_input
from dftune.trainables.alloys.shell_model import ShellModel, drawn_models
from dftune.trainables.errors import InputError
from dftune.trainables.physics.units import BOHR
from dftune.trainables.progress import Silent

from .lsms_stand_in import record, stand_in

PURE = ("000", "032")
RUNS = ROOT / "tests" / "data" / "lsms"
SPEC = """
kind = "alloys"
symbols = ["Cu", "Au"]
lattice = "sites.xyz"
[configurations]
species = [{species}]
{more}
[lsms]
command = "{command}"
potentials = {{Cu = "v_Cu", Au = "v_Au"}}
zone = 3.969
limit = {limit}
first_mixing = 0.02
"""


@pytest.fixture(scope="module")
def recorded(cuau, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded") / "runs"
    record(cuau, folder, range(len(cuau.all)))
    return folder


class Desk:
    """A folder with a lattice, potentials, a program and a specification."""

    def __init__(self, folder, data, recorded):
        self.folder, self.data, self.recorded = folder, data, recorded
        (folder / "v_Cu").write_text("given Cu")
        (folder / "v_Au").write_text("given Au")
        data.info.lattice.atoms(["Cu"] * 32).write(folder / "sites.xyz", format="extxyz")
        mixed = [i for i, n in enumerate(data.all.n_second) if 0 < n < 32]
        self.rows = [mixed[0], mixed[len(mixed) // 2], mixed[-1]]

    def spec(self, behaviour="well", *, more="", limit=20, command=None):
        """The specification, its program behaving so."""
        command = command or stand_in(self.folder, behaviour, self.recorded)
        species = ", ".join('"' + "".join(map(str, self.data.all.species[row])) + '"' for row in self.rows)
        path = self.folder / "CuAu.toml"
        path.write_text(SPEC.format(species=species, more=more, limit=limit, command=command))
        return path

    def run(self, behaviour="well", *, without_failed=False, **how):
        """The dataset that is made."""
        generation = AlloyGeneration(AlloySpec.read(self.spec(behaviour, **how)))
        (made,) = generation.run(self.folder / "CuAu", in_turn, without_failed=without_failed, progress=Silent())
        return made

    @property
    def calls(self):
        """How often the program was started."""
        path = self.folder / "calls"
        return len(path.read_text().splitlines()) if path.exists() else 0


def in_turn(work, tasks):
    for number in range(len(tasks)):
        yield number, work(tasks[number])


@pytest.fixture
def desk(tmp_path, cuau, recorded):
    return Desk(tmp_path, cuau, recorded)


@pytest.fixture(scope="module")
def ran(tmp_path_factory, cuau, recorded):
    """One where everything has been computed."""
    desk = Desk(tmp_path_factory.mktemp("ran"), cuau, recorded)
    desk.made = desk.run()
    return desk


@pytest.mark.parametrize("name, zone, bottom, spin", [("CuAu", 7.5, -0.5, False), ("FePt", 6.0, -0.4, True)])
def test_an_input_is_that_of_a_recorded_run(name, zone, bottom, spin):
    run = read_lsms(RUNS / f"{name}_info_evec_out")
    symbols, lattice = list(run.atoms.symbols), Lattice.of(run.atoms)
    settings = LsmsSettings(potentials={"Cu": "-"}, zone=zone * BOHR, bottom_ry=bottom, spin=spin, lmax=2, energies=10)
    numbers = [int(symbol == name[2:]) for symbol in symbols]
    own = lsms_input(lattice, symbols, numbers, settings, mixing=0.1).splitlines()
    theirs = (RUNS / f"{name}_i_lsms").read_text().splitlines()
    differ = {b.split("=")[0] for a, b in zip(own, theirs, strict=True) if a != b}
    assert differ <= {"systemid", "system_title", "pot_out_type"}  # a name, and that potentials are written


def test_runs_become_a_dataset_of_what_the_code_gave(ran, cuau):
    made = AlloyData.open(ran.made.path)
    assert (made.info.symbols, made.info.code, made.info.settings["zone"]) == (("Cu", "Au"), "lsms", 3.969)
    assert sorted(made.all.n_second) == sorted([0, 32, *cuau.all.n_second[ran.rows]])
    of = {row.tobytes(): i for i, row in enumerate(cuau.all.species)}
    for i, species in enumerate(made.all.species):
        row = of[species.tobytes()]
        assert made.all.energy[i] == pytest.approx(cuau.all.energy[row], rel=1e-14)
        np.testing.assert_allclose(made.all.charge[i], cuau.all.charge[row], atol=1e-6)
    np.testing.assert_allclose(made.info.pure_energies, cuau.info.pure_energies, rtol=1e-12)
    assert (made.info.source, len(list(made.check()))) == ("generated, 5 runs", 5)


def test_runs_begin_from_the_nearest_potentials_there_are(ran):
    runs = ran.folder / "CuAu.runs"
    about = {path.parent.name: json.loads(path.read_text()) for path in runs.glob("*/done.json")}
    n_of = {name: int(name[:3]) for name in about}
    (first,) = (name for name, one in about.items() if one["near"] is None)
    assert abs(n_of[first] - 16) == min(abs(n - 16) for n in n_of.values())
    assert (runs / first / "potential.Cu").read_text().endswith("from given Cu")
    assert "mixing_parameter=0.02}" in (runs / first / "i_lsms").read_text()
    pure = next(name for name, n in n_of.items() if n == 0)
    assert "mixing_parameter=0.1}" in (runs / pure / "i_lsms").read_text()
    assert about[pure]["near"] is not None
    assert (runs / pure / "potential.Cu").read_text().split(" from ")[1].startswith("after Cu of ")
    assert [path.name for path in (runs / pure).glob("potential.*")] == ["potential.Cu"]


def test_what_is_finished_is_never_computed_again(desk):
    with pytest.raises(InputError, match=r"failed: lsms ended with code 1; logs are in .*the same command tries again"):
        desk.run("fails for gold")
    assert desk.calls == 5
    failed = [path.name for path in (desk.folder / "CuAu.runs" / "failed").iterdir()]
    assert [name[:3] for name in failed] == ["032"]
    desk.run("well")
    assert desk.calls == 6
    assert not (desk.folder / "CuAu.runs" / "failed").exists()


def test_runs_of_other_settings_are_refused(ran):
    path = ran.folder / "other.toml"
    path.write_text((ran.folder / "CuAu.toml").read_text().replace("3.969", "4.5"))
    generation = AlloyGeneration(AlloySpec.read(path))
    (ran.folder / "other.runs").symlink_to(ran.folder / "CuAu.runs")
    with pytest.raises(InputError, match="was computed for another specification"):
        generation.run(ran.folder / "other", in_turn, without_failed=False, progress=Silent())
    assert ran.calls == 5


def test_finished_runs_are_made_a_dataset_without_failed_ones(desk):
    bits = "".join(map(str, desk.data.all.species[desk.rows[0]]))
    desk.recorded = desk.folder / "fewer"
    record(desk.data, desk.recorded, range(len(desk.data.all)))
    (desk.recorded / hex(int(bits, 2))).unlink()
    with pytest.raises(InputError, match="No such file"):
        desk.run()
    assert len(desk.run(without_failed=True).all) == 4


@pytest.mark.parametrize(
    "behaviour, said",
    [
        ("crashes", "lsms ended with code 3: cannot open v_AuCu.0"),
        ("killed", "lsms was killed by SIGKILL, by somebody or for want of memory"),
        ("hangs", "lsms hangs: not done after 0.005 minutes, so it was stopped"),
        ("writes nothing", "lsms ended, but it wrote no info_evec_out: LSMS_3: Program started"),
        ("writes no iterations", "lsms ended, but it wrote no k.out"),
        ("is cut off", r"info_evec_out, line \d+: \d+ columns and not 18; the run was cut off"),
        (
            "converges never",
            r"the SCF did not converge \(residual 3.0e-04 after 2 x 60 iterations\); lower \[lsms\] mix",
        ),
        ("diverges", r"the SCF did not converge \(residual nan after 1 x 60 iterations\)"),
        ("writes other atoms", "lsms wrote an info_evec_out of other atoms than were asked for"),
    ],
)
def test_what_goes_wrong_is_one_line_and_three_failures_end_it(desk, behaviour, said):
    with pytest.raises(InputError, match=said) as caught:
        desk.run(behaviour, limit=0.3 if behaviour == "hangs" else 20)
    assert "\n" not in str(caught.value)
    if behaviour != "hangs":  # on a busy machine it is stopped before it has said that it was called
        assert desk.calls == (6 if behaviour == "converges never" else 3)
    assert not (desk.folder / "CuAu").exists()
    assert len(list((desk.folder / "CuAu.runs" / "failed").glob("*/failure.txt"))) == 3


def test_a_run_that_has_not_converged_goes_on_from_its_own_potentials(desk):
    desk.rows = desk.rows[1:2]
    desk.run("converges from near")
    assert desk.calls == 4
    (mixed,) = (path for path in (desk.folder / "CuAu.runs").glob("*/done.json") if path.parent.name[:3] not in PURE)
    assert json.loads(mixed.read_text())["near"] is None
    assert "pot_in_idx=31," in (mixed.parent / "i_lsms").read_text()


def test_a_program_that_is_not_there_is_said(desk):
    generation = AlloyGeneration(AlloySpec.read(desk.spec(command="no-lsms")))
    with pytest.raises(InputError, match=r"no-lsms is not found on .*build LSMS .*command = "):
        generation.refuse_missing()


@pytest.mark.parametrize(
    "old, new, said",
    [
        ('"Au"]', '"Cu"]', "key 'symbols': two elements are needed"),
        ("zone", "zoom", "unknown key 'lsms.zoom'; there are command, cpus"),
        ("zone = 3.969", "", "key 'lsms.zone' is missing"),
        (', Au = "v_Au"', "", "key 'lsms.potentials': has no starting potential of Au; name its file"),
        ('"v_Au"', '"w_Au"', "w_Au: the potential of Au cannot be read"),
        ('species = ["0', 'species = ["', "key 'configurations.species.0': 31 elements, and the lattice has 32 sites"),
        ('species = ["', 'species = ["Cu Ag", "', "key 'configurations.species.0': 'Ag' is neither Cu nor Au"),
        ('["Cu", "Au"]', '["Al", "Au"]', "Al is no transition metal, so say its core, semicore and valence electrons"),
        ("limit", "electrons = {Cu = [10, 8, 10]}\nlimit", r"electrons of Cu are \[10, 8, 10\], which is not all"),
        ("sites.xyz", "nothing.xyz", "nothing.xyz"),
        ("sites.xyz", "molecule.xyz", "molecule.xyz: the structure is not periodic"),
        ("sites.xyz", "twice.xyz", "twice.xyz: no lattice: two sites are at the same place; give a cell with one atom"),
    ],
)
def test_a_wrong_specification_is_said(desk, old, new, said):
    desk.rows = [next(i for i in desk.rows if desk.data.all.species[i][0] == 0)]
    path = desk.spec()
    Atoms("Cu").write(desk.folder / "molecule.xyz", format="extxyz")
    Atoms("Cu2", cell=[3] * 3, pbc=True).write(desk.folder / "twice.xyz", format="extxyz")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=said):
        AlloyGeneration(AlloySpec.read(path))


def test_structures_are_configurations_and_none_is_there_twice(desk):
    row = desk.rows[0]
    atoms = desk.data.info.lattice.atoms([desk.data.info.symbols[k] for k in desk.data.all.species[row]])
    atoms[::-1].write(desk.folder / "one.xyz", format="extxyz")
    with pytest.raises(
        InputError, match=r"one\.xyz, structure 0: is the configuration of key 'configurations\.species\.0'"
    ):
        AlloyGeneration(AlloySpec.read(desk.spec(more='files = ["one.xyz"]')))


def test_drawn_ones_have_all_compositions_and_no_symmetry_makes_them_equal(desk):
    drawn = AlloyGeneration(AlloySpec.read(desk.spec(more="random = 62"))).configurations[5:]
    again = AlloyGeneration(AlloySpec.read(desk.spec(more="random = 62"))).configurations[5:]
    assert [one.id for one in drawn] == [one.id for one in again]
    permutations = desk.data.info.lattice.permutations
    assert len({orbit_key(one.species, permutations) for one in drawn}) == 62
    counts = np.bincount([one.n_second for one in drawn], minlength=33)
    assert counts.max() <= 3
    assert counts[3:30].min() >= 2
    assert counts[0] == counts[32] == 0


def test_no_more_is_drawn_than_there_is():
    four = Lattice.of(bulk("Cu", "fcc", 3.6, cubic=True))
    drawn = draw(four, 10, set(), np.random.default_rng(0))
    assert sorted(one.sum() for one in drawn) == [1, 2, 3]  # all others are their images


def test_models_disagree_most_on_what_is_selected(desk, cuau):
    more = f'select = {{dataset = "{cuau.path}", number = 3, among = 40}}'
    selected = AlloyGeneration(AlloySpec.read(desk.spec(more=more))).configurations[5:]
    assert len(selected) == 3
    assert not {f"{orbit_key(s.species, cuau.info.lattice.permutations):x}" for s in selected} & set(cuau.all.orbit)
    rng = np.random.default_rng(1)
    models = drawn_models(
        ShellModel.candidates(cuau.info.lattice, cuau.all.species[:30], cuau.formation_energies[:30]), 5, rng
    )
    pool = list(cuau.all.species[30:60])
    chosen = most_disagreed(models, cuau.info.lattice, pool, 2)
    scatter = [float(np.std([m.energy(cuau.info.lattice, one[None])[0] for m in models])) for one in pool]
    assert [one.tobytes() for one in chosen] == [pool[i].tobytes() for i in np.argsort(scatter)[::-1][:2]]


def test_a_dataset_of_another_alloy_selects_nothing(desk, fept):
    with pytest.raises(InputError, match="is of FePt on 32 sites, not of this alloy and lattice"):
        AlloyGeneration(AlloySpec.read(desk.spec(more=f'select = {{dataset = "{fept.path}", number = 1}}')))
