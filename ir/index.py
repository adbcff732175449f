"""Symbolic index arithmetic: what movement operations become.

An `Index` is a sum of integer multiples of atoms plus a constant, kept in canonical form, so equal
indices compare equal. An atom is a loop variable, a floor division or a remainder that could not be
simplified away, or an index read from data. Every atom has a known range, which is what lets `//`
and `%` simplify: reshaping [6] to [2,3] and back gives the variable itself again.

    >>> i, j = LoopVar("i", 2), LoopVar("j", 3)
    >>> flat = Index.of(i) * 3 + Index.of(j)
    >>> str(flat), str(flat // 3), str(flat % 3)
    ('3*i + j', 'i', 'j')
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from braze.ir.loops import Expr


@dataclass(frozen=True, slots=True)
class LoopVar:
    """A loop variable that runs over 0 <= name < extent."""

    name: str
    extent: int

    def __hash__(self) -> int:
        return hash(self.name)  # a string remembers its hash

    def __str__(self) -> str:
        return self.name

    @property
    def span(self) -> tuple[int, int]:
        """Smallest and largest value."""
        return 0, max(self.extent - 1, 0)


@dataclass(frozen=True, slots=True)
class FloorDiv:
    """`inner // divisor` for a positive constant divisor."""

    inner: Index
    divisor: int

    def __str__(self) -> str:
        return f"({self.inner})//{self.divisor}"

    @property
    def span(self) -> tuple[int, int]:
        low, high = self.inner.span
        return low // self.divisor, high // self.divisor


@dataclass(frozen=True, slots=True)
class Mod:
    """`inner % divisor`, in 0 .. divisor - 1."""

    inner: Index
    divisor: int

    def __str__(self) -> str:
        return f"({self.inner})%{self.divisor}"

    @property
    def span(self) -> tuple[int, int]:
        return 0, self.divisor - 1


@dataclass(frozen=True, slots=True)
class DataIndex:
    """An index read from memory, clamped to 0 <= value < extent by the code that evaluates it."""

    value: Expr
    extent: int

    def __str__(self) -> str:
        return f"[{self.value}]"

    @property
    def span(self) -> tuple[int, int]:
        return 0, max(self.extent - 1, 0)


Atom = LoopVar | FloorDiv | Mod | DataIndex


@dataclass(unsafe_hash=True, slots=True)
class Index:
    """constant + sum of coefficient * atom. Make one with `Index.of` and arithmetic.

    It never changes, though it is not frozen: a compile makes tens of thousands, and making a
    frozen one takes three times as long.
    """

    terms: tuple[tuple[Atom, int], ...] = ()
    constant: int = 0

    @staticmethod
    def of(value: Atom | int) -> Index:
        """The index that is just this atom or this number."""
        if isinstance(value, int):
            return Index((), value)
        if value.span == (0, 0):
            return Index((), 0)
        return Index(((value, 1),), 0)

    @staticmethod
    def _sum(coefficients: Mapping[Atom, int], constant: int) -> Index:
        kept = [(atom, c) for atom, c in coefficients.items() if c != 0]
        if len(kept) > 1:
            kept.sort(key=lambda term: (-abs(term[1]), str(term[0])))
        return Index(tuple(kept), constant)

    def __add__(self, other: Index | int) -> Index:
        if isinstance(other, int):
            return Index(self.terms, self.constant + other)
        if not self.terms or not other.terms:
            return Index(self.terms or other.terms, self.constant + other.constant)
        coefficients = dict(self.terms)
        for atom, c in other.terms:
            coefficients[atom] = coefficients.get(atom, 0) + c
        constant = self.constant + other.constant
        for atom, c in coefficients.items():
            if c and isinstance(atom, Mod):
                # d * (x // d) + x % d = x
                whole = (atom.inner // atom.divisor) * (c * atom.divisor)
                if all(coefficients.get(part) == k for part, k in whole.terms):
                    taken = {atom, *dict(whole.terms)}
                    rest = {a: k for a, k in coefficients.items() if a not in taken}
                    return Index._sum(rest, constant - whole.constant) + atom.inner * c
        return Index._sum(coefficients, constant)

    def __sub__(self, other: Index | int) -> Index:
        return self + (-other if isinstance(other, int) else other * -1)

    def __mul__(self, factor: int) -> Index:
        if factor == 0:
            return Index()
        if factor == 1:
            return self
        terms = tuple((atom, c * factor) for atom, c in self.terms)
        return Index(terms, self.constant * factor)

    @property
    def span(self) -> tuple[int, int]:
        """Bounds of the value: exact when the atoms are independent, else conservative."""
        low = high = self.constant
        for atom, c in self.terms:
            a, b = atom.span
            low += min(a * c, b * c)
            high += max(a * c, b * c)
        return low, high

    def _split(self, divisor: int) -> tuple[Index, Index]:
        """quotient, rest with self == quotient * divisor + rest and few terms in the rest."""
        whole: dict[Atom, int] = {}
        rest: dict[Atom, int] = {}
        for atom, c in self.terms:
            if c % divisor == 0:
                whole[atom] = c // divisor
            else:
                rest[atom] = c
        q, r = divmod(self.constant, divisor)
        return Index._sum(whole, q), Index._sum(rest, r)

    def _common_part(self, divisor: int) -> tuple[int, Index, Index] | None:
        """The largest factor g > 1 of the divisor with self == g * a + r, 0 <= r < g: g, a, r."""
        common = divisor
        for _, c in self.terms:
            common = gcd(common, c)
        factors = {gcd(divisor, c) for _, c in self.terms} | {common}
        for g in sorted(factors, reverse=True):
            if g == 1 or g == divisor:
                continue
            whole, rest = self._split(g)
            low, high = rest.span
            if low >= 0 and high < g:
                return g, whole, rest
        return None

    def __floordiv__(self, divisor: int) -> Index:
        if divisor == 1:
            return self
        quotient, rest = self._split(divisor)
        low, high = rest.span
        if low // divisor == high // divisor:
            return quotient + low // divisor
        found = rest._common_part(divisor)
        if found is not None:
            # floor((g*a + r) / (g*d)) = floor(a / d) for 0 <= r < g
            g, a, _ = found
            return quotient + a // (divisor // g)
        if len(rest.terms) == 1 and rest.constant == 0:
            atom, c = rest.terms[0]
            if c == 1 and isinstance(atom, FloorDiv):
                return quotient + atom.inner // (atom.divisor * divisor)
        return quotient + Index.of(FloorDiv(rest, divisor))

    def __mod__(self, divisor: int) -> Index:
        if divisor == 1:
            return Index()
        _, rest = self._split(divisor)
        low, high = rest.span
        if low // divisor == high // divisor:
            return rest - (low // divisor) * divisor
        if len(rest.terms) == 1 and rest.constant == 0:
            atom, c = rest.terms[0]
            if c == 1 and isinstance(atom, Mod) and atom.divisor % divisor == 0:
                return atom.inner % divisor
        found = rest._common_part(divisor)
        if found is not None:
            # (g*a + r) % (g*d) = g * (a % d) + r for 0 <= r < g
            g, a, r = found
            return a % (divisor // g) * g + r
        return Index.of(Mod(rest, divisor))

    @property
    def is_affine(self) -> bool:
        """True when every atom is a loop variable."""
        return all(isinstance(atom, LoopVar) for atom, _ in self.terms)

    @property
    def is_constant(self) -> bool:
        return not self.terms

    def coefficient(self, var: LoopVar) -> int:
        """The factor of a loop variable at the top level (inside // and % it is not counted)."""
        return dict(self.terms).get(var, 0)

    def variables(self) -> set[LoopVar]:
        """Every loop variable that the value depends on, inside divisions and data indices too."""
        found: set[LoopVar] = set()
        for atom, _ in self.terms:
            if isinstance(atom, LoopVar):
                found.add(atom)
            elif isinstance(atom, DataIndex):
                found |= atom.value.variables()
            else:
                found |= atom.inner.variables()
        return found

    def substitute(self, replace: Callable[[LoopVar], Index | None]) -> Index:
        """The same index with loop variables replaced (None keeps one)."""
        total = Index((), self.constant)
        for atom, c in self.terms:
            if isinstance(atom, LoopVar):
                new = replace(atom)
                part = Index.of(atom) if new is None else new
            elif isinstance(atom, FloorDiv):
                part = atom.inner.substitute(replace) // atom.divisor
            elif isinstance(atom, Mod):
                part = atom.inner.substitute(replace) % atom.divisor
            else:
                part = Index.of(DataIndex(atom.value.substitute(replace), atom.extent))
            total = total + part * c
        return total

    def __str__(self) -> str:
        from braze.ir.loops_text import print_index

        return print_index(self)


def separates(index: Index, variable: LoopVar) -> bool:
    """Are the index's values for different values of a variable always different ones?

    They are if the index is a number in mixed radix, of which the variable is a digit: the largest
    value of all lower digits together is below one step of each.
    """
    below, found = 0, False
    for atom, step in sorted(index.terms, key=lambda term: abs(term[1])):
        low, high = atom.span
        if below >= abs(step) or low < 0:
            return False
        below += abs(step) * high
        found = found or atom == variable
    return found


def flatten(indices: tuple[Index, ...], shape: tuple[int, ...]) -> Index:
    """The row-major element number of a multi-index."""
    total = Index()
    for index, size in zip(indices, shape, strict=True):
        total = total * size + index
    return total


def unflatten(flat: Index, shape: tuple[int, ...]) -> tuple[Index, ...]:
    """The multi-index of a row-major element number."""
    indices: list[Index] = []
    for axis in range(len(shape) - 1, -1, -1):
        size = shape[axis]
        indices.append(flat % size if axis else flat)
        flat = flat // size
    return tuple(reversed(indices))
