"""Arithmetic of sparse tensors with numbers, dense and sparse tensors; functions of elements."""

import numpy as np
import pytest
from sparse_tensors import check, drawn

import braze


@pytest.fixture(autouse=True)
def tier(request):
    """Most are interpreted: their kernels are those of tests of the operations they are made of."""
    braze.sync()
    with braze.config.using(tier=getattr(request, "param", "interpret")):
        yield
        braze.sync()


both_tiers = pytest.mark.parametrize("tier", ["interpret", "compile"], indirect=True)


SHAPE = (4, 5, 2)
DENSE = np.random.default_rng(7).uniform(0.5, 2, SHAPE)


@pytest.fixture
def pair():
    """A hybrid tensor with repeated places, and its elements."""
    return drawn(SHAPE, 2, nnz=9, seed=1)


def test_numbers(pair):
    x, a = pair
    check(x * 3, a * 3)
    check(2 * x, a * 2)
    check(x / 4, a / 4)
    check(-x, -a)
    check(+x, a)
    check(x.mul(braze.tensor(2.5)), a * 2.5)
    check(x // 0.5, a // 0.5)
    check(x.div(0.3, rounding_mode="trunc"), np.trunc(a / 0.3))
    check(braze.mul(x, 3), a * 3)
    check(braze.neg(x), -a)


def test_dtypes_promote():
    x = braze.sparse_coo_tensor([[0, 2]], [2, -3], (3,))
    assert (x / 2).dtype is braze.float32 and (x * 2.5).dtype is braze.float32
    assert (x * 2).dtype is braze.int64 and (x * braze.tensor(2.0)).dtype is braze.float32
    check(x / 2, [1, 0, -1.5])
    both = x + x.double()
    assert both.dtype is braze.float64
    check(both, [4, 0, -6])
    for dtype, name in ((braze.float16, "half"), (braze.int32, "int"), (braze.bool, "bool")):
        assert getattr(x, name)().dtype is dtype is x.to(dtype).dtype
    assert x.sin().dtype is braze.float32
    assert x.to(x.double()).dtype is braze.float64 and x.to(x.device) is x
    assert x.is_cuda or x.cpu() is x


def test_sums_of_sparse_tensors(pair):
    x, a = pair
    y, b = drawn(SHAPE, 2, nnz=6, seed=2)
    for left in (x, x.coalesce()):
        for right in (y, y.coalesce()):
            both = left.is_coalesced() and right.is_coalesced()
            assert (left + right).is_coalesced() == both
            check(left + right, a + b)
            check(left - right, a - b)
            check(braze.add(left, right, alpha=-2), a - 2 * b)
            check(left.sub(right, alpha=3), a - 3 * b)
    doubled = x.coalesce() + x.coalesce()
    check(doubled, 2 * a)


@both_tiers
def test_sums_with_dense_tensors(pair):
    x, a = pair
    d = braze.tensor(DENSE)
    check(d + x, DENSE + a)
    check(d - x, DENSE - a)
    check(braze.add(d, x, alpha=0.5), DENSE + 0.5 * a)
    d.add_(x, alpha=2)
    check(d, DENSE + 2 * a)
    d -= x
    check(d, DENSE + a)
    part = d[:, :, :]
    part.add_(x)
    check(d, DENSE + 2 * a)


@both_tiers
def test_products_with_dense_tensors(pair):
    x, a = pair
    check(x * braze.tensor(DENSE), a * DENSE)
    check(braze.tensor(DENSE) * x, a * DENSE)
    for shape in ((2,), (5, 2), (5, 1), (4, 1, 1), (1, 5, 2), (1, 1, 1), (4, 5, 1)):
        factor = np.random.default_rng(3).uniform(size=shape)
        found = x * braze.tensor(factor)
        assert found.is_sparse and found._nnz() == x._nnz()
        check(found, a * factor)
    d = braze.tensor(DENSE)
    d.mul_(x)
    assert not d.is_sparse
    check(d, a * DENSE)


@both_tiers
def test_products_of_sparse_tensors(pair):
    x, a = pair
    y, b = drawn(SHAPE, 2, nnz=11, seed=2)
    check(x * y, a * b)
    assert (x * y)._nnz() <= min(x.coalesce()._nnz(), y.coalesce()._nnz())
    check(x * x, a * a)
    same = x.coalesce()
    check(same * same.abs(), a * abs(a))
    check(x * braze.sparse_coo_tensor(SHAPE, dtype=braze.float64).to_dense().to_sparse(2), 0 * a)


def test_powers(pair):
    x, a = pair
    check(x**2, a**2)
    check(x.pow(3), a**3)
    check(braze.pow(x, 2), a**2)
    check(braze.pow(x.abs(), 1.5), abs(a) ** 1.5)
    check(x.abs() ** 0.5, abs(a) ** 0.5)
    inverse = braze.sparse_coo_tensor([[1]], [4.0], (3,)) ** -1
    check(inverse.values(), [0.25])  # of the elements that are stored
    for call in (lambda: x**0, lambda: braze.pow(x, 0)):
        with pytest.raises(RuntimeError, match="cannot raise to zeroth power"):
            call()
    for call in (lambda: x**x, lambda: 2**x, lambda: braze.pow(x, braze.tensor(2.0))):
        with pytest.raises(NotImplementedError, match=r"\[pow\]"):
            call()


def test_replacing_what_is_not_finite():
    x = braze.sparse_coo_tensor([[0, 1, 2]], [np.nan, np.inf, 2], (4,), dtype=braze.float64)
    check(x.nan_to_num(7.0, 8.0), [7, 8, 2, 0])


@both_tiers
def test_in_place(pair):
    x, a = pair
    values = x._values()
    assert x.mul_(2) is x
    check(x, 2 * a)
    check(values.abs(), x._values().abs().numpy())  # the same memory
    x /= 2
    x += x
    check(x, 2 * a)
    x.neg_().abs_()
    check(x, 2 * abs(a))
    x.mul_(braze.tensor(DENSE))
    check(x, 2 * abs(a) * DENSE)
    y = x.coalesce()
    y *= y
    check(y, (2 * abs(a) * DENSE) ** 2)
    y.copy_(drawn(SHAPE, 2, nnz=3)[0])
    check(y, drawn(SHAPE, 2, nnz=3)[1])
    with pytest.raises(RuntimeError, match="can't be cast"):
        braze.sparse_coo_tensor([[0]], [1]).div_(2)


def test_results_may_be_given(pair):
    x, a = pair
    out = braze.sparse_coo_tensor(SHAPE, dtype=braze.float64)
    assert braze.add(x, x, out=out) is out
    check(out, 2 * a)
    square, array = drawn((3, 3), nnz=4)
    target = braze.zeros(3, 3, dtype=braze.float64)
    braze.mm(square, braze.eye(3, dtype=braze.float64), out=target)
    check(target, array)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: x + 1, RuntimeError, r"add\(sparse, dense\) is not supported"),
        (lambda x: 1 + x, RuntimeError, r"add\(sparse, dense\) is not supported"),
        (lambda x: x - braze.tensor(DENSE), RuntimeError, r"add\(sparse, dense\) is not supp"),
        (lambda x: x.add_(braze.tensor(DENSE)), RuntimeError, r"add\(sparse, dense\) is not supp"),
        (lambda x: x + x.transpose(0, 1), RuntimeError, r"\[4, 5, 2\] != \[5, 4, 2\]"),
        (lambda x: x + x.to_dense().to_sparse(), RuntimeError, "to have same density"),
        (lambda x: braze.ones(5, 2) + x, RuntimeError, "does not currently support broadcasting"),
        (lambda x: x * x.transpose(0, 1), RuntimeError, "expects sparse inputs with equal dim"),
        (lambda x: x * braze.ones(3, 4, 5, 2), RuntimeError, r"\[3, 4, 5, 2\] does not broadcast"),
        (lambda x: x / x, RuntimeError, "requires a scalar or zero-dim dense tensor divisor"),
        (lambda x: x / braze.tensor(DENSE), RuntimeError, r"got shape \[4, 5, 2\] for divisor"),
        (lambda x: 1 / x, NotImplementedError, "the result would be dense"),
        (lambda x: -(x.bool()), RuntimeError, "on a bool tensor is not supported"),
        (lambda x: x & x, NotImplementedError, "bitwise_and"),
        (lambda x: x % 2, NotImplementedError, "remainder"),
        (lambda x: x > 0, NotImplementedError, "gt"),
    ],
)
def test_errors(pair, call, error, message):
    x, a = pair
    with pytest.raises(error, match=message):
        call(x)
    check(x, a)
