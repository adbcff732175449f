"""A check is made whatever computes the value that it reads."""

import numpy as np
import pytest
from native import Native

import braze.ir as ir
from braze.ir.interpreter import interpret
from braze.ir.loops_verifier import verify_program
from braze.passes import compile_graph
from braze.runtime.cpu import host_target


def small(b, shape=(3, 4)):
    return b.input(ir.tensor_type(ir.i64, shape))


def contraction(b):
    return b.contract(small(b), small(b, (4, 5)), equation="mk,kn->mn")


def scan(b):
    return b.cumsum(small(b), dim=1, reverse=False)


def scattered(b):
    return b.index_add(small(b), small(b, (2,)), small(b, (2, 4)), dim=0)


def sorted_values(b):
    return b.sort(small(b), dim=1, descending=False)[0]


def reduced(b):
    return b.sum(small(b), dims=(1,), keepdim=False)


def rows(b):
    x = small(b)
    return b.sub(x, b.amax(x, dims=(1,), keepdim=True))


def random(b):
    return b.cast(b.random_bits(small(b, ()), small(b, ()), shape=(40,)), dtype=ir.i64)


PRODUCERS = [contraction, scan, scattered, sorted_values, reduced, rows, random]


@pytest.mark.parametrize("between", ["at once", "behind a map", "before a reader"])
@pytest.mark.parametrize("also_read", [False, True])
@pytest.mark.parametrize("make", PRODUCERS)
def test_checks(make, also_read, between):
    b = ir.Builder(make.__name__)
    value = make(b)
    checked = value if between == "at once" else b.add(value, 1)
    b.check_range(checked, low=-(2**40), high=3, message="a test")
    outputs = [checked] if also_read else []
    if between == "before a reader" and value.type.rank == 2:
        other = b.input(ir.tensor_type(ir.i64, (value.type.shape[1], 2)))
        outputs.append(b.contract(checked, other, equation="mk,kn->mn"))
        outputs.append(b.cumsum(checked, dim=0, reverse=False))
    graph = b.finish([*outputs, b.add(b.graph.inputs[0], 1)])
    program, _ = compile_graph(graph, host_target())
    verify_program(program)
    native = Native(program)
    for number in (0, 1):
        inputs = [np.full(v.type.shape, number) for v in graph.inputs]
        outputs = [np.zeros(v.type.shape, v.dtype.numpy) for v in graph.outputs]
        try:
            expected = interpret(graph, inputs)
        except IndexError:
            native.run(inputs, outputs)
            assert native.status[0] == 1
            continue
        found = native.run(inputs, outputs)
        assert native.status[0] == 0
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
