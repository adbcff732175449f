"""Complex numbers in the array API standard's namespace, against NumPy: interpreted, compiled."""

import warnings

import numpy as np
import pytest

import braze
from braze import array_api as xp

SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, -2.0, np.inf, -np.inf, np.nan)
ONE = (
    "abs acos acosh asin asinh atan atanh conj cos cosh exp expm1 imag isfinite isinf isnan log "
    "log10 log1p log2 logical_not negative positive real sin sinh sqrt square tan tanh"
).split()
TWO = "add equal multiply not_equal subtract".split()
REFUSED_ONE = "ceil floor signbit trunc".split()
REFUSED_TWO = (
    "atan2 bitwise_and copysign floor_divide greater greater_equal hypot less less_equal "
    "logaddexp maximum minimum nextafter remainder"
).split()
DTYPES = {"complex64": 1e-5, "complex128": 1e-13}


@pytest.fixture(params=["interpret", "compile"])
def tier(request):
    braze.sync()
    before = braze.config.tier
    braze.config.tier = request.param
    yield
    braze.sync()
    braze.config.tier = before


def grid(values, dtype):
    """Every complex number with two of these as parts; arithmetic would lose some."""
    x = np.empty((len(values), len(values)), dtype)
    x.real, x.imag = np.meshgrid(values, values)
    return x.reshape(-1)


def random(*shape, dtype="complex128", seed=0):
    draw = np.random.default_rng(seed)
    return (draw.uniform(-1, 1, shape) + 1j * draw.uniform(-1, 1, shape)).astype(dtype)


def same(found, wanted, tolerance=1e-12):
    found = found.numpy()
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


def reference(name, x):
    """NumPy's function; its expm1 does not follow the standard, where expm1(-0 + 0i) is 0."""
    if name != "expm1":
        return getattr(np, name)(x)
    result = np.where(np.isfinite(x), np.expm1(x), np.exp(x) - 1)
    result.real += 0.0
    return result


def parts(x):
    return [x.real, x.imag] if np.iscomplexobj(x) else [x]


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_cases(tier, dtype):
    """Infinities, nans and the signs of zeros, but for those signs that C99 (G.6) leaves open: of
    zeros where an operand has no direction, of zeros and infinities beside a nan."""
    x = grid(SPECIAL, dtype)
    lost = ~np.isfinite(x.real) & ~np.isfinite(x.imag)
    t = xp.asarray(x)
    found = {name: getattr(xp, name)(t) for name in ONE}  # one graph
    with np.errstate(all="ignore"):
        wanted = {name: reference(name, x) for name in ONE}
    for name, result in found.items():
        assert result.numpy().dtype == wanted[name].dtype
        pairs = list(zip(parts(result.numpy()), parts(wanted[name]), strict=True))
        for (mine, theirs), other in zip(pairs, parts(wanted[name])[::-1], strict=True):
            if theirs.dtype == bool:
                np.testing.assert_array_equal(mine, theirs, err_msg=name)
                continue
            free = np.isnan(other) | (theirs == 0) & lost
            one, two = (np.where(free, np.abs(a), a) for a in (mine, theirs))
            near = {"rtol": DTYPES[dtype], "atol": DTYPES[dtype] / 10}
            np.testing.assert_allclose(one, two, **near, err_msg=name)
            signs = (np.signbit(one) == np.signbit(two)) | np.isnan(two)
            assert signs.all(), (name, x[~signs])


def test_functions_of_two_operands(tier):
    x, y = (g.reshape(-1) for g in np.meshgrid(*[grid(SPECIAL, "complex128")] * 2))
    a, b = xp.asarray(x), xp.asarray(y)
    found = {name: getattr(xp, name)(a, b) for name in TWO}
    with np.errstate(all="ignore"):
        for name, result in found.items():
            np.testing.assert_array_equal(result.numpy(), getattr(np, name)(x, y), err_msg=name)
    p, q = random(7), random(7, seed=1)
    same(xp.divide(xp.asarray(p), xp.asarray(q)), p / q)
    same(xp.pow(xp.asarray(p), xp.asarray(q)), p**q)
    same(xp.add(xp.asarray(p.real.copy()), 2j), p.real + 2j)
    same(xp.multiply(xp.asarray(p), xp.asarray(q.real.copy())), p * q.real)


def test_signs_and_rounding(tier):
    x = np.array([0, complex(-0.0, -0.0), 3 - 4j, -2j, complex(np.nan, 1), complex(np.inf, np.nan)])
    found = xp.sign(xp.asarray(x)).numpy()
    np.testing.assert_array_equal(found[:2].view(float).view(np.int64), 0)  # no minus zeros
    np.testing.assert_allclose(found[2:4], [0.6 - 0.8j, -1j], rtol=1e-15)
    assert np.isnan(found[4:].real).all() and np.isnan(found[4:].imag).all()
    same(xp.sign(xp.asarray([np.nan, -2.0])), np.array([np.nan, -1], np.float32))
    y = 4 * random(9)
    same(xp.round(xp.asarray(y)), np.round(y))


def test_what_has_no_order_is_refused():
    z = xp.asarray([1j, 2.0])
    for name in REFUSED_ONE:
        with pytest.raises((TypeError, braze.ir.DTypeError), match="real tensor|not implemented"):
            getattr(xp, name)(z)
    for name in REFUSED_TWO:
        with pytest.raises(braze.ir.DTypeError, match="not implemented for complex"):
            getattr(xp, name)(z, z)
    for name in ("max", "min", "argmax", "sort", "argsort"):
        with pytest.raises(braze.ir.DTypeError, match="not implemented for complex"):
            getattr(xp, name)(z)


def test_dtypes():
    kinds = {"complex floating": True, "numeric": True, "real floating": False, "bool": False}
    info = xp.__array_namespace_info__()
    for dtype in (xp.complex64, xp.complex128):
        assert {kind: xp.isdtype(dtype, kind) for kind in kinds} == kinds
    assert xp.isdtype(xp.complex64, ("bool", "complex floating"))
    assert info.dtypes(kind="complex floating") == {
        "complex64": xp.complex64, "complex128": xp.complex128
    }  # fmt: skip
    assert len(info.dtypes()) == 13 and len(info.dtypes(kind="numeric")) == 12
    assert info.default_dtypes()["complex floating"] is xp.complex64
    assert xp.can_cast(xp.complex64, xp.complex128) and xp.can_cast(xp.float32, xp.complex64)
    assert not xp.can_cast(xp.complex128, xp.complex64) and not xp.can_cast(
        xp.float64, xp.complex64
    )
    assert not xp.can_cast(xp.complex64, xp.float64)
    assert xp.result_type(xp.complex64, xp.float64) is xp.complex128
    assert xp.result_type(xp.float64, 1j) is xp.complex128
    assert xp.result_type(xp.complex64, 1.5) is xp.complex64
    limits = xp.finfo(xp.complex128)
    assert (limits.bits, limits.dtype, limits.eps) == (64, xp.float64, np.finfo(float).eps)


def test_casts_keep_imaginary_parts():
    z = xp.asarray([1j, 0, 2])
    assert xp.astype(z, xp.bool).tolist() == [True, False, True]
    assert xp.astype(z, xp.complex128).dtype is xp.complex128
    assert xp.astype(xp.asarray([True]), xp.complex64).tolist() == [1]
    for dtype in (xp.float32, xp.float64, xp.int32):
        with pytest.raises(TypeError, match="cannot cast braze.complex64"):
            xp.astype(z, dtype)
        with pytest.raises(TypeError, match="cannot cast braze.complex64"):
            xp.asarray(z, dtype=dtype)
    with pytest.raises(TypeError):
        xp.asarray([1j], dtype=xp.float32)


def test_creation(tier):
    assert xp.asarray(1j).dtype is xp.complex64 and xp.asarray([1, 2j]).tolist() == [1, 2j]
    assert xp.asarray([1], dtype=xp.complex128).dtype is xp.complex128
    same(xp.linspace(1j, 2, 4), np.linspace(1j, 2, 4).astype(np.complex64), 1e-6)
    same(xp.linspace(0, 1 + 1j, 4, dtype=xp.complex128, endpoint=False),
         np.linspace(0, 1 + 1j, 4, endpoint=False))  # fmt: skip
    with pytest.raises(TypeError, match="need a complex dtype"):
        xp.linspace(0, 1j, 4, dtype=xp.float32)
    assert xp.full((2,), 1j).dtype is xp.complex64 is xp.full_like(xp.asarray(0j), 1j).dtype
    same(xp.eye(2, dtype=xp.complex64), np.eye(2, dtype=np.complex64))
    x = random(3, 3)
    same(xp.triu(xp.asarray(x), k=1), np.triu(x, 1))


def test_over_dimensions(tier):
    dtype = "complex64"
    x = random(3, 4, dtype=dtype)
    t = xp.asarray(x)
    for name in ("sum", "prod", "mean"):
        wanted = getattr(np, name)(x, axis=1, keepdims=True)
        same(getattr(xp, name)(t, axis=1, keepdims=True), wanted, DTYPES[dtype])
    same(xp.sum(t), np.sum(x), DTYPES[dtype])
    same(xp.cumulative_sum(t, axis=1), np.cumsum(x, 1), DTYPES[dtype])
    same(xp.cumulative_prod(t, axis=0, include_initial=True),
         np.cumprod(np.concatenate([np.ones_like(x[:1]), x]), 0), DTYPES[dtype])  # fmt: skip
    same(xp.diff(t), np.diff(x), DTYPES[dtype])
    x[0] = 0
    t = xp.asarray(x)
    same(xp.any(t, axis=1), np.any(x, 1))
    same(xp.all(t), np.all(x))
    same(xp.count_nonzero(t, axis=0), np.count_nonzero(x, 0))


def test_distinct_numbers():
    nan = complex(1, np.nan)
    x = np.array([[2j, 1, complex(-0.0, 2)], [1 - 1j, nan, nan]])
    values, first, inverse, counts = xp.unique_all(xp.asarray(x))
    assert values.tolist()[:3] == [2j, 1 - 1j, 1] and values.numel() == 5
    assert first.tolist() == [0, 3, 1, 4, 5] and counts.tolist() == [2, 1, 1, 1, 1]
    np.testing.assert_array_equal(values.numpy()[inverse.numpy()], x)
    assert xp.unique_values(xp.asarray(x)).shape == (5,)
    assert xp.unique_counts(xp.asarray(1j)).counts.tolist() == [1]
    assert xp.unique_inverse(xp.asarray(x)).inverse_indices.shape == (2, 3)
    assert xp.unique_values(xp.zeros((0,), dtype=xp.complex64)).shape == (0,)


@pytest.mark.parametrize("tier", ["interpret"], indirect=True)
def test_products_and_matrices(tier):
    x, y, square = random(2, 4, 3), random(2, 4, 3, seed=1), random(2, 3, 3)
    t, u, s = (xp.asarray(a) for a in (x, y, square))
    linalg = xp.linalg
    same(xp.vecdot(t, u), (x.conj() * y).sum(-1))
    same(xp.vecdot(t, xp.asarray(y.real.copy())), (x.conj() * y.real).sum(-1))
    same(xp.matmul(t, s), x @ square)
    same(xp.tensordot(t, u, axes=((0, 1), (0, 1))), np.tensordot(x, y, ((0, 1), (0, 1))))
    same(linalg.outer(t[0, 0], u[0, 0]), np.outer(x[0, 0], y[0, 0]))
    same(linalg.cross(t, u), np.cross(x, y))
    same(linalg.trace(s), np.trace(square, axis1=1, axis2=2))
    positive = square @ square.conj().swapaxes(-1, -2) + np.eye(3)
    p = xp.asarray(positive)
    lower = np.linalg.cholesky(positive)
    same(linalg.cholesky(p), lower)
    same(linalg.cholesky(p, upper=True), lower.conj().swapaxes(-1, -2))
    same(linalg.eigvalsh(p), np.linalg.eigvalsh(positive))
    values, vectors = linalg.eigh(p)
    same(
        (vectors * xp.expand_dims(values, axis=-2)) @ xp.conj(xp.matrix_transpose(vectors)),
        positive,
    )
    same(linalg.matrix_norm(t), np.linalg.norm(x, axis=(1, 2)))
    same(linalg.matrix_norm(t, ord=2), np.linalg.norm(x, 2, (1, 2)))
    same(linalg.vector_norm(t, axis=1, ord=1), np.linalg.norm(x, 1, 1))
    same(linalg.solve(s, xp.asarray(x[0, :3])), np.linalg.solve(square, x[0, :3]))
    same(linalg.det(s), np.linalg.det(square))
    q, r = linalg.qr(t)
    same(q @ r, x)
    left, sizes, right = linalg.svd(t, full_matrices=False)
    same((left * xp.expand_dims(sizes, axis=-2)) @ right, x)
    same(linalg.pinv(t), np.linalg.pinv(x))
    same(linalg.pinv(t, rtol=xp.asarray([1e-9, 1e-9], dtype=xp.float64)), np.linalg.pinv(x))
    assert linalg.matrix_rank(t, rtol=xp.asarray([1e-9, 2.0])).tolist() == [3, 0]


def test_nothing_warns_of_lost_parts():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        z = xp.asarray([1 + 1j])
        xp.abs(xp.sum(z)), xp.linalg.vector_norm(z), xp.round(z)


def test_numbers_beside_tensors_in_atan2():
    x = xp.asarray([1.0, -2.0])
    same(xp.atan2(x, 2), np.arctan2(x.numpy(), np.float32(2)), 1e-6)
    same(xp.atan2(0.5, x), np.arctan2(np.float32(0.5), x.numpy()), 1e-6)


def test_truth_of_small_integers():
    x = xp.asarray([0, 2], dtype=xp.uint8)
    assert xp.all(x).dtype is xp.any(x).dtype is xp.bool
    assert not xp.all(x) and xp.any(x)
