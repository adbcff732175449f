"""Weights in fewer bits: what is stored, who gets which scales, and what is left alone."""

import ml_dtypes
import numpy as np
import pytest

import braze.ir as ir
from braze.ir.builder import Builder
from braze.ir.dtypes import bf16, f32, i8
from braze.ir.interpreter import interpret
from braze.ir.loops import Contraction
from braze.ir.target import named_target
from braze.ir.verifier import verify
from braze.passes import compile_graph, fold_known
from braze.passes.narrow_weights import narrow_weights

TARGET = named_target("x86-64-v3")


def weight(b, name, *shape, dtype=f32):
    return b.input(ir.tensor_type(dtype, shape), role="param", name=name)


def data(b, name, *shape, dtype=f32):
    return b.input(ir.tensor_type(dtype, shape), name=name)


def arrays_of(graph):
    rng = np.random.default_rng(0)
    return {
        v.name: (rng.standard_normal(v.shape) * (1 + 9 * rng.random((*v.shape[:-1], 1)))).astype(
            v.dtype.numpy
        )
        for v, role in zip(graph.inputs, graph.roles, strict=True)
        if role == "param"
    }


def quantised(array, channels):
    """The definition, written out."""
    summed = tuple(i for i in range(array.ndim) if i not in channels)
    scale = np.abs(array).max(axis=summed, keepdims=True) / np.float32(127)
    return np.rint(array / scale).astype(np.int8), scale


def checked(graph, dtype, channels=None, tolerance=1e-5):
    """Narrow the weights, and compare with the graph given the weights that are meant.

    channels: weight -> its channels, for i8.
    """
    arrays = arrays_of(graph)
    new, known, found = narrow_weights(graph, arrays, dtype)
    verify(new)
    decoded = dict(arrays)
    for name, narrow in found.items():
        if dtype is bf16:
            decoded[name] = arrays[name].astype(ml_dtypes.bfloat16).astype(np.float32)
            assert narrow.scale is None and narrow.stored.dtype == ml_dtypes.bfloat16
        else:
            stored, scale = quantised(arrays[name], channels[name])
            np.testing.assert_array_equal(narrow.stored, stored)
            np.testing.assert_allclose(narrow.scale, scale, rtol=1e-6)
            decoded[name] = stored * scale
        np.testing.assert_allclose(narrow.decoded, decoded[name], rtol=1e-6)
        assert known[name] is narrow.stored and narrow.original is arrays[name]
    rng = np.random.default_rng(1)
    given = {}
    for v in graph.inputs:
        whole = rng.integers(0, 3, v.shape) if v.dtype.is_integer else rng.standard_normal(v.shape)
        given[v.name] = decoded.get(v.name, whole.astype(v.dtype.numpy))
    wanted = interpret(graph, [given[v.name] for v in graph.inputs])
    result = interpret(new, [known.get(v.name, given.get(v.name)) for v in new.inputs])
    for a, b in zip(result, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())
    assert [v.name for v in new.inputs if v.name not in known] == [
        v.name for v in graph.inputs if v.name not in arrays
    ]
    return new, known, found


def stored(graph):
    return {v.name: v.dtype.name for v in graph.inputs if v.dtype in (bf16, i8)}


def linear(b, x, w, equation="mk,nk->mn"):
    return b.contract(x, w, equation=equation)


@pytest.mark.parametrize("dtype", [bf16, i8], ids=str)
@pytest.mark.parametrize(
    ("equation", "shape", "channels"),
    [("mk,nk->mn", (6, 5), (0,)), ("mk,kn->mn", (5, 6), (1,)), ("mk,kn->nm", (5, 6), (1,))],
)
def test_a_product_and_its_bias(equation, shape, channels, dtype):
    b = Builder("g")
    x, w, c = data(b, "x", 4, 5), weight(b, "w", *shape), weight(b, "c", 6)
    y = linear(b, x, w, equation)
    y = y if equation.endswith("nm") else b.add(y, c)
    new, known, found = checked(b.finish([y]), dtype, {"w": channels})
    assert found.keys() == {"w"} and stored(new) == {"w": dtype.name}
    scales = [name for name in known if "scale" in name]
    assert len(scales) == (dtype is i8)
    if scales:
        assert known[scales[0]].size == 6


@pytest.mark.parametrize("dtype", [bf16, i8], ids=str)
def test_the_kernel_reads_what_is_stored(dtype):
    """One kernel: its operand has the narrow dtype, its epilogue the scales and the bias."""
    b = Builder("g")
    x, w, c = data(b, "x", 4, 64), weight(b, "w", 48, 64), weight(b, "c", 48)
    new, _, _ = checked(b.finish([b.relu(b.add(linear(b, x, w), c))]), dtype, {"w": (0,)})
    program, _ = compile_graph(new, TARGET)
    (kernel,) = program.kernels()
    assert isinstance(kernel, Contraction)
    assert {kernel.lhs.buffer.dtype, kernel.rhs.buffer.dtype} == {f32, dtype}
    assert program.arena_bytes == 0


@pytest.mark.parametrize("dtype", [bf16, i8], ids=str)
def test_a_convolution_after_its_normalisation_is_folded(dtype):
    b = Builder("g")
    x, w = data(b, "x", 2, 3, 8, 8), weight(b, "w", 16, 3, 3, 3)
    norm = [weight(b, name, 16) for name in "mvsh"]
    y = b.conv_no_bias(x, w, stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)
    graph = b.finish([b.batch_norm_eval(y, *norm, epsilon=1e-5)])
    arrays = arrays_of(graph)
    arrays["v"] = np.abs(arrays["v"])
    folded, held = fold_known(graph, arrays)
    new, known, found = narrow_weights(folded, held, dtype)
    ((name, narrow),) = found.items()
    assert narrow.original.size == 16 * 27 and name not in arrays
    assert not np.allclose(np.sort(narrow.original.ravel()), np.sort(arrays["w"].ravel()))
    if dtype is i8:
        assert narrow.scale.size == 16
    given = np.random.default_rng(2).standard_normal((2, 3, 8, 8)).astype(np.float32)
    decoded = {**held, name: narrow.decoded}
    (wanted,) = interpret(folded, [given, *(decoded[v.name] for v in folded.inputs[1:])])
    (result,) = interpret(new, [given, *(known[v.name] for v in new.inputs[1:])])
    np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-4)
    kernels = list(compile_graph(new, TARGET)[0].kernels())
    (kernel,) = (k for k in kernels if isinstance(k, Contraction))
    assert dtype in {kernel.lhs.buffer.dtype, kernel.rhs.buffer.dtype}


def test_movements_on_the_way_are_followed():
    """Groups of channels, in another order: the scales go through the same movements."""
    b = Builder("g")
    x, w = data(b, "x", 4, 3, 10), weight(b, "w", 12, 10)
    grouped = b.permute(b.reshape(w, shape=(3, 4, 10)), dims=(1, 2, 0))
    y = b.contract(x, grouped, equation="mgk,nkg->gnm")
    new, known, _ = checked(b.finish([y]), i8, {"w": (0,)})
    assert stored(new) == {"w": "i8"}
    (scale,) = (array for name, array in known.items() if "scale" in name)
    assert scale.shape == (3, 4, 1)


def test_tied_weights_have_one_scale_for_each_word():
    """A table whose rows are looked up, and which gives the scores."""
    b = Builder("g")
    words, table = data(b, "i", 7, dtype=ir.i64), weight(b, "t", 5, 8)
    y = linear(b, b.take(table, words, dim=0), table)
    for dtype in (bf16, i8):
        new, _, found = checked(b.finish([y]), dtype, {"t": (0,)})
        assert found.keys() == {"t"} and stored(new) == {"t": dtype.name}


def test_a_weight_that_is_used_both_ways_has_a_single_scale():
    b = Builder("g")
    x, w = data(b, "x", 4, 6), weight(b, "w", 6, 6)
    y = linear(b, linear(b, x, w), w, "mk,kn->mn")
    new, known, found = checked(b.finish([y]), i8, {"w": ()})
    assert found["w"].scale.shape == (1, 1) and stored(new) == {"w": "i8"}


@pytest.mark.parametrize("dtype", [bf16, i8], ids=str)
def test_a_weight_that_something_else_reads_too(dtype):
    """A sum of squares, and the weight itself as a result."""
    b = Builder("g")
    x, w = data(b, "x", 4, 6), weight(b, "w", 3, 6)
    total = b.sum(b.mul(w, w), dims=(0, 1), keepdim=False)
    new, _, _ = checked(b.finish([linear(b, x, w), total, w]), dtype, {"w": (0,)})
    assert stored(new) == {"w": dtype.name}


@pytest.mark.parametrize("dtype", [bf16, i8], ids=str)
def test_recurrences(dtype):
    """Of several steps, the weight is decoded once, before the first."""
    b = Builder("g")
    x, w = data(b, "x", 5, 2, 12), weight(b, "w", 3, 12)
    h, c = data(b, "h", 2, 3), data(b, "c", 2, 3)
    y, *_ = b.lstm_sequence(x, w, h, c, reverse=False)
    new, _, _ = checked(b.finish([y]), dtype, {"w": (1,)})
    assert stored(new) == {"w": dtype.name}


def test_other_weights_stay():
    b = Builder("g")
    x = data(b, "x", 4, 6)
    vector, scale = weight(b, "v", 6), weight(b, "s", 1, 6)
    whole = weight(b, "h", 6, 6, dtype=ir.f16)
    y = b.mul(b.mul(x, scale), vector)
    z = b.contract(b.cast(x, dtype=ir.f16), whole, equation="mk,kn->mn")
    graph = b.finish([y, z])
    arrays = arrays_of(graph)
    for dtype in (bf16, i8):
        _, known, found = narrow_weights(graph, arrays, dtype)
        assert not found and known == arrays


def test_zeros_and_numbers_that_have_no_scale():
    b = Builder("g")
    x, w = data(b, "x", 2, 3), weight(b, "w", 4, 3)
    graph = b.finish([linear(b, x, w)])
    array = np.array([[0, 0, 0], [1e-44, 0, 0], [1, -2, 3], [-127, 127, 0.4]], np.float32)
    _, _, found = narrow_weights(graph, {"w": array}, i8)
    narrow = found["w"]
    assert narrow.stored.tolist() == [[0, 0, 0], [0, 0, 0], [42, -85, 127], [-127, 127, 0]]
    assert np.isfinite(narrow.decoded).all() and (narrow.scale > 0).all()
    for odd in (np.inf, np.nan):
        array[0, 0] = odd
        for dtype in (bf16, i8):
            same, known, found = narrow_weights(graph, {"w": array}, dtype)
            assert same is graph and not found and known["w"] is array
    array[0, 0] = 3.4e38  # rounds to infinity in bf16
    assert not narrow_weights(graph, {"w": array}, bf16)[2]
