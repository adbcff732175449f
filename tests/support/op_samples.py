"""Operands and attributes for every operation of the table.

`samples(op, dtype)` gives the samples of an op in which its free operands have `dtype`. Elementwise
ops, reductions, scans and what else can be told from a declaration have a default sampler; others
are in `op_samples_special`. An op for which neither knows anything is an error: NoSampler.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import braze.ir as ir
from braze.ir.op import Op

Shape = tuple[int, ...]
GOLDEN = (5**0.5 - 1) / 2
KINK = 0.5  # functions bend, jump or change their formula at multiples of this


class NoSampler(Exception):
    """Nothing is known about how to call an op."""


@dataclass
class Sample:
    """One call.

    Attributes:
        gradients: whether derivatives may be checked by small steps (no step, tie or pole nearby).
        edges: the operands are infinities, nans, zeros and the largest and smallest numbers.
        optional: the type rule may refuse these shapes.
    """

    operands: Sequence[np.ndarray]
    attributes: dict[str, Any] = field(default_factory=dict)
    gradients: bool = True
    edges: bool = False
    optional: bool = False

    @property
    def types(self) -> tuple[ir.TensorType, ...]:
        return tuple(
            ir.tensor_type(ir.from_numpy(a.dtype), a.shape) for a in map(np.asarray, self.operands)
        )

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.types))}) {self.attributes}"


class Draw:
    """Makes operands. No two floats of a sample are equal or close, none is near a kink."""

    def __init__(self, op: Op, dtype: ir.DType) -> None:
        self.op, self.dtype = op, dtype
        self.random = np.random.default_rng(zlib.crc32(op.name.encode()))
        self._count = int(self.random.integers(1000))

    def __call__(
        self,
        *shape: int,
        dtype: ir.DType | None = None,
        domain: tuple[float, float] | None = None,
    ) -> np.ndarray:
        dtype = dtype or self.dtype
        if dtype.is_complex:
            re, im = (self(*shape, dtype=dtype.to_real(), domain=domain) for _ in range(2))
            return np.asarray(re + 1j * im).astype(dtype.numpy)
        if dtype.is_floating_point:
            low, high = domain or self.op.domain
            places = np.arange(self._count, self._count + int(np.prod(shape, dtype=int)))
            self._count += places.size
            values = low + (high - low) * (places * GOLDEN % 1.0)
            # Push what is near a kink away from it, by different distances.
            nearest = np.round(values / KINK) * KINK
            gap = values - nearest
            away = np.where(gap < 0, -1, 1) * (0.02 + np.abs(gap) / 4)
            moved = nearest + away
            moved = np.where((moved < low) | (moved > high), nearest - away, moved)
            values = np.where(np.abs(gap) < 0.02, moved, values)
            return np.asarray(values.reshape(shape)).astype(dtype.numpy)
        if dtype is ir.bool_:
            return np.asarray(self.random.integers(0, 2, shape)).astype(bool)
        return self.whole(*shape, low=-5 if dtype.is_signed else 0, high=11, dtype=dtype)

    def whole(
        self, *shape: int, low: int = 0, high: int = 11, dtype: ir.DType = ir.i64
    ) -> np.ndarray:
        """Random integers in low .. high - 1."""
        return np.asarray(self.random.integers(low, high, shape)).astype(dtype.numpy)

    def orders(self, *shape: int, dim: int, count: int, dtype: ir.DType = ir.i64) -> np.ndarray:
        """Indices below `count` along `dim`, no two of a column equal."""
        wide = (*shape[:dim], count, *shape[dim + 1 :])
        order = np.argsort(self.random.random(wide), axis=dim)
        return np.ascontiguousarray(np.take(order, range(shape[dim]), axis=dim), dtype.numpy)


Sampler = Callable[[Draw], Iterator[Sample]]
SPECIAL: dict[str, Sampler] = {}


def sampler(*names: str) -> Callable[[Sampler], Sampler]:
    """Register the special sampler of ops."""

    def register(function: Sampler) -> Sampler:
        for name in names:
            assert name not in SPECIAL, name
            SPECIAL[name] = function
        return function

    return register


def samples(op: Op, dtype: ir.DType) -> list[Sample]:
    """The samples in which the free operands are of a dtype.

    Raises:
        NoSampler: the op has no special sampler and no default fits its declaration.
    """
    import op_samples_special  # noqa: F401  (fills SPECIAL)

    draw = Draw(op, dtype)
    found = SPECIAL.get(op.name) or _default(op)
    return list(found(draw))


def accepted(op: Op, dtype: ir.DType) -> list[Sample] | None:
    """The samples that the type rule accepts, or None where it refuses the dtype.

    Raises:
        AssertionError: it refuses the dtype for some shapes only, or a shape that is not optional.
    """
    kept: list[Sample] = []
    refused = 0
    made = samples(op, dtype)
    for sample in made:
        try:
            op.result_types(sample.types, sample.attributes)
        except ir.DTypeError as error:
            assert str(error).startswith("["), error
            refused += 1
            continue
        except (ir.ShapeError, ir.DimensionError) as error:
            assert sample.optional, f"{op.name} {sample}: {error}"
            continue
        kept.append(sample)
    assert not refused or not kept, f"{op.name} takes {dtype.name} in some samples only"
    return kept if not refused else None


# Attributes ---------------------------------------------------------------------------------------

# Settings that are tried; others follow from the attribute's type.
ATTRIBUTES: dict[str, list[dict[str, Any]]] = {
    "leaky_relu": [{"slope": 0.1}],
    "elu": [{"alpha": 1.3}],
    "hardtanh": [{"low": -1.1, "high": 0.7}],
    "gelu": [{"approximate": "none"}, {"approximate": "tanh"}],
    "softplus": [{"beta": 1.5, "threshold": 1.9}, {"beta": 1.0, "threshold": 20.0}],
    "logit": [{"eps": -1.0}, {"eps": 0.22}],
    "polygamma": [{"n": 1}, {"n": 2}, {"n": 4}],
    "norm": [{"p": p} for p in (2.0, 1.0, 3.0, 0.5, 0.0, np.inf, -np.inf)],
    "var": [{"correction": 1}, {"correction": 0}],
    "std": [{"correction": 1}, {"correction": 0}],
    "masked_fill": [{"value": 2.0}],
    "threshold": [{"limit": 0.3, "value": -1.0}, {"limit": -0.6, "value": 2.0}],
    "cast": [{"dtype": dtype} for dtype in ir.dtypes.ALL],
    "to_device": [{"device": "cpu"}],
    "mse_loss": [{"reduction": word} for word in ("none", "sum", "mean")],
    "l1_loss": [{"reduction": word} for word in ("none", "sum", "mean")],
    "binary_cross_entropy": [{"reduction": word} for word in ("none", "sum", "mean")],
    "bce_with_logits": [{"reduction": word} for word in ("none", "sum", "mean")],
    "smooth_l1_loss": [
        {"reduction": "none", "beta": 0.31},
        {"reduction": "mean", "beta": 1.0},
        {"reduction": "sum", "beta": 0.0},
    ],
}
BY_KIND: dict[Any, Sequence[Any]] = {bool: (False, True), float: (0.7,), int: (1,)}


def settings(op: Op, without: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Settings of the attributes but those named.

    Raises:
        NoSampler: there is one of whose values nothing is known.
    """
    if op.name in ATTRIBUTES:
        return ATTRIBUTES[op.name]
    names = [name for name in op.attributes if name not in without]
    unknown = [name for name in names if op.attributes[name] not in BY_KIND]
    if unknown:
        raise NoSampler(f"[{op.name}] which values do the attributes {unknown} take?")
    choices = [BY_KIND[op.attributes[name]] for name in names]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*choices)]


# Defaults -----------------------------------------------------------------------------------------


def _default(op: Op) -> Sampler:
    names = set(op.attributes)
    if op.is_host and op.operands == ("x",) and not names:
        return _square_matrices
    if {"dims", "keepdim"} <= names and op.operands == ("x",):
        return _reductions
    if "dim" in names and not op.variadic:
        return _along
    if not op.operands or op.variadic or not (op.broadcasts or op.operands == ("x",)):
        raise NoSampler(f"[{op.name}] add a sampler to op_samples_special")
    return _elementwise


SHAPES: tuple[tuple[Shape, ...], ...] = (
    ((2, 3),),
    ((37,),),
    ((),),
    ((2, 1), (3,), (1, 1)),
    ((0, 3), (1, 3), (3,)),
    ((5,), ()),
    ((), (5,), (1,)),
    ((1,), (2, 1, 3), ()),
    ((17, 1), (1, 5)),
)
# Where operands of any size and sign have no meaning, or that of rounding errors.
WITHOUT_EDGES = {
    "zeta",  # for negative q
    "polygamma",  # at negative poles
    "isclose",  # of numbers a rounding apart
    "binary_cross_entropy",  # of what are no probabilities
    "bce_with_logits",
}
# Operands of other dtypes than the free one.
FIXED = {"condition": ir.bool_, "mask": ir.bool_, "seed": ir.i64, "offset": ir.i64}


def _elementwise(draw: Draw) -> Iterator[Sample]:
    op = draw.op
    kinds = [FIXED.get(name, draw.dtype) for name in op.operands]
    choices = settings(op)
    for number, pattern in enumerate(SHAPES):
        if len(op.operands) == 1 and len(pattern) > 1 and pattern[0] in ((5,), (), (1,)):
            continue
        shapes = [shape for shape, _ in zip(itertools.cycle(pattern), kinds, strict=False)]
        # All settings for the first shape, one after the other for the rest.
        few = choices if number == 0 else [choices[number % len(choices)]]
        for chosen in few:
            operands = [draw(*s, dtype=d) for s, d in zip(shapes, kinds, strict=True)]
            # The mean of nothing is nan and has no derivative.
            smooth = chosen.get("reduction") != "mean" or 0 not in itertools.chain(*shapes)
            yield Sample(operands, chosen, gradients=smooth)
    if op.name in WITHOUT_EDGES:
        return
    for chosen in choices:
        operands = _edge_operands(kinds)
        if "dtype" in chosen:
            operands = [_inside(operands[0], chosen["dtype"])]
        yield Sample(operands, chosen, gradients=False, edges=True)


def _inside(x: np.ndarray, dtype: ir.DType) -> np.ndarray:
    """Those floats that an integer dtype holds: what a cast makes of others is not defined."""
    if not dtype.is_integer or x.dtype.kind in "iub":
        return x
    info, wide = np.iinfo(dtype.numpy), x.real.astype(np.float64)
    return x[(wide >= info.min) & (wide < float(info.max))]


def edges(dtype: ir.DType) -> np.ndarray:
    """The values of a dtype at which functions go wrong."""
    if dtype is ir.bool_:
        return np.array([False, True])
    if dtype.is_complex:  # both axes, both sides of what is cut along them
        parts = np.array([0.0, -0.0, 1.0, -1.0, 0.5, 1e-3, 8.0], dtype.to_real().numpy)
        made = np.empty((parts.size, parts.size), dtype.numpy)
        made.real, made.imag = parts[:, None], parts
        return made.reshape(-1)
    if not dtype.is_floating_point:
        info = np.iinfo(dtype.numpy)
        near = [info.min, info.min + 1, info.max - 1, info.max, 0, 1, 2, 3, 7, 63, 64]
        return np.array(near + ([-1, -2, -3] if dtype.is_signed else []), dtype.numpy)
    import ml_dtypes

    info = ml_dtypes.finfo(dtype.numpy)
    large, tiny = float(info.max), float(info.smallest_normal)
    few = [0.0, 1.0, 0.5, 1.5, 2.0, 3.0, 100.0, large, tiny, np.inf]
    return np.array([*few, *(-v for v in few), np.nan]).astype(dtype.numpy)


def _edge_operands(kinds: Sequence[ir.DType]) -> list[np.ndarray]:
    """All pairs of edges for the first two operands; later ones take turns."""
    first = edges(kinds[0])
    if len(kinds) == 1:
        return [first]
    second = edges(kinds[1])
    total = first.size * second.size
    made = [np.repeat(first, second.size), np.tile(second, first.size)]
    for number, kind in enumerate(kinds[2:], 1):
        made.append(np.resize(np.roll(edges(kind), number), total))
    return made


REDUCTIONS: tuple[tuple[Shape, Shape], ...] = (
    ((5,), (0,)),
    ((2, 3), (1,)),
    ((2, 3), (0,)),
    ((2, 1, 4), (1,)),
    ((3, 0), (0,)),
    ((3, 41), (1,)),
    ((40, 3), (0,)),
    ((), ()),
    ((2, 3), (0, 1)),
    ((2, 1, 4), (0, 2)),
    ((0, 3), (0,)),
)


def _reductions(draw: Draw) -> Iterator[Sample]:
    rest = settings(draw.op, ("dims", "keepdim"))
    for number, (shape, dims) in enumerate(REDUCTIONS):
        few = rest if shape == (2, 3) and len(dims) == 1 else [rest[number % len(rest)]]
        odd = len(dims) != 1 or 0 in [shape[d] for d in dims]
        for chosen in few:
            attributes = {"dims": dims, "keepdim": bool(number % 2), **chosen}
            whole = 0 not in shape
            yield Sample([draw(*shape)], attributes, gradients=whole, optional=odd)
    if draw.dtype.is_floating_point:
        special = np.array([[0, -0.0, 2], [np.nan, 1, np.inf], [-np.inf, np.inf, 1], [-1, -1, 0]])
        operands = [special.astype(draw.dtype.numpy)]
        for chosen in rest:
            attributes = {"dims": (1,), "keepdim": False, **chosen}
            yield Sample(operands, attributes, gradients=False, edges=True)


ALONG: tuple[tuple[Shape, int], ...] = (
    ((5,), 0),
    ((2, 3), 1),
    ((3, 2), 0),
    ((2, 1, 3), 1),
    ((2, 3, 2), 1),
    ((0, 3), 1),
    ((3, 0), 1),
    ((67, 3), 0),
    ((3, 70), 1),
)


def _along(draw: Draw) -> Iterator[Sample]:
    rest = settings(draw.op, ("dim",))
    for number, (shape, dim) in enumerate(ALONG):
        few = rest if shape == (2, 3) else [rest[number % len(rest)]]
        for chosen in few:
            operands = [draw(*shape) for _ in draw.op.operands]
            attributes = {"dim": dim, **chosen}
            yield Sample(operands, attributes, optional=shape[dim] == 0)


def _square_matrices(draw: Draw) -> Iterator[Sample]:
    for shape in ((3, 3), (1, 1), (2, 3, 3), (0, 2, 2), (0, 0)):
        yield Sample([well_conditioned(draw, *shape)], gradients=0 not in shape)


def well_conditioned(draw: Draw, *shape: int) -> np.ndarray:
    """Matrices with a dominant diagonal of different sizes."""
    values = draw(*shape, domain=(-1.0, 1.0))
    diagonal = np.eye(*shape[-2:]) * (2.0 + 1.3 * np.arange(shape[-1]))
    return np.asarray(values + diagonal.astype(values.dtype)).astype(values.dtype)
