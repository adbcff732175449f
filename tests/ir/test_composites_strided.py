"""Strided views and diagonals against NumPy, their errors and gradients."""

import numpy as np
import pytest
from composites import run_op
from gradients import gradcheck_op

import braze.ir as ir

DIAGONALS = [
    ((4, 4), 0, 0, 1),
    ((3, 5), 1, 0, 1),
    ((5, 3), -2, 0, 1),
    ((3, 5), 4, 1, 0),
    ((2, 3, 4), -1, 2, 0),
    ((2, 3, 4, 2), 1, 1, 3),
    ((3, 2), 7, 0, 1),
    ((0, 2), 0, 0, 1),
]


def sample(*shape):
    return np.random.default_rng(0).uniform(-2, 2, shape)


@pytest.mark.parametrize(("shape", "offset", "dim1", "dim2"), DIAGONALS)
def test_diagonal(shape, offset, dim1, dim2):
    x, places = sample(*shape), {"offset": offset, "dim1": dim1, "dim2": dim2}
    out = run_op("diagonal", x, **places)
    np.testing.assert_array_equal(out, np.diagonal(x, offset, dim1, dim2))
    if x.size:
        gradcheck_op("diagonal", [x], places, second=True)


@pytest.mark.parametrize(("shape", "offset", "dim1", "dim2"), DIAGONALS)
def test_diag_embed_is_the_adjoint(shape, offset, dim1, dim2):
    places = {"offset": offset, "dim1": dim1, "dim2": dim2}
    y = np.diagonal(sample(*shape), offset, dim1, dim2).copy() + 3.0
    sizes = {"rows": shape[dim1], "columns": shape[dim2]}
    out = run_op("diag_embed", y, **places, **sizes)
    assert out.shape == shape
    np.testing.assert_array_equal(np.diagonal(out, offset, dim1, dim2), y)
    assert np.count_nonzero(out) == y.size
    if y.size:
        gradcheck_op("diag_embed", [y], {**places, **sizes}, second=True)


def test_strided_index():
    out = run_op("strided_index", shape=(2, 3), strides=(10, 4), offset=1)
    assert out.tolist() == [[1, 5, 9], [11, 15, 19]]
    assert run_op("strided_index", shape=(), strides=(), offset=7).tolist() == 7
    assert run_op("strided_index", shape=(0, 2), strides=(1, 1), offset=0).shape == (0, 2)


@pytest.mark.parametrize(
    ("name", "shape", "attributes", "message"),
    [
        (
            "as_strided",
            (6,),
            {"sizes": (2, 3), "strides": (3, 1), "offset": 1},
            "[as_strided] element 6 is outside f32[6]",
        ),
        (
            "as_strided",
            (2, 3),
            {"sizes": (2,), "strides": (1,), "offset": 0},
            "[as_strided] needs a flat operand, given f32[2,3]",
        ),
        (
            "as_strided",
            (6,),
            {"sizes": (2,), "strides": (-1,), "offset": 3},
            "[as_strided] sizes, strides and offset must not be negative: [2], [-1], 3",
        ),
        (
            "as_strided",
            (6,),
            {"sizes": (2,), "strides": (1, 1), "offset": 3},
            "[as_strided] needs one stride for each of [2]: [1, 1]",
        ),
        (
            "diag_embed",
            (3,),
            {"offset": 1, "dim1": 0, "dim2": 1, "rows": 3, "columns": 3},
            "[diag_embed] f32[3] is not diagonal 1 of 3 x 3",
        ),
        (
            "diagonal",
            (3, 4),
            {"offset": 0, "dim1": 1, "dim2": 1},
            "[diagonal] a dimension appears twice in (1, 1)",
        ),
    ],
)
def test_errors(name, shape, attributes, message):
    with pytest.raises(ir.ShapeError) as caught:
        ir.op_named(name).result_types([ir.tensor_type(ir.f32, shape)], attributes)
    assert str(caught.value) == message
