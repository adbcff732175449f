"""Operands that are packed with all of their taps at once, as convolutions' weights are."""

from dataclasses import replace

import numpy as np
import pytest
from contractions import Problem, run_problem
from native import runnable_targets
from numpy.lib.stride_tricks import sliding_window_view

from braze.codegen.llvm import schedule_contraction
from braze.codegen.llvm.schedule_contraction import Schedule
from braze.codegen.llvm.schedule_search import schedule
from braze.ir.target import named_target

RNG = np.random.default_rng(0)
CASES = [
    # taps, channels in and out, flipped
    ((3, 3), 16, 32, False),
    ((3, 3), 21, 43, True),
    ((4, 4), 130, 33, False),  # several blocks
    ((2, 5), 300, 18, True),
    ((7, 7), 5, 40, False),  # several squares
    ((3,), 90, 64, False),
]


def weight_problem(kernel, inside, out, flipped, dtype=np.float32):
    """Windows of a picture, channels innermost, by a weight [out, in, taps...]."""
    size = tuple(k + 8 for k in kernel)
    x = RNG.integers(-4, 5, (2, *size, inside)).astype(dtype)
    dims = tuple(range(1, len(kernel) + 1))
    windows = sliding_window_view(x, kernel, axis=dims)
    weight = RNG.integers(-4, 5, (out, inside, *kernel)).astype(dtype)
    if flipped:
        weight = weight[(..., *(slice(None, None, -1) for _ in kernel))]
    place, taps = "hw"[: len(kernel)], "ij"[: len(kernel)]
    return Problem(f"n{place}c{taps},oc{taps}->n{place}o", windows, weight)


@pytest.fixture(autouse=True)
def _however_little(monkeypatch):
    monkeypatch.setattr(schedule_contraction, "_FEWEST_PACKED", 1)
    schedule.cache_clear()
    yield
    schedule.cache_clear()


def check(problem):
    for target in runnable_targets():
        found = run_problem(problem, target)["out"]
        np.testing.assert_array_equal(found, problem.reference())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_weights_with_their_taps_innermost(case):
    """The numbers are small and whole, so that sums in any order are exact."""
    check(weight_problem(*case))


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32])
def test_other_dtypes(dtype):
    check(weight_problem((3, 3), 20, 40, False, dtype))


def test_taps_of_phases_lie_apart():
    """Every other tap, of a batch of two phases."""
    x = RNG.integers(-4, 5, (2, 9, 9, 40)).astype(np.float32)
    windows = sliding_window_view(x, (2, 2), axis=(1, 2))
    phases = np.stack([windows[:, :7, :7], windows[:, 1:, 1:]], -1)
    weight = RNG.integers(-4, 5, (40, 36, 4, 4)).astype(np.float32)
    apart = weight.reshape(40, 36, 2, 2, 2, 2)[:, :, ::-1, :, ::-1, 1]
    problem = Problem("nhwoijx,ocixj->nhwxc", np.ascontiguousarray(phases), apart)
    assert len(plan_of(problem).taps) == 2
    check(problem)


def plan_of(problem, name="x86-64-v4") -> Schedule:
    plan = schedule(problem.contraction, named_target(name))
    assert isinstance(plan, Schedule)
    return plan


def names(dims):
    return [dim.var.name for dim in dims]


def test_taps_are_what_lies_close_together():
    plan = plan_of(weight_problem((3, 3), 300, 64, False))
    assert plan.pack_b == "gather" and names(plan.taps) == ["j", "i"]
    assert plan.b_scratch >= 64 * 9 * 300 // plan.grid[2]
    assert names(plan_of(weight_problem((9, 9), 40, 64, False)).taps) == ["j"]


def test_a_few_elements_are_gathered(monkeypatch):
    monkeypatch.setattr(schedule_contraction, "_FEWEST_PACKED", 64 * 9 * 100 + 1)
    assert plan_of(weight_problem((3, 3), 100, 64, False)).taps == ()
    assert plan_of(weight_problem((3, 3), 101, 64, False)).taps != ()


def test_a_little_memory_is_not_exceeded(monkeypatch):
    """Blocks are packed one by one if all together would take more."""
    problem = weight_problem((3, 3), 300, 64, False)
    assert plan_of(problem).is_blocked
    monkeypatch.setattr(schedule_contraction, "_MOST_PACKED_BYTES", 1 << 17)
    plan = replace(plan_of(problem))
    assert plan.taps == () and plan.b_scratch == plan.block_elements
