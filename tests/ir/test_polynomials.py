"""Polynomials of sizes, from their values."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braze.ir import polynomials
from braze.ir.polynomials import Interpolation
from braze.ir.symint import is_symbolic, value_at

coefficients = st.integers(-9, 9)
sizes = st.lists(st.integers(1, 50), min_size=3, max_size=3, unique=True)


@given(st.lists(coefficients, min_size=8, max_size=8), sizes, sizes, st.integers(1, 99),
       st.integers(1, 99))  # fmt: skip
def test_two_sizes(factors, xs, ys, x, y):
    exponents = [(0, 0), (1, 0), (2, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 1)]

    def function(a, b):
        return sum(c * a**i * b**j for c, (i, j) in zip(factors, exponents, strict=True))

    near = Interpolation([xs, ys])
    found = near.through([function(*point) for point in near.points])
    assert found.at((x, y)) == function(x, y)
    symbol = found.symbol(near.points[0])
    assert symbol == function(xs[0], ys[0]) and value_at(symbol, (x, y)) == function(x, y)
    assert is_symbolic(symbol) == any(factors[1:])


def test_one_size():
    assert Interpolation([[1, 2, 5]]).through([1, 4, 25]).terms == ((1, (2,)),)
    assert Interpolation([[3, 4, 6]]).through([10, 13, 19]).terms == ((3, (1,)), (1, (0,)))
    assert Interpolation([[3, 5, 6]]).through([10, 13, 19]) is None
    assert Interpolation([[3, 5, 6]]).through([7, 7, 7]).at((4,)) == 7


def test_sizes_that_are_always_the_same():
    near = Interpolation([[4], [2, 3, 5]])
    assert near.free == (1,) and near.points == [(4, 2), (4, 3), (4, 5)]
    found = near.through([2, 3, 5])
    assert found.is_size(1) and not found.is_size(0)
    assert not near.through([4, 6, 10]).is_size(1)
    assert Interpolation([]).through([3]).symbol(()) == 3


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_sizes_make_a_lower_degree(count):
    near = Interpolation([[3, 4, 5][:count]])
    assert len(near.points) == count
    found = near.through([6, 8][:count])
    assert found.at((10,)) == (6 if count == 1 else 20)


def test_documentation():
    assert doctest.testmod(polynomials).failed == 0
