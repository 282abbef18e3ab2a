"""Functions of snapshots in this process, some at once."""

from threading import Barrier

import pytest
import torch

from dftune.trainables.errors import DatasetError
from dftune.trainables.ldos.config import SurrogateConfig
from dftune.trainables.ldos.network import Network
from dftune.trainables.ldos.places import Here
from dftune.trainables.scratch import kept_in, scratch


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_as_many_snapshots_are_computed_at_once_as_torch_has_threads(two_threads, tmp_path):
    network, both = Network(SurrogateConfig(), 3, 2, seeds=[0]), Barrier(2, timeout=60)

    def half(network, snapshot):
        both.wait()  # for another one, which must be under way
        return [(snapshot, torch.get_num_threads(), scratch())]

    with kept_in(tmp_path):
        found = [(k, 1, tmp_path) for k in range(6)]
        assert Here().each(half, network, range(6)) == [[one] for one in found]
        assert Here().total(half, network, range(6)) == found
    assert torch.get_num_threads() == 2


def test_the_error_of_a_snapshot_is_raised_and_no_other_is_begun(two_threads):
    network, begun = Network(SurrogateConfig(), 3, 2, seeds=[0]), []

    def fails(network, snapshot):
        begun.append(snapshot)
        raise DatasetError(f"snapshot {snapshot}: is damaged")

    with pytest.raises(DatasetError, match="snapshot 0: is damaged"):
        Here().each(fails, network, range(100))
    assert len(begun) <= 3
    assert torch.get_num_threads() == 2
