"""Every operation of the table on a CUDA device, over generated operands: what its compiled form
computes there is what the interpreter says."""

import cuda_programs as cuda
import numpy as np
import pytest
from test_every_op_values import OPS, TOLERANCE, assert_near, calls, graph_of

import braze.ir as ir
from braze.ir.interpreter import interpret

# Single precision functions of CUDA are a few units in the last place off, sums in parts too.
WIDER = 20
SAMPLES = 3


def samples_of(op):
    """A few plain samples for each of some dtypes: what the device computes differently with."""
    found = {}
    for dtype, sample in calls(op):
        if not sample.edges:
            found.setdefault(dtype, []).append(sample)
    wanted = [d for d in (ir.f32, ir.f64, ir.bf16, ir.i32, ir.bool_, ir.c64) if d in found]
    return [s for d in wanted or list(found)[:1] for s in found[d][:SAMPLES]]


@pytest.mark.parametrize("op", OPS, ids=str)
def test_the_device_computes_what_the_interpreter_does(op):
    graph, inputs = graph_of(op, samples_of(op))
    found, wanted = cuda.run_graph(graph, inputs), interpret(graph, inputs)
    for number, (x, y) in enumerate(zip(found, map(np.asarray, wanted), strict=True)):
        tolerance = TOLERANCE.get(ir.from_numpy(y.dtype).name, 0.0) * WIDER
        assert_near(x, y, tolerance, f"{op.name} output {number}")
