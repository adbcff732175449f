"""Elementwise composites against NumPy and, where it is installed, PyTorch; their gradients."""

import math

import numpy as np
import pytest
from composites import run_op
from gradients import backward, gradcheck_op

import braze.ir as ir
from braze.ir.interpreter import interpret
from braze.ir.ops import activations, elementwise, logarithms

ATTRIBUTES = {
    "leaky_relu": {"slope": 0.1},
    "elu": {"alpha": 1.3},
    "hardtanh": {"low": -1.0, "high": 0.7},
    "gelu": {"approximate": "none"},
    "softplus": {"beta": 1.5, "threshold": 2.0},
}
UNARY = [
    op.name
    for module in (activations, elementwise, logarithms)
    for op in vars(module).values()
    if isinstance(op, ir.Op) and op.operands == ("x",) and op.differentiable
]
REFERENCES = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.1 * x),
    "elu": lambda x: np.where(x > 0, x, 1.3 * np.expm1(x)),
    "hardtanh": lambda x: np.clip(x, -1, 0.7),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x / 2 * np.array([math.erfc(-v / math.sqrt(2)) for v in x]),
    "softplus": lambda x: np.where(1.5 * x > 2, x, np.log1p(np.exp(1.5 * x)) / 1.5),
    "log_sigmoid": lambda x: -np.log1p(np.exp(-x)),
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "asin": np.arcsin,
    "acos": np.arccos,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "erfc": lambda x: np.array([math.erfc(v) for v in x]),
}


def spread(op, count=41):
    """Points of the op's domain that avoid the kinks at round numbers."""
    low, high = ir.op_named(op).domain
    return np.linspace(low, high, count) + 0.00371


@pytest.mark.parametrize("name", UNARY)
def test_values(name):
    reference = REFERENCES.get(name) or getattr(np, name)
    x = spread(name)
    attributes = ATTRIBUTES.get(name, {})
    np.testing.assert_allclose(run_op(name, x, **attributes), reference(x), rtol=1e-13, atol=1e-15)
    narrow = x.astype(np.float32)
    out = run_op(name, narrow, **attributes)
    assert out.dtype == np.float32
    expected = reference(narrow.astype(np.float64))
    np.testing.assert_allclose(out, expected, rtol=3e-6, atol=1e-7)


def test_the_lists_above_cover_the_table():
    assert {"relu", "gelu", "softplus", "erfc", "square", "sinh"} <= set(UNARY)
    assert len(UNARY) >= 21


def test_gelu_tanh():
    x = spread("gelu")
    inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    out = run_op("gelu", x, approximate="tanh")
    np.testing.assert_allclose(out, x / 2 * (1 + np.tanh(inner)), rtol=1e-13)
    gradcheck_op("gelu", [x[::5]], {"approximate": "tanh"}, second=True)
    with pytest.raises(TypeError, match=r"\[gelu\] approximate must be"):
        run_op("gelu", x, approximate="erf")


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("relu", [-np.inf, -0.5, 0, np.inf, np.nan], [0, 0, 0, np.inf, np.nan]),
        ("sigmoid", [-np.inf, -1000, 1000, np.inf, np.nan], [0, 0, 1, 1, np.nan]),
        ("log_sigmoid", [-np.inf, -1000, 1000, np.inf], [-np.inf, -1000, 0, 0]),
        ("softplus", [-1000, 1000, np.inf], [0, 1000, np.inf]),
        ("elu", [-np.inf, 1000, np.inf], [-1.3, 1000, np.inf]),
        ("asin", [-1, 1, 1.5], [-np.pi / 2, np.pi / 2, np.nan]),
        ("acos", [-1, 1, -1.5], [np.pi, 0, np.nan]),
        ("rsqrt", [0, np.inf, -1], [np.inf, 0, np.nan]),
        ("exp2", [10, -2, 2000], [1024, 0.25, np.inf]),
        ("erfc", [-np.inf, -9, 0, 40, np.inf, np.nan], [2, 2, 1, 0, 0, np.nan]),
        ("sinh", [-np.inf, 0, np.inf], [-np.inf, 0, np.inf]),
        ("hardtanh", [-np.inf, np.inf, np.nan], [-1, 0.7, np.nan]),
    ],
)
def test_special_values(name, given, expected):
    out = run_op(name, np.array(given, dtype=np.float64), **ATTRIBUTES.get(name, {}))
    np.testing.assert_allclose(out, expected, rtol=1e-15)


def test_erfc_has_no_cancellation():
    x = np.linspace(-6, 26, 200)
    np.testing.assert_allclose(run_op("erfc", x), [math.erfc(v) for v in x], rtol=1e-13)
    x = np.linspace(-3, 9, 100, dtype=np.float32)
    np.testing.assert_allclose(run_op("erfc", x), [math.erfc(v) for v in x], rtol=2e-5)


def test_relu_of_integers():
    out = run_op("relu", np.array([-3, 0, 4]))
    assert out.dtype == np.int64 and out.tolist() == [0, 0, 4]
    with pytest.raises(ir.DTypeError, match=r"\[sigmoid\] needs a floating-point .* i64\[3\]"):
        run_op("sigmoid", np.array([-3, 0, 4]))


def test_logic_takes_any_dtype():
    x, y = np.array([0.0, 0.5, np.nan]), np.array([[0], [3]])
    np.testing.assert_array_equal(run_op("logical_and", x, y), np.logical_and(x, y))
    np.testing.assert_array_equal(run_op("logical_or", x, y), np.logical_or(x, y))
    np.testing.assert_array_equal(run_op("logical_not", y), np.logical_not(y))


@pytest.mark.parametrize("name", ["isnan", "isinf", "isfinite"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
def test_tests_of_floats(name, dtype):
    values = [0, 1, 5] if dtype in ("int64", "bool") else [0, -1, np.inf, -np.inf, np.nan]
    x = np.array(values).astype(dtype)
    np.testing.assert_array_equal(run_op(name, x), getattr(np, name)(x.astype(float)))


def test_clamping():
    x = np.linspace(-2, 2, 12).reshape(3, 4)
    low, high = np.array(-0.61), np.array([0.33, 0.8, -0.9, 1.7])
    np.testing.assert_array_equal(
        run_op("clamp", x, low, high), np.minimum(np.maximum(x, low), high)
    )
    np.testing.assert_array_equal(run_op("clamp_min", x, low), np.maximum(x, low))
    np.testing.assert_array_equal(run_op("clamp_max", x, high), np.minimum(x, high))
    gradcheck_op("clamp", [x, low, high], second=True)
    gradcheck_op("clamp_min", [x, low], second=True)
    gradcheck_op("clamp_max", [x, high], second=True)


@pytest.mark.parametrize(
    ("name", "attributes", "call"),
    [
        ("relu", {}, lambda f, x: f.relu(x)),
        ("leaky_relu", {"slope": 0.2}, lambda f, x: f.leaky_relu(x, 0.2)),
        ("elu", {"alpha": 0.5}, lambda f, x: f.elu(x, 0.5)),
        ("hardtanh", {"low": -1.0, "high": 1.0}, lambda f, x: f.hardtanh(x)),
        ("silu", {}, lambda f, x: f.silu(x)),
        ("gelu", {"approximate": "none"}, lambda f, x: f.gelu(x)),
        ("gelu", {"approximate": "tanh"}, lambda f, x: f.gelu(x, approximate="tanh")),
        ("softplus", {"beta": 2.0, "threshold": 1.0}, lambda f, x: f.softplus(x, 2.0, 1.0)),
        ("log_sigmoid", {}, lambda f, x: f.logsigmoid(x)),
    ],
)
def test_as_pytorch_also_at_the_kinks(name, attributes, call):
    torch = pytest.importorskip("torch")

    x = np.array([-30.0, -1.0, -0.5, 0.0, 0.5, 1.0, 30.0])
    b = ir.Builder()
    value = b.input(ir.tensor_type(ir.f64, x.shape))
    out = b.emit(ir.op_named(name), [value], attributes).result
    (gradient,) = backward(b, {out: b.full(shape=x.shape, value=1.0, dtype=ir.f64)}, [value])
    actual = interpret(b.finish([out, gradient]), [x])
    t = torch.tensor(x, requires_grad=True)
    expected = call(torch.nn.functional, t)
    expected.sum().backward()
    np.testing.assert_allclose(actual[0], expected.detach().numpy(), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(actual[1], t.grad.numpy(), rtol=1e-12, atol=1e-15)
