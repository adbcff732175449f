"""cumsum and its kin, diff and the trapezoidal rule: values, gradients, dtypes and errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import braze
from braze.ir import DimensionError, DTypeError


@pytest.fixture(autouse=True, params=["interpret", "compile"])
def tier(request):
    braze.sync()
    with braze.config.using(tier=request.param):
        yield request.param
        braze.sync()


def draw(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-2, 2, shape)


def close(tensor, array, tolerance=1e-12):
    array = np.asarray(array)
    assert tuple(tensor.shape) == array.shape
    np.testing.assert_allclose(tensor.detach().numpy(), array, rtol=tolerance, atol=tolerance)


# Running sums, products, extrema ------------------------------------------------------------------

UFUNC = {"cumsum": np.add, "cumprod": np.multiply, "cummax": np.maximum, "cummin": np.minimum}


@pytest.mark.parametrize("name", UFUNC)
def test_values_along_every_dimension(name):
    for shape in ((5,), (3, 4), (2, 3, 4), (2, 0, 3), (1, 1)):
        x = draw(*shape)
        for dim in range(-len(shape), len(shape)):
            found = getattr(braze, name)(braze.tensor(x), dim)
            values = found if name in ("cumsum", "cumprod") else found.values
            close(values, UFUNC[name].accumulate(x, axis=dim))
            if name in ("cummax", "cummin"):
                assert found.indices.dtype is braze.int64
                places = found.indices.numpy()
                np.testing.assert_array_equal(np.take_along_axis(x, places, dim), values.numpy())


def test_the_index_is_the_last_one_and_nan_wins():
    values, indices = braze.cummax(braze.tensor([1.0, 3, 3, float("nan"), 5]), dim=0)
    np.testing.assert_array_equal(values.numpy(), [1, 3, 3, np.nan, np.nan])
    assert indices.tolist() == [0, 1, 2, 3, 3]
    assert braze.tensor([2, 1, 1]).cummin(-1).indices.tolist() == [0, 1, 2]


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int32", "int64"])
@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
def test_integers_widen(name, dtype):
    x = np.array([[1, 0, 1], [1, 1, 1]]) if dtype == "bool" else np.array([[100, 2, 3], [4, 50, 6]])
    found = getattr(braze.tensor(x).to(getattr(braze, dtype)), name)(1)
    assert found.dtype is braze.int64
    close(found, UFUNC[name].accumulate(x.astype(np.int64), axis=1))


def test_dtype_is_cast_to_before():
    x = braze.tensor([0.9, 1.9, 2.9])
    assert x.cumsum(0, dtype=braze.int32).tolist() == [0, 1, 3]
    assert braze.cumprod(braze.tensor([2, 3]), dim=0, dtype=braze.float64).dtype is braze.float64
    half = braze.ones(5000, dtype=braze.float16).cumsum(0)
    assert half.dtype is braze.float16 and half[-1].item() == 5000
    assert braze.full((2000,), 0.5, dtype=braze.bfloat16).cumsum(0)[-1].item() == 1000


def test_numbers_are_rows_of_one():
    x = braze.tensor(3.0, requires_grad=True)
    assert x.cumsum(0).shape == () and x.cumprod(-1).item() == 3
    values, indices = x.cummax(0)
    assert (values.item(), indices.item(), values.shape) == (3, 0, ())
    x.logcumsumexp(0).backward()
    assert x.grad.item() == 1


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=4),
    st.integers(-4, 3),
    st.sampled_from([*UFUNC, "logcumsumexp", "diff"]),
)
@settings(max_examples=25, deadline=None)
def test_any_shape(shape, dim, name):
    dim = dim % len(shape)
    x = draw(*shape)
    found = getattr(braze.tensor(x), name)(dim=dim)
    if name == "diff":
        close(found, np.diff(x, axis=dim) if shape[dim] else x)
    elif name == "logcumsumexp":
        close(found, np.log(np.cumsum(np.exp(x), axis=dim)))
    else:
        values = found[0] if name.startswith("cumm") else found
        close(values, UFUNC[name].accumulate(x, axis=dim))


@pytest.mark.parametrize("n", [70000, 1 << 17])
def test_long_rows(n):
    x = draw(n).astype(np.float32)
    close(braze.tensor(x).cumsum(0), np.cumsum(x, dtype=np.float64), 1e-5)
    x = np.round(x * 100)
    values, indices = braze.tensor(x).cummax(0)
    close(values, np.maximum.accumulate(x))
    last = np.maximum.accumulate(np.where(x == np.maximum.accumulate(x), np.arange(n), 0))
    np.testing.assert_array_equal(indices.numpy(), last)


def test_logcumsumexp_of_large_numbers():
    x = braze.tensor([1000.0, 1000.0, -float("inf")])
    close(braze.logcumsumexp(x, 0), 1000 + np.log([1, 2, 2]), 1e-6)


# In place -----------------------------------------------------------------------------------------


def test_in_place():
    x = braze.tensor(draw(3, 4))
    before, row = x.numpy().copy(), x[1]
    assert x.cumsum_(1) is x
    close(x, np.cumsum(before, axis=1))
    close(row, np.cumsum(before, axis=1)[1])
    x.mul_(0.5).cumprod_(0)
    close(x, np.cumprod(0.5 * np.cumsum(before, axis=1), axis=0))
    small = braze.tensor([100, 100, 100], dtype=braze.int8)
    assert small.cumsum_(0).tolist() == [100, -56, 44] and small.dtype is braze.int8


def test_in_place_errors():
    with pytest.raises(RuntimeError, match=r"\[cumsum\] is not implemented .* braze.bool"):
        braze.tensor([True]).cumsum_(0)
    with pytest.raises(RuntimeError, match="input tensor dtype braze.float32 and output tensor"):
        braze.ones(2).cumprod_(0, dtype=braze.float64)


# Gradients ----------------------------------------------------------------------------------------


def check_gradient(function, *arrays, tolerance=1e-6):
    """The gradient of a weighted sum, and that gradient's gradient, against central differences."""
    weights = None

    def first(*values, create=False):
        nonlocal weights
        xs = [braze.tensor(v, requires_grad=True) for v in values]
        out = function(*xs)
        weights = draw(*out.shape, seed=5) if weights is None else weights
        total = (out * braze.tensor(weights)).sum()
        return xs, total, braze.autograd.grad(total, xs, create_graph=create)

    xs, _, gradients = first(*arrays, create=True)
    slopes = [draw(*x.shape, seed=6) for x in arrays]
    scalar = sum((g * braze.tensor(s)).sum() for g, s in zip(gradients, slopes, strict=True))
    second = (
        braze.autograd.grad(scalar, xs) if scalar.requires_grad else [None for _ in arrays]
    )
    step = 1e-5
    for position, x in enumerate(arrays):
        numeric, curved = np.zeros(x.shape), np.zeros(x.shape)
        for place in np.ndindex(*x.shape):
            ends = []
            for sign in (1, -1):
                moved = [a.copy() for a in arrays]
                moved[position][place] += sign * step
                _, total, grads = first(*moved)
                pairs = zip(grads, slopes, strict=True)
                ends.append((total.item(), sum(float((g.numpy() * s).sum()) for g, s in pairs)))
            numeric[place] = (ends[0][0] - ends[1][0]) / (2 * step)
            curved[place] = (ends[0][1] - ends[1][1]) / (2 * step)
        close(gradients[position], numeric, tolerance)
        if second[position] is not None:
            close(second[position], curved, tolerance)
        else:
            np.testing.assert_allclose(curved, 0, atol=tolerance)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.cumsum(1),
        lambda x: x.cumprod(0),
        lambda x: x.cummax(1).values,
        lambda x: x.cummin(0)[0],
        lambda x: x.logcumsumexp(1),
        lambda x: braze.diff(x, n=2, dim=1),
        lambda x: braze.trapezoid(x, dx=0.5),
        lambda x: braze.cumulative_trapezoid(x, dim=0),
    ],
    ids=["cumsum", "cumprod", "cummax", "cummin", "logcumsumexp", "diff", "trapezoid", "areas"],
)
def test_gradients(function):
    check_gradient(function, draw(3, 4))


def test_the_gradient_of_products_with_zeros():
    x = np.array([[2.0, 0.0, 3.0, 0.5], [0.0, 1.0, 0.0, 2.0]])
    check_gradient(lambda t: t.cumprod(1), x)


def test_the_gradient_of_the_trapezoidal_rule_for_its_points():
    check_gradient(lambda y, x: braze.trapezoid(y, x), draw(2, 3), draw(3, seed=1))
    check_gradient(lambda y, x: braze.cumulative_trapezoid(y, x, dim=0), draw(3), draw(3, seed=1))


# Differences and areas ----------------------------------------------------------------------------


def test_diff():
    x = draw(3, 5)
    for n in range(6):
        close(braze.diff(braze.tensor(x), n), np.diff(x, n))
    for dim in (0, 1, -1, -2):
        close(braze.tensor(x).diff(dim=dim), np.diff(x, axis=dim))
    edge = draw(3, 2, seed=1)
    t, e = braze.tensor(x), braze.tensor(edge)
    close(braze.diff(t, prepend=e, append=e), np.diff(x, prepend=edge, append=edge))
    assert braze.diff(braze.tensor([True, False, False])).tolist() == [True, False]
    assert braze.diff(braze.tensor([1, 4, 2])).tolist() == [3, -2]
    assert braze.diff(braze.tensor([3, 1], dtype=braze.uint8)).tolist() == [254]
    assert braze.diff(braze.tensor([1, 2]), append=braze.tensor([1.5])).dtype is braze.float32


def test_trapezoid():
    y, x = draw(3, 5), np.sort(draw(5, seed=1))
    t, points = braze.tensor(y), braze.tensor(x)
    integrate = getattr(np, "trapezoid", None) or np.trapz
    close(braze.trapezoid(t), integrate(y))
    close(braze.trapezoid(t, dx=0.25, dim=0), integrate(y, dx=0.25, axis=0))
    close(braze.trapz(t, points), integrate(y, x))
    close(braze.trapezoid(t, braze.tensor(y.cumsum(1)), dim=1), integrate(y, y.cumsum(1)))
    close(braze.trapezoid(braze.tensor([1, 2, 4])), 4.5)
    close(braze.trapezoid(braze.zeros(2, 0)), [0, 0])
    areas = np.cumsum((y[:, 1:] + y[:, :-1]) / 2 * np.diff(x), axis=1)
    close(braze.cumulative_trapezoid(t, points), areas)
    close(braze.cumulative_trapezoid(t, dx=2, dim=0), np.cumsum(y[1:] + y[:-1], axis=0))
    assert braze.cumulative_trapezoid(braze.zeros(2, 1)).shape == (2, 0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: x.cumsum(2), DimensionError, r"\[cumsum\] dimension out of range .* \[-2, 1\]"),
        (lambda x: x.cummax(-3), IndexError, r"\[cummax\] dimension out of range"),
        (lambda x: x.cumsum(0, dtype=braze.bool), RuntimeError, r"\[cumsum\] is not implemented"),
        (lambda x: x.long().logcumsumexp(0), DTypeError, "needs a floating-point operand"),
        (lambda x: braze.diff(x, -1), RuntimeError, "order must be non-negative but got -1"),
        (lambda x: braze.diff(x.sum()), RuntimeError, "at least one-dimensional"),
        (lambda x: x.diff(dim=5), IndexError, r"\[diff\] dimension out of range"),
        (lambda x: x.diff(prepend=braze.zeros(3, 3)), RuntimeError, r"input f32\[2,3\], given"),
        (lambda x: x.diff(append=braze.zeros(3)), RuntimeError, "must match the input except"),
        (lambda x: braze.trapezoid(x, x, dx=1), TypeError, "either `x` or `dx`, given both"),
        (lambda x: braze.trapezoid(x, braze.zeros(5)), RuntimeError, "one `x` value for each"),
        (lambda x: braze.trapezoid(x, x[:, :2]), RuntimeError, "differ along dimension 1"),
        (lambda x: braze.trapezoid(x > 0), RuntimeError, "received a bool input"),
        (lambda x: braze.trapezoid(x.sum()), IndexError, "tensor has no dimensions"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(braze.ones(2, 3))


# Against PyTorch ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int64", "uint8", "bool"])
@pytest.mark.parametrize("name", [*UFUNC, "logcumsumexp", "diff"])
def test_like_pytorch(name, dtype):
    torch = pytest.importorskip("torch")
    if name == "logcumsumexp" and "float" not in dtype:
        return
    for shape in ((), (0,), (7,), (3, 4), (2, 0, 3)):
        if name == "diff" and not shape:
            continue
        x = np.random.default_rng(0).integers(-3, 4, shape).astype(np.float64)
        ours = getattr(braze.tensor(x).to(getattr(braze, dtype)), name)(dim=-1)
        theirs = getattr(torch.tensor(x).to(getattr(torch, dtype)), name)(dim=-1)
        if not isinstance(ours, tuple):
            ours, theirs = (ours,), (theirs,)
        for one, other in zip(ours, theirs, strict=True):
            assert repr(one.dtype).split(".")[1] == str(other.dtype).split(".")[1]
            narrow = other.dtype in (torch.float16, torch.bfloat16)
            close(one.double(), other.double().numpy(), 1e-2 if narrow else 1e-6)
