"""The gradient of a strided convolution for its input, without multiplying inserted zeros.

In x[i] = sum over o * s + k * d - p = i of out[o] * weight[k], positions i whose i + p leave the
same remainder on division by s, a *phase*, meet the same taps k, and along a phase the sum is a
convolution of stride 1 with these taps alone. For a stride of 2 and 3 taps: 2 taps for even i + p
and 1 for odd ones, where `out` with zeros between its elements would meet all 3 each time.

Where every phase has equally many taps, the phases are further columns of one contraction, which
the weight, reshaped, and the result, reshaped back, lay side by side, or, where half of them begin
one element of `out` later, its batch dimensions. Few channels have all phases beside them in the
weight, which is stored so before. Otherwise each is a contraction of its own, and
the results are put in between each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import gcd, prod
from typing import Any

from braze.ir.ops.composite import Ints, cut


@dataclass(frozen=True, slots=True)
class Phase:
    """One dimension's positions phase, phase + s, ..., and what they are made of.

    first, step, taps: the taps that they meet. dilation: between windows' elements of `out`.
    low, high: zeros around `out` so that there is a window for each position; negative: cropped.
    """

    first: int
    step: int
    taps: int
    dilation: int
    low: int
    high: int


def phases(
    size: int, n: int, kernel: int, stride: int, padding: int, dilation: int
) -> list[Phase | None]:
    """The phases of a dimension of `size`, each of ceil(size / stride) positions; None meets no
    tap.

    Args:
        n: size of `out`.
    """
    common = gcd(stride, dilation)
    step = stride // common
    count = -(-size // stride)
    found: list[Phase | None] = []
    for number in range(min(stride, size)):
        begin, remainder = divmod(number + padding, stride)
        meeting = (k for k in range(min(step, kernel)) if (k * dilation - remainder) % stride == 0)
        first = next(meeting, None)
        if first is None:
            found.append(None)
            continue
        taps = len(range(first, kernel, step))
        # Tap `first` meets out[begin + ahead + q] at position q, each further one what is `apart`
        # before.
        ahead = (remainder - first * dilation) // stride
        apart = dilation // common
        low = (taps - 1) * apart - begin - ahead
        found.append(Phase(first, step, taps, apart, low, begin + ahead + count - n))
    return found


def interleaved(
    b: Any,
    phases_of: list[list[Phase | None]],
    size: Ints,
    stride: Ints,
    first_dim: int,
    make: Callable[[list[Phase]], Any],
) -> Any | None:
    """The result of all phases of all dimensions; None where no position meets a tap.

    Args:
        size: of the result. first_dim: the number of the first spatial dimension in it.
        make: the result of one phase of each dimension.
    """

    def build(chosen: list[Phase]) -> Any | None:
        at = len(chosen)
        if at == len(phases_of):
            return make(chosen)
        parts = [None if p is None else build([*chosen, p]) for p in phases_of[at]]
        return _side_by_side(b, parts, size[at], stride[at], first_dim + at)

    return build([])


def _side_by_side(b: Any, parts: list[Any], size: int, stride: int, dim: int) -> Any | None:
    """One dimension's elements 0 of all parts, then 1, and so on; None stands for zeros."""
    present = [part for part in parts if part is not None]
    if not present:
        return None
    if stride == 1:
        return present[0]
    shape = present[0].type.shape
    if len(present) == 1:
        return _between_zeros(b, present[0], size, stride, dim, parts.index(present[0]))
    zeros = None
    if len(present) < len(parts):
        zeros = b.full(shape=shape, value=0.0, dtype=present[0].type.dtype)
    apart = (*shape[: dim + 1], 1, *shape[dim + 1 :])
    pieces = [b.reshape(zeros if part is None else part, shape=apart) for part in parts]
    joined = b.concat(*pieces, dim=dim + 1)
    whole = (*shape[:dim], shape[dim] * len(parts), *shape[dim + 1 :])
    joined = b.reshape(joined, shape=whole)
    return joined if whole[dim] == size else cut(b, joined, dim, 0, size)


def _between_zeros(b: Any, part: Any, size: int, stride: int, dim: int, number: int) -> Any:
    count = len(range(number, size, stride))
    part = part if part.type.shape[dim] == count else cut(b, part, dim, 0, count)
    nothing = (0,) * part.type.rank

    def here(amount: int) -> Ints:
        return (*nothing[:dim], amount, *nothing[dim + 1 :])

    high = size - number - (count - 1) * stride - 1
    return b.pad(part, low=here(number), high=here(high), interior=here(stride - 1), value=0.0)


# Phases of equally many taps ----------------------------------------------------------------------

# Phases are made alike with zeros for missing taps if that multiplies no more products than this.
MOST_GROWTH = 1.5
# More contractions than this are not made for one convolution.
MOST_PHASES = 16
# Phases that fill a vector by themselves.
FEWEST_NEIGHBOURS = 8


def are_uniform(kernel: Ints, stride: Ints, dilation: Ints) -> bool:
    """Whether all phases meet equally many taps, or nearly: they are columns of one contraction."""
    growth = 1.0
    for k, s, d in zip(kernel, stride, dilation, strict=True):
        if s > 1 and d > 1:
            return False
        growth *= -(-k // s) * s / k
    return growth <= MOST_GROWTH


def are_narrow(stride: Ints) -> bool:
    """Whether few phases lie side by side in a weight, and few parts of it hold them all."""
    return stride[-1] < FEWEST_NEIGHBOURS and prod(stride) <= MOST_PHASES


def are_few(phases_of: list[list[Phase | None]]) -> bool:
    """Whether a contraction for each combination of phases is a sensible number of them."""
    return prod(sum(p is not None for p in found) for found in phases_of) <= MOST_PHASES
