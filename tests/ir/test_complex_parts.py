"""Operations on complex values: NumPy's meaning, the rules for parts, compiled code."""

import itertools

import numpy as np
import pytest

import braze.ir as ir
from braze.engine import Storage
from braze.ir.dtypes import COMPLEX, c64, c128, f32, f64
from braze.ir.parts import Pair, PartsBuilder
from braze.passes.split_complex import split_complex
from braze.runtime.cache import prepare

GIVEN = [op for op in ir.all_ops() if op.complex and not op.attributes and not op.variadic]
ELEMENTWISE = [op for op in GIVEN if op.category in ("pointwise", "composite", "complex")]
PRODUCTS = "matmul mm bmm mv dot outer addmm linear linear_no_bias".split()
TOLERANCE = {c64: 2e-6, c128: 1e-13}
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


def compiled(graph, arrays):
    outputs = [Storage(value.type.nbytes) for value in graph.outputs]
    inputs = [Storage.from_numpy(np.ascontiguousarray(a)) for a in arrays]
    prepare(graph, tier="compile").run(inputs, outputs)
    types = [value.type for value in graph.outputs]
    return [s.array(t.dtype.numpy, t.shape) for s, t in zip(outputs, types, strict=True)]


def check(name, arrays, expected=None, tolerance=None, native=False, **attributes):
    """The three ways of running an operation agree, and with NumPy's result where given."""
    graph = one_op(name, arrays, **attributes)
    dtype = c64 if any(a.dtype == np.complex64 for a in arrays) else c128
    near = {"rtol": tolerance or TOLERANCE[dtype], "atol": tolerance or TOLERANCE[dtype]}
    whole = ir.interpret(graph, arrays)
    apart = split_complex(graph)
    ir.verify(apart)
    assert not any(value.dtype.is_complex for value in apart.values())
    in_parts = ir.interpret(apart, [in_memory(a) for a in arrays])
    for one, two in zip(whole, in_parts, strict=True):
        np.testing.assert_allclose(two, in_memory(one), **near, err_msg=name)
    if native:
        for one, two in zip(whole, compiled(graph, arrays), strict=True):
            np.testing.assert_allclose(two, one, **near, err_msg=name)
    if expected is not None:
        np.testing.assert_allclose(whole[0], expected, **near, err_msg=name)
    return whole


def operands(op, shapes, dtype=c128):
    arrays = [numbers(shape, dtype, seed) for seed, shape in enumerate(shapes)]
    arrays = arrays[: len(op.operands)]
    if op.name == "where":
        arrays[0] = arrays[0].real > 0
    if op.name == "complex":
        arrays = [a.real.copy() for a in arrays]
    if op.name == "view_as_complex":
        arrays = [in_memory(arrays[0])]
    return arrays


@pytest.mark.parametrize("dtype", COMPLEX, ids=lambda d: d.name)
@pytest.mark.parametrize("op", [op for op in ELEMENTWISE if op.name not in PRODUCTS], ids=str)
def test_elementwise(op, dtype):
    for shapes in (((3, 4), (4,), (3, 1)), ((), (), ()), ((0, 3), (1, 3), (0, 1))):
        check(op.name, operands(op, shapes, dtype), tolerance=3e-5 if dtype is c64 else 1e-12)


def test_elementwise_in_compiled_code():
    """One graph with all of them."""
    b = ir.Builder("elementwise")
    arrays = [numbers((3, 17), c64, seed) for seed in range(3)]
    inputs = [b.input(ir.tensor_type(c64, (3, 17))) for _ in arrays]
    mask = b.gt(b.real(inputs[0]), 0.0)
    made = []
    for op in ELEMENTWISE:
        if op.name in (*PRODUCTS, "complex", "view_as_complex"):
            continue
        given = [mask, *inputs] if op.name == "where" else inputs
        made.append(getattr(b, op.name)(*given[: len(op.operands)]))
    graph = b.finish(made)
    ir.verify(graph)
    results = zip(graph.outputs, compiled(graph, arrays), ir.interpret(graph, arrays), strict=True)
    for value, found, wanted in results:
        name = value.node.op.name
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5, err_msg=name)


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


@pytest.mark.parametrize("dtype", COMPLEX, ids=lambda d: d.name)
def test_over_dimensions(dtype):
    x = numbers((3, 5, 2), dtype)
    for dims, keepdim in (((1,), False), ((0, 2), True), ((0, 1, 2), False)):
        over = {"dims": dims, "keepdim": keepdim}
        check("sum", [x], np.sum(x, dims, keepdims=keepdim), native=True, **over)
        check("prod", [x], np.prod(x, dims, keepdims=keepdim), 1e-3, native=True, **over)
        check("mean", [x], np.mean(x, dims, keepdims=keepdim), **over)
    check("prod", [x[:0]], np.prod(x[:0], 0), dims=(0,), keepdim=False)
    for reverse in (False, True):
        turned = x[:, ::-1] if reverse else x
        for name, function in (("cumsum", np.cumsum), ("cumprod", np.cumprod)):
            wanted = function(turned, 1)
            wanted = wanted[:, ::-1] if reverse else wanted
            check(name, [x], wanted, 1e-4, native=True, dim=1, reverse=reverse)
        check("linear_recurrence", [numbers(x.shape, dtype, 4), x], None, 1e-4, True,
              dim=1, reverse=reverse)  # fmt: skip


@pytest.mark.parametrize("dtype", COMPLEX, ids=lambda d: d.name)
def test_products(dtype):
    x, y, z = numbers((4, 3), dtype), numbers((3, 5), dtype, 1), numbers((4, 5), dtype, 2)
    check("matmul", [x, y], x @ y, native=True)
    check("addmm", [z, x, y], z + x @ y)
    check("outer", [x[0], y[0]], np.outer(x[0], y[0]))
    check("linear", [x, y.T.copy(), z[0]], x @ y + z[0])
    check("contract", [x, y], np.einsum("ij,jk->ki", x, y), equation="ij,jk->ki")


def test_movements_and_places():
    x = numbers((3, 4), c64)
    index = np.array([2, 0])
    put = x.copy()
    put[index] = x[:2]
    added = x.copy()
    added[index] += x[:2]
    for name, given, wanted, attributes in (
        ("permute", [x], x.T, {"dims": (1, 0)}),
        ("concat", [x, x], np.concatenate([x, x], 1), {"dim": 1}),
        ("flip", [x], x[:, ::-1], {"dims": (1,)}),
        ("take", [x, index], x[index], {"dim": 0}),
        ("index_put", [x, index, x[:2]], put, {"dim": 0}),
        ("index_add", [x, index, x[:2]], added, {"dim": 0}),
        ("stack", [x, x], np.stack([x, x], 1), {"dim": 1}),
        ("diagonal", [x], np.diagonal(x), {"offset": 0, "dim1": 0, "dim2": 1}),
    ):
        check(name, given, wanted, native=True, **attributes)
    places = {"low": (1, 0), "high": (0, 2), "interior": (0, 0)}
    check("pad", [x], np.pad(x, ((1, 0), (0, 2)), constant_values=3), value=3.0, **places)


def test_casts():
    x = numbers((3,))
    check("cast", [x], x.astype(np.complex64), 1e-7, dtype=c64)
    check("cast", [x], x.real, dtype=f64)
    check("cast", [x], x.real.astype(np.float32), 1e-7, dtype=f32)
    check("cast", [x.real.copy()], x.real + 0j, dtype=c128)
    check("cast", [np.array([0j, 1j, 1])], np.array([False, True, True]), dtype=ir.bool_)


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
