"""The loop IR: kernels as loop nests over flat buffers, the second of the two IRs.

A `Program` is what one graph becomes: waves of kernels in order, each kernel a `Nest` (statements
under loops), a `Contraction` (a sum of products with an epilogue, for the micro-kernel
generators), a `Sort` (rows put in order), a `HostCall` (an operation that the runtime evaluates
with NumPy), a `Recurrence` (a program of its own, run once for each step) or an `Attention`. Both
code generators
read this and nothing else. Addresses are `Index` element offsets
into row-major buffers; movement operations are already folded in.

A scalar expression (`Expr`) is a DAG: equal subexpressions are shared objects and evaluated once.
Statements run in order; `Reduce` and `Scan` define names that later expressions read with `Ref`.
Text form, by `print(kernel)`:

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
from braze.ir.loops_attention import Attention
from braze.ir.loops_recurrence import Recurrence
from braze.ir.op import AttributeValue, Op
from braze.ir.types import TensorType

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

    def parts(self) -> tuple[Expr, ...]:
        """The children, after the data that this node's own indices read."""
        indices = self.indices()
        if not indices:
            return self.children()
        data: list[Expr] = []
        waiting = list(reversed(indices))
        while waiting:
            for atom, _ in waiting.pop().terms:
                if isinstance(atom, DataIndex):
                    data.append(atom.value)
                elif isinstance(atom, (FloorDiv, Mod)):
                    waiting.append(atom.inner)
        return (*data, *self.children())

    def walk(self) -> Iterator[Expr]:
        """Every distinct subexpression, children first. Index data (`DataIndex`) is included."""
        opened: set[Expr] = set()
        done: set[Expr] = set()
        waiting: list[Expr] = [self]
        while waiting:
            expr = waiting[-1]
            if expr not in opened:
                opened.add(expr)
                parts = [part for part in expr.parts() if part not in opened]
                if parts:
                    parts.reverse()
                    waiting += parts
                    continue
            waiting.pop()
            if expr not in done:
                done.add(expr)
                yield expr

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
    """A name defined by an earlier `Reduce` or `Scan`, a contraction's sum (`acc`) in its epilogue,
    or a sort's `key` and `position`."""

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

    A store whose index comes from data is a scatter: it must not run in parallel, unless the loop's
    variable keeps the places apart, and those to one place keep their order.
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


Running = Literal["sum", "prod", "amax", "amin", "lastmax", "lastmin", "linear"]


@dataclass(frozen=True, eq=False, slots=True)
class Carried:
    """What a `Scan` carries from point to point: at each, `name` becomes a combination of itself
    and the values there.

    sum, prod, amax and amin take one value. lastmax and lastmin compare one and are `position`'s
    i64 value at the last extremum so far. linear is ``values[0] * name + values[1]``.

    Attributes:
        starts: what it is before the first point (for lastmax and lastmin the value and the
            position); () for the combination of no values, which for linear is 0.
    """

    name: str
    combine: Running
    values: tuple[Expr, ...]
    position: Index | None = None
    starts: tuple[Expr, ...] = ()

    @property
    def dtype(self) -> DType:
        return self.values[0].dtype if self.position is None else i64


@dataclass(eq=False, slots=True)
class Scan:
    """Visit the points of `loops` in order, outermost loop first, with values carried along.

    At each point all carried values take in what is there, then the stores run, which may read them
    by name. After the scan the names have their last values. Only the innermost loop may be of kind
    vector: its lanes are combined in registers.
    """

    loops: tuple[tuple[LoopVar, LoopKind], ...]
    carried: tuple[Carried, ...]
    stores: list[Store]


@dataclass(eq=False, slots=True)
class Check:
    """Report failure number `code` of the program, with this value, unless low <= value < high."""

    value: Expr
    low: int
    high: int
    code: int


Statement = Loop | Store | Reduce | Scan | Check


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
    """Where a contraction's operand lies: element offset + sum of stride * dimension's variable.

    Attributes:
        strides: one for each of the contraction's dims; 0 where it does not depend.
        guard: terms of the sum where a bound fails count as zero, with memory not touched. Each
            bound's index is affine with one inner dimension (of more than one element) in it, so
            that it says which of that dimension's values count at an outer point.
    """

    buffer: Buffer
    strides: tuple[int, ...]
    offset: int = 0
    guard: tuple[Bound, ...] = ()


@dataclass(eq=False, slots=True)
class Contraction:
    """acc = sum over inner dims of lhs * rhs, then the epilogue's stores at each outer point.

    The role of a dimension follows from who reads it: inner if the result does not depend on it,
    batch if both operands do, row if only lhs does, column if only rhs does.

    Attributes:
        dims: loop variables, batch, row and column dims in result order, then the inner ones.
        inner: how many of the last `dims` are summed over.
        stores: their values read the sum as `Ref("acc")`; indices use the non-inner dims.
        dtype: of the sum (f32 for narrow operands). An operand of another dtype, all of whose
            numbers this one has, is converted as it is read.
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


# Sorts --------------------------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class Sort:
    """Put the keys of each row in order, then run the stores for each rank.

    The order is total and stable: equal keys stay in the order of `along`, also when descending;
    nan is the largest key, and -0.0 equals 0.0. All keys of a row are read before its first store.

    Attributes:
        rows: loop variables whose points are the rows; rows are independent.
        along: runs over a row's keys.
        key: what is compared.
        rank: runs over the first places of the order, as many as are wanted.
        stores: their values read the key at a rank as `Ref("key")` and its value of `along` as
            `Ref("position")`, an i64; indices use `rows` and `rank`.
        chunks: into how many pieces the rows are cut for the thread pool.
    """

    name: str
    buffers: tuple[Buffer, ...]
    rows: tuple[LoopVar, ...]
    along: LoopVar
    key: Expr
    descending: bool
    rank: LoopVar
    stores: list[Store]
    chunks: int = 1
    comment: str = ""

    def __str__(self) -> str:
        from braze.ir.loops_text import print_kernel

        return print_kernel(self)


# Host calls ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HostArray:
    """An operand or a result of a host call: a whole buffer, row-major, seen under a shape.

    `buffer` is None for a result that nobody needs.
    """

    buffer: Buffer | None
    type: TensorType


@dataclass(eq=False, slots=True)
class HostCall:
    """Evaluate an operation of category "host" with NumPy, on the thread that runs the program.

    Text form; a result in parentheses has no buffer:

        host @slogdet_1(%0: f32[9] in, %1: f32[1] out) {
          call 0 (f32[]), %1: f32[] = slogdet(%0: f32[3,3])  # train.py:12
        }

    Attributes:
        number: of the call in its program; compiled code hands it to the runtime.
        location: the user's line, for the message of an error that the call raises.
    """

    name: str
    buffers: tuple[Buffer, ...]
    number: int
    op: Op
    attributes: dict[str, AttributeValue]
    operands: tuple[HostArray, ...]
    results: tuple[HostArray, ...]
    location: Location | None = None
    comment: str = ""

    def __str__(self) -> str:
        from braze.ir.loops_text import print_kernel

        return print_kernel(self)


Kernel = Nest | Contraction | Sort | HostCall | Recurrence | Attention

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
        words: how many numbers the caller passes behind the pointers; a program whose integers are
            functions of them (`braze.ir.symint`) is symbolic.
        sizes: how many of the words, the first of them, are sizes.
    """

    name: str
    inputs: int
    outputs: int
    waves: list[list[Kernel]]
    placements: dict[str, Placement]
    arena_bytes: int
    checks: list[CheckSite] = field(default_factory=list)
    words: int = 0
    sizes: int = 0

    def kernels(self) -> Iterator[Kernel]:
        for wave in self.waves:
            yield from wave

    def host_calls(self) -> list[HostCall]:
        """The calls of the runtime, in the order of their numbers."""
        calls = [kernel for kernel in self.kernels() if isinstance(kernel, HostCall)]
        return sorted(calls, key=lambda call: call.number)

    def __str__(self) -> str:
        from braze.ir.loops_text import print_program

        return print_program(self)
