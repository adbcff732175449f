"""Integers that are functions of a size."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braze.ir import symint
from braze.ir.symint import (
    SymInt,
    greatest,
    is_always,
    is_symbolic,
    least,
    print_form,
    value_at,
)

OPERATIONS = ("+", "-", "*", "//", "%", "r-", "r//", "r%", "neg", "divmod", "ceil")


def apply(op, x, y):
    match op:
        case "+":
            return x + y
        case "-":
            return x - y
        case "*":
            return x * y
        case "//":
            return x // y if y else x
        case "%":
            return x % y if y else x
        case "r-":
            return y - x
        case "r//":
            return y // x if x else y
        case "r%":
            return y % x if x else y
        case "neg":
            return -x
        case "divmod":
            return sum(divmod(x, y)) if y else x
        case "ceil":
            return -(-x // y) if y else x


@given(
    st.integers(1, 99),
    st.integers(1, 99),
    st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(-9, 9), st.booleans()), max_size=6),
)
def test_the_function_is_what_was_computed(n, other, steps):
    """At the sample it is the integer; at another size, what the same steps give there."""

    def run(size):
        value = size
        for op, number, twice in steps:
            if not twice and op in ("//", "%", "divmod", "ceil") and number < 0:
                number = -number
            value = apply(op, value, size + number if twice else number)
        return value

    symbolic = run(SymInt.word(0, n))
    assert symbolic == run(n)
    # Divisions by what is zero at one of the sizes only take another way.
    try:
        expected = run(other)
        found = value_at(symbolic, [other])
    except ZeroDivisionError:
        return
    divisors_vanish = any(t and 0 in (n + k, other + k) for _, k, t in steps)
    if not divisors_vanish and not any(op in ("r//", "r%") for op, _, _ in steps):
        assert found == expected


def test_affine_functions_stay_affine():
    n = SymInt.word(0, 20)
    assert ((n * 4 + 8) // 4 - n).form if is_symbolic((n * 4 + 8) // 4 - n) else True
    assert (n * 4 + 8) // 4 - n == 2 and not is_symbolic((n * 4 + 8) // 4 - n)
    assert not is_symbolic((n * 4 + 9) % 2) and (n * 4 + 9) % 2 == 1
    assert (n * 12 + 8).factor == 4 and (n // 3).factor == 1
    assert is_symbolic(n * n) and (n * n).at([7]) == 49


def test_other_integers_are_samples():
    n = SymInt.word(0, 20)
    assert is_always(20, 20) and not is_always(n, 20) and not is_always(21, 20)
    assert not is_symbolic(int(n), min(n, 3), n & 3) and is_symbolic(max(n, 3), abs(-n))
    assert str(n) == f"{n}" == "20" and repr(n) != "20" and {n: 1}[20] == 1


@pytest.mark.parametrize("words", [[3, 10], [7, 64]])
def test_words(words):
    n, offset = SymInt.word(0, 5), SymInt.word(1, 128)
    assert value_at(offset + n * 4, words) == words[1] + 4 * words[0]
    assert value_at(n + offset, words) == sum(words)


def test_functions_are_printed():
    n = SymInt.word(0, 20)
    forms = {
        n * 4 + 8: "4*n + 8",
        n - 1: "n - 1",
        (n * n + 3) // 2: "(n*n + 3)//2",
        -(-n // 7): "-((-n)//7)",
        SymInt.word(2, 64) + n: "w2 + n",
    }
    for number, text in forms.items():
        assert print_form(number.form) == text


def test_products_of_two_sizes_are_divided():
    b, t = SymInt.word(0, 7), SymInt.word(1, 11)
    rows = b * (t * 12)
    assert (rows + 8).factor == 4 and (b * t).factor == 1
    assert (rows // 4).at([2, 5]) == 30 and "//" not in str((rows // 4).form)
    assert ((rows + 8) // 4).at([2, 5]) == 32
    assert not is_symbolic(rows % 6, rows - rows) and rows % 6 == 0 and rows - rows == 0
    assert is_symbolic(rows % 5) and (rows % 5).at([1, 3]) == 1


def test_the_smaller_and_the_larger_of_two():
    n = SymInt.word(0, 20)
    assert [least(n, 30).at([k]) for k in (3, 50)] == [3, 30] and least(n, 30) == 20
    assert [greatest(n * 2, 30).at([k]) for k in (3, 50)] == [30, 100] and greatest(n * 2, 30) == 40
    assert greatest(n * 2, n + n) == n * 2 and not is_symbolic(least(3, 4), greatest(3, 4))
    assert print_form(least(n * 2, 30).form) == "min(2*n, 30)"


def test_two_sizes_have_two_names():
    b, t = SymInt.word(0, 7), SymInt.word(1, 11)
    assert print_form((b * t + 3).form, ("n", "m")) == "n*m + 3"


def test_documentation():
    assert doctest.testmod(symint).failed == 0
