"""Operands of convolutions that lie so that a cache cannot hold what is read again and again.

In: a contraction and how an operand is moved there.  Out: whether a copy in its own order is to be
made first.

Channels second, as users have them, lie a whole image apart. Where that is a power of two, all
channels of a place want the same few lines of the cache: 64 of them with images of 32x32, in f32,
have room for 8 in most processors' first level, and are fetched anew for each neighbouring place.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, prod

from braze.ir.graph import Node, Value
from braze.ir.ops.contract import parse_equation
from braze.ir.symint import is_symbolic

# Bytes, and lines that a set of the first-level data cache has room for.
_LINE, _WAY, _WAYS = 64, 4096, 8
# Products for each element from where a copy is little beside them.
_WORTH_A_COPY = 64


def is_window(value: Value) -> bool:
    """Whether windows are cut from another value here."""
    return value.node is not None and value.node.op.name == "window"


def reads_in_jumps(contraction: Node, chain: Sequence[Value]) -> bool:
    """Whether what is permuted should be copied first.

    Args:
        chain: an operand and what it is moved from, the last of which lies in memory.
    """
    if len(chain) < 2:
        return False
    base, moved = chain[-1], chain[-2].node
    if moved is None or moved.op.name != "permute" or is_symbolic(*base.shape):
        return False
    dims = moved.attributes["dims"]
    assert isinstance(dims, tuple)
    last = int(dims[-1])
    apart = prod(base.shape[last + 1 :]) * base.dtype.itemsize
    sets = _WAY // max(gcd(apart, _WAY), _LINE)
    terms = parse_equation(str(contraction.attributes["equation"]))
    sizes = {
        letter: size
        for term, operand in zip(terms, contraction.operands, strict=False)
        for letter, size in zip(term, operand.shape, strict=True)
    }
    conflicts = apart >= _LINE and base.shape[last] > sets * _WAYS
    return conflicts and prod(sizes.values()) >= _WORTH_A_COPY * base.type.numel
