"""Philox4x32-10 in vector lanes.

In: 64-bit counters, one a lane, and a 64-bit key.  Out: the four 32-bit words. Salmon, Moraes, Dror
and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

Words are held zero-extended in 64-bit lanes: their products are then one instruction (32 x 32 -> 64
bits), and both halves are there without shuffles.
"""

from __future__ import annotations

from braze.codegen.llvm import ir
from braze.codegen.llvm.types import I32, constant, lanes_of, like, splat, zero
from braze.ir.ops.creation import PHILOX_M, PHILOX_ROUNDS, PHILOX_W

_MASK = 0xFFFFFFFF


def emit_philox(builder: ir.IRBuilder, counter: ir.Value, seed: ir.Value) -> list[ir.Value]:
    """The four output words, as i32 in the counter's lanes.

    Args:
        counter: i64 lanes; the upper two counter words are zero.
        seed: i64 key, a scalar or lanes.
    """
    t = counter.type
    mask = constant(t, _MASK)
    words = [
        builder.and_(counter, mask),
        builder.lshr(counter, constant(t, 32)),
        zero(t),
        zero(t),
    ]
    keys = [
        builder.and_(seed, constant(seed.type, _MASK)),
        builder.lshr(seed, constant(seed.type, 32)),
    ]
    for step in range(PHILOX_ROUNDS):
        if step:
            keys = [
                builder.and_(builder.add(key, constant(key.type, weyl)), constant(key.type, _MASK))
                for key, weyl in zip(keys, PHILOX_W, strict=True)
            ]
        first, second = (splat(builder, key, lanes_of(t)) for key in keys)
        low = builder.mul(words[0], constant(t, PHILOX_M[0]))
        high = builder.mul(words[2], constant(t, PHILOX_M[1]))
        words = [
            builder.xor(builder.xor(builder.lshr(high, constant(t, 32)), words[1]), first),
            builder.and_(high, mask),
            builder.xor(builder.xor(builder.lshr(low, constant(t, 32)), words[3]), second),
            builder.and_(low, mask),
        ]
    return [builder.trunc(word, like(t, I32)) for word in words]
