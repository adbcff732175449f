"""Squares of vectors turned over, and the stores of a register tile that need it.

A tile's vectors run along one dimension of a contraction's result. If the result lies in memory
along the tile's rows, as that of a convolution over channels does that is stored channels first,
each vector's elements would be stored one by one. Turned over in registers they are vectors along
the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from braze.codegen.llvm import ir
from braze.codegen.llvm.contraction_shape import Dim
from braze.codegen.llvm.control import element_pointer
from braze.codegen.llvm.types import I1, I32, bits_of, constant, constants, intrinsic, poison
from braze.ir.dtypes import DType
from braze.ir.index import LoopVar
from braze.ir.loops import Store
from braze.ir.target import Target

_BLOCK_BITS = 128
# Runs of fewer rows than this, on average, are not worth turning.
FEWEST_ROWS = 4


def runs_of_rows(store: Store, lane: Dim, rows: Sequence[dict[LoopVar, int]]) -> list[list[int]]:
    """A tile's rows in runs that lie side by side in the result; none if its vectors are to be
    stored as they are.

    Args:
        lane: the dimension that the vectors run along. rows: each one's place in the tile.
    """
    across = store.index.coefficient(lane.var)
    if store.guard or store.accumulate or not store.index.is_affine or across in (0, 1):
        return []
    offsets = [
        sum(store.index.coefficient(var) * at for var, at in row.items()) for row in rows
    ]
    runs: list[list[int]] = []
    for row in sorted(range(len(rows)), key=lambda row: offsets[row]):
        if runs and offsets[row] == offsets[runs[-1][-1]] + 1:
            runs[-1].append(row)
        else:
            runs.append([row])
    return runs if len(rows) >= FEWEST_ROWS * len(runs) else []


def store_turned(
    builder: ir.IRBuilder,
    rows: Sequence[ir.Value],
    addresses: Sequence[ir.Value],
    dtype: DType,
    target: Target,
) -> None:
    """Store element `lane` of all rows, one behind the other, at `addresses[lane]`.

    Args:
        rows: vectors in the form that they have in memory, of a power of two of lanes.
        addresses: of the lanes that exist.
    """
    width = rows[0].type.count
    for first in range(0, len(rows), width):
        group = list(rows[first : first + width])
        count = len(group)
        group += [poison(group[0].type)] * (width - count)
        columns = transposed(builder, group)
        for column, address in zip(columns, addresses, strict=False):
            place = element_pointer(builder, address, first, column.type.element)
            _store_part(builder, column, count, place, dtype, target)


def _store_part(
    builder: ir.IRBuilder,
    value: ir.Value,
    count: int,
    place: ir.Value,
    dtype: DType,
    target: Target,
) -> None:
    """The first `count` lanes: under a mask, or in pieces of powers of two."""
    width = value.type.count
    if count == width:
        builder.store(value, place, align=dtype.itemsize)
        return
    # Not with AVX2's masks, which some processors take dozens of cycles for.
    if "avx512bw" in target.features and dtype.itemsize >= 4:
        mask = constants(I1, [int(lane < count) for lane in range(width)])
        align = constant(I32, dtype.itemsize)
        types = (value.type, place.type)
        intrinsic(builder, "masked.store", ir.VoidType(), [value, place, align, mask], types)
        return
    begin = 0
    while begin < count:
        size = 1 << ((count - begin).bit_length() - 1)
        if size == 1:
            piece = builder.extract_element(value, constant(I32, begin))
        else:
            lanes = constants(I32, list(range(begin, begin + size)))
            piece = builder.shuffle_vector(value, poison(value.type), lanes)
        at = element_pointer(builder, place, begin, value.type.element)
        builder.store(piece, at, align=dtype.itemsize)
        begin += size


def transposed(builder: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """A square of vectors turned over in log2(width) rounds of two-operand shuffles.

    Each shuffle is one instruction of x86 and ARM: first elements within blocks of 128 bits are
    interleaved, which turns the squares within blocks, then blocks are picked, which turns the
    square of blocks. What LLVM has to split up takes it longest of all.
    """
    width = len(rows)
    block = min(width, _BLOCK_BITS // bits_of(rows[0].type))
    half = block // 2
    first = [lane for lane in range(width) if lane % block < half]
    lower = [of_both for lane in first for of_both in (lane, lane + width)]
    low, high = constants(I32, lower), constants(I32, [lane + half for lane in lower])
    for _ in range(block.bit_length() - 1):
        turned = []
        for begin in range(0, width, block):
            for x, y in zip(rows[begin : begin + half], rows[begin + half :], strict=False):
                turned += [_picked(builder, x, y, low), _picked(builder, x, y, high)]
        rows = turned
    firsts = [lane for lane in range(2 * width) if lane // block % 2 == 0]
    even, odd = constants(I32, firsts), constants(I32, [lane + block for lane in firsts])
    blocks = width // block
    for _ in range(blocks.bit_length() - 1):
        turned = list(rows)
        for number, column in product(range(blocks // 2), range(block)):
            x, y = (rows[(2 * number + way) * block + column] for way in range(2))
            turned[number * block + column] = _picked(builder, x, y, even)
            turned[(number + blocks // 2) * block + column] = _picked(builder, x, y, odd)
        rows = turned
    return rows


def _picked(builder: ir.IRBuilder, x: ir.Value, y: ir.Value, lanes: ir.Value) -> ir.Value:
    if x.ref == y.ref == "poison":
        return x
    return builder.shuffle_vector(x, y, lanes)
