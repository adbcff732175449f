"""Elementwise functions against PyTorch, where it is installed: values, gradients, dtypes."""

import numpy as np
import pytest

import braze

torch = pytest.importorskip("torch")

POINTS = np.array([-2.5, -1.0, -0.3, 0.0, 0.4, 0.9, 1.0, 3.7])
UNARY = (
    "lgamma digamma erfinv i0 sinc frac asinh atanh log2 log10 exp2 erfc signbit isposinf deg2rad "
    "rad2deg nan_to_num logit"
).split()
SPECIAL = "erfcx ndtr ndtri log_ndtr i0e i1 i1e entr".split()
PAIRS = (
    "fmod remainder hypot copysign logaddexp logaddexp2 xlogy fmax fmin floor_divide atan2 "
    "nextafter logical_xor float_power"
).split()


def compare(ours, theirs, gradients, what):
    assert str(ours.dtype).split(".")[1] == str(theirs.dtype).split(".")[1], what
    expected = theirs.detach().numpy()
    np.testing.assert_allclose(
        ours.numpy(force=True), expected, rtol=1e-11, atol=1e-16, err_msg=what
    )
    if theirs.requires_grad:
        weights = np.linspace(0.5, 1.5, expected.size).reshape(expected.shape)
        (ours * braze.tensor(weights)).sum().backward()
        (theirs * torch.tensor(weights)).sum().backward()
        for a, t in gradients:
            np.testing.assert_allclose(
                a.grad.numpy(), t.grad.numpy(), rtol=1e-9, atol=1e-12, err_msg=f"d {what}"
            )


@pytest.mark.parametrize("name", [*UNARY, *SPECIAL])
def test_one_operand(name):
    ours, theirs = (braze.special, torch.special) if name in SPECIAL else (braze, torch)
    # At a pole of digamma PyTorch's derivative is large, not infinite.
    x = POINTS[POINTS != -1.0] if name == "digamma" else POINTS
    a = braze.tensor(x, requires_grad=True)
    t = torch.tensor(x, requires_grad=True)
    compare(getattr(ours, name)(a), getattr(theirs, name)(t), [(a, t)], name)


@pytest.mark.parametrize("name", PAIRS)
def test_two_operands(name):
    x, y = (v.reshape(-1) for v in np.meshgrid(POINTS, POINTS[[0, 2, 4, 7]] + 0.01))
    differentiable = name not in ("floor_divide", "nextafter", "float_power")
    a, b = (braze.tensor(v, requires_grad=differentiable) for v in (x, y))
    t, u = (torch.tensor(v, requires_grad=differentiable) for v in (x, y))
    compare(getattr(braze, name)(a, b), getattr(torch, name)(t, u), [(a, t), (b, u)], name)


@pytest.mark.parametrize("dtypes", [("int64", "int64"), ("uint8", "int8"), ("int32", "float32")])
@pytest.mark.parametrize("name", "fmod remainder floor_divide true_divide maximum add pow".split())
def test_promotion(name, dtypes):
    x, y = np.array([7, 8, 100, 3]), np.array([2, 3, 7, 1])
    ours = getattr(braze, name)(
        *(braze.tensor(v).to(getattr(braze, d)) for v, d in zip((x, y), dtypes, strict=True))
    )
    theirs = getattr(torch, name)(
        *(torch.tensor(v).to(getattr(torch, d)) for v, d in zip((x, y), dtypes, strict=True))
    )
    assert ours.dtype.public_name == str(theirs.dtype).split(".")[1]
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6)
