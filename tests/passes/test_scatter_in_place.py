"""Scatters that update an input where it is: they copy nothing, unless something else in the kernel
still reads what they overwrite."""

import numpy as np
import pytest
from native import Native, runnable_targets

from braze.ir.interpreter import interpret
from braze.ir.loops_interpreter import run_program
from braze.ir.loops_verifier import verify_program
from braze.ir.parser import parse_graph
from braze.passes import compile_graph
from braze.runtime.cpu import host_target

PLAIN = """
graph @plain(%x: f32[50,3], %i: i64[40], %u: f32[40,3]) -> (f32[50,3] = %x) {{
  %0: f32[40,3] = mul(%u, %u)
  %1: f32[50,3] = {op}(%x, %i, %0; {attributes})
  return %1
}}
"""
# A step of an optimizer: the rows are read before they move.
READ_BEFORE = """
graph @read_before(%x: f32[50,3], %i: i64[40]) -> (f32[50,3] = %x, f32[]) {
  %0: f32[40,3] = take(%x, %i; dim=0)
  %1: f32[] = sum(%0; dims=(0,1), keepdim=false)
  %2: f32[40,3] = expand(%1; shape=(40,3))
  %3: f32[50,3] = index_add(%x, %i, %2; dim=0)
  return %3, %1
}
"""
# What is added is read from what is overwritten.
READS_ITSELF = """
graph @reads_itself(%x: f32[50,3], %i: i64[40]) -> (f32[50,3] = %x) {
  %0: f32[40,3] = take(%x, %i; dim=0)
  %1: f32[50,3] = index_add(%x, %i, %0; dim=0)
  return %1
}
"""
# The index is.
INDEX_READS_ITSELF = """
graph @index_reads_itself(%x: i64[40], %u: i64[40]) -> (i64[40] = %x) {
  %0: i64[40] = index_add(%x, %x, %u; dim=0)
  return %0
}
"""
# Not the input, but twice its elements are updated.
CHANGED = """
graph @changed(%x: f32[50,3], %i: i64[40], %u: f32[40,3]) -> (f32[50,3] = %x) {
  %0: f32[50,3] = add(%x, %x)
  %1: f32[50,3] = index_add(%0, %i, %u; dim=0)
  return %1
}
"""


# The first result dies in the second update, but each has memory of its own.
def run(text):
    """Run natively and as loops; returns how often each kernel stores."""
    graph = parse_graph(text)
    random = np.random.default_rng(0)
    inputs = [
        random.integers(0, min(30, *graph.inputs[0].type.shape[:1]), v.type.shape)
        if v.dtype.name == "i64"
        else random.integers(0, 9, v.type.shape).astype(np.float32)
        for v in graph.inputs
    ]
    wanted = interpret(graph, inputs)
    for target in runnable_targets():
        program, _ = compile_graph(graph, target)
        verify_program(program)
        outputs = [np.zeros_like(array) for array in wanted]
        native = Native(program, target).run(inputs, outputs, dict(graph.aliases))
        for found, expected in zip(native, wanted, strict=True):
            np.testing.assert_array_equal(found, expected, err_msg=target.name)
    program, _ = compile_graph(graph, host_target())
    memory = [array.copy() for array in inputs]
    outputs = [
        memory[graph.aliases[i]] if i in graph.aliases else np.zeros_like(array)
        for i, array in enumerate(wanted)
    ]
    run_program(program, memory, outputs)
    for found, expected in zip(outputs, wanted, strict=True):
        np.testing.assert_array_equal(found, expected)
    return [str(kernel).count("store ") for kernel in program.kernels()]


@pytest.mark.parametrize(("op", "attributes"), [("index_add", "dim=0"), ("index_put", "dim=0")])
def test_an_input_is_updated_where_it_is(op, attributes):
    assert run(PLAIN.format(op=op, attributes=attributes)) == [1]


@pytest.mark.parametrize(
    ("op", "attributes"),
    [("scatter_add", "dim=0"), ("scatter", "dim=0"), ("scatter_reduce", 'combine="amax", dim=0')],
)
def test_single_elements_of_an_input_are_updated_where_they_are(op, attributes):
    text = PLAIN.replace("%i: i64[40]", "%i: i64[40,3]")
    assert run(text.format(op=op, attributes=attributes)) == [1]


def test_earlier_readers_come_first():
    assert run(READ_BEFORE) == [1, 1]


@pytest.mark.parametrize("text", [READS_ITSELF, INDEX_READS_ITSELF, CHANGED])
def test_what_is_still_read_is_copied(text):
    assert sum(run(text)) > 1
