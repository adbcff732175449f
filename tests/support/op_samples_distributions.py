"""Samplers of what distributions are made of: regions, categories, draws by weight."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from op_samples import Draw, Sample, sampler


@sampler("check_truth")
def _check_truth(draw: Draw) -> Iterator[Sample]:
    for shape in ((), (3,), (0, 2), (2, 40)):
        for wanted in (True, False):
            kept = np.full(shape, wanted).astype(draw.dtype.numpy)
            yield Sample([kept], {"wanted": wanted, "message": "check"})


@sampler("check_interval")
def _check_interval(draw: Draw) -> Iterator[Sample]:
    inf = float("inf")
    names = ("low", "high", "open_low", "open_high", "integer")
    for values, *bounds in (
        ((0, 1, 3), 0, 3, False, False, True), ((1, 2), 0, 3, True, True, False),
        ((0, 2), 0, inf, False, True, False), ((0, 1), -inf, 1, True, False, True),
        ((7, 0, 9), -inf, inf, False, False, False), ((), 0, 0, True, True, True),
    ):  # fmt: skip
        given = np.array(values).astype(draw.dtype.numpy)
        yield Sample([given], {**dict(zip(names, bounds, strict=True)), "message": "check"})


@sampler("check_simplex")
def _check_simplex(draw: Draw) -> Iterator[Sample]:
    whole = [[0, 1, 0], [1, 0, 0]]
    parts = [[0.25, 0.5, 0.25], *whole] if draw.dtype.is_differentiable else whole
    given = np.array(parts).astype(draw.dtype.numpy)
    for array in (given, given[0], given[:, None], given[:0]):
        yield Sample([array], {"message": "check"})


@sampler("multinomial")
def _multinomial(draw: Draw) -> Iterator[Sample]:
    state = [np.asarray(1234567), np.asarray(2**33 + 5)]
    for shape in ((4,), (2, 3), (1, 1), (0, 3), (3, 37)):
        for count, replacement in ((1, True), (7, True), (1, False), (shape[-1], False)):
            weights = draw(*shape)
            if shape[-1] > 1:
                weights[..., 1] = 0
            yield Sample([weights, *state], {"count": count, "replacement": replacement})


@sampler("proportions", "proportions_grad")
def _proportions(draw: Draw) -> Iterator[Sample]:
    for shape, dim in (((4,), 0), ((2, 3), 1), ((2, 3), 0), ((0, 3), 1), ((2, 1, 5), 2),
                       ((3, 37), 1)):  # fmt: skip
        yield Sample([draw(*shape) for _ in draw.op.operands], {"dim": dim})


@sampler("log_clamped", "log_clamped_grad")
def _log_clamped(draw: Draw) -> Iterator[Sample]:
    for shape in ((), (3,), (0, 2), (2, 1, 3), (70,)):
        operands = [draw(*shape) for _ in draw.op.operands]
        # No operand is near a multiple of one half.
        yield Sample(operands, {"low": 0.5, "high": 1.0})


PICKED = (
    ((5,), ()), ((5,), (3,)), ((2, 3), (2,)), ((2, 3), ()), ((2, 3), (4, 2)), ((4, 1, 3), (2,)),
    ((0, 3), (0,)), ((1, 37), (6,)),
)  # fmt: skip


@sampler("pick")
def _pick(draw: Draw) -> Iterator[Sample]:
    for shape, index in PICKED:
        yield Sample([draw(*shape), draw.whole(*index, high=shape[-1])])


@sampler("pick_grad")
def _pick_grad(draw: Draw) -> Iterator[Sample]:
    for shape, index in PICKED:
        rows = np.broadcast_shapes(shape[:-1], index)
        yield Sample([draw(*rows), draw.whole(*index, high=shape[-1])], {"shape": shape})
