"""What kernels move, counted on the emulated driver, and the most that they may.

A warp's accesses of one instruction are a request. In global memory it takes the sectors of 32
bytes that it touches: as many as its bytes fill if neighbouring threads have neighbouring elements.
In shared memory it takes a pass for each word that a bank holds of it: one, if no bank holds two
different ones. So a budget of 1 is what cannot be done better; what is above says why.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import cuda_programs as cuda
import numpy as np
import pytest
from cuda_device import emulated_only
from cuda_emulator import control

import braze.ir as ir
from braze.codegen.cuda import contraction_plan
from braze.codegen.cuda.contraction_plan import PLAIN, TENSOR, WIDE

pytestmark = emulated_only

RNG = np.random.default_rng(0)
CONVOLUTION = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
DEPTHWISE = {**CONVOLUTION, "groups": 16}


@dataclass(frozen=True)
class Budget:
    """The most that a graph's kernels may take, together.

    Attributes:
        read, write: sectors of global memory, of those that the bytes of the requests would fill.
        keep, take: passes over shared memory by its writes and reads, of those without conflicts.
        again: how often each byte of the inputs is read; None where a plan decides that.
    """

    read: float = 1.0
    write: float = 1.0
    keep: float = 1.0
    take: float = 1.0
    again: float | None = None


def graph_of(build, shapes, dtype):
    b = ir.Builder("g")
    inputs = [b.input(ir.tensor_type(dtype, shape)) for shape in shapes]
    arrays = [RNG.standard_normal(shape).astype(dtype.numpy) for shape in shapes]
    return b.finish([build(b, *inputs)]), arrays


def require_within(budget, graph, arrays):
    """Run a graph, compare with the interpreter, and with what it may move."""
    tolerance = 5e-2 if graph.outputs[0].dtype.itemsize == 2 else 1e-4
    with control.profiled() as lines:
        cuda.check_graph(graph, arrays, tolerance)
    moved, fewest = Counter(), Counter()
    for line in lines:
        moved[line.space, line.access] += line.transfers
        fewest[line.space, line.access] += line.fewest
    assert moved["global", "read"] and moved["global", "write"]
    for kind, most in (
        (("global", "read"), budget.read),
        (("global", "write"), budget.write),
        (("shared", "write"), budget.keep),
        (("shared", "read"), budget.take),
    ):
        assert moved[kind] <= most * fewest[kind], (kind, moved[kind], fewest[kind])
    if budget.again is not None:
        filled = sum(array.nbytes for array in arrays) / 32
        assert moved["global", "read"] <= budget.again * filled


def summed(*dims):
    return lambda b, x: b.sum(x, dims=dims, keepdim=False)


def normalized(b, x, weight, bias):
    return b.layer_norm(x, weight, bias, dims=1, epsilon=1e-5)


def convolved(**attributes):
    return lambda b, x, w: b.conv_no_bias(x, w, **attributes)


# One pass over memory: everything is read once, and each result written once.
STREAMS = {
    "elementwise": (lambda b, x, y: b.add(b.relu(x), y), [(64, 128)] * 2, ir.f32, Budget(again=1)),
    "16 bits": (lambda b, x, y: b.add(b.relu(x), y), [(64, 128)] * 2, ir.bf16, Budget(again=1)),
    # The vector, which all rows share, comes from a cache.
    "a vector": (lambda b, x, y: b.add(x, y), [(32, 128), (128,)], ir.f32, Budget(again=2)),
    # Rows of an odd length begin within sectors.
    "odd rows": (lambda b, x, y: b.add(x, y), [(31, 127), (127,)], ir.f32, Budget(1.15, again=2.2)),
    "transposed": (
        lambda b, x, y: b.add(b.permute(x, dims=(1, 0)), y),
        [(64, 96), (96, 64)],
        ir.f32,
        Budget(again=1),
    ),
    "sums of rows": (summed(1), [(16, 512)], ir.f32, Budget(again=1)),
    "sums of columns": (summed(0), [(256, 64)], ir.f32, Budget(again=1)),
    "one sum": (summed(0, 1), [(128, 256)], ir.f32, Budget(again=1)),
    "softmax": (lambda b, x: b.softmax(x, dim=1), [(8, 512)], ir.f32, Budget(again=1)),
    "softmax of columns": (lambda b, x: b.softmax(x, dim=0), [(64, 64)], ir.f32, Budget(again=1)),
    # A warp has a row of 33 numbers, which lie in six sectors, and mostly begin within one.
    "softmax of short rows": (
        lambda b, x: b.softmax(x, dim=1),
        [(32, 33)],
        ir.f32,
        Budget(1.5, 1.5, again=1.7),
    ),
    # Weight and bias come from a cache, for each of the 8 rows.
    "layer norm": (normalized, [(8, 512), (512,), (512,)], ir.f32, Budget(again=2.4)),
}


@pytest.mark.parametrize("name", STREAMS)
def test_streams(name):
    build, shapes, dtype, budget = STREAMS[name]
    require_within(budget, *graph_of(build, shapes, dtype))


PRODUCTS = {
    "mk,kn->mn": [(64, 32), (32, 64)],
    "mk,nk->mn": [(64, 32), (64, 32)],
    "km,kn->mn": [(32, 64), (32, 64)],
    "km,nk->mn": [(32, 64), (64, 32)],
}


@pytest.mark.parametrize("equation", PRODUCTS)
def test_products_of_matrices(equation):
    def build(b, x, y):
        return b.contract(x, y, equation=equation)

    require_within(Budget(), *graph_of(build, PRODUCTS[equation], ir.f32))


@pytest.mark.parametrize("tile", WIDE, ids=str)
@pytest.mark.parametrize("equation", PRODUCTS)
def test_products_of_matrices_of_64_bits(monkeypatch, equation, tile):
    monkeypatch.setattr(contraction_plan, "WIDE", (tile,))

    def build(b, x, y):
        return b.contract(x, y, equation=equation)

    require_within(Budget(), *graph_of(build, PRODUCTS[equation], ir.f64))


@pytest.mark.parametrize("equation", PRODUCTS)
def test_tiles_for_tensor_cores(monkeypatch, equation):
    """Each is stored without conflicts. What is above the fewest is how the functions that stand
    for tensor cores take fragments, and store theirs one by one."""
    monkeypatch.setattr(contraction_plan, "TENSOR", (TENSOR[1],))

    def build(b, x, y):
        return b.contract(x, y, equation=equation)

    require_within(Budget(keep=1.67, take=2), *graph_of(build, PRODUCTS[equation], ir.f16))


@pytest.mark.parametrize("tile", [PLAIN[0], PLAIN[3], PLAIN[10]], ids=str)
def test_tiles_that_are_kept_transposed(monkeypatch, tile):
    """Operands that lie along the sum, which is how linear layers have both."""
    monkeypatch.setattr(contraction_plan, "PLAIN", (tile,))
    shapes = [(tile.rows, 32), (tile.columns, 32)]

    def build(b, x, y):
        return b.contract(x, y, equation="mk,nk->mn")

    require_within(Budget(take=1.0), *graph_of(build, shapes, ir.f32))


def test_products_of_16_bits():
    """Of shared memory only what is kept counts, as the reads of tensor cores are the GPU's own.
    A row of 32 numbers and a pad overlaps the next in four banks."""

    def build(b, x, y):
        return b.contract(x, y, equation="mk,nk->mn")

    budget = Budget(keep=2.0, take=np.inf, again=1)
    require_within(budget, *graph_of(build, [(64, 32), (64, 32)], ir.bf16))


def test_a_row_of_products():
    def build(b, x, y):
        return b.contract(x, y, equation="mk,nk->mn")

    require_within(Budget(), *graph_of(build, [(3, 256), (32, 256)], ir.f32))


CONVOLUTIONS = {
    "3x3": (CONVOLUTION, [(1, 16, 8, 8), (16, 16, 3, 3)], Budget()),
    "1x1": ({**CONVOLUTION, "padding": (0, 0)}, [(1, 32, 8, 8), (16, 32, 1, 1)], Budget()),
    "depthwise": (DEPTHWISE, [(1, 16, 16, 16), (16, 1, 3, 3)], Budget(1.35)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name):
    attributes, shapes, budget = CONVOLUTIONS[name]
    require_within(budget, *graph_of(convolved(**attributes), shapes, ir.f32))


def test_a_budget_is_exceeded_by_what_is_strided():
    """Every other column of a matrix: half of each sector is of no use."""

    def build(b, x):
        return b.relu(b.slice(x, starts=(0, 0), stops=(32, 128), steps=(1, 2)))

    with pytest.raises(AssertionError, match=r"'global', 'read'"):
        require_within(Budget(), *graph_of(build, [(32, 128)], ir.f32))
