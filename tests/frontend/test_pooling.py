"""Pooling to a given size, at random steps, by norms, and backwards."""

import math

import numpy as np
import pytest

import braze
import braze.nn.functional as F
from braze import nn
from braze.autograd import gradcheck, gradgradcheck

pytestmark = pytest.mark.usefixtures("interpret")


def draw(*shape, seed=0):
    """Distinct numbers."""
    rng = np.random.default_rng(seed)
    return rng.permutation(math.prod(shape)).reshape(shape) / 7 - 3


def pooled(x, windows, reduce):
    """`reduce` over each window; `windows(plane, place)` gives slices of the plane."""
    out = []
    for plane in np.ndindex(x.shape[:2]):
        for slices in windows(plane):
            out.append(reduce(x[plane][slices]))
    return np.array(out)


def bins(size, output):
    """The slices of all bins, in row-major order."""
    for place in np.ndindex(*output):
        yield tuple(
            slice(o * n // m, -(-(o + 1) * n // m))
            for o, n, m in zip(place, size, output, strict=True)
        )


# Adaptive -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", [(3,), (6,), (3, 4), (2, 3), (9, 1), (2, 3, 2)])
def test_adaptive_pooling(output):
    size = (7, 5, 4)[: len(output)] if output != (6,) else (12,)
    x, n = draw(2, 3, *size), len(output)
    shape = (2, 3, *output)
    maxima = pooled(x, lambda _: bins(size, output), np.max).reshape(shape)
    means = pooled(x, lambda _: bins(size, output), np.mean).reshape(shape)
    t = braze.tensor(x)
    values, places = getattr(F, f"adaptive_max_pool{n}d")(t, output, return_indices=True)
    np.testing.assert_array_equal(values.numpy(), maxima)
    rows = np.take_along_axis(x.reshape(2, 3, -1), places.numpy().reshape(2, 3, -1), 2)
    np.testing.assert_array_equal(rows.reshape(shape), maxima)
    averages = getattr(F, f"adaptive_avg_pool{n}d")(t, output)
    np.testing.assert_allclose(averages.numpy(), means, rtol=1e-12)
    one = getattr(nn, f"AdaptiveMaxPool{n}d")(output)(t[0])
    np.testing.assert_array_equal(one.numpy(), maxima[0])


def test_adaptive_pooling_keeps_a_size_that_is_none_and_may_give_nothing():
    x = braze.tensor(draw(2, 3, 7, 5), requires_grad=True)
    assert F.adaptive_max_pool2d(x, (None, 2)).shape == (2, 3, 7, 2)
    assert F.adaptive_avg_pool2d(x, (3, None)).shape == (2, 3, 3, 5)
    nothing = F.adaptive_max_pool2d(x, 0)
    nothing.sum().backward()
    assert nothing.shape == (2, 3, 0, 0) and not x.grad.any()
    assert F.adaptive_max_pool2d(x[:0], 3).shape == (0, 3, 3, 3)
    assert repr(nn.AdaptiveMaxPool3d((None, 2, 3))) == "AdaptiveMaxPool3d(output_size=(None, 2, 3))"
    values, places = braze.adaptive_max_pool1d(x[0], 2)
    assert values.shape == places.shape == (3, 7, 2)


def test_gradients_of_adaptive_pooling():
    x = braze.tensor(draw(1, 2, 5, 4), requires_grad=True)
    for output in ((2, 3), (5, 2), (7, 4)):
        assert gradcheck(lambda x, o=output: F.adaptive_max_pool2d(x, o) ** 2, (x,))
        assert gradcheck(lambda x, o=output: F.adaptive_avg_pool2d(x, o) ** 2, (x,))
    assert gradgradcheck(lambda x: F.adaptive_max_pool2d(x, (2, 3)) ** 3, (x,))


# Fractional ---------------------------------------------------------------------------------------


def steps(u, size, kernel, output):
    """Starts of the windows along one dimension."""
    if output == 1:
        return [size - kernel]
    alpha = (size - kernel) / (output - 1)
    return [int((i + u) * alpha) - int(u * alpha) for i in range(output - 1)] + [size - kernel]


@pytest.mark.parametrize("n", [2, 3])
def test_fractional_max_pooling(n):
    size, kernel, output = (9, 8, 7)[:n], (2, 3, 2)[:n], (4, 5, 1)[:n]
    x, u = draw(2, 3, *size), np.random.default_rng(1).random((2, 3, n))

    def windows(plane):
        order = range(n) if n == 3 else (1, 0)
        geometry = zip(order, size, kernel, output, strict=True)
        starts = [steps(u[plane][d], s, k, o) for d, s, k, o in geometry]
        for place in np.ndindex(*output):
            yield tuple(
                slice(s[i], s[i] + k) for s, i, k in zip(starts, place, kernel, strict=True)
            )

    expected = pooled(x, windows, np.max).reshape(2, 3, *output)
    pool = getattr(F, f"fractional_max_pool{n}d")
    t, samples = braze.tensor(x), braze.tensor(u)
    values, places = pool(t, kernel, output, return_indices=True, _random_samples=samples)
    np.testing.assert_array_equal(values.numpy(), expected)
    rows = np.take_along_axis(x.reshape(2, 3, -1), places.numpy().reshape(2, 3, -1), 2)
    np.testing.assert_array_equal(rows.reshape(expected.shape), expected)
    layer = getattr(nn, f"FractionalMaxPool{n}d")(kernel, output, _random_samples=samples)
    np.testing.assert_array_equal(layer(t).numpy(), expected)
    assert list(layer.state_dict()) == ["_random_samples"]


def test_fractional_max_pooling_draws_anew():
    x = braze.tensor(draw(1, 200, 20, 20))
    braze.manual_seed(4)
    layer = nn.FractionalMaxPool2d(2, output_ratio=0.7)
    first, second = layer(x), layer(x)
    assert first.shape == (1, 200, 14, 14) and not braze.equal(first, second)
    braze.manual_seed(4)
    assert braze.equal(layer(x), first)
    assert braze.equal(F.fractional_max_pool2d(x, 1, (20, 20)), x)


# Norms, averages with a divisor, unpooling --------------------------------------------------------


def test_pooling_by_norms():
    x = np.abs(draw(2, 3, 6, 7)) + 0.1
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 3), (2, 3))[:, :, ::2, ::2]
    t = braze.tensor(x, requires_grad=True)
    for p in (1, 2, 3.5):
        expected = (windows**p).sum((-2, -1)) ** (1 / p)
        found = F.lp_pool2d(t, p, (2, 3), 2)
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-12)
    largest = F.lp_pool2d(-t, math.inf, (2, 3), 2)
    np.testing.assert_array_equal(largest.detach().numpy(), windows.max((-2, -1)))
    least = F.lp_pool2d(-t, -math.inf, (2, 3), 2)
    np.testing.assert_array_equal(least.detach().numpy(), windows.min((-2, -1)))
    assert nn.LPPool1d(2, 3, ceil_mode=True)(t[0]).shape == (3, 6, 3)
    assert gradcheck(lambda x: F.lp_pool2d(x, 2, 3, 2), (t[:1, :1].detach().requires_grad_(),))
    zero = braze.zeros(1, 1, 4, requires_grad=True)
    F.lp_pool1d(zero, 2, 2).sum().backward()
    assert zero.grad.tolist() == [[[0.0] * 4]]


def test_averages_with_a_divisor_of_ones_own():
    x = draw(2, 3, 7, 6)
    t = braze.tensor(x, requires_grad=True)
    padded = np.pad(x, [(0, 0), (0, 0), (1, 2), (1, 2)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::2, ::2]
    found = F.avg_pool2d(t, 3, 2, 1, ceil_mode=True, divisor_override=4)
    expected = windows.sum((-2, -1)) / 4
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-12)
    assert gradcheck(
        lambda x: F.avg_pool2d(x, 3, 2, 1, True, divisor_override=-3),
        (t[:1, :1].detach().requires_grad_(),),
    )
    with pytest.raises(RuntimeError, match="divisor must be not zero"):
        F.avg_pool2d(t, 2, divisor_override=0)


def test_unpooling_is_the_adjoint_of_picking_the_maxima():
    x = braze.tensor(draw(2, 3, 7, 6), requires_grad=True)
    maxima, places = F.max_pool2d(x, 3, 2, return_indices=True)
    full = F.max_unpool2d(maxima, places, 3, 2, output_size=x.shape)
    array, rows = np.zeros((2, 3, 42)), places.numpy().reshape(2, 3, -1)
    np.put_along_axis(
        array, rows, np.take_along_axis(x.detach().numpy().reshape(2, 3, -1), rows, 2), 2
    )
    np.testing.assert_array_equal(full.detach().numpy(), array.reshape(2, 3, 7, 6))
    values, own = F.max_pool2d(x.detach()[:1, :1], 2, return_indices=True)  # no index twice
    values.requires_grad_()
    assert gradgradcheck(lambda v: F.max_unpool2d(v, own, 2, None, 0, (7, 6)) ** 3, (values,))
    layer = nn.MaxUnpool2d(3, 2)
    assert repr(layer) == "MaxUnpool2d(kernel_size=(3, 3), stride=(2, 2), padding=(0, 0))"
    assert layer(maxima[0], places[0], output_size=(7, 6)).shape == (3, 7, 6)


def test_an_index_that_is_out_of_range_is_an_error_at_the_sync():
    indices = braze.tensor([[0, 5]])
    for tier in ("interpret", "compile"):
        with braze.config.using(tier=tier), pytest.raises(RuntimeError, match="index 5 is out of"):
            F.max_unpool1d(braze.ones(1, 2), indices, 2).tolist()


def test_errors():
    x, places = braze.zeros(2, 3, 6, 6), braze.zeros(2, 3, 6, 6, dtype=braze.int64)
    for error, text, call in (
        (RuntimeError, "greater than or equal to 0", lambda: F.adaptive_max_pool2d(x, -1)),
        (RuntimeError, "Expected 3D or 4D tensor", lambda: F.adaptive_max_pool2d(x[0, 0], 2)),
        (ValueError, "should be at least 3", lambda: F.adaptive_max_pool2d(x[0, 0], (2, 2))),
        (TypeError, "must be int or tuple of ints", lambda: F.adaptive_avg_pool2d(x, 2.5)),
        (TypeError, "given None", lambda: F.adaptive_max_pool1d(x[0], None)),
        (RuntimeError, "dimension 1 being empty", lambda: F.adaptive_max_pool2d(x[:, :0], 2)),
        (RuntimeError, "floating-point", lambda: F.adaptive_max_pool2d(places, 2)),
        (ValueError, "either an output_size or", lambda: F.fractional_max_pool2d(x, 2)),
        (RuntimeError, "too large relative", lambda: F.fractional_max_pool2d(x, 3, 5)),
        (
            RuntimeError,
            r"_random_samples of shape \[2, 3, 2\]",
            lambda: F.fractional_max_pool2d(x, 2, 3, _random_samples=braze.zeros(2, 2)),
        ),
        (ValueError, "between 0 and 1", lambda: nn.FractionalMaxPool2d(2, output_ratio=1.5)),
        (ValueError, "only one of", lambda: nn.FractionalMaxPool2d(2, 3, 0.5)),
        (
            ValueError,
            "dim 0 must be between",
            lambda: F.max_unpool2d(x, places, 2, output_size=(9, 12)),
        ),
        (RuntimeError, "int64 but got", lambda: F.max_unpool2d(x, places.int(), 2)),
        (RuntimeError, "same as that of the input", lambda: F.max_unpool2d(x, places[:1], 2)),
        (RuntimeError, "optional 0 dim batch size", lambda: F.max_pool2d(x[:, :0], 2)),
        (AssertionError, "k is odd", lambda: F.assert_int_or_pair((1, 2, 3), "k", "{} is odd")),
    ):  # fmt: skip
        with pytest.raises(error, match=text):
            call()


def test_compiled_as_interpreted():
    x, u = draw(2, 3, 9, 8), np.random.default_rng(2).random((2, 3, 2))

    def program():
        t = braze.tensor(x, requires_grad=True)
        maxima, places = F.max_pool2d(t, 3, 2, 1, return_indices=True)
        results = [
            *F.adaptive_max_pool2d(t, (4, 3), True),
            *F.fractional_max_pool2d(t, 2, (5, 4), None, True, braze.tensor(u)),
            F.max_unpool2d(maxima, places, 3, 2, 1, x.shape),
            F.lp_pool2d(t * t, 2, 3, 2, True),
            F.avg_pool2d(t, 3, 2, 1, True, divisor_override=5),
        ]
        floats = [r for r in results if r.requires_grad]
        assert len(floats) == 5
        sum((r.sin().sum() for r in floats), start=0.0).backward()
        return [r.detach() for r in results] + [t.grad]

    expected = [r.numpy() for r in program()]
    with braze.config.using(tier="compile"):
        found = [r.numpy() for r in program()]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12)
