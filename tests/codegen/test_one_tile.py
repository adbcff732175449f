"""Row tiles of one size: a few rows are in two of them, where nothing that is read is overwritten.

A second size would be a second function, half of a contraction's code again.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernels import program_of
from native import Native, runnable_targets

from braze.codegen.llvm import ir
from braze.codegen.llvm.pieces import piece_begin
from braze.codegen.llvm.program import generate
from braze.codegen.llvm.schedule_contraction import Schedule
from braze.codegen.llvm.schedule_parts import Pieces
from braze.codegen.llvm.schedule_search import schedule
from braze.ir.target import TARGET_NAMES, named_target

ROWS, COLUMNS, TERMS = 503, 48, 33
NUMEL = ROWS * COLUMNS
HEAD = f"%a: f32[{ROWS * TERMS}] in, %b: f32[{TERMS * COLUMNS}] in"
SUM = f"""
  for i in {ROWS}, j in {COLUMNS} {{
    acc: f32 = sum k in {TERMS} of %a[{TERMS}*i + k] * %b[{COLUMNS}*k + j]"""
AT = f"[{COLUMNS}*i + j]"
PLAIN = f"""contraction @product({HEAD}, %c: f32[{NUMEL}] out) {{{SUM}
    store %c{AT} = acc
  }}
}}"""
ADDED = f"""contraction @product({HEAD}, %p: f32[{NUMEL}] in, %c: f32[{NUMEL}] out) {{{SUM}
    store %c{AT} = add(acc, %p{AT})
  }}
}}"""
UPDATE = f"""contraction @product({HEAD}, %c: f32[{NUMEL}] inout) {{{SUM}
    store %c{AT} = sub(%c{AT}, acc)
  }}
}}"""


RNG = np.random.default_rng(0)
A, B, X = (RNG.standard_normal(n).astype("f4") for n in (ROWS * TERMS, TERMS * COLUMNS, NUMEL))
PRODUCT = (A.reshape(ROWS, TERMS).astype("f8") @ B.reshape(TERMS, COLUMNS)).reshape(-1)


def copy(source, result):
    numel = f"f32[{NUMEL}]"
    return f"""nest @{source}_to_{result}(%{source}: {numel} in, %{result}: {numel} out) {{
      for i in {NUMEL} {{
        store %{result}[i] = %{source}[i]
      }}
    }}"""


def check(program, inputs, expected, threads=2):
    for target in runnable_targets():
        (found,) = Native(program, target, threads).run(inputs, [np.zeros(NUMEL, "f4")])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def tiles(program, target):
    """How many tile functions there are."""
    text = "".join(text for _, text in generate(program, target).modules)
    return sum("_tile_" in line for line in text.splitlines() if line.startswith("define"))


@pytest.mark.parametrize("name", TARGET_NAMES)
def test_the_example_has_rows_left_over(name):
    plan = schedule(program_of(PLAIN).waves[0][0], named_target(name))
    assert isinstance(plan, Schedule) and plan.split.extent == ROWS
    assert plan.pieces.repeated == 1 and len(plan.pieces.sizes) == 2


V3 = named_target("x86-64-v3")


def test_a_result_of_its_own():
    program = program_of(PLAIN, copy("c", "out"), arena={"c": 0})
    assert tiles(program, V3) == 1
    check(program, [A, B], PRODUCT)


def test_a_result_beside_what_the_epilogue_reads():
    arena = {"p": 0, "c": 4 * NUMEL + 64}
    program = program_of(copy("x", "p"), ADDED, copy("c", "out"), arena=arena)
    assert tiles(program, V3) == 1
    check(program, [X, A, B], X + PRODUCT)


def test_a_result_that_may_be_an_inputs_memory():
    """An output of a program may overwrite one of its inputs."""
    program = program_of(PLAIN)
    assert tiles(program, V3) == 2
    check(program, [A, B], PRODUCT)


def test_a_result_in_the_place_of_what_the_epilogue_reads():
    """Added twice, the rows in two tiles would be wrong."""
    program = program_of(copy("x", "p"), ADDED, copy("c", "out"), arena={"p": 0, "c": 0})
    assert tiles(program, V3) == 2
    check(program, [X, A, B], X + PRODUCT)


def test_an_update():
    program = program_of(copy("x", "c"), UPDATE, copy("c", "out"), arena={"c": 0})
    assert tiles(program, V3) == 2
    check(program, [X, A, B], X - PRODUCT)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_that_store_the_same_row(threads):
    program = program_of(PLAIN, copy("c", "out"), arena={"c": 0})
    check(program, [A, B], PRODUCT, threads)


def test_many_rows_in_two_tiles_are_not_worth_it():
    plan = schedule(program_of(PLAIN).waves[0][0], V3)
    few = replace(plan, pieces=Pieces(13, 3))
    assert few.with_one_tile() is few
    packed = replace(plan, pack_a="copy")
    assert packed.with_one_tile() is packed


@given(st.integers(1, 300), st.integers(1, 300))
def test_pieces_that_overlap_cover_the_extent(extent, most):
    pieces = Pieces(extent, -(-extent // min(most, extent)), overlap=True)
    assert pieces.sizes == (pieces.size,) and pieces.large == pieces.count
    builder = ir.IRBuilder(
        ir.Function(ir.Module(), ir.FunctionType(ir.VoidType(), []), "f").append_basic_block()
    )
    begins = [piece_begin(builder, pieces, piece) for piece in range(pieces.count)]
    covered = {row for begin in begins for row in range(begin, begin + pieces.size)}
    assert covered == set(range(extent))
    assert pieces.count * pieces.size - extent == pieces.repeated < pieces.size
