"""Rectangles of sizes: what code serves of them, and what it leaves."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braze.runtime.artifact import Artifact
from braze.runtime.package_codes import SizedCode, first_outside
from braze.runtime.package_sizes import _met, _outside

end = st.integers(1, 7)
points = st.tuples(end, end)
boxes = st.tuples(points, points)


def code(box):
    artifact = Artifact("a", "", "main", (), (), (), 0, 0)
    return SizedCode(*box, artifact, None, {})


def inside(box):
    (x, y), (x_last, y_last) = box
    return set(product(range(x, x_last + 1), range(y, y_last + 1)))


@given(boxes, boxes)
def test_what_a_code_leaves_is_each_choice_once(box, other):
    met = _met(box, other)
    if not inside(met):
        return
    parts = [inside(part) for part in _outside(box, code(met))]
    assert all(parts) and sum(map(len, parts)) == len(set().union(*parts))
    assert set().union(*parts) == inside(box) - inside(met)
    assert inside(met) == inside(box) & inside(other)
    assert code(met).choices == len(inside(met)) and set(code(met).corners()) <= inside(met)


@given(st.lists(boxes, max_size=6), boxes)
def test_choices_that_nothing_serves_are_found(served, wanted):
    missing = first_outside(served, *wanted)
    left = inside(wanted).difference(*map(inside, served))
    assert missing in left if left else missing is None


@pytest.mark.parametrize("most", [3, 10**9])
def test_one_dimension(most):
    assert first_outside([((1,), (2,)), ((3,), (most,))], (1,), (most,)) is None
    assert first_outside([((1,), (2,)), ((4,), (most,))], (1,), (most,)) == (3,)
