"""`braze.utils.safetensors`: both ways, shared tensors, and damaged files."""

import os

import numpy as np
import pytest
import safetensors
import safetensors.numpy

import braze
from braze import nn
from braze.ir.dtypes import ALL
from braze.utils import safetensors as files

pytestmark = pytest.mark.usefixtures("interpret")


def everything():
    named = {dtype.name: braze.arange(3).to(dtype) for dtype in ALL if dtype.name != "c128"}
    return {
        **named,
        "empty": braze.zeros(0, 3),
        "scalar": braze.tensor(2.5),
        "one": nn.Parameter(braze.ones(2, 2)),
    }


def test_tensors_come_back(tmp_path):
    value = everything()
    files.save_file(value, tmp_path / "x.safetensors", {"format": "pt"})
    for back in (
        files.load_file(tmp_path / "x.safetensors"),
        files.load(files.save(value)),
        files.load((tmp_path / "x.safetensors").read_bytes()),
    ):
        assert back.keys() == value.keys()
        for name, tensor in back.items():
            assert type(tensor) is braze.Tensor and tensor.dtype is value[name].dtype
            assert tensor.shape == value[name].shape
            np.testing.assert_array_equal(tensor.numpy(), value[name].detach().numpy())
        back["f32"].add_(1)
        assert back["f32"].tolist() == [1, 2, 3]
    with safetensors.safe_open(tmp_path / "x.safetensors", framework="np") as file:
        assert file.metadata() == {"format": "pt"}
        assert file.get_slice("bf16").get_dtype() == "BF16"


def test_what_cannot_be_saved_is_refused_and_the_old_file_stays(tmp_path):
    path = tmp_path / "x.safetensors"
    files.save_file({"x": braze.ones(2)}, path)
    x = braze.arange(6.0).reshape(2, 3).clone()
    for value, error, text in (
        ([x], ValueError, "Expected a dict"),
        ({"x": 3}, ValueError, "Key `x` is invalid"),
        ({"x": x.to_sparse()}, ValueError, "sparse"),
        ({"x": x.to(braze.complex128)}, ValueError, "complex128"),
        ({"x": x.t()}, ValueError, "non contiguous"),
        ({"x": x, "y": x[0]}, RuntimeError, "share memory"),
    ):
        with pytest.raises(error, match=text):
            files.save_file(value, path)
    assert os.listdir(tmp_path) == ["x.safetensors"]
    assert files.load_file(path)["x"].tolist() == [1, 1]
    files.save_file({"x": x[0], "y": x[1]}, path)  # which do not overlap
    assert files.load_file(path)["y"].tolist() == [3, 4, 5]


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(2, 2)
        self.two = nn.Linear(2, 2)
        self.two.weight = self.one.weight


def test_models_with_shared_parameters(tmp_path):
    path = tmp_path / "x.safetensors"
    model, other = Tied(), Tied()
    files.save_model(model, path, {"note": "text"})
    with safetensors.safe_open(path, framework="np") as file:
        assert sorted(file.keys()) == ["one.bias", "one.weight", "two.bias"]
        assert file.metadata() == {"note": "text", "two.weight": "one.weight"}
    assert files.load_model(other, path) == (set(), [])
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(one.detach(), two.detach())
    # Another name of the same tensor may have been kept.
    files.save_file({"two.weight": braze.ones(2, 2), "one.bias": braze.ones(2)}, path)
    with pytest.raises(RuntimeError, match='Missing key.*"two.bias"'):
        files.load_model(other, path)
    assert files.load_model(other, path, strict=False) == ({"two.bias"}, [])
    assert other.one.weight.tolist() == [[1, 1], [1, 1]]
    files.save_file(
        {**{k: v.clone() for k, v in model.state_dict().items()}, "more": braze.ones(1)}, path
    )
    with pytest.raises(RuntimeError, match='Unexpected key.*"more"'):
        files.load_model(other, path)


def test_damaged_files(tmp_path):
    path = tmp_path / "x.safetensors"
    good = files.save({"x": braze.ones(4)})
    for damaged in (
        b"",
        good[:20],
        good[:-1],
        b"\xff" * 8 + good[8:],
        good.replace(b"[4]", b"[5]"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(safetensors.SafetensorError):
            files.load_file(path)
        with pytest.raises(safetensors.SafetensorError):
            files.load(damaged)
    with pytest.raises(FileNotFoundError):
        files.load_file(tmp_path / "none")
    with pytest.raises(RuntimeError, match="not available"):
        files.load_file(path, device="cuda")
