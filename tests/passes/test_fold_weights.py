"""Graphs for inference: what depends on weights alone is computed, factors are in the weights."""

import numpy as np
import pytest

import braze.ir as ir
from braze.ir.builder import Builder
from braze.ir.interpreter import interpret
from braze.ir.verifier import verify
from braze.passes import Choices, fold_known
from braze.passes.decompose import decompose
from braze.passes.inline_steps import inline_steps
from braze.passes.order_operands import order_operands


def values(type, seed):
    rng = np.random.default_rng(seed)
    if type.dtype.is_floating_point:
        return rng.uniform(0.5, 1.5, type.shape).astype(type.dtype.numpy)
    return rng.integers(0, 3, type.shape).astype(type.dtype.numpy)


def folded(graph, tolerance=2e-6):
    """The folded graph, which computes what the graph does, and its weights."""
    arrays = {
        value.name: values(value.type, i)
        for i, (value, role) in enumerate(zip(graph.inputs, graph.roles, strict=True))
        if role == "param"
    }
    new, weights = fold_known(graph, arrays)
    verify(new)
    given = {v.name: values(v.type, 50 + i) for i, v in enumerate(graph.inputs)} | arrays
    wanted = interpret(graph, [given[v.name] for v in graph.inputs])
    found = interpret(new, [weights.get(v.name, given.get(v.name)) for v in new.inputs])
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    arguments = [v.name for v in graph.inputs if v.name not in arrays]
    assert [v.name for v in new.inputs][: len(arguments)] == arguments
    return new, weights


def names(graph):
    return [node.op.name for node in graph.nodes if not node.op.is_movement]


def weight(b, name, *shape, dtype=ir.f32):
    return b.input(ir.tensor_type(dtype, shape), role="param", name=name)


def data(b, name, *shape, dtype=ir.f32):
    return b.input(ir.tensor_type(dtype, shape), name=name)


def normalised(b, x, channels, dtype=ir.f32):
    mean, variance, scale, shift = (weight(b, n, channels, dtype=dtype) for n in "mvsh")
    return b.batch_norm_eval(x, mean, variance, scale, shift, epsilon=1e-5)


@pytest.mark.parametrize("dtype", [ir.f32, ir.f64])
@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("bias", [False, True])
def test_a_batch_norm_after_a_convolution_is_one_summand(groups, bias, dtype):
    b = Builder("g")
    x = data(b, "x", 2, 8, 5, 6, dtype=dtype)
    w = weight(b, "w", 16, 8 // groups, 3, 3, dtype=dtype)
    geometry = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": groups}
    y = b.conv_no_bias(x, w, **geometry)
    if bias:
        y = b.add(y, b.reshape(weight(b, "b", 16, dtype=dtype), shape=(1, 16, 1, 1)))
    new, weights = folded(b.finish([b.relu(normalised(b, y, 16, dtype))]))
    left = [name for name in names(new) if name not in ("constant", "cast")]
    assert left in (["contract", "add", "maximum"], ["mul", "sum", "add", "maximum"])
    assert sum(array.size for array in weights.values()) == w.type.numel + 16


def test_a_depthwise_convolution_takes_the_factor_too():
    b = Builder("g")
    x, w = data(b, "x", 1, 32, 40, 40), weight(b, "w", 32, 1, 3, 3)
    geometry = {"stride": (2, 2), "padding": (1, 1), "dilation": (1, 1), "groups": 32}
    new, _ = folded(b.finish([normalised(b, b.conv_no_bias(x, w, **geometry), 32)]))
    assert names(new) == ["mul", "sum", "add"]
    # The taps lie outermost in memory already, so nothing is copied at run time.
    assert names(order_operands(new)) == ["mul", "sum", "add"]


def test_every_step_of_a_chain():
    b = Builder("g")
    x, w = data(b, "x", 4, 6), weight(b, "w", 5, 6)
    c = [weight(b, f"c{i}", *shape) for i, shape in enumerate([(5,), (1, 5), (4, 5), (), (5,)])]
    y = b.linear(x, w, c[0])
    y = b.sub(c[1], b.div(b.mul(b.sub(y, c[2]), c[4]), c[3]))
    new, _ = folded(b.finish([b.permute(b.mul(2.0, y), dims=(1, 0))]), 1e-5)
    assert names(new) == ["contract", "add"]


def test_a_factor_along_another_dimension_stays():
    b = Builder("g")
    x, w, s = data(b, "x", 4, 6), weight(b, "w", 5, 6), weight(b, "s", 4, 1)
    new, _ = folded(b.finish([b.mul(b.contract(x, w, equation="mk,nk->mn"), s)]))
    assert names(new) == ["contract", "mul"]


def test_a_product_that_is_read_twice_stays():
    b = Builder("g")
    x, w, s = data(b, "x", 4, 6), weight(b, "w", 5, 6), weight(b, "s", 5)
    y = b.contract(x, w, equation="mk,nk->mn")
    new, _ = folded(b.finish([b.mul(y, s), y]))
    assert names(new) == ["contract", "mul"]


def test_narrow_weights_are_not_rounded_again():
    b = Builder("g")
    x, w = data(b, "x", 4, 6, dtype=ir.bf16), weight(b, "w", 5, 6, dtype=ir.bf16)
    s = weight(b, "s", 5, dtype=ir.bf16)
    new, _ = folded(b.finish([b.mul(b.contract(x, w, equation="mk,nk->mn"), s)]), 1e-1)
    assert names(new) == ["contract", "mul"]


def test_nothing_grows():
    b = Builder("g")
    x = data(b, "x", 64, 100)
    spread = b.expand(weight(b, "b", 100), shape=(64, 100))
    wide = b.cast(weight(b, "n", 100, dtype=ir.bf16), dtype=ir.f32)
    left, right = weight(b, "l", 64, 1), weight(b, "r", 1, 100)
    made = b.exp(b.mul(left, right))
    new, weights = folded(b.finish([b.add(b.mul(b.add(x, spread), wide), made)]), 1e-5)
    assert {array.size for array in weights.values()} <= {64, 100}
    assert weights["n"].dtype == ir.bf16.numpy


def test_what_kernels_cannot_read_in_place_is_stored_in_order():
    b = Builder("g")
    x, w, h = data(b, "x", 3, 2, 4), weight(b, "w", 4, 4), data(b, "h", 2, 4)
    y = b.rnn_sequence(x, b.permute(w, dims=(1, 0)), h, nonlinearity="tanh", reverse=False)
    new, weights = folded(b.finish([y]))
    assert [node.op.name for node in new.nodes] == ["rnn_sequence"]
    np.testing.assert_array_equal(weights["folded0"], values(w.type, 1).T)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_single_step_is_no_loop(reverse):
    b = Builder("g")
    x, w = data(b, "x", 1, 2, 12), weight(b, "w", 3, 12)
    h, c = data(b, "h", 2, 3), data(b, "c", 2, 3)
    y, cell, gates = b.lstm_sequence(x, w, h, c, reverse=reverse)
    graph = b.finish([y, cell, gates])
    assert "lstm_sequence" not in names(folded(graph)[0])
    assert "lstm_sequence" in names(decompose(graph))


def test_results_in_pieces_of_a_single_step():
    b = Builder("g")
    x, w, bias = data(b, "x", 1, 2, 9), weight(b, "w", 3, 9), weight(b, "b", 9)
    h, g, kept = data(b, "h", 2, 3), data(b, "g", 1, 2, 3), data(b, "k", 1, 2, 9)
    y, hidden = b.gru_sequence(x, w, bias, h, reverse=False)
    plain = b.finish([y, hidden, b.mul(g, y), kept])
    assert "gru_sequence" not in names(inline_steps(plain))
    folded(plain)


def test_other_inputs_and_outputs():
    """Known results, results that are arguments, weights that nobody reads, complex weights."""
    b = Builder("g")
    x, w = data(b, "x", 3), weight(b, "w", 3)
    weight(b, "unread", 7)
    z = b.input(ir.tensor_type(ir.c64, (3,)), role="param", name="z")
    known = b.exp(w)
    graph = b.finish([known, x, w, b.mul(b.real(z), x)])
    arrays = {"w": np.arange(3, dtype=np.float32), "unread": np.zeros(7, np.float32)}
    arrays["z"] = np.array([1 + 2j, 3, 4j], np.complex64)
    new, weights = fold_known(graph, arrays)
    verify(new)
    given = np.array([1, 2, 3], np.float32)
    found = interpret(new, [weights.get(v.name, given) for v in new.inputs])
    assert found[1].tolist() == [1, 2, 3] and found[2].tolist() == [0, 1, 2]
    np.testing.assert_allclose(found[0], np.exp(arrays["w"]), rtol=1e-6)
    assert found[3].tolist() == [1, 6, 0]
    assert "unread" not in weights


def test_of_rows_that_are_all_the_same_one_is_stored_for_many_sizes():
    """A product with a first state of zeros: it has as many rows as a call, all of them equal."""
    b = Builder("g")
    x = data(b, "x", 5, 8)
    w = weight(b, "w", 4, 8)
    state = b.expand(b.exp(weight(b, "s", 1, 4)), shape=(5, 4))
    graph = b.finish([b.add(x, b.matmul(state, w))])
    arrays = {"w": values(w.type, 1), "s": np.zeros((1, 4), np.float32)}
    given = values(x.type, 2)
    (wanted,) = interpret(graph, [given, arrays["w"], arrays["s"]])
    for choices, rows in ((None, 5), (Choices(), 1)):
        new, weights = fold_known(graph, arrays, choices=choices)
        verify(new)
        (stored,) = weights.values()
        assert stored.shape == (rows, 8)
        (found,) = interpret(new, [given, stored])
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
