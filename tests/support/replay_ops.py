"""What the operations of random programs compute: values in NumPy, gradients on the replay's tape.

Each function takes the replay and `Value`s. Bounds and grains say how large results can get and
whether every right implementation gets the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from replay import INEXACT, Replay, Value, promoted
from replay_tape import Numbers, Tape, constants


def cast(value: Value, dtype: str) -> Value:
    """In another dtype; the ids go along."""
    with np.errstate(all="ignore"):
        values = value.values.astype(dtype)
    is_floating = dtype.startswith("float")
    grain = value.grain if is_floating or value.grain == INEXACT else 0
    if dtype == "bool":
        grain = 0
    bound = 1.0 if dtype == "bool" else value.bound
    ids, past, needs = value.ids, value.past, value.requires_grad and is_floating
    result = Value(values, ids, past, needs, bound, grain, value.weak)
    result.kept = value.kept
    result.memory = value.memory if values.dtype == value.values.dtype else None
    return result


def number(value: float | int | bool) -> Value:
    """A Python number."""
    grain = 0 if float(value).is_integer() else 4
    return Value(value, bound=abs(value), grain=grain, weak=True)


def together(*values: Value) -> list[Value]:
    """In the dtype that an operation of them computes in."""
    dtype = promoted(*values)
    return [cast(value, dtype) for value in values]


def moved(value: Value, movement: Callable[[np.ndarray], np.ndarray]) -> Value:
    """Elements picked or moved, without a rule of its own."""
    return Value(
        movement(value.values),
        movement(value.ids),
        value.past,
        value.requires_grad,
        value.bound,
        value.grain,
    )


def movement(r: Replay, value: Value, move: Callable[[np.ndarray], Any], *keeps: Value) -> Value:
    """As `moved`, recorded as an operation that may keep some operands, such as indices."""
    return r.result(
        move(value.values),
        lambda: value.numbers.moved(move),
        [value],
        keeps,
        value.bound,
        value.grain,
    )


# Elementwise --------------------------------------------------------------------------------------


def _sum_grain(*grains: int) -> int:
    return min(INEXACT, sum(grains))


def add(r: Replay, a: Value, b: Value, scale: float = 1) -> Value:
    """a + scale * b."""
    a, b = together(a, b)
    values = a.values | b.values if a.values.dtype == bool else a.values + scale * b.values

    def numbers() -> Numbers:
        return r.tape.add(a.numbers, r.tape.mul(b.numbers, constants(scale)))

    bound = a.bound + abs(scale) * b.bound
    values = np.asarray(values).astype(a.values.dtype)
    grain = max(a.grain, min(INEXACT, b.grain + (0 if float(scale).is_integer() else 4)))
    return r.result(values, numbers, [a, b], bound=bound, grain=grain)


def sub(r: Replay, a: Value, b: Value) -> Value:
    """a - b."""
    return add(r, a, b, -1)


def mul(r: Replay, a: Value, b: Value) -> Value:
    """a * b."""
    a, b = together(a, b)
    keeps = [a] * b.requires_grad + [b] * a.requires_grad
    return r.result(
        np.asarray(a.values * b.values),
        lambda: r.tape.mul(a.numbers, b.numbers),
        [a, b],
        keeps,
        a.bound * b.bound,
        _sum_grain(a.grain, b.grain),
    )


def halved(r: Replay, a: Value, power: int) -> Value:
    """a / 2**power, which is exact."""
    dtype = a.values.dtype.name if a.values.dtype.kind == "f" else "float32"
    a = cast(a, dtype)
    factor = 0.5**power
    return r.result(
        np.asarray(a.values * np.asarray(factor, dtype)),
        lambda: r.tape.mul(a.numbers, constants(factor)),
        [a],
        [],
        a.bound * factor,
        _sum_grain(a.grain, power),
    )


def larger(r: Replay, a: Value, b: Value, sign: int = 1) -> Value:
    """The larger of two (sign -1: the smaller); equal ones share the gradient."""
    a, b = together(a, b)
    choose = np.maximum if sign > 0 else np.minimum
    values = np.asarray(choose(a.values, b.values))

    def numbers() -> Numbers:
        x, y = np.broadcast_arrays(a.values, b.values)
        first = np.where(x == y, 0.5, np.where((x > y) == (sign > 0), 1.0, 0.0))
        parts = (constants(first), constants(1 - first))
        return r.tape.add(r.tape.mul(a.numbers, parts[0]), r.tape.mul(b.numbers, parts[1]))

    bound, grain = max(a.bound, b.bound), max(a.grain, b.grain)
    return r.result(values, numbers, [a, b], [a, b], bound, grain)


def where(r: Replay, condition: Value, a: Value, b: Value) -> Value:
    """Elements of one or the other."""
    a, b = together(a, b)

    def choose(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.where(condition.values, x, y)

    return r.result(
        choose(a.values, b.values),
        lambda: Numbers(choose(a.values, b.values), choose(a.ids, b.ids)),
        [a, b],
        [condition],
        max(a.bound, b.bound),
        max(a.grain, b.grain),
    )


def compare(r: Replay, name: str, a: Value, b: Value) -> Value:
    """A truth value for each element."""
    a, b = together(a, b)
    return Value(getattr(np, name)(a.values, b.values))


class Unary(NamedTuple):
    """A function of one number.

    Attributes:
        f: in NumPy. slope: its derivative, by steps of the tape.
        bound: of the result from that of the operand. grain: its change, or None if inexact.
        kept: what its gradient may need. most: the largest operands it is applied to.
    """

    f: Callable[[np.ndarray], np.ndarray]
    slope: Callable[[Tape, Numbers], Numbers]
    bound: Callable[[float], float]
    grain: int | None = None
    kept: str = "operand"
    most: float = math.inf


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _slope_of_tanh(t: Tape, x: Numbers) -> Numbers:
    y = by_name(t, "tanh", x)
    return t.add(constants(1.0), t.mul(constants(-1.0), t.mul(y, y)))


def _slope_of_sigmoid(t: Tape, x: Numbers) -> Numbers:
    y = by_name(t, "sigmoid", x)
    return t.mul(y, t.add(constants(1.0), t.mul(constants(-1.0), y)))


UNARY: dict[str, Unary] = {
    "neg": Unary(np.negative, lambda t, x: constants(-1.0), lambda b: b, 0, ""),
    "abs": Unary(np.abs, lambda t, x: constants(np.sign(x.values)), lambda b: b, 0),
    "relu": Unary(
        lambda x: np.maximum(x, 0), lambda t, x: constants(x.values > 0), lambda b: b, 0, "both"
    ),
    "square": Unary(
        np.square, lambda t, x: t.mul(constants(2.0), x), lambda b: b * b, 1, "operand"
    ),
    "sin": Unary(np.sin, lambda t, x: by_name(t, "cos", x), lambda b: 1.0),
    "cos": Unary(np.cos, lambda t, x: t.mul(constants(-1.0), by_name(t, "sin", x)), lambda b: 1.0),
    "exp": Unary(np.exp, lambda t, x: by_name(t, "exp", x), math.exp, None, "both", 3.0),
    "tanh": Unary(np.tanh, _slope_of_tanh, lambda b: 1.0, None, "both", 3.0),
    "sigmoid": Unary(_sigmoid, _slope_of_sigmoid, lambda b: 1.0, None, "both", 4.0),
}


def by_name(t: Tape, name: str, x: Numbers) -> Numbers:
    """A function of one number as a step of the tape."""
    rule = UNARY[name]
    return t.function(x, rule.f, lambda y: rule.slope(t, y))


def unary(r: Replay, name: str, a: Value) -> Value:
    """One of the functions of one number."""
    rule = UNARY[name]
    grain = INEXACT if rule.grain is None else a.grain * (1 + rule.grain)
    result = r.result(
        np.asarray(rule.f(a.values)).astype(a.values.dtype),
        lambda: by_name(r.tape, name, a.numbers),
        [a],
        [a] if rule.kept else [],
        rule.bound(a.bound),
        min(INEXACT, grain),
    )
    result.kept = rule.kept == "both"
    return result


def clamp(r: Replay, a: Value, low: float, high: float) -> Value:
    """Between two numbers; the ends let the gradient through."""
    inside = (a.values >= low) & (a.values <= high)
    return r.result(
        np.clip(a.values, low, high).astype(a.values.dtype),
        lambda: r.tape.mul(a.numbers, constants(inside)),
        [a],
        [a],
        max(abs(low), abs(high)),
        a.grain,
    )


# Sums and their like ------------------------------------------------------------------------------


def total(r: Replay, a: Value, axes: Sequence[int], keepdims: bool, mean: bool = False) -> Value:
    """Sums or means over dimensions."""
    axes = tuple(axes)
    count = math.prod(a.values.shape[d] for d in axes)
    dtype = a.values.dtype.name if a.values.dtype.kind == "f" else "int64"
    values = a.values.astype(dtype).sum(axis=axes, keepdims=keepdims)
    factor = 1 / max(count, 1) if mean else 1.0
    if mean:
        values = values / np.asarray(count, dtype) if count else np.full(values.shape, np.nan)
    exact = not mean or math.log2(max(count, 1)).is_integer()
    grain = a.grain + (int(math.log2(count)) if mean and exact and count else 0)
    return r.result(
        np.asarray(values).astype(dtype),
        lambda: r.tape.mul(r.tape.sum(a.numbers, axes, keepdims), constants(factor)),
        [a],
        [],
        a.bound * (1 if mean else max(count, 1)),
        min(INEXACT, grain) if exact else INEXACT,
    )


def extreme(r: Replay, a: Value, axis: int, keepdims: bool, sign: int) -> Value:
    """amax or amin over one dimension; equal elements share the gradient."""
    choose = np.max if sign > 0 else np.min
    kept = choose(a.values, axis=axis, keepdims=True)
    hits = a.values == kept
    share = hits / hits.sum(axis=axis, keepdims=True)

    def numbers() -> Numbers:
        return r.tape.sum(r.tape.mul(a.numbers, constants(share)), (axis,), keepdims)

    values = kept if keepdims else np.squeeze(kept, axis)
    result = r.result(values, numbers, [a], [a], a.bound, a.grain)
    result.kept = True
    return result


def cumsum(r: Replay, a: Value, axis: int) -> Value:
    """Running sums."""
    dtype = a.values.dtype.name if a.values.dtype.kind == "f" else "int64"
    shape = a.values.shape
    places = np.arange(math.prod(shape)).reshape(shape)

    def numbers() -> Numbers:
        rows = np.moveaxis(places, axis, -1)
        pairs = [
            (rows[..., out].reshape(-1), rows[..., at].reshape(-1))
            for out in range(rows.shape[-1])
            for at in range(out + 1)
        ]
        owners = np.concatenate([pair[0] for pair in pairs])
        parts = np.concatenate([pair[1] for pair in pairs])
        spread = a.numbers.moved(lambda x: x.reshape(-1)[parts])
        return r.tape.total(spread, owners, places.size).moved(lambda x: x.reshape(shape))

    values = np.cumsum(a.values.astype(dtype), axis=axis, dtype=dtype)
    return r.result(values, numbers, [a], [], a.bound * shape[axis], a.grain)


def matmul(r: Replay, a: Value, b: Value) -> Value:
    """Matrix products, also of vectors and stacks."""

    def numbers() -> Numbers:
        x, y = a.numbers, b.numbers
        left, right = x.values.ndim == 1, y.values.ndim == 1
        x = x.moved(lambda v: v[None] if left else v)
        y = y.moved(lambda v: v[:, None] if right else v)
        terms = r.tape.mul(
            x.moved(lambda v: v[..., :, :, None]), y.moved(lambda v: v[..., None, :, :])
        )
        out = r.tape.sum(terms, (terms.values.ndim - 2,))
        out = out.moved(lambda v: v[..., 0] if right else v)
        return out.moved(lambda v: v[..., 0, :] if left and not right else v[0] if left else v)

    keeps = [a] * b.requires_grad + [b] * a.requires_grad
    bound = a.bound * b.bound * max(a.values.shape[-1], 1)
    grain = _sum_grain(a.grain, b.grain)
    values = np.asarray(np.matmul(a.values, b.values))
    return r.result(values, numbers, [a, b], keeps, bound, grain)


def product(r: Replay, a: Value, axis: int) -> Value:
    """Products over one dimension."""
    rows = [moved(a, lambda x, i=i: np.take(x, i, axis)) for i in range(a.values.shape[axis])]
    dtype = a.values.dtype.name if a.values.dtype.kind == "f" else "int64"

    def numbers() -> Numbers:
        found = rows[0].numbers
        for row in rows[1:]:
            found = r.tape.mul(found, row.numbers)
        return found

    values = np.asarray(np.prod(a.values, axis=axis, dtype=dtype))
    count = len(rows)
    grain = min(INEXACT, a.grain * count)
    result = r.result(values, numbers, [a], [a], max(1.0, a.bound) ** count, grain)
    result.kept = True
    return result


def softmax(r: Replay, a: Value, axis: int) -> Value:
    """exp(x) over its sum along a dimension."""
    powers = np.exp(a.values - a.values.max(axis=axis, keepdims=True))

    def numbers() -> Numbers:
        t, x = r.tape, a.numbers
        top = constants(-x.values.max(axis=axis, keepdims=True))
        up = by_name(t, "exp", t.add(x, top))
        return t.mul(up, inverse(t, t.sum(up, (axis,), keepdims=True)))

    values = powers / powers.sum(axis=axis, keepdims=True)
    result = r.result(values.astype(a.values.dtype), numbers, [a], [a], 1.0, INEXACT)
    result.kept = True
    return result


def inverse(t: Tape, x: Numbers) -> Numbers:
    """1 / x as a step of the tape."""

    def slope(y: Numbers) -> Numbers:
        one = inverse(t, y)
        return t.mul(constants(-1.0), t.mul(one, one))

    return t.function(x, lambda v: 1 / v, slope)


def quotient(r: Replay, a: Value, b: Value) -> Value:
    """a / (|b| + 1)."""
    read = b
    a, b = together(a, b)
    if a.values.dtype.kind != "f":
        a, b = cast(a, "float32"), cast(b, "float32")
    below = np.abs(b.values) + 1

    def numbers() -> Numbers:
        size = r.tape.add(by_name(r.tape, "abs", b.numbers), constants(1.0))
        return r.tape.mul(a.numbers, inverse(r.tape, size))

    values = np.asarray(a.values / below)
    return r.result(values, numbers, [a, b], [a, read], a.bound, INEXACT)


# Joining and picking ------------------------------------------------------------------------------


def joined(r: Replay, parts: Sequence[Value], join: Callable[[list[np.ndarray]], Any]) -> Value:
    """cat, stack and their like."""
    parts = together(*parts)
    values, ids = join([p.values for p in parts]), join([p.ids for p in parts])
    return r.result(
        values,
        lambda: Numbers(values, ids),
        parts,
        [],
        max(p.bound for p in parts),
        max(p.grain for p in parts),
    )


def order_of(a: Value, axis: int, descending: bool) -> np.ndarray:
    """The stable order of the elements along a dimension."""
    keys = a.values.astype(np.float64) if a.values.dtype.kind == "f" else a.values.astype(np.int64)
    return np.argsort(-keys if descending else keys, axis=axis, kind="stable")


def along(r: Replay, a: Value, index: Value, axis: int) -> Value:
    """gather."""

    def pick(x: np.ndarray) -> np.ndarray:
        cut = tuple(
            slice(None) if d == axis else slice(n) for d, n in enumerate(index.values.shape)
        )
        return np.take_along_axis(x[cut], index.values.astype(np.int64), axis)

    return movement(r, a, pick, index)


def put(r: Replay, a: Value, key: Any, new: Value, accumulate: bool, *keeps: Value) -> Value:
    """A copy of `a` after a[key] = new (the last of several stays), or += new."""
    places = np.arange(a.values.size).reshape(a.values.shape)[key]
    new = cast(new, a.values.dtype.name)
    spread = new.numbers.moved(lambda x: np.broadcast_to(x, places.shape).reshape(-1))
    at = places.reshape(-1)
    shape = a.values.shape
    values = a.values.reshape(-1).copy()
    updates = np.broadcast_to(new.values, places.shape).reshape(-1)
    if not accumulate:
        ids = a.ids.reshape(-1).copy()
        for place, value, known in zip(at, updates, spread.ids, strict=True):
            values[place], ids[place] = value, known
        result = Numbers(values.reshape(shape), ids.reshape(shape))
        bound, grain = max(a.bound, new.bound), max(a.grain, new.grain)
        return r.result(result.values, lambda: result, [a, new], keeps, bound, grain)
    np.add.at(values, at, updates)

    def numbers() -> Numbers:
        flat = a.numbers.moved(lambda x: x.reshape(-1))
        terms = Numbers(*map(np.concatenate, zip(flat, spread, strict=True)))
        owners = np.concatenate([np.arange(values.size), at])
        return r.tape.total(terms, owners, values.size).moved(lambda x: x.reshape(shape))

    bound, grain = a.bound + new.bound * max(at.size, 1), max(a.grain, new.grain)
    return r.result(values.reshape(shape), numbers, [a, new], keeps, bound, grain)
