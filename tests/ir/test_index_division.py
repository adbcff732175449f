"""Division and remainder of indices are exact, whatever was simplified."""

import itertools
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braze.ir.index import DataIndex, FloorDiv, Index, LoopVar, Mod, flatten, unflatten


def value_of(index: Index, values: dict[LoopVar, int]) -> int:
    total = index.constant
    for atom, c in index.terms:
        assert not isinstance(atom, DataIndex)
        if isinstance(atom, LoopVar):
            total += c * values[atom]
        elif isinstance(atom, FloorDiv):
            total += c * (value_of(atom.inner, values) // atom.divisor)
        else:
            assert isinstance(atom, Mod)
            total += c * (value_of(atom.inner, values) % atom.divisor)
    return total


coefficient = st.integers(-12, 12)


@given(
    st.lists(st.tuples(st.integers(1, 6), coefficient), min_size=1, max_size=3),
    st.integers(-30, 30),
    st.lists(st.tuples(st.sampled_from(["//", "%", "*", "+"]), st.integers(1, 24)), max_size=4),
)
@settings(max_examples=400, deadline=None)
def test_arithmetic_is_exact(terms, constant, steps):
    variables = [LoopVar(f"v{i}", extent) for i, (extent, _) in enumerate(terms)]
    points = [
        dict(zip(variables, point, strict=True))
        for point in itertools.product(*(range(v.extent) for v in variables))
    ]
    index = Index((), constant)
    for variable, (_, c) in zip(variables, terms, strict=True):
        index = index + Index.of(variable) * c
    expected = [
        constant + sum(c * p[v] for v, (_, c) in zip(variables, terms, strict=True)) for p in points
    ]
    for operation, number in steps:
        if operation == "//":
            index, expected = index // number, [e // number for e in expected]
        elif operation == "%":
            index, expected = index % number, [e % number for e in expected]
        elif operation == "*":
            index, expected = index * number, [e * number for e in expected]
        else:
            index, expected = index + number, [e + number for e in expected]
    assert [value_of(index, p) for p in points] == expected
    low, high = index.span
    assert low <= min(expected) and max(expected) <= high


def test_a_part_below_the_stride_drops_out_of_a_division():
    i, j = LoopVar("i", 6), LoopVar("j", 12)
    flat = Index.of(i) * 12 + Index.of(j)
    assert str(flat // 24) == "(i)//2"
    assert str(flat % 24) == "12*(i)%2 + j"


def test_quotient_and_remainder_join_to_what_was_divided():
    """So a reshape there and back is found to change nothing, also where neither simplifies."""
    m, n = Index.of(LoopVar("m", 3)), Index.of(LoopVar("n", 2))
    flat = m * 2 + n
    quotient, remainder = flat // 3, flat % 3
    assert quotient * 3 + remainder == flat
    assert remainder * 2 + quotient * 6 + n == flat * 2 + n
    assert quotient * 3 + remainder * 2 != flat
    back = quotient * 3 + remainder
    assert (back // 2, back % 2) == (m, n)


@pytest.mark.parametrize("shape", [(10, 3), (5, 3, 2), (2, 3, 1, 5), (3, 2, 2, 2)])
def test_a_reshape_of_a_variable_there_and_back_is_the_variable(shape):
    i = Index.of(LoopVar("i", prod(shape)))
    assert flatten(unflatten(i, shape), shape) == i
    shifted = i + 4  # of which some quotients do not begin at 0
    assert flatten(unflatten(shifted, shape), shape) == shifted
