"""Integers of a graph as functions of its open dimensions."""

import pytest

pytest.importorskip("onnx")

from hypothesis import given, settings
from hypothesis import strategies as st

from braze.ir.builder import Builder
from braze.ir.dtypes import f32
from braze.ir.symint import SymInt
from braze.ir.types import tensor_type
from braze.onnx.exporting.sizes import Sizes, same_structure
from braze.onnx.exporting.tracing import _choices

EXAMPLE = {"a": 4, "b": 6, "c": 1}
CHOICES = [EXAMPLE, *_choices(EXAMPLE)[:11]]
OTHERS = [(1, 1, 1), (3, 17, 5), (64, 7, 2), (10, 9, 8)]


def sizes_of(choices=CHOICES):
    sizes = Sizes()
    b = Builder()
    for name in EXAMPLE:
        value = b.input(tensor_type(f32, (1,)), name=name)
        sizes.word(tuple(c[name] for c in choices), value, 0)
    return sizes


FUNCTIONS = {
    "one": lambda a, b, c: b,
    "constant": lambda a, b, c: 12,
    "affine": lambda a, b, c: 3 * a + 2,
    "difference": lambda a, b, c: b - 1,
    "square": lambda a, b, c: a * a,
    "product": lambda a, b, c: 8 * a * b,
    "three": lambda a, b, c: a * b * c,
    "sum": lambda a, b, c: a + b,
    "half": lambda a, b, c: b // 2,
    "half, upwards": lambda a, b, c: (b + 1) // 2,
    "middle": lambda a, b, c: (b - 1) // 2,
    "third and more": lambda a, b, c: 2 * ((a + 2) // 3) + 1,
    "convolution of stride 2": lambda a, b, c: (b + 2 - 3) // 2 + 1,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_that_is_found_holds_for_other_sizes(name):
    function = FUNCTIONS[name]
    found = sizes_of().fit(tuple(function(*c.values()) for c in CHOICES))
    assert found is not None
    for words in OTHERS:
        value = found.at(words) if isinstance(found, SymInt) else found
        assert value == function(*words)


@given(st.integers(1, 40), st.integers(1, 4), st.integers(-7, 7), st.integers(1, 5))
@settings(max_examples=200, deadline=None)
def test_parts_of_any_example(example, part, more, factor):
    """Whatever size the example has, the sizes that are tried tell roundings apart."""
    choices = [{"a": example}, *_choices({"a": example})[:11]]
    sizes = Sizes()
    value = Builder().input(tensor_type(f32, (1,)))
    sizes.word(tuple(c["a"] for c in choices), value, 0)
    more = max(min(more, part - 1), 1 - part)
    found = sizes.fit(tuple(factor * ((c["a"] + more) // part) for c in choices))
    assert isinstance(found, int)
    for size in range(1, 200):
        wanted = factor * ((size + more) // part)
        assert (found.at([size]) if isinstance(found, SymInt) else found) == wanted


def test_what_is_no_such_function():
    sizes = sizes_of()
    assert sizes.fit(tuple(2 ** c["a"] for c in CHOICES)) is None
    assert sizes.fit(tuple(c["a"] % 3 for c in CHOICES)) is None
    assert sizes.fit(tuple(max(c["a"], 10) for c in CHOICES)) is None


def test_the_example_is_among_sizes_that_differ():
    for example in ({"a": 1}, {"a": 2, "b": 2}, {"a": 224, "b": 224, "c": 1}):
        choices = _choices(example)
        assert len(choices) >= 8
        assert all(size > 1 for choice in choices for size in choice.values())
        for name in example:
            assert {choice[name] % 2 for choice in choices[:11]} == {0, 1}
        names = list(example)
        for x, y in zip(names, names[1:], strict=False):
            ratios = {choice[x] / choice[y] for choice in choices[:11]}
            assert len(ratios) > 3  # they do not grow together


def graph(size, twice=False):
    b = Builder()
    x = b.input(tensor_type(f32, (size,)))
    y = b.expand(x, shape=(2, size))
    return b.finish([b.add(y, y if twice else x)])


def test_structure():
    assert same_structure(graph(3), graph(5))
    assert not same_structure(graph(3), graph(5, twice=True))
