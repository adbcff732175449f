"""Check that kernels and programs follow the rules of the loop IR. Out: nothing, or a VerifyError.

What can be known without running is checked: names, scopes, dtypes, how buffers are used, which
loops may be parallel or vectorised, affine addresses without guards, placements. The rest is
`braze.ir.loops_interpreter`'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NoReturn, get_args

from braze.ir.dtypes import DType, f32, f64, i64
from braze.ir.errors import BrazeError, VerifyError
from braze.ir.index import Index, LoopVar, separates
from braze.ir.loops import (
    Access,
    Accumulator,
    Apply,
    Bound,
    Buffer,
    Carried,
    Check,
    Contraction,
    Expr,
    HostArray,
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
    Running,
    Scan,
    Sort,
    Statement,
    Store,
)
from braze.ir.loops_attention import Attention
from braze.ir.loops_recurrence import Recurrence, StepArray
from braze.ir.loops_text import index_data, print_expr, print_statement
from braze.ir.op import op_named
from braze.ir.types import tensor_type


def verify_kernel(kernel: Kernel) -> None:
    """Check a kernel.

    Raises:
        VerifyError: a rule is broken; the message names the kernel, the rule and the statement.
    """
    _Verifier(kernel).verify()


def verify_program(program: Program) -> None:
    """Check a program's kernels, and where their buffers lie.

    Raises:
        VerifyError: a rule is broken.
    """
    calls = program.host_calls()
    if [call.number for call in calls] != list(range(len(calls))):
        numbers = ", ".join(str(call.number) for call in calls)
        raise VerifyError(f"[{program.name}] host calls are numbered {numbers}")
    for wave in program.waves:
        for kernel in wave:
            if isinstance(kernel, HostCall) and len(wave) > 1:
                raise VerifyError(f"[{program.name}] host call {kernel.name} shares a wave")
            if isinstance(kernel, Recurrence) and len(wave) > 1:
                raise VerifyError(f"[{program.name}] recurrence {kernel.name} shares a wave")
    known: dict[str, Buffer] = {}
    for kernel in program.kernels():
        verify_kernel(kernel)
        for buffer in kernel.buffers:
            other = known.setdefault(buffer.name, buffer)
            if (other.dtype, other.numel) != (buffer.dtype, buffer.numel):
                one, two = (f"{b.dtype.name}[{b.numel}]" for b in (other, buffer))
                message = f"is {one} in one kernel and {two} in {kernel.name}"
                raise VerifyError(f"[{program.name}] buffer %{buffer.name} {message}")
            _verify_placement(program, kernel, buffer)


def _verify_placement(program: Program, kernel: Kernel, buffer: Buffer) -> None:
    place = program.placements.get(buffer.name)
    message = ""
    if place is None:
        message = "has no placement"
    elif place.kind == "arena":
        end = place.offset + buffer.numel * buffer.dtype.itemsize
        if place.offset < 0 or end > program.arena_bytes:
            message = f"ends at byte {end} of an arena of {program.arena_bytes}"
        elif place.offset % buffer.dtype.itemsize:
            message = f"is not aligned: offset {place.offset}"
    else:
        slots = program.inputs if place.kind == "input" else program.outputs
        if not 0 <= place.slot < slots:
            message = f"is {place.kind} {place.slot}, but there are {slots}"
        elif place.kind == "input" and buffer.access != "in":
            message = f"is an input, but {kernel.name} writes it"
    if message:
        raise VerifyError(f"[{program.name}] buffer %{buffer.name} {message}")


class _Verifier:
    """Walks one kernel.

    Attributes:
        scope: the loop variables in scope.
        names: the dtypes of the names that reductions have defined.
        vector: inside a vector loop.
        parallel: the loop whose iterations run in parallel, if inside one.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.buffers = {buffer.name: buffer for buffer in kernel.buffers}
        self.scope: list[LoopVar] = []
        self.names: dict[str, DType] = {}
        self.vector = False
        self.parallel: Loop | None = None
        self.statement: Statement | None = None

    def verify(self) -> None:
        kernel = self.kernel
        if len(self.buffers) != len(kernel.buffers):
            self.fail("two buffers have one name")
        for buffer in kernel.buffers:
            if buffer.numel < 0 or buffer.access not in ("in", "out", "inout"):
                self.fail(f"buffer %{buffer.name} is malformed: {buffer}")
        if isinstance(kernel, Nest):
            for statement in kernel.body:
                if isinstance(statement, Loop) and statement.chunks > 1 and len(kernel.body) > 1:
                    self.statement = statement
                    self.fail("a loop in chunks must be the kernel's only statement")
            self.block(kernel.body)
        elif isinstance(kernel, Sort):
            self.sort(kernel)
        elif isinstance(kernel, HostCall):
            self.host(kernel)
        elif isinstance(kernel, Recurrence):
            self.recurrence(kernel)
        elif isinstance(kernel, Attention):
            self.attention(kernel)
        else:
            self.contraction(kernel)

    def fail(self, message: str) -> NoReturn:
        shown = ""
        if self.statement is not None:
            shown = "\n  in: " + print_statement(self.statement).split("\n")[0]
        raise VerifyError(f"[{self.kernel.name}] {message}{shown}")

    # Statements -----------------------------------------------------------------------------------

    def block(self, statements: Sequence[Statement]) -> None:
        names = dict(self.names)
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
        self.names = names

    def enter(self, var: LoopVar) -> None:
        if var.extent < 0:
            self.fail(f"loop variable {var} has extent {var.extent}")
        if var.name in [other.name for other in self.scope]:
            self.fail(f"loop variable {var} is already in use")
        self.scope.append(var)

    def loop(self, loop: Loop) -> None:
        if loop.kind not in ("serial", "vector", "unroll"):
            self.fail(f"unknown kind of loop {loop.kind!r}")
        if loop.chunks < 1 or (loop.chunks > 1 and self.scope):
            self.fail("only the outermost loop is cut into chunks, at least one")
        if loop.kind == "vector" and self.vector:
            self.fail("a vector loop stands inside a vector loop")
        outer = self.vector, self.parallel
        self.vector = self.vector or loop.kind == "vector"
        self.parallel = loop if loop.chunks > 1 else self.parallel
        self.enter(loop.var)
        self.block(loop.body)
        self.scope.pop()
        self.vector, self.parallel = outer

    def store(self, store: Store) -> None:
        wanted = ("inout",) if store.accumulate else ("out", "inout")
        self.buffer(store.buffer, wanted, "written")
        self.expression(store.value)
        if store.value.dtype is not store.buffer.dtype:
            self.fail(
                f"a value of {store.value.dtype.name} goes to a buffer of {store.buffer.dtype.name}"
            )
        self.address(store.buffer, store.index, store.guard)
        if store.is_scatter and self.parallel is not None:
            if not separates(store.index, self.parallel.var):
                self.fail("a scatter must not run in parallel over places that may meet")
        if store.accumulate and self.parallel is not None:
            if self.parallel.var not in store.index.variables():
                self.fail(f"parallel iterations over {self.parallel.var} add to one element")

    def reduce(self, reduce: Reduce) -> None:
        for number, (var, kind) in enumerate(reduce.loops):
            if kind not in ("serial", "vector", "unroll"):
                self.fail(f"unknown kind of loop {kind!r}")
            if kind == "vector" and (self.vector or number < len(reduce.loops) - 1):
                self.fail("only the innermost loop of a reduction may be a vector loop, one in all")
            self.enter(var)
        for accumulator in reduce.accumulators:
            self.accumulator(accumulator)
        if reduce.loops:
            del self.scope[-len(reduce.loops) :]
        for accumulator in reduce.accumulators:
            if accumulator.name in self.names:
                self.fail(f"the name {accumulator.name} is defined twice")
            self.names[accumulator.name] = accumulator.dtype

    def accumulator(self, accumulator: Accumulator) -> None:
        self.expression(accumulator.value)
        name, positioned = accumulator.combine, accumulator.position is not None
        if positioned != name.startswith("arg"):
            self.fail(f"{name} {'takes no' if positioned else 'needs a'} position")
        if accumulator.position is not None:
            self.index(accumulator.position)
        try:
            type = tensor_type(accumulator.value.dtype, (1,))
            op_named(name).result_types([type], {"dims": (0,), "keepdim": False})
        except (BrazeError, KeyError) as error:
            self.fail(f"{name} does not combine {accumulator.value.dtype.name}: {error}")

    def scan(self, scan: Scan) -> None:
        for carried in scan.carried:
            for start in carried.starts:
                self.expression(start)
        for number, (var, kind) in enumerate(scan.loops):
            if kind not in ("serial", "vector"):
                self.fail(f"a scan has no loops of kind {kind!r}")
            if kind == "vector" and (self.vector or number < len(scan.loops) - 1):
                self.fail("only the innermost loop of a scan may be a vector loop, one in all")
            self.enter(var)
        for carried in scan.carried:
            self.carried(carried)
        for carried in scan.carried:
            if carried.name in self.names:
                self.fail(f"the name {carried.name} is defined twice")
            self.names[carried.name] = carried.dtype
        for store in scan.stores:
            if store.accumulate:
                self.fail("a scan does not add to memory")
            self.store(store)
        if scan.loops:
            del self.scope[-len(scan.loops) :]

    def carried(self, carried: Carried) -> None:
        name = carried.combine
        if name not in get_args(Running):
            self.fail(f"a scan does not know {name!r}")
        positioned = name.startswith("last")
        if positioned != (carried.position is not None):
            self.fail(f"{name} {'needs a' if positioned else 'takes no'} position")
        if carried.position is not None:
            self.index(carried.position)
        for value in carried.values:
            self.expression(value)
        dtypes = {value.dtype for value in carried.values}
        count, starts = 1 + (name == "linear"), 1 + positioned
        fits = len(carried.values) == count and len(carried.starts) in (0, starts)
        if not fits or len(dtypes) != 1:
            self.fail(f"{name} takes {count} values of one dtype and none or {starts} starts")
        dtype = carried.values[0].dtype
        if dtype.kind == "bool" or (name == "linear" and not dtype.is_floating_point):
            self.fail(f"{name} does not combine {dtype.name}")
        wanted = [dtype, i64]
        for start, kind in zip(carried.starts, wanted, strict=False):
            if start.dtype is not kind:
                self.fail(f"{carried.name} is {kind.name} and starts from {start.dtype.name}")

    def check(self, check: Check) -> None:
        self.expression(check.value)
        if not check.value.dtype.is_integer:
            self.fail(f"a check needs an integer, given {check.value.dtype.name}")
        if check.code < 1:
            self.fail(f"check codes start at 1, given {check.code}")

    # Memory ---------------------------------------------------------------------------------------

    def buffer(self, buffer: Buffer, access: tuple[str, ...], verb: str) -> None:
        if self.buffers.get(buffer.name) != buffer:
            self.fail(f"%{buffer.name} is not a buffer of the kernel")
        if buffer.access not in access:
            self.fail(f"%{buffer.name} is {buffer.access!r} and must not be {verb}")

    def address(self, buffer: Buffer, index: Index, guard: tuple[Bound, ...]) -> None:
        self.index(index)
        for bound in guard:
            self.index(bound.index)
        # Spans of independent loop variables are exact; a guard or a division may narrow them.
        if index.is_affine and not guard and not self.never_runs():
            self.span(buffer, index.span)

    def never_runs(self) -> bool:
        return any(var.extent == 0 for var in self.scope)

    def span(self, buffer: Buffer, span: tuple[int, int]) -> None:
        low, high = span
        if low < 0 or high >= buffer.numel:
            self.fail(f"%{buffer.name}[{low} .. {high}] is outside its {buffer.numel} elements")

    def index(self, index: Index) -> None:
        for var in index.variables():
            if var not in self.scope:
                self.fail(f"loop variable {var} is not in scope")
        for data in index_data(index):
            self.expression(data)
            if not data.dtype.is_integer:
                self.fail(f"an index is read from data of {data.dtype.name}")

    # Expressions ----------------------------------------------------------------------------------

    def expression(self, root: Expr) -> None:
        for expr in root.walk():
            if isinstance(expr, Load):
                self.buffer(expr.buffer, ("in", "inout"), "read")
                self.address(expr.buffer, expr.index, expr.guard)
            elif isinstance(expr, (IndexValue, InBounds)):
                for index in expr.indices():
                    self.index(index)
            elif isinstance(expr, Ref):
                if self.names.get(expr.name) is not expr.dtype:
                    known = self.names.get(expr.name)
                    actual = "not defined here" if known is None else known.name
                    self.fail(f"{expr.name} is read as {expr.dtype.name} and is {actual}")
            elif isinstance(expr, Apply):
                self.apply(expr)
            elif isinstance(expr, Philox):
                self.philox(expr)

    def apply(self, expr: Apply) -> None:
        if not expr.op.is_pointwise:
            self.fail(f"{expr.op.name} is no primitive elementwise operation")
        types = [tensor_type(argument.dtype) for argument in expr.arguments]
        attributes = {"dtype": expr.dtype} if "dtype" in expr.op.attributes else {}
        try:
            (result,) = expr.op.result_types(types, attributes)
        except (BrazeError, TypeError, ValueError) as error:
            self.fail(f"{print_expr(expr)}: {error}")
        if result.dtype is not expr.dtype:
            self.fail(
                f"{print_expr(expr)} is {expr.dtype.name}, its rule gives {result.dtype.name}"
            )

    def philox(self, expr: Philox) -> None:
        if not 0 <= expr.word < 4:
            self.fail(f"philox has words 0 to 3, not {expr.word}")
        for part in (expr.counter, expr.seed):
            if not part.dtype.is_integer or part.dtype.bits != 64:
                self.fail(f"philox takes 64-bit integers, given {part.dtype.name}")

    # Host calls -----------------------------------------------------------------------------------

    def host(self, call: HostCall) -> None:
        if not call.op.is_host:
            self.fail(f"{call.op.name} is not an operation of the host")
        self.types(call)
        for operand in call.operands:
            if operand.buffer is None:
                self.fail("an operand has no buffer")
        self.arrays(call.operands, ("in", "inout"), "read")
        self.arrays(call.results, ("out", "inout"), "written")

    def types(self, kernel: HostCall | Attention) -> None:
        """Do the results have the types that the operation's rule gives?"""
        op = kernel.op
        try:
            types = op.result_types([a.type for a in kernel.operands], kernel.attributes)
        except (BrazeError, TypeError) as error:
            self.fail(f"{op.name} does not take these operands: {error}")
        if types != tuple(result.type for result in kernel.results):
            self.fail(f"the results of {op.name} are {', '.join(map(str, types))}")

    def arrays(self, arrays: Sequence[HostArray], access: tuple[str, ...], verb: str) -> None:
        for array in arrays:
            buffer = array.buffer
            if buffer is None:
                continue
            self.buffer(buffer, access, verb)
            if (buffer.dtype, buffer.numel) != (array.type.dtype, array.type.numel):
                self.fail(
                    f"%{buffer.name} is {buffer.dtype.name}[{buffer.numel}], used as {array.type}"
                )

    # Attention ------------------------------------------------------------------------------------

    def attention(self, kernel: Attention) -> None:
        if not kernel.op.is_attention:
            self.fail(f"{kernel.op.name} is not attention")
        self.types(kernel)
        self.arrays(kernel.results, ("out", "inout"), "written")
        if kernel.chunks < 1:
            self.fail(f"it cannot be cut into {kernel.chunks} chunks")
        for array in kernel.operands:
            self.buffer(array.buffer, ("in", "inout"), "read")
            if array.buffer.dtype is not array.type.dtype:
                given = array.buffer.dtype.name
                self.fail(f"%{array.buffer.name} is {given}, used as {array.type}")
            if len(array.strides) != array.type.rank:
                self.fail(f"{len(array.strides)} strides for {array.type}")
            if array.type.numel:
                self.span(array.buffer, array.index.span)

    # Recurrences ----------------------------------------------------------------------------------

    def recurrence(self, kernel: Recurrence) -> None:
        program = kernel.program
        verify_program(program)
        if any(isinstance(k, HostCall) for k in program.kernels()) or program.checks:
            self.fail("a step calls the host or makes a check")
        if kernel.count < 1:
            self.fail(f"it runs {kernel.count} steps")
        if len(kernel.arrays) != program.inputs + program.outputs:
            slots = f"{program.inputs} inputs and {program.outputs} outputs"
            self.fail(f"{len(kernel.arrays)} places for {slots}")
        if kernel.arena is None and program.arena_bytes:
            self.fail(f"its program needs an arena of {program.arena_bytes} bytes")
        if kernel.arena is not None and kernel.arena.numel < program.arena_bytes:
            self.fail(f"%{kernel.arena.name} is smaller than {program.arena_bytes} bytes")
        inside = {b.name: b for k in program.kernels() for b in k.buffers}
        for name, buffer in inside.items():
            place = program.placements[name]
            if place.kind != "arena":
                number = place.slot + (program.inputs if place.kind == "output" else 0)
                self.step_array(kernel, kernel.arrays[number], buffer, place.kind)

    def step_array(self, kernel: Recurrence, array: StepArray, inner: Buffer, kind: str) -> None:
        """Is the place of the program's buffer `inner` inside of its buffer at all steps?"""
        accesses = ("in", "inout") if kind == "input" else ("out", "inout")
        self.buffer(array.buffer, accesses, "read" if kind == "input" else "written")
        if array.buffer.dtype is not inner.dtype:
            self.fail(f"%{array.buffer.name} is passed for {inner.dtype.name}[{inner.numel}]")
        steps = set(range(kernel.count))
        if array.edge is not None:
            step, edge = array.edge
            steps.discard(step)
            self.buffer(edge, accesses, "used")
            if (edge.dtype, edge.numel) != (inner.dtype, inner.numel):
                self.fail(f"%{edge.name} is passed for {inner.dtype.name}[{inner.numel}]")
        for step in steps & {0, 1, kernel.count - 2, kernel.count - 1}:
            start = array.offset + step * array.stride
            if not 0 <= start <= array.buffer.numel - inner.numel:
                self.fail(f"%{array.buffer.name} is left at step {step}: element {start}")

    # Contractions ---------------------------------------------------------------------------------

    def contraction(self, kernel: Contraction) -> None:
        if not 0 <= kernel.inner <= len(kernel.dims):
            self.fail(f"{kernel.inner} of {len(kernel.dims)} dimensions are inner ones")
        for var in kernel.dims:
            self.enter(var)
        for access in (kernel.lhs, kernel.rhs):
            self.operand(kernel, access)
        dtype, other = kernel.lhs.buffer.dtype, kernel.rhs.buffer.dtype
        # Of two dtypes, the one is converted to the other as it is read.
        if "bool" in (dtype.kind, other.kind) or not (dtype.holds(other) or other.holds(dtype)):
            self.fail(f"operands are {dtype.name} and {other.name}")
        dtype = dtype if dtype.holds(other) else other
        narrow = dtype.is_floating_point and dtype.bits < 32
        if kernel.dtype is not (f32 if narrow else dtype) and kernel.dtype is not f64:
            self.fail(f"products of {dtype.name} are not summed in {kernel.dtype.name}")
        if not kernel.stores:
            self.fail("a contraction without a store does nothing")
        inner = kernel.dims[len(kernel.dims) - kernel.inner :]
        read = [a or b for a, b in zip(kernel.lhs.strides, kernel.rhs.strides, strict=True)]
        for var, stride in zip(kernel.dims, read, strict=True):
            if var in inner and not stride and var.extent > 1:
                self.fail(f"no operand depends on the inner dimension {var}")
        self.scope = [var for var in self.scope if var not in inner]
        self.names = {"acc": kernel.dtype}
        self.block(kernel.stores)

    # Sorts ----------------------------------------------------------------------------------------

    def sort(self, kernel: Sort) -> None:
        for var in (*kernel.rows, kernel.along):
            self.enter(var)
        self.expression(kernel.key)
        self.scope.pop()
        self.enter(kernel.rank)
        if kernel.rank.extent > kernel.along.extent:
            self.fail(f"{kernel.rank.extent} places are wanted of {kernel.along.extent} keys")
        if not 1 <= kernel.chunks <= max(math.prod(var.extent for var in kernel.rows), 1):
            self.fail(f"the rows cannot be cut into {kernel.chunks} chunks")
        if not kernel.stores:
            self.fail("a sort without a store does nothing")
        self.names = {"key": kernel.key.dtype, "position": i64}
        for store in kernel.stores:
            if store.accumulate:
                self.fail("a sort does not accumulate")
        self.block(kernel.stores)

    def operand(self, kernel: Contraction, access: Access) -> None:
        self.buffer(access.buffer, ("in", "inout"), "read")
        if len(access.strides) != len(kernel.dims):
            self.fail(f"{len(access.strides)} strides for {len(kernel.dims)} dimensions")
        inner = kernel.dims[len(kernel.dims) - kernel.inner :]
        for bound in access.guard:
            self.index(bound.index)
            if not bound.index.is_affine:
                self.fail(f"the bound {bound} of an operand is not affine")
            found = [v for v in bound.index.variables() if v in inner and v.extent != 1]
            if len(found) != 1:
                self.fail(f"the bound {bound} of an operand needs one inner dimension")
        # Spans of independent loop variables are exact; a guard narrows them.
        if not access.guard and not self.never_runs():
            ends = [
                stride * (var.extent - 1)
                for var, stride in zip(kernel.dims, access.strides, strict=True)
            ]
            low = access.offset + _total(end for end in ends if end < 0)
            high = access.offset + _total(end for end in ends if end > 0)
            self.span(access.buffer, (low, high))


def _total(numbers: Iterable[int]) -> int:
    return sum(numbers)
