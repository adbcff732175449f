"""Samplers of attention and its gradient."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from op_samples import Draw, Sample, sampler

import braze.ir as ir

# Leading sizes, queries, keys, width of queries and keys, of values. Derivatives are checked of the
# first one, which is small.
SIZES = (
    ((), 2, 2, 1, 1),
    ((2,), 3, 4, 5, 18),
    ((2, 2), 70, 37, 17, 16),
    ((1, 3), 17, 1, 1, 33),
    ((2,), 130, 70, 4, 3),
    ((2,), 3, 0, 2, 2),
    ((2,), 0, 3, 2, 2),
    ((0,), 3, 3, 2, 2),
    ((1,), 3, 5, 0, 2),
)
NAMES = [f"attention{m}{d}" for m in ("", "_masked") for d in ("", "_dropout")]


def _extra(draw: Draw, lead: tuple[int, ...], queries: int, keys: int) -> list[np.ndarray]:
    found = []
    if "masked" in draw.op.name:
        found.append(draw(*lead, queries, keys))
    if "dropout" in draw.op.name:
        found += [np.asarray(np.int64(number)) for number in (2**40 + 7, 13)]
    return found


@sampler(*NAMES)
def _attention(draw: Draw) -> Iterator[Sample]:
    for number, (lead, queries, keys, width, columns) in enumerate(SIZES):
        operands = [
            draw(*lead, queries, width),
            draw(*lead, keys, width),
            draw(*lead, keys, columns),
            *_extra(draw, lead, queries, keys),
        ]
        for causal in (False, True) if number < 3 else (True,):
            settings = {"scale": 0.75, "causal": causal}
            if "dropout" in draw.op.name:
                settings["p"] = 0.25
            yield Sample(operands, dict(settings), gradients=number == 0)
    if "masked" in draw.op.name and draw.dtype in (ir.f32, ir.f64):
        q, k, v, mask, *state = operands = [
            draw(2, 20, 3), draw(2, 6, 3), draw(2, 6, 3), *_extra(draw, (2,), 20, 6),
        ]  # fmt: skip
        mask[0, :, :4] = -np.inf
        mask[1, 7] = -np.inf  # a query that sees nothing
        yield Sample(operands, settings, gradients=False)


@sampler(*(f"{name}_grad" for name in NAMES))
def _attention_grad(draw: Draw) -> Iterator[Sample]:
    for number, (lead, queries, keys, width, columns) in enumerate(SIZES):
        operands = [
            draw(*lead, queries, columns),
            draw(*lead, queries, width),
            draw(*lead, keys, width),
            draw(*lead, keys, columns),
            draw(*lead, queries, domain=(1.0, 3.0)),
            draw(*lead, queries),
            *_extra(draw, lead, queries, keys),
        ]
        settings = {"scale": 0.75, "causal": number % 2 == 1, "parts": 1 + number % 3}
        if "dropout" in draw.op.name:
            settings["p"] = 0.25
        yield Sample(operands, settings, gradients=number == 0)
