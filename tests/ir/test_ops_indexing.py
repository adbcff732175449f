"""Gathers, scatters and checks against plain loops."""

import numpy as np
import pytest
from gradients import gradcheck_op

import braze.ir as ir
from braze.ir.dtypes import REAL

OPS = {op.name: op for op in ir.all_ops() if op.category in ("gather", "scatter", "check")}
INDEX_DTYPES = [np.int64, np.int32]

# Operation, shape of x, dim, shape of the index. Sizes of 1 in the index may be smaller than x's.
CASES = [
    ("take", (4, 3), 0, (2,)),
    ("take", (2, 5, 3), 1, (2, 2)),
    ("take", (4, 3), 1, ()),
    ("take", (4, 3), 0, (0,)),
    ("take", (0, 3), 0, (0,)),
    ("take_along", (4, 3), 0, (2, 3)),
    ("take_along", (2, 5, 3), 1, (2, 7, 1)),
    ("index_add", (4, 3), 0, (6,)),
    ("index_add", (2, 5, 3), 1, (2, 2)),
    ("index_add", (4, 3), 1, ()),
    ("scatter_add", (4, 3), 0, (6, 2)),
    ("scatter_add", (2, 5, 3), 2, (2, 4, 5)),
    ("index_put", (4, 3), 0, (6,)),
    ("index_put", (2, 5, 3), 1, (2, 2)),
    ("index_put", (4, 3), 1, ()),
    ("index_put", (4, 3), 0, (0,)),
    ("scatter", (4, 3), 0, (6, 2)),
    ("scatter", (2, 5, 3), 2, (2, 4, 5)),
    ("scatter", (2, 5, 3), 1, (2, 0, 3)),
]
COMBINED = {"prod": np.multiply, "amax": np.maximum, "amin": np.minimum}
IDS = [f"{c[0]}-{i}" for i, c in enumerate(CASES)]


def operands_of(name, shape, dim, index_shape, dtype=np.float64, index_dtype=np.int64):
    generator = np.random.default_rng(0)
    x = (
        generator.integers(0, 9, shape) % 2
        if np.dtype(dtype) == np.bool_
        else generator.uniform(0, 9, shape)
    )
    index = generator.integers(0, max(shape[dim], 1), index_shape).astype(index_dtype)
    updates_shape = index_shape
    if name.startswith("index_"):
        updates_shape = (*shape[:dim], *index_shape, *shape[dim + 1 :])
    operands = [x.astype(dtype), index]
    if not name.startswith("take"):
        operands.append(generator.uniform(0, 9, updates_shape).astype(dtype))
    return operands


def test_all_are_covered():
    assert {c[0] for c in CASES} | {"check_range", "scatter_reduce"} == set(OPS)


@pytest.mark.parametrize("dtype", REAL, ids=lambda d: d.name)
@pytest.mark.parametrize("index_dtype", INDEX_DTYPES)
@pytest.mark.parametrize(("name", "shape", "dim", "index_shape"), CASES, ids=IDS)
def test_types_and_values_agree(name, shape, dim, index_shape, index_dtype, dtype):
    operands = operands_of(name, shape, dim, index_shape, dtype.numpy, index_dtype)
    types = [ir.tensor_type(ir.from_numpy(o.dtype), o.shape) for o in operands]
    (expected,) = OPS[name].result_types(types, {"dim": dim})
    found = OPS[name].evaluate(*operands, dim=dim)
    assert ir.tensor_type(ir.from_numpy(found.dtype), found.shape) == expected


@pytest.mark.parametrize(("name", "shape", "dim", "index_shape"), CASES, ids=IDS)
def test_by_loops(name, shape, dim, index_shape):
    x, index, *updates = operands_of(name, shape, dim, index_shape)
    out = OPS[name].evaluate(x, index, *updates, dim=dim)
    expected = x.copy() if updates else np.zeros(out.shape)
    whole = out.shape if name.startswith("take") else updates[0].shape
    for place in np.ndindex(*whole):
        if name in ("take", "index_add", "index_put"):
            at = place[dim : dim + len(index_shape)]
            source = (*place[:dim], index[at], *place[dim + len(index_shape) :])
        else:
            source = (*place[:dim], index[place], *place[dim + 1 :])
        if name.endswith("_add"):
            expected[source] += updates[0][place]
        elif updates:
            expected[source] = updates[0][place]
        else:
            expected[place] = x[source]
    np.testing.assert_allclose(out, expected)


ADDING = [c for c in CASES if c[0] not in ("index_put", "scatter")]


@pytest.mark.parametrize(("name", "shape", "dim", "index_shape"), ADDING)
def test_gradients(name, shape, dim, index_shape):
    operands = operands_of(name, shape, dim, index_shape)
    gradcheck_op(name, operands, {"dim": dim}, second=True)


@pytest.mark.parametrize(
    ("name", "shape", "dim", "index"),
    [
        ("index_put", (4, 3), 0, [2, 0]),
        ("index_put", (2, 5, 3), 1, [[4, 1], [0, 2]]),
        ("index_put", (4, 3), 1, 1),
        ("scatter", (4, 3), 0, [[1, 3], [0, 2]]),
        ("scatter", (2, 5), 1, [[4, 0, 1]]),
    ],
)
def test_gradients_of_writes_to_distinct_places(name, shape, dim, index):
    operands = operands_of(name, shape, dim, np.shape(index))
    operands[1] = np.array(index)
    gradcheck_op(name, operands, {"dim": dim}, second=True)


def test_of_several_writes_to_one_place_the_last_stays():
    x, index, updates = np.zeros(3), np.array([2, 1, 2, 2, 1]), np.arange(5.0) + 1
    for name in ("index_put", "scatter"):
        assert OPS[name].evaluate(x, index, updates, dim=0).tolist() == [0, 5, 4]
    rows = OPS["index_put"].evaluate(np.zeros((2, 3)), index, np.stack([updates] * 2), dim=1)
    assert rows.tolist() == [[0, 5, 4]] * 2


REDUCED = [((4, 3), 0, (6, 2)), ((2, 5, 3), 2, (2, 4, 5)), ((3,), 0, (0,))]


@pytest.mark.parametrize("combine", COMBINED)
@pytest.mark.parametrize(("shape", "dim", "index_shape"), REDUCED)
def test_scatter_reduce(shape, dim, index_shape, combine):
    op = OPS["scatter_reduce"]
    x, index, updates = operands_of(op.name, shape, dim, index_shape)
    expected = x.copy()
    for place in np.ndindex(*index_shape):
        target = (*place[:dim], index[place], *place[dim + 1 :])
        expected[target] = COMBINED[combine](expected[target], updates[place])
    found = op.evaluate(x, index, updates, dim=dim, combine=combine)
    np.testing.assert_allclose(found, expected)
    gradcheck_op(op, [x + 1, index, updates], {"dim": dim, "combine": combine}, second=True)


def test_gradients_of_products_with_zeros():
    x, index = np.array([2.0, 0.0, 3.0]), np.array([0, 0, 1, 2, 2])
    updates = np.array([0.0, 4.0, 5.0, 0.0, 0.0])
    gradcheck_op("scatter_reduce", [x, index, updates], {"dim": 0, "combine": "prod"})


def test_scatter_reduce_needs_a_known_combination():
    types = [ir.tensor_type(d, (2,)) for d in (ir.f32, ir.i64, ir.f32)]
    with pytest.raises(ir.DTypeError, match=r"\[scatter_reduce\] combine must be one of"):
        OPS["scatter_reduce"].result_types(types, {"dim": 0, "combine": "sum"})


@pytest.mark.parametrize("name", ["take", "take_along", "index_add", "scatter_add"])
def test_indices_out_of_range_are_clamped(name):
    """`check_range` reports them; here no memory outside the operand is touched."""
    x, index = np.zeros(3), np.array([-5, 1, 7])
    operands = [x, index] if name.startswith("take") else [x, index, np.array([1.0, 2.0, 4.0])]
    if name.startswith("take"):
        x[:] = 1, 2, 4
    assert OPS[name].evaluate(*operands, dim=0).tolist() == [1, 2, 4]


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_])
@pytest.mark.parametrize(("rows", "most"), [(4, 9), (64, 2), (512, 1), (1, 200)])
def test_wide_rows_are_added_in_their_order(rows, most, dtype):
    """To the bit as one after another, however many rows of updates a place gets."""
    random = np.random.default_rng(rows)
    index = random.permutation(np.repeat(np.arange(rows), random.integers(0, most + 1, rows)))
    x, updates = (random.normal(size=(n, 33)).astype(dtype) for n in (rows, len(index)))
    expected = x.copy()
    for place, row in zip(index, updates, strict=True):
        expected[place] += row
    found = OPS["index_add"].evaluate(x.T, index.reshape(1, -1), updates.T[:, None], dim=1)
    np.testing.assert_array_equal(found.T, expected)


def test_operands_are_left_alone():
    x, index, updates = np.zeros(3), np.array([1, 1]), np.ones(2)
    for name, total in (("index_add", 2), ("scatter_add", 2), ("index_put", 1), ("scatter", 1)):
        assert OPS[name].evaluate(x, index, updates, dim=0).tolist() == [0, total, 0]
    assert x.tolist() == [0, 0, 0]


def check(index, low=0, high=10):
    return OPS["check_range"].evaluate(np.asarray(index), low=low, high=high, message="nll_loss")


def test_check_range():
    for fine in ([0, 9], [], 5, np.array([3], np.uint8), np.zeros((0, 4), np.int32)):
        assert check(np.asarray(fine, dtype=getattr(fine, "dtype", np.int64))) == ()
    for wrong, value in [([3, 10, -1], 10), ([-1], -1), (12, 12), (np.array([200], np.uint8), 200)]:
        with pytest.raises(IndexError) as caught:
            check(wrong)
        assert str(caught.value) == f"[nll_loss] index {value} is out of range [0, 10)"
    assert check(np.array([0], np.uint8), low=-5, high=300) == ()


def test_check_range_has_no_result_and_an_effect():
    op = OPS["check_range"]
    at = {"low": 0, "high": 10, "message": "nll_loss"}
    assert op.effect and op.result_types([ir.tensor_type(ir.i64, (3,))], at) == ()
    with pytest.raises(ir.DTypeError, match=r"\[nll_loss\] the index must be an integer"):
        op.result_types([ir.tensor_type(ir.f32, (3,))], at)


@pytest.mark.parametrize(
    ("name", "shapes", "dim", "message"),
    [
        ("take", [(0, 3), (2,)], 0, "[take] dimension 0 of f32[0,3] is empty"),
        ("take_along", [(0, 3), (2, 3)], 0, "[take_along] dimension 0 of f32[0,3] is empty"),
        (
            "take_along",
            [(2, 3), (3, 3)],
            1,
            "[take_along] index i64[3,3] does not fit f32[2,3] along dimension 1",
        ),
        (
            "take_along",
            [(2, 3), (2,)],
            0,
            "[take_along] index i64[2] does not fit f32[2,3] along dimension 0",
        ),
        (
            "index_add",
            [(4, 3), (2,), (3, 3)],
            0,
            "[index_add] f32[3,3] does not fit f32[4,3] indexed by i64[2] at 0",
        ),
        ("index_add", [(0, 3), (2,), (2, 3)], 0, "[index_add] dimension 0 of f32[0,3] is empty"),
        (
            "scatter_add",
            [(2, 3), (2, 2), (2, 3)],
            1,
            "[scatter_add] f32[2,3] and i64[2,2] must have one shape",
        ),
        (
            "scatter_add",
            [(2, 3), (3, 3), (3, 3)],
            1,
            "[scatter_add] index i64[3,3] does not fit f32[2,3] along dimension 1",
        ),
    ],
)
def test_shape_errors(name, shapes, dim, message):
    dtypes = [ir.f32, ir.i64, ir.f32]
    types = [ir.tensor_type(d, s) for d, s in zip(dtypes, shapes, strict=False)]
    with pytest.raises(ir.ShapeError) as caught:
        OPS[name].result_types(types, {"dim": dim})
    assert str(caught.value) == message


def test_index_dtypes():
    types = [ir.tensor_type(ir.f32, (3,)), ir.tensor_type(ir.f32, (2,))]
    with pytest.raises(
        ir.DTypeError, match=r"\[take\] the index must be int64 or int32, given f32"
    ):
        OPS["take"].result_types(types, {"dim": 0})
    with pytest.raises(ir.DimensionError, match=r"\[take\] dimension 1 is outside f32\[3\]"):
        OPS["take"].result_types([types[0], ir.tensor_type(ir.i64, (2,))], {"dim": 1})
