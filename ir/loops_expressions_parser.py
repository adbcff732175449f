"""Read the expressions and indices of the loop IR: what stands inside statements.

In: a scanner at an expression's text, by the grammar in `braze.ir.loops_text`. Out: the loop IR's
expressions. What may be referred to (buffers, loop variables, names) is kept by the reader of
kernels, `braze.ir.loops_parser`, which builds on this.
"""

from __future__ import annotations

import re

from braze.ir.dtypes import DType, bool_, f32, i64
from braze.ir.errors import BrazeError, ParseError
from braze.ir.index import Atom, DataIndex, FloorDiv, Index, LoopVar, Mod
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
)
from braze.ir.op import op_named
from braze.ir.parser import (
    NUMBER,
    VALUE,
    Scanner,
    parse_dtype,
    parse_name,
)
from braze.ir.printer import NAME
from braze.ir.types import tensor_type

LET = re.compile(r"\$\d+")


def buffer_name(scanner: Scanner) -> str:
    """A buffer's name after `%`: digits, a plain name or a quoted one."""
    scanner.skip()
    start = scanner.position
    token = scanner.take(VALUE, "a buffer")
    if token.startswith('%"'):
        scanner.position = start
        return parse_name(scanner, "%")
    return token[1:]


class ExpressionParser:
    """Reads expressions.

    Attributes:
        buffers, variables, names, lets: what may be referred to at this place.
        loads: the loads of the statement being read, by their text and symbols.
    """

    def __init__(self, scanner: Scanner) -> None:
        self.scanner = scanner
        self.buffers: dict[str, Buffer] = {}
        self.variables: dict[str, LoopVar] = {}
        self.names: dict[str, DType] = {}
        self.lets: dict[str, Expr] = {}
        self.loads: dict[tuple[object, ...], Load] = {}

    def expressions(self) -> tuple[Expr, ...]:
        """Expressions up to and with the closing parenthesis."""
        found: list[Expr] = []
        while not self.scanner.accept(")"):
            if found:
                self.scanner.expect(",")
            found.append(self.expr())
        return tuple(found)

    def buffer_used(self) -> Buffer:
        scanner = self.scanner
        scanner.skip()
        start = scanner.position
        name = buffer_name(scanner)
        if name not in self.buffers:
            scanner.fail(f"no buffer is called {name}", start)
        return self.buffers[name]

    # Indices --------------------------------------------------------------------------------------

    def element(self) -> tuple[Index, tuple[Bound, ...]]:
        """What stands in an element's brackets."""
        self.scanner.expect("[")
        index = self.index()
        guard = self.bounds() if self.scanner.accept("if") else ()
        self.scanner.expect("]")
        return index, guard

    def bounds(self) -> tuple[Bound, ...]:
        scanner = self.scanner
        found: list[Bound] = []
        while not found or scanner.accept("and"):
            low = scanner.integer()
            scanner.expect("<=")
            index = self.index()
            scanner.expect("<")
            found.append(Bound(index, low, scanner.integer()))
        return tuple(found)

    def index(self) -> Index:
        terms, constant = self.terms()
        return Index(tuple(terms), constant)

    def terms(self) -> tuple[list[tuple[Atom, int]], int]:
        """The terms as they stand, and the sum of the constants."""
        scanner = self.scanner
        terms: list[tuple[Atom, int]] = []
        constant = 0
        sign = -1 if scanner.accept("-") else 1
        while True:
            if scanner.looking_at(NUMBER) and not scanner.looking_at(NAME):
                factor = scanner.integer()
                if scanner.accept("*"):
                    terms.append((self.atom(), sign * factor))
                else:
                    constant += sign * factor
            else:
                terms.append((self.atom(), sign))
            if scanner.accept("+"):
                sign = 1
            elif scanner.accept("-"):
                sign = -1
            else:
                return terms, constant

    def atom(self) -> Atom:
        scanner = self.scanner
        scanner.skip()
        start = scanner.position
        if scanner.accept("["):
            value = self.expr()
            scanner.expect("<")
            extent = scanner.integer()
            scanner.expect("]")
            return DataIndex(value, extent)
        if scanner.accept("("):
            inner = self.index()
            scanner.expect(")")
            if scanner.accept("//"):
                return FloorDiv(inner, scanner.integer())
            scanner.expect("%")
            return Mod(inner, scanner.integer())
        name = scanner.take(NAME, "an index")
        if name not in self.variables:
            scanner.fail(f"no loop variable is called {name}", start)
        return self.variables[name]

    # Expressions ----------------------------------------------------------------------------------

    def expr(self) -> Expr:
        scanner = self.scanner
        scanner.skip()
        start = scanner.position
        if scanner.looking_at(LET):
            name = scanner.take(LET, "a name")
            if name not in self.lets:
                scanner.fail(f"{name} is not defined before this", start)
            return self.lets[name]
        if scanner.looking_at(VALUE):
            return self.load()
        for word, value in (("true", True), ("false", False)):
            if scanner.accept(word):
                return Const(value, bool_)
        if scanner.looking_at(NUMBER):
            return self.constant()
        name = scanner.take(NAME, "an expression")
        if not scanner.accept("("):
            if name not in self.names:
                scanner.fail(f"{name} is not defined before this", start)
            return Ref(name, self.names[name])
        return self.call(name, start)

    def load(self) -> Load:
        start = self.scanner.position
        buffer = self.buffer_used()
        index, guard = self.element()
        load = Load(buffer, index, guard)
        # Equal text is an equal element, unless it is symbolic in other ways.
        text = self.scanner.text[start : self.scanner.position]
        return self.loads.setdefault((text, self.scanner.symbols_from(start)), load)

    def constant(self) -> Const:
        scanner = self.scanner
        text = scanner.take(NUMBER, "a number")
        is_integer = text.lstrip("+-").isdigit()
        value = scanner.number(text) if is_integer else scanner.float(text)
        if scanner.accept(":"):
            return Const(value, parse_dtype(scanner))
        return Const(value, i64 if is_integer else f32)

    def call(self, name: str, start: int) -> Expr:
        """What follows ``name(``."""
        scanner = self.scanner
        if name == "index":
            index = self.index()
            scanner.expect(")")
            return IndexValue(index)
        if name == "inside":
            bounds = () if scanner.accept(")") else self.bounds()
            if bounds:
                scanner.expect(")")
            return InBounds(bounds)
        arguments: list[Expr] = []
        while not scanner.accept(";") and not scanner.accept(")"):
            if arguments:
                scanner.expect(",")
            arguments.append(self.expr())
        after_semicolon = scanner.text[scanner.position - 1] == ";"
        if name == "philox":
            word = scanner.integer()
            scanner.expect(")")
            if len(arguments) != 2:
                scanner.fail("philox takes a counter and a seed", start)
            return Philox(word, *arguments)
        dtype = parse_dtype(scanner) if after_semicolon else None
        if after_semicolon:
            scanner.expect(")")
        return self.apply(name, tuple(arguments), dtype, start)

    def apply(
        self, name: str, arguments: tuple[Expr, ...], dtype: DType | None, start: int
    ) -> Apply:
        try:
            op = op_named(name)
            types = [tensor_type(argument.dtype) for argument in arguments]
            attributes = {} if dtype is None else {"dtype": dtype}
            (result,) = op.result_types(types, attributes)
        except KeyError:
            self.scanner.fail(f"no op is called {name!r}", start)
        except (BrazeError, TypeError, ValueError) as error:
            if isinstance(error, ParseError):
                raise
            self.scanner.fail(f"{name} does not take these arguments: {error}", start)
        return Apply(op, arguments, result.dtype)
