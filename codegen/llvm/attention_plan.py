"""How attention is cut up: register tiles, blocks of queries and keys, and a thread's workspace.

In: an `Attention` and a `Target`.  Out: a frozen `AttentionPlan`. Queries lie in vector lanes; a
block of them is as many as one register tile has lanes, so that the keys' and values' elements are
used as scalars, straight from memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from braze.ir.dtypes import DType
from braze.ir.loops_attention import Attention
from braze.ir.op import AttributeValue
from braze.ir.ops.attention import QUERIES, columns_for
from braze.ir.ops.creation import BLOCK
from braze.ir.symint import is_symbolic
from braze.ir.target import Target

# Scores of one block of keys and queries: they are written and read again while in the cache.
SCORE_BYTES = 16 << 10
# Enough to hide the latency of multiply-adds; more are no faster and take longer to compile.
ACCUMULATORS = 16
_LINE = 64
_MANY_KEYS = 1 << 20
_PAGE = 4096


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """Sizes of an attention kernel.

    Attributes:
        lead: the leading dimensions, whose points are the heads.
        queries, keys, width, columns: L, S, E and V.
        lanes: of a vector. vectors: of a block of queries.
        rows: of a register tile of `vectors` vectors.
        keys_per_block: a multiple of `rows`, and of a block of random words.
        areas: name -> first element in the workspace.
        elements: of the workspace.
    """

    dtype: DType
    lead: tuple[int, ...]
    queries: int
    keys: int
    width: int
    columns: int
    lanes: int
    vectors: int
    rows: int
    keys_per_block: int
    areas: dict[str, int]
    elements: int

    @property
    def block(self) -> int:
        """Queries in a block."""
        return self.lanes * self.vectors

    @property
    def blocks(self) -> int:
        return -(-self.queries // self.block)

    @property
    def heads(self) -> int:
        return math.prod(self.lead)

    @property
    def tiles_per_block(self) -> int:
        return self.keys_per_block // self.rows

    @property
    def scratch_bytes(self) -> int:
        """Of a thread's workspace, a multiple of 4096."""
        return -(-self.elements * self.dtype.itemsize // _PAGE) * _PAGE


def attention_plan(kernel: Attention, target: Target) -> AttentionPlan:
    """The plan of a kernel."""
    types = dict(zip(kernel.op.operands, (x.type for x in kernel.operands), strict=True))
    q, v = types["query"], types["value"]
    parts = _number(kernel.attributes.get("parts", 0))
    masked, random = "mask" in types, "seed" in types
    *lead, queries, _ = q.shape
    keys = v.shape[-2]
    # Room for a whole block where it is not known that there are fewer keys.
    room = _MANY_KEYS if is_symbolic(keys) else keys
    q_shape, v_shape = tuple(map(int, q.shape)), (room, int(v.shape[-1]))
    plan = _plan(q.dtype, q_shape, v_shape, parts, masked, random, target)
    if not is_symbolic(*lead, queries, keys):
        return plan
    return replace(plan, lead=tuple(lead), queries=queries, keys=keys)


def _number(value: AttributeValue) -> int:
    assert isinstance(value, int)
    return value


@lru_cache(256)
def _plan(
    dtype: DType,
    q: tuple[int, ...],
    v: tuple[int, ...],
    parts: int,
    masked: bool,
    random: bool,
    target: Target,
) -> AttentionPlan:
    *lead, queries, width = q
    keys, columns = v[-2:]
    lanes = min(target.vector_lanes(dtype.itemsize), QUERIES)
    vectors = most_vectors(target)
    while vectors > 1 and (lanes * vectors > QUERIES or lanes * vectors // 2 >= queries):
        vectors //= 2
    rows = tile_rows(vectors, target)
    block = lanes * vectors
    step = math.lcm(rows, BLOCK) if random else rows
    keys_per_block = max(SCORE_BYTES // (block * dtype.itemsize) // step, 1) * step
    keys_per_block = min(keys_per_block, max(-(-keys // step), 1) * step)
    sizes = {"queries": width * block, "scores": keys_per_block * block, "sums": columns * block}
    sizes["lse"] = block
    if parts:
        sizes |= {
            "scores_back": keys_per_block * block,
            "sums": width * block,
            "back": columns * block,
            "query_rows": columns_for(width) * block,
            "back_rows": columns_for(columns) * block,
            "delta": block,
        }
    if masked:
        sizes["mask"] = keys_per_block * block
    if random:
        sizes["factors"] = keys_per_block * block
    sizes["turned"] = max(width, columns) * block
    areas, elements, line = {}, 0, _LINE // dtype.itemsize
    for name, size in sizes.items():
        areas[name] = elements
        elements += -(-size // line) * line
    return AttentionPlan(
        dtype, tuple(lead), queries, keys, width, columns, lanes, vectors, rows, keys_per_block,
        areas, elements,
    )  # fmt: skip


def most_vectors(target: Target) -> int:
    """Vectors of a block of many queries, a power of two."""
    return 4 if target.vector_registers >= 32 else 2


def tile_rows(vectors: int, target: Target) -> int:
    """Rows of a register tile: accumulators, a step's vectors and one scalar must fit."""
    spare = 1 if target.vector_registers >= 32 else 0
    if target.architecture == "x86_64" and "fma" not in target.features:
        spare = 3
    most = (target.vector_registers - vectors - 1 - spare) // vectors
    return min(most, ACCUMULATORS // vectors, 12)


def piece_of(extent: int, most: int) -> int:
    """The rows of a tile for so many rows in all: near the most, so that few are left over."""
    for rows in range(most, most * 2 // 3, -1):
        if extent % rows == 0:
            return rows
    return min(most, extent) or 1
