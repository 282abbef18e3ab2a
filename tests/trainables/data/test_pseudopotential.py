from pathlib import Path

import numpy as np
import pytest

from dftune.trainables.data import pseudopotential
from dftune.trainables.data.pseudopotential import UnsupportedPseudopotential, read_upf
from dftune.trainables.errors import InputError
from dftune.trainables.physics.units import BOHR

RADIUS = np.linspace(0.0, 12.0, 601)  # bohr
CORE = 0.8 * np.exp(-(RADIUS**2))  # 1/bohr³: 0.8 π^(3/2) electrons
HEADER = {
    "element": "Al",
    "pseudo_type": "NC",
    "is_ultrasoft": "F",
    "is_paw": "F",
    "is_coulomb": "F",
    "core_correction": "T",
    "functional": "SLA PZ NOGX NOGC",
    "z_valence": "3.000",
}
# what authors write: no XML, and what looks like sections
WORDS = (
    "dft='PBE' & rcore<1.6 <PP_HEADER element='Xx'> <PP_NLCC>\n1.0\n</PP_NLCC> <!ENTITY a SYSTEM 'file:///etc/passwd'>"
)


def column(values):
    return "\n".join(" ".join(f"{v:.12e}" for v in row) for row in np.array_split(values, len(values) // 4))


def body(radius=RADIUS, core=CORE):
    nlcc = "" if core is None else f"<PP_NLCC>\n{column(core)}\n</PP_NLCC>\n"
    return (
        f"<!-- <PP_NLCC> 7 </PP_NLCC> -->\n<PP_MESH>\n<PP_R>\n{column(radius)}\n</PP_R>\n<PP_RAB>\n1.0\n</PP_RAB>\n"
        f"</PP_MESH>\n{nlcc}<PP_RHOATOM>\n1.\n</PP_RHOATOM>\n"
    )


def version_2(inside=None, **changed):
    header = "\n".join(f'{k}="{v}"' for k, v in (HEADER | changed).items() if v is not None)
    return (
        f'<UPF version="2.0.1">\n<PP_INFO>{WORDS}</PP_INFO>\n'
        f"<PP_HEADER generated='by \"hand\"'\n{header}\n/>\n{body() if inside is None else inside}</UPF>\n"
    )


def version_1(inside=None, **changed):
    header = HEADER | changed
    lines = f"""
   0                   Version Number
  {header["element"]}                   Element
   {header["pseudo_type"]}                  Norm - Conserving pseudopotential
    {header["core_correction"]}                  Nonlinear Core Correction
 {header["functional"]}   PZ   Exchange-Correlation functional
    {header["z_valence"]}      Z valence
    0.00000000000      Total energy
"""
    inside = body() if inside is None else inside
    return f"<PP_INFO>\n{WORDS}\n</PP_INFO>\n<PP_HEADER>{lines}</PP_HEADER>\n{inside}"


@pytest.fixture
def upf(tmp_path):
    """Write a file and name it."""

    def write(content):
        path = tmp_path / "Al.UPF"
        path.write_bytes(content if isinstance(content, bytes) else content.encode("latin-1"))
        return path

    return write


def refused(path, error=InputError):
    with pytest.raises(error) as caught:
        read_upf(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert len(text) < 300 + len(str(path))
    return text.removeprefix(f"{path}: ")


@pytest.mark.parametrize("version", [version_1, version_2])
def test_both_versions_say_the_same(upf, version):
    read = read_upf(upf(version()))
    assert (read.element, read.valence, read.functional, read.kind) == ("Al", 3.0, "lda-pz", "norm-conserving")
    r, n = read.core_radius, read.core_density
    assert 4 * np.pi * np.trapezoid(r**2 * n, r) == pytest.approx(0.8 * np.pi**1.5, rel=1e-6)
    np.testing.assert_allclose(n, 0.8 * np.exp(-((r / BOHR) ** 2)) / BOHR**3, rtol=1e-10)


@pytest.mark.parametrize("version", [version_1, version_2])
def test_the_core_charge_ends_beyond_10_bohr_or_where_it_is_zero(upf, version):
    far = read_upf(upf(version(body(core=np.ones(601)))))
    assert far.core_radius[-2:] == pytest.approx(np.array([10.0, 10.02]) * BOHR)
    near = read_upf(upf(version(body(core=np.where(RADIUS < 1.99, 1.0, 0.0)))))
    assert near.core_radius[-2:] == pytest.approx(np.array([2.0, 2.02]) * BOHR)
    assert near.core_density[-3:].tolist() == [pytest.approx(BOHR**-3), 0.0, 0.0]
    assert read_upf(upf(version(body(core=np.zeros(601))))).core_density is None


@pytest.mark.parametrize("version", [version_1, version_2])
def test_without_a_core_correction_there_is_no_core_charge(upf, version):
    assert read_upf(upf(version(core_correction="F"))).core_radius is None
    assert read_upf(upf(version(body(core=None), core_correction=".false."))).core_density is None


@pytest.mark.parametrize(
    "kind, flag, expected",
    [("US", "T", "ultrasoft"), ("USPP", "true", "ultrasoft"), ("SL", "F", "norm-conserving")],
)
def test_kinds_are_known_by_their_names(upf, kind, flag, expected):
    assert read_upf(upf(version_2(pseudo_type=kind, is_ultrasoft=flag))).kind == expected
    assert read_upf(upf(version_1(pseudo_type=kind))).kind == expected


@pytest.mark.parametrize(
    "name, functional",
    [
        ("LDA", "lda-pz"),
        ("pz", "lda-pz"),
        (" SLA  PZ   NOGX NOGC", "lda-pz"),
        ("sla+pz+nogx+nogc", "lda-pz"),
        ("SLA-PZ", "lda-pz"),
        ("PBE      ", "pbe"),
        (" SLA  PW   PBE  PBE", "pbe"),
        ("SLA  PW   PBX  PBC", "pbe"),
        ("sla+pw+pbx+pbc", "pbe"),
    ],
)
def test_functionals_are_known_by_all_their_spellings(upf, name, functional):
    assert read_upf(upf(version_2(functional=name))).functional == functional


def test_of_the_header_of_version_1_the_four_words_count_not_the_short_name(upf):
    assert read_upf(upf(version_1(functional="SLA  PW   PBX  PBC"))).functional == "pbe"


@pytest.mark.parametrize(
    "name",
    ["PBESOL", "SLA PW PSX PSC", "SLA PW NOGX NOGC", "SLA PW TPSS TPSS", "VDW-DF", "PBE0", "SLA LYP B88 BLYP", "PW91"],
)
def test_other_functionals_are_refused_with_those_there_are(upf, name):
    text = refused(upf(version_2(functional=name)), UnsupportedPseudopotential)
    assert text == (
        f"made for the functional {name!r}; total free energies are known for LDA in the form of Perdew and Zunger "
        "(SLA PZ NOGX NOGC) and for PBE (SLA PW PBX PBC)"
    )


@pytest.mark.parametrize("changed", [{"pseudo_type": "PAW"}, {"pseudo_type": "US", "is_paw": "T"}])
def test_paw_is_refused_with_its_reason(upf, changed):
    text = refused(upf(version_2(**changed)), UnsupportedPseudopotential)
    assert text.startswith("a PAW dataset: its one-centre terms of the total energy are not in LDOS and density; total")


def test_a_bare_coulomb_potential_is_refused(upf):
    text = refused(upf(version_2(pseudo_type="1/r", is_coulomb="T")), UnsupportedPseudopotential)
    assert text.startswith("a pseudopotential of type '1/R'; total free energies need a norm-conserving (NC, SL) or")


def test_numbers_as_fortran_writes_them_are_read(upf):
    mesh = "0.0D0 .5D+00 1.0d0 1.5E0 2."
    text = f"<PP_MESH><PP_R>{mesh}</PP_R></PP_MESH><PP_NLCC>1. -1.5D-2 2.5-3 1-300 0.0</PP_NLCC>"
    read = read_upf(upf(version_1(text + "<PP_RHOATOM></PP_RHOATOM>", z_valence="3.0D+00")))
    assert read.valence == 3.0
    np.testing.assert_allclose(read.core_radius, np.array([0.0, 0.5, 1.0, 1.5, 2.0]) * BOHR)
    np.testing.assert_allclose(read.core_density * BOHR**3, [1.0, -0.015, 0.0025, 1e-300, 0.0])


MESH = "<PP_MESH><PP_R>0. 1. 2. 3.</PP_R></PP_MESH>"


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "not a UPF pseudopotential (it has no PP_HEADER)"),
        (np.random.default_rng(0).bytes(5000), "not a UPF pseudopotential"),
        ("<PP_INFO>" + "<!--" * 100_000, "not a UPF pseudopotential"),
        ('<?xml version="1.0"?>\n<qe_pp:pseudo><pp_header/></qe_pp:pseudo>', "not a UPF pseudopotential"),
        (version_2().replace("2.0.1", "3.0"), "UPF of version '3.0', where 1 and 2 are known"),
        (version_2().replace("</UPF>", ""), "truncated: the end is missing"),
        (version_1()[:-5], "truncated: the end is missing"),
        (version_1().replace("</PP_HEADER>", ""), "truncated or damaged: PP_HEADER has no end"),
        (version_2(element='A"l'), "its PP_HEADER is damaged (after 'element')"),
        (version_2(element="Zz"), "its element 'Zz' is not a chemical symbol"),
        (version_2(z_valence=None), "its PP_HEADER gives no z_valence"),
        (version_1().replace("Version Number\n", "", 1), "its element 'NC' is not a chemical symbol"),
        (version_2(z_valence="three"), "the valence z_valence cannot be read ('three' among its numbers)"),
        (version_2(z_valence="nan"), "the valence z_valence cannot be read"),
        (version_2(z_valence="1e999"), "the valence z_valence is not finite, or above 1e+100"),
        (version_2(z_valence="-3"), "its valence z_valence is '-3', not a number of electrons"),
        (version_2(z_valence="3 3"), "its valence z_valence is '3 3', not a number of electrons"),
        (version_2(core_correction="maybe"), "its core_correction is 'MAYBE', neither true nor false"),
        (version_2(body(core=None)), "it says that it has a core correction, but has no PP_NLCC"),
        (version_2("<PP_NLCC>1.</PP_NLCC>"), "it has no radial mesh (PP_R)"),
        (version_2(body(core=CORE[:-1])), "its mesh has 601 radii, but its core charge PP_NLCC 600 values"),
        (version_2(body().replace("</PP_NLCC>", "")), "truncated or damaged: PP_NLCC has no end"),
        (version_2(MESH + "<PP_NLCC>1. NaN 0. 0.</PP_NLCC>"), "the core charge PP_NLCC cannot be read ('NaN 0. 0.' am"),
        (version_2(MESH + "<PP_NLCC>1. 1e400 0. 0.</PP_NLCC>"), "the core charge PP_NLCC is not finite, or above"),
        (version_2(MESH + "<PP_NLCC>1. 1.2.3 0. 0.</PP_NLCC>"), "the core charge PP_NLCC cannot be read (could not"),
        (version_2(MESH + "<PP_NLCC>1e308 1. 0. 0.</PP_NLCC>"), "the core charge PP_NLCC is not finite, or above"),
        (version_2(body(radius=RADIUS[::-1])), "the mesh PP_R does not go up from 0, with 3 radii or more below"),
        (version_2(body(radius=RADIUS - 1.0)), "the mesh PP_R does not go up from 0"),
        (version_2(body(radius=RADIUS * 1000)), "the mesh PP_R does not go up from 0"),
    ],
)  # fmt: skip
def test_what_is_damaged_or_no_upf_file_is_refused(upf, content, message):
    text = refused(upf(content))
    assert text.startswith(message)
    assert text.endswith("; copy again the file that the DFT used")


def test_a_missing_file_a_folder_and_a_pipe_are_refused(tmp_path):
    assert refused(tmp_path / "none.UPF") == "missing; give the UPF file of the pseudopotential that the DFT used"
    assert refused(tmp_path) == "a folder; give the UPF file of the pseudopotential"
    assert refused(Path("/dev/zero")) == "not a file; give the UPF file of the pseudopotential"
    assert "cannot be read (" in refused(tmp_path / ("long" * 70))


def test_reading_is_bounded(upf, monkeypatch):
    monkeypatch.setattr(pseudopotential, "LARGEST_FILE", 2_000_000)
    path = upf(version_2(f"{MESH}<PP_NLCC>{'1.0 ' * 1_000_000}</PP_NLCC>"))
    assert refused(path) == "larger than 2 MB; give the UPF file of a pseudopotential"
    monkeypatch.setattr(pseudopotential, "LARGEST_FILE", 100_000_000)
    monkeypatch.setattr(pseudopotential, "LONGEST_ARRAY", 1_000_000)
    assert "the core charge PP_NLCC has 4000000 characters, too many for a radial function" in refused(path)


@pytest.mark.parametrize(
    "file, valence, functional, kind, core",
    [
        ("al4/Al.pz-vbc.UPF", 3.0, "lda-pz", "norm-conserving", None),
        # ∫ 4πr² n_core dr of the pseudised 1s² core, read off PP_NLCC and PP_R of the file by the trapezoidal rule
        ("be4/Be.pbe-n-rrkjus_psl.1.0.0.UPF", 2.0, "pbe", "ultrasoft", 0.455),
    ],
)
def test_real_pseudopotentials_are_read(file, valence, functional, kind, core, shared):
    read = read_upf(shared(file))
    assert (read.element, read.valence) == (file[:2].capitalize(), valence)
    assert (read.functional, read.kind) == (functional, kind)
    if core is None:
        assert read.core_radius is None
    else:
        charge = 4 * np.pi * np.trapezoid(read.core_radius**2 * read.core_density, read.core_radius)
        assert charge == pytest.approx(core, abs=1e-3)
