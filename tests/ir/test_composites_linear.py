"""Matrix products against NumPy, their errors and gradients."""

import numpy as np
import pytest
from composites import one_op, run_op, to_primitives
from gradients import gradcheck_op

import braze.ir as ir


def sample(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape)


SHAPES = [
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((3,), (3, 4)),
    ((2, 3), (3, 4)),
    ((5, 2, 3), (3, 4)),
    ((5, 2, 3), (3,)),
    ((3,), (5, 3, 4)),
    ((2, 3), (5, 3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((1, 2, 3), (5, 3, 4)),
    ((2, 5, 2, 3), (5, 3, 4)),
    ((2, 1, 2, 3), (1, 5, 3, 4)),
    ((1, 2, 3), (1, 3, 4)),
    ((2, 1, 1, 3), (1, 3, 1)),
    ((1, 1), (1, 1)),
]


@pytest.mark.parametrize(("x", "y"), SHAPES)
def test_matmul_has_the_rank_cases_of_torch(x, y):
    left, right = sample(*x), sample(*y, seed=1)
    np.testing.assert_allclose(run_op("matmul", left, right), left @ right, rtol=1e-12)
    gradcheck_op("matmul", [left, right], second=True, tolerance=1e-7)


@pytest.mark.parametrize(("x", "y"), [((0, 3), (3, 2)), ((2, 0), (0, 3)), ((0, 2, 3), (1, 3, 2))])
def test_matmul_of_empty_operands(x, y):
    out = run_op("matmul", sample(*x), sample(*y))
    assert out.shape == (np.empty(x) @ np.empty(y)).shape and (out == 0).all()


def test_a_broadcast_batch_is_not_expanded():
    graph = to_primitives(one_op("matmul", [sample(7, 2, 3), sample(3, 4)], {}))
    assert [node.op.name for node in graph.nodes] == ["contract"]
    graph = to_primitives(one_op("matmul", [sample(1, 2, 3), sample(7, 3, 4)], {}))
    assert not any(node.op.name == "expand" for node in graph.nodes)


def test_matmul_of_integers_is_exact():
    x = np.arange(6).reshape(2, 3) + 2**40
    out = run_op("matmul", x, x.T)
    assert out.dtype == np.int64
    np.testing.assert_array_equal(out, x @ x.T)


@pytest.mark.parametrize(
    ("name", "operands", "text"),
    [
        ("matmul", [(3, 4), (8, 2)],
         r"\[matmul\] inner sizes differ: f64\[3,4\] @ f64\[8,2\] \(4 != 8\)"),
        ("matmul", [(4,), (8,)], r"\[matmul\] inner sizes differ: f64\[4\] @ f64\[8\] \(4 != 8\)"),
        ("matmul", [(2, 3, 4), (5, 4, 2)],
         r"\[matmul\] batch sizes do not broadcast: .* \(2 != 5 at dimension -3\)"),
        ("matmul", [(), (4, 2)], r"\[matmul\] both operands need at least 1 dimension"),
        ("mm", [(2, 3, 4), (4, 2)], r"\[mm\] operands must have 2 and 2 dimensions"),
        ("bmm", [(2, 3, 4), (1, 4, 2)], r"\[bmm\] batch sizes differ: .* \(2 != 1\)"),
        ("dot", [(3,), (4,)], r"\[dot\] inner sizes differ"),
        ("mv", [(3, 4), (3,)], r"\[mv\] inner sizes differ: f64\[3,4\] @ f64\[3\] \(4 != 3\)"),
        ("outer", [(3, 1), (4,)], r"\[outer\] operands must have 1 dimension"),
        ("addmm", [(3,), (2, 3), (3, 4)], r"\[addmm\] f64\[3\] does not expand to \[2, 4\]"),
        ("linear_no_bias", [(64, 100), (10, 128)],
         r"\[linear\] input features differ: input f64\[64,100\], weight f64\[10,128\] "
         r"\(100 != 128\)"),
        ("linear", [(2, 3), (4, 3), (3,)],
         r"\[linear\] the bias must be \[4\] for weight f64\[4,3\], given f64\[3\]"),
    ],
)  # fmt: skip
def test_errors(name, operands, text):
    with pytest.raises(ir.ShapeError, match=text):
        run_op(name, *(sample(*shape) for shape in operands))


def test_dtype_errors():
    with pytest.raises(
        ir.DTypeError, match=r"\[matmul\] operands differ in dtype: f64\[2,2\], i64"
    ):
        run_op("matmul", sample(2, 2), np.eye(2, dtype=np.int64))
    with pytest.raises(ir.DTypeError, match=r"\[matmul\] needs numeric operands"):
        run_op("matmul", np.eye(2, dtype=bool), np.eye(2, dtype=bool))


@pytest.mark.parametrize(
    ("name", "shapes", "reference"),
    [
        ("mm", [(2, 3), (3, 4)], np.matmul),
        ("bmm", [(5, 2, 3), (5, 3, 4)], np.matmul),
        ("mv", [(2, 3), (3,)], np.matmul),
        ("dot", [(3,), (3,)], np.dot),
        ("outer", [(3,), (4,)], np.outer),
        ("addmm", [(4,), (2, 3), (3, 4)], lambda c, x, y: c + x @ y),
        ("addmm", [(2, 1), (2, 3), (3, 4)], lambda c, x, y: c + x @ y),
        ("linear_no_bias", [(2, 3), (4, 3)], lambda x, w: x @ w.T),
        ("linear", [(3,), (4, 3), (4,)], lambda x, w, c: x @ w.T + c),
        ("linear", [(2, 3), (4, 3), (4,)], lambda x, w, c: x @ w.T + c),
        ("linear", [(5, 1, 2, 3), (4, 3), (4,)], lambda x, w, c: x @ w.T + c),
        ("linear", [(0, 3), (4, 3), (4,)], lambda x, w, c: x @ w.T + c),
    ],
)
def test_relatives_of_matmul(name, shapes, reference):
    operands = [sample(*shape, seed=i) for i, shape in enumerate(shapes)]
    np.testing.assert_allclose(run_op(name, *operands), reference(*operands), rtol=1e-12)
    gradcheck_op(name, operands, second=True, tolerance=1e-7)
