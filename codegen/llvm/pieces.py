"""An extent in pieces of two sizes, as LLVM code: where a piece begins, and code for each size."""

from __future__ import annotations

from collections.abc import Callable

from braze.codegen.llvm import ir
from braze.codegen.llvm.control import Number, as_i64, multiply
from braze.codegen.llvm.schedule_parts import Pieces


def piece_begin(builder: ir.IRBuilder, pieces: Pieces, piece: Number) -> Number:
    """The first element of a piece; for the number after the last one, the extent, or, where pieces
    overlap, some element."""
    begin = multiply(builder, piece, pieces.size)
    last = pieces.extent - pieces.size
    if isinstance(piece, int) and isinstance(begin, int):
        shorter = begin - max(0, piece - pieces.large)
        return min(begin, last) if pieces.overlap and piece < pieces.count else shorter
    if pieces.overlap and pieces.repeated:
        is_early = builder.icmp_signed("<", as_i64(begin), as_i64(last))
        return builder.select(is_early, as_i64(begin), as_i64(last))
    if len(pieces.sizes) == 1:
        return begin
    beyond = builder.sub(as_i64(piece), as_i64(pieces.large))
    is_small = builder.icmp_signed(">", beyond, as_i64(0))
    return builder.sub(as_i64(begin), builder.select(is_small, beyond, as_i64(0)))


def by_size(
    builder: ir.IRBuilder, pieces: Pieces, piece: Number, body: Callable[[int], object]
) -> None:
    """`body(number of the piece's size)`, once for each size that there is."""
    if len(pieces.sizes) == 1:
        body(0)
        return
    is_large = builder.icmp_signed("<", as_i64(piece), as_i64(pieces.large))
    with builder.if_else(is_large) as (large, small):
        with large:
            body(0)
        with small:
            body(1)
