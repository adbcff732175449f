"""Few rows at a time are stored, where short runs of many rows are turned over."""

import numpy as np
import pytest
from native import Native, runnable_targets

from braze import ir
from braze.ir.interpreter import interpret
from braze.ir.loops_interpreter import run_program
from braze.ir.loops_parser import parse_kernel
from braze.ir.loops_verifier import verify_program
from braze.passes import compile_graph
from braze.passes.block_rows import block_rows


def turn(runs, rows, length, step=None):
    step = length if step is None else step
    return parse_kernel(f"""nest @turn(%x: f32[{length * runs * rows}] in,
        %y: f32[{step * runs * rows}] out) {{
      for i in {runs} {{
        for o in {rows} {{
          for k in {length} vector {{
            store %y[{step * runs}*o + {step}*i + k] = %x[{runs * rows}*k + {rows}*i + o]
          }}
        }}
      }}
    }}""")


@pytest.mark.parametrize(
    ("runs", "rows", "length", "counts"),
    [
        (512, 512, 9, (8, 32, 64, 16)),
        (96, 48, 4, (2, 3, 48, 16)),
        (24, 32, 25, (1, 2, 24, 16)),
        (512, 16, 9, None),  # one block of rows already
        (512, 40, 9, None),  # not whole blocks
        (509, 512, 9, None),  # not whole blocks of runs
        (512, 512, 64, None),  # long runs
        (512, 512, 3, None),  # nothing is turned over
    ],
)
def test_sizes_of_blocks(runs, rows, length, counts):
    nest = turn(runs, rows, length)
    found = block_rows(nest)
    if counts is None:
        assert found is nest
        return
    loop, extents = found.body[0], []
    for _ in range(4):
        extents.append(loop.var.extent)
        (loop,) = loop.body
    assert tuple(extents) == counts and loop.kind == "vector"


def test_runs_that_do_not_follow_each_other_are_left():
    nest = turn(64, 64, 9, step=10)
    assert block_rows(nest) is nest


@pytest.mark.parametrize("target", runnable_targets(), ids=lambda t: t.name)
@pytest.mark.parametrize("shape", [(3, 3, 64, 32), (2, 2, 24, 48), (3, 1, 136, 64), (5, 5, 8, 32)])
def test_a_turned_update_is_what_the_interpreter_says(shape, target):
    """A gradient that lies with the channels last: stored with them first, and used in rows."""
    b = ir.Builder("update")
    turned = b.input(ir.tensor_type(ir.f32, shape))
    weight = b.input(ir.tensor_type(ir.f32, tuple(shape[d] for d in (3, 2, 0, 1))))
    gradient = b.permute(turned, dims=(3, 2, 0, 1))
    rate = b.constant(value=0.5, dtype=ir.f32)
    graph = b.finish([gradient, b.sub(weight, b.mul(gradient, rate))])
    rng = np.random.default_rng(0)
    given = [rng.standard_normal(v.shape).astype("f4") for v in graph.inputs]
    expected = interpret(graph, given)
    program, _ = compile_graph(graph, target)
    if target.vector_bits >= 256 and shape[0] * shape[1] >= 4:
        assert "_1 in 16 {" in str(program)
    verify_program(program)
    loops = [np.zeros_like(e) for e in expected]
    run_program(program, given, loops)
    for found in (Native(program, target).run(given, expected), loops):
        for one, right in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, right)
