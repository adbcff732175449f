"""Scalar expression DAGs in vector lanes.

In: expressions of the loop IR, the values of the loop variables, and which of them runs over the
lanes. Out: LLVM values and stores at the builder's position. A subexpression that does not differ
between lanes is computed once, as a scalar, and spread; every shared node is emitted once.

Whoever opens a block of code that may not run (a loop's body, a branch) must emit into it through a
`fork`: what is computed there is then forgotten again outside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from braze.codegen.llvm import ir
from braze.codegen.llvm.addressing import IndexEmitter, Place, fits_int32
from braze.codegen.llvm.conversions import from_memory, round_narrow, to_memory
from braze.codegen.llvm.kernel import Aliasing, CodegenError
from braze.codegen.llvm.memory import Memory
from braze.codegen.llvm.operations import SEQUENCES, Context, apply_operation
from braze.codegen.llvm.philox import emit_philox
from braze.codegen.llvm.types import (
    I1,
    I32,
    I64,
    constant,
    intrinsic,
    is_narrow_float,
    register_type,
    splat,
    vector,
    zero,
)
from braze.ir.dtypes import f64
from braze.ir.index import Index, LoopVar
from braze.ir.loops import (
    Apply,
    Bound,
    Buffer,
    Const,
    Expr,
    InBounds,
    IndexValue,
    Load,
    Philox,
    Ref,
    Store,
)
from braze.ir.target import Target

PointerOf = Callable[[Buffer], ir.Value]


class ExpressionEmitter:
    """Emits expressions and stores for `width` lanes.

    Args:
        width: number of lanes; 1 for scalar code.
        lane_var: the loop variable that the lanes run over: lane l stands for its value + l.
        variables: the i64 value of every loop variable in scope (lane 0's for `lane_var`).
        refs: the values of names that expressions read with `Ref`: scalars, or one value a lane.
        pointer: gives a buffer's address.
        mask: <width x i1>, the lanes that take part (None: all). Lane 0 always does.
        lane_alignment: a number known to divide lane 0's value of `lane_var`.
        aliasing: attaches what is known about overlapping buffers to loads and stores.
        scalar: the emitter for what does not differ between lanes, to share it between several
            vectors.
        shifts: numbers that are to be added to the values of some variables. Of several vectors of
            a tile, all addresses are so found from the same pointers.
    """

    def __init__(
        self,
        builder: ir.IRBuilder,
        target: Target,
        *,
        width: int = 1,
        lane_var: LoopVar | None = None,
        variables: Mapping[LoopVar, ir.Value],
        refs: Mapping[str, ir.Value] | None = None,
        pointer: PointerOf,
        mask: ir.Value | None = None,
        lane_alignment: int = 1,
        aliasing: Aliasing | None = None,
        scalar: ExpressionEmitter | None = None,
        shifts: Mapping[LoopVar, int] | None = None,
    ) -> None:
        self.builder = builder
        self.target = target
        self.width = width
        self.lane_var = lane_var if width > 1 else None
        self.variables = dict(variables)
        self.refs = dict(refs or {})
        self.mask = mask if width > 1 else None
        self.pointer = pointer
        self.lane_alignment = lane_alignment
        self.aliasing = aliasing
        self.shifts = dict(shifts or {})
        self._values: dict[int, ir.Value] = {}
        self._varying: dict[int, bool] = {}
        self._words: dict[tuple[int, int], list[ir.Value]] = {}
        self.scalar = self
        if width > 1:
            self.scalar = scalar or ExpressionEmitter(
                builder,
                target,
                variables=self.variables,
                refs={n: v for n, v in self.refs.items() if _is_scalar(v)},
                pointer=pointer,
                aliasing=aliasing,
                shifts=self.shifts,
            )
        self.indices = IndexEmitter(
            builder,
            width,
            self.lane_var,
            self.variables,
            lane_alignment,
            self._index_data,
            self.varies,
            self.shifts,
        )

    def fork(
        self,
        variables: Mapping[LoopVar, ir.Value] | None = None,
        refs: Mapping[str, ir.Value] | None = None,
        scalar: ExpressionEmitter | None = None,
        shifts: Mapping[LoopVar, int] | None = None,
    ) -> ExpressionEmitter:
        """An emitter for code nested in this one's: it sees what was computed so far, not the
        reverse.

        Args:
            variables: more loop variables.
            refs: more names.
            scalar: the nested code's scalar emitter (a fork of this one's by default).
            shifts: numbers to be added to some of the variables given.
        """
        kept = {var: n for var, n in self.shifts.items() if var not in (variables or {})}
        shifts = {**kept, **(shifts or {})}
        if scalar is None and self.width > 1:
            scalars = {n: v for n, v in (refs or {}).items() if _is_scalar(v)}
            scalar = self.scalar.fork(variables, scalars, shifts=shifts)
        inner = ExpressionEmitter(
            self.builder,
            self.target,
            width=self.width,
            lane_var=self.lane_var,
            variables={**self.variables, **(variables or {})},
            refs={**self.refs, **(refs or {})},
            pointer=self.pointer,
            mask=self.mask,
            lane_alignment=self.lane_alignment,
            aliasing=self.aliasing,
            scalar=scalar,
            shifts=shifts,
        )
        inner._values.update(self._values)
        inner._varying.update(self._varying)
        inner._words.update(self._words)
        return inner

    def define(self, name: str, value: ir.Value) -> None:
        """Give a `Ref` its value from here on."""
        self.refs[name] = value
        if self.scalar is not self and _is_scalar(value):
            self.scalar.refs[name] = value

    def provide(self, expr: Expr, value: ir.Value) -> None:
        """Give an expression a value that was found elsewhere."""
        self._values[id(expr)] = value

    # Values ---------------------------------------------------------------------------------------

    def varies(self, expr: Expr) -> bool:
        """True if the value may differ between lanes."""
        if self.width == 1:
            return False
        known = self._varying.get(id(expr))
        if known is None:
            known = any(self.varies(child) for child in expr.children())
            known = known or any(self.indices.varies(index) for index in expr.indices())
            if isinstance(expr, Ref):
                known = not _is_scalar(self._ref(expr))
            self._varying[id(expr)] = known
        return known

    def value(self, expr: Expr) -> ir.Value:
        """The expression's value in its register type: <width x T>, or T for one lane."""
        found = self._values.get(id(expr))
        if found is None:
            if self.width > 1 and not self.varies(expr):
                found = splat(self.builder, self.scalar.value(expr), self.width)
            else:
                found = self._emit(expr)
            self._values[id(expr)] = found
        return found

    def _emit(self, expr: Expr) -> ir.Value:
        if isinstance(expr, Apply):
            return self._apply(expr)
        if isinstance(expr, Load):
            return self._load(expr)
        if isinstance(expr, Const):
            return constant(register_type(expr.dtype, self.width), expr.value)
        if isinstance(expr, Ref):
            return self._ref(expr)
        if isinstance(expr, IndexValue):
            return self._index_value(expr.index, I64)
        if isinstance(expr, InBounds):
            return self._in_bounds(expr.bounds)
        if isinstance(expr, Philox):
            return self._philox(expr)
        raise CodegenError(f"[codegen] there is no code for {type(expr).__name__}")

    def _ref(self, expr: Ref) -> ir.Value:
        if expr.name not in self.refs:
            raise CodegenError(f"[codegen] {expr.name} is read before it is defined")
        return self.refs[expr.name]

    def _apply(self, expr: Apply) -> ir.Value:
        if expr.op.name == "cast":
            short = self._cast_index(expr)
            if short is not None:
                return short
        operands = tuple(self.value(argument) for argument in expr.arguments)
        dtypes = tuple(argument.dtype for argument in expr.arguments)
        if expr.op.name == "cast" and _may_be_unrounded(expr.arguments[0]):
            # In a wider dtype the digits would show that a 16-bit float does not have.
            rounded = round_narrow(self.builder, operands[0], dtypes[0], self.target)
            operands = (rounded,)
        return apply_operation(self.builder, self.target, expr.op, operands, dtypes, expr.dtype)

    def _cast_index(self, expr: Apply) -> ir.Value | None:
        """An index cast to a narrower type, computed narrow from the start; None if that does not
        apply.
        """
        (source,) = expr.arguments
        if not isinstance(source, IndexValue) or id(source) in self._values:
            return None
        if expr.dtype is f64 or expr.dtype.bits == 64 or not fits_int32(source.index):
            return None
        narrow = self._index_value(source.index, I32)
        sequence = SEQUENCES["cast"]
        from braze.ir.dtypes import i32

        return sequence(Context(self.builder, self.target, i32, expr.dtype), narrow)

    def _index_value(self, index: Index, element: ir.IntType) -> ir.Value:
        if self.width > 1:
            return self.indices.vector(index, element)
        value = self.indices.scalar(index)
        return value if element is I64 else self.builder.trunc(value, element)

    def _index_data(self, expr: Expr) -> ir.Value:
        """A data index: a scalar unless it differs between lanes."""
        return self.value(expr) if self.varies(expr) else self.scalar.value(expr)

    def _in_bounds(self, bounds: tuple[Bound, ...]) -> ir.Value:
        common, by_lane = self._conditions(bounds)
        if common is not None:
            by_lane = self.indices.both(by_lane, splat(self.builder, common, self.width))
        return constant(vector(I1, self.width), 1) if by_lane is None else by_lane

    def _conditions(self, bounds: tuple[Bound, ...]) -> tuple[ir.Value | None, ir.Value | None]:
        return self.indices.conditions(bounds)

    def _philox(self, expr: Philox) -> ir.Value:
        key = (id(expr.counter), id(expr.seed))
        if key not in self._words:
            seed = self.value(expr.seed) if self.varies(expr.seed) else self.scalar.value(expr.seed)
            self._words[key] = emit_philox(self.builder, self.value(expr.counter), seed)
        return self._words[key][expr.word]

    # Memory ---------------------------------------------------------------------------------------

    def _memory(self, buffer: Buffer, index: Index, *, stores: bool) -> Memory:
        def mark(instruction: ir.Instruction) -> None:
            if self.aliasing is None:
                return
            if stores:
                self.aliasing.mark_store(instruction, buffer)
            else:
                self.aliasing.mark_load(instruction, buffer, index)

        base = self.pointer(buffer)
        return Memory(self.builder, self.target, buffer.dtype, base, self.width, mark)

    def _load(self, expr: Load) -> ir.Value:
        return self.loads(expr, 1, 0)[0]

    def loads(self, expr: Load, count: int, step: int) -> list[ir.Value]:
        """What the load gives, and what it would with its index `step` higher, and so on: `count`
        values. Its guard holds for all of them or for none."""
        buffer = expr.buffer
        if buffer.numel == 0:
            return [zero(register_type(buffer.dtype, self.width))] * count
        memory = self._memory(buffer, expr.index, stores=False)
        common, by_lane = self._conditions(expr.guard)
        first = self.indices.place(expr.index)
        values = []
        for number in range(count):
            place = replace(first, shift=first.shift + number * step)
            if self.width == 1:
                raw = memory.load_scalar(memory.address_or_zeros(place, common))
            elif place.is_uniform:
                raw = self._load_uniform(memory, place, common, by_lane)
            else:
                mask = self.indices.both(by_lane, self.mask)
                raw = memory.load(place, common, mask)
            values.append(from_memory(self.builder, raw, buffer.dtype, self.target))
        return values

    def _load_uniform(
        self, memory: Memory, place: Place, common: ir.Value | None, by_lane: ir.Value | None
    ) -> ir.Value:
        """One element for all lanes, zero where a lane's guard fails; it exists only if some lane's
        holds.
        """
        if by_lane is not None:
            every = by_lane if self.mask is None else self.builder.and_(by_lane, self.mask)
            some = intrinsic(self.builder, "vector.reduce.or", I1, [every], [every.type])
            common = self.indices.both(common, some)
        item = memory.load_scalar(memory.address_or_zeros(place, common))
        spread = splat(self.builder, item, self.width)
        if by_lane is None:
            return spread
        return self.builder.select(by_lane, spread, zero(spread.type))

    def store(self, statement: Store) -> None:
        """Emit a store, in the lanes where its guard (and the mask) holds."""
        if statement.buffer.numel == 0:
            return
        common, by_lane = self._conditions(statement.guard)
        if common is None:
            self._store(statement, self.indices.both(by_lane, self.mask))
            return
        mask = self.indices.both(by_lane, self.mask)
        with self.builder.if_then(common):
            self.fork()._store(statement, mask)

    def address(self, statement: Store) -> ir.Value:
        """Where the first lane of a store goes."""
        memory = self._memory(statement.buffer, statement.index, stores=True)
        return memory.address(self.indices.place(statement.index))

    def stream(self, statement: Store) -> None:
        """Emit a contiguous store of all lanes past the caches, to an address that is a multiple
        of their size."""
        memory = self._memory(statement.buffer, statement.index, stores=True)
        memory.stream(self.in_memory(statement), self.address(statement))

    def put(self, statement: Store, raw: ir.Value, place: Place, mask: ir.Value | None) -> None:
        """Emit a store of lanes, as they lie in memory, to another place of a store's buffer."""
        self._memory(statement.buffer, statement.index, stores=True).store(raw, place, mask)

    def in_memory(self, statement: Store) -> ir.Value:
        """What a store puts into memory, as it lies there."""
        value = self.value(statement.value)
        return to_memory(self.builder, value, statement.buffer.dtype, self.target)

    def addresses(self, statement: Store) -> list[ir.Value]:
        """Where each lane of an affine store goes."""
        place = self.indices.place(statement.index)
        assert place.offsets is None
        return self._memory(statement.buffer, statement.index, stores=True).lane_addresses(place)

    def _store(self, statement: Store, mask: ir.Value | None) -> None:
        buffer = statement.buffer
        value = self.value(statement.value)
        place = self.indices.place(statement.index)
        memory = self._memory(buffer, statement.index, stores=True)
        if statement.accumulate:
            self._accumulate(statement, value, place, memory, mask)
            return
        raw = to_memory(self.builder, value, buffer.dtype, self.target)
        if self.width == 1:
            memory.store_scalar(raw, memory.address(place))
        else:
            memory.store(raw, place, mask)

    def _accumulate(
        self,
        statement: Store,
        value: ir.Value,
        place: Place,
        memory: Memory,
        mask: ir.Value | None,
    ) -> None:
        dtype = statement.buffer.dtype
        context = Context(self.builder, self.target, dtype, dtype)

        def added(raw: ir.Value, more: ir.Value) -> ir.Value:
            old = from_memory(self.builder, raw, dtype, self.target)
            total = SEQUENCES["add"](context, old, more)
            return to_memory(self.builder, total, dtype, self.target)

        def add_item(item: ir.Value, address: ir.Value) -> None:
            memory.store_scalar(added(memory.load_scalar(address), item), address)

        if self.width == 1:
            add_item(value, memory.address(place))
        elif place.is_contiguous:
            memory.store(added(memory.load(place, None, mask), value), place, mask)
        else:
            # Lanes may meet in one element, so they go one after another.
            memory.each_lane(value, place, mask, add_item)


def _may_be_unrounded(expr: Expr) -> bool:
    """Is it a 16-bit float that was computed, in f32, since it was last rounded?"""
    if not is_narrow_float(expr.dtype) or isinstance(expr, Load):
        return False
    return not (isinstance(expr, Apply) and expr.op.name == "cast")


def _is_scalar(value: ir.Value) -> bool:
    return not isinstance(value.type, ir.VectorType)
