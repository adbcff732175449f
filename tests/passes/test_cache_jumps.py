"""Which operands of convolutions are copied into an order that a cache can hold."""

from __future__ import annotations

import pytest

import braze.ir as ir
from braze.ir.target import named_target
from braze.passes import optimise

TARGET = named_target("x86-64-v3")


def copies(c=64, o=64, size=32, k=4, stride=2, dtype=ir.f32):
    """The kernels beside the product's in a gradient for a convolution's weight, and that for the
    order of its result."""
    b = ir.Builder("g")
    x = b.input(ir.tensor_type(dtype, (8, c, size, size)))
    places = (size + 2 - k) // stride + 1
    g = b.input(ir.tensor_type(dtype, (8, o, places, places)))
    pair = dict.fromkeys(("stride", "padding", "dilation"), (1, 1)) | {"stride": (stride, stride)}
    graph = optimise(
        b.finish([b.conv_weight_grad(x, g, kernel=(k, k), groups=1, **pair)]), TARGET
    )
    return [
        node
        for node in graph.nodes
        if not any(inner.op.is_contract for inner in node.body.nodes)
        and node.operands[0] in graph.inputs
    ]


def test_channels_that_lie_a_power_of_two_apart():
    (copy,) = copies()
    assert copy.results[0].shape == (8, 32, 32, 64)


@pytest.mark.parametrize(
    "shape",
    [
        {"size": 31},  # other images do not want the same lines
        {"c": 8},  # there is room for so many
        {"size": 8, "c": 120},  # of 16 sets
        {"o": 2, "k": 3, "stride": 1},  # hardly any products
    ],
    ids=str,
)
def test_other_operands_are_read_where_they_are(shape):
    assert copies(**shape) == []
