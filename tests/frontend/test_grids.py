"""grid_sample and affine_grid against loops over the neighbours of each place."""

import itertools
import math
import warnings

import numpy as np
import pytest

import braze
import braze.nn.functional as F
from braze.autograd import gradcheck, gradgradcheck

pytestmark = pytest.mark.usefixtures("interpret")


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def keys(x):
    """Keys' kernel with a = -0.75."""
    x = abs(x)
    if x < 1:
        return 1.25 * x**3 - 2.25 * x**2 + 1
    return -0.75 * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def reflected(x, low, high):
    """x after as many reflections as it takes."""
    if low == high:
        return low
    while not low <= x <= high:
        x = 2 * low - x if x < low else 2 * high - x
    return x


def padded(x, size, padding, aligned):
    if padding == "zeros":
        return x
    if padding == "reflection":
        x = reflected(x, *((0, size - 1) if aligned else (-0.5, size - 0.5)))
    return min(max(x, 0), size - 1)


def taps(place, size, mode, padding, aligned):
    """(element, weight) of the neighbours along one dimension; no element where zeros are read."""
    x = (place + 1) / 2 * (size - 1) if aligned else ((place + 1) * size - 1) / 2
    if mode != "bicubic":
        x = padded(x, size, padding, aligned)
    left = math.floor(x)
    if mode == "nearest":
        found = [(round(x), 1.0)]
    elif mode == "bilinear":
        found = [(left, 1 - (x - left)), (left + 1, x - left)]
    else:
        found = [
            (padded(i, size, padding, aligned), keys(x - i)) for i in range(left - 1, left + 3)
        ]
    return [(int(i), w) for i, w in found if 0 <= i <= size - 1]


def sampled(x, grid, mode, padding, aligned):
    out = np.zeros((*x.shape[:2], *grid.shape[1:-1]))
    for n, *to in np.ndindex(*grid.shape[:-1]):
        places = grid[(n, *to)][::-1]
        each = [
            taps(p, s, mode, padding, aligned) for p, s in zip(places, x.shape[2:], strict=True)
        ]
        for picked in itertools.product(*each):
            at, weights = zip(*picked, strict=True)
            out[(n, slice(None), *to)] += math.prod(weights) * x[(n, slice(None), *at)]
    return out


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("aligned", [True, False])
def test_values(padding, aligned):
    x, grid = draw(2, 3, 4, 5), draw(2, 3, 2, 2, seed=1) * 1.3
    volume, places = draw(1, 2, 3, 4, 2), draw(1, 2, 2, 3, 3, seed=2) * 1.3
    for mode in ("bilinear", "nearest", "bicubic"):
        found = F.grid_sample(braze.tensor(x), braze.tensor(grid), mode, padding, aligned)
        np.testing.assert_allclose(found.numpy(), sampled(x, grid, mode, padding, aligned),
                                   atol=1e-12)  # fmt: skip
        if mode != "bicubic":
            found = F.grid_sample(
                braze.tensor(volume), braze.tensor(places), mode, padding, aligned
            )
            expected = sampled(volume, places, mode, padding, aligned)
            np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_gradients():
    x = braze.tensor(draw(1, 2, 3, 4), requires_grad=True)
    grid = braze.tensor(draw(1, 2, 3, 2, seed=3) * 0.9, requires_grad=True)
    for mode, padding in [("bilinear", "zeros"), ("bicubic", "border"), ("bilinear", "reflection")]:
        f = lambda x, g, a=(mode, padding, False): F.grid_sample(x, g, *a)  # noqa: E731
        assert gradcheck(f, (x, grid)) and gradgradcheck(f, (x, grid), fast_mode=True)
    F.grid_sample(x, grid, "nearest", align_corners=False).sum().backward()
    assert not grid.grad.any() and x.grad.sum().item() == pytest.approx(
        2 * (grid.detach().abs() <= 1).all(-1).sum().item()
    )


def test_no_gradient_flows_at_the_edges_of_a_border():
    x = braze.tensor([[[[1.0, 3.0]]]])
    grid = braze.tensor([[[[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]]], requires_grad=True)
    F.grid_sample(x, grid, padding_mode="border", align_corners=True).sum().backward()
    assert grid.grad[0, 0, :, 0].tolist() == [0.0, 1.0, 0.0]


def test_compiled_with_one_gather():
    x, grid = draw(2, 3, 9, 8).astype(np.float32), draw(2, 7, 5, 2, seed=1).astype(np.float32)
    f = lambda x, g: F.grid_sample(x, g, align_corners=False)  # noqa: E731
    with braze.config.using(tier="compile"):
        t, g = (braze.tensor(a, requires_grad=True) for a in (x, grid))
        y = f(t, g)
        slopes = braze.autograd.grad((y * y).sum(), (t, g))
        found = [a.detach().numpy() for a in (y, *slopes)]
    y = f(t, g)
    expected = [y, *braze.autograd.grad((y * y).sum(), (t, g))]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        found[0], sampled(x, grid, "bilinear", "zeros", False), rtol=1e-4, atol=1e-5
    )
    assert braze.inspect(f, t, g)["dce"].count("take_along(") == 1


def test_places_that_are_no_numbers():
    x = braze.ones(1, 1, 2, 2)
    grid = braze.tensor([[[[math.nan, 0.0], [0.0, math.inf]]]])
    for mode in ("bilinear", "nearest"):
        found = F.grid_sample(x, grid, mode, "border", False).tolist()
        assert found == [[[[1.0, 1.0]]]]
    assert F.grid_sample(x, grid, "nearest", "zeros", False).tolist() == [[[[0.0, 0.0]]]]
    assert F.grid_sample(x, grid, "bilinear", "zeros", False).isnan().all()


def test_affine_grids():
    theta = draw(2, 2, 3)
    for aligned in (True, False):
        found = F.affine_grid(braze.tensor(theta), (2, 1, 3, 4), aligned).numpy()
        for n, i, j in np.ndindex(2, 3, 4):
            x, y = (j / 1.5 - 1, i - 1) if aligned else ((2 * j + 1) / 4 - 1, (2 * i + 1) / 3 - 1)
            np.testing.assert_allclose(found[n, i, j], theta[n] @ [x, y, 1.0], atol=1e-12)
    volume = F.affine_grid(braze.eye(3, 4)[None], (1, 1, 2, 3, 4), True)
    assert volume[0, 1, 0, 3].tolist() == [1.0, -1.0, 1.0]
    assert gradcheck(
        lambda t: F.affine_grid(t, (2, 1, 2, 2), False), braze.tensor(theta, requires_grad=True)
    )


def test_the_identity_gives_the_image_back():
    x = draw(1, 2, 4, 5)
    for aligned in (True, False):
        grid = F.affine_grid(braze.eye(2, 3, dtype=braze.float64)[None], x.shape, aligned)
        found = F.grid_sample(braze.tensor(x), grid, align_corners=aligned)
        np.testing.assert_allclose(found.numpy(), x, atol=1e-12)


def test_errors():
    x, grid = braze.zeros(2, 3, 4, 5), braze.zeros(2, 3, 2, 2)
    for error, text, call in [
        (ValueError, "expected mode to be", lambda: F.grid_sample(x, grid, "linear")),
        (ValueError, "expected padding_mode", lambda: F.grid_sample(x, grid, "nearest", "wrap")),
        (RuntimeError, "same dtype", lambda: F.grid_sample(x, grid.double(), align_corners=True)),
        (RuntimeError, "same batch size", lambda: braze.grid_sampler(x, grid[:1], 0, 0, True)),
        (RuntimeError, "size 2 in last", lambda: braze.grid_sampler(x, x[..., :3], 0, 0, True)),
        (RuntimeError, "expected 5D", lambda: braze.grid_sampler_3d(x, grid, 0, 0, True)),
        (RuntimeError, "numbers from 0 to 2", lambda: braze.grid_sampler_2d(x, grid, 3, 0, True)),
        (ValueError, "Nx2x3", lambda: F.affine_grid(braze.zeros(2, 3, 4), (2, 1, 3, 3), True)),
        (ValueError, "floating point type", lambda: F.affine_grid(grid.long(), (2, 1, 3, 3), True)),
        (NotImplementedError, "4D and 5D", lambda: F.affine_grid(grid, (2, 1, 3), True)),
    ]:
        with pytest.raises(error, match=text):
            call()
    with pytest.warns(UserWarning, match="align_corners=False since 1.3.0"):
        F.grid_sample(x, grid)


def test_warnings_name_the_user_s_line():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        F.grid_sample(braze.zeros(1, 1, 2, 2), braze.zeros(1, 1, 1, 2))
        F.affine_grid(braze.zeros(1, 2, 3), (1, 1, 2, 2))
    assert [warning.filename for warning in seen] == [__file__] * 2
