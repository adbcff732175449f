"""Winograd's minimal filtering for windows of 3x3 or 2x2: which linear maps it takes, as code.

In: an image's values, a filter's, or the products of both.  Out: the values in the other domain,
each a vector register.

The 4x4 results of a 3x3 window that moves over 6x6 values are ``A' ((G g G') * (B' d B)) A``, with
36 products for what takes 144 by definition; those of a 2x2 window, from 5x5 values, take 25 for 64
(Winograd, "Arithmetic Complexity of Computations", 1980; Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks", 2016). Summed over channels, the products are matrix products.

The gradient for a filter is minimal filtering too: 3x3 or 2x2 results from as many values and a
"filter" of 4x4, those of the gradient for a tile's results, with the same number of products and
the same map of the image. There the products are summed over tiles.

The maps evaluate polynomials at points and at infinity. For 6 values these are 0, +-5/8 and +-3/2,
for 5 values +-3/8 and +-5/4, whose squares and sums of squares f32 holds exactly; rounding errors
are then about a third of those with the textbook's 0, +-1 and +-2, and less than twice those of a
plain sum in f32 (compare Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd
Convolution for Deep Neural Networks", 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from braze.codegen.llvm import ir
from braze.codegen.llvm.types import constant, intrinsic

RESULTS = 4  # of a tile, in either direction


@dataclass(frozen=True, slots=True)
class Form:
    """Windows of one size, and how they are computed.

    Attributes:
        taps: of the window, in either direction.
        pairs: points with both signs.
        has_zero: whether 0 is one more.
    """

    taps: int
    pairs: tuple[float, float]
    has_zero: bool

    @property
    def points(self) -> int:
        """Values that a tile's results depend on, in either direction."""
        return self.taps + RESULTS - 1

    @property
    def products(self) -> int:
        return self.points * self.points


FORMS = {2: Form(2, (3 / 8, 5 / 4), False), 3: Form(3, (5 / 8, 3 / 2), True)}

Values = list[ir.Value]
Line = Callable[[Values], Values]


class Transforms:
    """Writes the maps of a form for vectors at a builder's position."""

    def __init__(self, builder: ir.IRBuilder, form: Form) -> None:
        self.builder, self.form = builder, form
        p, q = form.pairs
        # Each point of a pair, its square, and that of the other.
        self._pairs = ((p, p * p, q * q), (q, q * q, p * p))

    def image(self, values: Sequence[Values]) -> list[Values]:
        """An image's values, by rows, to as many factors."""
        return self._both(values, self._image_line)

    def filter(self, values: Sequence[Values]) -> list[Values]:
        """The taps of a filter, or 4x4 values of the gradient for the results, to factors."""
        return self._both(values, self._filter_line)

    def results(self, values: Sequence[Values]) -> list[Values]:
        """Sums of products to 4x4 results."""
        return self._both(values, lambda m: self._result_line(m, RESULTS))

    def filter_gradient(self, values: Sequence[Values]) -> list[Values]:
        """Sums of products to the values of the gradient for a filter."""
        return self._both(values, lambda m: self._result_line(m, self.form.taps))

    def _both(self, values: Sequence[Values], line: Line) -> list[Values]:
        columns = [line(list(column)) for column in zip(*values, strict=True)]
        return [line(list(row)) for row in zip(*columns, strict=True)]

    def _image_line(self, d: Values) -> Values:
        """Products of (x - point) over all points but one, as coefficients for the values; over all
        points for the one at infinity."""
        *_, a, b, c, e, last = d
        found = [self._even_product(*d[:5:2])] if self.form.has_zero else []
        for point, _, square in self._pairs:
            high, low = self._add(-square, b, e), self._add(-square, a, c)
            found += [self._add(point, low, high), self._add(-point, low, high)]
        return [*found, self._even_product(a, c, last)]

    def _even_product(self, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
        """(x^2 - p^2) (x^2 - q^2) with these in place of 1, x^2 and x^4."""
        (_, a, b), _ = self._pairs
        return self._add(a * b, x, self._add(-(a + b), y, z))

    def _filter_line(self, g: Values) -> Values:
        """The filter as a polynomial, at the points."""
        (_, a, b), _ = self._pairs
        found = [self._times(1 / (a * b), g[0])] if self.form.has_zero else []
        for point, square, other in self._pairs:
            even, odd = g[0], g[1]
            if len(g) > 2:
                even = self._add(square, g[2], even)
            if len(g) > 3:
                odd = self._add(square, g[3], odd)
            scale = 1 / (2 * point * (square - other))
            if self.form.has_zero:  # one factor more, which is negative where the point is
                even = self._times(scale / point, even)
                found += [self._add(scale, odd, even), self._add(-scale, odd, even)]
            else:
                odd = self._times(point * scale, odd)
                found += [self._add(scale, even, odd), self._add(-scale, even, odd)]
        return [*found, g[-1]]

    def _result_line(self, m: Values, count: int) -> Values:
        """Sums over the points of their powers times the products."""
        builder = self.builder
        *zero, a, b, c, e, last = m
        even = builder.fadd(a, b), builder.fadd(c, e)
        odd = builder.fsub(a, b), builder.fsub(c, e)
        first, second = self.form.pairs
        found = [builder.fadd(*even)]
        for power in range(1, count):
            x, y = odd if power % 2 else even
            factor = second**power
            is_last = power == count - 1
            rest = self._add(factor, y, last) if is_last else self._times(factor, y)
            found.append(self._add(first**power, x, rest))
        if zero:
            found[0] = builder.fadd(zero[0], found[0])
        return found

    def _times(self, factor: float, x: ir.Value) -> ir.Value:
        return self.builder.fmul(constant(x.type, factor), x)

    def _add(self, factor: float, x: ir.Value, y: ir.Value) -> ir.Value:
        """factor * x + y."""
        return intrinsic(self.builder, "fmuladd", x.type, [constant(x.type, factor), x, y])
