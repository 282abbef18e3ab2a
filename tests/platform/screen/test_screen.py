"""The descriptor screen on real data: the sampled points, the scores, going on after a stop, the recommendation."""

import dataclasses
import json
import shutil
from math import prod

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from dftune.cluster.descriptors.screening import score_settings
from dftune.platform.cli.main import cli
from dftune.platform.progress import Silent
from dftune.platform.screen import screen as screening
from dftune.platform.screen.result import ScreenRow, recommend
from dftune.platform.screen.screen import ScreenError, screen
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.errors import DatasetError, InputError
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.descriptor_screen import SampledPoints, coarse_grid, sample, sample_points, score_setting

CHEAP = BispectrumSettings(cutoff=4.0, two_j_max=4)
QUICK = {"cutoffs": [3.5, 4.68], "two_j_max": [4, 6], "points": 200, "snapshots": 2}


def row(cutoff, two_j_max, kernel_ridge, acsd=0.1, clipped=0.1, **more):
    n = BispectrumSettings(cutoff=cutoff, two_j_max=two_j_max).n_components
    costs = dict.fromkeys(("descriptor_cost", "descriptor_seconds", "kernel_ridge_seconds", "acsd_seconds"), 1.0)
    scores = {"kernel_ridge": kernel_ridge, "acsd": acsd, "acsd_clipped": clipped}
    return ScreenRow(cutoff=cutoff, two_j_max=two_j_max, n_components=n, **scores, **costs, **more)


def test_the_recommendation_is_the_smallest_two_j_max_then_the_largest_cutoff_within_half_as_much_again():
    rows = [row(3.0, 4, 0.016), row(3.0, 6, 0.015), row(4.0, 6, 0.0149), row(5.0, 6, 0.02), row(4.0, 8, 0.01)]
    assert recommend(rows, "kernel-ridge") == rows[2]
    assert recommend([rows[0], rows[1]], "kernel-ridge") == rows[0]
    rows = [row(3.0, 4, 0.5, acsd=0.3, clipped=0.1), row(3.0, 6, 0.01, acsd=0.1, clipped=0.1)]
    assert recommend(rows, "acsd") == rows[1]
    assert recommend(rows, "acsd", "clipped") == rows[0]


@pytest.mark.parametrize("grid", [(20, 20, 20), (27, 15, 24), (7, 11, 13), (1, 1, 3)])
@pytest.mark.parametrize("n_points", [1, 250, 1000, 9000])
def test_a_coarse_grid_has_the_points_and_no_smaller_one_has(grid, n_points):
    coarse = coarse_grid(grid, n_points)
    assert all(n % m == 0 for n, m in zip(grid, coarse, strict=True))
    if prod(grid) < n_points:
        assert coarse == grid
    else:
        a, b, c = ([m for m in range(1, n + 1) if n % m == 0] for n in grid)
        sizes = [i * j * k for i in a for j in b for k in c]
        assert prod(coarse) == min(size for size in sizes if size >= n_points)


@pytest.mark.parametrize("seed", [0, 1])
def test_sampled_points_have_the_ldos_and_the_descriptors_of_the_whole_grid(al4, seed):
    snapshot = al4["002"]
    points = sample_points(al4, snapshot, 150, np.random.default_rng(seed))
    whole = bispectrum(snapshot.cell, snapshot.positions, snapshot.numbers, snapshot.grid, CHEAP)
    found = points.descriptors(CHEAP)
    # An independent route to the rows: the LDOS of every sampled point occurs in the snapshot, at the point itself.
    ldos = al4.ldos(snapshot).array()
    where = [int(np.flatnonzero((ldos == one).all(axis=1))[0]) for one in points.ldos]
    assert len(set(where)) == 150
    np.testing.assert_allclose(found, whole[where], rtol=1e-3, atol=1e-3)


def test_descriptors_of_sampled_points_are_right_in_a_triclinic_cell_too(al4):
    cell = np.array([[4.1, 0.0, 0.0], [1.3, 3.9, 0.0], [-0.7, 0.9, 4.4]])
    snapshot = dataclasses.replace(al4["001"], cell=cell, grid=(6, 4, 9))
    whole = bispectrum(cell, snapshot.positions, snapshot.numbers, (6, 4, 9), CHEAP).reshape(6, 4, 9, -1)
    points = SampledPoints(snapshot, (3, 2, 3), (1, 0, 2), np.arange(18), np.zeros((18, 1)))
    np.testing.assert_allclose(points.descriptors(CHEAP), whole[1::2, 0::2, 2::3].reshape(18, -1), rtol=1e-3, atol=1e-3)


def test_a_sample_is_seeded_spread_over_the_groups_and_never_of_test_snapshots(al4):
    first, again, other = (sample(al4, snapshots=3, points=300, seed=seed) for seed in (3, 3, 4))
    for part in ("train", "validation"):
        chosen = [p.snapshot for p in getattr(first, part)]
        assert {s.split for s in chosen} == {part}
        assert len({s.group for s in chosen}) == 3
        for a, b in zip(getattr(first, part), getattr(again, part), strict=True):
            assert a.snapshot.id == b.snapshot.id
            np.testing.assert_array_equal(a.rows, b.rows)
            np.testing.assert_array_equal(a.ldos, b.ldos)
    assert [len(p.rows) for p in first.train] == [100] * 3
    assert [len(p.rows) for p in first.validation] == [80] * 3
    assert any((a.rows != b.rows).any() for a, b in zip(first.train, other.train, strict=True))


def test_descriptors_that_see_the_neighbours_score_better_than_those_that_do_not(al4):
    sampled = sample(al4, snapshots=3, points=300, seed=0)
    blind, seeing = (score_setting(BispectrumSettings(cutoff=r, two_j_max=6), sampled) for r in (1.5, 4.68))
    assert seeing.kernel_ridge < 0.03 < 0.3 < blind.kernel_ridge


def test_the_cost_of_descriptors_is_that_of_a_grid_point_in_microseconds(al4):
    # 3 µs (4.68 Å, 30 components) and 25 µs (7 Å, 91) in an idle moment.  The first time has the kernels' start in it.
    sampled = sample(al4, snapshots=1, points=300, seed=0)
    settings = [BispectrumSettings(cutoff=r, two_j_max=j) for r, j in ((4.68, 6), (7, 10))]
    cheap, dear = (
        min((score_setting(some, sampled) for _ in range(3)), key=lambda scores: scores.descriptor_cost)
        for some in settings
    )
    assert 1 < dear.descriptor_cost < 20_000
    assert dear.descriptor_cost > 3 * cheap.descriptor_cost
    points = sum(prod(p.coarse) for p in (*sampled.train, *sampled.validation))
    assert 1e-6 * points * dear.descriptor_cost == pytest.approx(dear.descriptor_seconds)


@pytest.fixture(scope="module")
def screened(al4, local_ray, tmp_path_factory):
    """A small screen, and its folder."""
    folder = tmp_path_factory.mktemp("screens") / "al4"
    return screen(al4, **QUICK, output=folder), folder


def test_a_screen_scores_every_combination_and_leaves_the_dataset_alone(al4, screened):
    found, folder = screened
    assert [(r.two_j_max, r.cutoff) for r in found.rows] == [(4, 3.5), (4, 4.68), (6, 3.5), (6, 4.68)]
    assert [r.n_components for r in found.rows] == [14, 14, 30, 30]
    expected = score_setting(BispectrumSettings(cutoff=4.68, two_j_max=6), sample(al4, snapshots=2, points=200, seed=0))
    assert found.rows[3].kernel_ridge == pytest.approx(expected.kernel_ridge, rel=1e-6)
    assert found.rows[3].acsd == pytest.approx(expected.acsd, rel=1e-9)
    assert found.rows[3].acsd_clipped == pytest.approx(expected.acsd_clipped, rel=1e-9)
    assert found.recommended == recommend(found.rows, "kernel-ridge")
    assert found.qualities == []
    assert not (al4.path / "descriptors" / BispectrumSettings(cutoff=3.5, two_j_max=4).key).exists()
    assert (folder / "screen.png").read_bytes().startswith(b"\x89PNG")
    assert not (folder / "trained.png").exists()


def test_a_stopped_screen_goes_on_with_what_is_missing(al4, screened, tmp_path):
    class Stopped(Exception):
        pass

    class StopAtOnce(Silent):
        def update(self, stage, done, total, text=""):
            if done == 1:
                raise Stopped

    with pytest.raises(Stopped):
        screen(al4, **QUICK, output=tmp_path, progress=StopAtOnce())
    (kept,) = json.loads((tmp_path / "screen.json").read_text())["rows"]
    found = screen(al4, **QUICK, output=tmp_path)
    # Times are never equal twice: the row was not made again.  The scores are those of the undisturbed screen.
    assert kept in [r.model_dump() for r in found.rows]
    for a, b in zip(found.rows, screened[0].rows, strict=True):
        assert (a.kernel_ridge, a.acsd) == pytest.approx((b.kernel_ridge, b.acsd), rel=1e-6)


def test_a_finished_screen_needs_no_cluster_and_can_be_judged_by_another_score(al4, screened):
    _, folder = screened
    before = (folder / "screen.json").read_bytes()
    found = screen(al4, **QUICK | {"cutoffs": [3.5]}, output=folder, score="acsd", address="127.0.0.1:1")
    assert [(r.two_j_max, r.cutoff) for r in found.rows] == [(4, 3.5), (6, 3.5)]
    assert found.recommended == recommend(found.rows, "acsd")
    assert (folder / "screen.json").read_bytes() == before


@pytest.mark.parametrize("change", [{"seed": 1}, {"points": 100}, {"snapshots": 1}, {"radii": {"Al": 0.4}}])
def test_rows_made_under_other_conditions_are_not_mixed(al4, screened, change):
    with pytest.raises(ScreenError, match=f"holds a screen with other {next(iter(change))}.*choose another --output"):
        screen(al4, **QUICK | change, output=screened[1])


def test_a_damaged_file_of_results_is_said(al4, screened, tmp_path):
    text = (screened[1] / "screen.json").read_text()
    (tmp_path / "screen.json").write_text(text[: len(text) // 2])
    with pytest.raises(ScreenError, match=r"screen.json: .*remove it or choose another --output"):
        screen(al4, **QUICK, output=tmp_path)


def test_training_adds_its_error_and_how_well_the_scores_rank_it(fresh_al4, local_ray, tmp_path, monkeypatch):
    from dftune.trainables.ldos.training import train
    from dftune.trainables.ldos.training_data import read_training_data

    table = pq.read_table(fresh_al4.path / "snapshots.parquet")
    pq.write_table(table.take([1, 4, 7]), fresh_al4.path / "snapshots.parquet")  # 2 to train, 1 to validate: quick
    fresh_al4 = Dataset.open(fresh_al4.path)
    small = SurrogateConfig(n_layers=1, width=16, epochs=6, batch_size=256, learning_rate=1e-2)
    monkeypatch.setattr(screening, "NETWORK", small)
    monkeypatch.setattr(screening, "INITIALIZATIONS", (0, 1))
    options = {"cutoffs": [2.5, 4.0], "two_j_max": [4], "points": 200, "output": tmp_path}
    assert screen(fresh_al4, **options).qualities == []
    ready = BispectrumSettings(cutoff=2.5, two_j_max=4)
    for s in fresh_al4.snapshots:  # what the dataset has already is used; the other setting's is computed
        fresh_al4.write_descriptors(s, ready, bispectrum(s.cell, s.positions, s.numbers, s.grid, ready))
    found = screen(fresh_al4, **options, train=True)
    for r in found.rows:
        settings = BispectrumSettings(cutoff=r.cutoff, two_j_max=r.two_j_max)
        direct = train(small, read_training_data(fresh_al4, settings), seeds=[0, 1]).best_loss
        assert r.trained_error == pytest.approx(np.mean(direct), rel=1e-3)
        assert r.trained_std == pytest.approx(np.std(direct), rel=0.05)
        assert fresh_al4.without_descriptors(settings) == []
    near, far = found.rows
    assert (near.kernel_ridge > far.kernel_ridge) == (near.trained_error > far.trained_error)
    assert {q.name: q.tau for q in found.qualities}["kernel-ridge"] == 1.0
    assert found.regret == found.recommended.trained_error / far.trained_error - 1
    assert (tmp_path / "trained.png").read_bytes().startswith(b"\x89PNG")
    # What is trained is not trained again: no cluster is asked.
    assert screen(fresh_al4, **options, train=True, address="127.0.0.1:1").rows == found.rows


def test_a_setting_that_cannot_be_computed_is_named_with_the_reason(al4, local_ray):
    sampled = sample(al4, snapshots=1, points=60, seed=0)
    alloy = dataclasses.replace(sampled.train[0].snapshot, numbers=np.array([13, 13, 13, 29]))
    broken = dataclasses.replace(sampled, train=[dataclasses.replace(sampled.train[0], snapshot=alloy)])
    with pytest.raises(InputError, match="descriptors with cutoff 4 Å, 2J_max 4: descriptors cannot tell Al, Cu apart"):
        list(score_settings([CHEAP], broken))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"cutoffs": [0.0, 3.0]}, "cutoff: input should be greater than 0, got 0.0"),
        ({"cutoffs": [float("nan")]}, "cutoff: input should be a finite number, got nan"),
        ({"cutoffs": []}, "no cutoff to screen; give one or more"),
        ({"two_j_max": []}, "no two_j_max to screen; give one or more"),
        ({"two_j_max": [4, 5]}, "two_j_max: input should be a multiple of 2, got 5"),
        ({"weights": {"Al": 0.0}}, "weights of 0 hide Al; give another number"),
        ({"weights": {"Mg": 1.0}}, "descriptors for Mg do not know Al; name all species in weights"),
        ({"score": "rfr"}, "unknown score 'rfr'; there are kernel-ridge, acsd"),
        ({"variant": "mala"}, "unknown variant 'mala'; there are paper, clipped"),
        ({"snapshots": 0}, "snapshots: 0 is too few; 1 or more of each split"),
        ({"points": 5}, "points: 5 is outside 50 to 4000 grid points"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_starts(al4, tmp_path, change, message):
    with pytest.raises(InputError) as refusal:
        screen(al4, **QUICK | change, output=tmp_path / "made", address="127.0.0.1:1")
    assert str(refusal.value) == message
    assert not (tmp_path / "made").exists()


def test_a_dataset_without_ldos_or_of_a_single_snapshot_is_refused(fresh_al4, tmp_path):
    table = pq.read_table(fresh_al4.path / "snapshots.parquet")
    shutil.copytree(fresh_al4.path, tmp_path / "single")
    pq.write_table(table.slice(0, 1), tmp_path / "single" / "snapshots.parquet")
    with pytest.raises(DatasetError, match=r"has no validation snapshot; import two snapshots or more, better three"):
        screen(Dataset.open(tmp_path / "single"), **QUICK, output=tmp_path / "made")
    shutil.rmtree(fresh_al4.path / "ldos")
    with pytest.raises(DatasetError, match=r"ldos/\d+.arrow: missing; import the dataset again"):
        screen(fresh_al4, **QUICK, output=tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_the_command_prints_table_recommendation_and_json(al4, screened):
    found, folder = screened
    arguments = ["descriptors", "screen", str(al4.path), "--cutoffs", "3.5,4.68", "--two-j-max", "4,6"]
    arguments += ["--points", "200", "--snapshots", "2", "--output", str(folder)]
    shown = CliRunner().invoke(cli, arguments)
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert lines[0].split("  ")[0] == "cutoff [Å]"
    assert sum("<- recommended" in line for line in lines) == 1
    best = found.recommended
    assert f"recommended by kernel-ridge: --cutoff {best.cutoff:g} --two-j-max {best.two_j_max}" in lines
    printed = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)
    assert printed == found.as_dict() | {"schema_version": printed["schema_version"]}


@pytest.mark.parametrize(
    "option, text, message",
    [
        ("--cutoffs", "3.0,x", "'3.0,x' is not a list of numbers as in 3.0,3.5,4.0"),
        ("--cutoffs", "", "'' is not a list of numbers"),
        ("--two-j-max", "4,6.5", "'4,6.5' is not a list of whole numbers as in 4,6,8"),
        ("--cutoffs", "-1", "cutoff: input should be greater than 0, got -1.0"),
        ("--two-j-max", "7", "two_j_max: input should be a multiple of 2, got 7"),
        ("--weights", "Al:1", "'Al:1' does not give numbers of species, such as Al=1,Mg=0.7"),
        ("--radii", "Al=wide", "'Al=wide' does not give numbers of species, such as Al=1,Mg=0.7"),
        ("--chem", "Al,al", "chem.1: 'al' is no chemical symbol"),
        ("--chem", "Al,", "'Al,' is not a list of chemical symbols as in Al,Mg"),
    ],
)
def test_the_command_refuses_in_one_line(al4, tmp_path, option, text, message):
    arguments = ["descriptors", "screen", str(al4.path), "--output", str(tmp_path / "made"), option, text]
    refusal = CliRunner().invoke(cli, arguments)
    (line,) = [line for line in refusal.stderr.splitlines() if line.startswith("Error")]
    assert message in line
    assert refusal.stdout == ""
    assert refusal.exit_code in (1, 2)
