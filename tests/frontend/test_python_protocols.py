"""Tensors among Python values and NumPy objects: conversion, operators, iteration."""

import math

import numpy as np
import pytest

import braze


def test_numbers():
    assert int(braze.tensor([1.7])) == 1 and float(braze.tensor(2)) == 2.0
    assert complex(braze.tensor(1.5)) == 1.5 + 0j
    assert [10, 11, 12][braze.tensor([1])] == 11 and [10, 11][braze.tensor(True)] == 11
    for convert in (int, float, complex):
        with pytest.raises(ValueError, match="only one element"):
            convert(braze.zeros(2))
    for wrong in (braze.tensor(1.0), braze.tensor([1, 2])):
        with pytest.raises(TypeError, match="index"):
            range(10)[wrong]
    assert bool(braze.tensor([[1]])) and not braze.tensor(0.0) and braze.is_nonzero(braze.tensor(2))
    for wrong in (braze.zeros(2), braze.zeros(0)):
        with pytest.raises(RuntimeError, match="ambiguous"):
            bool(wrong)


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "uint32", "int8", "int64", "float16", "bfloat16", "float64"]
)
def test_items_are_python_numbers(dtype):
    x = braze.tensor([[1, 0]], dtype=getattr(braze, dtype))
    kind = bool if dtype == "bool" else float if "float" in dtype else int
    assert x.tolist() == [[1, 0]] and type(x.tolist()[0][0]) is kind
    assert type(x[0, 0].item()) is kind and x[0, 0].tolist() == 1
    assert type(x[0, 0].tolist()) is kind and braze.zeros(0, 2).tolist() == []


def test_format_and_containment():
    assert f"{braze.tensor(1.5):.3f}" == "1.500" and f"{braze.tensor(7)}" == "7"
    assert f"{braze.tensor([1, 2])}" == "tensor([1, 2])"
    with pytest.raises(TypeError, match="format"):
        f"{braze.tensor([1.5]):.3f}"
    x = braze.tensor([1.0, 2.0])
    assert 1 in x and 3 not in x and np.float32(2) in x and braze.tensor(2.0) in x
    with pytest.raises(RuntimeError, match="__contains__ only supports"):
        "a" in x  # noqa: B015


def test_sequences_and_identity():
    x = braze.tensor([[1, 2], [3, 4]])
    assert len(x) == 2 and [row.tolist() for row in x] == [[1, 2], [3, 4]]
    assert [row.tolist() for row in reversed(x)] == [[3, 4], [1, 2]]
    a, b = x
    assert a.tolist() == [1, 2] and b.tolist() == [3, 4]
    assert len({x, x, x.clone()}) == 2 and {x: 1}[x] == 1
    for wrong in (len, iter):
        with pytest.raises(TypeError, match="0-d"):
            wrong(braze.tensor(1))


SCALARS = [np.float32(2), np.float64(2), np.int64(3), np.int32(3), np.float16(1.5), np.uint8(3)]


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8", "bool"])
def test_numpy_scalars_are_numbers(scalar, dtype):
    x = braze.tensor([1, 0], dtype=getattr(braze, dtype))
    number = scalar.item()
    for result, expected in (
        (x * scalar, x * number),
        (scalar * x, number * x),
        (scalar + x, number + x),
        (scalar - x.float(), number - x.float()),
        (scalar < x, number < x),
        (x == scalar, x == number),
    ):
        assert isinstance(result, braze.Tensor)
        assert result.dtype is expected.dtype and result.tolist() == expected.tolist()
    y = braze.ones(2)
    y += scalar
    assert y.tolist() == [1 + number] * 2
    assert braze.full((2,), scalar).tolist() == [number] * 2
    assert braze.zeros(2).fill_(scalar).tolist() == [number] * 2
    assert braze.add(x, scalar).dtype is braze.add(x, number).dtype


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8", "bool"])
def test_numpy_scalars_promote_as_in_torch(scalar, dtype):
    torch = pytest.importorskip("torch")
    x, y = (lib.ones(2, dtype=getattr(lib, dtype)) for lib in (braze, torch))
    for ours, theirs in ((x * scalar, y * scalar), (scalar * x, scalar * y)):
        assert ours.dtype.public_name == str(theirs.dtype).removeprefix("torch.")
        assert ours.tolist() == theirs.tolist()


def test_numpy_arrays_as_operands():
    x, array = braze.tensor([1.0, 2.0]), np.array([3.0, 4.0])
    for result in (x * array, array * x, array + x - x + x * 0 + x * array - array):
        assert isinstance(result, braze.Tensor) and result.dtype is braze.float64
    assert (array - x).tolist() == [2, 2] and (array < x).tolist() == [False, False]
    assert (x @ array.astype(np.float32)).item() == 11
    assert (np.eye(2, dtype=np.float32) @ x).tolist() == [1, 2]
    with pytest.raises(TypeError):
        x @ "text"
    w = braze.ones(2, requires_grad=True)
    (w * array).sum().backward()
    assert w.grad.tolist() == [3, 4]


def test_numpy_integers_are_sizes_dimensions_and_indices():
    one, two, four = np.int64(1), np.int32(2), np.int64(4)
    x = braze.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert x.reshape(four).shape == (4,) and x.view(one, -1).shape == (1, 4)
    assert x.sum(one).tolist() == [3, 7] and x.sum((np.int64(0), one)).item() == 10
    assert x[one].tolist() == [3, 4] and x[one, np.int64(0)].item() == 3
    assert braze.zeros(two, one).shape == (2, 1) and braze.zeros(four).shape == (4,)
    assert braze.eye(two).tolist() == [[1, 0], [0, 1]]
    assert braze.arange(two).dtype is braze.int64 and braze.arange(np.float32(2)).tolist() == [0, 1]
    assert x.transpose(np.int64(0), one).tolist() == [[1, 3], [2, 4]]
    assert x.clamp(np.float32(2)).tolist() == [[2, 2], [3, 4]]
    assert (x ** np.float32(2)).tolist() == [[1, 4], [9, 16]]


NESTED = [
    ([np.float64(1.5)], "float64"),
    ([np.float32(1.5), 2], "float32"),
    ([np.float16(1.5)], "float16"),
    ([np.float16(1.5), 2.5], "float32"),
    ([np.int32(1)], "int32"),
    ([np.int32(1), 2], "int64"),
    ([np.int8(1), np.float16(1)], "float16"),
    ([np.bool_(True), False], "bool"),
    ([np.ones(2, np.float32)] * 2, "float32"),
    ([np.array([1.0]), [2.0]], "float64"),
    (np.float16(2), "float16"),
    ([[1, 2], [True, 3]], "int64"),
    ([(1, 2.5)], "float32"),
    ([range(2), [0, 1]], "int64"),
    ([[]], "float32"),
    ([], "float32"),
]


@pytest.mark.parametrize(("data", "dtype"), NESTED)
def test_dtypes_of_nested_data(data, dtype):
    x = braze.tensor(data)
    assert x.dtype.public_name == dtype and x.tolist() == np.array(data).tolist()
    assert braze.as_tensor(data).dtype is x.dtype
    assert braze.tensor(data, dtype=braze.int32).dtype is braze.int32


@pytest.mark.filterwarnings("ignore:Creating a tensor from a list")
@pytest.mark.parametrize(("data", "dtype"), NESTED)
def test_dtypes_of_nested_data_are_those_of_torch(data, dtype):
    torch = pytest.importorskip("torch")
    assert str(torch.tensor(data).dtype) == f"torch.{dtype}"


def test_numpy_functions():
    x = braze.tensor([[0.0, 1.0], [2.0, 3.0]])
    assert isinstance(np.sin(x), braze.Tensor)
    np.testing.assert_array_equal(np.sin(x).numpy(), np.sin(x.numpy()))
    added = np.add(x, np.ones(2))
    assert isinstance(added, braze.Tensor) and added.dtype is braze.float64
    assert isinstance(np.concatenate([x, x]), np.ndarray) and np.shape(x) == (2, 2)
    assert np.isfinite(x).dtype is braze.bool
    with pytest.raises(RuntimeError, match="requires grad"):
        np.sin(braze.ones(2, requires_grad=True))


def test_functions_of_single_elements():
    x = braze.tensor([[1.0, 4.0], [9.0, 16.0]])
    assert x.apply_(math.sqrt) is x and x.tolist() == [[1, 2], [3, 4]]
    x.map_(braze.tensor([10.0, 20.0]), lambda a, b: a + b)
    assert x.tolist() == [[11, 22], [13, 24]]
    counts = braze.tensor([1, 2]).apply_(lambda v: v * 2)
    assert counts.dtype is braze.int64 and counts.tolist() == [2, 4]
    row = x[0]
    row.apply_(lambda v: -v)
    assert x.tolist()[0] == [-11, -22]
    with pytest.raises(RuntimeError, match="requires grad"):
        braze.ones(2, requires_grad=True).apply_(abs)
