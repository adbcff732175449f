"""Primitives without tensor operands: constants, index ramps and random bits."""

from __future__ import annotations

import numpy as np

from braze.ir.dtypes import DType, i64, u32
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import declare
from braze.ir.types import TensorType, tensor_type


def _constant(*, value: float, dtype: DType) -> np.ndarray:
    with np.errstate(all="ignore"):  # f32 holds no 1e300: infinity is meant
        return np.asarray(value).astype(dtype.numpy)


constant = declare(
    "constant",
    "creation",
    "",
    infer=lambda *, value, dtype: (tensor_type(dtype),),
    evaluate=_constant,
    attributes={"value": float, "dtype": DType},
    differentiable=False,
    doc="A 0-d value that is part of the program. What may vary is a graph input instead.",
)


def _iota_types(*, shape: tuple[int, ...], dim: int, dtype: DType) -> tuple[TensorType, ...]:
    if not 0 <= dim < len(shape):
        raise ShapeError(f"[iota] dimension {dim} is outside shape {list(shape)}")
    return (tensor_type(dtype, shape),)


def _iota(*, shape: tuple[int, ...], dim: int, dtype: DType) -> np.ndarray:
    ramp = np.arange(shape[dim], dtype=np.int64).astype(dtype.numpy)
    return np.broadcast_to(ramp.reshape([-1 if a == dim else 1 for a in range(len(shape))]), shape)


iota = declare(
    "iota",
    "creation",
    "",
    infer=_iota_types,
    evaluate=_iota,
    attributes={"shape": tuple, "dim": int, "dtype": DType},
    differentiable=False,
    doc="Each element is its own index along `dim`.",
)

# Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
PHILOX_M = (0xD2511F53, 0xCD9E8D57)
PHILOX_W = (0x9E3779B9, 0xBB67AE85)
PHILOX_ROUNDS = 10
BLOCK = 32  # elements made from 8 consecutive counters; see `random_bits`


def philox(counter: np.ndarray, seed: int, upper: np.ndarray | None = None) -> list[np.ndarray]:
    """The four 32-bit outputs of Philox4x32-10.

    Args:
        counter: uint64 array, the lower half of the 128-bit counters.
        seed: 64-bit key.
        upper: uint64 array, the upper half (default: zero, as everywhere in Braze).

    Returns:
        Four uint32 arrays of the counter's shape.
    """
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    upper = np.zeros_like(counter) if upper is None else upper
    c = [counter & mask, counter >> half, upper & mask, upper >> half]
    key = [seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF]
    for _ in range(PHILOX_ROUNDS):
        low = c[0] * np.uint64(PHILOX_M[0])
        high = c[2] * np.uint64(PHILOX_M[1])
        c = [
            (high >> half) ^ c[1] ^ np.uint64(key[0]),
            high & mask,
            (low >> half) ^ c[3] ^ np.uint64(key[1]),
            low & mask,
        ]
        key = [(k + w) & 0xFFFFFFFF for k, w in zip(key, PHILOX_W, strict=True)]
    return [word.astype(np.uint32) for word in c]


def counters_used(numel: int) -> int:
    """By how much drawing `numel` elements advances the generator's offset."""
    return -(-numel // BLOCK) * (BLOCK // 4)


def _random_types(
    seed: TensorType, offset: TensorType, *, shape: tuple[int, ...]
) -> tuple[TensorType, ...]:
    for operand in (seed, offset):
        if operand.dtype is not i64 or operand.shape != ():
            raise DTypeError(f"[random_bits] seed and offset must be i64[], given {operand}")
    return (tensor_type(u32, shape),)


def _random_bits(seed: np.ndarray, offset: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
    numel = int(np.prod(shape, dtype=np.int64))
    start = np.uint64(int(offset) & 0xFFFFFFFFFFFFFFFF)
    counters = np.arange(counters_used(numel), dtype=np.uint64) + start
    words = np.stack(philox(counters, int(seed) & 0xFFFFFFFFFFFFFFFF))
    blocks = words.reshape(4, -1, BLOCK // 4).transpose(1, 0, 2)
    return blocks.reshape(-1)[:numel].reshape(shape)


random_bits = declare(
    "random_bits",
    "random",
    "seed offset",
    infer=_random_types,
    evaluate=_random_bits,
    attributes={"shape": tuple},
    differentiable=False,
    doc="""Uniform 32-bit words of Philox4x32-10 with key `seed`. Flat element i lies in block
i // 32 at j = i % 32; it is output word j // 8 of counter offset + 8 * (i // 32) + j % 8. So eight
counters, one to a vector lane, make 32 consecutive elements, and the numbers do not depend on any
machine's vector width.""",
)
