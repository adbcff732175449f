"""Contraction kernels against NumPy: products, convolutions and their gradients, dtypes, epilogues,
targets.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from contractions import Problem, compile_problem, random_array, run_problem, window2d
from native import run_native

from braze.codegen.llvm.schedule_contraction import Schedule
from braze.codegen.llvm.schedule_dot import DotSchedule
from braze.codegen.llvm.schedule_search import schedule
from braze.ir import op_named
from braze.ir.dtypes import bool_, dtype_named, f32
from braze.ir.index import Index
from braze.ir.loops import Apply, Buffer, Const, Expr, Load, Placement, Program, Store
from braze.ir.target import can_run, named_target
from braze.runtime.cpu import host_target

HOST = host_target()
RUNNABLE = [
    name for name in ("x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64")
    if can_run(named_target(name), HOST) is None
]  # fmt: skip


def check(problem: Problem, target=HOST) -> None:
    """The kernel's result is NumPy's, to the rounding errors of a sum in the sum's precision."""
    got = run_problem(problem, target)["out"]
    compare(problem, got)


def compare(problem: Problem, got: np.ndarray) -> None:
    want = problem.reference()
    if not problem.dtype.is_floating_point:
        np.testing.assert_array_equal(got, want)
        return
    terms = 1
    for variable in list(problem.variables.values())[len(problem.out) :]:
        terms *= variable.extent
    rounding = np.finfo(problem.sum_dtype.numpy).eps
    # Operands are at most 1; products of both signs and rounding errors mostly cancel.
    np.testing.assert_allclose(got, want, rtol=0, atol=4 * rounding * max(1, terms) ** 0.75 + 1e-12)


def product(kind: str, m: int, n: int, k: int, dtype=f32) -> Problem:
    left, right = ("mk", "km")[kind[0] == "T"], ("kn", "nk")[kind[1] == "T"]
    sizes = {"m": m, "n": n, "k": k}
    a = random_array(tuple(sizes[c] for c in left), dtype)
    b = random_array(tuple(sizes[c] for c in right), dtype, seed=1)
    return Problem(f"{left},{right}->mn", a, b)


SIZES = [
    (1, 1, 1), (2, 3, 5), (6, 16, 7), (7, 17, 31), (31, 64, 100), (100, 15, 64),
    (5, 100, 1), (1, 64, 100), (64, 1, 100), (3, 100, 64), (64, 128, 300),
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", ["NN", "NT", "TN", "TT"])
def test_matrix_product(kind: str, size: tuple[int, int, int]) -> None:
    check(product(kind, *size))


@pytest.mark.parametrize("name", RUNNABLE)
@pytest.mark.parametrize("kind", ["NN", "NT", "TN"])
def test_matrix_product_on_each_target(kind: str, name: str) -> None:
    check(product(kind, 37, 45, 70), named_target(name))


@pytest.mark.parametrize("dtype", ["f64", "i64", "u64", "i32", "i16", "u16", "i8", "u8"])
@pytest.mark.parametrize("name", RUNNABLE)
def test_dtypes(dtype: str, name: str) -> None:
    check(product("NT", 20, 33, 37, dtype_named(dtype)), named_target(name))
    check(product("NN", 6, 33, 21, dtype_named(dtype)), named_target(name))


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
@pytest.mark.parametrize("name", RUNNABLE)
def test_narrow_operands_are_summed_in_f32(dtype: str, name: str) -> None:
    for kind, rows in (("NN", 20), ("NT", 20), ("TN", 20), ("NT", 2)):
        check(product(kind, rows, 33, 300, dtype_named(dtype)), named_target(name))
    check(product("NN", 3, 17, 17, dtype_named(dtype)), named_target(name))  # one lane is left


@pytest.mark.parametrize("kind", ["NN", "NT", "TN", "TT"])
def test_long_sums_are_made_in_blocks(kind: str) -> None:
    problem = product(kind, 70, 66, 5003)
    plan = schedule(problem.contraction, HOST)
    assert isinstance(plan, Schedule) and plan.blocks > 1 and plan.uneven
    check(problem)


@pytest.mark.parametrize(
    "equation", ["mk,kn->mn", "mk,nk->mn", "km,km->m"], ids=["broadcast", "dot", "lanes"]
)
def test_long_sums_stay_accurate(equation: str) -> None:
    """A single chain of additions would be wrong in the third digit."""
    left, right = equation.split("->")[0].split(",")
    sizes = {"m": 3, "n": 2, "k": 1 << 20}
    a, b = (np.full([sizes[c] for c in letters], 0.1, np.float32) for letters in (left, right))
    problem = Problem(equation, a, b)
    got = run_problem(problem, HOST)["out"]
    np.testing.assert_allclose(got, problem.reference(), rtol=5e-5)


def test_an_empty_sum_is_zero() -> None:
    got = run_problem(product("NN", 5, 7, 0), HOST)["out"]
    np.testing.assert_array_equal(got, np.zeros((5, 7), np.float32))


@pytest.mark.parametrize("terms", [0, 1])
def test_few_terms_with_gaps_between_them(terms: int) -> None:
    b = random_array((terms, 14))[:, ::2]
    check(Problem("mk,kn->mn", random_array((5, terms)), b))


@pytest.mark.parametrize("size", [(0, 5, 3), (5, 0, 3)], ids=str)
def test_an_empty_result_touches_nothing(size: tuple[int, int, int]) -> None:
    assert run_problem(product("NN", *size), HOST)["out"].size == 0


def test_operands_with_offsets_and_gaps() -> None:
    big = random_array((40, 90))
    a, b = big[3:24, 5:42], big[2:39, 50:83]
    check(Problem("mk,kn->mn", a, b))
    check(Problem("mk,nk->mn", a[:, ::2], big[:19, 50:69]))


def test_reversed_operands() -> None:
    a, b = random_array((21, 37)), random_array((37, 33), seed=1)
    check(Problem("mk,kn->mn", a[::-1], b[::-1, ::-1]))


@pytest.mark.parametrize("order", ["bhqk", "bhkq", "qkbh", "kbqh"])
def test_batched_products_stored_in_any_order(order: str) -> None:
    q, k = random_array((3, 2, 33, 16)), random_array((3, 2, 29, 16), seed=1)
    check(Problem("bhqd,bhkd->bhqk", q, k, out_order=order))


# Results with rows innermost, whose tiles are turned over in registers: images stored channels
# first. Widths leave tiles of every size; 1 and 3 are too few rows to turn.
@pytest.mark.parametrize("target", RUNNABLE)
@pytest.mark.parametrize("width", [1, 3, 4, 5, 7, 13, 14, 29])
def test_convolutions_stored_channels_first(width: int, target: str) -> None:
    x = window2d(random_array((2, 5, width + 2, 11)), 3)
    w = random_array((3, 3, 11, 19), seed=1)
    check(Problem("nhwklc,klco->nhwo", x, w, out_order="nohw"), named_target(target))


@pytest.mark.parametrize("target", RUNNABLE)
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_gradients_stored_as_weights_are(size: int, target: str) -> None:
    """The taps, innermost in the result, are rows of tiles: several dimensions in one run."""
    x = window2d(random_array((4, size + 2, 6, 11)), size)
    g = random_array((4, 3, 7 - size, 35), seed=1)
    check(Problem("nhwklc,nhwo->klco", x, g, out_order="ockl"), named_target(target))


@pytest.mark.parametrize("target", RUNNABLE)
@pytest.mark.parametrize("name", ["f64", "f16", "bf16", "i32", "i8"])
def test_dtypes_stored_channels_first(name: str, target: str) -> None:
    dtype = dtype_named(name)
    x = window2d(random_array((2, 5, 17, 11), dtype), 3)
    w = random_array((3, 3, 11, 19), dtype, seed=1)
    check(Problem("nhwklc,klco->nhwo", x, w, out_order="nohw"), named_target(target))


@pytest.mark.parametrize("target", RUNNABLE)
def test_several_results_stored_across_the_vectors(target: str) -> None:
    """One of them reads what lies like it."""
    x, w = random_array((3, 17, 40)), random_array((40, 21), seed=1)
    other = random_array((3, 21, 17), seed=2)

    def epilogue(p: Problem, acc: Expr) -> list[tuple[str, Expr]]:
        added = Load(p.buffers["other"], p.index("nop"))
        return [("out", Apply(op_named("add"), (acc, added), f32)), ("plain", acc)]

    problem = Problem(
        "npk,ko->npo", x, w, out_order="nop", extra={"other": other}, epilogue=epilogue
    )
    want = np.einsum("npk,ko->nop", x.astype(np.float64), w)
    found = run_problem(problem, named_target(target))
    np.testing.assert_allclose(found["out"], want + other, rtol=0, atol=2e-5)
    np.testing.assert_allclose(found["plain"], want, rtol=0, atol=2e-5)


def test_an_operand_that_is_broadcast_over_the_batch() -> None:
    a = random_array((5, 13, 9))
    b = np.broadcast_to(random_array((9, 20), seed=1), (5, 9, 20))
    check(Problem("bmk,bkn->bmn", a, b))


@pytest.mark.parametrize(
    "equation, left, right",
    [
        ("k,k->", (1000,), (1000,)),
        ("bk,bk->b", (10, 100), (10, 100)),
        ("kb,kb->b", (100, 10), (100, 10)),
        ("i,j->ij", (10,), (100,)),
        ("mk,k->m", (70, 503), (503,)),
        ("km,k->m", (503, 70), (503,)),
        ("mxk,nxk->mn", (5, 3, 40), (9, 3, 40)),
    ],
)
def test_vectors(equation: str, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    check(Problem(equation, random_array(left), random_array(right, seed=1)))


def test_small_batches_use_scalar_products() -> None:
    problem = product("NT", 3, 70, 203)
    assert isinstance(schedule(problem.contraction, HOST), DotSchedule)
    check(problem)


@pytest.mark.parametrize("name", RUNNABLE)
def test_packed_rows_of_two_tile_sizes(name: str) -> None:
    """Row tiles lie one after another, the smaller ones behind the larger ones."""
    problem = product("TN", 235, 270, 601)
    plan = schedule(problem.contraction, named_target(name))
    assert isinstance(plan, Schedule)
    assert plan.pack_a == "copy" and len(plan.pieces.sizes) == 2 and plan.grid[1] > 1
    check(problem, named_target(name))


@pytest.mark.parametrize("rows", [1, 5, 8])
@pytest.mark.parametrize("name", RUNNABLE)
def test_few_rows_stream_the_other_operand(name: str, rows: int) -> None:
    """A few rows of it at once, each in long runs, so that memory is read at its full speed."""
    problem = product("NN", rows, 1009, 611)
    plan = schedule(problem.contraction, named_target(name))
    assert isinstance(plan, Schedule)
    assert plan.pack_b == "none" and plan.steps <= 64 and plan.blocks > 1
    assert 4 * plan.panels.lanes * plan.chunk_panels >= 1000
    check(problem, named_target(name))


@pytest.mark.parametrize("rows, columns", [(3, 700), (700, 3), (9, 1003), (1, 900), (900, 1)])
def test_scalar_products_read_the_larger_operand_once(rows: int, columns: int) -> None:
    problem = product("NT", rows, columns, 900)
    plan = schedule(problem.contraction, HOST)
    assert isinstance(plan, DotSchedule)
    assert plan.columns_outside == (columns > rows)
    check(problem)


@pytest.mark.parametrize("rows, columns, k", [(4, 1000, 768), (1000, 4, 768), (9, 1003, 520)])
def test_scalar_products_have_the_next_tile_fetched(rows: int, columns: int, k: int) -> None:
    """Of an operand that comes from memory in short runs: the place in the next tile."""
    problem = product("NT", rows, columns, k)
    plan = schedule(problem.contraction, HOST)
    assert isinstance(plan, DotSchedule)
    stays = plan.columns if columns > rows else plan.rows
    assert sorted(plan.fetched_ahead) == [0, stays.size * k]
    assert "llvm.prefetch" in compile_problem(problem, HOST).ir_text
    check(problem)


@pytest.mark.parametrize("rows, columns, k", [(4, 64, 768), (1, 4000, 768), (2, 1000, 4096)])
def test_scalar_products_fetch_nothing_for_little(rows: int, columns: int, k: int) -> None:
    """Near operands, single products and long runs: an instruction a line would cost more."""
    plan = schedule(product("NT", rows, columns, k).contraction, HOST)
    assert isinstance(plan, DotSchedule)
    assert plan.fetched_ahead == (0, 0)


def test_one_row_reads_the_other_operand_in_one_run() -> None:
    plan = schedule(product("NT", 1, 4000, 768).contraction, HOST)
    assert isinstance(plan, DotSchedule)
    assert plan.columns.size == 1 and plan.sets == 8


@pytest.mark.parametrize("kind", ["NN", "NT", "TN"])
@pytest.mark.parametrize("name", RUNNABLE)
def test_panels_are_packed_with_a_narrower_last_one(kind: str, name: str) -> None:
    """Its last vector is partly empty."""
    problem = product(kind, 250, 1003, 350)
    plan = schedule(problem.contraction, named_target(name))
    assert isinstance(plan, Schedule)
    assert plan.pack_b == ("transpose" if kind == "NT" else "copy")
    assert plan.panels.tail_lanes not in (0, plan.width) and plan.chunks > 1
    check(problem, named_target(name))


# Convolutions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride, dilation", [(1, 1), (2, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("channels", [(1, 32), (5, 20), (16, 8)], ids=str)
def test_convolution_and_its_weight_gradient(
    channels: tuple[int, int], stride: int, dilation: int
) -> None:
    inputs, outputs = channels
    x = window2d(random_array((2, 9, 11, inputs)), 3, stride, dilation)
    check(Problem("nhwklc,klco->nhwo", x, random_array((3, 3, inputs, outputs), seed=1)))
    gradient = random_array((*x.shape[:3], outputs), seed=2)
    check(Problem("nhwklc,nhwo->klco", x, gradient))


def test_convolution_data_gradient() -> None:
    gradient = random_array((2, 7, 9, 20))
    padded = np.pad(gradient, ((0, 0), (2, 2), (2, 2), (0, 0)))
    weight = random_array((3, 3, 5, 20), seed=1)
    check(Problem("nhwklo,klio->nhwi", window2d(padded, 3), weight[::-1, ::-1]))


def test_grouped_convolution() -> None:
    x = window2d(random_array((2, 8, 8, 12)), 3)
    groups = np.lib.stride_tricks.as_strided(
        x, (*x.shape[:5], 3, 4), (*x.strides[:5], 4 * x.strides[5], x.strides[5])
    )
    check(Problem("nhwklgc,klgco->nhwgo", groups, random_array((3, 3, 3, 4, 8), seed=1)))


@pytest.mark.parametrize("channels", [3, 8, 20, 33])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_convolution_and_its_weight_gradient(channels: int, stride: int) -> None:
    x = window2d(random_array((2, 8, 9, channels)), 3, stride)
    problem = Problem("nhwklc,klc->nhwc", x, random_array((3, 3, channels), seed=1))
    assert schedule(problem.contraction, HOST).form == "lanes"
    check(problem)
    gradient = random_array((*x.shape[:3], channels), seed=2)
    check(Problem("nhwklc,nhwc->klc", x, gradient))


@pytest.mark.parametrize("name", RUNNABLE)
def test_convolution_on_each_target(name: str) -> None:
    x = window2d(random_array((2, 9, 11, 12)), 3)
    target = named_target(name)
    check(Problem("nhwklc,klco->nhwo", x, random_array((3, 3, 12, 40), seed=1)), target)
    check(Problem("nhwklc,nhwo->klco", x, random_array((2, 7, 9, 40), seed=2)), target)
    check(Problem("nhwklc,klc->nhwc", x, random_array((3, 3, 12), seed=3)), target)


# Epilogues ----------------------------------------------------------------------------------------


def with_epilogue(left: np.ndarray, right: np.ndarray, equation: str, heavy: bool) -> Problem:
    """relu(acc + bias + residual), and, as a second result, where it is positive."""
    out = equation.split("->")[1]
    letters = equation.split("->")[0].replace(",", "")
    lengths = dict(zip(letters, left.shape + right.shape, strict=True))
    shape = tuple(lengths[c] for c in out)
    bias, residual = random_array(shape[-1:], seed=5), random_array(shape, seed=6)

    def epilogue(problem: Problem, acc: Expr) -> list[tuple[str, Expr]]:
        add, maximum, gt = op_named("add"), op_named("maximum"), op_named("gt")
        load_bias = Load(problem.buffers["bias"], Index.of(problem.variables[out[-1]]))
        load_residual = Load(problem.buffers["residual"], problem.index(out))
        total = Apply(add, (Apply(add, (acc, load_bias), f32), load_residual), f32)
        for _ in range(40 * heavy):
            total = Apply(op_named("neg"), (Apply(op_named("neg"), (total,), f32),), f32)
        positive = Apply(maximum, (total, Const(0.0, f32)), f32)
        is_positive = Apply(gt, (total, Const(0.0, f32)), bool_)
        return [("out", positive), ("where", is_positive)]

    extra = {"bias": bias, "residual": residual}
    return Problem(equation, left, right, extra=extra, epilogue=epilogue)


@pytest.mark.parametrize("heavy", [False, True], ids=["straight", "through memory"])
@pytest.mark.parametrize(
    "equation, left, right",
    [
        ("mk,kn->mn", (37, 50), (50, 45)),
        ("mk,kn->mn", (37, 1501), (1501, 45)),
        ("mk,nk->mn", (2, 300), (45, 300)),
        ("bmk,bnk->bmn", (3, 10, 20), (3, 21, 20)),
    ],
)
def test_epilogue_with_two_results(equation, left, right, heavy: bool) -> None:
    problem = with_epilogue(random_array(left), random_array(right, seed=1), equation, heavy)
    got = run_problem(problem, HOST)
    total = problem.reference() + problem.extra["bias"] + problem.extra["residual"]
    np.testing.assert_allclose(got["out"], np.maximum(total, 0), atol=1e-4)
    near = np.abs(total) < 1e-4
    np.testing.assert_array_equal(got["where"] | near, (total > 0) | near)


def test_epilogue_of_a_convolution() -> None:
    x = window2d(random_array((2, 9, 11, 5)), 3)
    weight = random_array((3, 3, 5, 20), seed=1)
    problem = with_epilogue(x, weight, "nhwklc,klco->nhwo", False)
    got = run_problem(problem, HOST)
    total = problem.reference() + problem.extra["bias"] + problem.extra["residual"]
    np.testing.assert_allclose(got["out"], np.maximum(total, 0), atol=1e-4)


# Chunks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "problem",
    [
        lambda: product("NN", 203, 301, 190),
        lambda: product("TN", 203, 301, 690),
        lambda: product("NT", 4, 1030, 1024),
        lambda: Problem("bmk,bnk->bmn", random_array((37, 31, 64)), random_array((37, 65, 64))),
    ],
    ids=["rows and columns", "packed rows", "scalar products", "batch"],
)
def test_chunks_cover_the_result_once_in_any_order(problem) -> None:
    native = compile_problem(problem(), HOST)
    assert native.chunks > 1
    first = native.run()["out"].copy()
    compare(native.problem, first)
    native.arrays["scratch"][:] = 0
    np.testing.assert_array_equal(native.run()["out"], first)


def test_contractions_in_a_program_share_the_pool_and_the_scratch_memory() -> None:
    """Two kernels of different scratch sizes in one wave, on two threads."""
    big, small = product("TN", 203, 301, 690), product("NT", 130, 70, 300)
    kernels, placements, inputs = [], {}, []
    for name, problem in (("big", big), ("small", small)):
        renamed = {
            key: Buffer(f"{name}_{key}", buffer.dtype, buffer.numel, buffer.access)
            for key, buffer in problem.buffers.items()
        }
        contraction = problem.contraction
        stores = [Store(renamed["out"], s.index, s.value) for s in contraction.stores]
        lhs = replace(contraction.lhs, buffer=renamed["lhs"])
        rhs = replace(contraction.rhs, buffer=renamed["rhs"])
        buffers = tuple(renamed.values())
        kernels.append(
            replace(contraction, name=name, buffers=buffers, lhs=lhs, rhs=rhs, stores=stores)
        )
        inputs += [problem.memory["lhs"], problem.memory["rhs"]]
    for slot, name in enumerate(("big_lhs", "big_rhs", "small_lhs", "small_rhs")):
        placements[name] = Placement("input", slot)
    placements["big_out"], placements["small_out"] = (Placement("output", slot) for slot in (0, 1))
    program = Program("two", 4, 2, [kernels], placements, 0)
    outputs = [np.zeros((203, 301), np.float32), np.zeros((130, 70), np.float32)]
    for _ in range(3):
        got = run_native(program, inputs, outputs)
        compare(big, got[0])
        compare(small, got[1])
