"""What LLVM makes of the tile functions: accumulators stay in registers in the hot loops."""

from __future__ import annotations

import re

import pytest
from contractions import Problem, random_array, window2d

from braze.codegen.llvm.compile import assembly
from braze.codegen.llvm.contractions import emit_contraction
from braze.ir.target import TARGET_NAMES, named_target

PRODUCTS = re.compile(r"v?(fmadd|mulps)|fmla")
JUMP = re.compile(r"j[a-z]+\s|b\.\w+\s|cbn?z\s")
STACK = re.compile(r"\(%r[sb]p\)|\[sp\b")
LABEL = re.compile(r"[\w.$]+:")


def hot_loops(text: str) -> list[list[str]]:
    """The blocks of instructions that multiply a lot and jump."""
    blocks: list[list[str]] = [[]]
    for line in text.splitlines():
        if LABEL.match(line):
            blocks.append([])
        blocks[-1].append(line.strip())
        if JUMP.match(line.strip()):
            blocks.append([])
    return [
        block
        for block in blocks
        if sum(bool(PRODUCTS.match(line)) for line in block) >= 20 and JUMP.match(block[-1])
    ]


def hot_loops_of(case: Problem, name: str) -> list[list[str]]:
    program, target = case.program(), named_target(name)
    emitted = emit_contraction(case.contraction, program.placements, program, target)
    loops = hot_loops(assembly(emitted.ir_text, target))
    assert loops, "no hot loop found"
    return loops


def product() -> Problem:
    return Problem("mk,kn->mn", random_array((512, 512)), random_array((512, 512)))


def convolution() -> Problem:
    x = window2d(random_array((2, 32, 32, 128)), 5)
    return Problem("nhwklc,klco->nhwo", x, random_array((5, 5, 128, 128)))


def winograd() -> Problem:
    x = window2d(random_array((2, 30, 30, 128)), 3)
    return Problem("nhwklc,klco->nhwo", x, random_array((3, 3, 128, 128)))


def weight_gradient() -> Problem:
    x = window2d(random_array((2, 32, 32, 32)), 5)
    return Problem("nhwklc,nhwo->klco", x, random_array((2, 28, 28, 64)))


def winograd_gradient() -> Problem:
    x = window2d(random_array((2, 30, 30, 64)), 3)
    return Problem("nhwklc,nhwo->klco", x, random_array((2, 28, 28, 64)))


@pytest.mark.parametrize("problem", [product, convolution, weight_gradient])
@pytest.mark.parametrize("name", TARGET_NAMES)
def test_hot_loops_do_not_touch_the_stack(name: str, problem) -> None:
    for loop in hot_loops_of(problem(), name):
        assert not [line for line in loop if STACK.search(line)]


@pytest.mark.parametrize("problem", [winograd, winograd_gradient])
@pytest.mark.parametrize("name", TARGET_NAMES)
def test_products_of_factors_stay_in_registers(name: str, problem) -> None:
    """Of the loops of Winograd's form one is the products'; maps of 36 values need the stack."""
    loops = hot_loops_of(problem(), name)
    assert sum(not any(map(STACK.search, loop)) for loop in loops) == 1


@pytest.mark.parametrize("name", TARGET_NAMES)
def test_what_is_needed_next_is_fetched_meanwhile(name: str) -> None:
    """The next tile's rows, into the second-level cache; partial sums, into the first."""
    case = Problem("mk,kn->mn", random_array((96, 1100)), random_array((1100, 512)))
    second, first = ("pldl2keep", "pldl1keep") if name == "aarch64" else ("fetcht1", "fetcht0")
    fetched = [
        " ".join(line for line in loop if line.startswith("prf") or "prefetch" in line)
        for loop in hot_loops_of(case, name)
    ]
    assert any(first in lines and second in lines for lines in fetched)
