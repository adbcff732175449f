"""A gradient that lies in another order: it is stored in its own and used in one kernel."""

import numpy as np
import pytest

from braze import ir
from braze.ir.interpreter import interpret
from braze.passes import compile_graph
from braze.runtime.compiler import compile_artifact
from braze.runtime.cpu import host_target
from braze.runtime.executable import Executable
from braze.runtime.storage import Storage


def update(rows, columns):
    """The gradient and the new weight, from a gradient with the columns first."""
    b = ir.Builder("update")
    turned = b.input(ir.tensor_type(ir.f32, (columns, rows)))
    weight = b.input(ir.tensor_type(ir.f32, (rows, columns)))
    gradient = b.permute(turned, dims=(1, 0))
    decay, rate = (b.constant(value=value, dtype=ir.f32) for value in (0.25, 0.5))
    decayed = b.add(gradient, b.mul(weight, decay))
    return b.finish([gradient, b.sub(weight, b.mul(decayed, rate))])


def test_it_is_read_once_and_stored_in_rows():
    program, _ = compile_graph(update(64, 300), host_target())
    (kernel,) = program.kernels()
    stores = [line.strip() for line in str(kernel).splitlines() if "store" in line]
    assert [store.partition(" = ")[0] for store in stores] == [
        "store %2[300*i0 + i1]",
        "store %3[300*i0 + i1]",
    ]
    assert sum(line.count("64*i1 + i0]") for line in str(kernel).splitlines()) == 1


# Whole strips of squares, strips that are cut short, a square that is not whole, few elements.
SIZES = [(64, 512), (64, 304), (40, 301), (33, 1000), (17, 260), (70, 61), (4097, 5)]


@pytest.mark.parametrize(("rows", "columns"), SIZES)
def test_results(rows, columns):
    graph = update(rows, columns)
    generator = np.random.default_rng(0)
    arrays = [generator.standard_normal(v.shape).astype(np.float32) for v in graph.inputs]
    outputs = [Storage(v.type.nbytes) for v in graph.outputs]
    executable = Executable(compile_artifact(graph, host_target()))
    executable.run([Storage.from_numpy(a) for a in arrays], outputs)
    for storage, value, want in zip(outputs, graph.outputs, interpret(graph, arrays), strict=True):
        got = storage.array(np.float32, value.shape)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
