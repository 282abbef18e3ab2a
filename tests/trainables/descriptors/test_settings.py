import re
import subprocess
import sys

import pytest
from pydantic import ValidationError

from dftune.trainables.data.dataset import descriptor_path
from dftune.trainables.descriptors.settings import BispectrumSettings
from dftune.trainables.errors import one_line


@pytest.mark.parametrize(
    "values, message",
    [
        ({"two_j_max": 5}, "two_j_max: input should be a multiple of 2"),
        ({"two_j_max": 16}, "two_j_max: input should be less than or equal to 14"),
        ({"cutoff": 0.0}, "cutoff: input should be greater than 0"),
        ({"cutoff": 21.0}, "cutoff: input should be less than or equal to 20"),
        ({"cut_off": 4.0}, "cut_off"),
        ({"weights": {"Al": 0}}, "weights of 0 hide Al; give another number"),
        ({"weights": {"al": 1}}, "weights.al: 'al' is no chemical symbol"),
        ({"weights": {"Al": float("nan")}}, "weights.Al: input should be a finite number"),
        ({"weights": {"Al": 1, "Mg": 1.0}}, "weights and radii of Al and Mg are equal, .* give other weights, or chem"),
        ({"radii": {"Al": 3}}, "radii of 3 let Al count within 28.08 Å .*; more than 0 and at most 20 Å are possible"),
        ({"radii": {"Al": -0.5}}, "radii of -0.5 let Al count within -4.68 Å"),
        ({"weights": {"Al": 1}, "radii": {"Mg": 0.4}}, "weights must name Mg, too, as there are weights or radii of"),
        ({"weights": {"Be": 1}, "chem": ["Al", "Mg"]}, "chem must name Be, too"),
        ({"inner": [4.68]}, "inner cutoffs must be above 0 and below the cutoff of 4.68 Å"),
        ({"inner": [3.0, 0.0]}, "inner cutoffs must be above 0"),
        ({"inner": [3.0], "engine": "lammps"}, "inner cutoffs are computed by the native engine; leave engine out"),
        (
            {"chem": ["Al", "Be", "Cu", "Fe", "Mg"]},
            "chem of 5 species and 2J_max = 10 give 11,375 numbers a point",
        ),
    ],
)
def test_settings_out_of_range_or_misspelt_are_refused(values, message):
    with pytest.raises(ValidationError) as refused:
        BispectrumSettings(**values)
    assert re.search(message, one_line(refused.value))


def test_every_setting_has_a_folder_of_its_own(tmp_path):
    settings = [BispectrumSettings(cutoff=c, two_j_max=n) for c in (4.0, 4.5, 4.68) for n in (4, 6)]
    assert len({descriptor_path(tmp_path, s, "000").parent for s in settings}) == 6
    assert BispectrumSettings(cutoff=4).key == BispectrumSettings(cutoff=4.0).key


def test_the_key_of_one_species_is_what_it_always_was():
    # The SHA-256 of this text names the folders of datasets that exist.
    assert BispectrumSettings().model_dump_json() == '{"cutoff":4.68,"two_j_max":10}'
    assert BispectrumSettings(engine="lammps").key == BispectrumSettings().key == "b95e5e7107dd"


def test_settings_of_species_have_keys_of_their_own_in_any_order():
    settings = [
        BispectrumSettings(**values)
        for values in (
            {"weights": {"Mg": 0.7, "Al": 1}},
            {"weights": {"Al": 1, "Mg": 0.8}},
            {"weights": {"Al": 1, "Mg": 0.7}, "radii": {"Mg": 0.4}},
            {"chem": ["Mg", "Al"]},
            {"chem": ["Al"]},
        )
    ]
    assert len({s.key for s in settings}) == len(set(settings)) == 5
    again = BispectrumSettings(weights={"Al": 1.0, "Mg": 0.7}), BispectrumSettings(chem=("Al", "Mg", "Al"))
    assert again == (settings[0], settings[3])
    assert [s.key for s in again] == [settings[0].key, settings[3].key]
    for one in settings:
        assert BispectrumSettings.model_validate_json(one.model_dump_json()) == one
    assert settings[2].options == "--cutoff 4.68 --two-j-max 10 --weights Al=1,Mg=0.7 --radii Mg=0.4"
    assert str(settings[3]) == "cutoff 4.68 Å, 2J_max 10, chem Al Mg"
    assert [s.n_components for s in settings] == [91, 91, 91, 8 * 91, 91]


def test_settings_need_neither_lammps_nor_numpy(tmp_path):
    code = "import sys, dftune; dftune.BispectrumSettings(); print({'lammps', 'mpi4py', 'numpy'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
