"""Code of a package for every size of one dimension, or of two.

In: what gives the graph of sizes, and their ranges.  Out: `SizedCode`s, each for ranges of sizes,
that between them serve them all.

A dimension of size 1 is another graph: it vanishes. So of two dimensions there are three parts. Two
are lines, on which one of them is 1 and the other changes, and the third is the rectangle of all
else. A line is covered like the sizes of a single dimension (`_Line`), a rectangle by a few
rectangles that it is cut into around what the code for some sizes is found to serve (`_Plane`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from typing import Any

from braze.ir.polynomials import Point
from braze.ir.target import Target
from braze.runtime.package_codes import SizedCode
from braze.runtime.package_family import MOST_ALONE, STEP, Family, Making, Sizes
from braze.runtime.package_format import PackageError
from braze.runtime.package_narrow import Fold

Box = tuple[Point, Point]

# Up to this size each has code of its own: what is best for a few rows is another thing for each
# number of them. (Not on GPUs, which have threads for many rows.)
_FEW = 8
_LEAST_SAMPLE = 7
_LEAST_SAMPLES = (_LEAST_SAMPLE, _LEAST_SAMPLE)
# Rectangles that sizes of two dimensions are cut into, and lines beside those of size 1.
_MOST_BOXES = 24
_MOST_LINES = 4
_MANY = 64


def codes_for(sizes: Sizes, fold: Fold, target: Target) -> list[SizedCode[Any]]:
    """Code for every size.

    Args:
        fold: computes what depends on weights alone.

    Raises:
        ShapeError: the module computes something else for other sizes; the message has its line.
        PackageError: there is no code for many sizes; the message says why.
    """
    sizes = replace(sizes, graph_at=cache(sizes.graph_at))
    making = Making.of(sizes, fold, target)
    if len(sizes.usual) == 1:
        return _Line(making, sizes.usual, 0).codes()
    return _Plane(making).codes()


class _Line:
    """The sizes of one dimension, where the others have one.

    Args:
        point: sizes of the others.
        lowest: the least size, if it is not the dimension's.
        usual: near which decisions are taken first, if not near the usual one.
        few: sizes up to this one have code of their own.
    """

    def __init__(
        self,
        making: Making,
        point: Point,
        dim: int,
        *,
        lowest: int | None = None,
        usual: int | None = None,
        few: int | None = None,
    ) -> None:
        self._point, self._dim = point, dim
        self._few = (1 if making.target.is_gpu else _FEW) if few is None else few
        sizes = making.sizes
        self._lowest = sizes.dynamic.lowest[dim] if lowest is None else lowest
        self._highest = sizes.dynamic.highest[dim]
        self._name = sizes.dynamic.dims[dim].name
        self._codes: list[SizedCode[Any]] = []
        usual = sizes.usual[dim] if usual is None else usual
        usual = making.within(dim, min(usual, self._highest))
        self._usual = max(_LEAST_SAMPLE, usual)
        self._within = partial(making.within, dim)
        self._family = Family(making, self._at(self._usual), [dim])

    def codes(self) -> list[SizedCode[Any]]:
        """Code for every size.  Raises: ShapeError, PackageError."""
        code = self._add(self._usual)
        (least, most), count = self._ends(code), 0
        while most < self._highest:
            # The farther the sample, the fewer codes; but the passes may decide otherwise there.
            samples = map(self._within, (most * STEP, most * 2, most + 1))
            for near in dict.fromkeys(size for size in samples if size > most):
                low, high = self._ends(self._add(near))
                if low <= most + 1 and high > most:
                    most = high
                    break
                self._codes.pop()
            else:
                self._codes.append(self._family.alone(self._at(most + 1)))
                most += 1
                count += 1
                if count > MOST_ALONE:
                    raise PackageError(
                        f"[package] no code serves the sizes of {self._name} above {most}"
                    )
        while least > max(self._lowest, MOST_ALONE):
            low, high = self._ends(self._add(max(_LEAST_SAMPLE, least // STEP)))
            if high < least - 1 or low >= least:
                raise PackageError(
                    f"[package] no code serves the sizes of {self._name} below {least}"
                )
            least = low
        alone = range(self._lowest, max(least, min(self._highest, self._few) + 1))
        return self._codes + [self._family.alone(self._at(size)) for size in alone]

    def _at(self, size: int) -> Point:
        return *self._point[: self._dim], size, *self._point[self._dim + 1 :]

    def _ends(self, code: SizedCode) -> tuple[int, int]:
        return code.lowest[self._dim], code.highest[self._dim]

    def _add(self, size: int) -> SizedCode[Any]:
        code = self._family.code(self._at(size))
        lowest, highest = self._ends(code)
        lowest = max(lowest, self._lowest)
        # Of a few rows another graph may be made, as layers of the library do: those sizes have
        # code of their own.
        while lowest <= MOST_ALONE and not self._family.describes(self._at(lowest)):
            lowest += 1
        ends = {min(lowest, self._highest), min(highest, self._highest)}
        self._family.require_same([*map(self._at, ends)])
        code = replace(code, lowest=self._at(lowest))
        self._codes.append(code)
        return code


class _Plane:
    """The sizes of two dimensions."""

    def __init__(self, making: Making) -> None:
        self._making = making
        sizes = making.sizes
        self._lowest, self._highest = sizes.dynamic.lowest, sizes.dynamic.highest
        self._usual = tuple(
            max(_LEAST_SAMPLE, making.within(dim, min(usual, highest)))
            for dim, (usual, highest) in enumerate(zip(sizes.usual, self._highest, strict=True))
        )
        self._family = Family(making, self._usual, (0, 1))
        self._codes: list[SizedCode[Any]] = []
        self._refusal: PackageError | None = None

    def codes(self) -> list[SizedCode[Any]]:
        """Code for every choice of sizes.  Raises: ShapeError, PackageError."""
        low = self._least(0), self._least(1)
        ends = [min(low[dim], self._highest[dim] + 1) for dim in (0, 1)]
        lines = [(dim, size) for dim in (0, 1) for size in range(self._lowest[dim], ends[dim])]
        lines += self._cover((low, self._highest))
        for dim, size in lines:
            self._codes += self._line(dim, size, low[0])
        # Lines cross: what is at one place of both is compiled by both.
        by_range: dict[tuple[Point, Point], SizedCode[Any]] = {}
        for code in self._codes:
            by_range.setdefault((code.lowest, code.highest), code)
        return [*by_range.values()]

    def _line(self, dim: int, size: int, low: int) -> list[SizedCode[Any]]:
        """Code for all sizes of the other dimension, where this one has so many."""
        point = (size, 1) if dim == 0 else (1, size)
        # Where both are so small, the first dimension's lines are there already.
        lowest = low if dim == 1 else None
        other = 1 - dim
        if size == 1:
            return _Line(self._making, point, other, lowest=lowest).codes()
        # There are several of these lines, and few rows only where both sizes are small.
        usual = max(self._usual[other], min(self._highest[other] // 2, _MANY))
        return _Line(self._making, point, other, lowest=lowest, usual=usual, few=1).codes()

    def _least(self, dim: int) -> int:
        """From which size on the module computes the same; 1 is always another thing."""
        size = max(2, self._lowest[dim])
        known = self._family.captured.seen[0]
        while size <= MOST_ALONE and not self._family.describes(
            tuple(size if d == dim else own for d, own in enumerate(known))
        ):
            size += 1
        return size

    def _cover(self, box: Box) -> list[tuple[int, int]]:
        """Add code for all of a rectangle, but for some lines: of these the dimension and its
        size."""
        # Of few sizes all may be on lines.
        waiting = [box] if all(map(int.__le__, *box)) else []
        lines = dict[tuple[int, int], None]()
        while waiting:
            box = waiting.pop()
            if len(self._codes) == _MOST_BOXES:
                raise self._making.refused(
                    f"they would be cut into more than {_MOST_BOXES} rectangles, one of which is "
                    f"{_named(box)}"
                )
            code = self._code_for(box)
            if code is not None:
                self._codes.append(code)
                waiting += _outside(box, code)
                continue
            dim = min((0, 1), key=lambda d: box[1][d] - box[0][d])
            lines.update(dict.fromkeys((dim, n) for n in range(box[0][dim], box[1][dim] + 1)))
            if len(lines) > _MOST_LINES:
                raise self._refusal or self._making.refused(
                    f"{_named(box)} are compiled to other kernels"
                )
        return [*lines]

    def _code_for(self, box: Box) -> SizedCode[Any] | None:
        """Code that serves part of a rectangle, as much as possible, or None."""
        tried = set[Point]()
        for step, further in ((STEP, 1), (2, 2), (1, 3)):
            point = tuple(
                max(min(usual * further if low <= usual <= high else low * step, high), least)
                for low, usual, high, least in zip(
                    box[0], self._usual, box[1], _LEAST_SAMPLES, strict=True
                )
            )
            point = tuple(map(self._making.within, (0, 1), point))
            if point in tried:
                continue
            tried.add(point)
            try:
                code = self._family.code(point)
            except PackageError as error:
                self._refusal = error
                continue
            low, high = _met((code.lowest, code.highest), box)
            if all(map(int.__le__, low, high)):
                code = replace(code, lowest=low, highest=high)
                self._family.require_same(code.corners())
                return code
        return None


def _named(box: Box) -> str:
    """A rectangle for people."""
    return " by ".join(f"{a} to {b}" for a, b in zip(*box, strict=True))


def _met(one: Box, other: Box) -> Box:
    """What is in both rectangles."""
    return tuple(map(max, one[0], other[0])), tuple(map(min, one[1], other[1]))


def _outside(box: Box, code: SizedCode) -> list[Box]:
    """What a code leaves of a rectangle, as rectangles: what is below and above it in the second
    dimension, and beside it in the first."""
    (x, y), (x_last, y_last) = box
    (a, b), (a_last, b_last) = code.lowest, code.highest
    parts = [
        ((x, y), (a - 1, y_last)),
        ((a_last + 1, y), (x_last, y_last)),
        ((a, y), (a_last, b - 1)),
        ((a, b_last + 1), (a_last, y_last)),
    ]
    return [part for part in parts if all(map(int.__le__, *part))]
