import re
import shutil

import numpy as np
import pytest

from dftune.tests.exported import REFERENCES, edit, edit_array, refused, upf
from dftune.tests.places import DATA
from dftune.trainables.data.energy_grid import EnergyGrid
from dftune.trainables.data.importing.importers import import_dataset
from dftune.trainables.data.importing.planning import with_rule
from dftune.trainables.data.info import NO_DFT


def test_an_import_equals_what_was_exported(al4, raw, tmp_path):
    lines = []
    made = import_dataset([raw], tmp_path / "al4", source="a note", report=lines.append)
    assert made.path == (tmp_path / "al4").resolve()
    assert made.info == al4.info.model_copy(update={"source": "a note", "checks": made.info.checks})
    assert [line.split()[0] for line in lines[:5]] == ["rule", "000", "001", "002", "003"]
    for ours, theirs in zip(made.snapshots, al4.snapshots, strict=False):
        same = {"split": "", "temperature": 0, "ldos_sha256": "", "density_sha256": ""}
        assert ours.to_row() | same == theirs.to_row() | same
        assert ours.temperature == pytest.approx(theirs.temperature, rel=1e-14)
        assert made.ldos(ours).array().tobytes() == al4.ldos(theirs).array().tobytes()
        assert made.density(ours).array().tobytes() == al4.density(theirs).array().tobytes()
    assert len(list(made.check())) == 4


@pytest.mark.parametrize(
    "options, missing",
    [({"validation": ["000", "001"], "test": ["002", "003"]}, "train"), ({"test": ["003"]}, "validation"), ({}, "")],
)
def test_a_split_that_has_no_snapshot_is_said(raw, tmp_path, options, missing):
    lines = []
    import_dataset([raw], tmp_path / "al4", report=lines.append, **options)
    said = [line for line in lines if line.startswith("no snapshot is in the split")]
    assert [line.split(",")[0] for line in said] == ([f"no snapshot is in the split {missing}"] if missing else [])


def test_by_default_the_last_quarter_is_for_testing_and_the_one_before_for_validation(raw, tmp_path):
    made = import_dataset([raw], tmp_path / "al4")
    assert [s.split for s in made.snapshots] == ["train", "train", "validation", "test"]
    assert made.info.source == "imported from raw"


def test_splits_are_as_told_and_files_may_be_named_one_by_one(raw, tmp_path):
    made = import_dataset([raw / "003.json", raw / "001.json"], tmp_path / "al4", validation=["003"])
    assert [(s.id, s.split) for s in made.snapshots] == [("003", "validation"), ("001", "train")]


def test_only_what_a_snapshot_must_have_is_needed(raw, tmp_path):
    for key in (*REFERENCES, "qe_terms_ev", "forces_ev_per_angstrom", "config.displacement_sigma_angstrom"):
        edit(raw / "000.json", key=key, value=None)
    (raw / "000.dens.npy").unlink()
    edit(raw / "000.json", key="ldos_unit", value="1/(eV Å³)")
    (snapshot,) = import_dataset([raw / "000.json"], tmp_path / "al4").snapshots
    assert (snapshot.band_energy, snapshot.xc_energy, snapshot.forces, snapshot.group) == (None, None, None, "all")
    assert snapshot.density_sha256 is None
    assert not (tmp_path / "al4" / "density").exists()


def test_double_precision_is_stored_as_single(raw, tmp_path):
    edit_array(raw / "000.ldos.npy", lambda values: values.astype(np.float64) * (1 + 1e-4))
    made = import_dataset([raw / "000.json"], tmp_path / "al4")
    stored = made.ldos(made["000"]).array()
    assert stored.dtype == np.float32
    np.testing.assert_allclose(stored, np.load(raw / "000.ldos.npy").reshape(8000, 37), rtol=1e-7)


def test_an_energy_grid_that_ends_where_nobody_knows_is_refused_for_its_electrons(raw, tmp_path):
    edit_array(raw / "000.ldos.npy", lambda values: values[..., :28])
    edit(raw / "000.json", key="config.energy_grid_ev.count", value=28)
    edit(raw / "000.json", key="fermi_ev", value=None)
    text = refused([raw / "000.json"], tmp_path / "al4")
    assert re.search(r"the energy grid from -6 to 7\.5 eV holds 11\.\d+ electrons when full, but 12 are needed", text)


def test_of_two_snapshots_one_validates_and_of_one_there_is_no_surrogate(raw, tmp_path):
    lines: list[str] = []
    made = import_dataset([raw / "000.json", raw / "001.json"], tmp_path / "two", report=lines.append)
    assert [s.split for s in made] == ["train", "validation"]
    said = [line for line in lines if line.startswith("no snapshot is in the split ")]
    assert [line.split(", so")[0] for line in said] == [
        "no snapshot is in the split test: surrogates will be judged on those of validation, which choose them, too"
    ]
    lines.clear()
    import_dataset([raw / "000.json"], tmp_path / "one", report=lines.append)
    assert (
        "no snapshot is in the split validation, and a surrogate needs one in each; import two snapshots or more, "
        "better three, or join datasets by `dftune data merge`"
    ) in lines


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"])
def test_arrays_of_any_byte_order_and_layout_are_read_as_the_numbers_they_are(al4, raw, tmp_path, dtype, order):
    for file in ("ldos", "dens"):
        edit_array(raw / f"000.{file}.npy", lambda values: values.astype(dtype, order=order))
    made = import_dataset([raw / "000.json"], tmp_path / "al4")
    stored, true = made.ldos(made["000"]).array(), al4.ldos(al4["000"]).array()
    assert stored.dtype == (np.float16 if dtype[1:] == "f2" else np.float32)
    assert (stored == true).all()  # the bundled LDOS is float16, which all of these hold exactly
    density, true = made.density(made["000"]).array(), al4.density(al4["000"]).array()
    np.testing.assert_allclose(density, true, rtol=1e-3 if dtype[1:] == "f2" else 0)


@pytest.mark.parametrize("text, kernel", [("fd", "fermi-dirac"), ("fermi-dirac -df/de", "fermi-dirac")])
def test_a_broadening_by_the_scf_smearing_is_known_by_its_names_and_refused_where_it_is_not_so(
    raw, tmp_path, text, kernel
):
    # The data were broadened by a Gaussian: taken for -df/dε, their band energy is 167 meV/atom off.
    edit(raw / "000.json", key="config.energy_grid_ev.kernel", value=text)
    message = refused([raw / "000.json"], tmp_path / "al4")
    assert "000.ldos.npy: the LDOS gives a band energy +167 meV/atom off the DFT's" in message
    assert f"the kernel ({kernel}, 0.5 eV) is not the one it had" in message


def test_the_user_tells_the_broadening_that_no_file_says(raw, tmp_path):
    for key in ("kernel", "width"):
        edit(raw / "000.json", key=f"config.energy_grid_ev.{key}", value=None)
    sources, where = [raw / "000.json"], raw / "000.json"
    nothing = "nothing says the {0} of the broadening of the LDOS; give --{0}"
    assert refused(sources, tmp_path / "al4") == f"{where}: {nothing.format('kernel')}"
    assert refused(sources, tmp_path / "al4", kernel="gaussian") == f"{where}: {nothing.format('width')}"
    made = import_dataset(sources, tmp_path / "al4", kernel="gaussian", width=0.5)
    assert (made.info.energy_grid.kernel, made.info.energy_grid.width) == ("gaussian", 0.5)


def test_what_the_user_tells_does_not_contradict_the_files(raw, tmp_path):
    message = refused([raw / "000.json"], tmp_path / "al4", width=0.4)
    said = "the width of the broadening is 0.5, but --width says 0.4; leave it out, or mend the file"
    assert message == f"{raw / '000.json'}: {said}"


def test_an_energy_grid_that_cuts_off_the_bottom_of_the_band_is_refused(raw, tmp_path):
    # From -3 eV on, the electron count is right to 1 %, the band energy off by 55 meV/atom.
    edit_array(raw / "000.ldos.npy", lambda values: values[..., 6:])
    edit(raw / "000.json", key="config.energy_grid_ev.emin", value=-3.0)
    edit(raw / "000.json", key="config.energy_grid_ev.count", value=31)
    assert "the energy grid cuts off states at the bottom of the band" in refused([raw / "000.json"], tmp_path / "al4")


def test_states_below_the_lowest_energy_are_missed_where_the_dft_gave_no_energies(raw, tmp_path):
    """Nothing counts the electrons then: they fill the LDOS up to another Fermi level."""
    for key in (*REFERENCES, "qe_terms_ev"):
        edit(raw / "000.json", key=key, value=None)
    import_dataset([raw / "000.json"], tmp_path / "whole")
    edit_array(raw / "000.ldos.npy", lambda values: values[..., 6:])
    edit(raw / "000.json", key="config.energy_grid_ev.emin", value=-3.0)
    edit(raw / "000.json", key="config.energy_grid_ev.count", value=31)
    said = refused([raw / "000.json"], tmp_path / "al4")
    assert re.search(r"the DOS is 0\.2\d+ 1/eV at the lowest energy, -3 eV, so that states below it are missing", said)


def test_an_entropy_term_of_the_other_sign_is_refused(al4, raw, tmp_path):
    edit(raw / "000.json", key="minus_ts_ev", value=-al4["000"].entropy_term)
    said = refused([raw / "000.json"], tmp_path / "al4")
    assert "the DFT's entropy term is +102 meV/atom; it is -TS, which is never positive" in said


@pytest.mark.parametrize("kept", ["all", "fermi_ev"])
def test_a_fermi_level_a_few_hundredths_off_is_refused(al4, raw, tmp_path, kept):
    edit(raw / "000.json", key="fermi_ev", value=al4["000"].fermi_level + 0.04)
    for key in () if kept == "all" else set(REFERENCES) - {kept}:
        edit(raw / "000.json", key=key, value=None)
    said = refused([raw / "000.json"], tmp_path / "al4")
    assert "the Fermi level of the LDOS is 7.658 eV, the DFT's is 7.698; the Fermi level is of another" in said


def test_energies_that_nothing_tells_the_zero_of_are_said_not_to_be_checked(raw, tmp_path):
    lines = []
    import_dataset([raw / "000.json"], tmp_path / "whole", report=lines.append)
    assert any(line.startswith("checked: zero of the energies, at most ") for line in lines)
    edit(raw / "000.json", key="config.energy_grid_ev.emin", value=-5.0)  # a volt off
    for key in (*REFERENCES, "qe_terms_ev", "config.pseudo"):
        edit(raw / "000.json", key=key, value=None)
    lines.clear()
    made = import_dataset([raw / "000.json"], tmp_path / "al4", report=lines.append)
    zero = "not checked: zero of the energies; the DFT gave neither a band energy nor a Fermi level"
    assert zero in lines
    assert NO_DFT in lines
    assert {f"at import {zero}", f"at import {NO_DFT}"} < set(made.lines())


def test_snapshots_of_two_species_are_imported(almg):
    assert almg.info.species == {"Al": 3.0, "Mg": 2.0}
    assert [s.numbers.tolist() for s in almg.snapshots] == [[13, 12]] * 3
    assert almg.info.dft is None
    for found in almg.check():  # each valence at its place: the Ewald energy is that of the DFT
        assert abs(found.ewald_error) < 1e-3
        assert abs(found.band_energy_error) < 1.0
        assert found.unexplained_by_atoms < 0.05


def test_each_species_has_a_pseudopotential_of_its_own(tmp_path):
    (tmp_path / "Al.pz-vbc.UPF").write_text(upf(), encoding="utf-8")
    options = {"validation": ["001"], "test": ["002"], "pseudopotentials": tmp_path}
    assert "Mg.pz-n-vbc.UPF is not in" in refused([DATA / "almg"], tmp_path / "made", **options)
    # A core charge that is made up: the energy of the density by it is not that of the DFT, and the import sees it.
    (tmp_path / "Mg.pz-n-vbc.UPF").write_text(upf(element="Mg", valence=2.0, core="0.5 0.1 0.0"), encoding="utf-8")
    assert "and core charges of Mg" in refused([DATA / "almg"], tmp_path / "made", **options)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("config.symbol", "Al", "config: give either symbol, of all atoms, or symbols, of each atom"),
        ("config.symbols", None, "config: give either symbol, of all atoms, or symbols, of each atom"),
        ("config.symbols", ["Al"], "config: symbols of 1 atoms, but positions of 2"),
        ("config.symbols", ["Al", "Xx"], "config: 'Xx' is not a chemical symbol"),
        ("config.zval", 3.0, "config: zval of Al, Mg must be {symbol: value}"),
        ("config.zval", {"Al": 3.0}, "config: zval has no Mg"),
        ("config.pseudo", "Al.UPF", "config: pseudo of Al, Mg must be {symbol: value}"),
        ("config.pseudo", {"Mg": "Mg.UPF"}, "config: pseudo has no Al"),
        ("config.symbols", ["Al", "Al"], "2 Al with 3 valence electrons each are not the 5 electrons"),
    ],
)
def test_species_that_do_not_fit_are_named(tmp_path, key, value, message):
    shutil.copytree(DATA / "almg", tmp_path / "raw")
    edit(tmp_path / "raw" / "001.json", key=key, value=value)
    said = refused([tmp_path / "raw"], tmp_path / "made")
    assert said.startswith(str(tmp_path / "raw" / "001.json"))
    assert message in said


def test_what_exists_is_not_overwritten(raw, tmp_path):
    (tmp_path / "al4").mkdir()
    (tmp_path / "al4" / "precious").touch()
    assert "al4: exists already; choose another name" in refused([raw], tmp_path / "al4")
    assert (tmp_path / "al4" / "precious").exists()


def test_sources_that_hold_nothing_are_refused(raw, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty: holds no snapshot" in refused([raw, tmp_path / "empty"], tmp_path / "al4")
    assert "rwa: missing; give folders or" in refused([raw, tmp_path / "rwa"], tmp_path / "al4")
    assert "004.json: missing" in refused([raw, raw / "004.json"], tmp_path / "al4")
    assert "nothing to import" in refused([], tmp_path / "al4")


def test_a_snapshot_given_twice_is_refused(raw, tmp_path):
    assert "snapshot '001' is given twice" in refused([raw, raw / "001.json"], tmp_path / "al4")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"validation": ["004"]}, "no snapshot '004' to put into a split; there are 000, 001, 002, 003"),
        ({"validation": ["001"], "test": ["002", "001"]}, "snapshot '001' cannot be in validation and in test"),
    ],
)
def test_impossible_splits_are_refused(raw, tmp_path, options, message):
    assert message in refused([raw], tmp_path / "al4", **options)


def test_the_bundled_dataset_is_what_the_import_of_its_raw_data_gives(al4, tmp_path, shared):
    source, pseudopotentials = shared("al4_mini"), shared("al4")
    made = import_dataset([source], tmp_path / "al4", source=al4.info.source, pseudopotentials=pseudopotentials)
    assert made.fingerprint == al4.fingerprint
    for check, bundled in zip(made.info.checks, al4.info.checks, strict=True):
        worst = None if bundled.worst is None else pytest.approx(bundled.worst, rel=1e-3, abs=1e-4)
        assert vars(check) == vars(bundled) | {"worst": worst}, "sums differ in their last digits between machines"
    assert made.info.model_copy(update={"checks": al4.info.checks}) == al4.info


def coarser(raw, every):
    """Leave the LDOS of snapshot 000 at every n-th energy."""
    edit_array(raw / "000.ldos.npy", lambda values: values[..., ::every])
    edit(raw / "000.json", key="config.energy_grid_ev.spacing", value=0.5 * every)
    edit(raw / "000.json", key="config.energy_grid_ev.count", value=36 // every + 1)


def test_the_rule_of_integration_fits_the_grid_is_said_and_kept(raw, tmp_path):
    lines = []
    fine = import_dataset([raw / "000.json"], tmp_path / "fine", report=lines.append)
    assert fine.info.energy_grid.rule == "least-squares"
    assert re.search(
        r"rule of integration: least-squares; estimated error of a band energy \[meV per electron\]: "
        r"least-squares 0\.\d+, linear 16\.\d",
        lines[0],
    )
    coarser(raw, 2)  # a spacing of 1 eV for a width of 0.5 eV
    coarse = import_dataset([raw / "000.json"], tmp_path / "coarse")
    assert coarse.info.energy_grid.rule == "linear"
    # By the linear rule the band energy is 60 meV/atom off the DFT's, by least squares 183.
    assert next(coarse.check()).band_energy_error == pytest.approx(-60.2, abs=0.1)


def test_a_rule_that_is_not_the_better_one_by_the_estimate_has_a_reason():
    """The energies of MALA's Be2: least squares are off by 714 meV per electron, the linear rule by 2050."""
    lines = []
    grid = EnergyGrid(minimum=-5, spacing=2.5, n_energy=11, kernel="fermi-dirac", width=5)
    assert with_rule(grid, None, lines.append).rule == "linear"
    assert "rule of integration: linear, as least squares are not to be trusted beyond 25; estimated" in lines[0]


def test_the_rule_of_integration_can_be_asked_for(raw, tmp_path):
    lines = []
    made = import_dataset([raw / "000.json"], tmp_path / "al4", rule="linear", report=lines.append)
    assert made.info.energy_grid.rule == "linear"
    assert lines[0].startswith("rule of integration: linear, as asked for; ")
    assert next(made.check()).band_energy_error == pytest.approx(-36.14, abs=0.01)
    message = refused([raw / "000.json"], tmp_path / "again", rule="liner")
    assert message == "there is no rule 'liner'; did you mean 'linear'?"


def test_a_wrong_kernel_is_found_whatever_rule_is_asked_for(raw, tmp_path):
    # By the linear rule, which knows no kernel, the band energy is 36 meV/atom off with any.
    edit(raw / "000.json", key="config.energy_grid_ev.kernel", value="fd")
    assert "167 meV/atom off the DFT's" in refused([raw / "000.json"], tmp_path / "al4", rule="linear")


@pytest.mark.parametrize("width", [1.0, 5.0])
@pytest.mark.parametrize("known", [True, False])
def test_a_width_that_is_told_too_large_is_refused(raw, tmp_path, width, known):
    """Where no band energy tells it, or the rule for so large a width is too coarse, the DOS itself does."""
    edit(raw / "000.json", key="config.energy_grid_ev.width", value=width)
    if not known:
        edit(raw / "000.json", key="band_energy_ev", value=None)
    text = refused([raw / "000.json"], tmp_path / "al4")
    if width == 1.0 and known:
        assert "the kernel (gaussian, 1 eV) is not the one it had" in text
    else:
        assert f"structure that a gaussian kernel of {width:g} eV would have smoothed away" in text
        (enough,) = re.findall(r"widths up to (\S+) eV would do", text)
        assert 0.5 <= float(enough) < 0.62


@pytest.mark.parametrize("width", [0.1, 0.3])
@pytest.mark.parametrize("known", [True, False])
def test_a_width_that_is_told_too_small_is_refused(raw, tmp_path, width, known):
    """The bands begin at -4 eV, and below them the DOS falls off as its kernel, of 0.5 eV."""
    edit(raw / "000.json", key="config.energy_grid_ev.width", value=width)
    if not known:
        edit(raw / "000.json", key="band_energy_ev", value=None)
    text = refused([raw / "000.json"], tmp_path / "al4")
    (smooth,) = re.findall(r"as smooth as with a gaussian kernel of (\S+) eV, so that its width was larger", text)
    assert 0.5 <= float(smooth) < 0.62
