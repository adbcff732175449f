"""The arena of a symbolic program: blocks that are alive together never meet, for any size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braze.ir.arena import aligned
from braze.ir.dtypes import f32, u8
from braze.ir.loops import Buffer, Nest, Placement, Program
from braze.ir.loops_recurrence import Recurrence
from braze.ir.symint import SymInt, value_at
from braze.passes.arena_layout import arena_layout, with_step_layout
from braze.passes.symbolic_fit import NotSymbolic

SAMPLE = 20
WAVES = 6


def placed(blocks):
    """A program of blocks (factor, summand, first wave, last wave), each put at the lowest place
    that is free for the sample."""
    n = SymInt.word(0, SAMPLE)
    buffers = [Buffer(f"b{i}", f32, n * k + c, "out") for i, (k, c, _, _) in enumerate(blocks)]
    waves = [[] for _ in range(WAVES)]
    placements, taken = {}, []
    for buffer, (_, _, first, last) in zip(buffers, blocks, strict=True):
        offset = 0
        for begin, end, since, until in sorted(taken):
            fits = offset + aligned(int(buffer.numel) * 4) <= begin
            if since <= last and first <= until and not fits:
                offset = max(offset, end)
        end = offset + aligned(int(buffer.numel) * 4)
        taken.append((offset, end, first, last))
        placements[buffer.name] = Placement("arena", offset=offset)
        for wave in range(first, last + 1):
            waves[wave].append(buffer)
    kernels = [[Nest(f"k{i}", tuple(used), [])] for i, used in enumerate(waves)]
    return Program("p", 0, 0, kernels, placements, 0), buffers


lives = st.tuples(st.integers(0, WAVES - 1), st.integers(0, WAVES - 1)).map(sorted)
blocks = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 99), lives).map(lambda b: (*b[:2], *b[2])),
    min_size=1,
    max_size=12,
)


@given(blocks, st.integers(1, 200))
def test_blocks_never_meet(blocks, size):
    program, buffers = placed(blocks)
    layout = arena_layout(program)
    offsets, whole = layout.offsets([size])
    spans = []
    for buffer, (_, _, first, last) in zip(buffers, blocks, strict=True):
        begin = offsets[layout.block_of[buffer.name]]
        end = begin + 4 * value_at(buffer.numel, [size])
        assert begin % 64 == 0 and end <= whole
        spans.append((begin, end, first, last))
    for i, (begin, end, first, last) in enumerate(spans):
        for other_begin, other_end, since, until in spans[:i]:
            if first <= until and since <= last:
                assert end <= other_begin or other_end <= begin, (spans, layout)


def two(offset, other_offset=0, waves=((0, 1), (1, 2))):
    n = SymInt.word(0, SAMPLE)
    names = "ab"
    buffers = [Buffer(name, f32, n * 16, "inout") for name in names]
    kernels = [
        [Nest(f"k{w}", tuple(b for b, (first, last) in zip(buffers, waves, strict=True)
                             if first <= w <= last), [])]
        for w in range(3)
    ]  # fmt: skip
    places = dict(zip(names, (other_offset, offset), strict=True))
    placements = {name: Placement("arena", offset=at) for name, at in places.items()}
    return Program("p", 0, 0, kernels, placements, 0)


def test_a_result_that_takes_over_memory_stays_with_it():
    layout = arena_layout(two(0))
    assert layout.block_of == {"a": 0, "b": 0} and layout.offsets([3]) == ([0], 192)


def test_what_lives_at_other_times_has_a_place_of_its_own():
    layout = arena_layout(two(0, waves=((0, 0), (2, 2))))
    assert layout.block_of["a"] != layout.block_of["b"] and layout.offsets([3]) == ([0, 0], 192)


def test_overlaps_in_part_are_refused():
    with pytest.raises(NotSymbolic, match="overlap in part"):
        arena_layout(two(64))


def test_the_values_of_a_step_lie_one_behind_the_other():
    """Whatever the sizes are: which of two that share memory is larger may change."""
    n = SymInt.word(0, 3)
    sizes = {"a": n * 4, "b": n * 8, "c": n + 40}
    buffers = {name: Buffer(name, u8, size, "inout") for name, size in sizes.items()}
    own = Buffer("x", u8, n, "in")
    kernels = [[Nest("k", (own, *buffers.values()), [])]]
    offsets = {"a": 0, "b": 64, "c": 64}
    placements = {name: Placement("arena", offset=at) for name, at in offsets.items()}
    placements["x"] = Placement("input", slot=0)
    step = Program("step_1", 1, 0, kernels, placements, 128)
    arena = Buffer("arena", u8, 128, "inout")
    recurrence = Recurrence("r", (arena,), 5, (), step, arena)
    with_step_layout(recurrence, 1)
    assert recurrence.buffers == (recurrence.arena,) and recurrence.program.sizes == 1
    assert step.placements == placements
    found = recurrence.program.placements
    for size in (1, 3, 7, 100):
        at = {name: value_at(found[name].offset, [size]) for name in "abc"}
        assert at["a"] == 0 and at["b"] == at["c"] == -(-4 * size // 64) * 64
        rest = value_at(recurrence.arena.numel, [size]) - at["b"]
        assert rest % 64 == 0 and rest >= max(8 * size, size + 40)
