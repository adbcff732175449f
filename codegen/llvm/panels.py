"""Weights in the order in which a contraction's tiles read them, so that no kernel packs them.

In: a `Contraction`, one of whose operands is known when it is compiled.  Out: a contraction that
reads this operand in another order, and what puts the elements in this order.

The lanes of the result are cut into panels, as many vectors wide as a tile; in memory a panel has
its lanes side by side for each term of the sum. So the variable of the lanes becomes two, of the
panels and of the lanes in one. Which width is best is what the search for schedules says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from braze.codegen.llvm.schedule_search import weighed
from braze.ir.index import Index, LoopVar
from braze.ir.loops import (
    Access,
    Contraction,
    Kernel,
    Load,
    Program,
    Store,
    substitute_bounds,
)
from braze.ir.target import Target

Array = np.ndarray[Any, np.dtype[Any]]

# The extents and strides of `Panels`.
Order = tuple[tuple[int, ...], tuple[int, ...]]

_MOST_VECTORS = 14


@dataclass(frozen=True, slots=True)
class Panels:
    """A contraction with an operand in another order.

    contraction: it computes the same of the operand's elements in that order.
    extents, strides: where, in the old order, the elements lie that follow each other in the new.
    """

    contraction: Contraction
    extents: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def order(self) -> Order:
        return self.extents, self.strides

    def packed(self, array: Array) -> Array:
        """The elements in the new order, in the old shape."""
        return packed(array, self.order)


def packed(array: Array, order: Order) -> Array:
    """An array's elements in another order, in the same shape."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return np.ascontiguousarray(_view(flat, order)).reshape(array.shape)


def unpacked(array: Array, order: Order) -> Array:
    """The array that `packed` gave this one of."""
    flat = np.empty(array.size, array.dtype)
    view = _view(flat, order)
    view[...] = np.ascontiguousarray(array).reshape(view.shape)
    return flat.reshape(array.shape)


def _view(flat: Array, order: Order) -> Array:
    extents, strides = order
    steps = [stride * flat.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(flat, extents, steps)


def in_panels(contraction: Contraction, weight: str, target: Target) -> Panels | None:
    """The cheapest order of an operand; None if its own is.

    Args:
        weight: the name of the operand's buffer.
    """
    if any(var.extent == 0 for var in contraction.dims):
        return None
    best, least = None, weighed(contraction, target)
    for choice in _choices(contraction, weight, target):
        cost = weighed(choice.contraction, target)
        if cost < least:
            best, least = choice, cost
    return best


def pack_operands(
    program: Program,
    arrays: Mapping[str, Array],
    target: Target,
    decided: dict[str, Order | None] | None = None,
) -> tuple[Program, dict[str, Array]]:
    """A program that reads its weights in the order of its tiles.

    Args:
        arrays: of the inputs that are known, by name.
        decided: the orders of weights by name: those that are there are kept to, the
            others are added. So the programs of several sizes read the same arrays.

    Returns:
        The program, and the arrays that are to be given in place of some.
    """
    changed, panels = _with_weights_in_panels(program, arrays.keys(), target, decided)
    return changed, {name: own.packed(arrays[name]) for name, own in panels.items()}


def _with_weights_in_panels(
    program: Program,
    weights: Collection[str],
    target: Target,
    decided: dict[str, Order | None] | None,
) -> tuple[Program, dict[str, Panels]]:
    """The program, and the weights whose order is another."""
    readers = Counter(buffer.name for kernel in program.kernels() for buffer in kernel.buffers)
    found: dict[str, Panels] = {}

    def changed(kernel: Kernel) -> Kernel:
        if not isinstance(kernel, Contraction):
            return kernel
        for name in (kernel.rhs.buffer.name, kernel.lhs.buffer.name):
            if name in weights and readers[name] == 1:
                panels = _kept_to(kernel, name, target, decided)
                if panels is not None:
                    found[name] = panels
                    return panels.contraction
        return kernel

    waves = [[changed(kernel) for kernel in wave] for wave in program.waves]
    return replace(program, waves=waves), found


class Packer:
    """`pack_operands` for the programs of one graph, and what their code is to be given.

    Attributes:
        orders: those of the weights whose order is another now.
    """

    def __init__(
        self,
        arrays: Mapping[str, Array],
        target: Target,
        decided: dict[str, Order | None] | None = None,
    ) -> None:
        self._decided = decided
        self.orders: dict[str, Order] = {}
        self._arrays, self._target = arrays, target

    def __call__(self, program: Program) -> Program:
        program, panels = _with_weights_in_panels(
            program, self._arrays.keys(), self._target, self._decided
        )
        self.orders.update({name: own.order for name, own in panels.items()})
        return program

    @property
    def given(self) -> dict[str, Array]:
        """The arrays, those that were packed in their new order."""
        packed_ones = {n: packed(self._arrays[n], order) for n, order in self.orders.items()}
        return {**self._arrays, **packed_ones}


def _kept_to(
    contraction: Contraction,
    name: str,
    target: Target,
    decided: dict[str, Order | None] | None,
) -> Panels | None:
    if decided is None:
        return in_panels(contraction, name, target)
    if name not in decided:
        panels = in_panels(contraction, name, target)
        decided[name] = None if panels is None else (panels.extents, panels.strides)
        return panels
    choices = _choices(contraction, name, target)
    return next(
        (choice for choice in choices if (choice.extents, choice.strides) == decided[name]), None
    )


def _choices(contraction: Contraction, weight: str, target: Target) -> Iterator[Panels]:
    is_left = contraction.lhs.buffer.name == weight
    own, other = contraction.lhs, contraction.rhs
    if not is_left:
        own, other = other, own
    dims = contraction.dims
    outer = len(dims) - contraction.inner
    walked = {i for i in range(len(dims)) if own.strides[i]}
    # All elements, each once, and nobody else reads them in this kernel.
    if own.offset or own.guard or other.buffer.name == weight or not _is_dense(own, dims):
        return
    if any(buffer.access != "in" for buffer in contraction.buffers if buffer.name == weight):
        return
    if any(weight in _buffers_read(store) for store in contraction.stores):
        return
    columns = [i for i in walked if i < outer and not other.strides[i]]
    if not columns:
        return
    lane = max(columns, key=lambda i: dims[i].extent)
    before = [i for i in range(outer) if i in walked and i != lane]
    # As the micro-kernel walks through the sum: the other operand's longest strides outermost.
    inner = sorted(
        (i for i in range(outer, len(dims)) if i in walked),
        key=lambda i: (abs(other.strides[i]), i),
        reverse=True,
    )
    width = target.vector_lanes(contraction.dtype.itemsize)
    extent = dims[lane].extent
    sizes = [width * n for n in range(1, _MOST_VECTORS + 1) if extent % (width * n) == 0]
    for size in [*(s for s in sizes if s < extent), extent]:
        yield _with_panels(contraction, is_left, before, lane, inner, size)


def _with_panels(
    contraction: Contraction, is_left: bool, before: list[int], lane: int, inner: list[int],
    size: int,
) -> Panels:  # fmt: skip
    dims = contraction.dims
    own = contraction.lhs if is_left else contraction.rhs
    var = dims[lane]
    count = var.extent // size
    high, low = LoopVar(f"{var.name}_panel", count), LoopVar(f"{var.name}_lane", size)
    extents = [*(dims[i].extent for i in before), count, *(dims[i].extent for i in inner), size]
    strides = [
        *(own.strides[i] for i in before), own.strides[lane] * size,
        *(own.strides[i] for i in inner), own.strides[lane],
    ]  # fmt: skip
    places = _places(extents)
    found = dict(zip([*before, -1, *inner, lane], places, strict=True))
    jumps = [found.get(i, 0) for i in range(len(dims))]
    other = contraction.rhs if is_left else contraction.lhs
    others = list(other.strides)
    new_dims, stores = list(dims), contraction.stores
    if count > 1:
        new_dims[lane : lane + 1] = [high, low]
        jumps.insert(lane, found[-1])
        others.insert(lane, 0)
        stores = [_split(store, var, high, low) for store in contraction.stores]
    pair = [Access(own.buffer, tuple(jumps)), replace(other, strides=tuple(others))]
    lhs, rhs = pair if is_left else pair[::-1]
    made = replace(contraction, dims=tuple(new_dims), lhs=lhs, rhs=rhs, stores=stores)
    return Panels(made, tuple(extents), tuple(strides))


def _is_dense(access: Access, dims: tuple[LoopVar, ...]) -> bool:
    """Whether an operand's elements are all there is in its buffer, each at one place."""
    pairs = [(s, v.extent) for s, v in zip(access.strides, dims, strict=True) if s]
    expected = 1
    for stride, extent in sorted(pair for pair in pairs if pair[1] > 1):
        if stride != expected:
            return False
        expected *= extent
    return expected == access.buffer.numel


def _places(extents: list[int]) -> list[int]:
    return [prod(extents[i + 1 :]) for i in range(len(extents))]


def _split(store: Store, var: LoopVar, high: LoopVar, low: LoopVar) -> Store:
    whole = Index.of(high) * low.extent + Index.of(low)

    def new(old: LoopVar) -> Index | None:
        return whole if old == var else None

    return Store(
        store.buffer, store.index.substitute(new), store.value.substitute(new),
        substitute_bounds(store.guard, new), store.accumulate,
    )  # fmt: skip


def _buffers_read(store: Store) -> Iterator[str]:
    for expr in store.value.walk():
        if isinstance(expr, Load):
            yield expr.buffer.name
