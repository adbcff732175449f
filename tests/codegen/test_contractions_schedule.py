"""The pure part of contractions: merged dimensions, pieces, panels, and what schedules promise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from contractions import Problem, random_array, window2d
from hypothesis import given
from hypothesis import strategies as st

from braze.codegen.llvm.contraction_shape import contraction_shape
from braze.codegen.llvm.schedule_contraction import Panels, Schedule
from braze.codegen.llvm.schedule_dot import DotSchedule
from braze.codegen.llvm.schedule_parts import Pieces, parallel_cost
from braze.codegen.llvm.schedule_search import schedule
from braze.ir.target import named_target

V3 = named_target("x86-64-v3")


@given(st.integers(1, 500), st.integers(1, 500))
def test_pieces_cover_the_extent(extent: int, count: int) -> None:
    count = min(count, extent)
    pieces = Pieces(extent, count)
    covered = sum(size * pieces.number_of(size) for size in pieces.sizes)
    assert covered == extent
    assert sum(pieces.number_of(size) for size in pieces.sizes) == count
    assert max(pieces.sizes) - min(pieces.sizes) <= 1 and min(pieces.sizes) > 0


@given(st.integers(1, 500), st.sampled_from([2, 4, 8, 16]), st.integers(1, 8))
def test_panels_cover_the_lanes(extent: int, width: int, vectors: int) -> None:
    panels = Panels(extent, width, vectors)
    lanes = sum(many * ((v - 1) * width + last) for many, v, last in panels.variants)
    assert lanes == extent
    assert sum(many for many, _, _ in panels.variants) == panels.count
    assert all(1 <= last <= width and 1 <= v <= vectors for _, v, last in panels.variants)


def test_dimensions_merge_where_every_access_allows() -> None:
    x, w = random_array((8, 14, 14, 64)), random_array((64, 32))
    shape = contraction_shape(Problem("nhwc,co->nhwo", x, w).contraction)
    assert str(shape) == "rows n_h_w=1568(64,0); columns o=32(0,1); inner c=64(1,32)"


def test_a_window_keeps_the_dimensions_that_overlap_apart() -> None:
    x = window2d(random_array((2, 9, 11, 5)), 3)
    shape = contraction_shape(
        Problem("nhwklc,klco->nhwo", x, random_array((3, 3, 5, 20))).contraction
    )
    assert [d.var.name for d in shape.rows] == ["n", "h", "w"]
    assert [(d.var.name, d.extent, d.a, d.b) for d in shape.inner] == [
        ("k", 3, 55, 300),
        ("l_c", 15, 1, 20),
    ]


def test_the_result_can_keep_dimensions_apart() -> None:
    x, w = random_array((4, 6, 5)), random_array((5, 3))
    together = contraction_shape(Problem("abk,kn->abn", x, w).contraction)
    apart = contraction_shape(Problem("abk,kn->abn", x, w, out_order="ban").contraction)
    assert (len(together.rows), len(apart.rows)) == (1, 2)


def test_a_broadcast_operand_makes_rows_of_the_batch() -> None:
    b = np.broadcast_to(random_array((9, 20)), (5, 9, 20))
    shape = contraction_shape(Problem("bmk,bkn->bmn", random_array((5, 13, 9)), b).contraction)
    assert not shape.batch and [d.extent for d in shape.rows] == [65]


def gemm(m: int, n: int, k: int) -> Problem:
    return Problem("mk,kn->mn", random_array((m, k)), random_array((k, n)))


@pytest.mark.parametrize(
    "name, rows, lanes",
    [("x86-64-v2", 4, 8), ("x86-64-v3", 6, 16), ("x86-64-v4", 6, 64), ("aarch64", 8, 12)],
)
def test_tiles_fill_the_registers(name: str, rows: int, lanes: int) -> None:
    plan = schedule(gemm(768, 768, 768).contraction, named_target(name))
    assert isinstance(plan, Schedule)
    assert (plan.tile_rows, plan.panels.lanes) == (rows, lanes)


def test_small_work_is_one_chunk_and_large_work_many() -> None:
    assert schedule(gemm(16, 16, 16).contraction, V3).chunks == 1
    assert schedule(gemm(64, 10, 128).contraction, V3).chunks == 1
    assert 8 <= schedule(gemm(1024, 1024, 1024).contraction, V3).chunks <= 96


def test_work_of_ten_microseconds_is_for_two_threads() -> None:
    """The step of a recurrent network on a batch of 20."""
    for kind in ("mk,kn->mn", "mk,nk->mn"):
        right = (200, 800) if kind.startswith("mk,kn") else (800, 200)
        problem = Problem(kind, random_array((20, 200)), random_array(right))
        for name in ("x86-64-v3", "x86-64-v4"):
            plan = schedule(problem.contraction, named_target(name))
            assert plan.chunks > 1 and plan.chunks % 2 == 0


@pytest.mark.parametrize("name", ["x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("size", [1024, 2048])
def test_large_products_pack_little_twice(name: str, size: int) -> None:
    plan = schedule(gemm(size, size, size).contraction, named_target(name))
    assert isinstance(plan, Schedule) and plan.pack_b == "copy"
    assert plan.chunks >= 4 and plan.chunks % 4 == 0 and plan.grid[1] <= 3
    assert plan.steps >= 128


def test_what_stays_in_the_cache_is_not_packed() -> None:
    plan = schedule(gemm(250, 250, 250).contraction, named_target("x86-64-v4"))
    assert isinstance(plan, Schedule) and plan.pack_b == "none"
    # Rows a page apart crowd a few places of the cache.
    b = random_array((250, 1024))[:, :250]
    plan = schedule(Problem("mk,kn->mn", random_array((250, 250)), b).contraction, V3)
    assert isinstance(plan, Schedule) and plan.pack_b == "copy"


@given(st.floats(1e3, 1e9), st.integers(1, 96))
def test_even_numbers_of_chunks_are_better_than_odd_ones(cycles: float, chunks: int) -> None:
    even = -(-chunks // 2) * 2
    if even != chunks and cycles > 1e5:
        assert parallel_cost(cycles, even) < parallel_cost(cycles, chunks)


def test_a_parallel_region_must_be_worth_its_beginning() -> None:
    assert parallel_cost(5e3, 1) < parallel_cost(5e3, 2)
    assert parallel_cost(1e5, 2) < parallel_cost(1e5, 1)


def test_scratch_memory_stays_near_the_cache() -> None:
    for size in (256, 1024, 2048):
        plan = schedule(gemm(size, size, size).contraction, V3)
        assert isinstance(plan, Schedule)
        packed_b = plan.b_scratch * plan.item_bytes
        assert packed_b <= V3.l2_bytes


def test_equal_contractions_have_equal_schedules() -> None:
    first, second = (str(schedule(gemm(100, 90, 80).contraction, V3)) for _ in range(2))
    assert first == second
    assert first.startswith("broadcast: 6 rows of m x 2x8 lanes of n")


def test_rows_side_by_side_in_the_result_share_tiles() -> None:
    """A tile of rows from different images would write one element of each cache line."""
    x = window2d(random_array((8, 60, 60, 64)), 5)
    w = random_array((5, 5, 64, 64))
    problem = Problem("nhwklc,klco->nhwo", x, w, out_order="nohw")
    plan = schedule(problem.contraction, named_target("x86-64-v4"))
    assert isinstance(plan, Schedule)
    assert plan.lane.var.name == "w" or (plan.split.var.name, plan.whole) == ("w", ())


def test_a_weight_gradient_takes_all_taps_of_its_channels_in_turn() -> None:
    x = window2d(random_array((2, 32, 32, 64)), 5)
    gradient = Problem("nhwklc,nhwo->klco", x, random_array((2, 28, 28, 64)))
    plan = schedule(gradient.contraction, V3)
    assert isinstance(plan, Schedule)
    assert plan.outer_rows and plan.pieces_outermost
    forward = Problem("nhwklc,klco->nhwo", x, random_array((5, 5, 64, 64)))
    plan = schedule(forward.contraction, V3)
    assert isinstance(plan, Schedule) and not plan.pieces_outermost


def test_a_tile_that_fills_the_cache_does_not_stay_in_it() -> None:
    """What passes by takes its place, so that its own rows come from the next cache again."""
    problem = Problem("mk,nk->mn", random_array((49, 2048)), random_array((512, 2048)))
    shape = contraction_shape(problem.contraction)
    target = replace(named_target("x86-64-v4"), l1_bytes=48 << 10, l2_bytes=2 << 20)
    row, column = shape.rows[-1], shape.columns[-1]
    plan = DotSchedule(shape, target, 16, (), row, column, Pieces(49, 25), Pieces(512, 128))
    assert plan._tile_bytes() == target.l1_bytes
    roomy = replace(plan, target=replace(target, l1_bytes=64 << 10))
    assert plan.cost() > 1.3 * roomy.cost()


def test_short_tiles_of_many_rows_are_no_dot_products() -> None:
    """Each would begin with rows that nobody fetched ahead."""
    target = replace(named_target("x86-64-v4"), l1_bytes=48 << 10, l2_bytes=2 << 20)
    many = Problem("mk,nk->mn", random_array((1024, 1024)), random_array((256, 1024)))
    assert isinstance(schedule(many.contraction, target), Schedule)
    few = Problem("mk,nk->mn", random_array((2, 1024)), random_array((256, 1024)))
    assert isinstance(schedule(few.contraction, target), DotSchedule)
