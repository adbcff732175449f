"""Pooling against PyTorch and by hand; gradients of the pools and of their adjoints."""

import numpy as np
import pytest
from composites import one_op, run_op, to_primitives
from gradients import gradcheck_op

import braze.ir as ir


def sample(*shape, seed=0):
    """Distinct values, far enough apart for finite differences."""
    generator = np.random.default_rng(seed)
    return generator.permutation(int(np.prod(shape))).reshape(shape) * 0.1 - 2.0


def windows(kernel, stride=None, padding=None, dilation=None, ceil_mode=False):
    n = len(kernel)
    return {
        "kernel": kernel,
        "stride": stride or kernel,
        "padding": padding or (0,) * n,
        "dilation": dilation or (1,) * n,
        "ceil_mode": ceil_mode,
    }


# Tiling with and without rows left over, overlap, padding, dilation, ceil_mode; 1 to 3 dimensions.
CASES = [
    ((2, 3, 6), windows((2,))),
    ((2, 3, 4, 6), windows((2, 2))),
    ((1, 2, 5, 7), windows((2, 3))),
    ((1, 2, 5, 7), windows((2, 2), ceil_mode=True)),
    ((1, 2, 6, 6), windows((3, 3), (2, 2))),
    ((1, 2, 5, 6), windows((3, 3), (2, 2), (1, 1))),
    ((1, 2, 5, 6), windows((3, 2), (2, 1), (1, 0), ceil_mode=True)),
    ((2, 1, 7, 6), windows((2, 2), (3, 1), (1, 0), (2, 3))),
    ((1, 1, 9), windows((2,), (5,))),
    ((1, 1, 5), windows((2,), (2,), (1,), ceil_mode=True)),
    ((1, 1, 2, 2), windows((3, 3), (2, 2), ceil_mode=True)),
    ((1, 2, 3, 4, 5), windows((1, 2, 2))),
    ((1, 1, 3, 4, 4), windows((2, 3, 2), (1, 2, 2), (1, 1, 0))),
    ((1, 1, 7, 8), windows((7, 7), (1, 1), (3, 3))),
]
TORCH = {"kernel": "kernel_size"}


def torch_arguments(attributes):
    return {TORCH.get(name, name): value for name, value in attributes.items()}


@pytest.mark.parametrize(("shape", "attributes"), CASES)
def test_max_pool_and_its_gradients(shape, attributes):
    x = sample(*shape)
    out, indices, taps = run_op("max_pool", x, **attributes)
    planes = x.reshape(*shape[:2], -1)
    chosen = np.take_along_axis(planes, indices.reshape(*shape[:2], -1), 2)
    np.testing.assert_array_equal(chosen.reshape(out.shape), out)
    gradcheck_op("max_pool", [x], attributes, second=True)
    extra = {name: value for name, value in attributes.items() if name != "ceil_mode"}
    g = sample(*out.shape, seed=1)
    gradcheck_op("max_pool_grad", [g, taps], {"input_size": shape[2:], **extra}, second=True)
    picked = run_op("max_pool_pick", x, taps, **extra)
    np.testing.assert_allclose(picked, out)


@pytest.mark.parametrize(("shape", "attributes"), CASES)
def test_max_pool_as_pytorch(shape, attributes):
    torch = pytest.importorskip("torch")
    x = sample(*shape)
    t = torch.tensor(x, requires_grad=True)
    pool = getattr(torch.nn.functional, f"max_pool{len(shape) - 2}d")
    expected, places = pool(t, return_indices=True, **torch_arguments(attributes))
    out, indices, taps = run_op("max_pool", x, **attributes)
    np.testing.assert_array_equal(out, expected.detach().numpy())
    np.testing.assert_array_equal(indices, places.numpy())
    g = sample(*out.shape, seed=1)
    expected.backward(torch.tensor(g))
    extra = {name: value for name, value in attributes.items() if name != "ceil_mode"}
    back = run_op("max_pool_grad", g, taps, input_size=shape[2:], **extra)
    np.testing.assert_allclose(back, t.grad.numpy(), rtol=1e-12, atol=1e-12)


def test_only_dilated_or_large_windows_have_gradients_of_sums():
    names = {}
    for number in (2, 4, 5, 7, 13):
        shape, attributes = CASES[number]
        out, _, taps = run_op("max_pool", sample(*shape), **attributes)
        extra = {name: value for name, value in attributes.items() if name != "ceil_mode"}
        extra["input_size"] = shape[2:]
        graph = to_primitives(one_op("max_pool_grad", [out, taps], extra))
        names[number] = {node.op.name for node in graph.nodes}
    for number in (2, 4, 5):
        assert not names[number] & {"sum", "unwindow"}
    for number in (7, 13):
        assert {"sum", "unwindow"} <= names[number]


@pytest.mark.parametrize("dtype", ["int32", "int8", "uint8", "float32", "float16"])
def test_max_pool_of_other_dtypes(dtype):
    x = np.arange(-8, 8).reshape(1, 1, 4, 4).astype(dtype)
    attributes = windows((3, 3), (2, 2), (1, 1))
    out, _, taps = run_op("max_pool", x, **attributes)
    assert out.dtype == dtype and taps.dtype == np.uint8
    padded = np.pad(x[0, 0].astype(float), 1, constant_values=-np.inf)
    expected = [[padded[i : i + 3, j : j + 3].max() for j in (0, 2)] for i in (0, 2)]
    np.testing.assert_array_equal(out[0, 0], expected)


def test_max_pool_at_ties_and_specials():
    x = np.array([[[1.0, 1.0, np.nan, 5.0, -np.inf, -np.inf]]])
    out, indices, taps = run_op("max_pool", x, **windows((2,)))
    np.testing.assert_array_equal(out, [[[1, np.nan, -np.inf]]])
    np.testing.assert_array_equal(indices, [[[0, 2, 4]]])
    np.testing.assert_array_equal(taps, [[[0, 0, 0]]])
    _, indices, _ = run_op("max_pool", np.full((1, 1, 2), -np.inf), **windows((3,), (1,), (1,)))
    assert (indices >= 0).all() and (indices < 2).all()


def test_large_windows_have_wide_taps():
    out, _, taps = run_op("max_pool", sample(1, 1, 17, 17), **windows((17, 17)))
    assert taps.dtype == np.int32 and out.shape == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("shape", "attributes", "text"),
    [
        ((1, 1, 4, 4), windows((2, 2), padding=(2, 0)), "padding must be at most half the kernel"),
        ((1, 1, 2, 2), windows((3, 3)), r"kernel \(3, 3\) with dilation \(1, 1\) does not fit"),
        ((1, 1, 4, 4), windows((2,)), r"\[max_pool\] stride needs 2 numbers"),
        ((4, 4), windows((2, 2)), r"\[max_pool\] needs \[N, C\] and 1 to 3 spatial dimensions"),
    ],
)
def test_errors(shape, attributes, text):
    with pytest.raises(ir.ShapeError, match=text):
        run_op("max_pool", sample(*shape), **attributes)


AVERAGE = [case for case in CASES if set(case[1]["dilation"]) == {1}]


@pytest.mark.parametrize(("shape", "attributes"), AVERAGE)
@pytest.mark.parametrize("include", [True, False])
def test_avg_pool(shape, attributes, include):
    attributes = {**attributes, "count_include_pad": include}
    del attributes["dilation"]
    x = sample(*shape)
    out = run_op("avg_pool", x, **attributes)
    gradcheck_op("avg_pool", [x], attributes, second=True)
    extra = {"input_size": shape[2:], **attributes}
    gradcheck_op("avg_pool_grad", [sample(*out.shape)], extra, second=True)
    torch = pytest.importorskip("torch")
    pool = getattr(torch.nn.functional, f"avg_pool{len(shape) - 2}d")
    expected = pool(torch.tensor(x), **torch_arguments(attributes)).numpy()
    np.testing.assert_allclose(out, expected, rtol=1e-12)


ADAPTIVE = [
    ((2, 3, 6), (2,)),
    ((2, 3, 4, 6), (1, 1)),
    ((1, 2, 4, 6), (2, 3)),
    ((1, 2, 5, 7), (3, 2)),
    ((1, 2, 3, 4), (5, 4)),
    ((1, 1, 3, 4, 5), (2, 2, 5)),
]


@pytest.mark.parametrize(("shape", "output"), ADAPTIVE)
def test_adaptive_avg_pool(shape, output):
    x = sample(*shape)
    out = run_op("adaptive_avg_pool", x, output=output)
    gradcheck_op("adaptive_avg_pool", [x], {"output": output}, second=True)
    extra = {"input_size": shape[2:]}
    gradcheck_op("adaptive_avg_pool_grad", [sample(*out.shape)], extra, second=True)
    torch = pytest.importorskip("torch")
    pool = getattr(torch.nn.functional, f"adaptive_avg_pool{len(shape) - 2}d")
    np.testing.assert_allclose(out, pool(torch.tensor(x), output).numpy(), rtol=1e-12)


def test_pooling_in_narrow_floats_is_summed_in_f32():
    x = np.full((1, 1, 300, 300), 1.0, dtype=np.float16)
    assert run_op("adaptive_avg_pool", x, output=(1, 1)).item() == 1
    attributes = {**windows((300, 300)), "count_include_pad": True}
    del attributes["dilation"]
    assert run_op("avg_pool", x, **attributes).item() == 1
