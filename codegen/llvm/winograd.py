"""Winograd's minimal filtering for 3x3 windows: which linear maps it takes, as code.

In: an image's 6x6 values, a filter's 3x3 values, or the 6x6 products of both.  Out: the values in
the other domain, each a vector register.

The 4x4 results of a window that moves over 6x6 values are ``A' ((G g G') * (B' d B)) A``, with 36
products for what takes 144 by definition (Winograd, "Arithmetic Complexity of Computations", 1980;
Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016). Summed over channels,
the products are 36 matrix products.

The gradient for a filter is minimal filtering too: 3x3 results from 6x6 values and a "filter" of
4x4, those of the gradient for a tile's results, with the same 36 products and the same map of the
image. There the products are summed over tiles.

The maps evaluate polynomials at five points and at infinity. These are 0, +-5/8 and +-3/2, whose
squares and sums of squares f32 holds exactly; rounding errors are then about a third of those with
the textbook's 0, +-1 and +-2, and about twice those of a plain sum in f32 (compare Barabasz et al.,
"Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks", 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from braze.codegen.llvm import ir
from braze.codegen.llvm.types import constant, intrinsic

TAPS = 3  # of the window, in either direction
RESULTS = 4  # of a tile
POINTS = TAPS + RESULTS - 1  # values that they depend on
PRODUCTS = POINTS * POINTS

_P, _Q = 5 / 8, 3 / 2
_A, _B = _P * _P, _Q * _Q

Values = list[ir.Value]
Line = Callable[[Values], Values]


class Transforms:
    """Writes the three maps for vectors at a builder's position."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder

    def image(self, values: Sequence[Values]) -> list[Values]:
        """6x6 values of an image, by rows, to as many factors."""
        return self._both(values, self._image_line)

    def filter(self, values: Sequence[Values]) -> list[Values]:
        """3x3 values of a filter to 6x6 factors."""
        return self._both(values, self._filter_line)

    def results(self, values: Sequence[Values]) -> list[Values]:
        """6x6 sums of products to 4x4 results."""
        return self._both(values, self._result_line)

    def gradient(self, values: Sequence[Values]) -> list[Values]:
        """4x4 values of the gradient for the results to 6x6 factors."""
        return self._both(values, self._gradient_line)

    def filter_gradient(self, values: Sequence[Values]) -> list[Values]:
        """6x6 sums of products to the 3x3 values of the gradient for a filter."""
        return self._both(values, self._filter_gradient_line)

    def _both(self, values: Sequence[Values], line: Line) -> list[Values]:
        columns = [line(list(column)) for column in zip(*values, strict=True)]
        return [line(list(row)) for row in zip(*columns, strict=True)]

    def _image_line(self, d: Values) -> Values:
        """Products of (x - point) over all points but one, as coefficients for the values."""
        first = self._add(_A * _B, d[0], self._add(-(_A + _B), d[2], d[4]))
        last = self._add(_A * _B, d[1], self._add(-(_A + _B), d[3], d[5]))
        found = [first]
        for point, square in ((_P, _B), (_Q, _A)):
            even, odd = self._add(-square, d[2], d[4]), self._add(-square, d[1], d[3])
            found += [self._add(point, odd, even), self._add(-point, odd, even)]
        return [*found, last]

    def _filter_line(self, g: Values) -> Values:
        """The filter as a polynomial, at the points."""
        found = [self._times(1 / (_A * _B), g[0])]
        for point, square, other in ((_P, _A, _B), (_Q, _B, _A)):
            scale = 1 / (2 * square * (square - other))
            even = self._times(scale, self._add(square, g[2], g[0]))
            found += [self._add(point * scale, g[1], even), self._add(-point * scale, g[1], even)]
        return [*found, g[2]]

    def _gradient_line(self, g: Values) -> Values:
        """Likewise, of a polynomial with one term more."""
        found = [self._times(1 / (_A * _B), g[0])]
        for point, square, other in ((_P, _A, _B), (_Q, _B, _A)):
            scale = 1 / (2 * square * (square - other))
            even = self._times(scale, self._add(square, g[2], g[0]))
            odd = self._add(square, g[3], g[1])
            found += [self._add(point * scale, odd, even), self._add(-point * scale, odd, even)]
        return [*found, g[3]]

    def _filter_gradient_line(self, m: Values) -> Values:
        builder = self.builder
        s, t = builder.fadd(m[1], m[2]), builder.fadd(m[3], m[4])
        d, e = builder.fsub(m[1], m[2]), builder.fsub(m[3], m[4])
        return [
            builder.fadd(m[0], builder.fadd(s, t)),
            self._add(_P, d, self._times(_Q, e)),
            self._add(_A, s, self._add(_B, t, m[5])),
        ]

    def _result_line(self, m: Values) -> Values:
        builder = self.builder
        s, t = builder.fadd(m[1], m[2]), builder.fadd(m[3], m[4])
        d, e = builder.fsub(m[1], m[2]), builder.fsub(m[3], m[4])
        return [
            builder.fadd(m[0], builder.fadd(s, t)),
            self._add(_P, d, self._times(_Q, e)),
            self._add(_A, s, self._times(_B, t)),
            self._add(_P * _A, d, self._add(_Q * _B, e, m[5])),
        ]

    def _times(self, factor: float, x: ir.Value) -> ir.Value:
        return self.builder.fmul(constant(x.type, factor), x)

    def _add(self, factor: float, x: ir.Value, y: ir.Value) -> ir.Value:
        """factor * x + y."""
        return intrinsic(self.builder, "fmuladd", x.type, [constant(x.type, factor), x, y])
