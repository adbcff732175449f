"""Attention: softmax(scale q k' + mask) v, without the matrix of scores in memory.

In: an `Attention` that is no gradient.  Out: one launch. A few lanes have a query and its result in
registers; keys and values come through shared memory. The largest score so far and the sum of
exponentials are kept for each query (online softmax; Dao et al., "FlashAttention", 2022).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from braze.codegen.cuda.attention_frame import CHUNK, THREADS, Frame, sizes_of
from braze.codegen.cuda.attention_gradient import emit_gradient
from braze.ir.loops_attention import Attention

if TYPE_CHECKING:
    from braze.codegen.cuda.generate import Unit

SHARE = 32


def emit_attention(kernel: Attention, unit: Unit) -> None:
    """The launches of attention, or of its gradient."""
    sizes = sizes_of(kernel, SHARE)
    if kernel.is_gradient:
        emit_gradient(kernel, unit)
        return
    if sizes.lead * sizes.queries == 0:
        return
    made = unit.writer(THREADS)
    frame = Frame(made, kernel, sizes, rows_are_keys=False)
    w = made.writer
    frame.open()
    scale = kernel.attributes["scale"]
    assert isinstance(scale, float)
    frame.load_row("query", "query", frame.number(scale))
    frame.zeros("sum", sizes.groups(sizes.depth))
    infinity, zero = frame.number(float("inf")), frame.number(0.0)
    w.line(f"{frame.type} top = -{infinity}, total = {zero};")
    with frame.keys_and_values() as (steps, limit):
        with w.block(f"for (int c = 0; c < {steps}; c += {CHUNK})"):
            _chunk(frame, limit)
    w.line(f"const {frame.type} factor = total == {zero} ? {zero} : {frame.number(1.0)} / total;")
    out, lse = kernel.results
    row = f"{made.wide(sizes.queries)} * head + row"
    if out.buffer is not None:
        frame.store_row("sum", out, sizes.depth, sizes.depth, " * factor", row)
    if lse.buffer is not None:
        value = f"total == {zero} ? {infinity} : top + {frame.logarithm}(total)"
        place = f"{made.pointer(lse.buffer)}[{row}]"
        w.line(f"if (is_inside && lane == 0) {place} = {value};")
    unit.launch(made, (frame.tiles * sizes.lead, 1, 1), (THREADS, 1, 1))


def _chunk(frame: Frame, limit: str) -> None:
    """Some keys' scores, then their part of the result."""
    w, sizes, zero = frame.w, frame.sizes, frame.number(0.0)
    infinity = frame.number(float("inf"))
    w.line(f"{frame.type} scores[{CHUNK}], before = top;")
    with w.unrolled("j", CHUNK):
        w.line("const int step = first + c + j;")
        w.line(f"{frame.type} score = {zero};")
        frame.dot("score", "query", "keys", "c + j", sizes.width)
        frame.mask(limit)
        w.line("scores[j] = score;")
        w.line("top = score > top ? score : top;")
    w.line(f"const {frame.type} base = top == -{infinity} ? {zero} : top;")
    with w.block("if (top > before)"):
        w.line(f"const {frame.type} less = {frame.function}(before - base);")
        w.line("total *= less;")
        with w.unrolled("g", sizes.groups(sizes.depth)), w.unrolled("l", 4):
            w.line("sum[g].at[l] *= less;")
    with w.unrolled("j", CHUNK):
        if frame.drops:
            w.line("const int step = first + c + j;")
        w.line(f"{frame.type} weight = {frame.function}(scores[j] - base);")
        w.line("total += weight;")
        if frame.drops:
            w.line(f"weight = {frame.kept('weight')};")
        frame.add("sum", "weight", "values", "c + j", sizes.depth)
