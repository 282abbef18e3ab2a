"""Terms of the energy by a dataset's functional against those that the DFT printed, and what becomes of differences."""

import json
import re

import numpy as np
import pytest

from dftune.tests.exported import edit, edit_array, export, refused, upf
from dftune.trainables.data.checked import CHECKS, compared, summarise
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.data.importing.importer import Told
from dftune.trainables.data.importing.importers import import_dataset, plan_import
from dftune.trainables.errors import InputError
from dftune.trainables.physics.reciprocal import DensitySphere
from dftune.trainables.physics.units import RYDBERG


@pytest.fixture
def raw(al4, tmp_path):
    for snapshot in al4.snapshots[:2]:
        export(al4, snapshot, tmp_path / "raw")
    return tmp_path / "raw"


def test_hartree_and_xc_energies_of_the_density_are_those_of_the_dft(al4):
    """Against the numbers that pw.x 6.7 printed, with the functional and the cutoff of the dataset."""
    report = next(iter(al4.check()))
    assert abs(report.hartree_error) < 0.001  # [meV/atom]
    assert abs(report.xc_error) < 0.005
    assert abs(report.total_error) < 0.3  # of the LDOS alone


@pytest.mark.parametrize(
    "change, message",
    [
        ({"functional": "PBE"}, "the XC energy of the density beside the LDOS is "),
        ({"core": "0.003 0.001 0.0"}, "the XC energy of the density beside the LDOS is "),
    ],
)
def test_another_functional_or_core_charge_than_the_dfts_is_refused(raw, tmp_path, change, message):
    (raw / "Al.UPF").write_text(upf(**change))
    assert message in (said := refused([raw], tmp_path / "al4"))
    assert said.endswith("pseudopotentials, functional or cutoff are not those of the DFT")


@pytest.mark.parametrize("term, name", [("hartree", "Hartree"), ("xc", "XC")])
def test_a_term_of_another_calculation_is_refused(al4, raw, tmp_path, term, name):
    other = getattr(al4["011"], f"{term}_energy")
    edit(raw / "000.json", key=f"qe_terms_ev.{term}", value=other)
    assert f"000.json: the {name} energy of the density beside the LDOS is" in refused([raw], tmp_path / "al4")


def test_a_total_energy_of_another_calculation_is_refused(al4, raw, tmp_path):
    edit(raw / "000.json", key="total_energy_ev", value=al4["011"].total_energy)
    assert "000.json: the LDOS gives a total free energy " in refused([raw], tmp_path / "al4")


def test_a_cutoff_that_the_grid_cannot_hold_is_refused(raw, tmp_path):
    for name in ("000", "001"):
        edit(raw / f"{name}.json", key="config.ecutrho_ry", value=200.0)
    assert "cannot hold the plane waves up to 2721.14 eV" in refused([raw], tmp_path / "al4")


@pytest.mark.parametrize("cutoff", [15.0, 30.0, 45.0])
@pytest.mark.parametrize("known", [True, False])
def test_a_cutoff_smaller_than_that_of_the_density_is_refused(raw, tmp_path, cutoff, known):
    """Hartree and XC energies hardly tell it; the density was computed with 60 Ry."""
    for name in ("000", "001"):
        edit(raw / f"{name}.json", key="config.ecutrho_ry", value=cutoff)
        for key in () if known else ("qe_terms_ev.hartree", "qe_terms_ev.xc", "total_energy_ev"):
            edit(raw / f"{name}.json", key=key, value=None)
    said = refused([raw], tmp_path / "al4")
    assert f"000.json: the density beside the LDOS has plane waves beyond its cutoff of {cutoff:g} Ry" in said
    assert re.search(r"up to about 5[0-9] Ry; it was computed with a larger one$", said)


def test_a_density_without_rounding_has_its_own_cutoff(raw, tmp_path):
    """Numbers of double precision, of which nothing but rounding is beyond the cutoff."""
    for name in ("000", "001"):
        file = raw / f"{name}.dens.npy"
        cell = np.array(json.loads((raw / f"{name}.json").read_text())["config"]["cell_angstrom"])
        sphere = DensitySphere(cell, (20, 20, 20), 60 * RYDBERG)
        np.save(file, sphere.to_real(sphere.to_reciprocal(np.load(file))))
    import_dataset([raw], tmp_path / "al4")
    for name in ("000", "001"):
        edit(raw / f"{name}.json", key="config.ecutrho_ry", value=40.0)
    assert "plane waves beyond its cutoff of 40 Ry" in refused([raw], tmp_path / "again")


def test_warnings_let_pass_what_does_not_agree_and_are_kept(al4, raw, tmp_path):
    edit(raw / "000.json", key="qe_terms_ev.xc", value=al4["011"].xc_energy)
    lines = []
    made = import_dataset([raw], tmp_path / "al4", check="warn", report=lines.append)
    (warning,) = made.info.warnings
    assert warning.startswith(f"{raw / '000.json'}: the XC energy of the density beside the LDOS is")
    assert f"warning: {warning}" in lines
    assert f"at import warned: {warning}" in made.lines()
    assert Dataset.open(made.path).info.warnings == (warning,)


def test_warnings_go_on_over_all_that_is_compared(raw, tmp_path):
    edit_array(raw / "000.ldos.npy", lambda d: 1.1 * d.astype(np.float32))
    edit_array(raw / "000.dens.npy", lambda d: np.roll(d, 1, axis=0))
    warnings = import_dataset([raw], tmp_path / "al4", check="warn").info.warnings
    for words in ("electrons below the Fermi level", "band energy", "correlate to", "does not follow the atoms"):
        assert any(words in warning for warning in warnings), words


def test_numbers_that_are_none_are_refused_with_warnings_only_too(raw, tmp_path):
    edit_array(raw / "000.ldos.npy", lambda d: np.where(d > 0.04, np.nan, d))
    assert "is not finite" in refused([raw], tmp_path / "al4", check="warn")


def test_an_unknown_check_is_refused(raw, tmp_path):
    with pytest.raises(InputError, match="there is no check 'lax'; there are strict, warn"):
        import_dataset([raw], tmp_path / "al4", check="lax")


def test_every_comparison_stands_in_the_table(raw, tmp_path):
    lines = []
    import_dataset([raw], tmp_path / "al4", report=lines.append)
    start = lines.index("differences from the DFT, energies in meV/atom, their zero in eV:")
    head = [
        "id",
        "electrons",
        "zero",
        "width",
        "density",
        "atoms",
        "band",
        "entropy",
        "Hartree",
        "XC",
        "Ewald",
        "total",
        "forces",
    ]
    assert lines[start + 1].split() == head
    assert [line.split()[0] for line in lines[start + 2 : start + 4]] == ["000", "001"]
    assert len(lines[start + 2].split()) == len(head)


def test_a_plan_says_what_is_there_and_what_is_missing(raw, tmp_path):
    edit(raw / "000.json", key="fermi_ev", value=None)
    (raw / "001.dens.npy").unlink()
    before = sorted(tmp_path.rglob("*"))
    lines = plan_import([raw], told=Told(), test=["001"]).lines()
    assert sorted(tmp_path.rglob("*")) == before
    assert lines[:2] == [
        "imported from raw: 2 snapshots",
        "LDOS: 37 energies from -6 to 12 eV, gaussian kernel of 0.5 eV",
    ]
    assert lines[3].split() == [
        "000",
        "train",
        "4",
        "Al",
        "20x20x20",
        "-",
        "3157.8",
        "displacement",
        "0.05",
        "Å",
        "Fermi",
        "level",
    ]
    assert lines[4].split() == [
        "001",
        "test",
        "4",
        "Al",
        "20x20x20",
        "-",
        "3157.8",
        "displacement",
        "0.10",
        "Å",
        "density",
    ]
    assert lines[-2:] == [
        "total free energies: possible",
        "nothing was written; the numbers themselves were not read",
    ]


def test_one_cell_has_one_grid_in_a_dataset(raw, tmp_path):
    edit(raw / "001.json", key="fft", value=[20, 20, 18])
    assert refused([raw], tmp_path / "al4") == (
        f"{raw / '001.json'}: a grid of (20, 20, 18) points, but (20, 20, 20) in the same cell in {raw / '000.json'}; "
        "compute all snapshots of a dataset with one cutoff and one grid"
    )


def test_the_other_kernel_is_named_where_it_would_fit(raw, tmp_path):
    for name in ("000", "001"):
        edit(raw / f"{name}.json", key="config.energy_grid_ev.kernel", value="fd")
    message = refused([raw], tmp_path / "al4")
    assert message.endswith("; with a gaussian kernel the band energy would be right (--kernel gaussian)")


def test_all_that_a_report_compares_has_words(al4):
    report = next(iter(al4.check()))
    numbers = {name for name, value in vars(report).items() if isinstance(value, float)}
    assert numbers - set(CHECKS) == {"density_correlation"}
    assert len(compared([report])) == 3
    assert {one.name for one in summarise([report])} == set(CHECKS)
    assert json.dumps([one.model_dump() for one in summarise([report])])
