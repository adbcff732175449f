"""Which borders contractions leave out, and what that makes of pads."""

from __future__ import annotations

import pytest

from braze.ir.parser import parse_graph
from braze.ir.target import named_target
from braze.passes import Choices, optimise
from braze.passes.guards import contraction_letters, left_out
from braze.passes.split_pads import split_pads

TARGET = named_target("x86-64-v3")


def convolution(n, h, w, c, o=64, k=3, pad=1, value="0.0", stride=1):
    """A padded convolution with channels last."""
    b, d = h + 2 * pad, w + 2 * pad
    p, q = (b - k) // stride + 1, (d - k) // stride + 1
    return parse_graph(f"""
        graph @g(%x: f32[{n},{h},{w},{c}], %w: f32[{k},{k},{c},{o}]) -> (f32[{n},{p},{q},{o}]) {{
          %0: f32[{n},{b},{d},{c}] = pad(%x; low=(0,{pad},{pad},0), high=(0,{pad},{pad},0), \
interior=(0,0,0,0), value={value})
          %1: f32[{n},{p},{q},{c},{k},{k}] = window(%0; dims=(1,2), size=({k},{k}), \
stride=({stride},{stride}), dilation=(1,1))
          %2: f32[{n},{p},{q},{o}] = contract(%1, %w; equation="nhwcij,ijco->nhwo")
          return %2
        }}""".replace("\\\n", ""))


def letters_of(graph):
    node = graph.outputs[0].node
    return "".join(sorted(v.name for v in left_out(node, 0, contraction_letters(node))))


@pytest.mark.parametrize(
    ("shape", "want"),
    [
        ((16, 2, 2, 512), "hw"),  # a tile's rows are images
        ((8, 14, 14, 256), "hw"),
        ((1, 14, 14, 256), "h"),  # there is one image, so its columns are the rows
        ((1, 2, 64, 64), "h"),
        ((1, 64, 2, 64), "w"),
        ((8, 56, 56, 64), "h"),  # little is saved by rows that are far from each other
    ],
)
def test_borders_are_left_out_where_enough_rows_remain(shape, want):
    assert letters_of(convolution(*shape)) == want


def test_borders_of_other_values_are_not():
    assert letters_of(convolution(8, 4, 4, 16, value="1.0")) == ""
    assert letters_of(convolution(8, 4, 4, 16, pad=0)) == ""


def test_pads_that_are_left_out_are_stored_nowhere():
    graph = optimise(convolution(16, 4, 4, 64), TARGET)
    assert [node.op.name for node in graph.nodes] == ["fusion"]


def test_the_other_dimension_is_stored_with_its_border():
    graph = split_pads(convolution(1, 14, 14, 64))
    stored, left = (node for node in graph.nodes if node.op.name == "pad")
    assert (stored.result.shape, left.result.shape) == ((1, 14, 16, 64), (1, 16, 16, 64))
    assert left.operands[0] is stored.result
    kernels = optimise(convolution(1, 14, 14, 64), TARGET).nodes
    assert [node.results[0].shape for node in kernels] == [(1, 14, 16, 64), (1, 14, 14, 64)]


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("pad", [1, 2, 5])
def test_the_part_that_is_kept_is_counted(stride, pad):
    from braze.passes.guards import _borders

    graph = convolution(2, 7, 7, 3, k=3, pad=pad, stride=stride)
    node = graph.outputs[0].node
    places, taps = node.result.shape[1], 3
    inside = [0 <= stride * p + t - pad < 7 for p in range(places) for t in range(taps)]
    for border in _borders(node, 0, contraction_letters(node)):
        assert border.kept() == pytest.approx(sum(inside) / len(inside))


def test_the_decision_is_written_down():
    graph = split_pads(convolution(8, 14, 14, 256))
    node = graph.outputs[0].node
    assert node.attributes["left_out"] == "hw"
    assert str(parse_graph(str(graph))) == str(graph)
    assert split_pads(graph) is graph  # and stands


def test_the_decision_for_one_size_is_kept_to_for_others():
    """Alone, it is another one: 3 images would make short tiles."""
    choices = Choices()
    assert letters_of(split_pads(convolution(16, 14, 14, 256), choices)) == "hw"
    assert letters_of(split_pads(convolution(3, 14, 14, 256))) == "h"
    assert letters_of(split_pads(convolution(3, 14, 14, 256), Choices(choices))) == "hw"
