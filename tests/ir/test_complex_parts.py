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
EDGES = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-3, 30.0, -30.0)
SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, -2.0, np.inf, -np.inf, np.nan)


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


def grid(values):
    """Every complex number with two of these as parts; arithmetic would lose some."""
    x = np.empty((len(values), len(values)), complex)
    x.real, x.imag = np.meshgrid(values, values)
    return x.reshape(-1)


def special_reference(name, x):
    """C99's; NumPy's expm1 is not. The standard wants expm1(-0 + 0i) to be 0."""
    if name != "expm1":
        return REFERENCES[name](x)
    result = np.where(np.isfinite(x), np.expm1(x), np.exp(x) - 1)
    result.real += 0.0
    return result


# Its special cases are those of quotients, which C99 and NumPy have differently.
@pytest.mark.parametrize("name", [name for name in REFERENCES if name != "reciprocal"])
def test_special_cases_are_numpys(name):
    """Infinities, nans and the signs of zeros, but for signs that C99 (G.6) leaves open: those of
    zeros where an operand has no direction, those of zeros and infinities beside a nan."""
    with np.errstate(all="ignore"):
        x = grid(SPECIAL)
        wanted = in_memory(special_reference(name, x)).reshape(len(x), -1)
        graph = one_op(name, [x])
        lost = ~np.isfinite(x.real) & ~np.isfinite(x.imag)
        free = (wanted == 0) & lost[:, None] | np.isnan(wanted[:, ::-1].astype(float))
        (whole,) = ir.interpret(graph, [x])
        (apart,) = ir.interpret(split_complex(graph), [in_memory(x)])
        for found in (in_memory(whole).reshape(len(x), -1), apart.reshape(len(x), -1)):
            if wanted.dtype == bool:
                np.testing.assert_array_equal(found, wanted)
                continue
            one, two = (np.where(free, np.abs(part), part) for part in (found, wanted))
            np.testing.assert_allclose(one, two, rtol=1e-11, atol=1e-15)
            signs = np.signbit(one) == np.signbit(two)
            assert (signs | np.isnan(two)).all(), (x[~(signs | np.isnan(two)).all(1)], name)


def test_products_and_quotients_of_special_values():
    """Products by the formula, as NumPy's; by a real number each part by itself."""
    with np.errstate(all="ignore"):
        x, y = (g.reshape(-1) for g in np.meshgrid(grid(SPECIAL), grid(SPECIAL)))
        (found,) = ir.interpret(
            split_complex(one_op("mul", [x, y])), [in_memory(a) for a in (x, y)]
        )
        np.testing.assert_array_equal(found, in_memory(x * y))
        x, real = (g.reshape(-1) for g in np.meshgrid(grid(SPECIAL), np.array(SPECIAL)))
        real = real.real
        b = ir.Builder("real")
        one, two = (b.input(ir.tensor_type(d, x.shape)) for d in (c128, f64))
        two = b.cast(two, dtype=c128)
        graph = split_complex(b.finish([b.mul(one, two), b.div(one, two)]))
        product, quotient = ir.interpret(graph, [in_memory(x), real])
        np.testing.assert_array_equal(product, in_memory(x) * real[:, None])
        np.testing.assert_array_equal(quotient, in_memory(x) / real[:, None])
        (found,) = ir.interpret(split_complex(one_op("phase", [x])), [in_memory(x)])
        zero = x == 0
        assert (found[zero] == 0).all() and not np.signbit(found[zero]).any()
        assert np.isnan(found[np.isnan(x)]).all()


def test_inverse_tangents_beside_their_poles():
    x = np.array([complex(a, b) for a in (1, -1) for b in (1e-300, -1e-18, 1e-16, 1e-9)])
    (found,) = ir.interpret(split_complex(one_op("atanh", [x])), [in_memory(x)])
    np.testing.assert_allclose(found, in_memory(np.arctanh(x)), rtol=1e-15)


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
