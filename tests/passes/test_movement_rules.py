"""Slices of what was padded or joined read through to what they need."""

import numpy as np
import pytest

import braze.ir as ir
from braze.ir.interpreter import interpret
from braze.passes.simplify import simplify


def simplified(make):
    """The operations that are left of a graph of x and y, both [2, 3]; its meaning is kept."""
    b = ir.Builder()
    x, y = (b.input(ir.tensor_type(ir.f64, (2, 3))) for _ in range(2))
    graph = b.finish([make(b, x, y)])
    after = simplify(graph)
    ir.verify(after)
    arrays = [np.arange(6.0).reshape(2, 3), -np.arange(6.0).reshape(2, 3)]
    for found, wanted in zip(interpret(after, arrays), interpret(graph, arrays), strict=True):
        np.testing.assert_array_equal(found, wanted)
    return [node.op.name for node in after.nodes]


def columns(b, x, start, stop, step=1):
    return b.slice(x, starts=(0, start), stops=(2, stop), steps=(1, step))


def padded(b, x, interior=0):
    return b.pad(x, low=(0, 2), high=(0, 3), interior=(0, interior), value=7.0)


@pytest.mark.parametrize(
    ("bounds", "left"),
    [
        ((0, 2), ["constant", "expand"]),  # before x
        ((5, 8), ["constant", "expand"]),  # after it
        ((2, 5), []),  # x itself
        ((3, 5), ["slice"]),
        ((1, 4), ["pad", "slice"]),
        ((4, 6), ["pad", "slice"]),
    ],
)
def test_slices_of_padding(bounds, left):
    assert simplified(lambda b, x, y: columns(b, padded(b, x), *bounds)) == left


def test_padding_between_elements_stays():
    assert simplified(lambda b, x, y: columns(b, padded(b, x, 1), 2, 6)) == ["pad", "slice"]
    assert simplified(lambda b, x, y: columns(b, padded(b, x, 1), 0, 2)) == ["constant", "expand"]


@pytest.mark.parametrize(
    ("bounds", "left"),
    [
        ((0, 3), []),
        ((3, 6), []),
        ((1, 3), ["slice"]),
        ((3, 6, 2), ["slice"]),
        ((2, 4), ["concat", "slice"]),
    ],
)
def test_slices_of_what_was_joined(bounds, left):
    assert simplified(lambda b, x, y: columns(b, b.concat(x, y, dim=1), *bounds)) == left


def test_slices_of_other_dimensions_of_what_was_joined():
    def rows(b, x, y):
        return b.slice(b.concat(x, y, dim=1), starts=(1, 0), stops=(2, 6), steps=(1, 1))

    assert simplified(rows) == ["concat", "slice"]
