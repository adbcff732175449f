"""Seeded random numbers: a counter-based Philox generator.

A generator is a seed and an offset. Every draw takes the next counters, so the numbers depend only
on the seed and on the order of draws, not on threads, devices or vector widths. Both go into the
graph as run-time scalars.
"""

from __future__ import annotations

import functools
import math
import os
import threading
import weakref
from operator import index
from typing import Any

import numpy as np

from braze.capture import call_of
from braze.devices import Used, device_named, drawing_on, place_of, set_drawing
from braze.functions.creation import refuse_sparse, shape_of
from braze.functions.movement import sizes_of
from braze.functions.promotion import check_fits, get_default_dtype, scalar
from braze.ir.dtypes import DType, f32, f64, i64, u8
from braze.ir.op import op_named
from braze.ir.ops.creation import counters_used
from braze.ir.ops.dropout import counters
from braze.ir.types import broadcast_shapes
from braze.placing import makes, makes_like
from braze.tensors import Tensor, apply

_GENERATORS: weakref.WeakSet[Generator] = weakref.WeakSet()


def _after_fork() -> None:
    """In a forked child: another thread of the parent may have been drawing."""
    for generator in list(_GENERATORS):
        generator._renew_lock()


os.register_at_fork(after_in_child=_after_fork)


class Generator:
    """A stream of random numbers.

    Args:
        device: of the tensors that it is used for. The numbers are the same on all devices.

    Raises:
        RuntimeError: there is no such device.
    """

    def __init__(self, device: Any = "cpu") -> None:
        self._place = place_of(device)
        self._renew_lock()
        _GENERATORS.add(self)
        self._seed = 0
        self._offset = 0
        self.manual_seed(67280421310721)  # PyTorch's default seed

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def manual_seed(self, seed: int) -> Generator:
        """Restart the stream from a seed (negative ones are taken modulo 2**64).

        Raises:
            ValueError: it has more than 64 bits.
        """
        if not -(2**63) <= int(seed) < 2**64:
            raise ValueError(f"a seed has 64 bits, given {seed}")
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
            RuntimeError: it has not as many elements. TypeError: it is no uint8 tensor.
        """
        if not isinstance(state, Tensor):
            raise TypeError(f"expected a ByteTensor, but got {type(state).__name__}")
        if state.dtype is not u8:
            raise TypeError(f"RNG state must be a ByteTensor, given {state._handle.type}")
        array = state._numpy()
        if array.size != 16:
            raise RuntimeError(
                f"RNG state must be a uint8 tensor of 16 elements, got {state._handle.type}"
            )
        words = array.reshape(-1).view(np.uint64)
        with self._lock:
            self._seed, self._offset = int(words[0]), int(words[1])

    def clone_state(self) -> Generator:
        """A new generator that continues as this one does."""
        copy = Generator(self._place)
        copy.position = self.position
        return copy

    @property
    def device(self) -> Any:
        """Where its numbers are made."""
        return device_named(self._place)

    @property
    def position(self) -> tuple[int, int]:
        """Seed and offset; it changes with every draw."""
        return self._seed, self._offset

    @position.setter
    def position(self, value: tuple[int, int]) -> None:
        with self._lock:
            self._seed, self._offset = value

    def advance(self, counters: int) -> tuple[int, int]:
        """Take counters from the stream: (seed, first counter), both as signed 64-bit numbers."""
        with self._lock:
            offset = self._offset
            self._offset = (offset + counters) & 0xFFFFFFFFFFFFFFFF
            seed = self._seed
        if seed < _HALF and offset < _HALF:
            return seed, offset
        return _signed(seed), _signed(offset)


_HALF = 1 << 63


def _signed(word: int) -> int:
    return word - (1 << 64) if word >= _HALF else word


default_generator = Generator()


class OfGpus:
    """The default streams of GPUs.

    Attributes:
        streams: those that were used, by device.
        seed: what all were seeded with last; None if they were not.
    """

    streams: dict[str, Generator] = {}
    seed: int | None = None

    @classmethod
    def of(cls, place: str) -> Generator:
        """A GPU's."""
        found = cls.streams.get(place)
        if found is None:
            found = cls.streams[place] = cls.beginning(place, cls.seed)
        return found

    @staticmethod
    def beginning(place: str, seed: int | None) -> Generator:
        """A stream that nothing was drawn from yet, if all were seeded with this."""
        made = Generator(place)
        return made if seed is None else made.manual_seed(seed)

    @classmethod
    def manual_seed_all(cls, seed: int) -> None:
        """Restart all from a seed, also those that are used later."""
        cls.seed = seed
        for stream in cls.streams.values():
            stream.manual_seed(seed)


def _source(generator: Generator | None, operands: tuple[Tensor, ...]) -> Generator:
    """The stream to draw from: the given one, or that of the device for which it is."""
    if generator is not None:
        return generator
    if not Used.devices:
        return default_generator
    place = drawing_on() or (operands[0]._handle.type.device if operands else "cpu")
    return default_generator if place == "cpu" else OfGpus.of(place)


def draws_for(function: Any) -> Any:
    """Decorate a function that draws numbers for its first argument, from its device's stream."""

    @functools.wraps(function)
    def drawn(*args: Any, **named: Any) -> Any:
        if not Used.devices or not args or not isinstance(args[0], Tensor):
            return function(*args, **named)
        before = set_drawing(args[0]._handle.type.device)
        try:
            return function(*args, **named)
        finally:
            set_drawing(before)

    return drawn


def manual_seed(seed: int) -> Generator:
    """Restart the default streams of all devices from a seed."""
    default_generator.manual_seed(seed)
    OfGpus.manual_seed_all(default_generator.initial_seed())
    return default_generator


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
    """Emit a random operation with its seed and offset; `numel` elements are drawn."""
    source = _source(generator, operands)
    span = attributes.get("high", 1) - attributes.get("low", 0)
    used = counters(op, numel, attributes.get("dtype", f32), span)
    key, offset = source.advance(used)
    call = call_of(op_named(op), **attributes)
    result: Tensor = apply(call, *operands, scalar(key, i64), scalar(offset, i64))
    return result


@makes
def rand(
    *sizes: Any,
    size: Any = None,
    generator: Generator | None = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """Uniform numbers in [0, 1); of complex ones both parts."""
    shape = shape_of("rand", sizes, size)
    return _floats("uniform", (shape,), generator, dtype, requires_grad)


@makes
def randn(
    *sizes: Any,
    size: Any = None,
    generator: Generator | None = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """Numbers from the standard normal distribution; each part of complex ones has
    variance 1/2."""
    shape = shape_of("randn", sizes, size)
    return _floats("normal", (shape,), generator, dtype, requires_grad)


def _floats(op: str, size: Any, generator: Any, dtype: DType | None, requires_grad: bool) -> Tensor:
    shape = sizes_of(size)
    dtype = dtype or get_default_dtype()
    if not dtype.is_differentiable:
        raise NotImplementedError(f'"{op}" not implemented for {dtype!r}')
    if dtype.is_complex:
        result = _complex_floats(op, shape, generator, dtype)
    else:
        result = draw(op, math.prod(shape), generator=generator, shape=shape, dtype=dtype)
    return result.requires_grad_(requires_grad) if requires_grad else result


def _complex_floats(
    op: str, shape: tuple[int, ...], generator: Generator | None, dtype: DType
) -> Tensor:
    pairs = (*shape, 2)
    parts = draw(op, math.prod(pairs), generator=generator, shape=pairs, dtype=dtype.to_real())
    if op == "normal":
        parts = parts * math.sqrt(0.5)
    return apply(call_of(op_named("view_as_complex")), parts)  # type: ignore[no-any-return]


@makes_like
def rand_like(
    input: Tensor,
    *,
    generator: Generator | None = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """Uniform numbers in the shape and dtype of another tensor."""
    refuse_sparse("rand_like", input, layout)
    shape = (tuple(input.shape),)
    return _floats("uniform", shape, generator, dtype or input.dtype, requires_grad)


@makes_like
def randn_like(
    input: Tensor,
    *,
    generator: Generator | None = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """Normal numbers in the shape and dtype of another tensor."""
    refuse_sparse("randn_like", input, layout)
    shape = (tuple(input.shape),)
    return _floats("normal", shape, generator, dtype or input.dtype, requires_grad)


@makes
def randint(
    low: int = 0,
    high: Any = None,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Integers in [low, high), int64 unless given: ``randint(high, size)`` or ``randint(low, high,
    size)``.

    Raises:
        RuntimeError: the range is empty.
    """
    if high is None or not isinstance(high, int):  # randint(high, size) or randint(high, size=...)
        low, high, size = 0, low, high if size is None else size
    if size is None:
        raise TypeError("randint(): missing argument 'size'")
    if high <= low:
        raise RuntimeError(
            f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}"
        )
    low, high = index(low), index(high)
    if dtype is not None:
        check_fits("randint", (low, high - 1), dtype)
    if isinstance(size, int):
        raise TypeError("randint(): argument 'size' must be tuple of ints, not int")
    shape = shape_of("randint", (size,))
    drawn = draw("randint", math.prod(shape), generator=generator, shape=shape, low=low, high=high)
    result: Tensor = drawn.to(dtype or i64)
    return result.requires_grad_(requires_grad) if requires_grad else result


@makes_like
def randint_like(
    input: Tensor,
    low: int,
    high: int | None = None,
    *,
    generator: Generator | None = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """Integers in [low, high), or [0, low), in the shape and dtype of another tensor."""
    refuse_sparse("randint_like", input, layout)
    low, high = (0, low) if high is None else (low, high)
    shape = tuple(input.shape)
    return randint(
        low,
        high,
        shape,
        generator=generator,
        dtype=dtype or input.dtype,
        requires_grad=requires_grad,
    )


@makes
def randperm(
    n: int,
    *,
    generator: Generator | None = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """A random permutation of 0 .. n-1, int64 unless given (made on the host: the ranks of n random
    words)."""
    from braze.tensors import from_array

    n = index(n)
    if n < 0:
        raise RuntimeError(f"randperm(): n must be non-negative, got {n}")
    if dtype is not None:
        check_fits("randperm", (n,), dtype)
    source = _source(generator, ())
    key, offset = source.advance(2 * counters_used(n))
    bits = op_named("random_bits").evaluate
    assert bits is not None
    high, low = (
        bits(np.int64(key), np.int64(offset), shape=(2 * n,)).astype(np.uint64).reshape(2, n)
    )
    order = np.argsort((high << np.uint64(32)) | low, kind="stable")
    result = from_array(order.astype((dtype or i64).numpy))
    return result.requires_grad_(requires_grad) if requires_grad else result


@draws_for
def bernoulli(
    input: Tensor, p: float | None = None, *, generator: Generator | None = None
) -> Tensor:
    """0 or 1, each element 1 with the probability given by the input, or by the number p.

    Raises:
        NotImplementedError: the input is not floating-point, and p is not given.
        RuntimeError: p is no probability.
    """
    refuse_sparse("bernoulli", input)
    if p is None and not input.dtype.is_floating_point:
        raise NotImplementedError(f'"bernoulli" not implemented for {input.dtype!r}')
    if p is not None and not 0 <= p <= 1:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p}")
    wide = f64 if input.dtype is f64 else f32
    shape = tuple(input.shape)
    if p is None:
        from braze.functions.indexing import check_bounds

        check_bounds("bernoulli", input, "expected probabilities p with p >= 0 and p <= 1", 0, 1)
    noise = draw("uniform", input.numel(), generator=generator, shape=shape, dtype=wide)
    result: Tensor = (noise < (input if p is None else p)).to(input.dtype)
    return result + 0 * input if input.requires_grad else result  # of which the gradient is zero


@draws_for
@makes
def normal(
    mean: Any,
    std: Any = 1.0,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Normal numbers with these means and standard deviations (numbers or tensors, broadcast), or
    with two numbers and a size.

    Raises:
        RuntimeError: a number std < 0. TypeError: two numbers without a size.
    """
    if not isinstance(std, Tensor) and std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
    tensors = [t for t in (mean, std) if isinstance(t, Tensor)]
    for operand in tensors:
        refuse_sparse("normal", operand)
    if size is not None:
        shape, chosen = sizes_of((size,)), dtype or get_default_dtype()
    elif tensors:
        shape = broadcast_shapes("normal", *(t._handle.type for t in tensors))
        chosen = tensors[0].dtype
    else:
        raise TypeError("normal(): two numbers need a size")
    if isinstance(std, Tensor):
        from braze.functions.indexing import check_values

        check_values("normal", std < 0, "expects all elements of std >= 0.0")
    noise = _floats("normal", (shape,), generator, chosen, False)
    result: Tensor = (noise * std + mean).to(chosen)
    return result.requires_grad_(requires_grad) if requires_grad else result
