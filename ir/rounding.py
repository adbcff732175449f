"""How far a correct result may be from the interpreter's: a bound on rounding for each element.

In: a graph of primitives and its inputs, which are taken to be exact.  Out: for each output the
interpreter's value, and how far from it another way of computing the same may end up.

Compiled code adds in another order, contracts a product and a sum, keeps narrow floats in f32
between operations, and has its own `exp`. So every node is given an error of its own and hands on
those of its operands, by running error analysis (Higham, Accuracy and Stability of Numerical
Algorithms, 2002, section 3.3), where eps is the distance from 1 to the next number of the dtype:

    elementwise     4 eps |result|; of the operands what changing one by its error changes
    sums, products  (8 + 2 sqrt(n)) eps times the same of absolute values; scans 8 n eps times it
    movements       those of the operands
    comparisons     either way where operands are nearer to each other than their errors
    positions       anything, where keys that are so near to each other would change them
    host calls      1024 eps of the largest element: the same function on the same numbers
    others          (attention, recurrences, lattices) found by changing all operands at random by
                    (8 + 2 sqrt(n)) eps and evaluating again: 8 times the largest change

What comes out is no proof, since functions are only tried at the ends of an operand's interval, but
more than rounding does. An infinite error says that nothing can be said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from braze.ir.dtypes import DType, bf16, f16, from_numpy
from braze.ir.graph import Graph, Node, Value
from braze.ir.ops.contract import parse_equation

Array = np.ndarray[Any, np.dtype[Any]]

_OPERATIONS = 4  # eps that an elementwise operation may be off
_SAMPLES = 2
_SPREAD = 8  # times the largest change seen
_HOST = 1024  # eps of the largest element: the same function on the same numbers


@dataclass(frozen=True, slots=True)
class Bounded:
    """A value, and how far off each element may be; None where it is exact."""

    value: Array
    error: Array | None = None


def eps(dtype: DType) -> float:
    """The distance from 1 to the next larger number.

    Example:
        >>> from braze.ir.dtypes import f32
        >>> eps(f32) == 2.0**-23
        True
    """
    if dtype is bf16:
        return 2.0**-7
    return float(np.finfo(dtype.numpy).eps) if dtype.is_floating_point else 0.0


def sum_rounding(count: int, dtype: DType) -> float:
    """How far a sum of so many terms may be off, as a part of the sum of their absolute values."""
    wide = 2.0**-23 if dtype in (f16, bf16) else eps(dtype)
    return (8 + 2 * math.sqrt(count)) * wide


def interpret_bounded(
    graph: Graph, inputs: Sequence[Array], *, mixed: bool = False
) -> list[Bounded]:
    """The outputs of a graph of primitives with their errors; fusion nodes are entered.

    Args:
        inputs: as `interpret` takes them, arrays only.
        mixed: products may be computed several results at a time from sums of their factors, as
            Winograd's algorithm does: then each has the error of the largest, and what is infinite
            or nan may spread.

    Raises:
        IndexError and what else an operation raises.
    """
    return _run(graph, [Bounded(array) for array in inputs], mixed)


def _run(graph: Graph, inputs: Sequence[Bounded], mixed: bool) -> list[Bounded]:
    known: dict[Value, Bounded] = dict(zip(graph.inputs, inputs, strict=True))
    last: dict[Value, Node] = {x: node for node in graph.nodes for x in node.operands}
    kept = set(graph.outputs)
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            operands = [known[x] for x in node.operands]
            if node.body is not None:
                found = _run(node.body, operands, mixed)
            else:
                found = _node(node, operands, mixed)
            known.update(zip(node.results, found, strict=True))
            for value in {*node.operands}:
                if last[value] is node and value not in kept:
                    del known[value]
    return [known[value] for value in graph.outputs]


def _node(node: Node, operands: Sequence[Bounded], mixed: bool) -> list[Bounded]:
    function = _evaluation(node)
    values = function(*(x.value for x in operands))
    rule = _RULES.get(node.op.category, _by_trial)
    errors = rule(node, function, operands, values)
    if mixed and node.op.is_contract:
        finite = all(np.isfinite(_work(x.value)).all() for x in operands)
        largest = None if errors[0] is None else np.max(errors[0], initial=0.0)
        errors = [np.asarray(largest if finite else np.inf)]
    return [
        Bounded(value, _settled(error, value)) for value, error in zip(values, errors, strict=True)
    ]


def _settled(error: Array | None, value: Array) -> Array | None:
    """Without errors that are nan, of a value's shape."""
    if error is None:
        return None
    error = np.broadcast_to(np.where(np.isnan(error), np.inf, error), value.shape)
    return error if error.any() else None


Function = Callable[..., list[Array]]
Errors = list[Array | None]


def _evaluation(node: Node) -> Function:
    evaluate = node.op.evaluate
    if evaluate is None:
        raise ValueError(f"[rounding] {node.op.name} is no primitive")

    def function(*arrays: Array) -> list[Array]:
        found = evaluate(*arrays, **node.attributes)
        return [np.asarray(a) for a in (found if isinstance(found, tuple) else (found,))]

    return function


# Errors of operands -------------------------------------------------------------------------------


def _work(value: Array) -> Array:
    """As numbers that errors are computed in."""
    return value.astype(np.float64 if value.dtype.itemsize == 8 else np.float32)


def _moved(x: Bounded, sign: int) -> Array:
    """An operand with all of its elements changed by their errors."""
    value, error = x.value, x.error
    assert error is not None
    if value.dtype.kind == "b":
        flipped: Array = value ^ (error > 0)
        return flipped
    if value.dtype.kind in "iu":
        limits = np.iinfo(value.dtype)
        wide = value.astype(np.float64) + sign * np.ceil(error)
        inside: Array = np.clip(wide, float(limits.min), float(limits.max) * (1 - 2**-52))
        return inside.astype(value.dtype)
    moved: Array = (_work(value) + sign * error).astype(value.dtype)
    return moved


def _distance(moved: Array, value: Array) -> Array:
    """How far apart two results are; equal ones, also infinite and nan, are not."""
    a, b = _work(moved), _work(value)
    apart = np.abs(a - b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart))


def _handed_on(function: Function, operands: Sequence[Bounded], values: list[Array]) -> Errors:
    """What the errors of the operands, one by one, change."""
    errors: Errors = [None] * len(values)
    given = [x.value for x in operands]
    for at, x in enumerate(operands):
        if x.error is None:
            continue
        tried = [
            function(*given[:at], _moved(x, sign), *given[at + 1 :])
            for sign in ((1,) if x.value.dtype.kind == "b" else (1, -1))
        ]
        for number, value in enumerate(values):
            changes = [_distance(found[number], value) for found in tried]
            errors[number] = _added(errors[number], np.maximum.reduce(changes))
    return errors


def _added(first: Array | None, second: Array | None) -> Array | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second


def _rounded(error: Array | None, value: Array, units: float) -> Array | None:
    """With the rounding of the result itself."""
    dtype = _float_dtype(value)
    if dtype is None:
        return error
    size = np.abs(_work(value))
    return _added(error, np.where(np.isfinite(size), units * eps(dtype) * size, 0.0))


def _float_dtype(value: Array) -> DType | None:
    dtype = from_numpy(value.dtype)
    return dtype if dtype.is_floating_point else None


# Rules --------------------------------------------------------------------------------------------


def _exact(node: Node, function: Function, operands: Any, values: list[Array]) -> Errors:
    return [None] * len(values)


def _elementwise(
    node: Node, function: Function, operands: Sequence[Bounded], values: list[Array]
) -> Errors:
    (value,) = values
    if value.dtype.kind == "b" and all(x.value.dtype.kind != "b" for x in operands):
        return [_either_way(operands, value)]
    (error,) = _handed_on(function, operands, values)
    return [_rounded(error, value, _OPERATIONS)]


def _either_way(operands: Sequence[Bounded], value: Array) -> Array | None:
    """Where a comparison's operands are too near to each other to be told apart."""
    if all(x.error is None for x in operands):
        return None
    lows, highs = [], []
    for x in operands:
        wide, error = _work(x.value), 0.0 if x.error is None else x.error
        lows.append(wide - error)
        highs.append(wide + error)
    doubtful = np.zeros(value.shape, np.bool_)
    for x in operands:
        doubtful |= np.broadcast_to(0 if x.error is None else x.error, value.shape) > 0
    for low in lows:
        for high in highs:
            doubtful &= low <= high
    return doubtful.astype(np.float32)


def _moving(
    node: Node, function: Function, operands: Sequence[Bounded], values: list[Array]
) -> Errors:
    if any(x.error is not None and x.value.dtype.kind in "iu" for x in operands[1:]):
        return [np.asarray(np.inf)] * len(values)  # positions
    errors = _handed_on(function, operands, values)
    if node.op.name != "unwindow":
        return errors
    (size,) = function(np.abs(operands[0].value))  # adds up what overlaps
    return [_added(error, 2 * _OPERATIONS * _unit(size) * _work(size)) for error in errors]


def _unit(value: Array) -> float:
    dtype = _float_dtype(value)
    return 0.0 if dtype is None else eps(dtype)


def _contraction(
    node: Node, function: Function, operands: Sequence[Bounded], values: list[Array]
) -> Errors:
    (value,), dtype = values, node.result.dtype
    if not dtype.is_floating_point:
        return [None if all(x.error is None for x in operands) else np.asarray(np.inf)]
    x, y = operands
    left, right, out = parse_equation(str(node.attributes["equation"]))
    sizes = dict(zip(left + right, x.value.shape + y.value.shape, strict=True))
    count = math.prod(size for letter, size in sizes.items() if letter not in out)
    sides = [np.abs(_work(side.value)) for side in operands]
    error: Array | None = None
    for at, side in enumerate(operands):
        if side.error is not None:
            changed = [sides[0], sides[1]]
            changed[at] = side.error.astype(changed[at].dtype)
            error = _added(error, function(*changed)[0])
            sides[at] = sides[at] + changed[at]
    (size,) = function(*sides)
    error = _added(error, sum_rounding(count, dtype) * size)
    return [_rounded(error, value, 1)]


def _reduction(
    node: Node, function: Function, operands: Sequence[Bounded], values: list[Array]
) -> Errors:
    (x,), (value,) = operands, values
    if node.op.name in ("argmax", "argmin"):
        return [_position(node, x)]
    if node.op.name not in ("sum", "prod") or not node.result.dtype.is_floating_point:
        return _handed_on(function, operands, values)
    dims = node.attributes["dims"]
    assert isinstance(dims, tuple)
    count = math.prod(x.value.shape[d] for d in dims)
    return [_rounded(_of_sizes(function, [x], 0, sum_rounding(count, node.result.dtype)), value, 1)]


def _of_sizes(
    function: Function, operands: Sequence[Bounded], number: int, rounding: float
) -> Array:
    """The error of sums and products, by the same of absolute values."""
    sizes = [
        np.abs(_work(x.value)) if x.value.dtype.kind not in "iub" else x.value for x in operands
    ]
    largest = [
        size if x.error is None or x.value.dtype.kind in "iub" else size + x.error
        for size, x in zip(sizes, operands, strict=True)
    ]
    size = function(*largest)[number]
    error: Array = rounding * size
    if any(x.error is not None for x in operands):
        error = error + (size - function(*sizes)[number])
    return error


def _position(node: Node, x: Bounded) -> Array | None:
    """Positions of extrema: anything, where another element may be the extremum."""
    if x.error is None:
        return None
    dims = node.attributes["dims"]
    assert isinstance(dims, tuple)
    wide = _work(x.value) * (1 if node.op.name == "argmax" else -1)
    threshold = np.max(wide - x.error, axis=dims, keepdims=True)
    kept = bool(node.attributes["keepdim"])
    several = np.sum(wide + x.error >= threshold, axis=dims, keepdims=kept)
    return np.where(several > 1, np.inf, 0.0)


def _scan(
    node: Node, function: Function, operands: Sequence[Bounded], values: list[Array]
) -> Errors:
    if len(values) > 1 or not node.results[0].dtype.is_floating_point:
        return _ordering(node, function, operands, values)
    (value,), dim = values, node.attributes["dim"]
    assert isinstance(dim, int)
    length = max(x.value.shape[dim] for x in operands if x.value.ndim > dim)
    return [_rounded(_of_sizes(function, operands, 0, 8 * length * _unit(value)), value, 1)]


def _scattering(
    node: Node, function: Function, operands: Sequence[Bounded], values: list[Array]
) -> Errors:
    (value,) = values
    if any(x.error is not None and x.value.dtype.kind in "iu" for x in operands):
        return [np.asarray(np.inf)]
    if _float_dtype(value) is None:
        return _handed_on(function, operands, values)
    count = max(x.value.size for x in operands[1:])
    error = _of_sizes(function, operands, 0, sum_rounding(count, node.result.dtype))
    for x in operands:
        if x.error is not None:
            error = error + x.error.max(initial=0.0)
    return [_rounded(error, value, 1)]


def _ordering(
    node: Node, function: Function, operands: Sequence[Bounded], values: list[Array]
) -> Errors:
    """Values of an order change no more than the keys; positions may be any."""
    if all(x.error is None for x in operands):
        return [None] * len(values)
    alone = len(operands) == 1
    errors = _handed_on(function, operands, values) if alone else [None] * len(values)
    return [
        np.asarray(np.inf) if value.dtype.kind in "iu" or error is None else error
        for value, error in zip(values, errors, strict=True)
    ]


def _host(node: Node, function: Function, operands: Any, values: list[Array]) -> Errors:
    return [_of_largest(value, _HOST * _unit(value)) for value in values]


def _of_largest(value: Array, part: float) -> Array | None:
    if part == 0.0:
        return None
    size = np.abs(_work(value))
    return np.asarray(part * np.max(size, initial=0.0, where=np.isfinite(size)))


def _by_trial(
    node: Node, function: Function, operands: Sequence[Bounded], values: list[Array]
) -> Errors:
    rng = np.random.default_rng(0)
    count = max((max(x.value.shape, default=1) for x in operands), default=1)
    errors: Errors = [_of_largest(value, _SPREAD * _unit(value)) for value in values]
    for _ in range(_SAMPLES):
        moved = []
        for x in operands:
            dtype = _float_dtype(x.value)
            if dtype is None:
                moved.append(x.value)
                continue
            signs = rng.integers(0, 2, x.value.shape) * 2 - 1
            part = max(sum_rounding(count, dtype), 2 * eps(dtype))
            wide = _work(x.value) * (1 + part * signs)
            if x.error is not None:
                wide = wide + signs * x.error
            moved.append(wide.astype(x.value.dtype))
        for number, (found, value) in enumerate(zip(function(*moved), values, strict=True)):
            largest = np.asarray(_SPREAD * _distance(found, value).max(initial=0.0))
            errors[number] = _added(errors[number], largest)
    return errors


_RULES: dict[str, Callable[..., Errors]] = {
    "creation": _exact,
    "random": _exact,
    "check": _exact,
    "pointwise": _elementwise,
    "movement": _moving,
    "gather": _moving,
    "contract": _contraction,
    "reduce": _reduction,
    "scan": _scan,
    "scatter": _scattering,
    "sort": _ordering,
    "host": _host,
}

# What the error of a result may be, of that of its bound.
SLACK = 4.0


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a result is further from what is expected than rounding explains.

    Attributes:
        count: how many elements are.
        index: of the first one.
        expected, found, allowed: there.
        worst: index of the element that exceeds what is allowed most, by its distance.
        largest: the distance there, nan if one of the two is not a number.
    """

    count: int
    index: tuple[int, ...]
    expected: Any
    found: Any
    allowed: float
    worst: tuple[int, ...]
    largest: float


def difference(found: Array, expected: Bounded) -> Difference | None:
    """Compare a result with what is expected; None if all elements are within `SLACK` times their
    errors. A nan is as expected where one is expected."""
    value = expected.value
    if found.dtype == value.dtype and found.tobytes() == value.tobytes():
        return None
    least = 0.0
    dtype = _float_dtype(value)
    if dtype is not None:
        least = 8 * float(np.finfo(np.float32 if dtype is bf16 else dtype.numpy).tiny)
    error: Any = 0.0 if expected.error is None else expected.error
    with np.errstate(all="ignore"):
        if dtype is None:
            apart = np.where(found == value, 0.0, np.abs(found.astype(np.float64) - value))
        else:
            apart = _distance(found, value)
        allowed = np.broadcast_to(SLACK * error + least * (dtype is not None), value.shape)
        wrong = apart > allowed
    if not wrong.any():
        return None
    first = tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), value.shape))
    worst_at = int(np.argmax(np.where(wrong, apart, -1.0)))
    worst = tuple(int(i) for i in np.unravel_index(worst_at, value.shape))
    with np.errstate(all="ignore"):
        largest = abs(float(found[worst]) - float(value[worst]))
    return Difference(
        int(wrong.sum()), first, value[first], found[first], float(allowed[first]), worst, largest
    )


