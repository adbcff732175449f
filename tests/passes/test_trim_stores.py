"""Writing to a part of an input costs what the part costs, and changes nothing else."""

import numpy as np
import pytest
from native import Native, runnable_targets

from braze.ir.interpreter import interpret
from braze.ir.loops import Loop
from braze.ir.loops_interpreter import run_program
from braze.ir.loops_verifier import verify_program
from braze.ir.parser import parse_graph
from braze.passes import compile_graph

# What is shown of x [6, 40], how it is padded to it, and how many elements are stored.
PARTS = {
    "row": ("f32[1,40]", "low=(4,0), high=(1,0), interior=(0,0)", 40),
    "rows": ("f32[3,40]", "low=(1,0), high=(2,0), interior=(0,0)", 120),
    "column": ("f32[6,1]", "low=(0,7), high=(0,32), interior=(0,0)", 6),
    "element": ("f32[1,1]", "low=(2,3), high=(3,36), interior=(0,0)", 1),
    "steps": ("f32[6,10]", "low=(0,3), high=(0,9), interior=(0,2)", 60),
    "steps of both": ("f32[2,20]", "low=(1,0), high=(1,1), interior=(2,1)", 40),
    "all": ("f32[6,40]", "low=(0,0), high=(0,0), interior=(0,0)", 240),
}


def text_of(part, alias=" = %x"):
    shape, padding, _ = PARTS[part]
    mask = shape.replace("f32", "bool")
    size = shape[4:-1]
    return f"""
graph @put(%x: f32[6,40], %new: {shape}, %true: bool[] scalar) -> (f32[6,40]{alias}) {{
  %0: f32[6,40] = pad(%new; {padding}, value=0.0)
  %1: {mask} = expand(%true; shape=({size}))
  %2: bool[6,40] = pad(%1; {padding}, value=0.0)
  %3: f32[6,40] = where(%2, %0, %x)
  return %3
}}
"""


def points(kernel):
    """How often the kernel's store runs."""
    count, statements = 1, kernel.body
    while isinstance(statements[0], Loop):
        count *= statements[0].var.extent
        statements = statements[0].body
    return count


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("condition", [True, False])
def test_only_the_part_is_stored(part, condition):
    graph = parse_graph(text_of(part))
    random = np.random.default_rng(0)
    arrays = [
        random.random((6, 40), np.float32),
        random.random(graph.inputs[1].type.shape, np.float32),
        np.array(condition),
    ]
    (expected,) = interpret(graph, arrays)
    for target in runnable_targets():
        program, _ = compile_graph(graph, target)
        verify_program(program)
        (kernel,) = program.kernels()
        assert points(kernel) == PARTS[part][2]
        (found,) = Native(program, target).run(arrays, [expected], {0: 0})
        np.testing.assert_array_equal(found, expected)
    state = arrays[0].copy()
    run_program(program, [state, *arrays[1:]], [state])
    np.testing.assert_array_equal(state, expected)


@pytest.mark.parametrize("part", ["row", "steps"])
def test_a_result_in_memory_of_its_own_is_stored_whole(part):
    graph = parse_graph(text_of(part, alias=""))
    program, _ = compile_graph(graph, runnable_targets()[0])
    (kernel,) = program.kernels()
    assert points(kernel) == 240
    random = np.random.default_rng(0)
    arrays = [
        random.random((6, 40), np.float32),
        random.random(graph.inputs[1].type.shape, np.float32),
        np.array(True),
    ]
    (expected,) = interpret(graph, arrays)
    (found,) = Native(program).run(arrays, [np.zeros((6, 40), np.float32)])
    np.testing.assert_array_equal(found, expected)
