"""Print expressions, kernels and programs. In: an object of `braze.ir.loops`. Out: its text.

The grammar, which `braze.ir.loops_parser` reads back to an equal object:

    program     = "program" "@" name
                  "(" integer "inputs" "," integer "outputs" "," "arena" integer ")"
                  "{" {placement} {site} {"wave" "{" {kernel} "}"} "}"
    placement   = "place" buffer ("input" slot | "output" slot | "arena" offset)
    site        = "site" string integer integer ["#" location]     the meaning of codes 1, 2, ...
    kernel      = nest | contraction | sort | host | recurrence | attention
    recurrence  = "recurrence" "@" name "(" buffers ")" "{" {comment} "steps" integer
                  ["arena" buffer] {"at" buffer "from" integer "by" integer
                  ["except" integer buffer]} program "}"
    host        = "host" "@" name "(" buffers ")" "{" {comment} "call" integer array {"," array} "="
                  op "(" [array {"," array}] [";" attributes] ")" ["#" location] "}"
    attention   = "attention" "@" name "(" buffers ")" "{" {comment} "chunks" integer
                  array {"," array} "=" op "(" strided {"," strided} ";" attributes ")" "}"
    strided     = buffer ":" type "from" integer "by" "(" integer {"," integer} ")"
    array       = buffer ":" type | "(" type ")"                   the second: not needed
    nest        = "nest" "@" name "(" buffers ")" "{" {comment} {statement} "}"
    contraction = "contraction" "@" name "(" buffers ")" "{" {comment} "for" [dims] "{"
                  "acc" ":" dtype "=" "sum" [dims] "of" element "*" element {statement} "}" "}"
    sort        = "sort" "@" name "(" buffers ")" "{" {comment} "for" [dims] ["chunks" integer] "{"
                  "order" dim ["descending"] "{" {let} "by" expression "}"
                  "first" dim "{" {statement} "}" "}" "}"
    buffers     = buffer ":" dtype "[" numel "]" ("in" | "out" | "inout"), separated by commas
    statement   = let | loop | store | reduce | scan | check
    let         = "$" number "=" expression                        a name for what is used twice
    loop        = "for" dim ["vector" | "unroll"] ["chunks" integer] "{" {statement} "}"
    store       = "store" element ("=" | "+=") expression
    reduce      = "reduce" dim [kind] {"," dim [kind]} "{" {let | accumulator} "}"
    scan        = "scan" dim [kind] {"," dim [kind]} "{" {let | carried} {let | store} "}"
    carried     = name "=" running "(" expressions ")" ["at" index] ["from" "(" expressions ")"]
    accumulator = name "=" combine "(" expression ")" ["at" index]
    check       = "check" integer "<=" expression "<" integer "code" integer
    dim         = name "in" extent
    element     = buffer "[" index ["if" bounds] "]"
    bounds      = integer "<=" index "<" integer, joined by "and"
    expression  = number [":" dtype] | "true" | "false" | element | name | "$" number
                | op "(" expressions [";" dtype] ")" | "philox" "(" counter "," seed ";" word ")"
                | "index" "(" index ")" | "inside" "(" [bounds] ")"
    index       = [integer "*"] atom or integer, joined by "+" and "-"
    atom        = name | "(" index ")" ("//" | "%") integer | "[" expression "<" extent "]"

A bare number with a point is an f32, one without an i64; other dtypes follow a colon. `$` names
stand before the statement that first uses them, and are evaluated there, once.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from braze.ir.dtypes import f32, i64
from braze.ir.index import DataIndex, FloorDiv, Index, LoopVar, Mod
from braze.ir.loops import (
    Access,
    Accumulator,
    Apply,
    Bound,
    Buffer,
    Carried,
    Check,
    Const,
    Contraction,
    Expr,
    HostArray,
    HostCall,
    InBounds,
    IndexValue,
    Kernel,
    Load,
    Loop,
    LoopKind,
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
from braze.ir.loops_recurrence import Recurrence, StepArray
from braze.ir.printer import print_attribute, print_location, quote_name

_WORDS = {
    Nest: "nest",
    Contraction: "contraction",
    Sort: "sort",
    HostCall: "host",
    Recurrence: "recurrence",
    Attention: "attention",
}


def print_expr(expr: Expr) -> str:
    """One expression on one line; what it uses twice is written twice."""
    return _Printer().expr(expr)


def print_index(index: Index) -> str:
    """An index as it stands inside an element's brackets."""
    return _Printer().index(index)


def print_statement(statement: Statement) -> str:
    """A statement with what is under it."""
    return "\n".join(_Printer().block([statement], ""))


def print_kernel(kernel: Kernel) -> str:
    """A whole kernel."""
    return "\n".join(_Printer().kernel(kernel, ""))


def print_anywhere(kernel: Kernel, names: Mapping[str, str]) -> tuple[str, dict[str, int]]:
    """A kernel's text without its name, comment, and place in memory.

    Args:
        names: new names of its buffers.

    Returns:
        The text, and for each buffer, by its new name, the first element that is used, from which
        the text counts. That is 0 where guards or data decide.
    """
    first = _Printer(names)
    first.kernel(kernel, "")
    printer = _Printer(names)
    for name, indices in first.used.items():
        spans = [index.span for index in indices if index is not None]
        if len(spans) == len(indices):
            low, high = min(low for low, _ in spans), max(high for _, high in spans)
            printer.extents[name] = (low, high - low + 1)
    text = "\n".join(printer.kernel(replace(kernel, name="kernel", comment=""), ""))
    starts = {new: printer.extents.get(new, (0, 0))[0] for new in names.values()}
    return text, starts


def print_program(program: Program) -> str:
    """A whole program: placements, the meaning of its checks, and its waves of kernels."""
    head = f"{program.inputs} inputs, {program.outputs} outputs, arena {program.arena_bytes}"
    lines = [f"program @{quote_name(program.name)}({head}) {{"]
    for name, place in program.placements.items():
        where = place.offset if place.kind == "arena" else place.slot
        lines.append(f"  place {_buffer_name(name)} {place.kind} {where}")
    for site in program.checks:
        line = f"  site {json.dumps(site.message)} {site.low} {site.high}"
        location = f"  # {print_location(site.location)}" if site.location else ""
        lines.append(line + location)
    for wave in program.waves:
        lines.append("  wave {")
        for kernel in wave:
            lines += _Printer().kernel(kernel, "    ")
        lines.append("  }")
    lines.append("}")
    return "\n".join(lines)


def statement_expressions(statement: Statement) -> Iterator[Expr]:
    """The expressions that a statement itself holds, data inside its index and guard included."""
    if isinstance(statement, Store):
        yield statement.value
        for index in (statement.index, *(bound.index for bound in statement.guard)):
            yield from index_data(index)
    elif isinstance(statement, Check):
        yield statement.value
    elif isinstance(statement, Reduce):
        for accumulator in statement.accumulators:
            yield from _accumulator_expressions(accumulator)
    elif isinstance(statement, Scan):
        for carried in statement.carried:
            yield from _accumulator_expressions(carried)
            yield from carried.starts
        for store in statement.stores:
            yield from statement_expressions(store)


def _accumulator_expressions(accumulator: Accumulator | Carried) -> Iterator[Expr]:
    if isinstance(accumulator, Carried):
        yield from accumulator.values
    else:
        yield accumulator.value
    if accumulator.position is not None:
        yield from index_data(accumulator.position)


def index_data(index: Index) -> Iterator[Expr]:
    """The expressions that an index reads from memory."""
    for atom, _ in index.terms:
        if isinstance(atom, DataIndex):
            yield atom.value
        elif not isinstance(atom, LoopVar):
            yield from index_data(atom.inner)


def _buffer_name(name: str) -> str:
    plain = name.isascii() and name.isdigit()
    return f"%{name if plain else quote_name(name)}"


def _shared(groups: Sequence[Sequence[Expr]]) -> set[Expr]:
    """What deserves a name: operations used twice, and loads that several lines of the text use.

    A load repeated in one line is short enough to be repeated in the text as well.
    """
    uses = Counter(root for roots in groups for root in roots)
    found = {expr for roots in groups for root in roots for expr in root.walk()}
    for expr in found:
        uses.update(expr.parts())
    shared = {e for e, n in uses.items() if n > 1 and isinstance(e, (Apply, Philox))}
    lines: Counter[Expr] = Counter()
    for roots in (*groups, *(tuple(expr.parts()) for expr in shared)):
        line: set[Expr] = set()
        waiting = [root for root in roots if root not in shared]
        while waiting:
            expr = waiting.pop()
            if expr not in line:
                line.add(expr)
                waiting += [part for part in expr.parts() if part not in shared]
        lines.update(line)
    return shared | {e for e, n in lines.items() if n > 1 and isinstance(e, Load)}


class _Printer:
    """Prints one kernel; `names` are the `$` names of the expressions that have one here.

    Args:
        buffers: other names of buffers.

    Attributes:
        used: of each buffer the indices that were printed; None for those that a guard or data
            decide about.
        extents: of buffers whose elements are counted from another: its number, and how many there
            are from it on.
    """

    def __init__(self, buffers: Mapping[str, str] | None = None) -> None:
        self.names: dict[Expr, str] = {}
        self.count = 0
        self.buffers = buffers or {}
        self.used: dict[str, list[Index | None]] = {}
        self.extents: dict[str, tuple[int, int]] = {}

    def buffer(self, buffer: Buffer) -> str:
        return self.buffers.get(buffer.name, buffer.name)

    # Expressions ----------------------------------------------------------------------------------

    def index(self, index: Index) -> str:
        text = ""
        for atom, factor in index.terms:
            sign = ("-" if factor < 0 else "") if not text else (" - " if factor < 0 else " + ")
            times = "" if abs(factor) == 1 else f"{abs(factor)}*"
            text += f"{sign}{times}{self.atom(atom)}"
        if not text:
            return str(index.constant)
        if index.constant:
            text += f" {'-' if index.constant < 0 else '+'} {abs(index.constant)}"
        return text

    def atom(self, atom: LoopVar | FloorDiv | Mod | DataIndex) -> str:
        if isinstance(atom, LoopVar):
            return atom.name
        if isinstance(atom, DataIndex):
            return f"[{self.expr(atom.value)} < {atom.extent}]"
        sign = "//" if isinstance(atom, FloorDiv) else "%"
        return f"({self.index(atom.inner)}){sign}{atom.divisor}"

    def bounds(self, bounds: Iterable[Bound]) -> str:
        return " and ".join(f"{b.low} <= {self.index(b.index)} < {b.high}" for b in bounds)

    def element(self, buffer: Buffer, index: Index, guard: tuple[Bound, ...]) -> str:
        condition = f" if {self.bounds(guard)}" if guard else ""
        name = self.buffer(buffer)
        known = index if not guard and index.is_affine else None
        self.used.setdefault(name, []).append(known)
        start, _ = self.extents.get(name, (0, 0))
        return f"{_buffer_name(name)}[{self.index(index - start)}{condition}]"

    def expr(self, expr: Expr) -> str:
        return self.names.get(expr) or self.definition(expr)

    def definition(self, expr: Expr) -> str:
        """The expression itself, whether it has a name or not."""
        if isinstance(expr, Const):
            return self.constant(expr)
        if isinstance(expr, Load):
            return self.element(expr.buffer, expr.index, expr.guard)
        if isinstance(expr, Apply):
            arguments = ", ".join(self.expr(argument) for argument in expr.arguments)
            dtype = f"; {expr.dtype.name}" if "dtype" in expr.op.attributes else ""
            return f"{expr.op.name}({arguments}{dtype})"
        if isinstance(expr, Philox):
            return f"philox({self.expr(expr.counter)}, {self.expr(expr.seed)}; {expr.word})"
        if isinstance(expr, IndexValue):
            return f"index({self.index(expr.index)})"
        if isinstance(expr, InBounds):
            return f"inside({self.bounds(expr.bounds)})"
        if isinstance(expr, Ref):
            return expr.name
        raise TypeError(f"unknown expression {type(expr).__name__}")

    def constant(self, expr: Const) -> str:
        dtype = expr.dtype
        if dtype.kind == "bool":
            return "true" if expr.value else "false"
        value = repr(float(expr.value)) if dtype.is_floating_point else str(int(expr.value))
        return value if dtype in (f32, i64) else f"{value}:{dtype.name}"

    # Statements -----------------------------------------------------------------------------------

    def block(self, statements: Sequence[Statement], indent: str) -> list[str]:
        outer = self.names
        self.names = dict(outer)
        groups = [
            [] if isinstance(s, (Loop, Reduce, Scan)) else list(statement_expressions(s))
            for s in statements
        ]
        shared = _shared(groups)
        lines: list[str] = []
        for statement, roots in zip(statements, groups, strict=True):
            lines += self.lets(roots, shared, indent)
            lines += self.statement(statement, indent)
        self.names = outer
        return lines

    def lets(self, roots: Sequence[Expr], shared: set[Expr], indent: str) -> list[str]:
        """Name the shared expressions below `roots` that have no name yet."""
        lines = []
        for root in roots:
            for expr in root.walk():
                if expr in shared and expr not in self.names:
                    name = f"${self.count}"
                    self.count += 1
                    lines.append(f"{indent}{name} = {self.definition(expr)}")
                    self.names[expr] = name
        return lines

    def statement(self, statement: Statement, indent: str) -> list[str]:
        if isinstance(statement, Loop):
            kind = "" if statement.kind == "serial" else f" {statement.kind}"
            chunks = "" if statement.chunks == 1 else f" chunks {statement.chunks}"
            head = f"{indent}for {self.dim(statement.var)}{kind}{chunks} {{"
            return [head, *self.block(statement.body, f"{indent}  "), f"{indent}}}"]
        if isinstance(statement, Store):
            element = self.element(statement.buffer, statement.index, statement.guard)
            sign = "+=" if statement.accumulate else "="
            return [f"{indent}store {element} {sign} {self.expr(statement.value)}"]
        if isinstance(statement, Reduce):
            return self.reduce(statement, indent)
        if isinstance(statement, Scan):
            return self.scan(statement, indent)
        value = self.expr(statement.value)
        bounds = f"{statement.low} <= {value} < {statement.high}"
        return [f"{indent}check {bounds} code {statement.code}"]

    def head(self, word: str, loops: Sequence[tuple[LoopVar, LoopKind]]) -> str:
        dims = [self.dim(var) + ("" if kind == "serial" else f" {kind}") for var, kind in loops]
        return f"{word} {', '.join(dims)} {{" if dims else f"{word} {{"

    def reduce(self, statement: Reduce, indent: str) -> list[str]:
        outer = self.names
        self.names = dict(outer)
        head = indent + self.head("reduce", statement.loops)
        groups = [list(_accumulator_expressions(a)) for a in statement.accumulators]
        roots = [root for group in groups for root in group]
        lines = [head, *self.lets(roots, _shared(groups), f"{indent}  ")]
        for accumulator in statement.accumulators:
            line = f"{indent}  {accumulator.name} = {accumulator.combine}"
            line += f"({self.expr(accumulator.value)})"
            if accumulator.position is not None:
                line += f" at {self.index(accumulator.position)}"
            lines.append(line)
        self.names = outer
        return [*lines, f"{indent}}}"]

    def scan(self, statement: Scan, indent: str) -> list[str]:
        outer = self.names
        starts = [", ".join(map(self.expr, carried.starts)) for carried in statement.carried]
        self.names = dict(outer)
        groups = [list(_accumulator_expressions(c)) for c in statement.carried]
        groups += [list(statement_expressions(store)) for store in statement.stores]
        shared = _shared(groups)
        lines = [indent + self.head("scan", statement.loops)]
        indent += "  "
        for number, roots in enumerate(groups):
            lines += self.lets(roots, shared, indent)
            if number >= len(statement.carried):
                store = statement.stores[number - len(statement.carried)]
                lines += self.statement(store, indent)
                continue
            carried = statement.carried[number]
            values = ", ".join(map(self.expr, carried.values))
            line = f"{indent}{carried.name} = {carried.combine}({values})"
            if carried.position is not None:
                line += f" at {self.index(carried.position)}"
            if carried.starts:
                line += f" from ({starts[number]})"
            lines.append(line)
        self.names = outer
        return [*lines, f"{indent[:-2]}}}"]

    def dim(self, var: LoopVar) -> str:
        return f"{var.name} in {var.extent}"

    # Kernels --------------------------------------------------------------------------------------

    def kernel(self, kernel: Kernel, indent: str) -> list[str]:
        buffers = ", ".join(map(self.declaration, kernel.buffers))
        word = _WORDS[type(kernel)]
        lines = [f"{indent}{word} @{quote_name(kernel.name)}({buffers}) {{"]
        lines += [f"{indent}  # {line}".rstrip() for line in kernel.comment.splitlines()]
        if isinstance(kernel, Nest):
            lines += self.block(kernel.body, f"{indent}  ")
        elif isinstance(kernel, Sort):
            lines += self.sort(kernel, f"{indent}  ")
        elif isinstance(kernel, HostCall):
            lines.append(f"{indent}  {self.host(kernel)}")
        elif isinstance(kernel, Recurrence):
            lines += [f"{indent}  {line}" for line in self.recurrence(kernel)]
        elif isinstance(kernel, Attention):
            lines += [f"{indent}  {line}" for line in self.attention(kernel)]
        else:
            lines += self.contraction(kernel, f"{indent}  ")
        return [*lines, f"{indent}}}"]

    def declaration(self, buffer: Buffer) -> str:
        name = self.buffer(buffer)
        _, numel = self.extents.get(name, (0, buffer.numel))
        return f"{_buffer_name(name)}: {buffer.dtype.name}[{numel}] {buffer.access}"

    def host(self, kernel: HostCall) -> str:
        results = ", ".join(map(self.array, kernel.results))
        operands = ", ".join(map(self.array, kernel.operands))
        attributes = ", ".join(f"{n}={print_attribute(v)}" for n, v in kernel.attributes.items())
        separator = "; " if operands and attributes else ""
        arguments = f"{operands}{separator}{attributes}"
        line = f"call {kernel.number} {results} = {kernel.op.name}({arguments})"
        return line + (f"  # {print_location(kernel.location)}" if kernel.location else "")

    def recurrence(self, kernel: Recurrence) -> list[str]:
        arena = f" arena {_buffer_name(kernel.arena.name)}" if kernel.arena else ""
        lines = [f"steps {kernel.count}{arena}", *map(self.step_array, kernel.arrays)]
        return [*lines, *print_program(kernel.program).split("\n")]

    def step_array(self, array: StepArray) -> str:
        line = f"at {_buffer_name(array.buffer.name)} from {array.offset} by {array.stride}"
        if array.edge is None:
            return line
        return f"{line} except {array.edge[0]} {_buffer_name(array.edge[1].name)}"

    def attention(self, kernel: Attention) -> list[str]:
        results = ", ".join(map(self.array, kernel.results))
        operands = [f"  {self.strided(x)}" for x in kernel.operands]
        attributes = ", ".join(f"{n}={print_attribute(v)}" for n, v in kernel.attributes.items())
        lines = [f"chunks {kernel.chunks}", f"{results} = {kernel.op.name}("]
        return [*lines, *(f"{x}," for x in operands[:-1]), f"{operands[-1]};", f"  {attributes})"]

    def strided(self, array: StridedArray) -> str:
        name, strides = self.buffer(array.buffer), ", ".join(map(str, array.strides))
        self.used.setdefault(name, []).append(array.index if array.type.numel else None)
        start, _ = self.extents.get(name, (0, 0))
        return f"{_buffer_name(name)}: {array.type} from {array.offset - start} by ({strides})"

    def array(self, array: HostArray) -> str:
        if array.buffer is None:
            return f"({array.type})"
        name = self.buffer(array.buffer)
        self.used.setdefault(name, []).append(None)
        return f"{_buffer_name(name)}: {array.type}"

    def contraction(self, kernel: Contraction, indent: str) -> list[str]:
        outer = len(kernel.dims) - kernel.inner
        dims = ", ".join(self.dim(var) for var in kernel.dims[:outer])
        inner = ", ".join(self.dim(var) for var in kernel.dims[outer:])
        lhs, rhs = (self.access(kernel, access) for access in (kernel.lhs, kernel.rhs))
        head = f"{indent}for {dims} {{" if dims else f"{indent}for {{"
        total = f"sum {inner} of" if inner else "sum of"
        line = f"{indent}  acc: {kernel.dtype.name} = {total} {lhs} * {rhs}"
        return [head, line, *self.block(kernel.stores, f"{indent}  "), f"{indent}}}"]

    def sort(self, kernel: Sort, indent: str) -> list[str]:
        rows = "".join(f"{', ' if n else ''}{self.dim(var)}" for n, var in enumerate(kernel.rows))
        chunks = f"chunks {kernel.chunks}" if kernel.chunks > 1 else ""
        head = " ".join(word for word in ("for", rows, chunks, "{") if word)
        order = f"order {self.dim(kernel.along)}{' descending' if kernel.descending else ''} {{"
        lets = self.lets([kernel.key], _shared([[kernel.key]]), f"{indent}    ")
        by = [f"{indent}    by {self.expr(kernel.key)}", f"{indent}  }}"]
        self.names = {}
        first = [f"{indent}  first {self.dim(kernel.rank)} {{"]
        stores = self.block(kernel.stores, f"{indent}    ")
        lines = [f"{indent}{head}", f"{indent}  {order}", *lets, *by, *first, *stores]
        return [*lines, f"{indent}  }}", f"{indent}}}"]

    def access(self, kernel: Contraction, access: Access) -> str:
        """As an element; strides of 1-sized dims are kept, which an `Index` would drop."""
        terms = zip(kernel.dims, access.strides, strict=True)
        index = Index(tuple((var, stride) for var, stride in terms if stride), access.offset)
        return self.element(access.buffer, index, access.guard)
