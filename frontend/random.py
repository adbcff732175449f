"""Seeded random numbers: a counter-based Philox generator.

A generator is a seed and an offset. Every draw takes the next counters, so the numbers depend only
on the seed and on the order of draws, not on threads, devices or vector widths. Both go into the
graph as run-time scalars.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np

from braze.capture import call_of
from braze.functions.creation import check_device
from braze.functions.movement import sizes_of
from braze.functions.promotion import get_default_dtype, scalar
from braze.ir.dtypes import DType, f32, i64
from braze.ir.op import op_named
from braze.ir.ops.creation import counters_used
from braze.tensors import Tensor, apply


class Generator:
    """A stream of random numbers."""

    def __init__(self, device: Any = "cpu") -> None:
        check_device(device)
        self._lock = threading.Lock()
        self._seed = 0
        self._offset = 0
        self.manual_seed(67280421310721)  # PyTorch's default seed

    def manual_seed(self, seed: int) -> Generator:
        """Restart the stream from a seed (taken modulo 2**64)."""
        with self._lock:
            self._seed = int(seed) & 0xFFFFFFFFFFFFFFFF
            self._offset = 0
        return self

    def initial_seed(self) -> int:
        """The seed the stream started from."""
        return self._seed

    def seed(self) -> int:
        """Restart from a seed of the operating system's, which is returned."""
        value = int.from_bytes(os.urandom(8), "little")
        self.manual_seed(value)
        return value

    def get_state(self) -> Tensor:
        """Seed and offset as a uint8 tensor."""
        from braze.tensors import from_array

        return from_array(np.array([self._seed, self._offset], dtype=np.uint64).view(np.uint8))

    def set_state(self, state: Tensor) -> None:
        """Continue from what `get_state` gave.

        Raises:
            RuntimeError: it is not such a tensor.
        """
        array = state._numpy()
        if array.dtype != np.uint8 or array.size != 16:
            raise RuntimeError(
                f"RNG state must be a uint8 tensor of 16 elements, got {state._handle.type}"
            )
        words = array.reshape(-1).view(np.uint64)
        with self._lock:
            self._seed, self._offset = int(words[0]), int(words[1])

    @property
    def position(self) -> tuple[int, int]:
        """Seed and offset; it changes with every draw."""
        return self._seed, self._offset

    def advance(self, counters: int) -> tuple[int, int]:
        """Take counters from the stream: (seed, first counter), both as signed 64-bit numbers."""
        with self._lock:
            offset = self._offset
            self._offset = (offset + counters) & 0xFFFFFFFFFFFFFFFF
            return _signed(self._seed), _signed(offset)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >= 1 << 63 else word


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Restart the default stream from a seed."""
    return default_generator.manual_seed(seed)


def initial_seed() -> int:
    """The default stream's seed."""
    return default_generator.initial_seed()


def seed() -> int:
    """Restart the default stream from a random seed, which is returned."""
    return default_generator.seed()


def get_rng_state() -> Tensor:
    """The state of the default stream."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Continue the default stream from a state."""
    default_generator.set_state(new_state)


def draw(
    op: str, numel: int, *operands: Tensor, generator: Generator | None = None, **attributes: Any
) -> Tensor:
    """Emit a random operation with its seed and offset; `numel` elements are drawn (twice for
    normals)."""
    draws = 2 if op == "normal" else 1
    source = default_generator if generator is None else generator
    key, offset = source.advance(draws * counters_used(numel))
    call = call_of(op_named(op), **attributes)
    result: Tensor = apply(call, *operands, scalar(key, i64), scalar(offset, i64))
    return result


def _numel(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def rand(
    *size: Any,
    generator: Generator | None = None,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Uniform numbers in [0, 1)."""
    check_device(device)
    shape = sizes_of(size)
    dtype = dtype or get_default_dtype()
    result = draw("uniform", _numel(shape), generator=generator, shape=shape, dtype=dtype)
    return result.requires_grad_(requires_grad)


def randn(
    *size: Any,
    generator: Generator | None = None,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Numbers from the standard normal distribution."""
    check_device(device)
    shape = sizes_of(size)
    dtype = dtype or get_default_dtype()
    result = draw("normal", _numel(shape), generator=generator, shape=shape, dtype=dtype)
    return result.requires_grad_(requires_grad)


def rand_like(input: Tensor, *, dtype: DType | None = None) -> Tensor:
    """Uniform numbers in the shape and dtype of another tensor."""
    return rand(input.shape, dtype=dtype or input.dtype)


def randn_like(input: Tensor, *, dtype: DType | None = None) -> Tensor:
    """Normal numbers in the shape and dtype of another tensor."""
    return randn(input.shape, dtype=dtype or input.dtype)


def randint(
    low: int,
    high: Any = None,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: DType = i64,
) -> Tensor:
    """Integers in [low, high): ``randint(high, size)`` or ``randint(low, high, size)``.

    Raises:
        RuntimeError: the range is empty.
    """
    if size is None:
        low, high, size = 0, low, high
    if high <= low:
        raise RuntimeError(
            f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}"
        )
    shape = sizes_of((size,))
    drawn = draw("randint", _numel(shape), generator=generator, shape=shape, low=low, high=high)
    return drawn.to(dtype)


def randperm(n: int, *, generator: Generator | None = None, dtype: DType = i64) -> Tensor:
    """A random permutation of 0 .. n-1 (made on the host: the ranks of n random words)."""
    from braze.tensors import from_array

    source = default_generator if generator is None else generator
    key, offset = source.advance(2 * counters_used(n))
    bits = op_named("random_bits").evaluate
    assert bits is not None
    high, low = (
        bits(np.int64(key), np.int64(offset), shape=(2 * n,)).astype(np.uint64).reshape(2, n)
    )
    order = np.argsort((high << np.uint64(32)) | low, kind="stable")
    return from_array(order.astype(dtype.numpy))


def bernoulli(input: Tensor, *, generator: Generator | None = None) -> Tensor:
    """0 or 1, each element 1 with the probability given."""
    noise = draw("uniform", input.numel(), generator=generator, shape=tuple(input.shape), dtype=f32)
    return (noise < input).to(input.dtype)


def normal(
    mean: Any, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None
) -> Tensor:
    """Normal numbers with these means and standard deviations (numbers or tensors)."""
    if size is None:
        like = mean if isinstance(mean, Tensor) else std
        size = like.shape
    return randn(size, generator=generator) * std + mean


def uniform_(
    self: Tensor, a: float = 0.0, b: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with uniform numbers in [a, b), in place."""
    return self._replace(rand(self.shape, dtype=self.dtype, generator=generator) * (b - a) + a)


def normal_(
    self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with normal numbers, in place."""
    return self._replace(randn(self.shape, dtype=self.dtype, generator=generator) * std + mean)


def bernoulli_(self: Tensor, p: float = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill with 0 and 1, each 1 with probability p, in place."""
    return self._replace((rand(self.shape, generator=generator) < p).to(self.dtype))  # type: ignore[operator, attr-defined]
