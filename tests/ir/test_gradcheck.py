"""The gradient check finds wrong gradients."""

import numpy as np
import pytest
from gradients import backward, gradcheck_op

import braze.ir as ir
from braze.ir.op import _TABLE, declare

X, Y = np.array([0.5, 1.5, -0.7]), np.array([1.2, -0.4, 0.9])


@pytest.fixture
def product():
    """Declares a product with the given gradient rules."""

    def make(**gradients):
        _TABLE.pop("test_product", None)
        return declare(
            "test_product",
            "pointwise",
            "x y",
            infer=lambda x, y: (x.with_shape(ir.broadcast_shapes("test_product", x, y)),),
            evaluate=np.multiply,
            gradients=gradients,
            broadcasts=True,
            doc="x * y.",
        )

    yield make
    _TABLE.pop("test_product", None)


def test_right_gradients_pass(product):
    op = product(x=lambda b, g, y: b.mul(g, y), y=lambda b, g, x: b.mul(g, x))
    gradcheck_op(op, [X, Y], second=True)
    gradcheck_op(op, [X, Y[:1]], second=True)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda b, g, y: b.mul(g, b.mul(y, 1.001)),
        lambda b, g, y: y,
        lambda b, g, x: b.mul(g, x),
        lambda b, g, y: b.sum(b.mul(g, y), dims=(0,), keepdim=True),
    ],
)
def test_wrong_gradients_are_found(product, wrong):
    op = product(x=wrong, y=lambda b, g, x: b.mul(g, x))
    with pytest.raises((AssertionError, ir.ShapeError)):
        gradcheck_op(op, [X, Y])


def test_wrong_second_derivatives_are_found(product):
    """The gradient is right in value, but its own derivative is cut off."""
    op = product(
        x=lambda b, g, y: b.mul(g, y),
        y=lambda b, g, x: b.mul(
            g, b.add(b.floor(x), b.remainder(x, b.constant(value=1.0, dtype=ir.f64)))
        ),
    )
    gradcheck_op(op, [X, Y], second=True)
    op = product(
        x=lambda b, g, y: b.mul(g, y),
        y=lambda b, g, x: b.mul(g, b.bitcast(b.bitcast(x, dtype=ir.i64), dtype=ir.f64)),
    )
    gradcheck_op(op, [X, Y])
    with pytest.raises(AssertionError, match="second derivative"):
        gradcheck_op(op, [X, Y], second=True)


def test_reverse_mode_adds_up_what_flows_back():
    b = ir.Builder("chain")
    x = b.input(ir.tensor_type(ir.f64, (3,)))
    y = b.mul(b.exp(x), b.sin(x))
    g = b.input(y.type)
    (gradient,) = backward(b, {y: g}, [x])
    (found,) = ir.interpret(b.finish([gradient]), [X, Y])
    np.testing.assert_allclose(found, Y * np.exp(X) * (np.sin(X) + np.cos(X)))
