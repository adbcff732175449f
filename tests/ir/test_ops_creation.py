"""Constants, ramps and random bits."""

import numpy as np
import pytest

import braze.ir as ir
from braze.ir.dtypes import REAL
from braze.ir.ops.creation import counters_used, philox

CONSTANT, IOTA, BITS = map(ir.op_named, ("constant", "iota", "random_bits"))


@pytest.mark.parametrize("dtype", REAL, ids=lambda d: d.name)
def test_types_and_values_agree(dtype):
    for value in (1, 1.0, True, 0):
        found = CONSTANT.evaluate(value=value, dtype=dtype)
        (expected,) = CONSTANT.result_types([], {"value": value, "dtype": dtype})
        assert ir.tensor_type(ir.from_numpy(found.dtype), found.shape) == expected
        assert float(found) == float(value)
    for dim in range(3):
        attributes = {"shape": (2, 0 if dim == 1 else 4, 3), "dim": dim, "dtype": dtype}
        found = IOTA.evaluate(**attributes)
        (expected,) = IOTA.result_types([], attributes)
        assert ir.tensor_type(ir.from_numpy(found.dtype), found.shape) == expected


def test_constants_out_of_range_are_converted_silently():
    assert CONSTANT.evaluate(value=1e300, dtype=ir.f32) == np.inf
    assert CONSTANT.evaluate(value=-1, dtype=ir.u8) == 255
    assert CONSTANT.evaluate(value=2.9, dtype=ir.i32) == 2


def test_ramps():
    assert IOTA.evaluate(shape=(2, 3), dim=1, dtype=ir.f32).tolist() == [[0, 1, 2]] * 2
    assert IOTA.evaluate(shape=(2, 3), dim=0, dtype=ir.i64).tolist() == [[0] * 3, [1] * 3]
    for shape, dim in (((), 0), ((2,), 1), ((2,), -1)):
        with pytest.raises(ir.ShapeError, match=rf"\[iota\] dimension {dim} is outside shape"):
            IOTA.result_types([], {"shape": shape, "dim": dim, "dtype": ir.f32})


# From Random123's known-answer tests: counter, key, result of philox4x32 with ten rounds.
KNOWN_ANSWERS = [
    (
        "00000000 00000000 00000000 00000000",
        "00000000 00000000",
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    ),
    (
        "ffffffff ffffffff ffffffff ffffffff",
        "ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def words(text):
    return [int(word, 16) for word in text.split()]


def joined(low, high):
    return high << 32 | low


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_known_answers(counter, key, expected):
    a, b, c, d = words(counter)
    lower, upper = (np.array([joined(*pair)], np.uint64) for pair in ((a, b), (c, d)))
    found = philox(lower, joined(*words(key)), upper)
    assert [int(word[0]) for word in found] == words(expected)
    assert all(word.dtype == np.uint32 for word in found)


def bits(seed, offset, shape):
    return BITS.evaluate(np.int64(seed), np.int64(offset), shape=shape)


def test_the_first_elements_are_the_known_answer():
    """Words 0 to 3 of counter 0 are elements 0, 8, 16 and 24."""
    assert bits(0, 0, (32,))[::8].tolist() == words(KNOWN_ANSWERS[0][2])


def test_the_order_of_the_elements():
    found = bits(-5, 1000, (3, 40)).reshape(-1)
    for i in (0, 1, 7, 8, 31, 32, 45, 100, 119):
        block, j = divmod(i, 32)
        counter = np.array([1000 + block * 8 + j % 8], np.uint64)
        assert found[i] == philox(counter, -5 & (2**64 - 1))[j // 8][0]


def test_offsets_continue_the_stream():
    whole = bits(7, 0, (96,))
    assert counters_used(64) == 16
    np.testing.assert_array_equal(bits(7, 16, (32,)), whole[64:])
    assert [counters_used(n) for n in (0, 1, 32, 33)] == [0, 8, 8, 16]


def test_a_longer_draw_begins_with_the_shorter():
    np.testing.assert_array_equal(bits(7, 3, (100,))[:33], bits(7, 3, (33,)))
    assert bits(7, 3, (0, 5)).shape == (0, 5)
    assert bits(7, 3, ()).shape == () and bits(7, 3, ()) == bits(7, 3, (1,))[0]


def test_negative_and_large_offsets_wrap_around():
    assert bits(7, -1, (9,))[1] == bits(7, 0, (1,))[0]
    assert bits(7, 2**63 - 1, (9,)).shape == (9,)


def test_bits_look_random():
    found = bits(123, 0, (100_000,))
    ones = np.unpackbits(found.view(np.uint8)).mean()
    assert abs(ones - 0.5) < 2e-3  # seven standard deviations
    assert len(np.unique(found)) > 99_990
    other = bits(124, 0, (100_000,))
    correlation = np.corrcoef(found.astype(float), other.astype(float))[0, 1]
    assert abs(correlation) < 0.025


def test_the_state_is_two_scalars_of_i64():
    good, bad = ir.tensor_type(ir.i64), ir.tensor_type(ir.i32)
    assert BITS.result_types([good, good], {"shape": (2, 3)}) == (ir.tensor_type(ir.u32, (2, 3)),)
    for operands in ([bad, good], [good, ir.tensor_type(ir.i64, (1,))]):
        with pytest.raises(ir.DTypeError, match=r"\[random_bits\] seed and offset must be i64\[\]"):
            BITS.result_types(operands, {"shape": (2,)})
