"""The kinds of steps of random programs that compute new tensors and look into old ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import replay_ops as ops
from program_maker import FLOATS, Maker, Operand
from replay import Tensor, Value

Kind = Callable[[Maker], Any]
KINDS: list[tuple[int, Kind]] = []


def kind(weight: int) -> Callable[[Kind], Kind]:
    """Enter a kind of step; it does nothing where it does not apply."""

    def enter(function: Kind) -> Kind:
        KINDS.append((weight, function))
        return function

    return enter


def floating(t: Tensor) -> bool:
    return t.dtype in FLOATS


def numeric(t: Tensor) -> bool:
    return t.dtype != "bool"


def exact(t: Tensor) -> bool:
    return t.read().exact


def ranked(t: Tensor) -> bool:
    return t.ndim > 0 and t.values.size > 0


# Making -------------------------------------------------------------------------------------------


@kind(3)
def create(m: Maker) -> None:
    shape, number = m.shape(), len(m.data)
    dtypes = ("float64", "float64", "float32")
    if number:
        dtypes += ("float64", "int64", "bool", "int32")
    dtype = m.pick(dtypes)
    count = math.prod(shape)
    raw = np.array([m.integer(0, 8) - 4 for _ in range(min(count, 4))] or [0])
    raw = np.resize(np.concatenate([raw, raw[::-1] + 1]), count).reshape(shape)
    array = (raw / 2 if dtype in FLOATS else raw % 2 if dtype == "bool" else raw).astype(dtype)
    m.data.append(array)
    needs = dtype in FLOATS and m.chance(70)
    name = m.name()

    def act(r: Any) -> None:
        value = Value(r.data[number], bound=5, grain=dtype in FLOATS)
        (r.leaf if needs else r.bind)(name, value)

    text = f"{name} = braze.tensor(data[{number}]"
    m.emit(text + (", requires_grad=True)" if needs else ")"), act)


@kind(1)
def constant(m: Maker) -> None:
    shape, dtype = m.shape(), m.pick(("float64", "int64", "float32"))
    form, value = m.pick((("zeros", 0), ("ones", 1)))
    m.result(
        f"braze.{form}({shape}, dtype=braze.{dtype})",
        lambda r: Value(np.full(shape, value, dtype)),
    )


# Elementwise --------------------------------------------------------------------------------------


@kind(8)
def binary(m: Maker) -> None:
    x = m.tensor()
    if x is None:
        return
    other, own = m.partner(x, mixed=m.chance(20)), m.read(x)
    forms: dict[str, Any] = {
        "{} + {}": ops.add,
        "{} * {}": ops.mul,
        "{} - {}": ops.sub,
        "braze.maximum({}, {})": ops.larger,
        "braze.minimum({}, {})": lambda r, a, b: ops.larger(r, a, b, -1),
        "braze.add({}, {}, alpha=2)": lambda r, a, b: ops.add(r, a, b, 2),
    }
    form = m.pick(list(forms))
    if m[x].dtype == "bool" and "*" not in form:
        form = "{} * {}"
    function = forms[form]
    one, two = (other, own) if m.chance(30) else (own, other)
    if "alpha" in form or "imum" in form:
        if not other.text.startswith("t"):
            return
        one, two = own, other
        if "imum" in form and not (exact(m[x]) and exact(m[other.text])):
            return
    m.result(form.format(one.text, two.text), lambda r: function(r, one.read(r), two.read(r)))


@kind(8)
def unary(m: Maker) -> None:
    x = m.tensor(numeric)
    if x is None:
        return
    names = list(ops.UNARY) if floating(m[x]) else ["neg", "abs", "relu", "square"]
    if not exact(m[x]):
        names = [n for n in names if n not in ("abs", "relu")]
    name = m.pick(names)
    if m[x].memory.bound <= ops.UNARY[name].most:
        m.result(f"{x}.{name}()", lambda r: ops.unary(r, name, r[x].read()))


@kind(2)
def quotient(m: Maker) -> None:
    x = m.tensor(numeric)
    if x is None:
        return
    other = m.partner(x)
    if other.text in m.replay.tensors and exact(m[other.text]):
        m.result(
            f"{x} / ({other.text}.abs() + 1)",
            lambda r: ops.quotient(r, r[x].read(), other.read(r)),
        )


@kind(2)
def position(m: Maker) -> None:
    """Where the largest element is, or whether all hold."""
    x = m.tensor(lambda t: ranked(t) and exact(t))
    if x is None:
        return
    d = m.integer(0, m[x].ndim - 1)
    if m[x].dtype == "bool":
        name, function = m.pick((("all", np.all), ("any", np.any)))
        m.result(f"{x}.{name}({d})", lambda r: Value(function(r[x].values, axis=d)))
    else:
        name, argument = m.pick((("argmax", np.argmax), ("argmin", np.argmin)))
        m.result(f"{x}.{name}({d})", lambda r: Value(argument(r[x].values, axis=d), bound=9))


@kind(2)
def mask(m: Maker) -> None:
    """The sum of the elements that a mask picks: how many they are is read in the middle."""
    x = m.tensor(lambda t: ranked(t) and numeric(t))
    hits = m.tensor(lambda t: x is not None and t.dtype == "bool" and t.shape == m[x].shape)
    if x is None or hits is None:
        return

    def compute(r: Any) -> Value:
        known = r[hits].values.copy()
        picked = ops.movement(r, r[x].read(), lambda a: a[known])
        picked.bound *= known.size  # whatever the mask
        result = ops.total(r, picked, (0,), False)
        result.bound = picked.bound
        return result

    m.result(f"{x}[{hits}].sum()", compute)


@kind(2)
def clamp(m: Maker) -> None:
    x = m.tensor(lambda t: floating(t) and exact(t))
    low, high = m.pick(((-1.0, 1.0), (0.0, 2.5), (-0.5, 0.5)))
    if x is not None:
        m.result(f"{x}.clamp({low}, {high})", lambda r: ops.clamp(r, r[x].read(), low, high))


@kind(3)
def compare(m: Maker) -> None:
    x = m.tensor(lambda t: numeric(t) and exact(t))
    if x is None:
        return
    other = m.partner(x)
    if other.text.startswith("t") and not exact(m[other.text]):
        return
    name, symbol = m.pick((("greater", ">"), ("less_equal", "<="), ("equal", "==")))
    m.result(
        f"{x} {symbol} {other.text}", lambda r: ops.compare(r, name, r[x].read(), other.read(r))
    )


@kind(3)
def where(m: Maker) -> None:
    c = m.tensor(lambda t: t.dtype == "bool")
    x = m.tensor(lambda t: numeric(t) and c is not None and _broadcast(t, m[c]))
    if c is None or x is None:
        return
    other = m.partner(x)
    if other.text.startswith("t") and not _broadcast(m[other.text], m[c], m[x]):
        return
    m.result(
        f"braze.where({c}, {x}, {other.text})",
        lambda r: ops.where(r, r[c].read(), r[x].read(), other.read(r)),
    )


def _broadcast(*tensors: Tensor) -> bool:
    try:
        np.broadcast_shapes(*(t.shape for t in tensors))
    except ValueError:
        return False
    return True


@kind(3)
def convert(m: Maker) -> None:
    x = m.tensor(exact)
    if x is None:
        return
    dtype = m.pick([d for d in ("float64", "float32", "int64", "bool") if d != m[x].dtype])
    if m[x].dtype in FLOATS and dtype == "int64" and m[x].memory.bound > 1e4:
        return
    m.result(f"{x}.to(braze.{dtype})", lambda r: ops.cast(r[x].read(), dtype))


@kind(2)
def clone(m: Maker) -> None:
    x = m.tensor()
    form = m.pick(("{}.clone()", "{} / 2"))
    if x is None:
        return
    if form == "{} / 2":
        m.result(f"{x} / 2", lambda r: ops.halved(r, r[x].read(), 1))
    else:
        m.result(f"{x}.clone()", lambda r: ops.movement(r, r[x].read(), np.copy))


# Reductions and products --------------------------------------------------------------------------


@kind(5)
def reduction(m: Maker) -> None:
    name = m.pick(("sum", "sum", "mean", "amax", "amin", "cumsum", "prod", "softmax"))
    ordered = name in ("amax", "amin")
    x = m.tensor(
        lambda t: (
            ranked(t)
            and (floating(t) or name not in ("mean", "softmax"))
            and (not ordered or exact(t))
        )
    )
    if x is None:
        return
    d, keep = m.integer(0, m[x].ndim - 1), m.chance(30)
    if name == "cumsum":
        m.result(f"{x}.cumsum({d})", lambda r: ops.cumsum(r, r[x].read(), d))
    elif name in ("prod", "softmax"):
        function = ops.product if name == "prod" else ops.softmax
        m.result(f"{x}.{name}({d})", lambda r: function(r, r[x].read(), d))
    elif ordered:
        sign = 1 if name == "amax" else -1
        if m[x].dtype != "bool":
            m.result(
                f"{x}.{name}({d}, keepdim={keep})",
                lambda r: ops.extreme(r, r[x].read(), d, keep, sign),
            )
    else:
        axes, text = ((d,), f"{d}") if m.chance(60) else (tuple(range(m[x].ndim)), "")
        if text:
            text += f", keepdim={keep}"
        keep = keep and bool(text)
        m.result(
            f"{x}.{name}({text})",
            lambda r: ops.total(r, r[x].read(), axes, keep, name == "mean"),
        )


@kind(2)
def best(m: Maker) -> None:
    x = m.tensor(lambda t: ranked(t) and numeric(t) and exact(t))
    if x is None:
        return
    d = m.integer(0, m[x].ndim - 1)
    form = m.pick(("max", "sort", "topk"))
    values, places = m.name(), m.name()
    count = m.integer(1, m[x].shape[d])
    descending = form != "sort" or m.chance(50)
    texts = {
        "max": f"{x}.max({d})",
        "sort": f"{x}.sort(dim={d}, descending={descending}, stable=True)",
        "topk": f"{x}.topk({count}, {d})",
    }

    def act(r: Any) -> None:
        value = r[x].read()
        order = ops.order_of(value, d, descending)
        if form != "sort":
            order = np.take(order, range(1 if form == "max" else count), d)
        picked = ops.movement(r, value, lambda a: np.take_along_axis(a, order, d))
        if form == "max":
            picked, order = ops.moved(picked, lambda a: np.squeeze(a, d)), np.squeeze(order, d)
        r.bind(values, picked)
        r.bind(places, Value(order.astype(np.int64), bound=8))
        if picked.requires_grad:
            memory = r[places].memory
            r.saved[max(picked.past)].memories.append((memory, memory.version))

    m.emit(f"{values}, {places} = {texts[form]}", act)


@kind(4)
def matmul(m: Maker) -> None:
    x = m.tensor(lambda t: floating(t) and ranked(t))
    if x is None:
        return

    def fits(t: Tensor) -> bool:
        own = m[x]
        if not (t.dtype == own.dtype and ranked(t)):
            return False
        if t.shape[-2 if t.ndim > 1 else -1] != own.shape[-1]:
            return False
        return t.ndim < 3 or own.ndim < 3 or t.shape[:-2] == own.shape[:-2]

    y = m.tensor(fits)
    if y is not None:
        m.result(f"{x} @ {y}", lambda r: ops.matmul(r, r[x].read(), r[y].read()))
        return
    if m[x].ndim == 2:
        m.result(
            f"{x} @ {x}.t()",
            lambda r: ops.matmul(r, r[x].read(), _transposed_read(r[x])),
        )


def _transposed_read(t: Tensor) -> Value:
    value = ops.moved(t.read(), np.transpose)
    value.memory = t.memory
    return value


# Joining and picking ------------------------------------------------------------------------------


@kind(3)
def join(m: Maker) -> None:
    x = m.tensor(ranked)
    if x is None:
        return
    y = m.tensor(lambda t: t.shape == m[x].shape)
    assert y is not None
    d = m.integer(0, m[x].ndim - 1)
    name, function = m.pick((("cat", np.concatenate), ("stack", np.stack)))
    m.result(
        f"braze.{name}([{x}, {y}], {d})",
        lambda r: ops.joined(r, [r[x].read(), r[y].read()], lambda a: function(a, axis=d)),
    )


@kind(5)
def pick(m: Maker) -> None:
    x = m.tensor(ranked)
    if x is None:
        return
    d = m.integer(0, m[x].ndim - 1)
    size = m[x].shape[d]
    form = m.pick(("index", "index_select", "gather", "flip", "negative", "roll", "two"))
    if form == "two" and m[x].ndim >= 2:
        _pick_two(m, x)
        return
    if form == "roll":
        m.result(
            f"{x}.roll(1, {d})", lambda r: ops.movement(r, r[x].read(), lambda a: np.roll(a, 1, d))
        )
        return
    if form == "flip":
        m.result(f"{x}.flip({d})", lambda r: ops.movement(r, r[x].read(), lambda a: np.flip(a, d)))
    elif form == "gather":
        shape = tuple(n if e != d else m.integer(1, 3) for e, n in enumerate(m[x].shape))
        index = m.index(shape, size)
        m.result(
            f"{x}.gather({d}, {index.text})",
            lambda r: ops.along(r, r[x].read(), index.read(r), d),
        )
    else:
        index = m.index((m.integer(1, 3),), size)
        if form == "negative":
            index = _negated(index)
        prefix = ":, " * d
        text = f"{x}[{prefix}{index.text}]"
        if form == "index_select":
            text = f"{x}.index_select({d}, {index.text})"

        def compute(r: Any) -> Value:
            known = index.read(r)
            known.memory = None if index.text[0] == "(" else known.memory
            return ops.movement(r, r[x].read(), lambda a: np.take(a, known.values, d), known)

        m.result(text, compute)


def _pick_two(m: Maker, x: str) -> None:
    """Two tensors of indices, next to each other or not."""
    own = m[x]
    count = m.integer(1, 3)
    last = own.ndim - 1 if m.chance(50) else 1
    one, two = m.index((count,), own.shape[0]), m.index((count,), own.shape[last])
    text = f"{x}[{one.text}, {':, ' * (last - 1)}{two.text}]"

    def compute(r: Any) -> Value:
        first, second = one.read(r), two.read(r)
        key = (first.values, *(slice(None),) * (last - 1), second.values)
        return ops.movement(r, r[x].read(), lambda a: a[key], first, second)

    m.result(text, compute)


def _negated(index: Operand) -> Operand:
    return Operand(f"~{index.text}", lambda r: Value(~index.read(r).values, bound=9))
