"""A division by a power of two becomes a product, where the product has the result's shape."""

import numpy as np
import pytest

import braze.ir as ir
from braze.ir.interpreter import interpret
from braze.ir.verifier import verify
from braze.passes.decompose import decompose
from braze.passes.simplify import simplify


@pytest.mark.parametrize("shape", [(), (1,), (2, 1)])
def test_division_of_a_scalar_by_broadcast_constants(shape):
    b = ir.Builder()
    x = b.input(ir.tensor_type(ir.f32, ()))
    divisor = (
        b.full(shape=shape, value=2.0, dtype=ir.f32)
        if shape
        else b.constant(value=2.0, dtype=ir.f32)
    )
    graph = b.finish([b.div(x, divisor)])
    result = simplify(decompose(graph))
    verify(result)
    (value,) = interpret(result, [np.array(6.0, np.float32)])
    np.testing.assert_array_equal(value, np.full(shape, 3.0))
