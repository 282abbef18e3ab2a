import numpy as np

from dftune.trainables.data.snapshot import structure_hash

TRICLINIC = np.array([[4.1, 0.1, -0.3], [1.3, 3.9, 0.2], [-0.7, 0.4, 4.4]])  # Å, no vector along an axis
ALUMINIUM = np.array([13, 13, 13])
POSITIONS = np.random.default_rng(0).uniform(size=(3, 3)) @ TRICLINIC  # Å
GRID = (6, 5, 4)


def test_a_structure_is_known_by_all_that_descriptors_depend_on_to_a_millionth_of_an_angstrom():
    known = structure_hash(TRICLINIC, POSITIONS, ALUMINIUM, GRID)
    assert known == structure_hash(TRICLINIC, POSITIONS + 1e-10, ALUMINIUM, GRID)
    others = [
        structure_hash(TRICLINIC * 1.00001, POSITIONS, ALUMINIUM, GRID),
        structure_hash(TRICLINIC, POSITIONS + 1e-5, ALUMINIUM, GRID),
        structure_hash(TRICLINIC, POSITIONS, ALUMINIUM + 1, GRID),
        structure_hash(TRICLINIC, POSITIONS, ALUMINIUM, (6, 4, 5)),
    ]
    assert len({known, *others}) == 5
    # -1e-10 Å rounds to -0.0, which is the same place as 0.0.
    same = [structure_hash(np.eye(3), np.full((1, 3), x), ALUMINIUM[:1], GRID) for x in (-1e-10, 0.0, 1e-10)]
    assert len(set(same)) == 1
