"""Convolutions and gradients for filters by Winograd's algorithm, for windows that are no 3x3 of
stride 1: 2x2, and strides whose phases are such windows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from contractions import Problem, compile_problem, random_array, run_problem, window2d
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from symbolic_kernels import check_symbolic
from test_contractions import RUNNABLE
from test_guarded_contractions import gradient, windows

import braze
from braze.codegen.llvm import schedule_search
from braze.codegen.llvm.schedule_search import schedule
from braze.codegen.llvm.schedule_winograd import WinogradSchedule, winograd_schedule
from braze.codegen.llvm.schedule_winograd_gradient import (
    WinogradGradientSchedule,
    winograd_gradient_schedule,
)
from braze.ir.target import named_target
from braze.nn import functional as F
from braze.runtime.cpu import host_target

HOST = host_target()
# Windows and strides, and the taps that are left of them.
WINDOWS = {(2, 1): 2, (3, 1): 3, (4, 2): 2, (6, 2): 3, (6, 3): 2, (9, 3): 3}
# Of results of sums of products of numbers below 1.
TOLERANCE = 1e-5


@pytest.fixture(autouse=True)
def always(request, monkeypatch):
    """Small shapes are computed in these forms too."""
    if "chosen" in request.node.name:
        return
    for plan in (WinogradSchedule, WinogradGradientSchedule):
        monkeypatch.setattr(plan, "is_better_than", lambda plan, cycles: True)


def check(problem: Problem, taps: int, target=HOST) -> None:
    plan = schedule(problem.contraction, target)
    assert isinstance(plan, WinogradSchedule | WinogradGradientSchedule), plan
    assert plan.form.taps == taps
    got, want = run_problem(problem, target)["out"], problem.reference()
    terms = 16 * plan.tiles if isinstance(plan, WinogradGradientSchedule) else 9 * plan.depth
    np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE * np.sqrt(terms))


@pytest.mark.parametrize("along", ["h", "w", "hw"])
@pytest.mark.parametrize(("window", "stride"), WINDOWS)
def test_borders_of_images_are_not_read(window, stride, along):
    taps = WINDOWS[window, stride]
    for n, size, pad in ((3, (8, 8), 1), (2, (17, 11), 2), (1, (12, 27), window - 1)):
        h, w = (max(extent, window + stride) for extent in size)
        shape = {"n": n, "h": h, "w": w, "c": 32, "o": 64, "k": window, "stride": stride}
        check(windows(**shape, pad=pad, along=along), taps)


@pytest.mark.parametrize(("window", "stride"), WINDOWS)
def test_gradients(window, stride):
    taps = WINDOWS[window, stride]
    for n, size, pad in ((3, (8, 8), 1), (2, (17, 11), 2), (4, (12, 27), window - 1)):
        h, w = (max(extent, window + stride) for extent in size)
        shape = {"n": n, "h": h, "w": w, "c": 64, "o": 32, "k": window, "stride": stride}
        check(gradient(**shape, pad=pad), taps)


@pytest.mark.parametrize("name", RUNNABLE)
@pytest.mark.parametrize(("window", "stride"), [(2, 1), (4, 2)])
def test_on_each_target(name, window, stride):
    target, shape = named_target(name), {"n": 2, "h": 10, "w": 14, "c": 32, "o": 64}
    check(windows(**shape, k=window, stride=stride), 2, target)
    check(gradient(**shape, k=window, stride=stride), 2, target)


@pytest.mark.parametrize("layout", ["klco", "oclk", "cokl"])
def test_weights_in_any_order(layout):
    sizes = {"k": 4, "l": 4, "c": 32, "o": 64}
    x = window2d(random_array((2, 10, 14, 32)), 4, 2)
    weight = random_array(tuple(sizes[d] for d in layout), seed=1)
    check(Problem(f"nhwklc,{layout}->nhwo", x, weight), 2)


def test_channels_that_are_no_neighbours():
    x = np.transpose(random_array((2, 32, 10, 12)), (0, 2, 3, 1))
    check(Problem("nhwklc,klco->nhwo", window2d(x, 4, 2), random_array((4, 4, 32, 32), seed=1)), 2)
    g = np.transpose(random_array((2, 32, 4, 5), seed=1), (0, 2, 3, 1))
    check(Problem("nhwklc,nhwo->klco", window2d(x, 4, 2), g), 2)


def test_directions_with_other_strides():
    """Windows of 4x2 with strides 2 and 1 are such of 2x2, with two phases."""
    x = random_array((2, 12, 9, 32))
    n, h, w, c = x.strides
    view = np.lib.stride_tricks.as_strided(
        x, (2, 5, 8, 4, 2, 32), (n, 2 * h, w, h, w, c), writeable=False
    )
    problem = Problem("nhwklc,klco->nhwo", view, random_array((4, 2, 32, 32), seed=1))
    assert winograd_schedule(problem.contraction, HOST).phases == [2, 1]
    check(problem, 2)
    check(Problem("nhwklc,nhwo->klco", view, random_array((2, 5, 8, 64), seed=1)), 2)


@pytest.mark.parametrize("along", ["h", "w", "hw"])
@pytest.mark.parametrize("dilation", [2, 3])
def test_dilated_windows(dilation, along):
    for n, h, w in ((2, 8, 8), (3, 7, 11), (1, 17, 26), (2, 3, 4)):
        shape = {"n": n, "h": h, "w": w, "c": 32, "o": 64, "k": 3, "dilation": dilation}
        check(windows(**shape, pad=dilation, along=along), 3)


@pytest.mark.parametrize("border", [0, 3])
def test_gradients_of_dilated_windows(border):
    x, g = random_array((2, 19, 22, 32)), random_array((2, 13, 16, 64), seed=1)
    view = window2d(x, 3, dilation=3)
    check(Problem("nhwklc,nhwo->klco", view, g), 3)
    guarded = F.pad(braze.tensor(x), (0, 0, *[border] * 4)).numpy()
    problem = dilated_gradient(guarded, border)
    check(problem, 3)


def dilated_gradient(x: np.ndarray, border: int) -> Problem:
    """Of 3x3 windows with dilation 3, whose border is left out."""
    n, h, w, _ = x.shape
    wrong = np.full_like(x, np.nan)
    inside = slice(border, h - border), slice(border, w - border)
    wrong[:, *inside] = x[:, *inside]
    view = window2d(wrong, 3, dilation=3)
    g = random_array((*view.shape[:3], 64), seed=1)
    guard = (
        f"0 <= h + 3*k - {border} < {h - 2 * border} and 0 <= w + 3*l - {border} < "
        f"{w - 2 * border}"
    )
    clear = {"lhs": window2d(x, 3, dilation=3)}
    return Problem("nhwklc,nhwo->klco", view, g, guards={"lhs": guard}, clear=clear)


def transposed(n: int, h: int, w: int, c: int, o: int) -> Problem:
    """A transposed convolution of stride 2 with 4x4 windows: four windows of 2x2 on the same image,
    of which half begin one element later."""
    x = random_array((n, h + 2, w + 2, o))
    a, b, d, e = x.strides
    view = np.lib.stride_tricks.as_strided(
        x, (n, h, 2, w, 2, 2, 2, o), (a, b, b, d, d, b, d, e), writeable=False
    )
    weight = random_array((o, c, 4, 4), seed=1).reshape(o, c, 2, 2, 2, 2)
    return Problem("nhxwykmo,ockxmy->nhxwyc", view, weight[:, :, ::-1, ::-1, ::-1, ::-1])


@pytest.mark.parametrize("name", RUNNABLE)
def test_dimensions_of_all_operands(name):
    problem = transposed(n=2, h=7, w=9, c=32, o=64)
    assert winograd_schedule(problem.contraction, HOST).loop_count == 4
    check(problem, 2, named_target(name))


def test_groups():
    x = window2d(random_array((2, 18, 18, 64)), 3).reshape(2, 16, 16, 3, 3, 2, 32)
    weight = random_array((2, 3, 3, 32, 32), seed=1)
    check(Problem("nhwgklc,gklco->nhwgo", np.moveaxis(x, 5, 3), weight), 3)


@pytest.mark.parametrize("grid", [(1, 1), (3, 1), (1, 2), (2, 2)])
def test_any_number_of_chunks(grid, monkeypatch):
    for problem in (
        windows(n=2, h=10, w=14, c=32, o=64, k=4, stride=2),
        transposed(n=3, h=5, w=6, c=64, o=32),
    ):
        plan = replace(winograd_schedule(problem.contraction, HOST), grid=grid, vectors=1)
        monkeypatch.setattr(schedule_search, "WINOGRAD_FORMS", (lambda *_, plan=plan: plan,))
        chunks = plan.loop_count * grid[0] * grid[1]
        assert compile_problem(problem, HOST).chunks == chunks
        check(problem, 2)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_generated_shapes(data):
    draw = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    window, stride = data.draw(st.sampled_from([*WINDOWS]))
    least = window + stride  # there are two places in each direction
    sizes = {"n": draw(1, 3), "h": least + draw(0, 10), "w": least + draw(0, 10)}
    sizes |= {"c": 16 * draw(2, 4), "o": 16 * draw(2, 4), "k": window, "stride": stride}
    along = data.draw(st.sampled_from(["h", "w", "hw"]))
    check(windows(**sizes, pad=draw(1, window), along=along), WINDOWS[window, stride])
    check(gradient(**sizes, pad=draw(0, window)), WINDOWS[window, stride])


def test_errors_are_less_than_twice_those_of_a_plain_sum():
    """The errors' root mean square, against a sum term by term in f32."""
    for problem, equation in (
        (windows(n=1, h=32, w=32, c=32, o=32, k=4, stride=2), "nyxijc,ijco->nyxo"),
        (gradient(n=16, h=16, w=16, c=32, o=32, k=4, stride=2), "nyxijc,nyxo->ijco"),
    ):
        want, got = problem.reference(), run_problem(problem, HOST)["out"]
        plain = np.zeros_like(got)
        for x, y in _terms(problem, equation):
            plain += x * y
        errors = [np.sqrt(np.mean((found - want) ** 2)) for found in (got, plain)]
        assert errors[0] < 2 * errors[1]


def _terms(problem, equation):
    """The factors of one term after the other of all sums."""
    x, y = problem.clear["lhs"], problem.rhs
    if equation.endswith("nyxo"):
        for i, j, c in np.ndindex(y.shape[:3]):
            yield x[:, :, :, i, j, c, None], y[i, j, c]
    else:
        for place in np.ndindex(y.shape[:3]):
            yield x[place][..., None], y[place]


def test_any_number_of_images():
    h, w, c, o = 10, 12, 32, 32

    def images(n):
        row, image = w * c, h * w * c
        return f"""contraction @conv(%x: f32[{n * image}] in, %w: f32[{16 * c * o}] in,
            %y: f32[{n * 5 * 6 * o}] out) {{
          for n in {n}, h in 5, w in 6, o in {o} {{
            acc: f32 = sum i in 4, j in 4, k in {c} of
                %x[{image}*n + {2 * row}*h + {2 * c}*w + {row}*i + {c}*j + k - {row + c}
                if 0 <= i + 2*h - 1 < {h} and 0 <= j + 2*w - 1 < {w}]
                * %w[{4 * c * o}*i + {c * o}*j + {o}*k + o]
            store %y[{30 * o}*n + {6 * o}*h + {o}*w + o] = acc
          }}
        }}"""

    def reference(x, weight):
        around = ((0, 0), (1, 1), (1, 1), (0, 0))
        x = window2d(np.pad(x.reshape(-1, h, w, c), around), 4, 2)
        return np.einsum("nhwijk,ijko->nhwo", x, weight.reshape(4, 4, c, o), optimize=True)

    found = check_symbolic(images, [2, 3, 8, 21], like=8, tolerance=1e-4, reference=reference)
    (kernel,) = found.program.kernels()
    assert isinstance(schedule(kernel, HOST), WinogradSchedule)


OTHERS = {
    "window": {"k": 4},
    "stride": {"k": 3, "stride": 2},
    "phases of other sizes": {"k": 5, "stride": 2},
    "too many phases": {"k": 8, "stride": 4, "pad": 3},
    "a stride and a dilation": {"k": 6, "stride": 2, "dilation": 3, "pad": 6},
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_contractions(name):
    shape = {"n": 2, "h": 16, "w": 16, "c": 64, "o": 64}
    assert winograd_schedule(windows(**shape, **OTHERS[name]).contraction, HOST) is None
    if "dilation" not in OTHERS[name]:
        problem = gradient(**shape, **OTHERS[name])
        assert winograd_gradient_schedule(problem.contraction, HOST) is None


@pytest.mark.parametrize("name", ["x86-64-v3", "x86-64-v4", "aarch64"])
def test_it_is_chosen_for_layers_of_generators_and_discriminators(name):
    target = named_target(name)
    for h, c, o in ((16, 64, 128), (8, 128, 256)):
        shape = {"n": 16, "h": 2 * h, "w": 2 * h, "c": c, "o": o, "k": 4, "stride": 2}
        plan = schedule(windows(**shape).contraction, target)
        assert isinstance(plan, WinogradSchedule) and "2x2 windows" in str(plan)
        plan = schedule(gradient(**shape).contraction, target)
        assert isinstance(plan, WinogradGradientSchedule) and "2x2 filters" in str(plan)
        plan = schedule(transposed(n=16, h=h, w=h, c=c, o=o).contraction, target)
        assert isinstance(plan, WinogradSchedule) and plan.loop_count == 4


def test_it_is_not_chosen_where_it_would_not_gain():
    for h, c, o in ((4, 512, 512), (32, 3, 64), (32, 64, 16)):
        shape = {"n": 2, "h": h, "w": h, "c": c, "o": o, "k": 4, "stride": 2}
        assert not isinstance(schedule(windows(**shape).contraction, HOST), WinogradSchedule)


def test_modules_with_their_gradients():
    """Against the interpreter."""
    found = []
    for tier in ("compile", "interpret"):
        with braze.config.using(tier=tier):
            braze.manual_seed(0)
            x = braze.randn(2, 32, 12, 16, requires_grad=True)
            down = braze.randn(64, 32, 4, 4, requires_grad=True)
            up = braze.randn(64, 32, 4, 4, requires_grad=True)
            y = F.conv2d(x, down, stride=2, padding=1)
            z = F.conv_transpose2d(y, up, stride=2, padding=1)
            (z * braze.randn(z.shape)).sum().backward()
            found.append([t.detach().numpy() for t in (z, x.grad, down.grad, up.grad)])
    for got, want in zip(*found, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * np.abs(want).max())
