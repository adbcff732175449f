"""Contractions one of whose operands is narrower than the sum: it is converted as it is read."""

import re

import numpy as np
import pytest
from contractions import Problem, random_array, run_problem, window2d
from test_contractions_assembly import LABEL, PRODUCTS
from test_panels import RUNNABLE, check_all, reordered

from braze.codegen.llvm import panels
from braze.codegen.llvm.compile import assembly
from braze.codegen.llvm.contractions import emit_contraction
from braze.codegen.llvm.schedule_contraction import Schedule
from braze.codegen.llvm.schedule_dot import DotSchedule
from braze.codegen.llvm.schedule_search import schedule, weighed
from braze.ir.dtypes import bf16, dtype_named, f32, f64, i8
from braze.ir.loops_interpreter import run_program
from braze.ir.loops_verifier import verify_program
from braze.ir.target import TARGET_NAMES, named_target

SIZES = [(1, 64, 100), (3, 40, 33), (130, 72, 64)]
CASES = [(dtype, size) for dtype in ("bf16", "i8") for size in SIZES]
CASES += [(dtype, (37, 24, 50)) for dtype in ("f16", "u8", "i16")]


def product(equation: str, m: int, n: int, k: int, dtype, wide=f32) -> Problem:
    """The second operand is the narrow one."""
    sizes = {"m": m, "n": n, "k": k}
    left, right = equation.split("->")[0].split(",")
    a = random_array(tuple(sizes[c] for c in left), wide)
    return Problem(equation, a, random_array(tuple(sizes[c] for c in right), dtype, seed=1))


def check(problem: Problem, target) -> None:
    verify_program(problem.program())
    got = run_problem(problem, target)["out"]
    want = problem.reference()
    assert got.dtype == want.astype(problem.sum_dtype.numpy).dtype
    np.testing.assert_allclose(got, want, rtol=0, atol=3e-6 * max(1, np.abs(want).max()))


@pytest.mark.parametrize("target", RUNNABLE)
@pytest.mark.parametrize(("dtype", "size"), CASES, ids=str)
def test_products(dtype, size, target):
    """As it lies in memory: loaded, turned over, gathered, or as a matrix times a vector."""
    for equation in ("mk,kn->mn", "mk,nk->mn", "km,nk->nm"):
        check(product(equation, *size, dtype_named(dtype)), named_target(target))


@pytest.mark.parametrize("target", RUNNABLE)
@pytest.mark.parametrize("dtype", ["bf16", "i8"])
def test_every_order_of_panels(dtype, target):
    for size in SIZES:
        made = named_target(target)
        check_all(lambda size=size: product("mk,nk->mn", *size, dtype_named(dtype)), "rhs", made)


@pytest.mark.parametrize("target", RUNNABLE)
def test_rows_of_the_narrow_operand_are_converted_as_well(target):
    """With the result turned, its columns are the other operand's."""
    for m, n in ((200, 3), (64, 130)):
        problem = product("mk,nk->mn", m, n, 90, i8)
        problem = Problem("mk,nk->mn", problem.lhs, problem.rhs, out_order="nm")
        check(problem, named_target(target))


@pytest.mark.parametrize("target", RUNNABLE)
@pytest.mark.parametrize("dtype", ["bf16", "i8"])
def test_convolutions(dtype, target):
    def make(n=1, c=5, o=64) -> Problem:
        x = window2d(random_array((n, 9, 11, c)), 3)
        return Problem("nhwklc,oclk->nhwo", x, random_array((o, c, 3, 3), dtype_named(dtype), 1))

    check(make(), named_target(target))
    check_all(make, "rhs", named_target(target))
    check_all(lambda: make(2, 16, 32), "rhs", named_target(target))


@pytest.mark.parametrize("target", RUNNABLE)
def test_double_precision(target):
    for dtype in (bf16, i8, f32):
        problem = product("mk,nk->mn", 9, 40, 65, dtype, wide=f64)
        got = run_problem(problem, named_target(target))["out"]
        np.testing.assert_allclose(got, problem.reference(), rtol=0, atol=1e-12)


def test_the_interpreter_agrees():
    problem = product("mk,nk->mn", 3, 4, 5, i8)
    found = np.zeros((3, 4), np.float32)
    run_program(problem.program(), [problem.memory["lhs"], problem.memory["rhs"]], [found])
    np.testing.assert_allclose(found, problem.reference(), rtol=1e-6)


# How it is computed -------------------------------------------------------------------------------


def panelled(m: int, n: int, k: int, dtype, target):
    problem = product("mk,nk->mn", m, n, k, dtype)
    choice = panels.in_panels(problem.contraction, "rhs", target)
    if choice is not None:  # else its own order is as good
        problem = reordered(problem, choice, "rhs")
    return problem, schedule(problem.contraction, target)


@pytest.mark.parametrize("name", TARGET_NAMES)
@pytest.mark.parametrize("dtype", [bf16, i8], ids=str)
def test_few_rows_read_panels_as_they_are_and_many_convert_them_once(name, dtype):
    target = named_target(name)
    for rows in (1, 4):
        _, plan = panelled(rows, 512, 512, dtype, target)
        assert isinstance(plan, DotSchedule) or plan.pack_b == "none"
    _, plan = panelled(256, 512, 512, dtype, target)
    assert isinstance(plan, DotSchedule) or plan.pack_b == "copy"
    _, plain = panelled(256, 512, 512, f32, target)
    assert isinstance(plain, Schedule) and plain.lane.panel and plain.pack_b == "none"
    if name in ("x86-64-v3", "x86-64-v4"):
        assert isinstance(plan, Schedule) and plan.lane.panel


CONVERSIONS = {"bf16": re.compile(r"v?pslld|shll"), "i8": re.compile(r"v?cvtdq2ps|scvtf")}


@pytest.mark.parametrize("name", TARGET_NAMES)
@pytest.mark.parametrize("dtype", [bf16, i8], ids=str)
def test_vectors_are_converted_in_registers(name, dtype):
    """Where products are, and not element by element."""
    target = named_target(name)
    problem, _ = panelled(8, 512, 512, dtype, target)
    program = problem.program()
    emitted = emit_contraction(problem.contraction, program.placements, program, target)
    lines = [line.strip() for line in assembly(emitted.ir_text, target).splitlines()]
    loops = [loop for loop in blocks(lines) if sum(bool(PRODUCTS.match(x)) for x in loop) >= 8]
    assert loops
    for loop in loops:
        found = [line for line in loop if CONVERSIONS[dtype.name].match(line)]
        products = [line for line in loop if PRODUCTS.match(line)]
        assert 0 < len(found) < len(products)
        assert not any(re.match(r"v?pinsr|v?insertps|ins\s|mov\s+v\d+\.[bhs]\[", x) for x in loop)


def blocks(lines: list[str]) -> list[list[str]]:
    found: list[list[str]] = [[]]
    for line in lines:
        if LABEL.match(line):
            found.append([])
        found[-1].append(line)
    return found


def test_a_narrow_operand_counts_for_what_it_takes_in_memory():
    """One row: the time is that of reading the other operand."""
    target = named_target("x86-64-v4")
    costs = {}
    for dtype in (f32, bf16, i8):
        problem = product("mk,kn->mn", 1, 4096, 4096, dtype)
        plan = schedule(problem.contraction, target)
        assert not isinstance(plan, DotSchedule)
        costs[dtype.name] = np.exp(weighed(problem.contraction, target))
    assert costs["i8"] < 0.7 * costs["f32"] and costs["bf16"] < 0.8 * costs["f32"]
