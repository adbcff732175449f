"""ONNX models for many lengths: what they compute of sizes becomes operations where it is data."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import braze  # noqa: E402
import braze.onnx  # noqa: E402
from braze.aot import Dim  # noqa: E402
from braze.runtime import PackageError  # noqa: E402

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
RNG = np.random.default_rng(0)
LENGTHS = (1, 2, 9, 16, 31, 37, 40)
TABLE = RNG.standard_normal((40, 4)).astype("f")
NUMBERS = np.arange(40)[None]
MASK = np.tril(np.ones((40, 40), "f"))


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs.split(), [output], **attributes)


LENGTH = [node("Shape", "x", "shape"), node("Gather", "shape one", "t"),
          node("Unsqueeze", "t zero_", "ends")]  # fmt: skip

MODELS = {
    "positions up to the length": (
        [*LENGTH, node("Range", "zero t one", "at"), node("Gather", "table at", "rows"),
         node("Add", "x rows", "y")],
        lambda x: x + TABLE[: x.shape[1]],
    ),
    "numbers that are cut": (
        [*LENGTH, node("Slice", "numbers zero_ ends one_", "cut"), node("Gather", "table cut", "r"),
         node("Add", "x r", "y")],
        lambda x: x + TABLE[: x.shape[1]],
    ),
    "a mask that is cut twice": (
        [*LENGTH, node("Slice", "mask zero_ ends zero_", "m"),
         node("Slice", "m zero_ ends one_", "n"), node("MatMul", "n x", "y")],
        lambda x: MASK[: x.shape[1], : x.shape[1]] @ x,
    ),
    "expanded to the length": (
        [*LENGTH, node("Concat", "ends four_", "to", axis=0), node("Expand", "half to", "halves"),
         node("Mul", "x halves", "y")],
        lambda x: x * np.float32(0.5),
    ),
}  # fmt: skip


def model_of(nodes):
    weights = {
        "table": TABLE, "numbers": NUMBERS, "mask": MASK, "half": np.float32([[0.5]]),
        "zero": np.int64(0), "one": np.int64(1), "zero_": np.int64([0]), "one_": np.int64([1]),
        "four_": np.int64([4]),
    }  # fmt: skip
    read = {name for n in nodes for name in n.input}
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items() if k in read]
    x = helper.make_tensor_value_info("x", FLOAT, [2, "t", 4])
    y = helper.make_tensor_value_info("y", FLOAT, [2, "t", 4])
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


@pytest.mark.parametrize("name", MODELS)
def test_one_package_serves_every_length(name, tmp_path):
    nodes, function = MODELS[name]
    network = braze.onnx.load(model_of(nodes))
    path = tmp_path / "m.brz"
    example = braze.randn(2, 16, 4)
    braze.aot.compile(network, example, path, dynamic={"x": {1: Dim("t", max=40)}})
    packed = braze.runtime.load(path)
    for length in LENGTHS:
        x = RNG.standard_normal((2, length, 4)).astype("f")
        for found in (network(braze.tensor(x)).detach().numpy(), packed(x)):
            np.testing.assert_allclose(found, function(x), rtol=1e-5, atol=1e-6)


def test_a_number_that_is_a_root_of_the_length_is_refused(tmp_path):
    nodes = [*LENGTH, node("Cast", "t", "f", to=FLOAT), node("Sqrt", "f", "root"),
             node("Div", "x root", "y")]  # fmt: skip
    with pytest.raises(PackageError, match="what the passes decide changes with it"):
        braze.aot.compile(braze.onnx.load(model_of(nodes)), braze.randn(2, 16, 4),
                          tmp_path / "m.brz", dynamic={"x": {1: "t"}})  # fmt: skip


def test_an_array_that_is_another_one_for_other_sizes_is_refused(tmp_path):
    def function(x):
        return x + braze.tensor(np.arange(float(x.shape[0]), dtype=np.float32))  # as data

    with pytest.raises(braze.ir.errors.ShapeError, match=r"(?s)something else.*as data"):
        braze.aot.compile(function, braze.randn(9), tmp_path / "m.brz", dynamic=[{0: "n"}])
    assert not list(tmp_path.iterdir())


def test_arrays_of_a_size_of_its_own_keep_their_values(tmp_path):
    """One element takes another way here, and reads another array."""
    first, other = np.float32([1, 2, 3, 4]), np.float32([10, 20, 30, 40])

    def function(x):
        return x * braze.tensor(other) if x.shape[0] == 1 else x * braze.tensor(first)

    braze.aot.compile(function, braze.randn(9, 4), tmp_path / "m.brz", dynamic=[{0: "n"}])
    packed = braze.runtime.load(tmp_path / "m.brz")
    for rows, factor in ((1, other), (2, first), (30, first)):
        x = RNG.standard_normal((rows, 4)).astype("f")
        np.testing.assert_allclose(packed(x), x * factor, rtol=1e-6)
