import json
import math

import pytest
import safetensors.torch
import torch

from dftune.trainables.checkpoint import CheckpointError, read_checkpoint, write_checkpoint

TENSORS = {
    "weights.0": torch.arange(6, dtype=torch.float32).reshape(1, 2, 3) / 7,
    "best_loss": torch.tensor([0.5, math.inf], dtype=torch.float64),
    "best_epoch": torch.tensor([3, 0]),
    "alive": torch.tensor([True, False]),
}


@pytest.fixture
def path(tmp_path):
    write_checkpoint(tmp_path / "c.safetensors", TENSORS, {"seeds": [1, 2], "widths": [4, 8], "rate": 0.1})
    return tmp_path / "c.safetensors"


def test_a_checkpoint_is_read_as_it_was_written(path):
    tensors, header = read_checkpoint(path)
    assert header == {"seeds": [1, 2], "widths": [4, 8], "rate": 0.1}
    assert tensors.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert tensors[name].dtype == value.dtype
        assert torch.equal(tensors[name], value)


def test_numbers_that_are_not_finite_and_transposed_tensors_survive(tmp_path):
    value = torch.tensor([[1.0, math.nan], [2.0, -math.inf]]).T
    write_checkpoint(tmp_path / "c", {"x": value}, {"band": math.nan})
    tensors, header = read_checkpoint(tmp_path / "c")
    torch.testing.assert_close(tensors["x"], value, equal_nan=True)
    assert math.isnan(header["band"])


def test_a_later_checkpoint_replaces_the_earlier_and_leaves_nothing_behind(path):
    write_checkpoint(path, {"x": torch.ones(1)}, {})
    assert read_checkpoint(path)[0].keys() == {"x"}
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_any_flipped_bit_is_found(path):
    whole = path.read_bytes()
    for place in range(8, len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            tensors, header = read_checkpoint(path)
        except CheckpointError:
            continue
        # In the file's own head a bit may be of no consequence (white space).
        assert header == {"seeds": [1, 2], "widths": [4, 8], "rate": 0.1}
        assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())


@pytest.mark.parametrize("n_bytes", [0, 4, 100, -1])
def test_a_truncated_checkpoint_is_refused(path, n_bytes):
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(CheckpointError, match=r"not a readable checkpoint .*; remove it to start from the beginning"):
        read_checkpoint(path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "text").write_text(json.dumps({"seeds": [1]}))
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        read_checkpoint(tmp_path / "text")
    torch.save(TENSORS, tmp_path / "pickle")
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        read_checkpoint(tmp_path / "pickle")
    (tmp_path / "weights").write_bytes(safetensors.torch.save(TENSORS))
    with pytest.raises(CheckpointError, match="not a 'dftune training checkpoint 1' but None"):
        read_checkpoint(tmp_path / "weights")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "nothing")
