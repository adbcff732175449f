"""Scalar expressions in C.

In: expressions of the loop IR, and the C names of loop variables and of results of reductions.
Out: C expressions; what is used more than once, loaded, or long is a named constant before.

Whoever opens a block of code emits into it through a `fork`: what is named there is then forgotten
again outside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from braze.codegen.cuda.errors import CodegenError
from braze.codegen.cuda.indices import Indices
from braze.codegen.cuda.operations import apply_operation
from braze.codegen.cuda.text import LONG, Writer, bare
from braze.codegen.cuda.types import (
    from_memory,
    is_narrow_float,
    literal,
    register_type,
    rounded,
    to_memory,
)
from braze.ir.dtypes import DType, i64
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
from braze.ir.symint import SymInt

Pointer = Callable[[Buffer], str]
Number = Callable[[int], str]
Use = Callable[[str], None]


class Expressions:
    """Expressions at one place of the code.

    Args:
        pointer: gives the name of a buffer's pointer.
        number: gives the C expression of an integer.
        use: takes note of a function of the library.
        variables: the C expression of each loop variable in scope.
        refs: the C expression of each name that expressions read with `Ref`.
    """

    def __init__(
        self,
        writer: Writer,
        pointer: Pointer,
        number: Number,
        use: Use,
        variables: Mapping[LoopVar, str],
        refs: Mapping[str, str] | None = None,
    ) -> None:
        self.writer = writer
        self.pointer = pointer
        self.number = number
        self.use = use
        self.refs = dict(refs or {})
        self.indices = Indices(writer, variables, self.value, number, use)
        self._values: dict[Expr, str] = {}
        self._words: dict[tuple[Expr, Expr], str] = {}
        self._uses: Counter[Expr] = Counter()
        self._moved: set[Expr] = set()

    def fork(
        self,
        variables: Mapping[LoopVar, str] | None = None,
        refs: Mapping[str, str] | None = None,
    ) -> Expressions:
        """For code nested in this one's: it sees what was computed so far, not the reverse."""
        inner = Expressions(
            self.writer, self.pointer, self.number, self.use, {}, {**self.refs, **(refs or {})}
        )
        inner.indices = self.indices.fork(variables or {}, inner.value)
        inner._values.update(self._values)
        inner._words.update(self._words)
        inner._uses = self._uses
        inner._moved = self._moved
        return inner

    def plan(self, roots: Iterable[Expr]) -> None:
        """Count how often the parts of expressions are used that will be asked for."""
        seen: set[Expr] = set()
        for root in roots:
            self._uses[root] += 1
            for expr in root.walk():
                if expr not in seen:
                    seen.add(expr)
                    self._uses.update(expr.parts())
                    if isinstance(expr, Apply) and expr.op.name == "bitcast":
                        self.move(expr.arguments[0])

    def move(self, expr: Expr) -> None:
        """Say that an expression is stored, or reinterpreted, as it is."""
        self._moved.add(expr)

    def provide(self, expr: Expr, text: str) -> None:
        """Give an expression a value that was found elsewhere."""
        self._values[expr] = text

    def knows(self, expr: Expr) -> bool:
        """Has it been computed, or provided?"""
        return expr in self._values

    # Values ---------------------------------------------------------------------------------------

    def value(self, root: Expr) -> str:
        """The expression's value in its register type."""
        if root not in self._values:
            for expr in self._order(root):
                if expr not in self._values:
                    self._values[expr] = self._kept(expr, self._emit(expr))
        return self._values[root]

    def _order(self, root: Expr) -> Iterable[Expr]:
        """What must be computed, children first, leaving out what is known."""
        found: list[Expr] = []
        seen: set[Expr] = set()
        waiting = [(root, False)]
        while waiting:
            expr, is_ready = waiting.pop()
            if is_ready:
                found.append(expr)
            elif expr not in seen and expr not in self._values:
                seen.add(expr)
                waiting.append((expr, True))
                waiting += [(part, False) for part in reversed(expr.parts())]
        return found

    def _kept(self, expr: Expr, text: str) -> str:
        """The text, or the name of a constant that holds it."""
        if isinstance(expr, (Const, Ref)):
            return text
        once = self._uses[expr] == 1
        if isinstance(expr, Load):
            # A 16-bit float that is only moved keeps its bits; see `to_memory`.
            once = once and is_narrow_float(expr.dtype) and expr in self._moved
        if text.isidentifier() or (once and len(text) < LONG):
            return text
        return self.named(text, expr.dtype)

    def named(self, text: str, dtype: DType, stem: str = "v") -> str:
        """A constant that holds a value."""
        name = self.writer.fresh(stem)
        self.writer.line(f"const {register_type(dtype)} {name} = {bare(text)};")
        return name

    def _emit(self, expr: Expr) -> str:
        if isinstance(expr, Apply):
            return self._apply(expr)
        if isinstance(expr, Load):
            return self._load(expr)
        if isinstance(expr, Const):
            if isinstance(expr.value, SymInt):
                return f"({register_type(expr.dtype)}){self.number(expr.value)}"
            return literal(expr.value, expr.dtype)
        if isinstance(expr, Ref):
            if expr.name not in self.refs:
                raise CodegenError(f"[cuda] {expr.name} is read before it is defined")
            return self.refs[expr.name]
        if isinstance(expr, IndexValue):
            return f"(long long)({self.index(expr.index)})"
        if isinstance(expr, InBounds):
            condition = self.condition(expr.bounds)
            return f"({condition})" if condition else "true"
        if isinstance(expr, Philox):
            return self._philox(expr)
        raise CodegenError(f"[cuda] there is no code for {type(expr).__name__}")

    def _apply(self, expr: Apply) -> str:
        if expr.op.name == "cast" and (short := self._cast_index(expr)) is not None:
            return short
        operands = tuple(self._values[argument] for argument in expr.arguments)
        dtypes = tuple(argument.dtype for argument in expr.arguments)
        if expr.op.name in ("cast", "bitcast") and may_be_unrounded(expr.arguments[0]):
            # In a wider dtype the digits would show that a 16-bit float does not have.
            operands = (rounded(operands[0], dtypes[0]),)
        return apply_operation(expr.op, operands, dtypes, expr.dtype, self.use)

    def _cast_index(self, expr: Apply) -> str | None:
        """An index cast to another type, computed as narrow as its values allow."""
        (source,) = expr.arguments
        if not isinstance(source, IndexValue) or expr.dtype is i64:
            return None
        text = self.index(source.index)
        return apply_operation(expr.op, (f"({text})",), (source.dtype,), expr.dtype, self.use)

    def _philox(self, expr: Philox) -> str:
        key = expr.counter, expr.seed
        if key not in self._words:
            self.use("philox")
            name = self.writer.fresh("bits")
            counter, seed = self._values[expr.counter], self._values[expr.seed]
            self.writer.line(f"const uint4 {name} = philox({counter}, {seed});")
            self._words[key] = name
        return f"{self._words[key]}.{'xyzw'[expr.word]}"

    # Memory ---------------------------------------------------------------------------------------

    def index(self, index: Index) -> str:
        return self.indices.text(index)

    def condition(self, bounds: tuple[Bound, ...]) -> str:
        """Whether all bounds hold; "" where they always do."""
        return self.indices.condition(bounds)

    def _load(self, expr: Load) -> str:
        if expr.buffer.numel == 0:
            return literal(0, expr.dtype)
        condition = self.condition(expr.guard)
        item = f"{self.pointer(expr.buffer)}[{self.index(expr.index)}]"
        text = from_memory(item, expr.dtype)
        return f"({condition} ? {text} : {literal(0, expr.dtype)})" if condition else text

    def stored(self, store: Store) -> str:
        """A store's value as it lies in memory."""
        self.move(store.value)
        return to_memory(bare(self.value(store.value)), store.buffer.dtype)


def may_be_unrounded(expr: Expr) -> bool:
    """Is it a 16-bit float that was computed, in f32, since it was last rounded?"""
    if not is_narrow_float(expr.dtype) or isinstance(expr, Load):
        return False
    return not (isinstance(expr, Apply) and expr.op.name == "cast")
