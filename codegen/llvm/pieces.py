"""An extent in pieces of a few sizes, as LLVM code: where one begins, and code for each size."""

from __future__ import annotations

from collections.abc import Callable

from braze.codegen.llvm import ir
from braze.codegen.llvm.control import Number, as_i64, multiply
from braze.codegen.llvm.looping import is_number
from braze.codegen.llvm.schedule_parts import OpenPieces, Pieces


def piece_begin(builder: ir.IRBuilder, pieces: Pieces | OpenPieces, piece: Number) -> Number:
    """The first element of a piece; for the number after the last one, the extent, or, where pieces
    overlap, some element."""
    begin = multiply(builder, piece, pieces.size)
    if isinstance(pieces, Pieces) and pieces.overlap and pieces.repeated:
        last = pieces.extent - pieces.size
        if isinstance(piece, int) and isinstance(begin, int):
            return min(begin, last) if piece < pieces.count else pieces.extent
        is_early = builder.icmp_signed("<", as_i64(begin), as_i64(last))
        return builder.select(is_early, as_i64(begin), as_i64(last))
    sizes = pieces.sizes
    for end, size, smaller in zip(pieces.ends, sizes, sizes[1:], strict=False):
        if is_number(piece) and is_number(end) and isinstance(begin, int):
            begin -= max(0, piece - end) * (size - smaller)
            continue
        beyond = builder.sub(as_i64(piece), as_i64(end))
        is_small = builder.icmp_signed(">", beyond, as_i64(0))
        missing = multiply(builder, builder.select(is_small, beyond, as_i64(0)), size - smaller)
        begin = builder.sub(as_i64(begin), as_i64(missing))
    return begin


def by_size(
    builder: ir.IRBuilder,
    pieces: Pieces | OpenPieces,
    piece: Number,
    body: Callable[[int], object],
    first: int = 0,
) -> None:
    """`body(number of the piece's size)`, once for each size from the first on."""
    if first == len(pieces.sizes) - 1:
        body(first)
        return
    is_large = builder.icmp_signed("<", as_i64(piece), as_i64(pieces.ends[first]))
    with builder.if_else(is_large) as (large, small):
        with large:
            body(first)
        with small:
            by_size(builder, pieces, piece, body, first + 1)
