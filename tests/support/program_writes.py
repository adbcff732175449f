"""The kinds of steps of random programs that write in place, share memory with NumPy, read values
in the middle, fail, and forget tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import replay_ops as ops
from program_maker import Maker, Operand
from program_steps import exact, floating, kind, numeric, ranked
from program_views import movement_of
from replay import Refused, Replay, Tensor, Value


def own_value(t: Tensor) -> Value:
    """The tensor that is overwritten as an operand; if it is on the tape, its gradient keeps a
    copy."""
    value = t.read()
    if t.requires_grad:
        value.memory = None
    return value


# In place -----------------------------------------------------------------------------------------


@kind(12)
def update(m: Maker) -> None:
    x = m.tensor()
    if x is None:
        return
    other = m.partner(x, into=True)
    forms: dict[str, Any] = {
        "{}.add_({})": ops.add,
        "{} += {}": ops.add,
        "{}.mul_({})": ops.mul,
        "{} -= {}": ops.sub,
        "{}.sub_({})": ops.sub,
        "{} *= {}": ops.mul,
    }
    form = m.pick(list(forms))
    if m[x].dtype == "bool":
        form = "{}.mul_({})"
    m.write(form.format(x, other.text), x, lambda r: forms[form](r, own_value(r[x]), other.read(r)))


@kind(4)
def update_one(m: Maker) -> None:
    x = m.tensor(numeric)
    if x is None:
        return
    names = ["neg", "square"] + ["sin", "tanh", "exp", "sigmoid"] * floating(m[x])
    if exact(m[x]):
        names += ["abs", "relu"]
    name = m.pick(names)
    if m[x].memory.bound <= ops.UNARY[name].most:
        m.write(f"{x}.{name}_()", x, lambda r: ops.unary(r, name, own_value(r[x])))


@kind(4)
def overwrite(m: Maker) -> None:
    x = m.tensor()
    if x is None:
        return
    form = m.pick(("zero_()", "fill_(2)", "clamp_(-1, 1)", "cumsum_(0)", "copy_"))
    own = m[x]
    if form == "copy_":
        source = m.partner(x, into=True)
        if source.text in m.replay.tensors:
            text = f"{x}.copy_({source.text})"
            m.write(text, x, lambda r: _copied(r, r[x], source.read(r)))
        return
    if form == "clamp_(-1, 1)":
        if numeric(own) and exact(own):
            m.write(f"{x}.{form}", x, lambda r: ops.clamp(r, own_value(r[x]), -1, 1))
        return
    if form == "cumsum_(0)":
        if floating(own) and ranked(own):
            m.write(f"{x}.{form}", x, lambda r: ops.cumsum(r, own_value(r[x]), 0))
        return
    value = 0 if form == "zero_()" else 2
    m.write(
        f"{x}.{form}", x, lambda r: Value(np.full(r[x].shape, value), bound=value), repeats=True
    )


def _copied(r: Replay, target: Tensor, source: Value) -> Value:
    value = ops.cast(source, target.dtype)
    return ops.movement(r, value, lambda a: np.broadcast_to(a, target.shape))


@kind(8)
def assign(m: Maker) -> None:
    """x[key] = value through all kinds of views."""
    x = m.tensor(lambda t: t.values.size > 0)
    if x is None:
        return
    made = movement_of(m, m[x])
    if made is None:
        return
    text, movement = made
    target = movement(m[x].values)
    value = _filling(m, m[x], target.shape)

    def compute(r: Replay) -> Value:
        shape = movement(r[x].values).shape
        return ops.movement(r, value.read(r), lambda a: np.broadcast_to(a, shape))

    if text[0] == "[":
        m.write(f"{x}{text} = {value.text}", x, compute, movement)
    elif m.chance(50):
        m.write(f"{x}{text}[...] = {value.text}", x, compute, movement)
    elif numeric(m[x]):
        m.write(
            f"{x}{text}.mul_({value.text})",
            x,
            lambda r: ops.mul(r, _part(r, x, movement), value.read(r)),
            movement,
        )


def _part(r: Replay, x: str, movement: Any) -> Value:
    return ops.moved(r[x].read(), movement)


def _filling(m: Maker, own: Tensor, shape: tuple[int, ...]) -> Operand:
    """Something of this dtype that broadcasts to a shape."""

    def fits(t: Tensor) -> bool:
        if t.dtype != own.dtype or t.ndim > len(shape):
            return False
        try:
            return np.broadcast_shapes(t.shape, shape) == shape
        except ValueError:
            return False

    name = m.tensor(fits) if m.chance(60) else None
    return m.number(own.dtype) if name is None else m.read(name)


@kind(6)
def assign_by_index(m: Maker) -> None:
    """Writes at places that a tensor of indices names."""
    x = m.tensor(ranked)
    if x is None:
        return
    own = m[x]
    form = m.pick(("set", "put", "accumulate", "index_add_", "index_copy_", "scatter_"))
    d = 0 if form in ("put", "accumulate") else m.integer(0, own.ndim - 1)
    size, rank = own.shape[d], own.ndim
    count = m.integer(1, min(size, 3))
    distinct = form in ("index_copy_", "scatter_", "set", "put")
    if form in ("accumulate", "index_add_") and own.dtype == "bool":
        return
    index = m.index((count,), size, distinct)
    shape = tuple(count if e == d else n for e, n in enumerate(own.shape))
    accumulate = form in ("accumulate", "index_add_")

    def key(known: np.ndarray) -> tuple[Any, ...]:
        return (slice(None),) * d + (known,)

    if form in ("index_add_", "index_copy_"):
        source = m.tensor(lambda t: t.shape == shape and t.dtype == own.dtype)
        if source is None:
            return
        value = m.read(source)
        text = f"{x}.{form}({d}, {index.text}, {value.text})"
    elif form == "scatter_":
        value = m.number(own.dtype)
        text = f"{x}.scatter_({d}, {index.text}.reshape({_along(d, own.ndim)}), {value.text})"
    else:
        value = _filling(m, own, shape)
        text = f"{x}[{':, ' * d}{index.text}] = {value.text}"
        if form != "set":
            if value.text not in m.replay.tensors:
                return
            more = ", accumulate=True" if accumulate else ""
            text = f"{x}.index_put_(({index.text},), {value.text}{more})"

    def compute(r: Replay) -> Value:
        known = index.read(r)
        place: Any = key(known.values)
        if form == "scatter_":
            place = tuple(0 if e != d else known.values for e in range(rank))
        return ops.put(r, own_value(r[x]), place, value.read(r), accumulate, known)

    m.write(text, x, compute)


def _along(d: int, rank: int) -> tuple[int, ...]:
    return tuple(-1 if e == d else 1 for e in range(rank))


@kind(4)
def assign_by_mask(m: Maker) -> None:
    x = m.tensor(ranked)
    mask = m.tensor(lambda t: x is not None and t.dtype == "bool" and t.shape == m[x].shape)
    if x is None or mask is None:
        return
    value, form = m.number(m[x].dtype), m.pick(("{}[{}] = {}", "{}.masked_fill_({}, {})"))

    def compute(r: Replay) -> Value:
        own = own_value(r[x])
        new = ops.cast(value.read(r), r[x].dtype)
        return ops.where(r, r[mask].read(), new, own)

    m.write(form.format(x, mask, value.text), x, compute)


@kind(2)
def bits(m: Maker) -> None:
    """A float64 tensor seen and written as integers."""
    x = m.tensor(lambda t: t.dtype == "float64" and t.values.size > 0 and exact(t))
    if x is None:
        return
    if m.chance(50):
        text = f"seen.append({x}.detach().view(braze.int64).tolist())"
        m.emit(text, lambda r: r.seen.append(Value(r[x].values.copy().view(np.int64))))
        return
    one = int(np.float64(1.5).view(np.int64))

    def act(r: Replay) -> None:
        twin = r.detached(r[x])
        r.write(twin, Value(np.full(twin.shape, 1.5), bound=1.5, grain=1))

    m.emit(f"{x}.detach().view(braze.int64)[...] = {one}", act)


@kind(3)
def into(m: Maker) -> None:
    """`out=`, which gradients do not flow through."""
    x = m.tensor(lambda t: numeric(t) and not t.says_requires_grad)
    if x is None:
        return
    own = m[x]

    def fits(t: Tensor) -> bool:
        return t.shape == own.shape and t.dtype == own.dtype and not t.says_requires_grad

    y, z = m.tensor(fits), m.tensor(fits)
    name, function = m.pick((("add", ops.add), ("mul", ops.mul), ("sub", ops.sub)))
    if y is not None and z is not None and not m[z].shows_twice():
        m.write(
            f"braze.{name}({x}, {y}, out={z})",
            z,
            lambda r: function(r, r[x].read(), r[y].read()),
        )


@kind(3)
def scatter_add(m: Maker) -> None:
    x = m.tensor(lambda t: ranked(t) and numeric(t))
    if x is None:
        return
    own = m[x]
    d = m.integer(0, own.ndim - 1)
    source = m.tensor(
        lambda t: (
            t.dtype == own.dtype
            and t.ndim == own.ndim
            and t.values.size > 0
            and all(
                n <= k or e == d for e, (n, k) in enumerate(zip(t.shape, own.shape, strict=True))
            )
        )
    )
    if source is None:
        return
    index = m.index(m[source].shape, own.shape[d])

    def compute(r: Replay) -> Value:
        known, value = index.read(r), r[source].read()
        place: list[Any] = list(np.indices(known.values.shape))
        place[d] = known.values
        return ops.put(r, own_value(r[x]), tuple(place), value, True, known)

    m.write(f"{x}.scatter_add_({d}, {index.text}, {source})", x, compute)


# Tensors that look elsewhere ----------------------------------------------------------------------


@kind(3)
def redirect(m: Maker) -> None:
    x = m.tensor(lambda t: not (t.family.leaf and t.requires_grad) and t.retained is None)
    if x is None:
        return
    form = m.pick(("t_", "unsqueeze_", "set_"))
    rank = m[x].ndim
    if form == "t_" and rank == 2 and not m.no_grad:
        _look(m, f"{x}.t_()", x, lambda a: a.swapaxes(0, 1))
    elif form == "unsqueeze_" and rank < 4 and not m.no_grad:
        d = m.integer(0, rank)
        _look(m, f"{x}.unsqueeze_({d})", x, lambda a: np.expand_dims(a, d))
    elif form == "set_":
        y = m.tensor(lambda t: t.dtype == m[x].dtype and not t.requires_grad)
        if y is None or m[x].requires_grad or m[y].requires_grad or y == x:
            return

        def act(r: Replay) -> None:
            _look_at(r[x], r[y], lambda a: a)

        m.emit(f"{x}.set_({y})", act)


def _look(m: Maker, text: str, x: str, movement: Any) -> None:
    def act(r: Replay) -> None:
        _look_at(r[x], r[x], movement)

    m.emit(text, act)


def _look_at(tensor: Tensor, of: Tensor, movement: Any) -> None:
    """Also under other names, since it stays the same object."""
    tensor.memory.version += tensor.memory is of.memory and not tensor.family.silent
    tensor.memory, tensor.family = of.memory, of.family
    tensor.values, tensor.ids = movement(of.values), movement(of.ids)
    tensor.is_view = True


# NumPy --------------------------------------------------------------------------------------------


@kind(4)
def to_numpy(m: Maker) -> None:
    x = m.tensor(lambda t: t.values.size > 0)
    if x is None:
        return
    name = f"n{len(m.replay.arrays)}"

    def act(r: Replay) -> None:
        r.arrays[name] = r.detached(r[x])

    m.emit(f"{name} = {x}.detach().numpy()", act)


@kind(4)
def write_array(m: Maker) -> None:
    name = _array(m)
    if name is None:
        return
    if m.replay.arrays[name].dtype == "bool":
        text, change = f"{name}[...] = True", lambda a: True
    else:
        text, change = m.pick(
            ((f"{name}[...] = 2", lambda a: 2), (f"{name} += 1", lambda a: a + 1))
        )

    def act(r: Replay) -> None:
        array = r.arrays[name]
        array.values[...] = change(array.values)
        array.memory.facts.bound = max(2.0, array.memory.bound + 1)

    m.emit(text, act)


def _array(m: Maker) -> str | None:
    """An array whose memory no gradient needs and that has no element twice."""
    kept = m.kept()
    names = [
        name
        for name, array in m.replay.arrays.items()
        if array.memory.facts not in kept and not array.shows_twice()
    ]
    return m.pick(names) if names else None


@kind(2)
def from_numpy(m: Maker) -> None:
    names = [n for n, a in m.replay.arrays.items() if a.values.flags.c_contiguous]
    if not names:
        return
    array, name = m.pick(names), m.name()

    m.emit(f"{name} = braze.from_numpy({array})", lambda r: r.from_array(name, r.arrays[array]))


# Looking, failing, forgetting ---------------------------------------------------------------------


@kind(4)
def look(m: Maker) -> None:
    x = m.tensor()
    if x is None:
        return
    if m[x].dtype == "bool" and m.chance(50):
        text = f"seen.append(bool({x}.all()))"
        m.emit(text, lambda r: r.seen.append(Value(r[x].values.all())))
    elif m.chance(50):
        m.emit(f"seen.append({x}.tolist())", lambda r: r.seen.append(r[x].read()))
    else:
        axes = tuple(range(m[x].ndim))
        m.emit(
            f"seen.append({x}.sum().item())",
            lambda r: r.seen.append(ops.total(r, r[x].read(), axes, False)),
        )


@kind(1)
def sync(m: Maker) -> None:
    m.emit("braze.sync()", lambda r: None)


@kind(4)
def fail(m: Maker) -> None:
    """What must raise and change nothing."""
    x = m.tensor(lambda t: max(t.shape[-2:], default=1) > 1 and numeric(t))
    if x is None:
        return
    texts = {
        f"{x}.index_select(0, braze.tensor([0, 99])); braze.sync()": "IndexError",
        f"{x}[braze.tensor([-99])] = 1; braze.sync()": "IndexError",
        f"{x}[99]": "IndexError",
        f"{x}.add_(braze.zeros(7, 11))": "RuntimeError",
        f"{x} + braze.zeros(7, 11)": "RuntimeError",
        f"{x}.index_add_(0, braze.tensor([99]), {x}[:1].detach().clone()); braze.sync()": (
            "IndexError"
        ),
    }
    text = m.pick(list(texts))
    error = texts[text]
    writes = "] = " in text or "add_(" in text

    def act(r: Replay) -> None:
        if writes:
            r.check_write(r[x])
        raise Refused(error)

    m.emit(text, act)


@kind(3)
def forget(m: Maker) -> None:
    names = list(m.replay.tensors)
    if len(names) < 4:
        return
    name = m.pick(names)

    def act(r: Replay) -> None:
        del r.tensors[name]

    m.emit(f"del {name}", act)
