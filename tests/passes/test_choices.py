"""What is chosen for one size is chosen for another, where it can be."""

from braze.passes.choices import Choices


def test_earlier_choices_are_taken_where_they_are_possible():
    first = Choices()
    assert [first.choose("sum", parts, lambda n: True) for parts in (4, 8, 2)] == [4, 8, 2]
    assert first.choose("contract", ("k", 2), lambda n: True) == ("k", 2)

    second = Choices(first)
    assert second.choose("sum", 16, lambda n: True) == 4
    assert second.choose("sum", 5, lambda n: n % 5 == 0) == 5  # 8 parts are not possible
    assert second.choose("amax", 3, lambda n: True) == 3  # another operation
    assert second.choose("contract", ("k", 1), lambda c: c[0] == "k") == ("k", 2)
    assert second.choose("sum", 7, lambda n: True) == 7  # nothing was chosen here

    assert Choices(second).choose("sum", 1, lambda n: True) == 4
