"""What an import takes from pseudopotentials, and which it refuses."""

import pytest

from dftune.tests.exported import edit, export, refused, upf
from dftune.trainables.data.dataset import Dataset
from dftune.trainables.data.importing.importers import import_dataset
from dftune.trainables.physics.units import BOHR


def imported(sources, destination, **options):
    """The ``dft`` of an import, and the lines that say why there is none."""
    lines = []
    made = import_dataset(sources, destination, report=lines.append, **options)
    return made.info.dft, [line for line in lines if line.startswith("no total free energies")]


def test_functional_cutoff_and_core_charge_come_from_the_json_and_the_pseudopotential(raw, tmp_path):
    (raw / "Al.UPF").write_text(upf(functional="SLA PW PBX PBC", core="0.3 0.1 0.0"))
    dft, said = imported([raw], tmp_path / "al4", check="warn")  # the DFT had another one
    assert said == []
    assert (dft.functional, dft.density_cutoff) == ("pbe", pytest.approx(60 * 13.605693, rel=1e-7))
    assert dft.core_charges["Al"].radius == pytest.approx((0.0, BOHR, 2 * BOHR))
    assert dft.core_charges["Al"].density == pytest.approx((0.3 / BOHR**3, 0.1 / BOHR**3, 0.0))
    assert Dataset.open(tmp_path / "al4").info.dft == dft


def test_the_pseudopotential_lies_beside_the_snapshots_or_in_the_folder_given(raw, tmp_path):
    (tmp_path / "pseudo").mkdir()
    (raw / "Al.UPF").rename(tmp_path / "pseudo" / "Al.UPF")
    dft, said = imported([raw / "000.json"], tmp_path / "without")
    assert dft is None
    assert said == [
        f"no total free energies from this dataset: Al.UPF is not in {raw}; give its folder with --pseudopotentials"
    ]
    dft, said = imported([raw / "000.json"], tmp_path / "with", pseudopotentials=tmp_path / "pseudo")
    assert (dft.functional, said) == ("lda-pz", [])
    text = refused([raw], tmp_path / "al4", pseudopotentials=tmp_path)
    assert text.startswith(f"Al.UPF is not in {tmp_path}; give its folder")
    assert text.endswith("or import without --pseudopotentials, for the LDOS and the band energy alone")


def test_of_a_path_in_the_json_only_the_name_counts(raw, tmp_path):
    (tmp_path / "Be.UPF").write_text(upf(functional="PBE"))
    (tmp_path / "Al.UPF").write_text(upf(functional="PBE"))
    edit(raw / "000.json", key="config.pseudo", value=f"{tmp_path}/../{tmp_path.name}/Al.UPF")
    assert imported([raw / "000.json"], tmp_path / "al4")[0].functional == "lda-pz"
    edit(raw / "000.json", key="config.pseudo", value="..")
    assert ".. is not in" in imported([raw / "000.json"], tmp_path / "none")[1][0]
    edit(raw / "000.json", key="config.pseudo", value="Al.UPF" * 100)
    assert "000.json: config.pseudo: string should match pattern" in refused([raw / "000.json"], tmp_path / "never")


@pytest.mark.parametrize("key", ["config.pseudo", "config.ecutrho_ry"])
def test_without_pseudopotential_or_cutoff_there_are_no_free_energies(raw, tmp_path, key):
    edit(raw / "002.json", key=key, value=None)
    dft, said = imported([raw], tmp_path / "al4")
    assert dft is None
    assert said == [
        f"no total free energies from this dataset: {raw / '002.json'} gives no {key}; add it and import again"
    ]
    assert f"002.json gives no {key}" in refused([raw], tmp_path / "other", pseudopotentials=raw)


@pytest.mark.parametrize(
    "changed, reason", [({"kind": "PAW"}, "a PAW dataset: its"), ({"functional": "PBESOL"}, "made for the functional")]
)
def test_paw_and_other_functionals_are_imported_for_what_they_allow_and_refused_where_asked_for(
    raw, tmp_path, changed, reason
):
    (raw / "Al.UPF").write_text(upf(**changed))
    dft, said = imported([raw], tmp_path / "al4")
    assert dft is None
    assert said[0].startswith(f"no total free energies from this dataset: {raw / 'Al.UPF'}: {reason}")
    text = refused([raw], tmp_path / "other", pseudopotentials=raw)
    assert text.startswith(f"{raw / 'Al.UPF'}: {reason}")
    assert text.endswith("; or import without --pseudopotentials, for the LDOS and the band energy alone")


@pytest.mark.parametrize("options", [{}, {"pseudopotentials": "raw"}])
@pytest.mark.parametrize(
    "content, message",
    [
        (upf(valence=11.0), "has 11 valence electrons, but Al had 3 in the DFT; give the one that it used"),
        (upf(element="Be"), "of Be, but named for Al; give the one that the DFT used"),
        (upf()[:-3], "truncated: the end is missing; copy again the file that the DFT used"),
    ],
)
def test_a_wrong_or_damaged_pseudopotential_is_refused(raw, tmp_path, options, content, message):
    (raw / "Al.UPF").write_text(content)
    text = refused([raw], tmp_path / "al4", **{key: tmp_path / value for key, value in options.items()})
    assert text == f"{raw / 'Al.UPF'}: {message}"


@pytest.mark.parametrize("key, value, before", [("ecutrho_ry", 80.0, "60.0"), ("pseudo", "other.UPF", "Al.UPF")])
def test_snapshots_of_different_cutoffs_or_pseudopotentials_are_refused(raw, tmp_path, key, value, before):
    edit(raw / "003.json", key=f"config.{key}", value=value)
    text = refused([raw], tmp_path / "al4")
    assert text == (
        f"{raw / '003.json'}: config.{key} is {value}, but {before} in {raw / '000.json'}; a dataset needs one"
    )


def test_files_of_one_name_beside_the_snapshots_must_be_the_same(al4, raw, tmp_path):
    export(al4, al4["004"], tmp_path / "more")
    assert imported([raw, tmp_path / "more"], tmp_path / "al4")[0] is not None
    (tmp_path / "more" / "Al.UPF").write_text(upf(core="0.3 0.1 0.0"))
    text = refused([raw, tmp_path / "more"], tmp_path / "other")
    assert text == (
        f"{tmp_path / 'more' / 'Al.UPF'}: differs from {raw / 'Al.UPF'}; a dataset needs one pseudopotential an element"
    )
