"""Convolutions with 3x3 windows by Winograd's algorithm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from contractions import Problem, compile_problem, random_array, run_problem, window2d
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernels import buffers_of, program_of
from native import Native
from symbolic_kernels import check_symbolic
from test_contractions import RUNNABLE
from test_guarded_contractions import windows

import braze
from braze.codegen.llvm import schedule_search
from braze.codegen.llvm.program import generate
from braze.codegen.llvm.schedule_search import schedule
from braze.codegen.llvm.schedule_winograd import WinogradSchedule, winograd_schedule
from braze.ir.dtypes import bf16, f32, i8
from braze.ir.loops import Apply, Const, Load
from braze.ir.op import op_named
from braze.ir.target import named_target
from braze.runtime.cpu import host_target

HOST = host_target()
# Of results of sums of products of numbers below 1.
TOLERANCE = 2e-5


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """Small shapes are computed in this form too."""
    monkeypatch.setattr(WinogradSchedule, "is_better_than", lambda plan, cycles: True)


def check(problem: Problem, target=HOST) -> None:
    plan = schedule(problem.contraction, target)
    assert isinstance(plan, WinogradSchedule), plan
    got, want = run_problem(problem, target)["out"], problem.reference()
    terms = np.sqrt(9 * plan.channel.extent)
    np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE * terms / 3)


SHAPES = [
    {"n": 1, "h": 4, "w": 4, "c": 32, "o": 32},
    {"n": 3, "h": 8, "w": 8, "c": 32, "o": 64},
    {"n": 2, "h": 5, "w": 7, "c": 48, "o": 48},  # tiles that reach beyond the end
    {"n": 1, "h": 2, "w": 2, "c": 64, "o": 32},
    {"n": 2, "h": 18, "w": 3, "c": 32, "o": 96},
    {"n": 1, "h": 30, "w": 30, "c": 64, "o": 128},  # several blocks and chunks
]


@pytest.mark.parametrize("along", ["h", "w", "hw"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_borders_of_images_are_not_read(shape, along):
    check(windows(**shape, k=3, along=along))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_borders_in_memory(shape):
    n, h, w, c, o = shape.values()
    x = window2d(random_array((n, h + 2, w + 2, c)), 3)
    check(Problem("nhwklc,klco->nhwo", x, random_array((3, 3, c, o), seed=1)))


@pytest.mark.parametrize("name", RUNNABLE)
def test_on_each_target(name):
    target = named_target(name)
    check(windows(n=2, h=9, w=6, c=64, o=64, k=3), target)
    check(windows(n=1, h=6, w=7, c=32, o=32, k=3, along="h"), target)


@pytest.mark.parametrize("layout", ["klco", "oclk", "ockl", "lkoc", "cokl"])
def test_weights_in_any_order(layout):
    """As PyTorch keeps them, among others, and turned by half a turn, as gradients want them."""
    sizes = {"k": 3, "l": 3, "c": 32, "o": 64}
    x = window2d(random_array((2, 8, 11, 32)), 3)
    weight = random_array(tuple(sizes[d] for d in layout), seed=1)
    check(Problem(f"nhwklc,{layout}->nhwo", x, weight))
    turned = tuple(slice(None, None, -1) if d in "kl" else slice(None) for d in layout)
    check(Problem(f"nhwklc,{layout}->nhwo", x, weight[turned]))


@pytest.mark.parametrize("name", RUNNABLE)
@pytest.mark.parametrize("dtype", [bf16, i8], ids=str)
def test_narrow_weights_are_converted_as_they_are_mapped(dtype, name):
    x = window2d(random_array((2, 8, 11, 32)) / 9, 3)
    check(Problem("nhwklc,klco->nhwo", x, random_array((3, 3, 32, 64), dtype)), named_target(name))
    check(Problem("nhwklc,oclk->nhwo", x, random_array((64, 32, 3, 3), dtype)), named_target(name))


def test_channels_that_are_no_neighbours():
    x = np.transpose(random_array((2, 32, 9, 12)), (0, 2, 3, 1))
    problem = Problem("nhwklc,klco->nhwo", window2d(x, 3), random_array((3, 3, 32, 32), seed=1))
    assert winograd_schedule(problem.contraction, HOST).channel_stride == 9 * 12
    check(problem)


def test_the_operands_may_be_exchanged():
    x, w = window2d(random_array((2, 8, 9, 32)), 3), random_array((3, 3, 32, 64), seed=1)
    check(Problem("klco,nhwklc->nhwo", w, x))


def test_one_image_has_no_dimension_for_them():
    x = window2d(random_array((1, 8, 9, 32)), 3)[0]
    check(Problem("hwklc,klco->hwo", x, random_array((3, 3, 32, 64), seed=1)))


@pytest.mark.parametrize("order", ["nohw", "ohwn", "wnho"])
def test_results_in_any_order(order):
    x = window2d(random_array((2, 9, 8, 32)), 3)
    weight = random_array((3, 3, 32, 64), seed=1)
    check(Problem("nhwklc,klco->nhwo", x, weight, out_order=order))


def test_an_epilogue_with_several_results():
    other = random_array((2, 5, 6, 32), seed=2)
    bias = random_array((32,), seed=3)

    def epilogue(problem, acc):
        point, lane = problem.index("nhwo"), problem.index("o")
        biased = Apply(op_named("add"), (acc, Load(problem.buffers["bias"], lane)), f32)
        total = Apply(op_named("add"), (biased, Load(problem.buffers["other"], point)), f32)
        positive = Apply(op_named("maximum"), (total, Const(0.0, f32)), f32)
        return [("out", positive), ("biased", biased)]

    x, w = window2d(random_array((2, 7, 8, 32)), 3), random_array((3, 3, 32, 32), seed=1)
    problem = Problem(
        "nhwklc,klco->nhwo", x, w, extra={"other": other, "bias": bias}, epilogue=epilogue
    )
    got = run_problem(problem, HOST)
    want = problem.reference() + bias
    np.testing.assert_allclose(got["biased"], want, atol=TOLERANCE)
    np.testing.assert_allclose(got["out"], np.maximum(want + other, 0), atol=TOLERANCE)


@pytest.mark.parametrize("grid", [(1, 1), (3, 1), (1, 2), (2, 2), (5, 2)])
def test_any_number_of_chunks(grid, monkeypatch):
    problem = windows(n=2, h=10, w=13, c=32, o=64, k=3)
    plan = replace(winograd_schedule(problem.contraction, HOST), grid=grid, vectors=1)
    monkeypatch.setattr(schedule_search, "WINOGRAD_FORMS", (lambda *_: plan,))
    assert compile_problem(problem, HOST).chunks == grid[0] * grid[1]
    check(problem)


def test_filters_of_one_block_are_mapped_panel_by_panel(monkeypatch):
    """Only one panel's are in memory then, which stay in the caches."""
    problem = windows(n=1, h=8, w=8, c=32, o=128, k=3)
    one = replace(winograd_schedule(problem.contraction, HOST), grid=(1, 1), vectors=1)
    several = replace(one, decided=(2, 2))
    assert one.has_one_block and not several.has_one_block
    assert (one.kept_panels, several.kept_panels) == (1, one.panels)
    for plan in (one, several):
        monkeypatch.setattr(schedule_search, "WINOGRAD_FORMS", (lambda *_, plan=plan: plan,))
        schedule.cache_clear()
        check(problem)
    schedule.cache_clear()


def test_a_small_cache_has_smaller_blocks():
    problem = windows(n=16, h=16, w=16, c=32, o=32, k=3)
    small = replace(HOST, l2_bytes=HOST.l2_bytes // 8)
    plans = [winograd_schedule(problem.contraction, target) for target in (HOST, small)]
    assert plans[1].block < plans[0].block
    assert plans[1].scratch_offsets[-1] < plans[0].scratch_offsets[-1]
    check(problem, small)


@pytest.mark.parametrize("channels", [32, 256])
def test_errors_are_about_twice_those_of_a_plain_sum(channels):
    """The errors' root mean square, against a sum term by term in f32."""
    problem = windows(n=1, h=16, w=16, c=channels, o=32, k=3)
    want = problem.reference()
    got = run_problem(problem, HOST)["out"]
    plain = np.zeros_like(got)
    x = problem.clear["lhs"].reshape(1, 16, 16, -1)
    for term, weight in zip(np.moveaxis(x, -1, 0), problem.rhs.reshape(-1, 32), strict=True):
        plain += term[..., None] * weight
    errors = [np.sqrt(np.mean((found - want) ** 2)) for found in (got, plain)]
    assert errors[0] < 3.5 * errors[1]


def test_what_is_not_finite_stays_in_its_tiles():
    """An infinite value makes the 4x4 results of each tile that it is in not finite, no others."""
    x = random_array((1, 14, 14, 32))
    x[0, 1, 1] = np.inf
    problem = Problem("nhwklc,klco->nhwo", window2d(x, 3), random_array((3, 3, 32, 32), seed=1))
    got = run_problem(problem, HOST)["out"]
    finite = np.isfinite(got).all(axis=(0, 3))
    assert not finite[:2, :2].any() and finite[4:].all() and finite[:, 4:].all()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_generated_shapes(data):
    draw = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    sizes = {"n": draw(1, 3), "h": draw(2, 14), "w": draw(2, 14)}
    sizes |= {"c": 16 * draw(2, 5), "o": 16 * draw(2, 5)}
    along = data.draw(st.sampled_from(["h", "w", "hw"]))
    check(windows(**sizes, k=3, pad=draw(1, 3), along=along))


H, W, IN, OUT = 9, 6, 32, 32


def images(n, border):
    """A convolution of n images, whose border is left out along some letters, with an addition."""
    rows, columns = (size if c in border else size + 2 for c, size in (("h", H), ("w", W)))
    top, left = (-(letter in border) for letter in "hw")
    image, row = rows * columns * IN, columns * IN
    places = {"h": f"0 <= i + h{top:+d} < {rows}", "w": f"0 <= j + w{left:+d} < {columns}"}
    guard = " and ".join(places[letter] for letter in border)
    start = top * row + left * IN
    return f"""contraction @conv(%x: f32[{n * image}] in, %w: f32[{9 * IN * OUT}] in,
        %r: f32[{n * H * W * OUT}] in, %y: f32[{n * H * W * OUT}] out) {{
      for n in {n}, h in {H}, w in {W}, o in {OUT} {{
        acc: f32 = sum i in 3, j in 3, k in {IN} of
            %x[{image}*n + {row}*h + {IN}*w + {row}*i + {IN}*j + k
            {f"- {-start}" if start else ""} {f"if {guard}" if guard else ""}]
            * %w[{3 * IN * OUT}*i + {IN * OUT}*j + {OUT}*k + o]
        store %y[{H * W * OUT}*n + {W * OUT}*h + {OUT}*w + o] =
            maximum(add(acc, %r[{H * W * OUT}*n + {W * OUT}*h + {OUT}*w + o]), 0.0)
      }}
    }}"""


def convolved(x, w, r, border=""):
    """What these compute, by NumPy."""
    rows, columns = (size if c in border else size + 2 for c, size in (("h", H), ("w", W)))
    x = x.reshape(-1, rows, columns, IN)
    around = [(0, 0), *(((1, 1) if c in border else (0, 0)) for c in "hw"), (0, 0)]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, around), (3, 3), (1, 2))
    sums = np.einsum("nhwkij,ijko->nhwo", windows, w.reshape(3, 3, IN, OUT), optimize=True)
    return np.maximum(sums + r.reshape(sums.shape), 0)


@pytest.mark.parametrize("border", ["", "h", "hw"])
def test_any_number_of_images(border):
    found = check_symbolic(
        lambda n: images(n, border),
        [2, 3, 7, 8, 20, 41],
        like=8,
        tolerance=1e-4,
        reference=lambda x, w, r: convolved(x, w, r, border),
    )
    (kernel,) = found.program.kernels()
    assert isinstance(schedule(kernel, HOST), WinogradSchedule)


def test_images_that_lie_apart_by_a_symbolic_stride_are_no_such_convolution():
    """Here the number of images is not the outermost dimension: rows lie apart by it."""

    def text_at(n):
        return f"""contraction @conv(%x: f32[{n * 8 * 8 * 32}] in, %w: f32[9216] in,
            %y: f32[{n * 6 * 6 * 32}] out) {{
          for h in 6, w in 6, n in {n}, o in 32 {{
            acc: f32 = sum i in 3, j in 3, k in 32 of
                %x[{256 * n}*h + {32 * n}*w + 32*n + {256 * n}*i + {32 * n}*j + k]
                * %w[3072*i + 1024*j + 32*k + o]
            store %y[{192 * n}*h + {32 * n}*w + 32*n + o] = acc
          }}
        }}"""

    def reference(x, w):
        windows = np.lib.stride_tricks.sliding_window_view(x.reshape(8, 8, -1, 32), (3, 3), (0, 1))
        return np.einsum("hwnkij,ijko->hwno", windows, w.reshape(3, 3, 32, 32), optimize=True)

    found = check_symbolic(text_at, [3, 8, 20], like=8, tolerance=1e-4, reference=reference)
    (kernel,) = found.program.kernels()
    assert not isinstance(schedule(kernel, HOST), WinogradSchedule)


def test_kernels_of_a_program_share_the_maps():
    """They are hundreds of instructions each."""
    first = images(2, "hw")
    program = program_of(first, first.replace("@conv", "@other").replace("%y", "%z"))
    modules = dict(generate(program, HOST).modules)
    maps = modules.pop("braze_winograd")
    for name in ("image_3", "filter_3", "results_3"):
        symbol = f"@braze_winograd_{name}_{HOST.vector_lanes(4)}("
        assert maps.count(f"define void {symbol}") == 1
        assert all(f"define void {symbol}" not in text for text in modules.values())
    native, rng = Native(program), np.random.default_rng(0)
    ins, outs = buffers_of(program)
    arrays = [rng.standard_normal(buffer.numel).astype(np.float32) for buffer in ins]
    y, z = native.run(arrays, [np.zeros(buffer.numel, np.float32) for buffer in outs])
    assert (y == z).all() and y.any()


def test_a_network_of_them_as_a_package_and_from_c(tmp_path):
    braze.manual_seed(0)
    layers = [braze.nn.Conv2d(32, 32, 3, padding=1), braze.nn.ReLU(), braze.nn.Conv2d(32, 48, 3)]
    model, x = braze.nn.Sequential(*layers).eval(), braze.randn(2, 32, 10, 10)
    path = tmp_path / "m.brz"
    braze.aot.compile(model, x, path)
    with braze.no_grad():
        expected = model(x).numpy()
    np.testing.assert_allclose(braze.aot.load(path)(x.numpy()), expected, atol=1e-5)
    braze.aot.export_c(path, tmp_path)
    assert (tmp_path / "m.o").exists()
