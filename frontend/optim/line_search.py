"""A line search for the strong Wolfe conditions, with cubic interpolation.

Nocedal and Wright, "Numerical Optimization", algorithms 3.5 and 3.6, in the form of minFunc and
PyTorch. Along the line all is host numbers; only the gradients are tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from braze.tensors import Tensor


class Point(NamedTuple):
    """A place on the line.

    Attributes:
        t: how far along the direction.
        f: the objective there.
        slope: its derivative along the direction.
        gradient: all of it.
    """

    t: float
    f: float
    slope: float
    gradient: Tensor


def interpolated(a: Point, b: Point, bounds: tuple[float, float] | None = None) -> float:
    """The minimum, within the bounds (a and b by default), of the cubic through two points with
    these slopes; the middle if there is none."""
    if bounds is None:
        bounds = (a.t, b.t) if a.t <= b.t else (b.t, a.t)
    low, high = bounds
    with np.errstate(all="ignore"):
        values = [(np.float64(p.t), np.float64(p.f), np.float64(p.slope)) for p in (a, b)]
        (x1, f1, g1), (x2, f2, g2) = values
        first = g1 + g2 - 3 * (f1 - f2) / (x1 - x2)
        square = first**2 - g1 * g2
        if not square >= 0:
            return (low + high) / 2.0
        root = np.sqrt(square)
        if x1 <= x2:
            best = x2 - (x2 - x1) * ((g2 + root - first) / (g2 - g1 + 2 * root))
        else:
            best = x1 - (x1 - x2) * ((g1 + root - first) / (g1 - g2 + 2 * root))
    return min(max(float(best), low), high)


class StrongWolfe:
    """One search.

    Args:
        evaluate: the point at some t.
        start: the point at 0.
        size: the largest element of the direction.
        most: how many evaluations there may be after the first.

    Attributes:
        evaluations: how many there were.
    """

    def __init__(
        self,
        evaluate: Callable[[float], Point],
        start: Point,
        size: float,
        most: int,
        tolerance_change: float = 1e-9,
        c1: float = 1e-4,
        c2: float = 0.9,
    ) -> None:
        self.evaluate = evaluate
        self.start = start
        self.size = size
        self.most = most
        self.tolerance_change = tolerance_change
        self.c1, self.c2 = c1, c2
        self.evaluations = 0
        self._rounds = 0

    def _at(self, t: float) -> Point:
        self.evaluations += 1
        return self.evaluate(t)

    def _too_high(self, point: Point) -> bool:
        start = self.start
        return point.f > start.f + self.c1 * point.t * start.slope

    def _flat(self, point: Point) -> bool:
        return abs(point.slope) <= -self.c2 * self.start.slope

    def search(self, t: float) -> Point:
        """The point to go to; t is tried first."""
        bracket = self._bracket(t)
        if len(bracket) == 1:
            return bracket[0]
        return self._zoom(bracket)

    def _bracket(self, t: float) -> list[Point]:
        """Two points with one that fits between them, or one that does."""
        before, point = self.start, self._at(t)
        while self._rounds < self.most:
            if self._too_high(point) or (self._rounds > 1 and point.f >= before.f):
                return [before, point]
            if self._flat(point):
                return [point]
            if point.slope >= 0:
                return [before, point]
            nearest = point.t + 0.01 * (point.t - before.t)
            t = interpolated(before, point, (nearest, point.t * 10))
            before, point = point, self._at(t)
            self._rounds += 1
        return [self.start, point]

    def _zoom(self, bracket: list[Point]) -> Point:
        low, high = (0, 1) if bracket[0].f <= bracket[1].f else (1, 0)
        stuck = False
        while self._rounds < self.most:
            ends = sorted(point.t for point in bracket)
            if (ends[1] - ends[0]) * self.size < self.tolerance_change:
                break
            t, stuck = self._inside(interpolated(bracket[0], bracket[1]), ends, stuck)
            point = self._at(t)
            self._rounds += 1
            if self._too_high(point) or point.f >= bracket[low].f:
                bracket[high] = point
                low, high = (0, 1) if bracket[0].f <= bracket[1].f else (1, 0)
                continue
            done = self._flat(point)
            if not done and point.slope * (bracket[high].t - bracket[low].t) >= 0:
                bracket[high] = bracket[low]
            bracket[low] = point
            if done:
                break
        return bracket[low]

    def _inside(self, t: float, ends: list[float], stuck: bool) -> tuple[float, bool]:
        """Keep a tenth of the bracket away from its ends, at the latest the second time."""
        margin = 0.1 * (ends[1] - ends[0])
        if not min(ends[1] - t, t - ends[0]) < margin:
            return t, False
        if not (stuck or t >= ends[1] or t <= ends[0]):
            return t, True
        at_end = abs(t - ends[1]) < abs(t - ends[0])
        return (ends[1] - margin if at_end else ends[0] + margin), False
