"""Which contractions' sums are cut into parts."""

from __future__ import annotations

import pytest

import braze.ir as ir
from braze.passes.split_reductions import split_reductions


def parts(equation: str, *shapes: tuple[int, ...]) -> int:
    b = ir.Builder("g")
    operands = [b.input(ir.tensor_type(ir.f32, shape)) for shape in shapes]
    graph = split_reductions(b.finish([b.contract(*operands, equation=equation)]))
    (node,) = (node for node in graph.nodes if node.op.is_contract)
    return node.result.type.numel // graph.outputs[0].type.numel


@pytest.mark.parametrize(
    ("equation", "shapes", "want"),
    [
        ("mk,kn->mn", ((64, 1 << 16), (1 << 16, 64)), 16),  # all cores would read all of both
        ("mk,kn->mn", ((8, 1 << 16), (1 << 16, 16)), 64),  # a single tile
        ("mk,kn->mn", ((512, 512), (512, 512)), 1),  # results enough
        ("mk,k->m", ((4096, 4096), (4096,)), 1),  # each core has rows of its own
        ("k,kn->n", ((4096,), (4096, 4096)), 1),
        ("mk,kn->mn", ((1, 4096), (4096, 4096)), 1),
    ],
)
def test_parts_of_a_product(equation, shapes, want):
    assert parts(equation, *shapes) == want
