"""Read the text of kernels and programs. In: text by the grammar in `braze.ir.loops_text`. Out: the
loop IR.

Reading back gives an object that prints as the same text and computes the same values. Sharing
survives for what has a `$` name; a load that one statement repeats becomes one object.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import get_args

from braze.ir.dtypes import i64
from braze.ir.graph import Location
from braze.ir.index import LoopVar
from braze.ir.loops import (
    Access,
    Accumulator,
    Buffer,
    Carried,
    Check,
    CheckSite,
    Combine,
    Contraction,
    Expr,
    HostArray,
    HostCall,
    Kernel,
    Loop,
    LoopKind,
    Nest,
    Placement,
    Program,
    Reduce,
    Running,
    Scan,
    Sort,
    Statement,
    Store,
)
from braze.ir.loops_attention import Attention, StridedArray
from braze.ir.loops_expressions_parser import LET, ExpressionParser, buffer_name
from braze.ir.loops_recurrence import Recurrence, StepArray
from braze.ir.op import Op, op_named
from braze.ir.parser import (
    VALUE,
    Scanner,
    parse_attributes,
    parse_dtype,
    parse_location,
    parse_name,
    parse_type,
)
from braze.ir.printer import NAME
from braze.ir.symint import SymInt

COMMENT = re.compile(r"[ \t\r\n]*#[ ]?([^\n]*)")
KINDS: tuple[LoopKind, ...] = get_args(LoopKind)
COMBINES: tuple[Combine, ...] = get_args(Combine)
RUNNING: tuple[Running, ...] = get_args(Running)


def parse_kernel(text: str) -> Kernel:
    """The kernel that a text describes.

    Raises:
        ParseError: the text does not follow the grammar; the message gives line, column and a
            caret.
    """
    parser = _Parser(Scanner(text))
    kernel = parser.kernel()
    parser.scanner.finish()
    return kernel


def parse_program(text: str, symbols: Mapping[int, SymInt] | None = None) -> Program:
    """The program that a text describes.

    Args:
        symbols: what to read for the integers at some positions of the text.

    Raises:
        ParseError: as for `parse_kernel`, and where there is no integer for a symbol.
    """
    scanner = Scanner(text, symbols=symbols or {})
    program = _program(scanner)
    scanner.finish()
    unread = scanner.symbols.keys() - scanner.used
    if unread:
        scanner.fail("there is no integer for a symbol", min(unread))
    return program


def _program(scanner: Scanner) -> Program:
    scanner.expect("program")
    name = parse_name(scanner, "@")
    scanner.expect("(")
    inputs = scanner.integer()
    scanner.expect("inputs")
    scanner.expect(",")
    outputs = scanner.integer()
    scanner.expect("outputs")
    scanner.expect(",")
    scanner.expect("arena")
    program = Program(name, inputs, outputs, [], {}, scanner.integer())
    scanner.expect(")")
    scanner.expect("{")
    while scanner.accept("place"):
        buffer = buffer_name(scanner)
        if scanner.accept("arena"):
            program.placements[buffer] = Placement("arena", offset=scanner.integer())
        elif scanner.accept("input"):
            program.placements[buffer] = Placement("input", slot=scanner.integer())
        else:
            scanner.expect("output")
            program.placements[buffer] = Placement("output", slot=scanner.integer())
    while scanner.accept("site"):
        message, low, high = scanner.string(), scanner.integer(), scanner.integer()
        location: Location | None = parse_location(scanner)
        program.checks.append(CheckSite(message, low, high, location))
    while scanner.accept("wave"):
        scanner.expect("{")
        wave: list[Kernel] = []
        while not scanner.accept("}"):
            wave.append(_Parser(scanner).kernel())
        program.waves.append(wave)
    scanner.expect("}")
    return program


class _Parser(ExpressionParser):
    """Reads one kernel."""

    # Kernels --------------------------------------------------------------------------------------

    def kernel(self) -> Kernel:
        scanner = self.scanner
        words = ("nest", "sort", "host", "recurrence", "attention")
        word = next((w for w in words if scanner.accept(w)), "contraction")
        if word == "contraction":
            scanner.expect(word)
        name = parse_name(scanner, "@")
        scanner.expect("(")
        while not scanner.accept(")"):
            if self.buffers:
                scanner.expect(",")
            self.buffer()
        scanner.expect("{")
        comment = []
        while found := COMMENT.match(scanner.text, scanner.position):
            comment.append(found[1].rstrip())
            scanner.position = found.end()
        buffers = tuple(self.buffers.values())
        if word == "nest":
            return Nest(name, buffers, self.block(), "\n".join(comment))
        if word == "sort":
            return self.sort(name, buffers, "\n".join(comment))
        if word == "host":
            return self.host(name, buffers, "\n".join(comment))
        if word == "recurrence":
            return self.recurrence(name, buffers, "\n".join(comment))
        if word == "attention":
            return self.attention(name, buffers, "\n".join(comment))
        return self.contraction(name, buffers, "\n".join(comment))

    def buffer(self) -> None:
        scanner = self.scanner
        scanner.skip()
        start = scanner.position
        name = buffer_name(scanner)
        if name in self.buffers:
            scanner.fail(f"buffer {name} is declared twice", start)
        scanner.expect(":")
        dtype = parse_dtype(scanner)
        scanner.expect("[")
        numel = scanner.integer()
        scanner.expect("]")
        if scanner.accept("in"):
            self.buffers[name] = Buffer(name, dtype, numel, "in")
        elif scanner.accept("out"):
            self.buffers[name] = Buffer(name, dtype, numel, "out")
        else:
            scanner.expect("inout")
            self.buffers[name] = Buffer(name, dtype, numel, "inout")

    def contraction(self, name: str, buffers: tuple[Buffer, ...], comment: str) -> Contraction:
        scanner = self.scanner
        scanner.expect("for")
        outer = self.dims("{")
        scanner.expect("acc")
        scanner.expect(":")
        dtype = parse_dtype(scanner)
        scanner.expect("=")
        scanner.expect("sum")
        inner = self.dims("of")
        dims = (*outer, *inner)
        lhs = self.access(dims)
        scanner.expect("*")
        rhs = self.access(dims)
        self.names["acc"] = dtype
        for var in inner:
            del self.variables[var.name]
        stores = self.stores("contraction")
        scanner.expect("}")
        return Contraction(name, buffers, dims, len(inner), lhs, rhs, stores, dtype, comment)

    def stores(self, holder: str) -> list[Store]:
        """Stores, and nothing else, up to and with the closing brace."""
        found: list[Store] = []
        for statement in self.block():
            if not isinstance(statement, Store):
                self.scanner.fail(f"a {holder} holds stores only")
            found.append(statement)
        return found

    def sort(self, name: str, buffers: tuple[Buffer, ...], comment: str) -> Sort:
        scanner = self.scanner
        scanner.expect("for")
        rows: list[LoopVar] = []
        chunks = 1
        while not scanner.accept("{"):
            if scanner.accept("chunks"):
                chunks = scanner.integer()
                scanner.expect("{")
                break
            if rows:
                scanner.expect(",")
            rows.append(self.dim())
        scanner.expect("order")
        along = self.dim()
        descending = scanner.accept("descending")
        scanner.expect("{")
        self.loads = {}
        while scanner.looking_at(LET):
            self.let()
        scanner.expect("by")
        key = self.expr()
        scanner.expect("}")
        del self.variables[along.name]
        self.lets = {}
        self.names |= {"key": key.dtype, "position": i64}
        scanner.expect("first")
        rank = self.dim()
        scanner.expect("{")
        stores = self.stores("sort")
        scanner.expect("}")
        scanner.expect("}")
        return Sort(
            name, buffers, tuple(rows), along, key, descending, rank, stores, chunks, comment
        )

    def host(self, name: str, buffers: tuple[Buffer, ...], comment: str) -> HostCall:
        scanner = self.scanner
        scanner.expect("call")
        number = scanner.integer()
        results = self.arrays("=")
        op = self.op()
        scanner.expect("(")
        operands = []
        while scanner.looking_at(VALUE):
            operands.append(self.array())
            if not scanner.accept(","):
                break
        scanner.accept(";")
        attributes = parse_attributes(scanner, op)
        location = parse_location(scanner)
        scanner.expect("}")
        return HostCall(
            name, buffers, number, op, attributes, tuple(operands), results, location, comment
        )

    def recurrence(self, name: str, buffers: tuple[Buffer, ...], comment: str) -> Recurrence:
        scanner = self.scanner
        scanner.expect("steps")
        count = scanner.integer()
        arena = self.buffer_used() if scanner.accept("arena") else None
        arrays: list[StepArray] = []
        while scanner.accept("at"):
            buffer = self.buffer_used()
            scanner.expect("from")
            offset = scanner.integer()
            scanner.expect("by")
            stride = scanner.integer()
            edge = None
            if scanner.accept("except"):
                edge = scanner.integer(), self.buffer_used()
            arrays.append(StepArray(buffer, offset, stride, edge))
        program = _program(scanner)
        scanner.expect("}")
        return Recurrence(name, buffers, count, tuple(arrays), program, arena, comment)

    def attention(self, name: str, buffers: tuple[Buffer, ...], comment: str) -> Attention:
        scanner = self.scanner
        scanner.expect("chunks")
        chunks = scanner.integer()
        results = self.arrays("=")
        op = self.op()
        scanner.expect("(")
        operands: list[StridedArray] = []
        while not scanner.accept(";"):
            if operands:
                scanner.expect(",")
            operands.append(self.strided())
        attributes = parse_attributes(scanner, op)
        scanner.expect("}")
        return Attention(name, buffers, op, attributes, tuple(operands), results, chunks, comment)

    def strided(self) -> StridedArray:
        scanner = self.scanner
        buffer = self.buffer_used()
        scanner.expect(":")
        type = parse_type(scanner)
        scanner.expect("from")
        offset = scanner.integer()
        scanner.expect("by")
        scanner.expect("(")
        strides: list[int] = []
        while not scanner.accept(")"):
            if strides:
                scanner.expect(",")
            strides.append(scanner.integer())
        return StridedArray(buffer, type, tuple(strides), offset)

    def op(self) -> Op:
        """The operation of that name."""
        start = self.scanner.position
        word = self.scanner.take(NAME, "an operation")
        try:
            return op_named(word)
        except KeyError:
            self.scanner.fail(f"no op is called {word!r}", start)

    def arrays(self, end: str) -> tuple[HostArray, ...]:
        found: list[HostArray] = []
        while not self.scanner.accept(end):
            if found:
                self.scanner.expect(",")
            found.append(self.array())
        return tuple(found)

    def array(self) -> HostArray:
        scanner = self.scanner
        if scanner.accept("("):
            unneeded = HostArray(None, parse_type(scanner))
            scanner.expect(")")
            return unneeded
        buffer = self.buffer_used()
        scanner.expect(":")
        return HostArray(buffer, parse_type(scanner))

    def dims(self, end: str) -> tuple[LoopVar, ...]:
        """Dimensions up to and with the token that ends them; they come into scope."""
        found: list[LoopVar] = []
        while not self.scanner.accept(end):
            if found:
                self.scanner.expect(",")
            found.append(self.dim())
        return tuple(found)

    def dim(self) -> LoopVar:
        scanner = self.scanner
        scanner.skip()
        start = scanner.position
        name = scanner.take(NAME, "a loop variable")
        if name in self.variables:
            scanner.fail(f"loop variable {name} is already in use", start)
        scanner.expect("in")
        var = self.variables[name] = LoopVar(name, scanner.integer())
        return var

    def access(self, dims: tuple[LoopVar, ...]) -> Access:
        """An element as strides; those of 1-sized dimensions are kept."""
        scanner = self.scanner
        buffer = self.buffer_used()
        scanner.expect("[")
        start = scanner.position
        terms, offset = self.terms()
        guard = self.bounds() if scanner.accept("if") else ()
        scanner.expect("]")
        strides = dict.fromkeys(dims, 0)
        for atom, factor in terms:
            if not isinstance(atom, LoopVar):
                scanner.fail("a contraction's operand is addressed by strides only", start)
            strides[atom] += factor
        return Access(buffer, tuple(strides.values()), offset, guard)

    # Statements -----------------------------------------------------------------------------------

    def block(self) -> list[Statement]:
        """Statements up to and with the closing brace."""
        scanner = self.scanner
        lets, names = dict(self.lets), dict(self.names)
        statements: list[Statement] = []
        while not scanner.accept("}"):
            self.loads = {}
            if scanner.looking_at(LET):
                self.let()
            elif scanner.accept("for"):
                statements.append(self.loop())
            elif scanner.accept("store"):
                statements.append(self.store())
            elif scanner.accept("reduce"):
                statements.append(self.reduce())
            elif scanner.accept("scan"):
                statements.append(self.scan())
            elif scanner.accept("check"):
                statements.append(self.check())
            else:
                scanner.fail("expected a statement or '}'")
        self.lets, self.names = lets, names
        return statements

    def let(self) -> None:
        scanner = self.scanner
        start = scanner.position
        name = scanner.take(LET, "a name")
        if name in self.lets:
            scanner.fail(f"{name} is defined twice", start)
        scanner.expect("=")
        self.lets[name] = self.expr()

    def loop(self) -> Loop:
        scanner = self.scanner
        var = self.dim()
        kind = self.kind()
        chunks = scanner.integer() if scanner.accept("chunks") else 1
        scanner.expect("{")
        body = self.block()
        del self.variables[var.name]
        return Loop(var, body, kind, chunks)

    def kind(self) -> LoopKind:
        for kind in KINDS:
            if self.scanner.accept(kind):
                return kind
        return "serial"

    def store(self) -> Store:
        buffer = self.buffer_used()
        index, guard = self.element()
        accumulate = self.scanner.accept("+=")
        if not accumulate:
            self.scanner.expect("=")
        return Store(buffer, index, self.expr(), guard, accumulate)

    def check(self) -> Check:
        scanner = self.scanner
        low = scanner.integer()
        scanner.expect("<=")
        value = self.expr()
        scanner.expect("<")
        high = scanner.integer()
        scanner.expect("code")
        return Check(value, low, high, scanner.integer())

    def loops(self) -> tuple[tuple[LoopVar, LoopKind], ...]:
        """The loops of a reduction or a scan, up to and with the opening brace."""
        loops: list[tuple[LoopVar, LoopKind]] = []
        while not self.scanner.accept("{"):
            if loops:
                self.scanner.expect(",")
            loops.append((self.dim(), self.kind()))
        return tuple(loops)

    def reduce(self) -> Reduce:
        scanner = self.scanner
        loops = self.loops()
        lets = dict(self.lets)
        accumulators: list[Accumulator] = []
        while not scanner.accept("}"):
            self.loads = {}
            if scanner.looking_at(LET):
                self.let()
            else:
                accumulators.append(self.accumulator())
        self.lets = lets
        for var, _ in loops:
            del self.variables[var.name]
        for accumulator in accumulators:
            self.names[accumulator.name] = accumulator.dtype
        return Reduce(loops, tuple(accumulators))

    def scan(self) -> Scan:
        scanner = self.scanner
        loops = self.loops()
        lets = dict(self.lets)
        carried: list[Carried] = []
        stores: list[Store] = []
        while not scanner.accept("}"):
            self.loads = {}
            if scanner.looking_at(LET):
                self.let()
            elif scanner.accept("store"):
                stores.append(self.store())
            else:
                carried.append(self.carried({var.name for var, _ in loops}))
                self.names[carried[-1].name] = carried[-1].dtype
        self.lets = lets
        for var, _ in loops:
            del self.variables[var.name]
        return Scan(loops, tuple(carried), stores)

    def carried(self, inner: set[str]) -> Carried:
        """One carried value; what it starts from is read outside the loops over `inner`."""
        scanner = self.scanner
        name = scanner.take(NAME, "a name or '}'")
        scanner.expect("=")
        combine = next((word for word in RUNNING if scanner.accept(word)), None)
        if combine is None:
            scanner.fail(f"expected one of {', '.join(RUNNING)}")
        scanner.expect("(")
        values = self.expressions()
        position = self.index() if scanner.accept("at") else None
        starts: tuple[Expr, ...] = ()
        if scanner.accept("from"):
            variables = self.variables
            self.variables = {n: v for n, v in variables.items() if n not in inner}
            scanner.expect("(")
            starts = self.expressions()
            self.variables = variables
        return Carried(name, combine, values, position, starts)

    def accumulator(self) -> Accumulator:
        scanner = self.scanner
        name = scanner.take(NAME, "a name or '}'")
        scanner.expect("=")
        for combine in COMBINES:
            if scanner.accept(combine):
                scanner.expect("(")
                value = self.expr()
                scanner.expect(")")
                position = self.index() if scanner.accept("at") else None
                return Accumulator(name, combine, value, position)
        scanner.fail(f"expected one of {', '.join(COMBINES)}")
