"""interpolate and the layers on it, against matrices written down for each dimension."""

import math

import numpy as np
import pytest

import braze
import braze.nn.functional as F
from braze import nn
from braze.autograd import gradcheck, gradgradcheck

pytestmark = pytest.mark.usefixtures("interpret")


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# Matrices [result, element] of one dimension ------------------------------------------------------


def place(o, size, output, aligned, scale=None):
    """Where a result lies, in elements of the input."""
    if aligned:
        return o * (size - 1) / (output - 1) if output > 1 else 0.0
    return (o + 0.5) * (1 / scale if scale else size / output) - 0.5


def cubic(x, a):
    x = abs(x)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def matrix(kind, size, output, aligned=False, scale=None):
    found = np.zeros((output, size))
    for o in range(output):
        at = place(o, size, output, aligned, scale)
        if kind == "linear":
            at = min(max(at, 0), size - 1)
        left = math.floor(at)
        if kind == "nearest":
            found[o, min(math.floor(o * size / output), size - 1)] = 1
            continue
        for i in range(left - 1, left + 3):
            weight = cubic(at - i, -0.75) if kind == "cubic" else max(1 - abs(at - i), 0)
            found[o, min(max(i, 0), size - 1)] += weight
    return found


def shrinking_matrix(kernel, width, size, output):
    """A kernel as wide as the results are apart, cut off at the ends, with sum 1."""
    stretch = max(size / output, 1.0)
    found = np.zeros((output, size))
    for o in range(output):
        middle = (o + 0.5) * size / output
        for i in range(size):
            if abs(i + 0.5 - middle) < width / 2 * stretch:
                found[o, i] = kernel((i + 0.5 - middle) / stretch)
    return found / found.sum(1, keepdims=True)


def along_each(x, matrices):
    for axis, m in enumerate(matrices, 2):
        x = np.moveaxis(np.tensordot(x, m, (axis, 1)), -1, axis)
    return x


def close(found, expected, **tolerance):
    np.testing.assert_allclose(found.detach().numpy(), expected, **{"atol": 1e-12} | tolerance)


# Values -------------------------------------------------------------------------------------------

KINDS = {"linear": "linear", "bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}


@pytest.mark.parametrize("mode", ["nearest", *KINDS])
def test_values_by_size(mode):
    ranks = {"linear": [1], "bilinear": [2], "trilinear": [3], "bicubic": [2]}.get(mode, [1, 2, 3])
    for rank in ranks:
        x = draw(2, 3, *(4, 5, 3)[:rank])
        for output in ((7, 3, 5)[:rank], (1,) * rank, (4, 5, 3)[:rank], (8, 10, 6)[:rank]):
            for aligned in (None,) if mode == "nearest" else (True, False):
                kind = KINDS.get(mode, mode)
                matrices = [
                    matrix(kind, n, m, bool(aligned))
                    for n, m in zip(x.shape[2:], output, strict=True)
                ]
                found = F.interpolate(braze.tensor(x), output, mode=mode, align_corners=aligned)
                close(found, along_each(x, matrices))


def test_a_factor_is_the_distance_of_the_results_unless_it_is_computed_again():
    x = draw(1, 2, 5, 4)
    given = F.interpolate(braze.tensor(x), scale_factor=(1.5, 0.7), mode="bilinear")
    close(given, along_each(x, [matrix("linear", 5, 7, scale=1.5),
                                matrix("linear", 4, 2, scale=0.7)]))  # fmt: skip
    again = F.interpolate(
        braze.tensor(x), scale_factor=(1.5, 0.7), mode="bilinear", recompute_scale_factor=True
    )
    close(again, along_each(x, [matrix("linear", 5, 7), matrix("linear", 4, 2)]))


def test_antialiasing_covers_what_lies_between_results():
    x = draw(1, 2, 11, 9)
    triangle = (lambda d: max(1 - abs(d), 0), 2)
    keys = (lambda d: cubic(d, -0.5), 4)
    lanczos = (lambda d: np.sinc(d) * np.sinc(d / 3), 6)
    for mode, (kernel, width) in [("bilinear", triangle), ("bicubic", keys), ("lanczos", lanczos)]:
        for output in ((4, 5), (3, 20)):
            matrices = [
                shrinking_matrix(kernel, width, n, m) for n, m in zip((11, 9), output, strict=True)
            ]
            found = F.interpolate(braze.tensor(x), output, mode=mode, antialias=True)
            close(found, along_each(x, matrices))


def test_area_is_the_mean_of_bins_and_nearest_exact_the_element_hit():
    x = draw(2, 1, 6)
    close(F.interpolate(braze.tensor(x), 3, mode="area"), x.reshape(2, 1, 3, 2).mean(-1))
    found = F.interpolate(braze.tensor(x), 4, mode="nearest-exact")
    close(found, x[:, :, [0, 2, 3, 5]])
    close(F.interpolate(braze.tensor(x), 4), x[:, :, [0, 1, 3, 4]])


def test_pixels_are_rounded_and_stay_in_range():
    x = braze.tensor([[[[0, 255, 0, 255]]]], dtype=braze.uint8)
    wide = F.interpolate(x, (1, 8), mode="bicubic")
    exact = along_each(x.numpy().astype(float), [np.eye(1), matrix("cubic", 4, 8)])
    assert wide.dtype is braze.uint8 and exact.min() < 0 and exact.max() > 255
    np.testing.assert_array_equal(wide.numpy(), np.floor(exact.clip(0, 255) + 0.5))
    assert F.interpolate(x, scale_factor=(1, 2)).tolist()[0][0][0] == [0, 0, 255, 255] * 2


def test_half_precision_rounds_once():
    x = draw(1, 2, 3, 3).astype(np.float16)
    found = F.interpolate(braze.tensor(x), (5, 5), mode="bilinear")
    exact = along_each(x.astype(np.float64), [matrix("linear", 3, 5)] * 2)
    assert found.dtype is braze.float16
    close(found, exact, rtol=2**-11, atol=1e-7)


def test_the_same_size_is_a_copy_and_not_finite_values_stay_where_they_are():
    x = braze.tensor(draw(1, 1, 4, 4))
    y = F.interpolate(x, (4, 4), mode="bilinear")
    assert y is not x and y.data_ptr() != x.data_ptr() and y.tolist() == x.tolist()
    x[0, 0, 0, 0] = math.inf
    wide = F.interpolate(x, scale_factor=4, mode="bilinear").numpy()[0, 0]
    assert np.isfinite(wide[6:]).all() and np.isfinite(wide[:, 6:]).all() and wide[0, 0] == math.inf


# Gradients, compiled code -------------------------------------------------------------------------


def test_gradients():
    x = braze.tensor(draw(1, 2, 4, 3), requires_grad=True)
    for options in [
        {"size": (6, 2), "mode": "bilinear"},
        {"size": (3, 7), "mode": "bicubic", "align_corners": True},
        {"scale_factor": 1.7},
        {"size": (2, 2), "mode": "bicubic", "antialias": True},
    ]:
        f = lambda x, options=options: F.interpolate(x, **options)  # noqa: E731
        assert gradcheck(f, x) and gradgradcheck(f, x)


def test_compiled_in_a_few_kernels():
    x, output = draw(2, 3, 20, 16), (40, 11)
    expected = along_each(x, [matrix("linear", 20, 40), matrix("linear", 16, 11)])
    weights = draw(*expected.shape, seed=1)
    slopes = along_each(weights, [matrix("linear", 20, 40).T, matrix("linear", 16, 11).T])
    with braze.config.using(tier="compile"):
        t = braze.tensor(x, requires_grad=True)
        y = F.interpolate(t, output, mode="bilinear")
        (y * braze.tensor(weights)).sum().backward()
        close(y, expected, rtol=1e-12)
        close(t.grad, slopes, rtol=1e-12)
    stages = braze.inspect(lambda x: F.interpolate(x, output, mode="bilinear"), t)
    assert stages["schedule"].count("= fusion(") == 2, stages["schedule"]


def test_tables_made_in_inference_mode_serve_training():
    x = braze.tensor(draw(1, 1, 9), requires_grad=True)
    with braze.inference_mode():
        F.interpolate(x, 31, mode="linear")
    F.interpolate(x, 31, mode="linear").sum().backward()
    close(x.grad, matrix("linear", 9, 31).sum(0)[None, None], rtol=1e-12)


def test_after_a_convolution_no_order_of_dimensions_is_changed_for_it():
    conv = nn.Conv2d(3, 8, 3, padding=1)
    net = nn.Sequential(conv, nn.Upsample(scale_factor=2, mode="bilinear"), nn.ReLU())
    x = braze.tensor(draw(1, 3, 8, 8), dtype=braze.float32)
    text = braze.inspect(lambda x: net(x).mean((2, 3)), x)["dce"]
    takes = [line for line in text.splitlines() if "= take(" in line]
    assert takes and all("dim=1)" in line or "dim=2)" in line for line in takes), text


# Names and errors ---------------------------------------------------------------------------------


def test_layers_and_old_names():
    x = braze.tensor(draw(1, 2, 3, 4))
    double = F.interpolate(x, scale_factor=2).tolist()
    bilinear = F.interpolate(x, (5, 6), mode="bilinear", align_corners=True).tolist()
    assert nn.UpsamplingNearest2d(scale_factor=2)(x).tolist() == double
    assert nn.UpsamplingBilinear2d((5, 6))(x).tolist() == bilinear
    assert nn.Upsample(size=(5, 6), mode="bilinear", align_corners=True)(x).tolist() == bilinear
    assert repr(nn.Upsample(scale_factor=2)) == "Upsample(scale_factor=2.0, mode='nearest')"
    for name, expected, arguments in [
        ("upsample", double, (None, 2)),
        ("upsample_nearest", double, (None, 2)),
        ("upsample_bilinear", bilinear, ((5, 6),)),
    ]:
        with pytest.warns(UserWarning, match=f"`nn.functional.{name}` is deprecated"):
            assert getattr(F, name)(x, *arguments).tolist() == expected


@pytest.mark.parametrize(
    ("error", "text", "options"),
    [
        (ValueError, "either size or scale_factor", {}),
        (ValueError, "only one of size or scale_factor", {"size": 2, "scale_factor": 2}),
        (ValueError, "same number of spatial dimensions", {"size": (2, 3, 4)}),
        (ValueError, "align_corners option", {"size": 2, "align_corners": True}),
        (ValueError, "not meaningful", {"size": 2, "recompute_scale_factor": True}),
        (ValueError, "Anti-alias option", {"size": 2, "antialias": True}),
        (ValueError, "requires antialias", {"size": 2, "mode": "lanczos"}),
        (TypeError, "to be an int or a tuple of ints", {"size": (2.5, 3)}),
        (NotImplementedError, "4D input, but linear mode needs 3D", {"size": 2, "mode": "linear"}),
        (NotImplementedError, r"got sharp", {"size": 2, "mode": "sharp"}),
        (RuntimeError, r"input \[3, 4\] output \[0, 2\]", {"size": (0, 2)}),
    ],
)  # fmt: skip
def test_errors(error, text, options):
    with pytest.raises(error, match=text):
        F.interpolate(braze.zeros(1, 2, 3, 4), **options)


def test_errors_of_dtypes():
    with pytest.raises(NotImplementedError, match="not implemented for braze.int64"):
        F.interpolate(braze.zeros(1, 2, 3, dtype=braze.int64), 2)
    with pytest.raises(TypeError, match="argument 'input'"):
        F.interpolate([1.0], 2)
