from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from dftune.trainables.data.kohn_sham import CoreCharge, KohnSham
from dftune.trainables.data.pseudopotential import Pseudopotential
from dftune.trainables.errors import InputError

CORE = np.array([0.0, 0.5, 1.0]), np.array([2.0, 1.0, 0.0])  # Å, 1/Å³


def pseudopotential(element, valence, functional="pbe", core=(None, None)):
    return Pseudopotential(Path(f"{element}.UPF"), element, valence, functional, "ultrasoft", *core)


ALLOY = {"Ni": pseudopotential("Ni", 10.0, core=CORE), "Al": pseudopotential("Al", 3.0)}
SPECIES = {"Ni": 10.0, "Al": 3.0}


def test_pseudopotentials_say_what_the_total_free_energy_needs():
    dft = KohnSham.from_pseudopotentials(ALLOY, species=SPECIES, density_cutoff=800.0)
    assert (dft.functional, dft.density_cutoff) == ("pbe", 800.0)
    assert dft.core_charges == {"Ni": CoreCharge(radius=(0.0, 0.5, 1.0), density=(2.0, 1.0, 0.0))}
    assert KohnSham.model_validate_json(dft.model_dump_json()) == dft


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"Al": pseudopotential("Al", 3.0, "lda-pz")}, "Ni.UPF: made for pbe, but Al.UPF for lda-pz; all pseudopot"),
        ({"Al": pseudopotential("Be", 3.0)}, "Be.UPF: of Be, but named for Al; give the one that the DFT used"),
        ({"Al": pseudopotential("Al", 11.0)}, "Al.UPF: has 11 valence electrons, but Al had 3 in the DFT; give"),
    ],
)
def test_pseudopotentials_that_contradict_the_dft_or_each_other_are_refused(changed, message):
    with pytest.raises(InputError, match=message):
        KohnSham.from_pseudopotentials(ALLOY | changed, species=SPECIES, density_cutoff=800.0)


def test_each_species_needs_its_pseudopotential():
    with pytest.raises(InputError, match="no pseudopotential for Al; each species needs one"):
        KohnSham.from_pseudopotentials({"Ni": ALLOY["Ni"]}, species=SPECIES, density_cutoff=800.0)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"density": (1.0, 0.5)}, "at least 3 items"),
        ({"density": (1.0, 0.5, 0.2, 0.0)}, "3 radii, but 4 densities"),
        ({"density": (1.0, float("nan"), 0.0)}, "finite number"),
        ({"radius": (0.0, 0.5, 0.5)}, "the radii do not increase"),
        ({"radius": (-0.1, 0.5, 0.6)}, "greater than or equal to 0"),
        ({"radius": (0.0, 0.5, float("inf"))}, "finite number"),
    ],
)
def test_a_core_charge_is_a_function_of_the_radius(wrong, message):
    with pytest.raises(ValidationError, match=message):
        CoreCharge(**{"radius": (0.0, 0.5, 1.0), "density": (1.0, 0.5, 0.0)} | wrong)


@pytest.mark.parametrize(
    "wrong", [{"functional": "b3lyp"}, {"density_cutoff": 0.0}, {"density_cutoff": float("inf")}, {"spin": 2}]
)
def test_a_dft_of_another_kind_is_refused(wrong):
    with pytest.raises(ValidationError):
        KohnSham(**{"functional": "pbe", "density_cutoff": 800.0} | wrong)
