"""Sums of several arrays that each of them becomes: the numbers that NumPy gives, at every size."""

import numpy as np
import pytest

from braze.codegen.llvm.compile import compile_object
from braze.codegen.llvm.rank_sums import sums_module
from braze.ir.target import named_target
from braze.runtime.distributed.adding import Adding

SIZES = (0, 1, 31, 63, 64, 65, 127, 128, 1000, 70_001)


@pytest.fixture(scope="module")
def adding():
    return Adding()


@pytest.mark.parametrize("is_average", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_every_array_becomes_the_sum_or_the_average(adding, dtype, count, is_average):
    rng = np.random.default_rng(count)
    for size in SIZES:
        arrays = [rng.standard_normal(size).astype(dtype) for _ in range(count)]
        total = arrays[0].copy()
        for array in arrays[1:]:
            total += array
        if is_average:
            np.divide(total, count, out=total, casting="unsafe")
        guarded = [np.concatenate([a, np.full(3, 7, dtype)]) for a in arrays]
        adding.add_up([g[:size] for g in guarded], is_average=is_average)
        for array in guarded:
            assert array[:size].tobytes() == total.tobytes()
            assert (array[size:] == 7).all()


def test_arrays_may_begin_anywhere(adding):
    memory = np.arange(3 * 1001, dtype=np.float32)
    arrays = [memory[1:1000], memory[1002:2001], memory[2003:3002]]
    total = arrays[0] + arrays[1] + arrays[2]
    before = memory[[0, 1000, 1001, 2001, 2002, 3002]].copy()
    adding.add_up(arrays, is_average=False)
    for array in arrays:
        np.testing.assert_array_equal(array, total)
    np.testing.assert_array_equal(memory[[0, 1000, 1001, 2001, 2002, 3002]], before)


@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"])
def test_the_code_is_made_for_every_target(name):
    assert compile_object(sums_module(), named_target(name)).startswith(b"\x7fELF")
