"""Rewrite rules for movement operations: identities vanish, chains merge, and a simpler kind is
preferred.

The simplest kind is `reshape`, which leaves the buffer as it is; so a permutation that only moves
dimensions of size 1 becomes one.
"""

from __future__ import annotations

from collections.abc import Callable

from braze.ir.graph import Node, Value
from braze.passes.rewriting import Rule, RuleBuilder, Site, constant_number, made_by


def no_op(b: RuleBuilder, site: Site) -> Value | None:
    """A movement that gives back its operand."""
    x = site.operands[0]
    return x if _IDENTITY[site.op.name](site) and x.type == site.type else None


def merge_reshapes(b: RuleBuilder, site: Site) -> Value | None:
    """reshape(reshape(x)) -> reshape(x)."""
    (x,) = site.operands
    if not made_by(x, "reshape"):
        return None
    return b.reshape_to(_inner(x), site.type.shape)


def reshape_of_uniform(b: RuleBuilder, site: Site) -> Value | None:
    """A rearrangement of equal elements -> an expanded constant."""
    number = constant_number(site.operands[0])
    if number is None or (made_by(site.operands[0], "constant") and site.op.name == "expand"):
        return None
    return b.constant_like(number, site.type)


def merge_permutes(b: RuleBuilder, site: Site) -> Value | None:
    """permute(permute(x)) -> permute(x)."""
    (x,) = site.operands
    if not made_by(x, "permute"):
        return None
    inner = _node(x).attributes["dims"]
    assert isinstance(inner, tuple)
    merged: Value = b.permute(_inner(x), dims=tuple(inner[d] for d in site.ints("dims")))
    return merged


def permute_as_reshape(b: RuleBuilder, site: Site) -> Value | None:
    """A permutation that keeps the order of the dimensions larger than 1 -> reshape."""
    (x,) = site.operands
    real = [d for d in site.ints("dims") if x.shape[d] != 1]
    return b.reshape_to(x, site.type.shape) if real == sorted(real) else None


def expand_as_reshape(b: RuleBuilder, site: Site) -> Value | None:
    """An expansion that repeats nothing -> reshape."""
    (x,) = site.operands
    if made_by(x, "constant") or x.type.numel != site.type.numel:
        return None
    return b.reshape_to(x, site.type.shape)


def merge_expands(b: RuleBuilder, site: Site) -> Value | None:
    """expand(expand(x)) -> expand(x)."""
    (x,) = site.operands
    return b.expand_to(_inner(x), site.type.shape) if made_by(x, "expand") else None


def merge_slices(b: RuleBuilder, site: Site) -> Value | None:
    """slice(slice(x)) -> slice(x)."""
    (x,) = site.operands
    if not made_by(x, "slice"):
        return None
    inner = _node(x).attributes
    first, gaps = inner["starts"], inner["steps"]
    assert isinstance(first, tuple) and isinstance(gaps, tuple)
    starts, stops, steps = [], [], []
    for axis, (start, step) in enumerate(zip(site.ints("starts"), site.ints("steps"), strict=True)):
        count = site.type.shape[axis]
        begin = first[axis] + start * gaps[axis]
        gap = step * gaps[axis]
        begin = begin if count else 0
        starts.append(begin)
        steps.append(gap)
        stops.append(begin + (count - 1) * gap + 1 if count else begin)
    merged: Value = b.slice(
        _inner(x), starts=tuple(starts), stops=tuple(stops), steps=tuple(steps)
    )
    return merged


def slice_inside_pad(b: RuleBuilder, site: Site) -> Value | None:
    """slice(pad(x)) that reads no padding -> slice(x)."""
    (x,) = site.operands
    if not made_by(x, "pad") or 0 in site.type.shape:
        return None
    source = _inner(x)
    low, interior = _node(x).attributes["low"], _node(x).attributes["interior"]
    assert isinstance(low, tuple) and isinstance(interior, tuple)
    starts, stops, steps = [], [], []
    for axis, (start, step) in enumerate(zip(site.ints("starts"), site.ints("steps"), strict=True)):
        gap, count = interior[axis] + 1, site.type.shape[axis]
        begin = start - low[axis]
        last = begin + (count - 1) * step
        if begin % gap or (step % gap and count > 1):
            return None
        if begin < 0 or last > (source.shape[axis] - 1) * gap:
            return None
        starts.append(begin // gap)
        steps.append(max(step // gap, 1))
        stops.append(starts[-1] + (count - 1) * steps[-1] + 1)
    inside: Value = b.slice(
        source, starts=tuple(starts), stops=tuple(stops), steps=tuple(steps)
    )
    return inside


def slice_of_padding(b: RuleBuilder, site: Site) -> Value | None:
    """slice(pad(x)) that reads only padding at one side -> an expanded constant."""
    (x,) = site.operands
    if not made_by(x, "pad") or 0 in site.type.shape:
        return None
    attributes = _node(x).attributes
    low, high, value = attributes["low"], attributes["high"], attributes["value"]
    assert isinstance(low, tuple) and isinstance(high, tuple) and isinstance(value, (int, float))
    starts, stops = site.ints("starts"), site.ints("stops")
    sides = zip(starts, stops, low, high, x.shape, strict=True)
    if any(stop <= before or start >= n - after for start, stop, before, after, n in sides):
        return b.constant_like(value, site.type)
    return None


def slice_inside_concat(b: RuleBuilder, site: Site) -> Value | None:
    """slice(concat(x, y)) that reads one of the operands only -> slice of it."""
    (x,) = site.operands
    if not made_by(x, "concat") or 0 in site.type.shape:
        return None
    dim = _node(x).attributes["dim"]
    assert isinstance(dim, int)
    starts, stops = list(site.ints("starts")), list(site.ints("stops"))
    at = 0
    for operand in _node(x).operands:
        if at <= starts[dim] and stops[dim] <= at + operand.shape[dim]:
            starts[dim] -= at
            stops[dim] -= at
            inside: Value = b.slice(
                operand, starts=tuple(starts), stops=tuple(stops), steps=site.ints("steps")
            )
            return inside
        at += operand.shape[dim]
    return None


def merge_pads(b: RuleBuilder, site: Site) -> Value | None:
    """pad(pad(x)) with one value and no gaps -> pad(x)."""
    (x,) = site.operands
    if not made_by(x, "pad") or any(site.ints("interior")):
        return None
    inner = _node(x).attributes
    if repr(inner["value"]) != repr(site.attributes["value"]):
        return None
    merged: Value = b.pad(
        _inner(x),
        low=_added(inner["low"], site.ints("low")),
        high=_added(inner["high"], site.ints("high")),
        interior=inner["interior"],
        value=inner["value"],
    )
    return merged


def _added(left: object, right: tuple[int, ...]) -> tuple[int, ...]:
    assert isinstance(left, tuple)
    return tuple(p + q for p, q in zip(left, right, strict=True))


def flip_less(b: RuleBuilder, site: Site) -> Value | None:
    """Flips of dimensions of size 1 go; flip(flip(x)) -> one flip."""
    (x,) = site.operands
    dims = site.ints("dims")
    real = {d for d in dims if x.shape[d] != 1}
    if made_by(x, "flip"):
        inner = _node(x).attributes["dims"]
        assert isinstance(inner, tuple)
        both = tuple(sorted(real ^ set(inner)))
        merged: Value = b.flip(_inner(x), dims=both) if both else _inner(x)
        return merged
    if len(real) == len(dims):
        return None
    fewer: Value = b.flip(x, dims=tuple(sorted(real))) if real else x
    return fewer


def concat_less(b: RuleBuilder, site: Site) -> Value | None:
    """Empty operands of concat go; a single one is the result."""
    dim = site.attributes["dim"]
    assert isinstance(dim, int)
    kept = [x for x in site.operands if x.shape[dim]]
    if len(kept) == 1:
        return kept[0]
    if len(kept) == len(site.operands) or not kept:
        return None
    fewer: Value = b.concat(*kept, dim=dim)
    return fewer


def window_of_one(b: RuleBuilder, site: Site) -> Value | None:
    """Windows of a single element -> a slice with the stride as its step."""
    (x,) = site.operands
    if any(k != 1 for k in site.ints("size")):
        return None
    steps = dict(zip(site.ints("dims"), site.ints("stride"), strict=True))
    picked = b.slice(
        x,
        starts=(0,) * x.type.rank,
        stops=x.shape,
        steps=tuple(steps.get(axis, 1) for axis in range(x.type.rank)),
    )
    return b.reshape_to(picked, site.type.shape)


def _node(value: Value) -> Node:
    assert value.node is not None
    return value.node


def _inner(value: Value) -> Value:
    return _node(value).operands[0]


_IDENTITY: dict[str, Callable[[Site], bool]] = {
    "reshape": lambda site: True,
    "expand": lambda site: True,
    "permute": lambda site: site.ints("dims") == tuple(range(site.type.rank)),
    "slice": lambda site: set(site.ints("steps")) <= {1} and not any(site.ints("starts")),
    "pad": lambda site: True,
    "flip": lambda site: not site.ints("dims"),
}

MOVEMENT: dict[str, tuple[Rule, ...]] = {
    "reshape": (no_op, merge_reshapes, reshape_of_uniform),
    "permute": (no_op, merge_permutes, reshape_of_uniform, permute_as_reshape),
    "expand": (no_op, merge_expands, reshape_of_uniform, expand_as_reshape),
    "slice": (
        no_op,
        reshape_of_uniform,
        merge_slices,
        slice_inside_pad,
        slice_of_padding,
        slice_inside_concat,
    ),
    "pad": (no_op, merge_pads),
    "flip": (no_op, reshape_of_uniform, flip_less),
    "concat": (concat_less,),
    "window": (reshape_of_uniform, window_of_one),
}
