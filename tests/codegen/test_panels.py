"""Weights in the order of a contraction's tiles: kernels that read them so compute the same."""

from __future__ import annotations

from dataclasses import replace
from math import exp

import numpy as np
import pytest
from contractions import Problem, random_array, run_problem, window2d
from test_guarded_contractions import windows

from braze.codegen.llvm import panels
from braze.codegen.llvm.panels import in_panels, pack_operands
from braze.codegen.llvm.schedule_contraction import Schedule
from braze.codegen.llvm.schedule_search import schedule, weighed
from braze.ir import op_named
from braze.ir.dtypes import dtype_named, f32
from braze.ir.loops import Apply, Const, Contraction, Load, Program
from braze.ir.loops_parser import parse_program
from braze.ir.loops_verifier import verify_program
from braze.ir.target import can_run, named_target
from braze.runtime.cpu import host_target

HOST = host_target()
RUNNABLE = [
    name for name in ("x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64")
    if can_run(named_target(name), HOST) is None
]  # fmt: skip


def reordered(problem: Problem, choice: panels.Panels, name: str) -> Problem:
    """The problem with an operand in another order; its answer is the old one's."""
    problem.contraction = choice.contraction
    problem.memory[name] = choice.packed(problem.memory[name])
    return problem


def check_all(make, name: str, target, most: int = 4) -> None:
    """Every order that could be chosen."""
    kinds = list(panels._choices(make().contraction, name, target))
    assert kinds
    for position in range(min(len(kinds), most)):
        problem = make()
        want = problem.reference()
        choice = list(panels._choices(problem.contraction, name, target))[position]
        verify_program(reordered(problem, choice, name).program())
        got = run_problem(problem, target)["out"]
        eps = np.finfo(problem.sum_dtype.numpy).eps
        if problem.dtype.name in ("f16", "bf16"):
            eps = 1e-4
        atol = 1000 * eps * max(1.0, np.abs(want).max() / 100)
        np.testing.assert_allclose(got, want, rtol=0, atol=atol)


def product(equation: str, m: int, n: int, k: int, dtype=f32) -> Problem:
    sizes = {"m": m, "n": n, "k": k}
    left, right = (term for term in equation.split("->")[0].split(","))
    arrays = [
        random_array(tuple(sizes[c] for c in term), dtype, seed=i)
        for i, term in enumerate((left, right))
    ]
    return Problem(equation, *arrays)


@pytest.mark.parametrize("target", RUNNABLE)
@pytest.mark.parametrize("size", [(1, 64, 100), (37, 96, 300), (3, 24, 5), (200, 128, 1)], ids=str)
@pytest.mark.parametrize(
    ("equation", "name"),
    [("mk,nk->mn", "rhs"), ("mk,kn->mn", "rhs"), ("nk,mk->mn", "lhs"), ("mk,nk->nm", "rhs")],
)
def test_products(equation, name, size, target):
    check_all(lambda: product(equation, *size), name, named_target(target))


@pytest.mark.parametrize("target", RUNNABLE)
def test_borders_that_are_left_out_stay_so(target):
    check_all(lambda: windows(n=8, h=4, w=4, c=16, o=64, k=3), "rhs", named_target(target))


@pytest.mark.parametrize("dtype", ["f64", "bf16", "f16"])
@pytest.mark.parametrize("target", RUNNABLE)
def test_dtypes(dtype, target):
    made = dtype_named(dtype)
    check_all(lambda: product("mk,nk->mn", 9, 96, 40, made), "rhs", named_target(target))


@pytest.mark.parametrize("target", RUNNABLE)
def test_convolutions(target):
    def plain() -> Problem:
        x = window2d(random_array((1, 9, 11, 5)), 3)
        return Problem("nhwklc,oclk->nhwo", x, random_array((64, 5, 3, 3), seed=1))

    def grouped() -> Problem:
        x = random_array((12, 2, 20))
        return Problem("pgc,goc->pgo", x, random_array((2, 64, 20), seed=1))

    check_all(plain, "rhs", named_target(target))
    check_all(grouped, "rhs", named_target(target))


def test_an_epilogue_finds_its_lane():
    def epilogue(problem, acc):
        bias = Load(problem.buffers["bias"], problem.index("n"))
        plus = Apply(op_named("add"), (acc, bias), f32)
        return [("out", plus), ("twice", Apply(op_named("mul"), (plus, Const(2.0, f32)), f32))]

    bias = random_array((96,), seed=3)

    def make() -> Problem:
        a, b = random_array((50, 70)), random_array((96, 70), seed=1)
        return Problem("mk,nk->mn", a, b, extra={"bias": bias}, epilogue=epilogue)

    want = make().reference() + bias
    for position in range(3):
        problem = make()
        choice = list(panels._choices(problem.contraction, "rhs", HOST))[position]
        got = run_problem(reordered(problem, choice, "rhs"), HOST)
        np.testing.assert_allclose(got["out"], want, atol=1e-4)
        np.testing.assert_allclose(got["twice"], 2 * want, atol=2e-4)


def test_nothing_is_packed_at_run_time():
    problem = product("mk,nk->mn", 800, 512, 1024)
    assert schedule(problem.contraction, HOST).pack_b != "none"
    choice = in_panels(problem.contraction, "rhs", HOST)
    assert choice is not None
    plan = schedule(choice.contraction, HOST)
    assert isinstance(plan, Schedule) and plan.pack_b == "none"
    assert plan.lane.panel == plan.panels.lanes and plan.b_scratch == 0


@pytest.mark.parametrize("rows", [1, 2, 4, 8])
@pytest.mark.parametrize(
    ("n", "k"), [(256, 768), (768, 256), (768, 768), (3072, 768), (768, 3072)], ids=str
)
def test_few_rows_read_panels_in_one_tile(rows, n, k):
    """Panels come from memory in one run, where columns would come in many; and once, so that all
    rows are in a tile."""
    target = named_target("x86-64-v4")
    choice = in_panels(product("mk,nk->mn", rows, n, k).contraction, "rhs", target)
    assert choice is not None
    plan = schedule(choice.contraction, target)
    assert isinstance(plan, Schedule) and plan.lane.panel
    assert plan.tiles == 1 and plan.blocks == 1 and plan.panels.vectors > 1


def test_panels_are_charged_once_for_coming_from_memory():
    """So that they cost about what scalar products cost, which wait for the same bytes."""
    target = named_target("x86-64-v4")
    problem = product("mk,nk->mn", 4, 768, 768)
    own = exp(weighed(problem.contraction, target))
    costs = {
        choice.extents[-1] // 16: exp(weighed(choice.contraction, target))
        for choice in panels._choices(problem.contraction, "rhs", target)
    }
    assert 0.7 * own < costs[4] < own
    # Tiles of fewer rows would meet a wide panel again.
    assert costs[12] > 1.2 * costs[4]


@pytest.mark.parametrize("kind", ["offset", "window", "read twice", "written"])
def test_operands_that_cannot_be_reordered(kind):
    weight = random_array((64, 30), seed=1)
    if kind == "offset":
        problem = Problem("mk,nk->mn", random_array((50, 30)), random_array((65, 30))[1:])
    elif kind == "window":
        problem = Problem("abck,nk->abcn", random_array((2, 3, 4, 30)), weight[::2])
    elif kind == "read twice":
        problem = Problem("nk,mk->nm", weight, weight)
        problem.contraction.rhs = problem.contraction.lhs
    else:
        problem = Problem("mk,nk->mn", random_array((50, 30)), weight)
        buffer = replace(problem.buffers["rhs"], access="inout")
        problem.contraction.buffers = (*problem.contraction.buffers[:1], buffer)
    assert in_panels(problem.contraction, "rhs", HOST) is None


def test_what_another_kernel_reads_stays():
    problem = product("mk,nk->mn", 800, 512, 1024)
    program, array = problem.program(), problem.memory["rhs"]
    packed, changed = pack_operands(program, {"rhs": array}, HOST)
    assert changed.keys() == {"rhs"} and changed["rhs"].shape == array.shape
    (kernel,) = packed.kernels()
    assert isinstance(kernel, Contraction) and "n_panel" in str(kernel)
    assert str(parse_program(str(packed))) == str(packed)
    again = replace(kernel, name="again")
    both = Program("both", 2, 1, [*program.waves, [again]], program.placements, 0)
    assert pack_operands(both, {"rhs": array}, HOST)[1] == {}


@pytest.mark.parametrize("target", RUNNABLE)
@pytest.mark.parametrize("size", [(13, 256, 130), (20, 192, 1000), (49, 512, 64)], ids=str)
def test_weights_from_memory_meet_all_rows_panel_by_panel(size, target):
    """The next panel is fetched meanwhile, since the weights are larger than the cache."""
    target = replace(named_target(target), l2_bytes=64 << 10)
    found = 0
    for name, equation in (("rhs", "mk,nk->mn"), ("lhs", "nk,mk->mn")):
        for choice in panels._choices(product(equation, *size).contraction, name, target):
            plan = schedule(choice.contraction, target)
            if not isinstance(plan, Schedule) or not plan.panels_outermost:
                continue
            found += 1
            problem = product(equation, *size)
            want = problem.reference()
            got = run_problem(reordered(problem, choice, name), target)["out"]
            np.testing.assert_allclose(got, want, rtol=0, atol=2e-4)
            if found == 3:
                break
    assert found
    near = replace(target, l2_bytes=64 << 20)
    plan = schedule(choice.contraction, near)
    assert not isinstance(plan, Schedule) or not plan.panels_outermost
