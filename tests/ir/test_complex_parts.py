"""The rules for parts of complex values where numbers are large, infinite or on a branch cut, and
the pass that applies them. `tests/every_op` runs every operation on complex operands."""

import itertools

import numpy as np
import pytest

import braze.ir as ir
from braze.ir.dtypes import COMPLEX, c64, c128, f32, f64
from braze.ir.parts import Pair, PartsBuilder
from braze.passes.split_complex import split_complex

# Every combination of these as parts of an operand.
EDGES = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-3, 30.0)


def numbers(shape, dtype=c128, seed=0):
    draw = np.random.default_rng(seed)
    parts = draw.uniform(-2, 2, (2, *shape))
    return (parts[0] + 1j * parts[1]).astype(dtype.numpy)


def in_memory(array):
    if array.dtype.kind != "c":
        return array
    flat = np.ascontiguousarray(array)
    return flat.view(flat.real.dtype).reshape(*array.shape, 2)


def one_op(name, arrays, **attributes):
    b = ir.Builder(name)
    inputs = [b.input(ir.tensor_type(ir.from_numpy(a.dtype), a.shape)) for a in arrays]
    made = getattr(b, name)(*inputs, **attributes)
    graph = b.finish(list(made) if isinstance(made, tuple) else [made])
    ir.verify(graph)
    return graph







REFERENCES = {
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "asinh": np.arcsinh,
    "acosh": np.arccosh, "atanh": np.arctanh, "square": np.square, "log2": np.log2,
    "log10": np.log10, "tan": np.tan, "sinh": np.sinh, "cosh": np.cosh, "sqrt": np.sqrt,
    "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "sin": np.sin,
    "cos": np.cos, "tanh": np.tanh, "modulus": np.abs, "angle": np.angle, "conj": np.conj,
    "reciprocal": np.reciprocal, "isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite,
}  # fmt: skip


@pytest.mark.parametrize("name", REFERENCES)
def test_the_parts_are_numpys(name):
    """At random points, on both axes and on both sides of the branch cuts."""
    with np.errstate(all="ignore"):
        edges = np.array([complex(a, b) for a, b in itertools.product(EDGES, EDGES)])
        for x in (numbers((50,)), edges, 8 * numbers((20,), seed=5)):
            wanted = REFERENCES[name](x)
            finite = np.isfinite(wanted)
            graph = split_complex(one_op(name, [x]))
            (found,) = ir.interpret(graph, [in_memory(x)])
            if np.asarray(wanted).dtype.kind == "c":
                found = found[..., 0] + 1j * found[..., 1]
            np.testing.assert_allclose(found[finite], wanted[finite], rtol=1e-11, atol=1e-12)


def test_exponentials_of_infinity_stay_real():
    x = np.array([np.inf + 0j, -np.inf + 0j, complex(np.inf, -0.0)])
    (found,) = ir.interpret(split_complex(one_op("exp", [x])), [in_memory(x)])
    np.testing.assert_array_equal(found, [[np.inf, 0], [0, 0], [np.inf, -0.0]])


def test_moduli_and_quotients_do_not_overflow():
    x, y = np.array([1e300 + 1e300j]), np.array([1e300 - 1e300j])
    (size,) = ir.interpret(split_complex(one_op("modulus", [x])), [in_memory(x)])
    np.testing.assert_allclose(size, np.sqrt(2) * 1e300)
    (found,) = ir.interpret(split_complex(one_op("div", [x, y])), [in_memory(x), in_memory(y)])
    np.testing.assert_allclose(found, [[0, 1]], atol=1e-15)






def test_what_has_no_meaning_is_refused():
    b = ir.Builder()
    x = b.input(ir.tensor_type(c64, (3,)))
    for name in ("lt", "maximum", "floor", "relu", "erf", "sign", "abs"):
        with pytest.raises(ir.DTypeError, match=rf"\[{name}\] not implemented for complex"):
            getattr(b, name)(*[x] * len(ir.op_named(name).operands))
    with pytest.raises(ir.DTypeError, match=r"\[real\] needs a complex operand, given f32"):
        b.real(b.real(x))
    with pytest.raises(ir.DTypeError, match=r"\[complex\] needs float32 or float64"):
        b.complex(b.gt(b.real(x), 0.0), b.gt(b.real(x), 0.0))


def test_a_real_factor_needs_no_cross_terms():
    b = PartsBuilder()
    x = Pair(b.input(ir.tensor_type(f32, (3,))), b.input(ir.tensor_type(f32, (3,))))
    b.mul(x, 2.0)
    assert [node.op.name for node in b.graph.nodes].count("mul") == 2


def test_real_graphs_are_left_alone():
    graph = one_op("add", [np.ones(3), np.ones(3)])
    assert split_complex(graph) is graph


def test_the_text_form_has_complex_types():
    graph = one_op("cast", [numbers((2,))], dtype=c64)
    assert "c128[2]" in str(graph) and "dtype=c64" in str(graph)
    assert str(ir.parse_graph(str(graph))) == str(graph)


@pytest.mark.parametrize("left", ir.dtypes.ALL, ids=str)
def test_promotion_with_complex(left):
    for right in COMPLEX:
        wide = right is c128 or left in (f64, c128)
        assert ir.promote(left, right) is (c128 if wide else c64) is ir.promote(right, left)
