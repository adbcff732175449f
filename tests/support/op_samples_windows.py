"""Samplers of windows that are gathered or put side by side: adaptive and fractional pooling,
blocks as columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from op_samples import Draw, Sample, sampler

# Input, output: not all bins are of one size.
ADAPTIVE = (
    ((1, 2, 5), (2,)), ((2, 1, 5, 6), (2, 4)), ((1, 2, 3, 4), (4, 3)), ((1, 1, 2, 3, 2), (1, 2, 3)),
    ((0, 1, 3), (2,)), ((1, 3, 13, 11), (6, 5)),
)  # fmt: skip


@sampler("adaptive_max_pool")
def _adaptive(draw: Draw) -> Iterator[Sample]:
    for x, output in ADAPTIVE:
        yield Sample([draw(*x)], {"output": output}, gradients=13 not in x)


# Input, kernel, output.
FRACTIONAL = (
    ((1, 2, 6), (2,), (3,)), ((2, 1, 5, 6), (2, 3), (4, 1)), ((1, 2, 4, 4), (2, 2), (2, 3)),
    ((1, 1, 3, 5, 4), (1, 2, 2), (2, 3, 3)), ((0, 1, 5), (2,), (3,)),
    ((2, 3, 11, 9), (3, 2), (5, 6)),
)  # fmt: skip


@sampler("fractional_max_pool")
def _fractional(draw: Draw) -> Iterator[Sample]:
    for x, kernel, output in FRACTIONAL:
        # Away from 0, 1 and where a window would begin elsewhere in another dtype.
        samples = draw(*x[:2], len(output), domain=(0.05, 0.95))
        attributes = {"kernel": kernel, "output": output}
        yield Sample([draw(*x), samples], attributes, gradients=11 not in x)


# Input, kernel, stride, padding, dilation.
BLOCKS = (
    ((1, 2, 5), (2,), (2,), (1,), (1,)), ((2, 1, 4, 3), (2, 2), (1, 2), (1, 0), (2, 1)),
    ((1, 2, 4, 6), (2, 3), (2, 3), (0, 0), (1, 1)), ((1, 2, 5, 4), (2, 2), (2, 2), (0, 0), (1, 1)),
    ((1, 1, 2, 3, 3), (1, 2, 2), (1, 1, 2), (0, 1, 0), (1, 1, 1)),
    ((0, 1, 3, 3), (2, 2), (1, 1), (0, 0), (1, 1)), ((2, 3, 9, 8), (3, 3), (1, 1), (1, 1), (1, 1)),
)  # fmt: skip


@sampler("im2col", "col2im")
def _blocks(draw: Draw) -> Iterator[Sample]:
    for x, kernel, stride, padding, dilation in BLOCKS:
        attributes = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
        small = 9 not in x
        if draw.op.name == "im2col":
            yield Sample([draw(*x)], attributes, gradients=small)
            continue
        count = math.prod(
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(x[2:], kernel, stride, padding, dilation, strict=True)
        )
        columns = draw(x[0], x[1] * math.prod(kernel), count)
        yield Sample([columns], {**attributes, "output": x[2:]}, gradients=small)
