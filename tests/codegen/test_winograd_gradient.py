"""Gradients for 3x3 filters by Winograd's algorithm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from contractions import Problem, compile_problem, random_array, run_problem, window2d
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_contractions import RUNNABLE
from test_guarded_contractions import gradient, windows

from braze.codegen.llvm import schedule_search
from braze.codegen.llvm.schedule_search import schedule
from braze.codegen.llvm.schedule_winograd_gradient import (
    WinogradGradientSchedule,
    winograd_gradient_schedule,
)
from braze.ir.dtypes import f32, f64
from braze.ir.loops import Apply, Load
from braze.ir.op import op_named
from braze.ir.target import named_target
from braze.runtime.cpu import host_target

HOST = host_target()


@pytest.fixture
def always(monkeypatch):
    """Small shapes are computed in this form too."""
    monkeypatch.setattr(WinogradGradientSchedule, "is_better_than", lambda plan, cycles: True)


def check(problem: Problem, target=HOST) -> None:
    plan = schedule(problem.contraction, target)
    assert isinstance(plan, WinogradGradientSchedule), plan
    got, want = run_problem(problem, target)["out"], problem.reference()
    terms = np.sqrt(16 * plan.tiles)
    np.testing.assert_allclose(got, want, rtol=0, atol=8e-6 * terms)


SHAPES = [
    {"n": 1, "h": 4, "w": 4, "c": 32, "o": 32},
    {"n": 3, "h": 8, "w": 8, "c": 32, "o": 64},
    {"n": 2, "h": 5, "w": 7, "c": 48, "o": 48},  # tiles that reach beyond the end
    {"n": 2, "h": 18, "w": 3, "c": 96, "o": 32},
    {"n": 2, "h": 30, "w": 30, "c": 64, "o": 128},  # several blocks and chunks
]


def in_memory(n, h, w, c, o, equation="nhwklc,nhwo->klco", order=""):
    x = window2d(random_array((n, h + 2, w + 2, c)), 3)
    return Problem(equation, x, random_array((n, h, w, o), seed=1), out_order=order)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_borders_of_images_are_not_read(shape, always):
    check(gradient(**shape, k=3))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_borders_in_memory(shape, always):
    check(in_memory(**shape))


@pytest.mark.parametrize("name", RUNNABLE)
def test_on_each_target(name, always):
    check(gradient(n=2, h=9, w=6, c=64, o=64, k=3), named_target(name))


@pytest.mark.parametrize("order", ["ocklx", "cklo", "oklc"])
def test_results_in_any_order(order, always):
    check(in_memory(**SHAPES[2], order=order.replace("x", "")))


def test_channels_that_are_no_neighbours(always):
    x = np.transpose(random_array((2, 32, 9, 12)), (0, 2, 3, 1))
    g = np.transpose(random_array((2, 32, 7, 10), seed=1), (0, 2, 3, 1))
    problem = Problem("nhwklc,nhwo->klco", window2d(x, 3), g)
    plan = winograd_gradient_schedule(problem.contraction, HOST)
    assert (plan.channel_stride, plan.lane_stride) == (9 * 12, 7 * 10)
    check(problem)


def test_the_operands_may_be_exchanged(always):
    x, g = window2d(random_array((2, 8, 9, 32)), 3), random_array((2, 6, 7, 64), seed=1)
    check(Problem("nhwo,nhwklc->klco", g, x))


def test_sums_in_parts(always):
    """A dimension of both operands that is not summed over."""
    x, g = window2d(random_array((6, 8, 9, 32)), 3), random_array((6, 6, 7, 64), seed=1)
    x, g = x.reshape(2, 3, *x.shape[1:]), g.reshape(2, 3, *g.shape[1:])
    problem = Problem("anhwklc,anhwo->aklco", x, g)
    assert winograd_gradient_schedule(problem.contraction, HOST).loop_count == 2
    check(problem)


def test_an_epilogue(always):
    weight = random_array((3, 3, 32, 32), seed=2)

    def epilogue(problem, acc):
        own = Load(problem.buffers["weight"], problem.index("klco"))
        return [("out", acc), ("new", Apply(op_named("sub"), (own, acc), f32))]

    x, g = window2d(random_array((2, 7, 8, 32)), 3), random_array((2, 5, 6, 32), seed=1)
    problem = Problem(
        "nhwklc,nhwo->klco", x, g, extra={"weight": weight}, epilogue=epilogue
    )
    got, want = run_problem(problem, HOST), problem.reference()
    np.testing.assert_allclose(got["out"], want, atol=1e-4)
    np.testing.assert_allclose(got["new"], weight - want, atol=1e-4)


@pytest.mark.parametrize("grid", [(1, 1), (2, 1), (1, 2), (4, 4)])
def test_any_number_of_chunks(grid, monkeypatch, always):
    problem = gradient(n=2, h=10, w=13, c=64, o=64, k=3)
    plan = winograd_gradient_schedule(problem.contraction, HOST)
    plan = replace(plan, grid=grid, vectors=1)
    monkeypatch.setattr(schedule_search, "WINOGRAD_FORMS", (lambda *_: plan,))
    assert compile_problem(problem, HOST).chunks == grid[0] * grid[1]
    check(problem)


def test_errors_are_about_twice_those_of_a_plain_sum(always):
    """The errors' root mean square, against a sum term by term in f32."""
    problem = gradient(n=16, h=12, w=12, c=32, o=32, k=3)
    want, got = problem.reference(), run_problem(problem, HOST)["out"]
    plain = np.zeros_like(got)
    x = np.moveaxis(problem.clear["lhs"], (3, 4, 5), (0, 1, 2)).reshape(3, 3, 32, -1)
    for place, values in enumerate(problem.rhs.reshape(-1, 32)):
        plain += x[..., place, None] * values
    errors = [np.sqrt(np.mean((found - want) ** 2)) for found in (got, plain)]
    assert errors[0] < 3 * errors[1]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_generated_shapes(data):
    draw = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    sizes = {"n": draw(1, 3), "h": draw(2, 14), "w": draw(2, 14)}
    sizes |= {"c": 16 * draw(2, 5), "o": 16 * draw(2, 5)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WinogradGradientSchedule, "is_better_than", lambda plan, cycles: True)
        check(gradient(**sizes, k=3, pad=draw(0, 2) if min(sizes["h"], sizes["w"]) > 3 else 1))


# When it is chosen --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x86-64-v3", "x86-64-v4", "aarch64"])
def test_layers_of_residual_networks(name):
    for n, h, c in ((16, 56, 64), (16, 28, 128), (16, 14, 256)):
        plan = schedule(in_memory(n, h, h, c, c).contraction, named_target(name))
        assert isinstance(plan, WinogradGradientSchedule)
        assert "Winograd, for 3x3 filters: " in str(plan)


def test_what_would_not_gain():
    """Few tiles for a large filter, and few channels."""
    for n, h, c, o in ((1, 4, 256, 256), (2, 7, 512, 512), (8, 32, 3, 64), (8, 32, 64, 16)):
        plan = schedule(in_memory(n, h, h, c, o).contraction, HOST)
        assert not isinstance(plan, WinogradGradientSchedule)


OTHERS = {
    "window": gradient(n=2, h=16, w=16, c=64, o=64, k=5),
    "stride": gradient(n=2, h=17, w=17, c=64, o=64, k=3, stride=2),
    "forward": windows(n=2, h=16, w=16, c=64, o=64, k=3),
    "dtype": Problem(
        "nhwklc,nhwo->klco",
        window2d(random_array((2, 18, 18, 64), f64), 3),
        random_array((2, 16, 16, 64), f64),
    ),
    "columns": in_memory(2, 16, 16, 64, 36),
    "channels": in_memory(2, 16, 16, 36, 64),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_contractions(name):
    assert winograd_gradient_schedule(OTHERS[name].contraction, HOST) is None
