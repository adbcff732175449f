"""Samplers of what networks are made of: convolutions, pooling, normalisation, losses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from op_samples import Draw, Sample, sampler

import braze.ir as ir

# Convolutions -------------------------------------------------------------------------------------

# Input, weight, stride, padding, dilation, groups.
CONVOLUTIONS = (
    ((2, 2, 5), (3, 2, 2), (2,), (1,), (1,), 1),
    ((1, 2, 4, 3), (2, 2, 2, 2), (1, 2), (1, 0), (2, 1), 1),
    ((1, 4, 3, 3), (4, 2, 2, 1), (1, 1), (0, 1), (1, 1), 2),
    ((1, 1, 2, 2, 3), (2, 1, 2, 1, 2), (1, 1, 1), (0, 0, 1), (1, 1, 1), 1),
    ((0, 1, 3), (1, 1, 1), (1,), (0,), (1,), 1),
    ((1, 2, 5), (2, 1, 3), (3,), (2,), (1,), 2),
    ((2, 5, 9, 8), (17, 5, 3, 3), (1, 1), (1, 1), (1, 1), 1),
)


def _geometry(stride, padding, dilation, groups):  # type: ignore[no-untyped-def]
    return {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


def _conv_size(x, weight, stride, padding, dilation):  # type: ignore[no-untyped-def]
    return tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(x[2:], weight[2:], stride, padding, dilation, strict=True)
    )


@sampler("conv", "conv_no_bias", "conv_input_grad", "conv_weight_grad", "conv_transpose")
def _convolutions(draw: Draw) -> Iterator[Sample]:
    name = draw.op.name
    for x, weight, stride, padding, dilation, groups in CONVOLUTIONS:
        attributes = _geometry(stride, padding, dilation, groups)
        size = _conv_size(x, weight, stride, padding, dilation)
        out = (x[0], weight[0], *size)
        small = 17 not in weight
        if name == "conv":
            operands = [draw(*x), draw(*weight), draw(weight[0])]
        elif name == "conv_no_bias":
            operands = [draw(*x), draw(*weight)]
        elif name == "conv_input_grad":
            operands = [draw(*out), draw(*weight)]
            attributes["input_size"] = x[2:]
        elif name == "conv_weight_grad":
            operands = [draw(*x), draw(*out)]
            attributes["kernel"] = weight[2:]
        else:
            operands = [draw(*out), draw(*weight)]
            attributes["output_padding"] = tuple(s - 1 for s in stride)
        yield Sample(operands, attributes, gradients=small)


# Pooling ------------------------------------------------------------------------------------------

# Input, kernel, stride, padding, dilation, ceil_mode.
POOLS = (
    ((1, 2, 5), (2,), (2,), (1,), (1,), False),
    ((2, 1, 4, 4), (2, 2), (2, 2), (0, 0), (1, 1), False),
    ((1, 2, 4, 5), (3, 2), (1, 2), (1, 0), (1, 1), True),
    ((1, 1, 3, 4, 3), (2, 2, 2), (1, 2, 1), (0, 1, 0), (1, 1, 1), False),
    ((0, 1, 4), (2,), (1,), (0,), (1,), False),
    ((1, 1, 7), (3,), (2,), (1,), (2,), True),
)


def _pool_size(x, kernel, stride, padding, dilation, ceil):  # type: ignore[no-untyped-def]
    sizes = []
    for n, k, s, p, d in zip(x[2:], kernel, stride, padding, dilation, strict=True):
        room = n + 2 * p - d * (k - 1) - 1
        count = -(-room // s) + 1 if ceil else room // s + 1
        if ceil and (count - 1) * s >= n + p:
            count -= 1
        sizes.append(count)
    return tuple(sizes)


@sampler("avg_pool", "avg_pool_grad")
def _average_pools(draw: Draw) -> Iterator[Sample]:
    for number, (x, kernel, stride, padding, _, ceil) in enumerate(POOLS):
        attributes = {
            "kernel": kernel,
            "stride": stride,
            "padding": padding,
            "ceil_mode": ceil,
            "count_include_pad": bool(number % 2),
        }
        shape = x
        if draw.op.name == "avg_pool_grad":
            shape = (*x[:2], *_pool_size(x, kernel, stride, padding, (1,) * len(kernel), ceil))
            attributes["input_size"] = x[2:]
        yield Sample([draw(*shape)], attributes)


ADAPTIVE = (
    ((1, 2, 5), (2,)), ((1, 1, 4, 6), (2, 3)), ((2, 1, 3, 4), (4, 3)), ((1, 1, 2, 3, 2), (1, 2, 2)),
    ((0, 1, 3), (2,)),
)  # fmt: skip


@sampler("adaptive_avg_pool")
def _adaptive(draw: Draw) -> Iterator[Sample]:
    for x, output in ADAPTIVE:
        yield Sample([draw(*x)], {"output": output})


@sampler("adaptive_avg_pool_grad")
def _adaptive_grad(draw: Draw) -> Iterator[Sample]:
    for x, output in ADAPTIVE:
        yield Sample([draw(*x[:2], *output)], {"input_size": x[2:]})


def _adjoint(places: np.ndarray, weights: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The tables of a resampling the other way."""
    taps, count = weights.shape
    table = np.zeros((count, size), weights.dtype)
    for t, o in np.ndindex(taps, count):
        table[o, min(max(places[t, o], 0), size - 1)] += weights[t, o]
    return np.repeat(np.arange(count, dtype=np.int32)[:, None], size, 1), table


@sampler("resample")
def _resample(draw: Draw) -> Iterator[Sample]:
    for shape, dim, count, taps in [
        ((2, 5), 1, 4, 2), ((3, 2, 4), 0, 7, 1), ((0, 3), 1, 2, 3), ((4,), 0, 3, 9),
        ((2, 3, 17), 2, 33, 2),
    ]:  # fmt: skip
        places = draw.whole(taps, count, low=-2, high=shape[dim] + 1, dtype=ir.i32)
        weights = draw(taps, count)
        yield Sample([draw(*shape), places, weights, *_adjoint(places, weights, shape[dim])],
                     {"dim": dim})  # fmt: skip


@sampler("max_pool", "max_pool_grad", "max_pool_pick")
def _max_pools(draw: Draw) -> Iterator[Sample]:
    name = draw.op.name
    for x, kernel, stride, padding, dilation, ceil in POOLS:
        attributes = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
        out = (*x[:2], *_pool_size(x, kernel, stride, padding, dilation, ceil))
        if name == "max_pool":
            yield Sample([draw(*x)], {**attributes, "ceil_mode": ceil})
            continue
        # Taps that lie in the input, as those that `max_pool` gives do.
        taps = np.zeros(out, np.uint8)
        for place in np.ndindex(*out):
            inside = [
                number
                for number, tap in enumerate(np.ndindex(*kernel))
                if all(
                    0 <= o * s - p + t * d < n
                    for o, s, p, t, d, n in zip(
                        place[2:], stride, padding, tap, dilation, x[2:], strict=True
                    )
                )
            ]
            taps[place] = draw.random.choice(inside)
        if name == "max_pool_grad":
            yield Sample([draw(*out), taps], {**attributes, "input_size": x[2:]})
        else:
            yield Sample([draw(*x), taps], attributes)


# Normalisation ------------------------------------------------------------------------------------


def _vector(draw: Draw, number: int, *shape: int) -> np.ndarray:
    """In the dtype of the rest, or, every other time, in that of the statistics."""
    wide = draw.dtype in (ir.f16, ir.bf16) and number % 2
    return draw(*shape, dtype=ir.f32 if wide else None)


@sampler("batch_norm_train", "batch_norm_eval")
def _batch_norm(draw: Draw) -> Iterator[Sample]:
    for number, shape in enumerate(((3, 2), (2, 3, 2), (2, 1, 2, 2), (0, 2), (41, 3))):
        operands = [draw(*shape)]
        operands += [_vector(draw, number, shape[1]) for _ in draw.op.operands[1:]]
        small = shape not in ((0, 2), (41, 3))
        yield Sample(operands, {"epsilon": 0.01}, gradients=small, optional=0 in shape)


@sampler("layer_norm")
def _layer_norm(draw: Draw) -> Iterator[Sample]:
    for number, (shape, dims) in enumerate(
        (((2, 4), 1), ((2, 2, 3), 2), ((3,), 1), ((0, 2), 1), ((3, 50), 1))
    ):
        vectors = [_vector(draw, number, *shape[-dims:]) for _ in range(2)]
        attributes = {"dims": dims, "epsilon": 0.01}
        yield Sample([draw(*shape), *vectors], attributes, gradients=50 not in shape)


@sampler("group_norm")
def _group_norm(draw: Draw) -> Iterator[Sample]:
    for number, (shape, groups) in enumerate(
        (((2, 4), 2), ((1, 2, 3), 2), ((2, 3, 2, 1), 1), ((0, 2, 2), 1))
    ):
        vectors = [_vector(draw, number, shape[1]) for _ in range(2)]
        yield Sample([draw(*shape), *vectors], {"groups": groups, "epsilon": 0.01})


# Losses of classes --------------------------------------------------------------------------------

CLASSES = (
    ((3, 4), "mean"), ((2, 3, 2), "none"), ((5,), "sum"), ((2, 2, 1, 3), "mean"), ((1, 1), "mean"),
    ((0, 3), "sum"), ((33, 10), "mean"),
)  # fmt: skip


@sampler(
    "nll_loss", "nll_loss_weighted", "cross_entropy", "cross_entropy_weighted",
    "cross_entropy_grad", "cross_entropy_weighted_grad",
)  # fmt: skip
def _losses(draw: Draw) -> Iterator[Sample]:
    op = draw.op
    for number, (shape, reduction) in enumerate(CLASSES):
        dim = 0 if len(shape) == 1 else 1
        rows = (*shape[:dim], *shape[dim + 1 :])
        target = draw.whole(*rows, high=shape[dim])
        if target.size > 2:
            target.flat[1] = -100  # does not count
        operands = [draw(*shape), target]
        if "weight" in op.operands:
            operands.append(draw(shape[dim], domain=(0.5, 2.0)))
        if op.operands[0] == "out":
            operands.insert(0, draw(*(rows if reduction == "none" else ())))
        attributes = {"reduction": reduction, "ignore_index": -100}
        if "label_smoothing" in op.attributes:
            attributes["label_smoothing"] = (0.0, 0.1)[number % 2]
        yield Sample(operands, attributes, gradients=33 not in shape)


LATTICES = (
    (4, 2, 5), (1, 2, 3), (3, 1, 1), (2, 3, 2), (0, 2, 3), (3, 0, 2), (7, 2, 19), (5, 40, 9),
)  # fmt: skip


@sampler("lattice_sum")
def _lattice_sum(draw: Draw) -> Iterator[Sample]:
    for shape in LATTICES:
        factors = (draw(*shape, domain=(0.1, 0.9)) for _ in range(3))
        yield Sample([draw(*shape), *factors], gradients=shape[1] < 40)


@sampler("lattice_logsum")
def _lattice_logsum(draw: Draw) -> Iterator[Sample]:
    for shape in LATTICES:
        skips = draw.random.integers(0, 2, shape[1:]).astype(bool)
        # States that cannot be reached are -inf, of which no differences can be taken.
        yield Sample([draw(*shape), skips], gradients=shape[2] <= 2)
