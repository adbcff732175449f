"""Index arithmetic in C.

In: an `Index`, and the C names of loop variables.  Out: a C expression, of type int where every
part of the sum fits into 32 bits, else long long. Divisions are of numbers made positive, by
constants or by sizes. Each division is computed once and named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from braze.codegen.cuda.errors import CodegenError
from braze.codegen.cuda.text import Writer, bare
from braze.ir.index import Atom, DataIndex, FloorDiv, Index, LoopVar, Mod
from braze.ir.loops import Bound, Expr
from braze.ir.symint import SymInt

LIMIT = 2**31 - 1
Number = Callable[[int], str]
Use = Callable[[str], None]


def fits_int(index: Index) -> bool:
    """May the sum be computed in 32 bits, whatever the order of its terms?"""
    total = abs(index.constant)
    for atom, factor in index.terms:
        low, high = atom.span
        total += max(abs(low), abs(high)) * abs(factor)
        if isinstance(atom, (FloorDiv, Mod)) and not _fits_division(atom):
            return False
    return total <= LIMIT


def _fits_division(atom: FloorDiv | Mod) -> bool:
    return fits_int(atom.inner) and _lift(atom) + max(map(abs, atom.inner.span)) <= LIMIT


def _lift(atom: FloorDiv | Mod) -> int:
    """A multiple of the divisor that makes what is divided positive."""
    low, _ = atom.inner.span
    return -(low // atom.divisor) * atom.divisor if low < 0 else 0


def wide(number: int, text: str) -> str:
    """The C expression of an integer, in 64 bits."""
    return f"(long long){text}" if isinstance(number, SymInt) else f"{text}LL"


class Indices:
    """Indices at one place of the code.

    Args:
        variables: the C expression of each loop variable in scope.
        data: gives the C expression of an index that is read from data.
        number: gives the C expression of an integer.
        use: takes note of a function of the library.
    """

    def __init__(
        self,
        writer: Writer,
        variables: Mapping[LoopVar, str],
        data: Callable[[Expr], str],
        number: Number,
        use: Use,
    ) -> None:
        self.writer = writer
        self.variables = dict(variables)
        self.data = data
        self.number = number
        self.use = use
        self._atoms: dict[tuple[Atom, bool], str] = {}

    def fork(self, variables: Mapping[LoopVar, str], data: Callable[[Expr], str]) -> Indices:
        """For code nested in this one's: it sees what was computed so far, not the reverse."""
        inner = Indices(
            self.writer, {**self.variables, **variables}, data, self.number, self.use
        )
        inner._atoms.update(self._atoms)
        return inner

    def text(self, index: Index, *, is_long: bool | None = None) -> str:
        """The value, without parentheses around all of it.

        Args:
            is_long: whether to compute in 64 bits; by default only where 32 are too few.
        """
        if is_long is None:
            is_long = not fits_int(index)
        text = ""
        for atom, factor in index.terms:
            value = self._atom(atom, is_long)
            size = abs(factor)
            term = value if size == 1 else f"{self._number(size, is_long)} * {value}"
            if is_long and size == 1 and not text:
                term = f"(long long){value}"
            sign = "-" if factor < 0 else "+"
            text = f"{text} {sign} {term}" if text else (f"-{term}" if factor < 0 else term)
        if index.constant or not text:
            number = self._number(abs(index.constant), is_long)
            if not text:
                return f"-{number}" if index.constant < 0 else number
            text += f" {'-' if index.constant < 0 else '+'} {number}"
        return bare(text)

    def _number(self, number: int, is_long: bool) -> str:
        text = self.number(number)
        return wide(number, text) if is_long else text

    def _atom(self, atom: Atom, is_long: bool) -> str:
        """One term without its factor, in parentheses where it needs them."""
        if isinstance(atom, LoopVar):
            if atom not in self.variables:
                raise CodegenError(f"[cuda] {atom} is used outside its loop")
            return self.variables[atom]
        key = atom, is_long
        if key not in self._atoms:
            self._atoms[key] = self._named(atom, is_long)
        return self._atoms[key]

    def _named(self, atom: FloorDiv | Mod | DataIndex, is_long: bool) -> str:
        if isinstance(atom, DataIndex):
            name = self.writer.fresh("at")
            self.use("data_index")
            inner = f"data_index({self.data(atom.value)}, {self.number(atom.extent)})"
            fits = atom.extent <= LIMIT and not is_long
            type, made = ("int", f"(int){inner}") if fits else ("long long", inner)
            self.writer.line(f"const {type} {name} = {made};")
            return name
        wide = is_long and not _fits_division(atom)
        lift = _lift(atom)
        inner = self.text(atom.inner + lift, is_long=wide)
        stem = "q" if isinstance(atom, FloorDiv) else "r"
        kind = "quotient" if isinstance(atom, FloorDiv) else "remainder_of"
        part, function, type = "quotient", kind, "int"
        if wide:
            part, type = "quotient_long", "long long"
            function = "quotient_long" if isinstance(atom, FloorDiv) else "remainder_long"
        if isinstance(atom.divisor, SymInt):
            sign = "/" if isinstance(atom, FloorDiv) else "%"
            text = f"({inner}) {sign} {self.number(atom.divisor)}"
        else:
            self.use(part)
            text = f"{function}<{atom.divisor}>({inner})"
        if isinstance(atom, FloorDiv) and lift:
            text += f" - {self.number(lift // atom.divisor)}"
        name = self.writer.fresh(stem)
        self.writer.line(f"const {type} {name} = {text};")
        return name

    def condition(self, bounds: Sequence[Bound]) -> str:
        """Whether all bounds hold; "" where nothing is to be asked."""
        parts: list[str] = []
        for bound in bounds:
            low, high = bound.index.span
            if bound.low > low and bound.high <= high:
                value = self.text(bound.index)
                parts.append(f"{self.number(bound.low)} <= {value}")
                parts.append(f"{value} < {self.number(bound.high)}")
            elif bound.low > low:
                parts.append(f"{self.number(bound.low)} <= {self.text(bound.index)}")
            elif bound.high <= high:
                parts.append(f"{self.text(bound.index)} < {self.number(bound.high)}")
        return " && ".join(dict.fromkeys(parts))
