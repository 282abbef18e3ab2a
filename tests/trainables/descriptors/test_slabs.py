import pytest

from dftune.trainables.descriptors.slabs import LARGEST_PLANE, SLAB, pieces


@pytest.mark.parametrize("grid", [(5, 6, 4), (40, 40, 40), (25, 25, 37), (200, 200, 200), (3, 400, 300), (7, 1, 9999)])
def test_pieces_are_consecutive_whole_planes_or_rows_and_bounded(grid):
    found, (nx, ny, nz) = pieces(grid), grid
    assert [p for piece in found for p in (piece.start, piece.stop)][1:-1:2] == [piece.start for piece in found[1:]]
    assert (found[0].start, found[-1].stop) == (0, nx * ny * nz)
    for piece in found:
        planes = piece.start % (ny * nz) == 0 and len(piece) % (ny * nz) == 0
        rows = piece.start // (ny * nz) == (piece.stop - 1) // (ny * nz) and piece.start % nz == len(piece) % nz == 0
        assert planes or rows
        assert len(piece) <= (SLAB if rows and not planes else max(SLAB, ny * nz)) <= LARGEST_PLANE
