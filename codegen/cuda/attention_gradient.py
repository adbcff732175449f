"""The gradient of attention: one launch for the queries', one for the keys' and values'.

In: an `Attention` that is a gradient.  Out: its launches. Weights are made again from the logarithm
of the sums, `lse`. In the first launch a few lanes have a query and go through the keys; in the
second they have a key and a value and go through the queries of their part. Each result has one
writer, so that there is nothing to add up in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from braze.codegen.cuda.attention_frame import THREADS, Frame, sizes_of
from braze.ir.loops_attention import Attention
from braze.ir.ops.attention import QUERIES, columns_for

if TYPE_CHECKING:
    from braze.codegen.cuda.generate import Unit

QUERY_SHARE = 32
KEY_SHARE = 16


def emit_gradient(kernel: Attention, unit: Unit) -> None:
    """The launches of a gradient; only those whose results are wanted."""
    of_queries, of_keys, of_values = kernel.results
    if of_queries.buffer is not None and of_queries.type.numel:
        _emit_queries(kernel, unit)
    if any(r.buffer is not None and r.type.numel for r in (of_keys, of_values)):
        _emit_keys(kernel, unit)


def _scale(kernel: Attention) -> float:
    scale = kernel.attributes["scale"]
    assert isinstance(scale, float)
    return scale


def _emit_queries(kernel: Attention, unit: Unit) -> None:
    sizes = sizes_of(kernel, QUERY_SHARE)
    made = unit.writer(THREADS)
    frame = Frame(made, kernel, sizes, rows_are_keys=False)
    w, zero = made.writer, frame.number(0.0)
    frame.open()
    frame.load_row("query", "query", frame.number(_scale(kernel)))
    frame.load_row("back", "back")
    frame.zeros("sum", sizes.groups(sizes.width))
    for name in ("lse", "delta"):
        w.line(f"const {frame.type} {name} = {frame.item(name, 'row')};")
    with frame.keys_and_values() as (steps, limit):
        w.line("#pragma unroll 4")
        with w.block(f"for (int c = 0; c < {steps}; ++c)"):
            w.line("const int step = first + c;")
            w.line(f"{frame.type} score = {zero}, arriving = {zero};")
            frame.dot("score", "query", "keys", "c", sizes.width)
            frame.mask(limit)
            frame.dot("arriving", "back", "values", "c", sizes.depth)
            w.line(f"const {frame.type} weight = {frame.function}(score - lse);")
            kept = frame.kept("arriving")
            w.line(f"const {frame.type} down = weight * ({kept} - delta);")
            frame.add("sum", "down", "keys", "c", sizes.width)
    factor = f" * {frame.number(_scale(kernel))}"
    row = f"{made.wide(sizes.queries)} * head + row"
    frame.store_row("sum", kernel.results[0], sizes.width, sizes.width, factor, row)
    unit.launch(made, (frame.tiles * sizes.lead, 1, 1), (THREADS, 1, 1), suffix="queries")


def _emit_keys(kernel: Attention, unit: Unit) -> None:
    sizes = sizes_of(kernel, KEY_SHARE)
    parts = kernel.attributes["parts"]
    assert isinstance(parts, int)
    made = unit.writer(THREADS)
    frame = Frame(made, kernel, sizes, rows_are_keys=True)
    w, zero = made.writer, frame.number(0.0)
    frame.open(parts)
    scale = frame.number(_scale(kernel))
    frame.load_row("own_key", "key", scale)
    frame.load_row("own_value", "value")
    frame.zeros("of_key", sizes.groups(sizes.width))
    frame.zeros("of_value", sizes.groups(sizes.depth))
    steps = frame.steps_for([sizes.width, sizes.depth])
    frame.declare_tile("queries", sizes.width, steps)
    frame.declare_tile("backs", sizes.depth, steps)
    start, step = ("part", f"block += {parts}") if parts > 1 else ("0", "++block")
    queries = made.number(sizes.queries)
    head = f"for (int block = {start}; {QUERIES} * block < {queries}; {step})"
    with w.block(head):
        w.line(f"const int limit = min({QUERIES} * (block + 1), {queries});")
        with w.block(f"for (int first = {QUERIES} * block; first < limit; first += {steps})"):
            if frame.is_causal:
                w.line(f"if (first + {steps} <= first_row) continue;")
            w.line("__syncthreads();")
            frame.load_tile("queries", "query", steps, "limit")
            frame.load_tile("backs", "back", steps, "limit")
            w.line("__syncthreads();")
            w.line("#pragma unroll 2")
            with w.block(f"for (int c = 0; c < {steps}; ++c)"):
                _key_step(frame, zero)
    keys = made.wide(sizes.keys)
    row = f"{keys} * head + row"
    if parts > 1:
        row = f"{keys} * ({made.wide(sizes.lead)} * part + head) + row"
    _, of_keys, of_values = kernel.results
    if of_keys.buffer is not None:
        length = columns_for(sizes.width)
        frame.store_row("of_key", of_keys, sizes.width, length, f" * {scale}", row)
    if of_values.buffer is not None:
        frame.store_row("of_value", of_values, sizes.depth, columns_for(sizes.depth), "", row)
    blocks = frame.tiles * sizes.lead * parts
    unit.launch(made, (blocks, 1, 1), (THREADS, 1, 1), suffix="keys")


def _key_step(frame: Frame, zero: str) -> None:
    """What one query adds to the gradients of a key and its value."""
    w, sizes = frame.w, frame.sizes
    w.line("const int step = first + c;")
    w.line(f"{frame.type} score = {zero}, arriving = {zero}, weight = {zero}, delta = {zero};")
    frame.dot("score", "own_key", "queries", "c", sizes.width)
    frame.mask("limit")
    frame.dot("arriving", "own_value", "backs", "c", sizes.depth)
    with w.block("if (step < limit)"):
        w.line(f"weight = {frame.function}(score - {frame.item('lse', 'step')});")
        w.line(f"delta = {frame.item('delta', 'step')};")
    if frame.drops:
        w.line(f"const {frame.type} kept = {frame.kept(frame.number(1.0))};")
        w.line(f"const {frame.type} down = weight * (kept * arriving - delta);")
        frame.add("of_key", "down", "queries", "c", sizes.width)
        w.line(f"const {frame.type} dropped = weight * kept;")
        frame.add("of_value", "dropped", "backs", "c", sizes.depth)
        return
    w.line(f"const {frame.type} down = weight * (arriving - delta);")
    frame.add("of_key", "down", "queries", "c", sizes.width)
    frame.add("of_value", "weight", "backs", "c", sizes.depth)
