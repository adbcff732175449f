"""A contraction's dimensions put in order: merged where strides allow, and sorted by role.

In: a `Contraction`.  Out: a `ContractionShape`, the form that schedules and kernels are made from.
Operand "a" is the one that rows index, "b" the one that columns index; `swapped` exchanges them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from braze.ir.dtypes import DType
from braze.ir.index import FloorDiv, Index, LoopVar, Mod
from braze.ir.loops import Bound, Buffer, Contraction, Load, Store, substitute_bounds
from braze.ir.symint import is_symbolic


@dataclass(frozen=True, slots=True)
class Dim:
    """One dimension: its variable and how many elements of each operand one step skips.

    panel: if not 0, so many elements of b lie side by side, and from one such panel to the next it
        is `jump` elements: b was packed before.
    """

    var: LoopVar
    a: int
    b: int
    panel: int = 0
    jump: int = 0

    @property
    def extent(self) -> int:
        return self.var.extent

    def __str__(self) -> str:
        return f"{self.var.name}={self.extent}({self.a},{self.b})"


Dims = tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class Guard:
    """A bound outside of which terms of the sum are zero, and operand a's, or b's, elements not in
    memory.

    inner: the inner dimension's variable whose values it limits; all others are of outer ones.
    """

    bound: Bound
    inner: LoopVar
    of_a: bool

    @property
    def outer(self) -> set[LoopVar]:
        return self.bound.index.variables() - {self.inner}


def count(dims: Dims) -> int:
    """How many points the dimensions have together (1 for none)."""
    total = 1
    for dim in dims:
        total *= dim.extent
    return total


@dataclass(frozen=True, eq=False, slots=True)
class ContractionShape:
    """Roles: batch dims index both operands, rows a alone, columns b alone, inner ones both.

    The result has all but the inner ones. `guards` narrow these.

    `empty` is set if an inner dimension has no elements: every sum is zero then, and `inner` is
    left out.
    """

    name: str
    batch: Dims
    rows: Dims
    columns: Dims
    inner: Dims
    a: Buffer
    a_offset: int
    b: Buffer
    b_offset: int
    dtype: DType
    stores: tuple[Store, ...]
    empty: bool = False
    guards: tuple[Guard, ...] = ()

    @property
    def outer(self) -> Dims:
        return (*self.batch, *self.rows, *self.columns)

    @property
    def held(self) -> set[LoopVar]:
        """The outer dimensions of which a tile has one value, since its sums depend on it."""
        return {var for guard in self.guards for var in guard.outer}

    def swapped(self) -> ContractionShape:
        """The same sum with the operands exchanged, so that rows are columns."""

        def turn(dims: Dims) -> Dims:
            return tuple(Dim(dim.var, dim.b, dim.a) for dim in dims)

        return replace(
            self, batch=turn(self.batch), rows=turn(self.columns), columns=turn(self.rows),
            inner=_inner_order(turn(self.inner)),
            a=self.b, a_offset=self.b_offset, b=self.a, b_offset=self.a_offset,
            guards=tuple(replace(guard, of_a=not guard.of_a) for guard in self.guards),
        )  # fmt: skip

    def with_panels(self) -> ContractionShape | None:
        """The same with two columns as one, if b lies in the order of packed panels."""
        for high in self.columns:
            for low in self.columns:
                size = low.extent * count(self.inner)
                if low.b != 1 or high.panel or low.panel:
                    continue
                # Whether panels of a symbolic size overlap is not known.
                if is_symbolic(size, high.b) or high.b < size:
                    continue
                stores = list(self.stores)
                indices = [index for store in stores for index in indices_of(store)]
                if high is low or not all(_fits(i, high.var, low.var) for i in indices):
                    continue
                var = LoopVar(f"{high.var.name}_{low.var.name}", high.extent * low.extent)
                stores = [_rename(store, high.var, low.var, var) for store in stores]
                others = [dim for dim in self.columns if dim is not high and dim is not low]
                dim = Dim(var, 0, 1, panel=low.extent, jump=high.b)
                return replace(self, columns=(*others, dim), stores=tuple(stores))
        return None

    def result_stride(self, dim: Dim) -> int:
        """The factor of the dimension in the first store's index."""
        return self.stores[0].index.coefficient(dim.var) if self.stores else 0

    def __str__(self) -> str:
        groups = (("batch", self.batch), ("rows", self.rows), ("columns", self.columns))
        parts = [f"{name} {' '.join(map(str, dims))}" for name, dims in groups if dims]
        guards = [f"if {guard.bound}" for guard in self.guards]
        return "; ".join([*parts, f"inner {' '.join(map(str, self.inner)) or 'none'}", *guards])


def contraction_shape(contraction: Contraction) -> ContractionShape:
    """Sort the dimensions into roles, drop those of one element and merge what can be merged."""
    dims = [
        Dim(var, a, b)
        for var, a, b in zip(
            contraction.dims, contraction.lhs.strides, contraction.rhs.strides, strict=True
        )
    ]
    split = len(dims) - contraction.inner
    outer = [dim for dim in dims[:split] if dim.extent != 1]
    inner = [dim for dim in dims[split:] if dim.extent != 1]
    empty = any(dim.extent == 0 for dim in inner)
    inner = [] if empty else inner
    stores = list(contraction.stores)
    guards = () if empty else _guards(contraction, {dim.var for dim in inner})
    alone = {var for guard in guards for var in guard.bound.index.variables()}
    inner, _ = _merge(inner, stores, alone)
    # A dimension that an operand does not depend on is never its batch dimension, whoever made it.
    batch, stores = _merge([dim for dim in outer if bool(dim.a) == bool(dim.b)], stores, alone)
    rows, stores = _merge([dim for dim in outer if dim.a and not dim.b], stores, alone)
    columns, stores = _merge([dim for dim in outer if dim.b and not dim.a], stores, alone)
    return ContractionShape(
        contraction.name, tuple(batch), tuple(rows), tuple(columns), _inner_order(tuple(inner)),
        contraction.lhs.buffer, contraction.lhs.offset,
        contraction.rhs.buffer, contraction.rhs.offset,
        contraction.dtype, tuple(stores), empty, guards,
    )  # fmt: skip


def _guards(contraction: Contraction, inner: set[LoopVar]) -> tuple[Guard, ...]:
    found = []
    for access in (contraction.lhs, contraction.rhs):
        for bound in substitute_bounds(access.guard, lambda v: Index() if v.extent == 1 else None):
            (var,) = bound.index.variables() & inner
            found.append(Guard(bound, var, access is contraction.lhs))
    return tuple(found)


def _inner_order(inner: Dims) -> Dims:
    """Longest strides outermost, a's first: its elements are read in this order without packing."""
    return tuple(sorted(inner, key=lambda dim: (abs(dim.a), abs(dim.b)), reverse=True))


def _merge(
    dims: list[Dim], stores: list[Store], alone: set[LoopVar]
) -> tuple[list[Dim], list[Store]]:
    """Join pairs of dimensions that every access walks as if they were one, those `alone` never."""
    merged = True
    while merged:
        merged = False
        for high in dims:
            for low in dims:
                if high is low or alone & {high.var, low.var}:
                    continue
                if not _mergeable(high, low, stores):
                    continue
                var = LoopVar(f"{high.var.name}_{low.var.name}", high.extent * low.extent)
                stores = [_rename(store, high.var, low.var, var) for store in stores]
                dims = [Dim(var, low.a, low.b) if dim is low else dim for dim in dims]
                dims = [dim for dim in dims if dim is not high]
                merged = True
                break
            if merged:
                break
    return dims, stores


def _mergeable(high: Dim, low: Dim, stores: list[Store]) -> bool:
    size = low.extent
    if high.a != low.a * size or high.b != low.b * size:
        return False
    return all(_fits(index, high.var, low.var) for store in stores for index in indices_of(store))


def _fits(index: Index, high: LoopVar, low: LoopVar) -> bool:
    """Whether the index depends on the two variables through high * low.extent + low alone."""
    if index.coefficient(high) != index.coefficient(low) * low.extent:
        return False
    return all(
        _fits(atom.inner, high, low) for atom, _ in index.terms if isinstance(atom, (FloorDiv, Mod))
    )  # data indices are expressions, which `indices_of` walks on their own


def indices_of(store: Store) -> Iterator[Index]:
    """Every index that the statement holds, those inside data indices too."""
    for root in (Load(store.buffer, store.index, store.guard), store.value):
        for expr in root.walk():
            yield from expr.indices()


def _rename(store: Store, high: LoopVar, low: LoopVar, var: LoopVar) -> Store:
    def new(old: LoopVar) -> Index | None:
        if old == high:
            return Index()
        return Index.of(var) if old == low else None

    guard: tuple[Bound, ...] = substitute_bounds(store.guard, new)
    return Store(
        store.buffer, store.index.substitute(new), store.value.substitute(new), guard,
        store.accumulate,
    )  # fmt: skip
