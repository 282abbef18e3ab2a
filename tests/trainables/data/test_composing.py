"""Datasets made of others: split, merged, selected, aligned."""

import shutil
from dataclasses import replace

import ase.build
import ase.io
import numpy as np
import pytest

from dftune import Dataset
from dftune.tests.mala_project import SETTINGS, described
from dftune.trainables.data.composing.align import align, common_grid, reachable
from dftune.trainables.data.composing.merge import merge
from dftune.trainables.data.composing.parts import Part, compose
from dftune.trainables.data.composing.selection import choose, select_frames, take
from dftune.trainables.data.composing.split import new_splits, split_dataset
from dftune.trainables.data.energy_grid import EnergyGrid
from dftune.trainables.data.remarks import draw_dos, remarks
from dftune.trainables.data.structure_distance import atoms_of, displacements, distance, radial_distribution
from dftune.trainables.errors import DatasetError, InputError
from dftune.trainables.physics.smearing import broadening

GRID = EnergyGrid(minimum=-6.0, spacing=0.25, n_energy=73, kernel="gaussian", width=0.5)


def ids(dataset, split):
    return [s.id for s in dataset if s.split == split]


# Alignment


@pytest.mark.parametrize(
    "change",
    [{"minimum": -5.9}, {"width": 0.8}, {"spacing": 0.4, "n_energy": 40}, {"kernel": "fermi-dirac", "width": 0.6}],
    ids=str,
)
def test_an_aligned_ldos_is_that_of_the_states_broadened_anew(change):
    new = reachable([GRID], GRID.model_copy(update=change))
    assert new.n_energy > 30
    rng = np.random.default_rng(1)
    states, weights = rng.uniform(-4, 10, 40), rng.uniform(0, 1, (5, 40))

    def ldos(grid):
        return weights @ broadening(grid.energy - states[:, None], kernel=grid.kernel, width=grid.width)

    alignment = align(GRID, new)
    peak = broadening(np.zeros(1), kernel=new.kernel, width=new.width)[0]
    worst = np.abs(alignment(ldos(GRID)) - ldos(new)).max()
    assert worst <= alignment.error * peak * weights.sum(axis=1).max()
    assert alignment.error <= 0.01
    assert worst < 0.01 * ldos(new).max()


def test_energies_that_both_grids_have_are_taken_to_the_last_bit():
    part = GRID.model_copy(update={"minimum": -4.0, "n_energy": 30})
    values = np.random.default_rng(0).uniform(size=(7, 73)).astype(np.float32)
    alignment = align(GRID, part)
    assert alignment.error == 0
    assert (alignment(values) == values[:, 8:38]).all()
    assert align(GRID, GRID) is None


@pytest.mark.parametrize("change", [{"width": 0.3}, {"spacing": 0.1, "n_energy": 100, "width": 0.25}], ids=str)
def test_a_narrower_broadening_cannot_be_had(change):
    with pytest.raises(DatasetError, match=r"states would be off by .* % of their peak, more than 1 %"):
        align(GRID, GRID.model_copy(update=change))


def test_the_common_grid_has_the_widest_kernel_and_the_energies_of_all():
    other = GRID.model_copy(update={"minimum": -3.0, "width": 0.7, "spacing": 0.5, "n_energy": 40})
    common = common_grid([GRID, other])
    assert (common.minimum, common.energy[-1], common.spacing, common.width) == (-3.0, 12.0, 0.5, 0.7)
    with pytest.raises(DatasetError, match="no energies in common"):
        common_grid([GRID, GRID.model_copy(update={"minimum": 50.0})])


# Merging


@pytest.fixture(scope="module")
def halves(al4, tmp_path_factory) -> tuple[Dataset, Dataset]:
    folder = tmp_path_factory.mktemp("halves")
    first = take(al4, folder / "first", ["000", "001", "006"])
    return first, take(al4, folder / "second", ["003", "004", "009"])


def test_merged_datasets_have_all_snapshots_with_their_splits_and_files(al4, halves, tmp_path):
    made = merge(halves, tmp_path / "both")
    assert [s.id for s in made] == ["000", "001", "006", "003", "004", "009"]
    for s in made:
        assert s.to_row() == al4[s.id].to_row()
        assert made.ldos(s).path.samefile(al4.ldos(al4[s.id]).path)  # a link, not a copy
    assert made.info.dft == al4.info.dft
    assert len(list(made.check())) == 6


def test_merged_datasets_without_a_split_are_split_anew_and_keep_all_warnings(al4, tmp_path):
    """Two imports of two snapshots each, which are for training, cannot make a surrogate by themselves."""
    parts = [take(al4, tmp_path / "one", ["000", "001"]), take(al4, tmp_path / "two", ["002", "003"])]
    warned = [
        Dataset(d.path, d.info.model_copy(update={"warnings": (f"{d.name} is off",)}), d.snapshots) for d in parts
    ]
    lines = []
    made = merge(warned, tmp_path / "both", report=lines.append)
    assert sorted(s.split for s in made) == ["test", "train", "train", "validation"]
    assert lines[0].startswith("no snapshot was in the split validation or test, so all are split anew at random; ")
    assert made.info.warnings == ("one: one is off", "two: two is off")
    two = merge([take(al4, tmp_path / name, [name]) for name in ("000", "001")], tmp_path / "few")
    assert sorted(s.split for s in two) == ["train", "validation"], "three splits need three snapshots"


def test_equal_ids_get_the_names_of_their_datasets(al4, halves, tmp_path):
    other = shifted(al4, tmp_path / "other", ["003", "004"], {"minimum": -6.0})
    renamed = Dataset(other.path, other.info, [replace(s, id=s.id) for s in other])
    lines = []
    first = take(al4, tmp_path / "one", ["003"])
    cut = take(renamed, tmp_path / "two", ["004"])
    (cut.path / "ldos" / "004.arrow").rename(cut.path / "ldos" / "003.arrow")
    (cut.path / "density" / "004.arrow").rename(cut.path / "density" / "003.arrow")
    same = Dataset(cut.path, cut.info, [replace(cut["004"], id="003")])
    made = merge([first, same], tmp_path / "both", report=lines.append)
    assert [s.id for s in made] == ["one-003", "two-003"]
    assert lines[0] == "ids are in several datasets, so each gets the name of its dataset before it"
    assert made.ldos(made["two-003"]).array().tobytes() == al4.ldos(al4["004"]).array().tobytes()


def shifted(al4, folder, names, change) -> Dataset:
    """Snapshots on another energy grid."""
    grid = al4.info.energy_grid.model_copy(update=change)
    info = al4.info.model_copy(update={"energy_grid": grid})
    return compose([Part(al4, al4[n], al4[n], align(al4.info.energy_grid, grid)) for n in names], info, folder)


def test_grids_of_which_one_is_a_part_of_the_other_merge_without_error(al4, halves, tmp_path):
    lines = []
    part = shifted(al4, tmp_path / "part", ["003", "004"], {"minimum": -5.5, "n_energy": 35})
    made = merge([halves[0], part], tmp_path / "both", report=lines.append)
    assert (made.info.energy_grid.minimum, made.info.energy_grid.n_energy) == (-5.5, 35)
    assert lines[0].endswith(
        "35 energies from -5.5 to 11.5 eV and a gaussian of 0.5 eV; states are off by at most 0 % of their peak"
    )
    theirs = al4.ldos(al4["000"]).array()[:, 1:36]
    assert (made.ldos(made["000"]).array() == theirs).all()
    assert len(list(made.check())) == 5


def test_what_does_not_merge_is_refused_and_nothing_is_written(al4, halves, tmp_path):
    first, second = halves
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match="give two or more"):
        merge([first], tmp_path / "both")
    with pytest.raises(DatasetError, match=r"has the atoms of '003' of .*second, at the same temperature"):
        merge([second, al4], tmp_path / "both")
    valence = second.info.model_copy(update={"species": {"Al": 11.0}})
    with pytest.raises(InputError, match="Al has 11 valence electrons here and 3 in the others"):
        merge([first, Dataset(second.path, valence, second.snapshots)], tmp_path / "both")
    narrow = second.info.model_copy(update={"energy_grid": first.info.energy_grid.model_copy(update={"minimum": -5.8})})
    with pytest.raises(DatasetError, match=r"or broaden all by --width"):
        merge([first, Dataset(second.path, narrow, second.snapshots)], tmp_path / "both")
    other = second.info.model_copy(update={"dft": second.info.dft.model_copy(update={"functional": "pbe"})})
    with pytest.raises(InputError, match=r"second: computed with the functional pbe, but .*first with lda-pz; a surr"):
        merge([first, Dataset(second.path, other, second.snapshots)], tmp_path / "both")
    assert sorted(tmp_path.iterdir()) == before


def test_descriptors_go_with_their_snapshots(al4, tmp_path):
    source = described(al4, tmp_path / "al4", n=2)
    kept = take(source, tmp_path / "kept", ["001"])
    assert kept.without_descriptors(SETTINGS) == []
    parts = [Part(source, s, replace(s, id=f"x{s.id}")) for s in source]
    renamed = compose(parts, source.info, tmp_path / "renamed")
    assert renamed.without_descriptors(SETTINGS) == []
    assert renamed.ldos(renamed["x001"]).metadata["snapshot"] == "x001"


def test_a_part_that_is_damaged_leaves_nothing_behind(fresh_al4, tmp_path):
    (fresh_al4.path / "density" / "002.arrow").unlink()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DatasetError, match=r"density/002.arrow: missing"):
        split_dataset(fresh_al4, tmp_path / "new", "random")
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(InputError, match="exists already"):
        split_dataset(fresh_al4, fresh_al4.path, "random")


# Splits


def test_the_hottest_snapshots_are_for_testing(al4):
    snapshots = [replace(s, temperature=100.0 * i) for i, s in enumerate(al4)]
    splits = new_splits(snapshots, "temperature", test=0.25, validation=0.25)
    assert [splits[s.id] for s in snapshots] == ["train"] * 6 + ["validation"] * 3 + ["test"] * 3


def test_whole_groups_are_kept_apart(al4):
    splits = new_splits(al4.snapshots, "group", seed=3)
    groups = {s.group: {splits[o.id] for o in al4 if o.group == s.group} for s in al4}
    assert all(len(found) == 1 for found in groups.values())
    assert set().union(*groups.values()) == {"train", "validation", "test"}


def test_a_random_split_takes_the_same_share_of_each_group(al4):
    splits = new_splits(al4.snapshots, "random", seed=1)
    for group in {s.group for s in al4}:
        members = [splits[s.id] for s in al4 if s.group == group]
        assert sorted(members) == ["test", "train", "train", "validation"]
    assert splits == new_splits(al4.snapshots, "random", seed=1)
    assert splits != new_splits(al4.snapshots, "random", seed=2)


def test_structures_least_like_the_others_are_for_testing(al4, tmp_path):
    made = split_dataset(al4, tmp_path / "far", "structure")
    vectors = {s.id: radial_distribution(atoms_of(s)) for s in made}
    middle = np.mean(list(vectors.values()), axis=0)
    far = {split: [distance(vectors[name], middle) for name in ids(made, split)] for split in ("train", "test")}
    assert max(far["train"]) < min(far["test"])
    assert made.info == al4.info


@pytest.mark.parametrize(
    ("by", "shares", "said"),
    [
        ("size", {}, "there is no way 'size' to split; there are random, group, temperature, structure"),
        ("random", {"test": 0.5, "validation": 0.5}, "leave nothing for training"),
        ("temperature", {}, "all snapshots have one temperature; split by group, structure or random"),
    ],
)
def test_a_split_that_cannot_be_is_refused(al4, by, shares, said):
    with pytest.raises(InputError, match=said):
        new_splits(al4.snapshots, by, **shares)


def test_two_groups_cannot_be_split_into_three(al4):
    with pytest.raises(InputError, match=r"2 groups .* cannot be split into three"):
        new_splits([s for s in al4 if s.group != "displacement 0.15 Å"], "group")


# Structures


def test_the_distance_of_structures_knows_no_order_place_or_supercell():
    atoms = ase.build.bulk("Al", cubic=True)
    atoms.rattle(0.1, seed=2)
    reference = radial_distribution(atoms)
    turned = atoms[[2, 0, 3, 1]]
    turned.translate([0.3, 1.0, -0.2])
    turned.rotate(90, "z", rotate_cell=True)
    assert distance(reference, radial_distribution(turned)) < 1e-9
    assert distance(reference, radial_distribution(atoms.repeat((2, 1, 1)))) < 1e-9
    atoms.positions[0] += [0.1, 0, 0]
    assert distance(reference, radial_distribution(atoms)) > 0.01


def test_the_radial_distribution_of_a_gas_is_one():
    rng = np.random.default_rng(0)
    gas = ase.Atoms("H500", positions=rng.uniform(0, 20, (500, 3)), cell=[20] * 3, pbc=True)
    assert radial_distribution(gas)[60:] == pytest.approx(np.ones(100), abs=0.1)


def test_farthest_points_are_the_corners():
    vectors = [np.array([x, y, 10.0]) for x, y in [(0, 0), (0.1, 0), (1, 1), (1, 0.9), (1, 0), (0.5, 0.5), (0, 1)]]
    assert choose(vectors, 5, "farthest").frames == (0, 2, 4, 5, 6)


def test_decorrelated_frames_begin_in_equilibrium_and_know_nothing_of_each_other():
    """A vector that forgets with a time of 10 frames, and that begins far away."""
    rng, vectors = np.random.default_rng(5), []
    state = np.full(20, 6.0)
    for _ in range(2000):
        vectors.append(30 + state)
        state = np.exp(-1 / 10) * state + np.sqrt(1 - np.exp(-2 / 10)) * rng.normal(size=20)
    found = choose(vectors, 20, "decorrelated")
    assert 10 < found.first < 60
    assert 15 < found.step < 50  # 95 % of the distance is 1 - exp(-t/10) = 0.9, at t = 23
    assert all(b - a >= found.step for a, b in zip(found.frames, found.frames[1:], strict=False))
    with pytest.raises(InputError, match=r"of 2000 frames to choose 1000 from; give a longer trajectory"):
        choose(vectors, 1000, "decorrelated")


def test_frames_of_a_trajectory_are_chosen_and_written(al4, tmp_path):
    ase.io.write(tmp_path / "md.traj", [atoms_of(s) for s in al4])
    found = select_frames(tmp_path / "md.traj", tmp_path / "chosen.xyz", 3, "farthest")
    read = ase.io.read(tmp_path / "chosen.xyz", ":")
    assert [atoms.info["frame"] for atoms in read] == list(found.frames)
    assert read[0].positions == pytest.approx(al4.snapshots[found.frames[0]].positions, abs=1e-7)
    (tmp_path / "bad.xyz").write_text("2\n\nAl 0 0 0\n")
    with pytest.raises(InputError, match=r"bad.xyz: frame 0 cannot be read by ASE"):
        select_frames(tmp_path / "bad.xyz", tmp_path / "out.xyz", 1, "farthest")
    ase.io.write(tmp_path / "molecule.xyz", ase.build.molecule("H2O"))
    with pytest.raises(InputError, match=r"frame 0 is no periodic cell with atoms"):
        select_frames(tmp_path / "molecule.xyz", tmp_path / "out.xyz", 1, "farthest")
    assert not (tmp_path / "out.xyz").exists()


# Remarks


def test_displacements_are_those_that_were_put_in():
    from dftune.trainables.data.snapshot import Snapshot

    rng = np.random.default_rng(0)
    cell, places = 10.0 * np.eye(3), rng.uniform(0, 10, (50, 3))
    made = [
        Snapshot(
            id=str(i),
            cell=cell,
            positions=(places + rng.normal(scale=0.1, size=(50, 3))) % 10,
            numbers=np.full(50, 13),
            grid=(1, 1, 1),
            temperature=1.0,
            n_electrons=150.0,
        )
        for i in range(30)
    ]
    assert displacements(made) == pytest.approx([0.1 * np.sqrt(3)] * 30, rel=0.3)
    assert displacements(made[:1]) == [None]


def test_outliers_and_near_duplicates_are_named(al4):
    snapshots = [replace(s, id=f"{s.id}{i}", group="all") for i in "ab" for s in al4]
    lines = remarks(snapshots)
    assert len([line for line in lines if line.startswith("near duplicates: ")]) == 12
    assert "near duplicates: snapshots '000a' and '000b' have radial distribution functions 0 % apart" in lines
    off = [replace(snapshots[0], total_energy=snapshots[0].total_energy + 100), *snapshots[1:12]]
    assert remarks(off)[0].startswith("outlier: the free energy of an atom of snapshot '000a' is -31.987, ")
    assert remarks(al4.snapshots) == []


def test_the_dos_of_all_snapshots_is_drawn(al4, tmp_path):
    draw_dos(al4, tmp_path / "dos.png")
    assert (tmp_path / "dos.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="cannot be written"):
        draw_dos(al4, tmp_path / "dos.png" / "no.png")


def test_a_copy_takes_the_place_of_a_link(al4, tmp_path, monkeypatch):
    def no_links(*arguments):
        raise OSError(18, "another file system")

    monkeypatch.setattr("os.link", no_links)
    made = take(al4, tmp_path / "copy", ["000"])
    assert len(list(made.check())) == 1
    shutil.rmtree(tmp_path / "copy")
