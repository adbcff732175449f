"""Optimizer steps against PyTorch's optimizers over several steps, and by hand."""

import numpy as np
import pytest
from composites import run_op

import braze.ir as ir
from braze.ir.interpreter import decomposition
from braze.ir.op import op_named

STEPS = 4
SHAPE = (3, 5)


def sample(dtype, seed):
    return np.random.default_rng(seed).uniform(-1, 1, SHAPE).astype(dtype)


def by_torch(name, dtype, **options):
    """The parameter after each step of one of PyTorch's optimizers."""
    torch = pytest.importorskip("torch")
    param = torch.nn.Parameter(torch.tensor(sample(dtype, 0)))
    optimizer = getattr(torch.optim, name)([param], **options)
    for step in range(STEPS):
        param.grad = torch.tensor(sample(dtype, step + 1))
        optimizer.step()
        yield param.detach().numpy().copy()


def compare(expected, found, dtype):
    rtol, atol = (2e-6, 1e-7) if dtype == "float32" else (1e-12, 1e-14)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)
    assert found.dtype == dtype


def scalars(dtype, *values):
    return [np.asarray(value, dtype=dtype) for value in values]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_sgd(dtype, decay):
    param = sample(dtype, 0)
    for step, expected in enumerate(by_torch("SGD", dtype, lr=0.1, weight_decay=decay)):
        grad = sample(dtype, step + 1)
        param = run_op("sgd_step", param, grad, *scalars(dtype, 0.1, decay))
        compare(expected, param, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("dampening", "nesterov"), [(0.0, False), (0.3, False), (0.0, True)])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_sgd_with_momentum(dtype, dampening, nesterov, decay):
    options = {"lr": 0.1, "momentum": 0.9, "dampening": dampening, "weight_decay": decay}
    param, buffer = sample(dtype, 0), np.zeros(SHAPE, dtype=dtype)
    for step, expected in enumerate(by_torch("SGD", dtype, nesterov=nesterov, **options)):
        # PyTorch's first step does not dampen.
        rates = scalars(dtype, 0.1, 0.9, dampening if step else 0.0, decay)
        param, buffer = run_op(
            "sgd_momentum_step", param, sample(dtype, step + 1), buffer, *rates, nesterov=nesterov
        )
        compare(expected, param, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("scalar", ["own", "float64"])
def test_adam(dtype, decoupled, maximize, scalar):
    name, betas, decay = "AdamW" if decoupled else "Adam", (0.9, 0.999), 0.05
    options = {"lr": 0.01, "betas": betas, "weight_decay": decay, "maximize": maximize}
    param, m, v = sample(dtype, 0), np.zeros(SHAPE, dtype=dtype), np.zeros(SHAPE, dtype=dtype)
    kind = dtype if scalar == "own" else scalar
    for step, expected in enumerate(by_torch(name, dtype, **options), start=1):
        corrections = [1 - beta**step for beta in betas]
        rates = scalars(kind, 0.01, *betas, 1e-8, decay, *corrections)
        param, m, v = run_op(
            "adam_step", param, sample(dtype, step), m, v, *rates,
            decoupled=decoupled, maximize=maximize,
        )  # fmt: skip
        if kind == dtype == "float32":  # 1 - beta2 loses digits in f32
            np.testing.assert_allclose(param, expected, rtol=2e-5, atol=1e-6)
        else:
            compare(expected, param, dtype)


def test_f64_scalars_are_rounded_once():
    """(1 - 0.999) in f32 is off by 1.3e-5 of itself; in f64, rounded to f32, it is not."""
    one, zero = np.ones(1, dtype=np.float32), np.zeros(1, dtype=np.float32)
    for kind, accurate in (("float32", False), ("float64", True)):
        rates = scalars(kind, 0.1, 0.9, 0.999, 1e-8, 0.0, 0.1, 0.001)
        _, _, v = run_op(
            "adam_step", zero, one, zero, zero, *rates, decoupled=False, maximize=False
        )
        assert (v[0] == np.float32(1 - 0.999)) is np.bool_(accurate)


def test_adam_divides_once_for_each_element():
    """A division takes as long as all else that is done to a vector in the caches."""
    param, number = ir.TensorType(ir.f32, SHAPE), ir.TensorType(ir.f64, ())
    items = tuple((name, bool, False) for name in ("decoupled", "maximize"))
    graph = decomposition(op_named("adam_step"), (param,) * 4 + (number,) * 7, items)
    slow = [node.op.name for node in graph.nodes
            if node.op.name in ("div", "sqrt") and node.results[0].type.shape]  # fmt: skip
    assert sorted(slow) == ["div", "sqrt"]


@pytest.mark.parametrize(
    ("operands", "error", "text"),
    [
        (
            [np.zeros(3), np.zeros(4), 0.1, 0.0],
            ir.ShapeError,
            r"gradient f64\[4\] has not the shape",
        ),
        ([np.zeros(3), np.zeros(3, np.float32), 0.1, 0.0], ir.DTypeError, "has not the dtype"),
        (
            [np.zeros(3), np.zeros(3), np.zeros(3), 0.0],
            ir.DTypeError,
            r"must be f64\[\] or f64\[\]",
        ),
        ([np.zeros(3, int), np.zeros(3, int), 0.1, 0.0], ir.DTypeError, "needs a floating-point"),
    ],
)
def test_errors(operands, error, text):
    with pytest.raises(error, match=text):
        run_op("sgd_step", *operands)
