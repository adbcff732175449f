"""Explanations: what a difference is called, what is counted, and when a line is warned about."""

import os
import time
import warnings

import pytest

import braze.ir as ir
from braze.ir.builder import Builder
from braze.ir.fingerprint import fingerprint
from braze.ir.graph import Location
from braze.runtime.artifact import Artifact, Figures
from braze.runtime.config import config
from braze.runtime.differences import difference, nearest, place_of, signature_of
from braze.runtime.recompiles import FIRST, RecompileLog, RecompileWarning


def network(
    batch=64, width=8, dtype=ir.f32, layers=1, keep=False, dims=(1,), activation="maximum",
    role="param", swap=False, alias=False, name="net",
):  # fmt: skip
    """x * w, an activation, a sum; each operation on a line of its own."""
    b = Builder(name)
    x = b.input(ir.tensor_type(dtype, (batch, width)), name="x")
    w = b.input(ir.tensor_type(dtype, (width,)), role=role, name="w")
    line = 10

    def at():
        nonlocal line
        line += 1
        return b.at(Location("train.py", line))

    value = x
    products = []
    for _ in range(layers):
        with at():
            product = b.mul(w, value) if swap else b.mul(value, w)
            products.append(product)
        with at():
            value = getattr(b, activation)(product, x)
    with b.at(Location("train.py", 50)):
        total = b.sum(value, dims=dims, keepdim=False)
    outputs = [total, *(products if keep else [])]
    return b.finish(outputs, {0: 0} if alias else {})


def told(new, old):
    return difference(
        *(signature_of(graph, fingerprint(graph)) for graph in (network(**new), network(**old)))
    )


@pytest.mark.parametrize(
    ("new", "old", "text"),
    [
        (
            {"batch": 32},
            {},
            "mul at train.py:11: operand x is f32[32,8], was f32[64,8] (dimension 0: 32, was 64); "
            "2 more operations likewise",
        ),
        (
            {"width": 9},
            {},
            "mul at train.py:11: operand x is f32[64,9], was f32[64,8] (dimension 1: 9, was 8); "
            "2 more operations likewise",
        ),
        (
            {"dtype": ir.f64},
            {},
            "mul at train.py:11: operand x is f64[64,8], was f32[64,8] (dtype: f64, was f32); "
            "2 more operations likewise",
        ),
        ({"dims": (0,)}, {}, "sum at train.py:50: dims = (0,), was (1,)"),
        ({"layers": 2}, {}, "2 more operations, first: mul at train.py:13"),
        ({}, {"layers": 3}, "4 fewer operations, first: mul at train.py:13"),
        (
            {"activation": "minimum"},
            {},
            "1 other operation, first: minimum at train.py:12 (in place of 1, first: maximum at "
            "train.py:12)",
        ),
        ({"keep": True}, {}, "1 more result kept, first: of mul at train.py:11"),
        ({}, {"keep": True}, "1 fewer result kept, first: of mul at train.py:11"),
        ({"role": "buffer"}, {}, "input w is buffer, was param"),
        ({"alias": True}, {}, "other inputs are overwritten in place"),
        ({"batch": 8, "swap": True}, {"batch": 8}, "mul at train.py:11: operand x is f32[8], was"),
        ({}, {}, "the same graph for another target or compiler"),
    ],
)
def test_a_difference_is_told(new, old, text):
    assert told(new, old).startswith(text)


def test_other_wiring_is_told():
    def graph(first):
        b = Builder("wiring")
        x, y = (b.input(ir.tensor_type(ir.f32, (4,)), name=n) for n in "xy")
        with b.at(Location("train.py", 7)):
            return b.finish([b.mul(x if first else y, y)])

    one, two = (signature_of(graph(f), str(f)) for f in (True, False))
    assert difference(one, two) == (
        "mul at train.py:7: operand x is another value of the same type"
    )


def test_an_input_that_no_operation_reads():
    def graph(*sizes):
        b = Builder("identity")
        inputs = [b.input(ir.tensor_type(ir.f32, (n,)), name=f"x{n}") for n in sizes]
        return signature_of(b.finish(inputs), str(sizes))

    assert difference(graph(3), graph(4)) == (
        "input x3 is f32[3], was f32[4] (dimension 0: 3, was 4)"
    )
    assert difference(graph(3, 4), graph(3)) == "2 inputs, was 1"


def test_the_nearest_graph():
    known = [signature_of(network(**k), str(k)) for k in ({"layers": 4}, {}, {"batch": 128})]
    assert nearest(signature_of(network(batch=128, keep=True), ""), known) is known[2]
    assert nearest(signature_of(network(layers=5), ""), known) is known[0]
    b = Builder("other")
    x = b.input(ir.tensor_type(ir.f32, (4,)))
    other = signature_of(b.finish([b.exp(b.exp(x))]), "")
    assert nearest(other, known) is None


def test_places_are_told_from_the_working_directory():
    assert place_of(Location(os.path.join(os.getcwd(), "a", "train.py"), 3)) == "a/train.py:3"
    assert place_of(Location("/elsewhere/train.py", 3)) == "/elsewhere/train.py:3"
    assert place_of(None) == ""


def artifact(arena=1 << 20, **figures):
    return Artifact("net", "target", "main", (), (), (), arena, 0, (), Figures(**figures))


def noted(log, source="compiled", seconds=0.5, **arguments):
    graph = network(**arguments)
    made = None if source == "interpreted once" else artifact(
        kernels_before=9, kernels_after=2, bytes_before=3 << 20, lower_bound=1000
    )  # fmt: skip
    return log.note(graph, fingerprint(graph), source, seconds, made)


def test_the_page():
    log = RecompileLog()
    noted(log, "interpreted once")
    noted(log, "compiled")
    noted(log, "compiled", batch=32)
    noted(log, "disk", layers=2)
    assert str(log.explain()) == (
        """Graphs: 2 compiled in 1.000 s, 1 loaded from disk, 1 interpreted once.
Compiled 2 times: train.py:50
#1 interpreted once: 3 operations, train.py:11 to train.py:50
    new: the first graph of its kind
#2 compiled in 0.500 s: 3 operations, train.py:11 to train.py:50
    new: the first graph of its kind
    kernels: 9 before fusion, 2 after; arena: 1.0 MiB (at least 1000 B needed, 3.0 MiB without a plan)
#3 compiled in 0.500 s: 3 operations, train.py:11 to train.py:50
    new: mul at train.py:11: operand x is f32[32,8], was f32[64,8] (dimension 0: 32, was 64); 2 more operations likewise
    kernels: 9 before fusion, 2 after; arena: 1.0 MiB (at least 1000 B needed, 3.0 MiB without a plan)
#4 loaded from disk in 0.500 s: 5 operations, train.py:11 to train.py:50
    new: 2 more operations, first: mul at train.py:13
    kernels: 9 before fusion, 2 after; arena: 1.0 MiB (at least 1000 B needed, 3.0 MiB without a plan)"""  # noqa: E501
    )
    last = log.explain(1)
    assert [event.number for event in last.events] == [4]
    assert "(3 earlier events are left out.)" in repr(last)
    assert str(log.explain(0)).endswith("(4 earlier events are left out.)")


def test_a_graph_keeps_its_reason():
    """Interpreted at first and compiled later: the reason is why it was new at first sight."""
    log = RecompileLog()
    noted(log, batch=16)
    first = noted(log, "interpreted once", batch=17)
    for batch in range(18, 30):
        noted(log, "interpreted once", batch=batch)
    assert noted(log, batch=17).difference == first.difference
    assert "dimension 0: 17, was 16" in first.difference


def test_an_empty_graph_and_an_unknown_line():
    log = RecompileLog()
    b = Builder("identity")
    graph = b.finish([b.input(ir.tensor_type(ir.f32, ()))])
    event = log.note(graph, "f", "compiled", 0.1, artifact())
    assert event.difference == FIRST
    assert "0 operations, unknown lines" in str(event)


def test_a_line_compiled_again_and_again_is_warned_about_once():
    log = RecompileLog()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for batch in range(1, 9):
            noted(log, batch=batch)
            noted(log, "disk", batch=100 + batch)
            noted(log, "interpreted once", batch=200 + batch)
    with pytest.warns(RecompileWarning) as caught:
        for batch in range(9, 30):
            noted(log, batch=batch)
    (warning,) = caught
    text = str(warning.message)
    assert text.startswith("train.py:50 has been compiled 9 times; new this time: mul at train.py")
    assert "pad it" in text and "braze.explain()" in text


def test_a_line_of_other_operations_is_not_told_to_pad():
    """As of L-BFGS, which is a dozen graphs, each of them once."""
    log = RecompileLog()
    with pytest.warns(RecompileWarning, match="ends by itself") as caught:
        for turns in range(1, 12):
            b = Builder("step")
            x = b.input(ir.tensor_type(ir.f32, (4,)))
            with b.at(Location("train.py", 50)):
                for _ in range(turns):
                    x = b.exp(x)
            graph = b.finish([x])
            log.note(graph, fingerprint(graph), "compiled")
    (warning,) = caught
    assert "1 more operation" in str(warning.message) and "pad it" not in str(warning.message)


def test_the_warning_can_be_turned_off():
    log = RecompileLog()
    with warnings.catch_warnings(), config.using(recompile_limit=0):
        warnings.simplefilter("error")
        for batch in range(1, 30):
            noted(log, batch=batch)
    with config.using(recompile_limit=1), pytest.warns(RecompileWarning, match="compiled 30 times"):
        noted(log, batch=31)


def test_events_are_bounded():
    log = RecompileLog()
    with config.using(recompile_limit=0):
        for batch in range(1, 1200):
            noted(log, batch=batch)
    page = log.explain()
    assert len(page.events) == 1000 and page.left_out == 199
    assert page.totals["compiled"] == 1199
    log.clear()
    assert str(log.explain()) == (
        "Graphs: 0 compiled in 0.000 s, 0 loaded from disk, 0 interpreted once."
    )


def test_large_graphs_are_compared_quickly():
    log = RecompileLog()
    with config.using(recompile_limit=0):
        for layers in range(20):
            noted(log, layers=400 + layers)
        start = time.perf_counter()
        event = noted(log, layers=450, activation="minimum")
        assert time.perf_counter() - start < 2
    assert event.difference.startswith("481 other operations, first: minimum at train.py:12 (in")


def test_a_reordered_large_graph():
    names = ["exp", "tanh"] * 200

    def graph(names):
        b = Builder("order")
        value = b.input(ir.tensor_type(ir.f32, (4,)))
        for name in names:
            value = getattr(b, name)(value)
        return signature_of(b.finish([value]), "")

    new, old = graph(names), graph(names[::-1])
    assert difference(new, old) == "the same operations in another order"
