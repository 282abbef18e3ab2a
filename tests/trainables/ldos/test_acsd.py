"""ACSD by a matrix product against the loop over pairs that the equations spell out."""

import numpy as np
import pytest

from dftune.trainables.ldos.acsd import acsd

RNG = np.random.default_rng(0)
# As real ones: positive descriptors of widely different size, LDOS of a few features with small negative values.
DESCRIPTORS = RNG.gamma(2.0, size=(60, 14)).astype(np.float32) * np.geomspace(1, 400, 14, dtype=np.float32)
LDOS = (RNG.gamma(1.0, size=(60, 9)) - 0.05).astype(np.float16)
FIRST, SECOND = RNG.permutation(60)[:25], RNG.permutation(60)[:30]


def by_loop(descriptors, ldos, variant):
    """Fiedler et al. (2022), Eq. 8 and 9, one pair after the other."""

    def cosine(a, b):
        return float(np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b)))

    total = 0.0
    for i in FIRST:
        for j in SECOND:
            d = cosine(ldos[i].astype(float), ldos[j].astype(float))
            b = cosine(descriptors[i].astype(float), descriptors[j].astype(float))
            total += abs(d - b) if variant == "paper" else max(b - d, 0.0)
    return total / (len(FIRST) * len(SECOND))


@pytest.mark.parametrize("variant", ["paper", "clipped"])
def test_the_matrix_product_is_the_loop_over_pairs(variant):
    found = acsd(DESCRIPTORS, LDOS, FIRST, SECOND, variant)
    assert found == pytest.approx(by_loop(DESCRIPTORS, LDOS, variant), rel=1e-10)
    assert 0 < found < 1


def test_descriptors_that_are_the_ldos_have_no_distance_whatever_their_unit():
    for variant in ("paper", "clipped"):
        assert acsd(7.0 * LDOS.astype(float), LDOS, FIRST, SECOND, variant) == pytest.approx(0, abs=1e-12)


def test_descriptors_that_cannot_tell_points_apart_are_what_the_clipped_variant_punishes():
    blind = np.ones_like(DESCRIPTORS)
    assert acsd(blind, LDOS, FIRST, SECOND, "clipped") == pytest.approx(acsd(blind, LDOS, FIRST, SECOND), rel=1e-12)
    # The other way round, the same LDOS under different descriptors, only the printed form counts.
    assert acsd(DESCRIPTORS, np.ones_like(LDOS), FIRST, SECOND, "clipped") == pytest.approx(0, abs=1e-12)
    assert acsd(DESCRIPTORS, np.ones_like(LDOS), FIRST, SECOND) > 0.05


def test_an_ldos_of_zero_is_like_nothing():
    empty = LDOS.copy()
    empty[FIRST] = 0
    same = np.ones_like(DESCRIPTORS)
    assert acsd(same, empty, FIRST, SECOND) == pytest.approx(1.0)
