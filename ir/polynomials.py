"""Polynomials of the sizes of some dimensions, found from their values at a few points.

In: integers at the points of an `Interpolation`.  Out: the `Polynomial` that has these values, with
whole coefficients, of degree two at most in each size and three in all: a batch times the square of
a length occurs, the square of both does not.

    >>> near = Interpolation([(3, 5, 7), (11, 13, 17)])
    >>> area = near.through([b * t * t + 4 for b, t in near.points])
    >>> print(area.at((2, 10)), area.terms)
    204 ((1, (1, 2)), (4, (0, 0)))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import lcm, prod
from typing import TypeVar

from braze.ir.symint import SymInt

# The size of each dimension.
Point = tuple[int, ...]
T = TypeVar("T", bound=int)

_DEGREE = 2
_DEGREE_IN_ALL = 3


@dataclass(frozen=True, slots=True)
class Polynomial:
    """A sum of terms, each a coefficient and the exponent of each size; no coefficient is 0."""

    terms: tuple[tuple[int, Point], ...]

    def at(self, point: Point) -> int:
        """The value at a point."""
        return sum(c * prod(map(pow, point, exponents)) for c, exponents in self.terms)

    def symbol(self, point: Point) -> int:
        """The value at a point, as a function of the words; a plain number if it is constant."""
        return _nested({exponents: c for c, exponents in self.terms}, _words(point))

    def is_size(self, dim: int) -> bool:
        """Whether it is nothing but the size of a dimension."""
        return len(self.terms) == 1 and self.terms[0][0] == 1 and (
            self.terms[0][1] == tuple(int(d == dim) for d in range(len(self.terms[0][1])))
        )  # fmt: skip


def _words(point: Point) -> list[int]:
    return [SymInt.word(number, size) for number, size in enumerate(point)]


def _nested(coefficients: dict[Point, int], words: Sequence[int]) -> int:
    """By Horner's rule, in the first size first."""
    if not words:
        return coefficients.get((), 0)
    found = 0
    for exponent in range(_DEGREE, -1, -1):
        rest = {e[1:]: c for e, c in coefficients.items() if e[0] == exponent}
        found = words[0] * found + _nested(rest, words[1:]) if rest else words[0] * found
    return found


def corners(lowest: Point, highest: Point) -> list[Point]:
    """The smallest sizes, the largest, and those that are smallest in some dimensions only."""
    ends = zip(lowest, highest, strict=True)
    return [*product(*(dict.fromkeys(pair) for pair in ends))]


class Interpolation:
    """Points whose values tell a polynomial.

    Attributes:
        points: of which values are needed, in this order.
        free: the dimensions that have more than one size.
    """

    def __init__(self, sizes: Sequence[Sequence[int]]) -> None:
        """
        Args:
            sizes: of each dimension three different ones, or fewer where the degree is less.
        """
        self.free = tuple(dim for dim, own in enumerate(sizes) if len(own) > 1)
        choices = (range(len(own)) for own in sizes)
        # Exponents and places alike: as many of each make the polynomial unique.
        self._exponents = [e for e in product(*choices) if sum(e) <= _DEGREE_IN_ALL]
        self.points = [tuple(own[i] for own, i in zip(sizes, e, strict=True))
                       for e in self._exponents]  # fmt: skip
        self._rows, self._divisor = _inverse(self.points, self._exponents)

    def through(self, values: Sequence[int]) -> Polynomial | None:
        """The polynomial with some values at `points`; None if its coefficients are not whole."""
        zero = (0,) * len(self.points[0])
        if all(value == values[0] for value in values):
            return Polynomial(((values[0], zero),) if values[0] else ())
        terms = []
        for row, exponents in zip(self._rows, self._exponents, strict=True):
            found, rest = divmod(sum(map(int.__mul__, row, values)), self._divisor)
            if rest:
                return None
            if found:
                terms.append((found, exponents))
        return Polynomial(tuple(reversed(terms)))


def _inverse(points: list[Point], exponents: list[Point]) -> tuple[list[list[int]], int]:
    """What makes coefficients of values: whole numbers, and what to divide the sums by."""
    from fractions import Fraction  # slow to import, and a package is loaded without it

    count = len(points)
    rows = [
        [Fraction(prod(map(pow, point, e))) for e in exponents]
        + [Fraction(int(i == at)) for i in range(count)]
        for at, point in enumerate(points)
    ]
    for at in range(count):
        pivot = next(i for i in range(at, count) if rows[i][at])
        rows[at], rows[pivot] = rows[pivot], rows[at]
        rows[at] = [value / rows[at][at] for value in rows[at]]
        for i in range(count):
            if i != at and rows[i][at]:
                rows[i] = [a - rows[i][at] * b for a, b in zip(rows[i], rows[at], strict=True)]
    divisor = lcm(*(value.denominator for row in rows for value in row[count:]))
    return [[int(value * divisor) for value in row[count:]] for row in rows], divisor
