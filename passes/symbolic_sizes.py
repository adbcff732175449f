"""The sizes at which a program for many sizes is looked at.

In: sizes that one program is wanted for, and whether the passes make alike kernels for others.
Out: the sample, for which decisions are taken; sizes near it, to find functions from; and a range
that these functions are tried at the ends of.

All of them are primes, and those of several dimensions different: passes ask whether one size can
be divided, or equals another, and what they do where it does not serves all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product
from math import isqrt

from braze.ir.polynomials import Interpolation, Point
from braze.passes.symbolic_fit import NotSymbolic, sized

Holds = Callable[[Point], bool]

# Of so many sizes near the sample, on either side, the first two that have its kernels are taken to
# find functions from, and one more where it is to be seen whether these are right.
_NEAR = 5
_NEEDED = 2
# How far from the sample it is worth serving: beyond, chunks and tiles are too many or too few.
_FACTORS = (8, 4, 2)
# What has been seen so far may be the middle of what comes: so many times its breadth.
_BEYOND = 2


def primes_from(number: int, step: int = 1) -> Iterator[int]:
    """The primes from a number upwards, or downwards."""
    while number >= 2 or step > 0:
        if number >= 2 and all(number % d for d in range(2, isqrt(number) + 1)):
            yield number
        number += step


def sample_for(sizes: Point, free: Sequence[int]) -> Point:
    """The sizes to take decisions for, near some that are wanted.

    Args:
        free: the dimensions that the program is to serve many sizes of.
    """
    made, taken = list(sizes), set[int]()
    for dim in free:
        made[dim] = next(prime for prime in primes_from(sizes[dim]) if prime not in taken)
        taken.add(made[dim])
    return tuple(made)


def with_size(sizes: Point, dim: int, size: int) -> Point:
    """The same sizes but for one dimension."""
    return *sizes[:dim], size, *sizes[dim + 1 :]


def near_sizes(
    sample: Point, free: Sequence[int], is_alike: Holds
) -> tuple[Interpolation, Callable[[], list[Point]]]:
    """Sizes with alike kernels: those to find functions from, and what gives further ones to try
    them at.

    Raises:
        NotSymbolic: there are too few; so does the function.
    """
    nodes, others = [[size] for size in sample], list[Iterator[int]]()
    taken = {sample[dim] for dim in free}
    refusal = NotSymbolic(f"sizes near {sized(sample)} are compiled to other kernels")
    for dim in free:
        around = (size for size in _near(sample[dim]) if size not in taken)
        alike = (size for size in around if is_alike(with_size(sample, dim, size)))
        found = list(islice(alike, _NEEDED))
        if len(found) < _NEEDED:
            raise refusal
        taken.update(found)
        nodes[dim] += found
        others.append(alike)
    near = Interpolation(nodes)

    def further() -> list[Point]:
        points = []
        for dim, alike in zip(free, others, strict=True):
            size = next(alike, None)
            if size is None:
                raise refusal
            taken.add(size)
            points.append(with_size(sample, dim, size))
        if len(free) > 1:
            points.append(tuple(own[-1] for own in nodes))
            if not all(map(is_alike, [*near.points, *points])):
                raise refusal
        return points

    return near, further


def _near(sample: int) -> Iterator[int]:
    """Primes near a prime, first those above it."""
    yield from islice(primes_from(sample + 1), _NEAR)
    yield from islice(primes_from(sample - 1, -1), _NEAR)


def served_range(
    sample: Point, free: Sequence[int], seen: Sequence[Point], holds: Holds
) -> tuple[Point, Point]:
    """The smallest and the largest sizes for which functions are known to hold: tried at all
    corners of what is between them.

    Args:
        seen: sizes that should be served if possible.

    Raises:
        NotSymbolic: there is no more than the sample, in some dimension.
    """
    ends: list[_End] = []
    for dim in free:
        least = min(sizes[dim] for sizes in (*seen, sample))
        most = max(sizes[dim] for sizes in (*seen, sample))
        own, beyond = sample[dim], _BEYOND * (most - least)
        above = [most * 2, *(own * f for f in _FACTORS), most + beyond, most, own + 1]
        below = [2, least // 2, least - beyond, least, *(own // f for f in _FACTORS), own - 1]
        ends.append(_End(sample, dim, filter(own.__lt__, map(_prime_above, above)), holds))
        ends.append(_End(sample, dim, filter(own.__gt__, map(_prime_below, below)), holds))
    while wrong := _wrong_corner(sample, ends, holds):
        # The farther end comes nearer.
        max(wrong, key=_End.distance).narrow()
    lowest, highest = sample, sample
    for end in ends:
        lowest = with_size(lowest, end.dim, min(lowest[end.dim], end.size))
        highest = with_size(highest, end.dim, max(highest[end.dim], end.size))
    if any(lowest[dim] == highest[dim] for dim in free):
        raise NotSymbolic(f"no other size than {sized(sample)} is compiled to such kernels")
    return lowest, highest


class _End:
    """One end of one dimension's range: the first of some sizes at which functions hold."""

    def __init__(self, sample: Point, dim: int, sizes: Iterator[int], holds: Holds) -> None:
        self.dim, self._own = dim, sample[dim]
        self._sizes = (size for size in sizes if holds(with_size(sample, dim, size)))
        self.size = self._own
        self.narrow()

    def narrow(self) -> None:
        self.size = next(self._sizes, self._own)

    def distance(self) -> float:
        return max(self.size / self._own, self._own / self.size)


def _wrong_corner(sample: Point, ends: Sequence[_End], holds: Holds) -> list[_End]:
    """The ends that meet at a corner where functions do not hold."""
    pairs = [[end for end in ends if end.dim == dim] for dim in dict.fromkeys(e.dim for e in ends)]
    for corner in product(*pairs) if len(pairs) > 1 else ():
        sizes = sample
        for end in corner:
            sizes = with_size(sizes, end.dim, end.size)
        if not holds(sizes) and not _holds_beside(sizes, corner, holds):
            return list(corner)
    return []


def _holds_beside(sizes: Point, corner: Sequence[_End], holds: Holds) -> bool:
    """Of equal sizes there may be other kernels; whether it holds where one of them is larger."""
    if len({end.size for end in corner}) > 1:
        return False
    return all(holds(with_size(sizes, end.dim, _prime_above(end.size + 1))) for end in corner)


def _prime_above(size: int) -> int:
    return next(primes_from(size))


def _prime_below(size: int) -> int:
    return next(primes_from(size, -1), 2)
