"""The movement primitives against plain loops and NumPy."""

import itertools

import numpy as np
import pytest

import braze.ir as ir

OPS = {op.name: op for op in ir.all_ops() if op.is_movement}

# Operation, operand shapes, attributes.
CASES = [
    ("reshape", [(2, 6)], {"shape": (3, 4)}),
    ("reshape", [(2, 0)], {"shape": (0, 7)}),
    ("reshape", [()], {"shape": (1, 1)}),
    ("permute", [(2, 3, 4)], {"dims": (2, 0, 1)}),
    ("permute", [()], {"dims": ()}),
    ("expand", [(3, 1)], {"shape": (2, 3, 4)}),
    ("expand", [()], {"shape": (2,)}),
    ("expand", [(1, 2)], {"shape": (0, 2)}),
    ("slice", [(7, 4)], {"starts": (1, 0), "stops": (6, 4), "steps": (2, 3)}),
    ("slice", [(5,)], {"starts": (2,), "stops": (2,), "steps": (1,)}),
    ("slice", [(5,)], {"starts": (0,), "stops": (5,), "steps": (9,)}),
    ("pad", [(2, 3)], {"low": (1, 0), "high": (0, 2), "interior": (0, 0), "value": 0.0}),
    ("pad", [(3, 1)], {"low": (0, 1), "high": (2, 0), "interior": (2, 3), "value": 1.0}),
    ("pad", [(0, 2)], {"low": (1, 0), "high": (1, 0), "interior": (2, 0), "value": 1}),
    ("flip", [(2, 3)], {"dims": (0, 1)}),
    ("flip", [(2, 3)], {"dims": ()}),
    ("concat", [(2, 3), (2, 1), (2, 0)], {"dim": 1}),
    ("concat", [(2,)], {"dim": 0}),
    ("window", [(2, 6)], {"dims": (1,), "size": (3,), "stride": (1,), "dilation": (1,)}),
    ("window", [(7, 2)], {"dims": (0,), "size": (2,), "stride": (3,), "dilation": (2,)}),
    (
        "window",
        [(5, 2, 6)],
        {"dims": (0, 2), "size": (2, 3), "stride": (2, 1), "dilation": (1, 2)},
    ),
    ("window", [(2, 4)], {"dims": (1,), "size": (1,), "stride": (3,), "dilation": (1,)}),
    ("as_strided", [(12,)], {"sizes": (2, 3), "strides": (1, 4), "offset": 1}),
    ("as_strided", [(6,)], {"sizes": (3, 2, 2), "strides": (1, 1, 0), "offset": 2}),
    ("as_strided", [(6,)], {"sizes": (2, 0), "strides": (9, 1), "offset": 0}),
    ("as_strided", [(6,)], {"sizes": (), "strides": (), "offset": 4}),
    ("unwindow", [(4, 3)], {"dims": (0,), "extent": (6,), "stride": (1,), "dilation": (1,)}),
    ("unwindow", [(2, 3, 2)], {"dims": (0,), "extent": (7,), "stride": (3,), "dilation": (2,)}),
    (
        "unwindow",
        [(2, 2, 2, 2, 3)],
        {"dims": (0, 2), "extent": (5, 6), "stride": (2, 1), "dilation": (1, 2)},
    ),
]
IDS = [f"{name}-{i}" for i, (name, _, _) in enumerate(CASES)]


def test_all_are_covered():
    assert {name for name, _, _ in CASES} == set(OPS)


@pytest.mark.parametrize(("name", "shapes", "attributes"), CASES, ids=IDS)
def test_operands_may_be_views(name, shapes, attributes):
    """Transposed and strided operands give what contiguous ones give."""
    generator = np.random.default_rng(2)
    plain = [generator.uniform(-2, 2, shape) for shape in shapes]
    views = [
        np.repeat(np.asarray(x.T, order="C"), 2, axis=0)[::2].T if x.ndim else x for x in plain
    ]
    found = OPS[name].evaluate(*views, **attributes)
    np.testing.assert_array_equal(found, OPS[name].evaluate(*plain, **attributes))


def places(shape):
    return itertools.product(*map(range, shape))


@pytest.mark.parametrize("case", [c for c in CASES if c[0] == "pad"], ids=str)
def test_pad_by_loops(case):
    _, ((rows, columns),), at = case
    x = np.arange(1.0, 1 + rows * columns).reshape(rows, columns)
    out = OPS["pad"].evaluate(x, **at)
    expected = np.full(out.shape, float(at["value"]))
    for i, j in places(x.shape):
        row = at["low"][0] + i * (at["interior"][0] + 1)
        expected[row, at["low"][1] + j * (at["interior"][1] + 1)] = x[i, j]
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("case", [c for c in CASES if c[0].endswith("window")], ids=str)
def test_windows_by_loops(case):
    """out[.., o, .., k] = x[.., o * stride + k * dilation, ..], and unwindow puts it back."""
    name, (shape,), at = case
    x = np.random.default_rng(3).uniform(1, 2, shape)
    out = OPS[name].evaluate(x, **at)
    narrow = out if name == "window" else x
    rank, seen = narrow.ndim - len(at["dims"]), 0
    for place in places(narrow.shape):
        source = list(place[:rank])
        for n, d in enumerate(at["dims"]):
            source[d] = place[d] * at["stride"][n] + place[rank + n] * at["dilation"][n]
        if name == "window":
            assert out[place] == x[tuple(source)]
        else:
            assert out[(*source, *place[rank:])] == x[place]
            seen += 1
    if name == "unwindow":
        assert np.count_nonzero(out) == seen


def test_unwindow_is_the_adjoint_of_window():
    """<window(x), y> = <x, sum over taps of unwindow(y)>, overlaps and leftovers included."""
    generator = np.random.default_rng(4)
    for size, stride, dilation, extent in [(3, 1, 1, 7), (2, 2, 1, 7), (3, 2, 2, 9), (2, 5, 3, 8)]:
        at = {"dims": (0,), "stride": (stride,), "dilation": (dilation,)}
        x = generator.normal(size=(extent, 2))
        taps = OPS["window"].evaluate(x, size=(size,), **at)
        y = generator.normal(size=taps.shape)
        back = OPS["unwindow"].evaluate(y, extent=(extent,), **at).sum(-1)
        np.testing.assert_allclose((taps * y).sum(), (x * back).sum())


def test_concat_and_slice_by_numpy():
    x, y = np.arange(6).reshape(2, 3), np.arange(4).reshape(2, 2)
    assert OPS["concat"].evaluate(x, y, dim=1).tolist() == [[0, 1, 2, 0, 1], [3, 4, 5, 2, 3]]
    out = OPS["slice"].evaluate(x, starts=(0, 1), stops=(2, 3), steps=(1, 1))
    assert out.tolist() == [[1, 2], [4, 5]]
    assert OPS["flip"].evaluate(x, dims=(1,)).tolist() == [[2, 1, 0], [5, 4, 3]]


@pytest.mark.parametrize(
    ("name", "attributes", "error", "message"),
    [
        (
            "reshape",
            {"shape": (4,)},
            ir.ShapeError,
            "[reshape] shape [4] is invalid for input of size 6: f32[2,3]",
        ),
        ("reshape", {"shape": (-2, -3)}, ir.ShapeError, "[reshape] shape [-2, -3] is invalid"),
        (
            "permute",
            {"dims": (0, 0)},
            ir.ShapeError,
            "[permute] [0, 0] is not a permutation of the dimensions of f32[2,3]",
        ),
        ("expand", {"shape": (3,)}, ir.ShapeError, "[expand] f32[2,3] does not expand to [3]"),
        ("expand", {"shape": (4, 3)}, ir.ShapeError, "[expand] f32[2,3] does not expand to [4, 3]"),
        (
            "slice",
            {"starts": (0,), "stops": (1,), "steps": (1,)},
            ir.ShapeError,
            "[slice] needs a start, stop and step for each dimension of f32[2,3]",
        ),
        (
            "slice",
            {"starts": (0, 0), "stops": (3, 1), "steps": (1, 1)},
            ir.ShapeError,
            "[slice] 0:3:1 is not inside a dimension of 2",
        ),
        (
            "pad",
            {"low": (0, -1), "high": (0, 0), "interior": (0, 0), "value": 0.0},
            ir.ShapeError,
            "[pad] padding must not be negative",
        ),
        ("flip", {"dims": (2,)}, ir.DimensionError, "[flip] dimension 2 is outside f32[2,3]"),
        ("concat", {"dim": 2}, ir.DimensionError, "[concat] dimension 2 is outside f32[2,3]"),
        (
            "window",
            {"dims": (1,), "size": (4,), "stride": (1,), "dilation": (1,)},
            ir.ShapeError,
            "[window] a window of 4 with dilation 1 is larger than dimension 1 of f32[2,3]",
        ),
        (
            "window",
            {"dims": (1,), "size": (2,), "stride": (0,), "dilation": (1,)},
            ir.ShapeError,
            "[window] size, stride and dilation must be positive: 2, 0, 1",
        ),
        (
            "window",
            {"dims": (1,), "size": (2, 2), "stride": (1,), "dilation": (1,)},
            ir.ShapeError,
            "[window] needs a size, stride and dilation for each of (1,)",
        ),
        (
            "unwindow",
            {"dims": (0,), "extent": (6,), "stride": (1,), "dilation": (1,)},
            ir.ShapeError,
            "[unwindow] dimension 0 of f32[2,3] should be 4",
        ),
        (
            "unwindow",
            {"dims": (1,), "extent": (6,), "stride": (1,), "dilation": (1,)},
            ir.ShapeError,
            "[unwindow] the last 1 dimensions of f32[2,3] are taps: (1,)",
        ),
    ],
)
def test_errors(name, attributes, error, message):
    with pytest.raises(error) as caught:
        OPS[name].result_types([ir.tensor_type(ir.f32, (2, 3))], attributes)
    assert str(caught.value).startswith(message)


def test_concat_errors():
    x, y = ir.tensor_type(ir.f32, (2, 3)), ir.tensor_type(ir.f32, (3, 3))
    message = r"\[concat\] sizes must match except in dimension 1: f32\[2,3\] and f32\[3,3\]"
    with pytest.raises(ir.ShapeError, match=message):
        OPS["concat"].result_types([x, y], {"dim": 1})
    assert OPS["concat"].result_types([x, y], {"dim": 0}) == (ir.tensor_type(ir.f32, (5, 3)),)
    with pytest.raises(ir.DTypeError, match="operands differ in dtype"):
        OPS["concat"].result_types([x, y.with_dtype(ir.f64)], {"dim": 0})
    elsewhere = ir.tensor_type(ir.f32, (3, 3), "cuda:0")
    with pytest.raises(ir.DeviceError, match="to be on the same device, but found at least two"):
        OPS["concat"].result_types([x, elsewhere], {"dim": 0})


def test_integers_are_not_padded_with_infinity():
    at = {"low": (1,), "high": (0,), "interior": (0,), "value": float("-inf")}
    assert OPS["pad"].result_types([ir.tensor_type(ir.f32, (2,))], at)
    with pytest.raises(ir.DTypeError, match=r"\[pad\] i64\[2\] cannot hold -inf"):
        OPS["pad"].result_types([ir.tensor_type(ir.i64, (2,))], at)
