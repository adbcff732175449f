"""Samplers of the operations whose operands a declaration does not tell: see `op_samples`.

Those over images and of linear algebra are in `op_samples_networks`, `op_samples_windows` and
`op_samples_matrices`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import op_samples_attention  # noqa: F401
import op_samples_complex  # noqa: F401
import op_samples_distributions  # noqa: F401
import op_samples_matrices  # noqa: F401  (fills the table of samplers)
import op_samples_networks  # noqa: F401
import op_samples_recurrent  # noqa: F401
import op_samples_windows  # noqa: F401
from op_oracles_optimizers import OPTIMIZER_STEPS
from op_samples import Draw, Sample, edges, sampler

import braze.ir as ir
from braze.ir.ops.scan import block_count, carried_dtype

# Movement -----------------------------------------------------------------------------------------


@sampler("reshape")
def _reshape(draw: Draw) -> Iterator[Sample]:
    for shape, wanted in (
        ((2, 3), (3, 2)), ((6,), (1, 2, 3)), ((), (1, 1)), ((1, 1), ()), ((0, 3), (2, 0)),
        ((2, 1, 3), (6,)),
    ):  # fmt: skip
        yield Sample([draw(*shape)], {"shape": wanted})


@sampler("permute")
def _permute(draw: Draw) -> Iterator[Sample]:
    for shape, dims in (
        ((2, 3), (1, 0)), ((2, 3, 4), (2, 0, 1)), ((), ()), ((0, 2), (1, 0)),
        ((1, 3, 1), (2, 1, 0)),
    ):  # fmt: skip
        yield Sample([draw(*shape)], {"dims": dims})


@sampler("expand")
def _expand(draw: Draw) -> Iterator[Sample]:
    for shape, wanted in (
        ((), (2, 3)), ((1, 3), (2, 3)), ((3, 1), (2, 3, 2)), ((1,), (0,)), ((0, 1), (0, 2)),
        ((2,), (2,)),
    ):  # fmt: skip
        yield Sample([draw(*shape)], {"shape": wanted})


@sampler("sum_to_shape")
def _sum_to_shape(draw: Draw) -> Iterator[Sample]:
    # Of bools there are no sums.
    pairs = (
        ((2, 3), (1, 3)), ((2, 3), ()), ((4, 2, 3), (2, 1)), ((0, 3), (1, 3)), ((1, 3), (3,)),
        ((0, 3), (3,)), ((2, 3), (2, 3)),
    )  # fmt: skip
    for shape, wanted in pairs:
        if draw.dtype is not ir.bool_ or shape == wanted:
            yield Sample([draw(*shape)], {"shape": wanted})


@sampler("slice")
def _slice(draw: Draw) -> Iterator[Sample]:
    for shape, starts, stops, steps in (
        ((7,), (1,), (6,), (2,)),
        ((3, 4), (0, 1), (3, 4), (2, 3)),
        ((3, 4), (1, 2), (1, 4), (1, 1)),
        ((0, 2), (0, 0), (0, 2), (1, 1)),
        ((), (), (), ()),
        ((1, 5), (0, 4), (1, 5), (1, 7)),
    ):
        yield Sample([draw(*shape)], {"starts": starts, "stops": stops, "steps": steps})


@sampler("pad")
def _pad(draw: Draw) -> Iterator[Sample]:
    for shape, low, high, interior, value in (
        ((3,), (1,), (2,), (0,), 1.0),
        ((2, 3), (0, 1), (1, 0), (1, 2), 0.0),
        ((0, 2), (1, 0), (1, 1), (2, 0), 1.0),
        ((1, 1), (0, 0), (0, 0), (3, 0), 1.0),
        ((), (), (), (), 0.0),
    ):
        attributes = {"low": low, "high": high, "interior": interior, "value": value}
        yield Sample([draw(*shape)], attributes)


@sampler("flip")
def _flip(draw: Draw) -> Iterator[Sample]:
    for shape, dims in (
        ((3,), (0,)),
        ((2, 3), (0, 1)),
        ((2, 3, 2), (1,)),
        ((0, 2), (0,)),
        ((), ()),
    ):
        yield Sample([draw(*shape)], {"dims": dims})


@sampler("concat")
def _concat(draw: Draw) -> Iterator[Sample]:
    for shapes, dim in (
        (((2,), (3,)), 0),
        (((2, 1), (2, 3), (2, 0)), 1),
        (((1, 2), (2, 2)), 0),
        (((3, 2),), 1),
        (((0, 2), (0, 2)), 0),
    ):
        yield Sample([draw(*shape) for shape in shapes], {"dim": dim})


@sampler("stack")
def _stack(draw: Draw) -> Iterator[Sample]:
    for shape, count, dim in (
        ((), 2, 0),
        ((2, 3), 3, 2),
        ((2, 3), 2, 1),
        ((0,), 2, 0),
        ((3,), 1, 1),
    ):
        yield Sample([draw(*shape) for _ in range(count)], {"dim": dim})


@sampler("window")
def _window(draw: Draw) -> Iterator[Sample]:
    for shape, dims, size, stride, dilation in (
        ((7,), (0,), (3,), (1,), (1,)),
        ((2, 6, 5), (1, 2), (2, 2), (2, 1), (1, 2)),
        ((5, 2), (0,), (2,), (2,), (3,)),
        ((0, 3), (1,), (3,), (1,), (1,)),
    ):
        yield Sample(
            [draw(*shape)], {"dims": dims, "size": size, "stride": stride, "dilation": dilation}
        )


@sampler("unwindow")
def _unwindow(draw: Draw) -> Iterator[Sample]:
    for shape, dims, extent, stride, dilation in (
        ((5, 3), (0,), (7,), (1,), (1,)),
        ((2, 3, 2, 2, 2), (1, 2), (6, 4), (2, 1), (1, 2)),
        ((0, 1, 3), (1,), (3,), (1,), (1,)),
    ):
        yield Sample(
            [draw(*shape)], {"dims": dims, "extent": extent, "stride": stride, "dilation": dilation}
        )


@sampler("as_strided")
def _as_strided(draw: Draw) -> Iterator[Sample]:
    for size, sizes, strides, offset in (
        (12, (3, 2), (4, 1), 2), (5, (3, 3), (1, 1), 0), (4, (), (), 3), (4, (2, 0), (1, 1), 9),
        (3, (2, 3), (0, 1), 0),
    ):  # fmt: skip
        yield Sample([draw(size)], {"sizes": sizes, "strides": strides, "offset": offset})


@sampler("select")
def _select(draw: Draw) -> Iterator[Sample]:
    for shape, dim, index in (((3,), 0, 2), ((2, 3), 1, 0), ((2, 0, 1), 2, 0), ((1, 4), 0, 0)):
        yield Sample([draw(*shape)], {"dim": dim, "index": index})


@sampler("tril", "triu")
def _triangle(draw: Draw) -> Iterator[Sample]:
    for shape, diagonal in (
        ((3, 4), 0), ((4, 3), 1), ((2, 3, 3), -1), ((0, 2), 0), ((1, 1), 1), ((2, 3), -5),
        ((2, 3), 7),
    ):  # fmt: skip
        yield Sample([draw(*shape)], {"diagonal": diagonal})


@sampler("diagonal")
def _diagonal(draw: Draw) -> Iterator[Sample]:
    for shape, offset, one, two in (
        ((3, 4), 0, 0, 1), ((3, 4), 2, 0, 1), ((3, 4), -1, 1, 0), ((2, 3, 2), 1, 0, 1),
        ((2, 3), 5, 0, 1),
        ((0, 3), 0, 0, 1), ((2, 3, 3), 0, 2, 1),
    ):  # fmt: skip
        yield Sample([draw(*shape)], {"offset": offset, "dim1": one, "dim2": two})


@sampler("diag_embed")
def _diag_embed(draw: Draw) -> Iterator[Sample]:
    for shape, offset, one, two, rows, columns in (
        ((3,), 0, 0, 1, 3, 3), ((2, 3), 1, 1, 2, 3, 4), ((2,), -1, 1, 0, 3, 2),
        ((2, 2), 0, 0, 2, 2, 5),
        ((0,), 0, 0, 1, 0, 2), ((2, 0), 4, 0, 1, 2, 3),
    ):  # fmt: skip
        attributes = {"offset": offset, "dim1": one, "dim2": two, "rows": rows, "columns": columns}
        yield Sample([draw(*shape)], attributes)


# Made from nothing --------------------------------------------------------------------------------

MADE_SHAPES = ((), (3,), (0, 2), (2, 1, 3), (70,))


@sampler("constant")
def _constant(draw: Draw) -> Iterator[Sample]:
    for value in (1.0, 0, 3, True) if draw.dtype is ir.bool_ else (1.0, 0, 3, 100, 2.5):
        yield Sample([], {"value": value, "dtype": draw.dtype})
    if draw.dtype.is_floating_point:
        for value in (float("inf"), float("nan"), 1e300, -0.0):
            yield Sample([], {"value": value, "dtype": draw.dtype})


@sampler("full")
def _full(draw: Draw) -> Iterator[Sample]:
    for shape in MADE_SHAPES:
        yield Sample([], {"shape": shape, "value": 1.5, "dtype": draw.dtype})


@sampler("iota")
def _iota(draw: Draw) -> Iterator[Sample]:
    for shape, dim in (((3,), 0), ((2, 3), 1), ((2, 3), 0), ((0, 2), 0), ((70,), 0)):
        yield Sample([], {"shape": shape, "dim": dim, "dtype": draw.dtype})


@sampler("strided_index")
def _strided_index(draw: Draw) -> Iterator[Sample]:
    for shape, strides, offset in (
        ((3, 2), (4, 1), 2),
        ((), (), 5),
        ((2, 0), (1, 1), 0),
        ((3,), (0,), 1),
    ):
        yield Sample([], {"shape": shape, "strides": strides, "offset": offset})


STATE = [np.asarray(1234567), np.asarray(2**33 + 5)]


@sampler("random_bits")
def _random_bits(draw: Draw) -> Iterator[Sample]:
    for shape in MADE_SHAPES:
        yield Sample([draw(dtype=draw.dtype), STATE[1].astype(draw.dtype.numpy)], {"shape": shape})


@sampler("uniform", "normal", "exponential")
def _random_floats(draw: Draw) -> Iterator[Sample]:
    for shape in MADE_SHAPES:
        yield Sample(STATE, {"shape": shape, "dtype": draw.dtype})


@sampler("randint")
def _randint(draw: Draw) -> Iterator[Sample]:
    spans = ((0, 2), (-5, 6), (0, 2**31), (-(2**40), 2**45), (7, 8))
    for shape, (low, high) in zip(MADE_SHAPES, spans, strict=True):
        yield Sample(STATE, {"shape": shape, "low": low, "high": high})


@sampler("bernoulli")
def _bernoulli(draw: Draw) -> Iterator[Sample]:
    for shape in MADE_SHAPES:
        yield Sample([draw(*shape, domain=(0.0, 1.0)), *STATE])


@sampler("dropout")
def _dropout(draw: Draw) -> Iterator[Sample]:
    for shape, p in zip(MADE_SHAPES, (0.5, 0.3, 0.1, 0.0, 0.7), strict=True):
        yield Sample([draw(*shape), *STATE], {"p": p})
    yield Sample([draw(3), *STATE], {"p": 1.0})


@sampler("poisson")
def _poisson(draw: Draw) -> Iterator[Sample]:
    for shape in ((), (3,), (0, 2), (7,)):
        yield Sample([draw(*shape), *STATE])


@sampler("binomial")
def _binomial(draw: Draw) -> Iterator[Sample]:
    for shapes in (((), ()), ((3,), (3,)), ((0, 2), (2,)), ((7, 1), (1, 5)), ((), (40,))):
        count = draw.whole(*shapes[0], low=1, high=60, dtype=draw.dtype)
        # More failures are counted where successes are likely, and none of the draws is smooth.
        for likely in (False, True):
            prob = draw(*shapes[1], domain=(0.6, 0.9) if likely else (0.1, 0.4))
            yield Sample([count, prob, *STATE], gradients=not likely)


@sampler("standard_gamma")
def _standard_gamma(draw: Draw) -> Iterator[Sample]:
    # The derivative keeps a number's quantile, not the random bits it was made of.
    for shape, domain in (((), (2.0, 9.0)), ((5,), (0.1, 0.9)), ((0, 2), (1.0, 2.0)),
                          ((3, 7), (0.3, 60.0))):  # fmt: skip
        yield Sample([draw(*shape, domain=domain), *STATE], gradients=False)


@sampler("bitcast")
def _bitcast(draw: Draw) -> Iterator[Sample]:
    for other in ir.dtypes.ALL:
        fits = other.itemsize == draw.dtype.itemsize and ir.bool_ not in (other, draw.dtype)
        fits = fits and not other.is_complex
        if other is draw.dtype or fits:
            yield Sample([draw(2, 3)], {"dtype": other})
            # From integers: a nan has many bit patterns.
            if not draw.dtype.is_floating_point and not other.is_floating_point:
                yield Sample([edges(draw.dtype)], {"dtype": other}, edges=True)


# Indexing -----------------------------------------------------------------------------------------

# Operand, dimension, shape of the index.
ROWS = (
    ((5,), 0, (3,)), ((3, 4), 1, (2, 2)), ((4, 2), 0, ()), ((2, 3, 2), 1, (4,)), ((3, 0), 0, (2,)),
    ((2, 3), 1, (0,)), ((1, 2), 0, (3,)), ((3, 41), 0, (5,)),
)  # fmt: skip
ALONG = (
    ((5,), 0, (3,)), ((3, 4), 1, (3, 2)), ((3, 4), 0, (5, 4)), ((2, 3, 2), 1, (1, 4, 2)),
    ((3, 0), 0, (2, 0)), ((2, 3), 1, (2, 0)), ((1, 2), 0, (3, 1)), ((4, 37), 0, (3, 37)),
)  # fmt: skip


def _index(draw: Draw, number: int, shape: tuple[int, ...], size: int) -> np.ndarray:
    """i64 and i32 in turn; one index in three is out of range and clamped."""
    dtype = (ir.i64, ir.i32)[number % 2]
    outside = number % 3 == 2
    low, high = (-2, size + 2) if outside else (0, size)
    return draw.whole(*shape, low=low, high=max(high, low + 1), dtype=dtype)


@sampler("take")
def _take(draw: Draw) -> Iterator[Sample]:
    for number, (shape, dim, wanted) in enumerate(ROWS):
        yield Sample([draw(*shape), _index(draw, number, wanted, shape[dim])], {"dim": dim})


@sampler("take_along")
def _take_along(draw: Draw) -> Iterator[Sample]:
    for number, (shape, dim, wanted) in enumerate(ALONG):
        yield Sample([draw(*shape), _index(draw, number, wanted, shape[dim])], {"dim": dim})


@sampler("index_add")
def _index_add(draw: Draw) -> Iterator[Sample]:
    for number, (shape, dim, wanted) in enumerate(ROWS):
        index = _index(draw, number, wanted, shape[dim])
        updates = draw(*shape[:dim], *wanted, *shape[dim + 1 :])
        yield Sample([draw(*shape), index, updates], {"dim": dim})


@sampler("index_put")
def _index_put(draw: Draw) -> Iterator[Sample]:
    for sample in _index_add(draw):
        dim = sample.attributes["dim"]
        x, index, _ = sample.operands
        # The gradient goes to all updates of a place, so it is a derivative where there is one.
        flat = np.clip(index, 0, x.shape[dim] - 1).reshape(-1)
        sample.gradients = len(np.unique(flat)) == flat.size
        yield sample


@sampler("scatter_add")
def _scatter_add(draw: Draw) -> Iterator[Sample]:
    for number, (shape, dim, wanted) in enumerate(ALONG):
        index = _index(draw, number, wanted, shape[dim])
        yield Sample([draw(*shape), index, draw(*wanted)], {"dim": dim})


@sampler("scatter")
def _scatter(draw: Draw) -> Iterator[Sample]:
    for sample in _scatter_add(draw):
        sample.gradients = False
        yield sample
    for shape, dim, wanted in (((5,), 0, (3,)), ((3, 4), 1, (2, 3)), ((4, 2), 0, (3, 1))):
        index = draw.orders(*wanted, dim=dim, count=shape[dim])
        yield Sample([draw(*shape), index, draw(*wanted)], {"dim": dim})


@sampler("scatter_reduce")
def _scatter_reduce(draw: Draw) -> Iterator[Sample]:
    words = itertools.cycle(("prod", "amax", "amin"))
    for sample in itertools.chain(_scatter_add(draw), _scatter_add(draw)):
        yield Sample(sample.operands, {**sample.attributes, "combine": next(words)})


@sampler("check_range")
def _check_range(draw: Draw) -> Iterator[Sample]:
    for shape in ((3,), (), (0,), (2, 40)):
        yield Sample([draw(*shape)], {"low": -5, "high": 11, "message": "a test"})


@sampler("wrapped_index")
def _wrapped_index(draw: Draw) -> Iterator[Sample]:
    for shape, size in (((3,), 4), ((), 1), ((2, 0), 3), ((5, 7), 11)):
        index = draw.whole(*shape, high=2 * size, dtype=draw.dtype) - size
        yield Sample([np.asarray(index).astype(draw.dtype.numpy)], {"size": size, "message": "i"})


@sampler("one_hot")
def _one_hot(draw: Draw) -> Iterator[Sample]:
    for shape, classes in (((3,), 4), ((), 1), ((0, 2), 3), ((2, 3), 5)):
        yield Sample([draw.whole(*shape, high=classes, dtype=draw.dtype)], {"classes": classes})


@sampler("searchsorted")
def _searchsorted(draw: Draw) -> Iterator[Sample]:
    for number, (sequence, values) in enumerate(
        (
            ((5,), (3, 4)),
            ((2, 7), (2, 3)),
            ((1,), ()),
            ((0,), (3,)),
            ((2, 3), (2, 0)),
            ((33,), (9,)),
        )
    ):
        ordered = np.sort(draw(*sequence), -1)
        wanted = draw(*values)
        flat = wanted.reshape(-1)
        if flat.size and ordered.size:
            flat[0] = ordered.flat[-1]  # one that is found
        yield Sample([ordered, wanted], {"right": bool(number % 2)})


# Scans in blocks, and topk ------------------------------------------------------------------------


@sampler("cumsum_ends", "cumprod_ends", "cummax_ends", "cummin_ends")
def _ends(draw: Draw) -> Iterator[Sample]:
    for shape, dim, reverse, length in (
        ((7,), 0, False, 3), ((2, 8), 1, True, 4), ((5, 3), 0, False, 2), ((0, 4), 1, False, 3),
    ):  # fmt: skip
        yield Sample([draw(*shape)], {"dim": dim, "reverse": reverse, "length": length})


@sampler("cumsum_from", "cumprod_from", "cummax_from", "cummin_from")
def _from(draw: Draw) -> Iterator[Sample]:
    name = draw.op.name.removesuffix("_from")
    for sample in _ends(draw):
        x, dim = sample.operands[0], sample.attributes["dim"]
        blocks = block_count(x.shape[dim], sample.attributes["length"]) - 1
        shape = (*x.shape[:dim], blocks, *x.shape[dim + 1 :])
        starts = [draw(*shape).astype(carried_dtype(name, draw.dtype).numpy)]
        if "indices" in draw.op.operands:
            starts.append(draw.whole(*shape, high=x.shape[dim]))
        yield Sample([x, *starts], sample.attributes)


@sampler("topk")
def _topk(draw: Draw) -> Iterator[Sample]:
    for number, (shape, dim, k) in enumerate(
        (((5,), 0, 2), ((2, 4), 1, 4), ((3, 2), 0, 1), ((2, 3), 1, 0), ((0, 3), 1, 2),
        ((2, 70), 1, 5),
         ((70, 2), 0, 9))
    ):  # fmt: skip
        yield Sample([draw(*shape)], {"dim": dim, "k": k, "largest": bool(number % 2)})


# Optimizers ---------------------------------------------------------------------------------------


@sampler(*OPTIMIZER_STEPS)
def _optimizers(draw: Draw) -> Iterator[Sample]:
    op = draw.op
    tensors = set(op.operands[: 1 + len(op.results)])  # parameter, gradient and states
    flags = [name for name, kind in op.attributes.items() if kind is bool]
    for number, shape in enumerate(((2, 3), (), (0,), (37,))):
        # Scalars are of the parameter's dtype or f64.
        scalar = (ir.f64, draw.dtype)[number % 2] if draw.dtype.is_floating_point else draw.dtype
        operands = [draw(*shape) if name in tensors else draw(dtype=scalar) for name in op.operands]
        yield Sample(operands, {name: bool(number >> n & 1) for n, name in enumerate(flags)})
