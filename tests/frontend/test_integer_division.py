"""Integers divided by zero raise as in PyTorch: numbers at the call, tensors at the next sync."""

import pytest

import braze

DIVISIONS = {
    "floor_divide": lambda x, y: x // y,
    "remainder": lambda x, y: x % y,
    "fmod": braze.fmod,
    "trunc": lambda x, y: braze.div(x, y, rounding_mode="trunc"),
    "floor": lambda x, y: braze.div(x, y, rounding_mode="floor"),
}


@pytest.mark.parametrize("name", DIVISIONS)
def test_a_number(name):
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        DIVISIONS[name](braze.tensor([1, 2]), 0)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        DIVISIONS[name](braze.tensor([1, 2], dtype=braze.uint8), False)


@pytest.mark.parametrize("tier", ["interpret", "compile"])
@pytest.mark.parametrize("name", DIVISIONS)
def test_a_tensor(name, tier):
    divide = DIVISIONS[name]
    with braze.config.using(tier=tier):
        found = divide(braze.tensor([7, 9]), braze.tensor([2, 5], dtype=braze.int32))
        assert found.tolist() in ([3, 1], [1, 4])
        bad = divide(braze.tensor([7, 9]), braze.tensor([2, 0]))
        with pytest.raises(RuntimeError, match=r"ZeroDivisionError[\s\S]*test_integer_division"):
            bad.tolist()


def test_a_tensor_below_a_number():
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        (5 // braze.tensor([1, 0])).tolist()


def test_in_place():
    x = braze.tensor([7, 9])
    x //= braze.tensor([0, 1])
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        braze.sync()


def test_floating_point_numbers_divide_by_zero():
    x = braze.tensor([1.0, -1.0])
    assert (x // 0).tolist() == [float("inf"), float("-inf")]
    assert (braze.tensor([1, 2]) / 0).tolist() == [float("inf")] * 2
    assert (x % braze.tensor([0, 1])).isnan().tolist() == [True, False]
    assert (braze.zeros(0, dtype=braze.int64) // braze.zeros(0, dtype=braze.int64)).tolist() == []
