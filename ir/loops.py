"""The loop IR: kernels as loop nests over flat buffers, the second of the two IRs.

A `Program` is what one graph becomes: waves of kernels in order, each kernel a `Nest` (statements
under loops) or a `Contraction` (a sum of products with an epilogue, for the micro-kernel
generators). Both code generators read this and nothing else. Addresses are `Index` element offsets
into row-major buffers; movement operations are already folded in.

A scalar expression (`Expr`) is a DAG: equal subexpressions are shared objects and evaluated once.
Statements run in order; `Reduce` defines names that later expressions read with `Ref`. Text form,
by `print(kernel)`:

    nest @relu_bias(%0: f32[64] in, %1: f32[4096] in, %2: f32[4096] out) {
      for i in 64 chunks 4 {
        for j in 64 vector {
          store %2[64*i + j] = maximum(add(%1[64*i + j], %0[j]), 0.0)
        }
      }
    }
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from braze.ir.dtypes import DType, bool_, i64, u32
from braze.ir.graph import Location
from braze.ir.index import DataIndex, FloorDiv, Index, LoopVar, Mod
from braze.ir.op import Op

Replace = Callable[[LoopVar], Index | None]


# Buffers ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Buffer:
    """A flat array that a kernel touches. `access` says how."""

    name: str
    dtype: DType
    numel: int
    access: Literal["in", "out", "inout"]


@dataclass(frozen=True, slots=True)
class Bound:
    """The condition low <= index < high."""

    index: Index
    low: int
    high: int

    @property
    def is_always_true(self) -> bool:
        low, high = self.index.span
        return self.low <= low and high < self.high

    def __str__(self) -> str:
        return f"{self.low} <= {self.index} < {self.high}"


# Scalar expressions -------------------------------------------------------------------------------


class Expr:
    """A scalar value at one point of the iteration space. Compared by identity."""

    __slots__ = ("dtype",)
    dtype: DType

    def children(self) -> tuple[Expr, ...]:
        return ()

    def indices(self) -> tuple[Index, ...]:
        """The index expressions that this node itself holds."""
        return ()

    def parts(self) -> Iterator[Expr]:
        """The children, after the data that this node's own indices read."""
        waiting = list(reversed(self.indices()))
        while waiting:
            for atom, _ in waiting.pop().terms:
                if isinstance(atom, DataIndex):
                    yield atom.value
                elif isinstance(atom, (FloorDiv, Mod)):
                    waiting.append(atom.inner)
        yield from self.children()

    def walk(self) -> Iterator[Expr]:
        """Every distinct subexpression, children first. Index data (`DataIndex`) is included."""
        seen: set[Expr] = set()
        waiting: list[tuple[Expr, bool]] = [(self, False)]
        while waiting:
            expr, is_ready = waiting.pop()
            if is_ready:
                yield expr
            elif expr not in seen:
                seen.add(expr)
                waiting.append((expr, True))
                parts = [part for part in expr.parts() if part not in seen]
                waiting += [(part, False) for part in reversed(parts)]

    def variables(self) -> set[LoopVar]:
        """The loop variables that the value depends on."""
        return {v for expr in self.walk() for index in expr.indices() for v in index.variables()}

    def substitute(self, replace: Replace, memo: dict[int, Expr] | None = None) -> Expr:
        """A copy with loop variables replaced; sharing is kept."""
        memo = {} if memo is None else memo
        if id(self) not in memo:
            memo[id(self)] = self._substitute(replace, memo)
        return memo[id(self)]

    def _substitute(self, replace: Replace, memo: dict[int, Expr]) -> Expr:
        return self

    def __str__(self) -> str:
        from braze.ir.loops_text import print_expr

        return print_expr(self)


class Const(Expr):
    """A compile-time number."""

    __slots__ = ("value",)

    def __init__(self, value: float | int | bool, dtype: DType) -> None:
        self.value = value
        self.dtype = dtype


class IndexValue(Expr):
    """An index as an i64 value (what `iota` becomes)."""

    __slots__ = ("index",)

    def __init__(self, index: Index) -> None:
        self.index = index
        self.dtype = i64

    def indices(self) -> tuple[Index, ...]:
        return (self.index,)

    def _substitute(self, replace: Replace, memo: dict[int, Expr]) -> Expr:
        return IndexValue(self.index.substitute(replace))


class InBounds(Expr):
    """True when every bound holds (what the inside of a `pad` becomes)."""

    __slots__ = ("bounds",)

    def __init__(self, bounds: tuple[Bound, ...]) -> None:
        self.bounds = bounds
        self.dtype = bool_

    def indices(self) -> tuple[Index, ...]:
        return tuple(bound.index for bound in self.bounds)

    def _substitute(self, replace: Replace, memo: dict[int, Expr]) -> Expr:
        return InBounds(substitute_bounds(self.bounds, replace))


class Load(Expr):
    """Element `index` of a buffer; zero, with memory not touched, where a guard fails."""

    __slots__ = ("buffer", "guard", "index")

    def __init__(self, buffer: Buffer, index: Index, guard: tuple[Bound, ...] = ()) -> None:
        self.buffer = buffer
        self.index = index
        self.guard = guard
        self.dtype = buffer.dtype

    def indices(self) -> tuple[Index, ...]:
        return (self.index, *(bound.index for bound in self.guard))

    def _substitute(self, replace: Replace, memo: dict[int, Expr]) -> Expr:
        guard = substitute_bounds(self.guard, replace)
        return Load(self.buffer, self.index.substitute(replace), guard)


class Apply(Expr):
    """A primitive pointwise operation. `dtype` is the result's (the target's for `cast`)."""

    __slots__ = ("arguments", "op")

    def __init__(self, op: Op, arguments: tuple[Expr, ...], dtype: DType) -> None:
        self.op = op
        self.arguments = arguments
        self.dtype = dtype

    def children(self) -> tuple[Expr, ...]:
        return self.arguments

    def _substitute(self, replace: Replace, memo: dict[int, Expr]) -> Expr:
        arguments = tuple(a.substitute(replace, memo) for a in self.arguments)
        return Apply(self.op, arguments, self.dtype)


class Philox(Expr):
    """Output word 0..3 of Philox4x32-10 for a 64-bit counter and key; see `ir.ops.creation`."""

    __slots__ = ("counter", "seed", "word")

    def __init__(self, word: int, counter: Expr, seed: Expr) -> None:
        self.word = word
        self.counter = counter
        self.seed = seed
        self.dtype = u32

    def children(self) -> tuple[Expr, ...]:
        return (self.counter, self.seed)

    def _substitute(self, replace: Replace, memo: dict[int, Expr]) -> Expr:
        counter = self.counter.substitute(replace, memo)
        return Philox(self.word, counter, self.seed.substitute(replace, memo))


class Ref(Expr):
    """A name defined by an earlier `Reduce`, or a contraction's sum (`acc`) in its epilogue."""

    __slots__ = ("name",)

    def __init__(self, name: str, dtype: DType) -> None:
        self.name = name
        self.dtype = dtype


def substitute_bounds(bounds: tuple[Bound, ...], replace: Replace) -> tuple[Bound, ...]:
    """Replace loop variables in bounds; those that became always true are dropped."""
    new = (Bound(b.index.substitute(replace), b.low, b.high) for b in bounds)
    return tuple(bound for bound in new if not bound.is_always_true)


# Statements ---------------------------------------------------------------------------------------

LoopKind = Literal["serial", "vector", "unroll"]


@dataclass(eq=False, slots=True)
class Loop:
    """Run the body for each value of `var`.

    Attributes:
        kind: `vector` loops run several values at once, in lanes, and hold no other vector loop;
            `unroll` is expanded at compile time.
        chunks: into how many pieces the range is cut for the thread pool (1: not parallel). Only
            the outermost loop of a kernel may have more than one; iterations must be independent.
    """

    var: LoopVar
    body: list[Statement]
    kind: LoopKind = "serial"
    chunks: int = 1


@dataclass(eq=False, slots=True)
class Store:
    """buffer[index] = value, skipped where a guard fails; with `accumulate` the value is added.

    A store whose index comes from data is a scatter: it must not run in parallel, and those to one
    place keep their order.
    """

    buffer: Buffer
    index: Index
    value: Expr
    guard: tuple[Bound, ...] = ()
    accumulate: bool = False

    @property
    def is_scatter(self) -> bool:
        """Do data choose the place?"""
        return any(isinstance(atom, DataIndex) for atom, _ in self.index.terms)


Combine = Literal["sum", "prod", "amax", "amin", "any", "all", "argmax", "argmin"]


@dataclass(frozen=True, eq=False, slots=True)
class Accumulator:
    """One result of a `Reduce`: `name` becomes the combination of `value` over the loops.

    For argmax and argmin, `value` is compared and the result is `position`'s i64 value at the first
    extremum.
    """

    name: str
    combine: Combine
    value: Expr
    position: Index | None = None

    @property
    def dtype(self) -> DType:
        return self.value.dtype if self.position is None else i64


@dataclass(eq=False, slots=True)
class Reduce:
    """Reduce over `loops`, outermost first; only the innermost may be of kind vector."""

    loops: tuple[tuple[LoopVar, LoopKind], ...]
    accumulators: tuple[Accumulator, ...]


@dataclass(eq=False, slots=True)
class Check:
    """Report failure number `code` of the program, with this value, unless low <= value < high."""

    value: Expr
    low: int
    high: int
    code: int


Statement = Loop | Store | Reduce | Check


@dataclass(eq=False, slots=True)
class Nest:
    """A kernel made of statements under loops."""

    name: str
    buffers: tuple[Buffer, ...]
    body: list[Statement]
    comment: str = ""

    def __str__(self) -> str:
        from braze.ir.loops_text import print_kernel

        return print_kernel(self)


# Contractions -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Access:
    """Where a contraction's operand lies: element offset + sum of stride * dimension's variable."""

    buffer: Buffer
    strides: tuple[int, ...]  # one for each of the contraction's dims; 0 where it does not depend
    offset: int = 0


@dataclass(eq=False, slots=True)
class Contraction:
    """acc = sum over inner dims of lhs * rhs, then the epilogue's stores at each outer point.

    The role of a dimension follows from who reads it: inner if the result does not depend on it,
    batch if both operands do, row if only lhs does, column if only rhs does.

    Attributes:
        dims: loop variables, batch, row and column dims in result order, then the inner ones.
        inner: how many of the last `dims` are summed over.
        stores: their values read the sum as `Ref("acc")`; indices use the non-inner dims.
        dtype: of the sum (f32 for narrow operands).
    """

    name: str
    buffers: tuple[Buffer, ...]
    dims: tuple[LoopVar, ...]
    inner: int
    lhs: Access
    rhs: Access
    stores: list[Store]
    dtype: DType
    comment: str = ""

    def __str__(self) -> str:
        from braze.ir.loops_text import print_kernel

        return print_kernel(self)


Kernel = Nest | Contraction

# Programs -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a buffer lives: input or output number `slot`, or byte `offset` in the arena."""

    kind: Literal["input", "output", "arena"]
    slot: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class CheckSite:
    """What failure `code` means: the operation's message, its range, and the user's line."""

    message: str
    low: int
    high: int
    location: Location | None


@dataclass(eq=False, slots=True)
class Program:
    """Everything that runs for one graph.

    Attributes:
        waves: lists of kernels that do not depend on each other; a wave is one parallel region.
        placements: buffer name -> where it lives. A name means the same buffer in every kernel.
        inputs, outputs: how many pointers of each the caller passes.
        arena_bytes: size of the one block that holds every intermediate value.
        checks: meaning of the failure codes.
    """

    name: str
    inputs: int
    outputs: int
    waves: list[list[Kernel]]
    placements: dict[str, Placement]
    arena_bytes: int
    checks: list[CheckSite] = field(default_factory=list)

    def kernels(self) -> Iterator[Kernel]:
        for wave in self.waves:
            yield from wave

    def __str__(self) -> str:
        from braze.ir.loops_text import print_program

        return print_program(self)
