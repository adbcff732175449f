"""Contraction kernels that leave the borders of images out of their sums.

The images lie inside of larger arrays of nan: a border that is read makes the results nan.
"""

from __future__ import annotations

import numpy as np
import pytest
from contractions import Problem, random_array, window2d
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_contractions import RUNNABLE, check

from braze.codegen.llvm.schedule_contraction import Schedule
from braze.codegen.llvm.schedule_search import schedule
from braze.ir.dtypes import dtype_named, f32
from braze.ir.loops_interpreter import run_kernel
from braze.ir.target import named_target
from braze.runtime.cpu import host_target

HOST = host_target()


def bordered(shape, pad, dtype=f32, fill=np.nan, seed=0):
    """Images [n,h,w,c] with a border of `fill` in both directions."""
    n, h, w, c = shape
    found = np.full((n, h + 2 * pad, w + 2 * pad, c), fill, dtype.numpy)
    found[:, pad : pad + h, pad : pad + w] = random_array(shape, dtype, seed)
    return found


def windows(n, h, w, c, o, k, stride=1, pad=1, dilation=1, along="hw", dtype=f32, flip=False):
    """A convolution with channels last, and the border left out along these dimensions."""
    wrong = np.nan if dtype.is_floating_point else 7
    x, zeros = bordered((n, h, w, c), pad, dtype, wrong), bordered((n, h, w, c), pad, dtype, 0)
    if along != "hw":  # what is not left out has zeros in memory
        kept = slice(pad, -pad) if pad else slice(None)
        if along == "h":
            x[:, kept] = zeros[:, kept]
        else:
            x[:, :, kept] = zeros[:, :, kept]
    view, clear = window2d(x, k, stride, dilation), window2d(zeros, k, stride, dilation)
    by = dilation
    if flip:
        view, clear = view[:, :, :, ::-1, ::-1], clear[:, :, :, ::-1, ::-1]
    shift = (pad - dilation * (k - 1)) if flip else pad
    sign = "-" if flip else "+"
    text = " and ".join(
        f"0 <= {stride}*{letter} {sign} {by}*{tap} - {shift} < {size}".replace("- -", "+ ")
        for letter, tap, size in (("y", "i", h), ("x", "j", w))
        if letter in {"h": "y", "w": "x", "hw": "yx"}[along]
    )
    weight = random_array((k, k, c, o), dtype, 1)
    return Problem(
        "nyxijc,ijco->nyxo", view, weight, guards={"lhs": text}, clear={"lhs": clear}
    )


def gradient(n, h, w, c, o, k, stride=1, pad=1):
    """The gradient for the weight: the taps are rows, the places are summed over."""
    x, zeros = bordered((n, h, w, c), pad), bordered((n, h, w, c), pad, fill=0)
    view, clear = window2d(x, k, stride), window2d(zeros, k, stride)
    out = random_array((*view.shape[:3], o), f32, 1)
    text = " and ".join(
        f"0 <= {stride}*{letter} + {tap} - {pad} < {size}"
        for letter, tap, size in (("y", "i", h), ("x", "j", w))
    )
    return Problem(
        "nyxijc,nyxo->ijco", view, out, guards={"lhs": text}, clear={"lhs": clear}
    )


SHAPES = [
    {"n": 8, "h": 4, "w": 4, "c": 16, "o": 32, "k": 3},
    {"n": 16, "h": 2, "w": 2, "c": 70, "o": 33, "k": 3},
    {"n": 7, "h": 1, "w": 1, "c": 16, "o": 20, "k": 3},  # the kernel's centre is all there is
    {"n": 2, "h": 9, "w": 7, "c": 5, "o": 17, "k": 3, "stride": 2},
    {"n": 6, "h": 3, "w": 3, "c": 8, "o": 24, "k": 3, "pad": 4},  # some windows have no element
    {"n": 5, "h": 6, "w": 6, "c": 600, "o": 40, "k": 3},  # in several blocks
    {"n": 1, "h": 8, "w": 8, "c": 3, "o": 5, "k": 5, "pad": 2},
]
DILATED = {"n": 6, "h": 5, "w": 5, "c": 8, "o": 24, "k": 3, "pad": 2, "dilation": 2}


@pytest.mark.parametrize("along", ["h", "w", "hw"])
@pytest.mark.parametrize("shape", [*SHAPES, DILATED], ids=str)
def test_borders_of_images_are_not_read(shape, along):
    check(windows(**shape, along=along))


@pytest.mark.parametrize("name", RUNNABLE)
def test_on_each_target(name):
    target = named_target(name)
    check(windows(n=6, h=4, w=4, c=30, o=40, k=3), target)
    check(windows(n=3, h=6, w=7, c=300, o=20, k=3, along="h"), target)
    check(gradient(n=3, h=5, w=6, c=20, o=40, k=3), target)


@pytest.mark.parametrize("dtype", ["f64", "i32", "f16", "bf16"])
def test_dtypes(dtype):
    check(windows(n=6, h=3, w=3, c=40, o=33, k=3, dtype=dtype_named(dtype)))


@pytest.mark.parametrize("pad", [0, 1, 2, 3])
def test_flipped_taps(pad):
    check(windows(n=6, h=4, w=5, c=16, o=32, k=3, pad=pad, dilation=2 if pad > 1 else 1, flip=True))


@pytest.mark.parametrize("shape", [s for s in SHAPES if s["h"] > 1], ids=str)
def test_gradients_for_weights(shape):
    check(gradient(**shape))


def test_the_other_operand_may_be_the_guarded_one():
    problem = windows(n=8, h=4, w=4, c=16, o=32, k=3)
    text, clear = problem.guards["lhs"], problem.clear["lhs"]
    check(
        Problem("ijco,nyxijc->nyxo", problem.rhs, problem.lhs,
                guards={"rhs": text}, clear={"rhs": clear})
    )  # fmt: skip


def test_lanes_that_are_not_neighbours():
    """Packed panels would hold what is not in memory."""
    x, zeros = bordered((5, 10, 1, 6), 1), bordered((5, 10, 1, 6), 1, fill=0)
    view, clear = (
        np.lib.stride_tricks.sliding_window_view(a[:, :, 1], 2, axis=1) for a in (x, zeros)
    )
    weight = random_array((5, 11), f32, 1)
    check(
        Problem("gyci,gy->igc", view, weight, guards={"lhs": "0 <= y + i - 1 < 10"},
                clear={"lhs": clear})
    )  # fmt: skip
    check(
        Problem("gy,gyci->igc", weight, view, guards={"rhs": "0 <= y + i - 1 < 10"},
                clear={"rhs": clear})
    )  # fmt: skip


def test_long_sums_skip_the_blocks_of_taps_outside():
    problem = windows(n=6, h=2, w=2, c=512, o=64, k=3)
    plan = schedule(problem.contraction, HOST)
    assert isinstance(plan, Schedule)
    assert {d.var.name for d in plan.outer_inner} & {"i", "j"}
    check(problem)


def test_a_tile_has_one_place_along_what_is_left_out():
    plan = schedule(windows(n=16, h=8, w=8, c=64, o=64, k=5).contraction, HOST)
    assert isinstance(plan, Schedule)
    tile = {dim.var.name for dim in (plan.split, plan.lane, *plan.whole)}
    assert not tile & {"y", "x"} and (plan.pack_a, plan.tile_rows > 4) == ("none", True)


def test_the_interpreter_leaves_them_out():
    problem = windows(n=2, h=2, w=3, c=2, o=3, k=3)
    program = problem.program()
    out = np.zeros(problem.buffers["out"].numel, np.float32)
    run_kernel(program.waves[0][0], {**problem.memory, "out": out})
    np.testing.assert_allclose(out.reshape(2, 2, 3, 3), problem.reference(), rtol=1e-5, atol=1e-6)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_generated_shapes(data):
    draw = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    k, dilation, pad = draw(1, 4), draw(1, 2), draw(0, 4)
    least = max(1, dilation * (k - 1) + 1 - 2 * pad)
    lows = {"n": 1, "h": least, "w": least, "c": 1, "o": 1}
    shape = {letter: draw(low, 40 if letter in "co" else 9) for letter, low in lows.items()}
    if k > 1:
        along = data.draw(st.sampled_from(["h", "w", "hw"]))
        stride = draw(1, 3)
        problem = windows(**shape, k=k, stride=stride, pad=pad, dilation=dilation, along=along)
        check(problem)
        if dilation == 1 and min(problem.lhs.shape[1:3]) > 1:
            check(gradient(**shape, k=k, stride=stride, pad=pad))
