"""When a contraction is computed by Winograd's algorithm."""

from __future__ import annotations

import numpy as np
import pytest
from contractions import Problem, random_array, window2d
from test_guarded_contractions import gradient, windows

from braze.codegen.llvm.schedule_parts import parallel_cost
from braze.codegen.llvm.schedule_search import schedule, weighed
from braze.codegen.llvm.schedule_winograd import WinogradSchedule, winograd_schedule
from braze.ir.dtypes import f32, f64
from braze.ir.target import named_target
from braze.runtime.cpu import host_target

HOST = host_target()
V3 = named_target("x86-64-v3")


@pytest.mark.parametrize("target", [V3, named_target("x86-64-v4"), named_target("aarch64")])
def test_layers_of_residual_networks(target):
    for n, h, c in ((16, 56, 64), (16, 28, 128), (16, 14, 256)):
        x = window2d(random_array((n, h + 2, h + 2, c)), 3)
        problem = Problem("nhwklc,klco->nhwo", x, random_array((3, 3, c, c)))
        assert isinstance(schedule(problem.contraction, target), WinogradSchedule)


def test_what_would_not_gain():
    """A large filter for a small image, and few channels."""
    for n, h, c, o in ((1, 4, 256, 256), (1, 7, 512, 512), (8, 32, 3, 64), (8, 32, 64, 16)):
        x = window2d(random_array((n, h + 2, h + 2, c)), 3)
        problem = Problem("nhwklc,klco->nhwo", x, random_array((3, 3, c, o)))
        assert not isinstance(schedule(problem.contraction, HOST), WinogradSchedule)


def _convolution(k=3, stride=1, dtype=f32, c=64, o=64) -> Problem:
    x = window2d(random_array((4, 32, 32, c), dtype), k, stride)
    return Problem("nhwklc,klco->nhwo", x, random_array((k, k, c, o), dtype))


OTHERS = {
    "window": _convolution(k=5),
    "stride": _convolution(stride=2),
    "dtype": _convolution(dtype=f64),
    "columns": _convolution(o=36),
    "channels": _convolution(c=36),
    "no window": Problem(
        "nhwklc,klco->nhwo",
        np.broadcast_to(random_array((2, 16, 16, 1, 1, 64)), (2, 16, 16, 3, 3, 64)),
        random_array((3, 3, 64, 64)),
    ),
    "gradient": gradient(n=4, h=16, w=16, c=64, o=64, k=3),
    "flipped": windows(n=2, h=16, w=16, c=64, o=64, k=3, flip=True),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_contractions(name):
    assert winograd_schedule(OTHERS[name].contraction, HOST) is None


def test_it_counts_when_layouts_are_compared():
    problem = _convolution()
    plan = schedule(problem.contraction, HOST)
    assert isinstance(plan, WinogradSchedule)
    assert weighed(problem.contraction, HOST) == parallel_cost(plan.cost(), plan.chunks)
    assert "Winograd: 3x3 windows, blocks of" in str(plan)
