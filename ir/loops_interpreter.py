"""Run kernels and programs on NumPy buffers, one scalar at a time. In: loop IR and arrays. Out: the
arrays that it writes.

This is the reference for lowering and for the code generators: slow, simple, and suspicious. It
refuses addresses outside a buffer, reads of memory that nothing has written, outputs left
unwritten, and iterations or kernels that are said to be independent and are not (`chunks`,
`vector`, the kernels of a wave).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from braze.ir.errors import BrazeError, failed_check
from braze.ir.host import evaluate_call
from braze.ir.index import DataIndex, FloorDiv, Index, LoopVar
from braze.ir.loops import (
    Access,
    Apply,
    Bound,
    Buffer,
    Check,
    CheckSite,
    Const,
    Contraction,
    Expr,
    HostCall,
    InBounds,
    IndexValue,
    Kernel,
    Load,
    Loop,
    Nest,
    Philox,
    Program,
    Reduce,
    Ref,
    Scan,
    Sort,
    Statement,
    Store,
)
from braze.ir.loops_attention import Attention, StridedArray
from braze.ir.loops_recurrence import Recurrence, StepArray, slot_sizes
from braze.ir.loops_text import print_statement
from braze.ir.loops_values import combine_values, first_state, step_values
from braze.ir.ops.creation import philox
from braze.ir.ops.sorting import positions_in_order

Array = np.ndarray[Any, np.dtype[Any]]
Scalar = Any  # a NumPy scalar of the expression's dtype


class MemoryFault(BrazeError, RuntimeError):
    """A kernel touches memory that it must not touch, or reads what nobody wrote."""


@dataclass(slots=True)
class Memory:
    """A flat buffer.

    Attributes:
        owners: for each element (or each of its bytes) the number of the buffer whose value it
            holds, 0 for none.
            Buffers that share arena bytes share this too. None: all elements hold values of this
            buffer.
        number: this buffer's own.
    """

    array: Array
    owners: Array | None = None
    number: int = 0

    def address(self, index: int) -> int:
        """The byte address of an element."""
        start: int = self.array.__array_interface__["data"][0]
        return start + index * self.array.itemsize


@dataclass(slots=True)
class Independence:
    """Watches that parts said to be independent do not touch what another part writes."""

    what: str
    current: int = 0
    writers: dict[int, int] = field(default_factory=dict)
    readers: dict[int, int] = field(default_factory=dict)

    def read(self, address: int) -> str | None:
        """What is wrong with a read of this address, if anything."""
        if self.writers.get(address, self.current) != self.current:
            return f"{self.what} {self.current} reads what number {self.writers[address]} writes"
        seen = self.readers.setdefault(address, self.current)
        if seen != self.current:
            self.readers[address] = -1  # several
        return None

    def write(self, address: int) -> str | None:
        """What is wrong with a write to this address, if anything."""
        for others in (self.writers, self.readers):
            if others.get(address, self.current) != self.current:
                verb = "writes" if others is self.writers else "reads"
                return f"{self.what} {self.current} writes what another one {verb}"
        self.writers[address] = self.current
        return None


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed check: its code and the value."""

    code: int
    value: int
    low: int
    high: int


def run_kernel(kernel: Kernel, buffers: Mapping[str, Array]) -> None:
    """Run one kernel.

    Args:
        buffers: name -> contiguous array of the buffer's dtype and number of elements, any shape.
            Those that the kernel writes are changed in place.

    Raises:
        MemoryFault: it touches memory that it must not touch.
        IndexError: one of its checks failed (raised at the end, as compiled code does).
    """
    memories = {b.name: Memory(_flat(b, buffers[b.name])) for b in kernel.buffers}
    failure = _Runner(kernel, memories, []).run()
    if failure is not None:
        raise IndexError(
            f"[check {failure.code}] index {failure.value} is out of range "
            f"[{failure.low}, {failure.high})"
        )


def run_program(
    program: Program, inputs: Sequence[Array | int | float], outputs: Sequence[Array]
) -> None:
    """Run a program.

    Args:
        inputs: contiguous arrays; Python numbers do where one element is wanted.
        outputs: contiguous arrays, written in place. One may be the same array as an input.

    Raises:
        MemoryFault: a kernel touches memory that it must not touch, reads arena bytes or outputs
            that
            nothing has written, or kernels of one wave depend on each other; or an output is left
            incomplete.
        IndexError: a check failed; the message names the operation and the user's line.
    """
    memories = _place(program, inputs, outputs)
    failure: Failure | None = None
    for number, wave in enumerate(program.waves):
        watch = Independence(f"wave {number}: kernel")
        for watch.current, kernel in enumerate(wave):
            own = {buffer.name: memories[buffer.name] for buffer in kernel.buffers}
            _hand_over(kernel, own)
            found = _Runner(kernel, own, [watch]).run()
            failure = failure or found
        if failure is not None:
            raise _explained(program.checks[failure.code - 1], failure.value)
    for name, memory in memories.items():
        place = program.placements[name]
        if place.kind == "output" and memory.owners is not None and not memory.owners.all():
            missing = int(np.argmin(memory.owners))
            raise MemoryFault(f"element {missing} of output {place.slot} was never written")


def _explained(site: CheckSite, value: int) -> Exception:
    place = ""
    if site.location is not None:
        place = f"\n  at {site.location.file}:{site.location.line}"
        if site.location.scope:
            place += f"\n  in {site.location.scope}"
    error = failed_check(site.message, value, site.low, site.high)
    return type(error)(f"{error}{place}")


def _flat(buffer: Buffer, array: Array) -> Array:
    """The array as a flat view; its dtype and size must be the buffer's."""
    if not isinstance(array, np.ndarray) or not array.flags.c_contiguous:
        raise TypeError(f"buffer %{buffer.name} needs a contiguous array")
    if array.dtype != buffer.dtype.numpy or array.size != buffer.numel:
        raise TypeError(
            f"buffer %{buffer.name} is {buffer.dtype.name}[{buffer.numel}], "
            f"given {array.dtype}{list(array.shape)}"
        )
    return array.reshape(-1)


def _place(
    program: Program, inputs: Sequence[Array | int | float], outputs: Sequence[Array]
) -> dict[str, Memory]:
    """The memory of every buffer that the kernels mention."""
    arena = np.full(program.arena_bytes, 0xA5, dtype=np.uint8)
    owners = np.zeros(program.arena_bytes, dtype=np.int32)
    buffers = {b.name: b for kernel in program.kernels() for b in kernel.buffers}
    memories: dict[str, Memory] = {}
    for number, (name, buffer) in enumerate(buffers.items(), start=1):
        place = program.placements[name]
        if place.kind == "input":
            given = inputs[place.slot]
            if isinstance(given, (int, float)):
                given = np.asarray(given).astype(buffer.dtype.numpy)
            memories[name] = Memory(_flat(buffer, given))
        elif place.kind == "output":
            array = _flat(buffer, outputs[place.slot])
            overwrites = any(
                isinstance(x, np.ndarray) and np.may_share_memory(x, array) for x in inputs
            )
            marks: Array = np.full(array.shape, number if overwrites else 0, dtype=np.int32)
            memories[name] = Memory(array, marks, number)
        else:
            end = place.offset + buffer.numel * buffer.dtype.itemsize
            if place.offset < 0 or end > program.arena_bytes:
                raise MemoryFault(f"%{name} ends at byte {end} of {program.arena_bytes}")
            if place.offset % buffer.dtype.itemsize:
                raise MemoryFault(f"%{name} is not aligned: offset {place.offset}")
            array = arena[place.offset : end].view(buffer.dtype.numpy)
            marks = owners[place.offset : end].reshape(buffer.numel, buffer.dtype.itemsize)
            memories[name] = Memory(array, marks, number)
    return memories


def _hand_over(kernel: Kernel, memories: Mapping[str, Memory]) -> None:
    """What a kernel adds to may lie where one of its operands does: then it holds its elements."""
    for buffer in kernel.buffers:
        mine = memories[buffer.name]
        if buffer.access != "inout" or mine.owners is None:
            continue
        for other in kernel.buffers:
            theirs = memories[other.name]
            if other.access == "in" and theirs.owners is not None and other.numel == buffer.numel:
                if other.numel and theirs.address(0) == mine.address(0):
                    mine.owners[mine.owners == theirs.number] = mine.number


class _Runner:
    """Runs one kernel once.

    Attributes:
        variables: the loop variables' values at this point.
        values: what the expressions evaluated at this point, and those around it, gave.
        refs: names that reductions defined.
    """

    def __init__(
        self, kernel: Kernel, memories: dict[str, Memory], watches: list[Independence]
    ) -> None:
        self.kernel = kernel
        self.memories = memories
        self.watches = list(watches)
        self.variables: dict[LoopVar, int] = {}
        self.values: dict[Expr, Scalar] = {}
        self.refs: dict[str, Scalar] = {}
        self.orders: dict[Expr, list[Expr]] = {}
        self.failure: Failure | None = None
        self.statement: Statement | None = None

    def run(self) -> Failure | None:
        """Run it; the first check that failed, if one did."""
        with np.errstate(all="ignore"):
            if isinstance(self.kernel, Nest):
                self.block(self.kernel.body)
            elif isinstance(self.kernel, Sort):
                self.sort(self.kernel)
            elif isinstance(self.kernel, HostCall):
                self.host(self.kernel)
            elif isinstance(self.kernel, Recurrence):
                self.recurrence(self.kernel)
            elif isinstance(self.kernel, Attention):
                self.attention(self.kernel)
            else:
                self.contraction(self.kernel)
        return self.failure

    def fault(self, message: str) -> MemoryFault:
        place = ", ".join(f"{var} = {value}" for var, value in self.variables.items())
        where = f"\n  where {place}" if place else ""
        shown = "" if self.statement is None else f"\n  in: {print_statement(self.statement)}"
        return MemoryFault(f"[{self.kernel.name}] {message}{where}{shown}")

    # Statements -----------------------------------------------------------------------------------

    def block(self, statements: Sequence[Statement]) -> None:
        for statement in statements:
            self.statement = statement
            if isinstance(statement, Loop):
                self.loop(statement)
            elif isinstance(statement, Store):
                self.store(statement)
            elif isinstance(statement, Reduce):
                self.reduce(statement)
            elif isinstance(statement, Scan):
                self.scan(statement)
            else:
                self.check(statement)

    def loop(self, loop: Loop) -> None:
        watch = Independence(f"iteration {loop.var} =")
        watched = loop.chunks > 1 or loop.kind == "vector"
        outer, refs = self.values, self.refs
        if watched:
            self.watches.append(watch)
        for watch.current in range(loop.var.extent):
            self.variables[loop.var] = watch.current
            self.values, self.refs = dict(outer), dict(refs)
            self.block(loop.body)
        if watched:
            self.watches.pop()
        self.variables.pop(loop.var, None)
        self.values, self.refs = outer, refs

    def store(self, store: Store) -> None:
        value = self.evaluate(store.value)
        if not self.inside(store.guard):
            return
        index = self.index(store.index)
        memory = self.memory(store.buffer, index, "store to")
        if store.accumulate:
            self.note(store.buffer, memory, index, written=False)
            value = memory.array[index] + value
        self.note(store.buffer, memory, index, written=True)
        memory.array[index] = value

    def reduce(self, reduce: Reduce) -> None:
        outer = self.values
        values: list[list[Scalar]] = [[] for _ in reduce.accumulators]
        positions: list[list[int]] = [[] for _ in reduce.accumulators]
        for point in itertools.product(*(range(var.extent) for var, _ in reduce.loops)):
            for (var, _), value in zip(reduce.loops, point, strict=True):
                self.variables[var] = value
            self.values = dict(outer)
            for number, accumulator in enumerate(reduce.accumulators):
                values[number].append(self.evaluate(accumulator.value))
                if accumulator.position is not None:
                    positions[number].append(self.index(accumulator.position))
        for var, _ in reduce.loops:
            self.variables.pop(var, None)
        self.values = outer
        for number, accumulator in enumerate(reduce.accumulators):
            found = np.array(values[number], dtype=accumulator.value.dtype.numpy)
            combined = combine_values(accumulator.combine, found)
            if accumulator.position is not None:
                combined = np.int64(positions[number][int(combined)])
            self.refs[accumulator.name] = combined

    def scan(self, scan: Scan) -> None:
        outer = self.values
        starts = [[self.evaluate(start) for start in c.starts] for c in scan.carried]
        states = [first_state(c, s) for c, s in zip(scan.carried, starts, strict=True)]
        for point in itertools.product(*(range(var.extent) for var, _ in scan.loops)):
            for (var, _), value in zip(scan.loops, point, strict=True):
                self.variables[var] = value
            self.values = dict(outer)
            for number, carried in enumerate(scan.carried):
                values = [self.evaluate(value) for value in carried.values]
                place = 0 if carried.position is None else self.index(carried.position)
                states[number] = step_values(carried.combine, states[number], values, place)
            self._name_carried(scan, states)
            for store in scan.stores:
                self.store(store)
        for var, _ in scan.loops:
            self.variables.pop(var, None)
        self.values = outer
        self._name_carried(scan, states)

    def _name_carried(self, scan: Scan, states: list[tuple[Scalar, int]]) -> None:
        for carried, (best, place) in zip(scan.carried, states, strict=True):
            held = best if carried.position is None else place
            self.refs[carried.name] = np.asarray(held).astype(carried.dtype.numpy)[()]

    def check(self, check: Check) -> None:
        value = int(self.evaluate(check.value))
        if not check.low <= value < check.high and self.failure is None:
            self.failure = Failure(check.code, value, check.low, check.high)

    # Memory ---------------------------------------------------------------------------------------

    def memory(self, buffer: Buffer, index: int, what: str) -> Memory:
        if not 0 <= index < buffer.numel:
            raise self.fault(f"{what} %{buffer.name}[{index}], which has {buffer.numel} elements")
        return self.memories[buffer.name]

    def note(self, buffer: Buffer, memory: Memory, index: int, written: bool) -> None:
        """Mark a written element; check a read one; tell the watches."""
        if written and memory.owners is not None:
            memory.owners[index] = memory.number
        elif memory.owners is not None and np.any(memory.owners[index] != memory.number):
            holds = "another buffer's value" if np.any(memory.owners[index]) else "nothing yet"
            raise self.fault(f"%{buffer.name}[{index}] is read and holds {holds}")
        address = memory.address(index)
        for watch in self.watches:
            fault = watch.write(address) if written else watch.read(address)
            if fault is not None:
                raise self.fault(f"{fault}: %{buffer.name}[{index}]")

    def load(self, load: Load) -> Scalar:
        if not self.inside(load.guard):
            return load.dtype.numpy.type(0)
        index = self.index(load.index)
        memory = self.memory(load.buffer, index, "load of")
        self.note(load.buffer, memory, index, written=False)
        return memory.array[index]

    # Expressions ----------------------------------------------------------------------------------

    def index(self, index: Index) -> int:
        """The value of an index; data that it reads has been evaluated."""
        total = index.constant
        for atom, factor in index.terms:
            if isinstance(atom, LoopVar):
                value = self.variables[atom]
            elif isinstance(atom, DataIndex):
                value = min(max(int(self.evaluate(atom.value)), 0), max(atom.extent - 1, 0))
            elif isinstance(atom, FloorDiv):
                value = self.index(atom.inner) // atom.divisor
            else:
                value = self.index(atom.inner) % atom.divisor
            total += factor * value
        return total

    def inside(self, bounds: tuple[Bound, ...]) -> bool:
        return all(bound.low <= self.index(bound.index) < bound.high for bound in bounds)

    def evaluate(self, root: Expr) -> Scalar:
        if root in self.values:
            return self.values[root]
        order = self.orders.get(root)
        if order is None:
            order = self.orders[root] = list(root.walk())
        for expr in order:
            if expr not in self.values:
                self.values[expr] = self.compute(expr)
        return self.values[root]

    def compute(self, expr: Expr) -> Scalar:
        if isinstance(expr, Const):
            return np.asarray(expr.value).astype(expr.dtype.numpy)[()]
        if isinstance(expr, Load):
            return self.load(expr)
        if isinstance(expr, Apply):
            if expr.op.evaluate is None:
                raise TypeError(f"op {expr.op.name} is not a primitive")
            arguments = [self.values[argument] for argument in expr.arguments]
            attributes = {"dtype": expr.dtype} if "dtype" in expr.op.attributes else {}
            return np.asarray(expr.op.evaluate(*arguments, **attributes))[()]
        if isinstance(expr, IndexValue):
            return np.int64(self.index(expr.index))
        if isinstance(expr, InBounds):
            return np.bool_(self.inside(expr.bounds))
        if isinstance(expr, Ref):
            return self.refs[expr.name]
        if isinstance(expr, Philox):
            counter = np.asarray(self.values[expr.counter]).astype(np.uint64)
            seed = int(self.values[expr.seed]) & 0xFFFFFFFFFFFFFFFF
            return philox(counter, seed)[expr.word][()]
        raise TypeError(f"unknown expression {type(expr).__name__}")

    # Sorts ----------------------------------------------------------------------------------------

    def sort(self, kernel: Sort) -> None:
        watch = Independence("row")
        if kernel.chunks > 1:
            self.watches.append(watch)
        for watch.current, row in enumerate(np.ndindex(*(var.extent for var in kernel.rows))):
            keys = []
            for place in range(kernel.along.extent):
                self.variables = dict(zip(kernel.rows, row, strict=True)) | {kernel.along: place}
                self.values = {}
                keys.append(self.evaluate(kernel.key))
            array = np.array(keys, dtype=kernel.key.dtype.numpy)
            order = positions_in_order(array, 0, kernel.descending)
            del self.variables[kernel.along]
            for rank in range(kernel.rank.extent):
                self.variables[kernel.rank] = rank
                self.values = {}
                position = order[rank]
                self.refs = {"key": array[position], "position": position}
                self.block(kernel.stores)
    # Host calls -----------------------------------------------------------------------------------

    def host(self, call: HostCall) -> None:
        operands = []
        for operand in call.operands:
            assert operand.buffer is not None
            memory = self.memories[operand.buffer.name]
            for index in range(operand.buffer.numel):
                self.note(operand.buffer, memory, index, written=False)
            operands.append(memory.array.copy())
        for array, result in zip(evaluate_call(call, operands), call.results, strict=True):
            if array is None or result.buffer is None:
                continue
            memory = self.memories[result.buffer.name]
            for index in range(result.buffer.numel):
                self.note(result.buffer, memory, index, written=True)
            memory.array[:] = array.reshape(-1)

    # Attention ------------------------------------------------------------------------------------

    def attention(self, kernel: Attention) -> None:
        assert kernel.op.evaluate is not None
        found = kernel.op.evaluate(*map(self.strided, kernel.operands), **kernel.attributes)
        for array, result in zip(found, kernel.results, strict=True):
            if result.buffer is not None:
                memory = self.memories[result.buffer.name]
                for index in range(result.buffer.numel):
                    self.note(result.buffer, memory, index, written=True)
                memory.array[:] = array.reshape(-1)

    def strided(self, array: StridedArray) -> Array:
        """A copy of an operand's elements."""
        places = array.places()
        for index in np.unique(places).tolist():
            memory = self.memory(array.buffer, index, "load of")
            self.note(array.buffer, memory, index, written=False)
        found: Array = self.memories[array.buffer.name].array[places]
        return found

    # Recurrences ----------------------------------------------------------------------------------

    def recurrence(self, kernel: Recurrence) -> None:
        sizes, inputs = slot_sizes(kernel.program), kernel.program.inputs
        for step in range(kernel.count):
            places = [
                self.atstep_values(array, step, sizes.get(slot, 0), written=slot >= inputs)
                for slot, array in enumerate(kernel.arrays)
            ]
            run_program(kernel.program, [x.copy() for x in places[:inputs]], places[inputs:])

    def atstep_values(self, array: StepArray, step: int, size: int, *, written: bool) -> Array:
        """What the program of a recurrence gets at a step, for an input or an output."""
        buffer, start = array.buffer, array.offset + step * array.stride
        if array.edge is not None and array.edge[0] == step:
            buffer, start = array.edge[1], 0
        for index in range(start, start + size):
            self.note(buffer, self.memory(buffer, index, "step at"), index, written=written)
        return self.memories[buffer.name].array[start : start + size]

    # Contractions ---------------------------------------------------------------------------------

    def contraction(self, kernel: Contraction) -> None:
        outer = kernel.dims[: len(kernel.dims) - kernel.inner]
        inner = kernel.dims[len(outer) :]
        for point in itertools.product(*(range(var.extent) for var in outer)):
            self.variables = dict(zip(outer, point, strict=True))
            self.values, self.statement = {}, None
            left = list(self.operand(kernel, kernel.lhs, point, inner))
            right = list(self.operand(kernel, kernel.rhs, point, inner))
            exact = kernel.dtype.numpy if kernel.dtype.is_integer else np.dtype(np.float64)
            total = np.dot(np.array(left, dtype=exact), np.array(right, dtype=exact))
            self.refs = {"acc": np.asarray(total).astype(kernel.dtype.numpy)[()]}
            self.block(kernel.stores)

    def operand(
        self,
        kernel: Contraction,
        access: Access,
        point: tuple[int, ...],
        inner: tuple[LoopVar, ...],
    ) -> Iterator[Scalar]:
        """An operand's elements over the inner dimensions."""
        for rest in itertools.product(*(range(var.extent) for var in inner)):
            if access.guard:
                self.variables.update(zip(inner, rest, strict=True))
                if not self.inside(access.guard):
                    yield np.asarray(0, access.buffer.dtype.numpy)[()]
                    continue
            place = zip(access.strides, (*point, *rest), strict=True)
            index = access.offset + sum(stride * value for stride, value in place)
            memory = self.memory(access.buffer, index, "load of")
            self.note(access.buffer, memory, index, written=False)
            yield memory.array[index]
