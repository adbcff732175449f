"""Losses against PyTorch and by hand; their gradients, edges and errors."""

import numpy as np
import pytest
from composites import one_op, run_op, to_primitives
from gradients import backward, gradcheck_op

import braze.ir as ir
from braze.ir.interpreter import interpret


def sample(*shape, seed=0, low=-2.0, high=2.0):
    return np.random.default_rng(seed).uniform(low, high, shape)


def targets(*shape, classes, seed=0):
    return np.random.default_rng(seed).integers(0, classes, shape)


REDUCTIONS = ["none", "sum", "mean"]
# Logits, target.
SHAPES = [
    ((5,), ()),
    ((4, 5), (4,)),
    ((2, 3, 4), (2, 4)),
    ((2, 3, 2, 2), (2, 2, 2)),
    ((3, 1), (3,)),
]


def options(reduction="mean", ignore_index=-100, label_smoothing=None):
    found = {"reduction": reduction, "ignore_index": ignore_index}
    return found if label_smoothing is None else {**found, "label_smoothing": label_smoothing}


def reference(name, operands, attributes):
    """PyTorch's value and gradient for the first operand; the upstream gradient is one."""
    torch = pytest.importorskip("torch")
    x, target, *weight = (torch.tensor(operand) for operand in operands)
    x.requires_grad_()
    function = getattr(torch.nn.functional, name.removesuffix("_weighted"))
    out = function(x, target, *weight, **attributes)
    out.sum().backward()
    return out.detach().numpy(), x.grad.numpy()


def value_and_gradient(name, operands, attributes):
    b = ir.Builder()
    types = [ir.tensor_type(ir.from_numpy(a.dtype), a.shape) for a in operands]
    values = [b.input(t) for t in types]
    out = b.emit(ir.op_named(name), values, attributes).result
    one = b.full(shape=out.shape, value=1.0, dtype=out.dtype)
    gradients = backward(b, {out: one}, values[:1])
    return interpret(to_primitives(b.finish([out, *gradients])), operands)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("logits", "target"), SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore", [False, True])
def test_class_losses_as_pytorch(logits, target, reduction, weighted, ignore):
    classes = logits[0] if len(logits) == 1 else logits[1]
    x, t = sample(*logits), targets(*target, classes=classes)
    ignore_index = int(t.flat[0]) if ignore and t.size > 1 and (t != t.flat[0]).any() else -100
    if ignore and t.ndim:
        t.flat[-1] = ignore_index  # -100 itself is a valid value of the target then
    operands = [x, t, *([sample(classes, low=0.5, seed=2)] if weighted else [])]
    suffix = "_weighted" if weighted else ""
    for name, smoothing in (("nll_loss", None), ("cross_entropy", 0.0), ("cross_entropy", 0.2)):
        attributes = options(reduction, ignore_index, smoothing)
        found = value_and_gradient(name + suffix, operands, attributes)
        expected = reference(name, operands, attributes)
        for a, e in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_of_class_losses(reduction, weighted):
    x, t = sample(3, 4, 2), targets(3, 2, classes=4)
    t[0, 0] = -1
    operands = [x, t, *([np.array([0.5, 2.0, 1.0, 0.1])] if weighted else [])]
    suffix = "_weighted" if weighted else ""
    nll = options(reduction, -1)
    # The weights have no gradient, so only the first operand is checked.
    gradcheck_op(f"nll_loss{suffix}", operands, nll, second=True)
    for smoothing in (0.0, 0.3):
        attributes = options(reduction, -1, smoothing)
        gradcheck_op(f"cross_entropy{suffix}", operands, attributes, second=True)
        upstream = sample(3, 2, seed=5) if reduction == "none" else np.array(0.7)
        name = f"cross_entropy{suffix}_grad"
        gradcheck_op(name, [upstream, *operands], attributes, second=True)


def test_cross_entropy_of_large_and_narrow_logits():
    x = np.array([[1e4, 0, -1e4], [0, -np.inf, 0]], dtype=np.float32)
    out = run_op("cross_entropy", x, np.array([1, 0]), **options("none", label_smoothing=0.0))
    np.testing.assert_allclose(out, [1e4, np.log(2)], rtol=1e-6)
    narrow = x[:1].astype(np.float16)
    out = run_op("cross_entropy", narrow, np.array([0]), **options(label_smoothing=0.0))
    assert out.dtype == np.float16 and out == 0


def test_nothing_but_ignored_targets():
    x, t = sample(2, 3), np.full(2, -100)
    assert np.isnan(run_op("cross_entropy", x, t, **options(label_smoothing=0.0)))
    assert run_op("cross_entropy", x, t, **options("sum", label_smoothing=0.0)) == 0


@pytest.mark.parametrize("name", ["nll_loss", "cross_entropy"])
def test_targets_outside_the_classes_raise(name):
    extra = {"label_smoothing": 0.0} if name == "cross_entropy" else {}
    for bad in (3, -1):
        with pytest.raises(IndexError, match=rf"\[{name}\] index {bad} is out of range \[0, 3\)"):
            run_op(name, sample(2, 3), np.array([0, bad]), **options(), **extra)


def test_the_pick_is_no_gather():
    attributes = options(label_smoothing=0.0)
    graph = to_primitives(one_op("cross_entropy", [sample(2, 3), np.array([0, 1])], attributes))
    assert not {node.op.category for node in graph.nodes} & {"gather", "scatter"}


@pytest.mark.parametrize(
    ("shapes", "attributes", "error", "text"),
    [
        ([(4, 5), (3,)], options(), ir.ShapeError, r"the target must be \[4\] for f64\[4,5\]"),
        ([(4, 5), (4,), (4,)], options(), ir.ShapeError, r"the weight must be \[5\]"),
        ([(4, 5), (4,)], options("all"), TypeError, 'reduction must be "none", "sum" or "mean"'),
    ],
)
def test_errors(shapes, attributes, error, text):
    x, target = sample(*shapes[0]), targets(*shapes[1], classes=3)
    operands = [x, target, *(sample(*shape) for shape in shapes[2:])]
    with pytest.raises(error, match=text):
        run_op("nll_loss_weighted" if shapes[2:] else "nll_loss", *operands, **attributes)


def test_the_target_must_be_integers():
    with pytest.raises(ir.DTypeError, match="must hold class numbers, int64, given f64"):
        run_op("nll_loss", sample(4, 5), sample(4), **options())


ELEMENTWISE = [
    ("mse_loss", {}),
    ("l1_loss", {}),
    ("smooth_l1_loss", {"beta": 1.0}),
    ("smooth_l1_loss", {"beta": 0.3}),
    ("smooth_l1_loss", {"beta": 0.0}),
    ("binary_cross_entropy", {}),
    ("bce_with_logits", {}),
]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("name", "extra"), ELEMENTWISE)
def test_elementwise_losses(name, extra, reduction):
    x, t = sample(3, 4, low=0.05, high=0.95), sample(3, 4, seed=1, low=0.05, high=0.95)
    attributes = {"reduction": reduction, **extra}
    gradcheck_op(name, [x, t], attributes, second=True, tolerance=1e-5)
    if name == "bce_with_logits":
        x = x * 200 - 100
    found = value_and_gradient(name, [x, t], attributes)
    name = {"bce_with_logits": "binary_cross_entropy_with_logits"}.get(name, name)
    expected = reference(name, [x, t], attributes)
    for a, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_elementwise_losses_broadcast(reduction):
    x, t = sample(3, 1), sample(2, 3, 4, seed=1)
    gradcheck_op("mse_loss", [x, t], {"reduction": reduction}, second=True)
    out = run_op("mse_loss", x, t, reduction="mean")
    np.testing.assert_allclose(out, ((x - t) ** 2).mean())


def test_losses_at_kinks_and_ends_are_those_of_pytorch():
    x, t = np.array([0.0, 1.0, -1.0, 0.5]), np.array([0.0, 0.0, 0.0, 0.5])
    for name, extra in (("l1_loss", {}), ("smooth_l1_loss", {"beta": 1.0})):
        attributes = {"reduction": "sum", **extra}
        found = value_and_gradient(name, [x, t], attributes)
        for a, e in zip(found, reference(name, [x, t], attributes), strict=True):
            np.testing.assert_allclose(a, e)
    x, t = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0])
    found = value_and_gradient("binary_cross_entropy", [x, t], {"reduction": "none"})
    for a, e in zip(
        found, reference("binary_cross_entropy", [x, t], {"reduction": "none"}), strict=True
    ):
        np.testing.assert_allclose(a, e)
