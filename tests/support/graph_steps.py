"""The steps of the random graph generator: each adds one operation, with operands that suit it.

A step picks a value, makes the operands fit (new inputs where nothing fits), emits the nodes and
notes two facts about the result: a bound of its magnitude, and whether it is exact, that is, free
of rounding errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from graph_maker import Maker
from scan_steps import scan, scan_in_blocks

import braze.ir as ir
from braze.ir.graph import Value

LIMIT = 1000.0  # larger values are scaled down before anything else reads them


# Elementwise --------------------------------------------------------------------------------------


def arithmetic(m: Maker) -> None:
    x = m.number()
    y = m.partner(x)
    name = m.choices.pick(("add", "sub", "mul", "maximum", "minimum"))
    a, c = m.bounds(x, y)
    bound = a * c if name == "mul" else max(a, c) if name.endswith("imum") else a + c
    exact = name.endswith("imum") and x in m.exact and y in m.exact
    m.add(getattr(m.b, name)(x, y), bound, exact)


def division(m: Maker) -> None:
    x = m.number()
    y = m.partner(x)
    if x.dtype.is_integer:
        name = m.choices.pick(("floor_divide", "remainder", "gcd"))
        m.add(getattr(m.b, name)(x, y), max(m.bounds(x, y)) + 1, exact=True)
        return
    safe = m.b.add(m.b.abs(y), 0.5)
    m.add(m.b.div(x, safe), m.bound[x] * 2, exact=False)


def uniform(m: Maker) -> None:
    """An operation of a small value with a constant, of which either may be broadcast."""
    x = m.floating()
    number = m.choices.pick((0.0, 1.0, -1.0, 0.5, -4.0, 3.0))
    name = m.choices.pick(("add", "sub", "mul", "div", "maximum"))
    larger = (m.choices.pick((2, 3)), *x.shape) if x.type.rank < 4 else x.shape
    shape = m.choices.pick((x.shape, larger, x.shape[-1:], ()))
    constant = m.b.expand(m.b.constant(value=number, dtype=x.dtype), shape=shape)
    first, second = m.choices.pick(((x, constant), (constant, x)))
    bound = (m.bound[x] + abs(number)) * 4
    if name == "div":
        first, second = (x, constant) if number else (constant, m.b.add(m.b.abs(x), 0.5))
    m.add(getattr(m.b, name)(first, second), bound, exact=False)


def power(m: Maker) -> None:
    x = m.floating()
    y = m.partner(x)
    base = m.b.add(m.b.tanh(x), 1.5)
    m.add(m.b.pow(base, m.b.tanh(y)), 2.5, exact=False)


def angle(m: Maker) -> None:
    y = m.floating()
    x = m.partner(y)
    m.add(m.b.atan2(y, m.b.add(m.b.abs(x), 0.5)), 1.6, exact=False)


def unary(m: Maker) -> None:
    x = m.number()
    name = m.choices.pick(("neg", "abs", "sign"))
    if name == "sign":
        x = m.exactly(x)
    m.add(getattr(m.b, name)(x), max(m.bound[x], 1.0), exact=x in m.exact)


def smooth(m: Maker) -> None:
    """Bounded functions that take any operand."""
    x = m.floating()
    name = m.choices.pick(("tanh", "sin", "cos", "atan", "erf"))
    if m.bound[x] > 50:
        x = m.b.mul(x, 50 / m.bound[x])
    m.add(getattr(m.b, name)(x), 1.6, exact=False)


def exponential(m: Maker) -> None:
    x = m.floating()
    if m.bound[x] > 4:
        x = m.b.mul(x, 4 / m.bound[x])
    m.add(getattr(m.b, m.choices.pick(("exp", "expm1")))(x), 55, exact=False)


def logarithm(m: Maker) -> None:
    x = m.floating()
    bound = max(abs(math.log(0.25)), math.log(m.bound[x] + 2), math.sqrt(m.bound[x] + 1))
    positive = m.b.add(m.b.abs(x), 0.25)
    name = m.choices.pick(("log", "log1p", "sqrt"))
    m.add(getattr(m.b, name)(positive), bound, exact=False)


def rounding(m: Maker) -> None:
    x = m.exactly(m.floating())
    name = m.choices.pick(("floor", "ceil", "trunc", "round"))
    m.add(getattr(m.b, name)(x), m.bound[x] + 1, exact=True)


def comparison(m: Maker) -> None:
    x = m.exactly(m.number())
    y = m.exactly(m.partner(x))
    name = m.choices.pick(("eq", "ne", "lt", "le", "gt", "ge"))
    m.add(getattr(m.b, name)(x, y), 1.0, exact=True)


def bits(m: Maker) -> None:
    x = m.pick(lambda v: not v.dtype.is_floating_point) or m.new_input(ir.i32)
    name = m.choices.pick(("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not"))
    whole = 2.0**x.dtype.bits
    if name == "bitwise_not":
        m.add(m.b.bitwise_not(x), m.bound[x] + 1 if x.dtype.is_signed else whole, exact=True)
        return
    m.add(getattr(m.b, name)(x, m.partner(x)), whole, exact=True)


def shift(m: Maker) -> None:
    x = m.pick(lambda v: v.dtype.is_integer) or m.new_input(ir.i32)
    name = m.choices.pick(("shift_left", "shift_right"))
    m.add(getattr(m.b, name)(x, m.choices.integer(0, 5)), 2.0**x.dtype.bits, exact=True)


def selection(m: Maker) -> None:
    x = m.any_value()
    y = m.partner(x)
    condition = m.pick(lambda v: v.dtype is ir.bool_ and _broadcasts(m, v, x, y))
    if condition is None:
        left = m.new_input(ir.f32, tuple(1 if m.choices.chance(30) else s for s in x.shape))
        condition = m.b.gt(left, m.b.constant(value=0.25, dtype=ir.f32))
    m.add(m.b.where(condition, x, y), max(m.bounds(x, y)), x in m.exact and y in m.exact)


def _broadcasts(m: Maker, *values: Value) -> bool:
    try:
        shape = ir.broadcast_shapes("where", *(v.type for v in values))
    except ir.ShapeError:
        return False
    return math.prod(shape) <= m.numel


def conversion(m: Maker) -> None:
    x = m.any_value()
    dtype = m.choices.pick((*m.dtypes, ir.f32, ir.i64))
    if x.dtype.is_floating_point and not dtype.is_floating_point:
        x = m.exactly(x)
        if dtype.kind == "uint":
            x = m.b.abs(x)
            m.bound[x] = LIMIT
            m.exact.add(x)
    exact = x in m.exact and not dtype.is_floating_point
    m.add(m.b.cast(x, dtype=dtype), m.bound[x], exact)


# Reductions and contractions ----------------------------------------------------------------------


def _dims(m: Maker, rank: int) -> tuple[int, ...]:
    dims = tuple(d for d in range(rank) if m.choices.chance(50))
    return dims or ((m.choices.integer(0, rank - 1),) if rank else ())


def reduction(m: Maker) -> None:
    x = m.number()
    name = m.choices.pick(("sum", "sum", "prod", "amax", "amin"))
    dims = _dims(m, x.type.rank)
    count = math.prod(x.shape[d] for d in dims)
    bound = m.bound[x]
    if name == "prod" and x.dtype.is_floating_point and bound > 1.5:
        x, bound = m.b.mul(x, 1.5 / bound), 1.5
    if name == "sum":
        bound *= count
    elif name == "prod":
        bound = max(bound, 1.0) ** min(count, 100)
    exact = name.startswith("am") and x in m.exact
    m.add(getattr(m.b, name)(x, dims=dims, keepdim=m.choices.chance(50)), bound, exact)


def logical_reduction(m: Maker) -> None:
    x = m.pick(lambda v: v.dtype is ir.bool_) or m.new_input(ir.bool_)
    name = m.choices.pick(("any", "all", "amax", "amin"))
    dims = _dims(m, x.type.rank)
    m.add(getattr(m.b, name)(x, dims=dims, keepdim=m.choices.chance(50)), 1.0, exact=True)


def position(m: Maker) -> None:
    x = m.exactly(m.number())
    if x.type.rank:
        dim = m.choices.integer(0, x.type.rank - 1)
        name = m.choices.pick(("argmax", "argmin"))
        result = getattr(m.b, name)(x, dims=(dim,), keepdim=m.choices.chance(50))
        m.add(result, x.shape[dim], exact=True)


def contraction(m: Maker) -> None:
    x = m.number()
    left = "abcdefg"[: x.type.rank]
    sizes = dict(zip(left, x.shape, strict=True))
    shared = "".join(c for c in left if m.choices.chance(60))
    inner = "".join(c for c in shared if m.choices.chance(60))
    fresh = "xy"[: m.choices.integer(0, 2)]
    sizes.update({c: m.choices.pick((1, 2, 3, 5)) for c in fresh})
    right = _shuffle(m, shared + fresh)
    out = _shuffle(m, "".join(c for c in left + fresh if c not in inner))
    if math.prod(sizes[c] for c in out) > m.numel:
        return
    shape = tuple(sizes[c] for c in right)
    y = m.pick(lambda v: v.shape == shape and v.dtype is x.dtype) or m.new_input(x.dtype, shape)
    bound = m.bound[x] * m.bound[y] * math.prod(sizes[c] for c in inner)
    m.add(m.b.contract(x, y, equation=f"{left},{right}->{out}"), bound, exact=False)


def _shuffle(m: Maker, letters: str) -> str:
    rest, made = list(letters), ""
    while rest:
        made += rest.pop(m.choices.integer(0, len(rest) - 1))
    return made


# Movement -----------------------------------------------------------------------------------------


def _moved(m: Maker, x: Value, result: Value) -> Value:
    if result.type.numel > m.numel:
        return x  # the node stays, unread: passes must cope with dead code
    return m.add(result, m.bound[x], x in m.exact)


def reshape(m: Maker) -> None:
    x = m.any_value()
    sizes, rest = [], x.type.numel
    for _ in range(m.choices.integer(0, 3)):
        size = m.choices.pick([d for d in range(1, rest + 1) if rest % d == 0] or [0])
        sizes.append(size)
        rest = rest // size if size else 0
    shape = (*sizes, rest) if rest != 1 or m.choices.chance(30) else tuple(sizes)
    _moved(m, x, m.b.reshape(x, shape=shape))


def permute(m: Maker) -> None:
    x = m.any_value()
    order = _shuffle(m, "0123456"[: x.type.rank])
    _moved(m, x, m.b.permute(x, dims=tuple(int(c) for c in order)))


def expand(m: Maker) -> None:
    x = m.any_value()
    shape = tuple(m.choices.pick((1, 2, 3)) if size == 1 else size for size in x.shape)
    if m.choices.chance(40):
        shape = (m.choices.pick((1, 2, 3)), *shape)
    _moved(m, x, m.b.expand(x, shape=shape))


def slice_(m: Maker) -> None:
    x = m.any_value()
    starts, stops, steps = [], [], []
    for size in x.shape:
        start = m.choices.integer(0, max(size - 1, 0)) if m.choices.chance(50) else 0
        stop = m.choices.integer(min(start + 1, size), size)
        starts.append(start)
        stops.append(stop)
        steps.append(m.choices.pick((1, 1, 2, 3)))
    result = m.b.slice(x, starts=tuple(starts), stops=tuple(stops), steps=tuple(steps))
    _moved(m, x, result)


def pad(m: Maker) -> None:
    x = m.any_value()
    rank = x.type.rank
    low, high, interior = (
        tuple(m.choices.pick((0, 0, 1, 2)) for _ in range(rank)) for _ in range(3)
    )
    value = 0.0 if x.dtype is ir.bool_ else m.choices.pick((0.0, 1.0, 0))
    m.bound[x] = max(m.bound[x], 1.0)
    _moved(m, x, m.b.pad(x, low=low, high=high, interior=interior, value=value))


def flip(m: Maker) -> None:
    x = m.any_value()
    _moved(m, x, m.b.flip(x, dims=_dims(m, x.type.rank)))


def concat(m: Maker) -> None:
    x = m.any_value()
    if not x.type.rank:
        return
    dim = m.choices.integer(0, x.type.rank - 1)

    def fits(y: Value) -> bool:
        return (
            y.dtype is x.dtype
            and y.type.rank == x.type.rank
            and all(
                a == c for d, (a, c) in enumerate(zip(x.shape, y.shape, strict=True)) if d != dim
            )
        )

    operands = [x, m.pick(fits) or x]
    if m.choices.chance(30):
        operands.insert(m.choices.integer(0, 2), m.new_input(x.dtype, x.shape))
    m.bound[x] = max(m.bounds(*operands))
    if not all(v in m.exact for v in operands):
        m.exact.discard(x)
    _moved(m, x, m.b.concat(*operands, dim=dim))


def window(m: Maker) -> None:
    x = m.any_value()
    dims = tuple(d for d in range(x.type.rank) if x.shape[d] > 1 and m.choices.chance(60))[:2]
    if not dims or x.type.rank + len(dims) > 6:
        return
    size, stride, dilation = [], [], []
    for d in dims:
        size.append(m.choices.integer(1, min(3, x.shape[d])))
        dilation.append(m.choices.pick((1, 1, 2)) if 2 * size[-1] - 1 <= x.shape[d] else 1)
        stride.append(m.choices.pick((1, 1, 2, 3)))
    settings = {"stride": tuple(stride), "dilation": tuple(dilation)}
    taps = m.b.window(x, dims=dims, size=tuple(size), **settings)
    result = _moved(m, x, taps)
    if result is not x and m.choices.chance(40):
        extent = tuple(x.shape[d] for d in dims)
        _moved(m, x, m.b.unwindow(taps, dims=dims, extent=extent, **settings))


# Indexing, creation, random -----------------------------------------------------------------------


def as_strided(m: Maker) -> None:
    x = m.any_value()
    if not 0 < x.type.numel <= m.numel:
        return
    flat = m.b.reshape(x, shape=(x.type.numel,))
    sizes, strides, left = [], [], x.type.numel - 1
    for _ in range(m.choices.integer(0, 3)):
        size = m.choices.integer(1, 4)
        stride = m.choices.integer(0, left // max(size - 1, 1))
        sizes.append(size)
        strides.append(stride)
        left -= stride * (size - 1)
    if math.prod(sizes) > m.numel:
        return
    offset = m.choices.integer(0, left)
    picked = m.b.as_strided(flat, sizes=tuple(sizes), strides=tuple(strides), offset=offset)
    _moved(m, x, picked)


def take(m: Maker) -> None:
    x = m.any_value()
    if x.type.rank:
        dim = m.choices.integer(0, x.type.rank - 1)
        index = m.index(x.shape[dim])
        if m.choices.chance(30):
            m.b.check_range(index, low=0, high=x.shape[dim], message="take")
        _moved(m, x, m.b.take(x, index, dim=dim))


def take_along(m: Maker) -> None:
    x = m.any_value()
    if x.type.rank:
        dim = m.choices.integer(0, x.type.rank - 1)
        shape = tuple(m.choices.integer(1, size) if size > 0 else 0 for size in x.shape)
        _moved(m, x, m.b.take_along(x, m.index(x.shape[dim], shape), dim=dim))


def scatter(m: Maker) -> None:
    x = m.number()
    if not x.type.rank:
        return
    dim = m.choices.integer(0, x.type.rank - 1)
    if m.choices.chance(50):
        index = m.index(x.shape[dim])
        shape = (*x.shape[:dim], *index.shape, *x.shape[dim + 1 :])
        name = m.choices.pick(("index_add", "index_put"))
    else:
        shape = tuple(m.choices.integer(1, size) for size in x.shape)
        index = m.index(x.shape[dim], shape)
        name = m.choices.pick(("scatter_add", "scatter"))
    if math.prod(shape) > m.numel:
        return
    updates = m.pick(lambda v: v.shape == shape and v.dtype is x.dtype)
    updates = updates or m.new_input(x.dtype, shape)
    bound = m.bound[x] + m.bound[updates] * math.prod(shape)
    if m.choices.chance(20) and name == "scatter":
        combine = m.choices.pick(("amax", "amin"))
        m.add(m.b.scatter_reduce(x, index, updates, dim=dim, combine=combine), bound, exact=False)
        return
    m.add(getattr(m.b, name)(x, index, updates, dim=dim), bound, exact=False)


def sort(m: Maker) -> None:
    """Of exact values only: where rounding decides the order, so it does the positions."""
    x = m.exactly(m.any_value())
    if x.type.rank == 0:
        x = m.new_input(x.dtype, (m.choices.integer(1, 5),))
    dim = m.choices.integer(0, x.type.rank - 1)
    if m.choices.chance(50):
        values, indices = m.b.sort(x, dim=dim, descending=m.choices.chance(50))
    else:
        k = m.choices.integer(1, x.shape[dim])
        values, indices = m.b.topk(x, dim=dim, k=k, largest=m.choices.chance(50))
    if m.choices.chance(70):
        m.add(values, m.bound[x], exact=True)
    if m.choices.chance(50):
        m.add(indices, x.shape[dim], exact=True)


def creation(m: Maker) -> None:
    dtype = m.choices.pick([d for d in m.dtypes if d is not ir.bool_] or [ir.f32])
    if m.choices.chance(30):
        value = m.choices.pick((0.5, 0.0, 1.0, -1.5, 2)) if dtype.is_signed else 1
        m.add(m.b.constant(value=value, dtype=dtype), 2.0, exact=True)
        return
    shape = m.shape() or (3,)
    dim = m.choices.integer(0, len(shape) - 1)
    m.add(m.b.iota(shape=shape, dim=dim, dtype=dtype), float(shape[dim]), exact=True)


def random(m: Maker) -> None:
    def is_scalar(v: Value) -> bool:
        return v.dtype is ir.i64 and v.shape == ()

    seed = m.pick(is_scalar) or m.new_input(ir.i64, ())
    offset = m.pick(is_scalar) or m.new_input(ir.i64, ())
    bits = m.b.shift_right(m.b.random_bits(seed, offset, shape=m.shape()), 8)
    m.add(m.b.mul(m.b.cast(bits, dtype=ir.f32), 2.0**-24), 1.0, exact=True)


# Host calls ---------------------------------------------------------------------------------------


def matrices(m: Maker) -> None:
    """Operations of NumPy on matrices with a dominant diagonal."""

    def fits(v: Value) -> bool:
        return v.dtype in (ir.f32, ir.f64) and v.type.rank > 1 and 0 < v.shape[-1] == v.shape[-2]

    n = m.choices.integer(1, 3)
    floats = [d for d in m.dtypes if d in (ir.f32, ir.f64)] or [ir.f32]
    batch = (2,) if m.choices.chance(30) else ()
    x = m.pick(fits) or m.new_input(m.choices.pick(floats), (*batch, n, n))
    n = x.shape[-1]
    rows, columns = (m.b.iota(shape=(n, n), dim=dim, dtype=ir.i64) for dim in (0, 1))
    diagonal = m.b.where(m.b.eq(rows, columns), float(n + 1), m.b.mul(x, 0.0))
    x = m.b.add(m.b.mul(x, 1.0 / max(m.bound[x], 1.0)), diagonal)
    name = m.choices.pick(("inverse", "solve", "cholesky", "triangular_solve", "slogdet"))
    if name == "inverse":
        m.add(m.b.inverse(x), 1.0, exact=False)
    elif name == "solve":
        m.add(m.b.solve(x, m.b.mul(x, 0.5)), 1.0, exact=False)
    elif name == "triangular_solve":
        unit = m.choices.chance(50)
        settings = {"upper": m.choices.chance(50), "unitriangular": unit}
        m.add(m.b.triangular_solve(x, x, **settings), (n + 2.0) * 2.0**n, exact=False)
    elif name == "cholesky":
        rank = x.type.rank
        t = m.b.permute(x, dims=(*range(rank - 2), rank - 1, rank - 2))
        m.add(m.b.cholesky(m.b.add(x, t)), 2.0 * n + 4, exact=False)
    else:
        sign, logarithm = m.b.slogdet(x)
        m.add(logarithm, 2.0 * n, exact=False)
        m.add(sign, 1.0, exact=False)


STEPS: dict[str, Callable[[Maker], None]] = {
    step.__name__.rstrip("_"): step
    for step in (
        arithmetic,
        division,
        uniform,
        power,
        angle,
        unary,
        smooth,
        exponential,
        logarithm,
        rounding,
        comparison,
        bits,
        shift,
        selection,
        conversion,
        reduction,
        logical_reduction,
        position,
        scan,
        scan_in_blocks,
        contraction,
        reshape,
        permute,
        expand,
        slice_,
        pad,
        flip,
        concat,
        window,
        as_strided,
        take,
        take_along,
        scatter,
        sort,
        creation,
        random,
        matrices,
    )
}
