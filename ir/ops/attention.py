"""Primitive attention, softmax(scale q k' + mask) v, and its gradient, as one kernel each.

Dao et al., "FlashAttention: fast and memory-efficient exact attention with IO-awareness", 2022. The
leading dimensions of all operands are the same. What a kernel keeps of the scores is the logarithm
of the sum of their exponentials, `lse`: the gradient makes the weights again from it.

Each is declared four times: with a mask or without, with dropout or without.

A mask is added to the scores, [..., queries, keys]. Dropout draws the word of query q and key k
where `random_bits` of shape [..., queries, row_for(keys)] has it, so that a row begins a block of
its own. Dropped are weights whose word is below p * 2 ** 32.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from braze.ir.dtypes import i64, u32
from braze.ir.errors import AttributeTypeError, DTypeError, ShapeError
from braze.ir.op import AttributeKind, Op, Rule, declare
from braze.ir.ops.creation import BLOCK, counters_used
from braze.ir.ops.creation import random_bits as random_bits_op
from braze.ir.ops.rules import common_dtype
from braze.ir.types import Shape, TensorType, tensor_type
from braze.ir.unrolled import reverse_gradient

Array = np.ndarray[Any, np.dtype[Any]]

# Queries are taken in blocks of a divisor of this many; so many go to one part of the gradients.
QUERIES = 64
# Rows of the gradients of keys and values are a multiple of this long.
COLUMNS = 16
# With fewer queries it is not worth it: most lanes of the kernel's vectors would be empty.
FEWEST_QUERIES = 8
WORD = 32


def columns_for(width: int) -> int:
    """How long a row of the gradients of keys and values is."""
    return -(-width // COLUMNS) * COLUMNS


def row_for(keys: int) -> int:
    """How many random words belong to a query."""
    return -(-keys // BLOCK) * BLOCK


def threshold(p: float) -> int:
    """Words below it drop a weight."""
    return round(p * (1 << WORD))


def counters(lead: int, queries: int, keys: int) -> int:
    """By how much dropout advances the generator's offset; `lead` is how many heads there are."""
    return counters_used(lead * queries * row_for(keys))


# Types --------------------------------------------------------------------------------------------


def _check(
    name: str, q: TensorType, k: TensorType, v: TensorType, extra: Sequence[TensorType], p: float
) -> None:
    """Raises: DTypeError, ShapeError or AttributeTypeError."""
    dtype = common_dtype(name, q, k, v)
    if dtype.name not in ("f32", "f64"):
        raise DTypeError(f"[{name}] computes in f32 or f64, given {q}")
    lead = q.shape[:-2]
    fits = q.rank >= 2 and lead == k.shape[:-2] == v.shape[:-2] and k.rank == v.rank == q.rank
    if not fits or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ShapeError(
            f"[{name}] needs query [..., L, E], key [..., S, E] and value [..., S, V], given "
            f"{q}, {k} and {v}"
        )
    if "masked" in name:
        mask, *extra = extra
        wanted = (*lead, q.shape[-2], k.shape[-2])
        if mask.dtype is not dtype or mask.shape != wanted:
            raise ShapeError(f"[{name}] the mask must be {tensor_type(dtype, wanted)}, not {mask}")
    for state in extra:
        if state.dtype.name != "i64" or state.shape != ():
            raise DTypeError(f"[{name}] seed and offset must be i64[], given {state}")
    if not 0 <= threshold(p) < 1 << WORD:
        raise AttributeTypeError(f"[{name}] the probability must be in [0, 1), given {p}")


def _types(
    name: str, q: TensorType, k: TensorType, v: TensorType, *extra: TensorType, p: float
) -> tuple[TensorType, ...]:
    _check(name, q, k, v, extra, p)
    shape = (*q.shape[:-1], v.shape[-1])
    types = (tensor_type(q.dtype, s) for s in (shape, shape[:-1]))
    return tuple(types)


def _gradient_types(
    name: str, g: TensorType, q: TensorType, k: TensorType, v: TensorType, lse: TensorType,
    delta: TensorType, *extra: TensorType, p: float, parts: int,
) -> tuple[TensorType, ...]:  # fmt: skip
    _check(name, q, k, v, extra, p)
    common_dtype(name, g, q, lse, delta)
    rows = q.shape[:-1]
    if g.shape != (*rows, v.shape[-1]) or lse.shape != rows or delta.shape != rows:
        raise ShapeError(f"[{name}] {g}, {lse} and {delta} do not belong to {q} and {v}")
    if parts < 1:
        raise AttributeTypeError(f"[{name}] there must be at least one part, not {parts}")
    shapes = [q.shape]
    for x in (k, v):
        shapes.append((parts, *x.shape[:-1], columns_for(x.shape[-1])))
    return tuple(tensor_type(q.dtype, shape) for shape in shapes)


# Meaning ------------------------------------------------------------------------------------------


class _Heads:
    """The heads of a call one by one, so that one matrix of scores is there at a time."""

    def __init__(
        self, q: Array, k: Array, extra: Sequence[Array], masked: bool, scale: float, causal: bool,
        p: float,
    ) -> None:  # fmt: skip
        self.q, self.k = q, k
        self.mask = extra[0] if masked else None
        self.state = extra[masked:]
        self.scale, self.causal, self.p = scale, causal, p
        self.rows, self.keys = q.shape[-2], k.shape[-2]

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        return iter(np.ndindex(self.q.shape[:-2]))

    def scores(self, head: tuple[int, ...]) -> Array:
        """[queries, keys]."""
        scores: Array = (self.q[head] * self.q.dtype.type(self.scale)) @ self.k[head].T
        if self.mask is not None:
            scores = scores + self.mask[head]
        if self.causal:
            below = np.tri(self.rows, self.keys, dtype=bool)
            scores = np.where(below, scores, -np.inf).astype(scores.dtype)
        return scores

    def kept(self, head: tuple[int, ...]) -> Array | float:
        """What weights are multiplied by: 0 or 1 / (1 - p)."""
        if not self.state:
            return 1.0
        seed, offset = self.state
        row = row_for(self.keys)
        number = int(np.ravel_multi_index(head, self.q.shape[:-2])) if head else 0
        first = np.int64(int(offset) + number * counters_used(self.rows * row))
        assert random_bits_op.evaluate is not None
        words = random_bits_op.evaluate(seed, first, shape=(self.rows, row))[:, : self.keys]
        factor = np.where(words >= np.uint32(threshold(self.p)), 1.0 / (1.0 - self.p), 0.0)
        return factor.astype(self.q.dtype)


def _evaluate(
    masked: bool, q: Array, k: Array, v: Array, *extra: Array, scale: float, causal: bool,
    p: float = 0.0,
) -> tuple[Array, ...]:  # fmt: skip
    out = np.zeros((*q.shape[:-1], v.shape[-1]), q.dtype)
    lse = np.zeros(q.shape[:-1], q.dtype)
    heads = _Heads(q, k, extra, masked, scale, causal, p)
    with np.errstate(all="ignore"):
        for head in heads:
            scores = heads.scores(head)
            top = scores.max(-1, keepdims=True, initial=-np.inf)
            top = np.where(top == -np.inf, top.dtype.type(0), top)
            powers = np.exp(scores - top)
            total = powers.sum(-1, keepdims=True)
            products = (powers * heads.kept(head)) @ v[head]
            out[head] = np.where(total == 0, 0, products / total)
            # Infinite, so that the gradient's weights become zero again.
            lse[head] = np.where(total == 0, np.inf, top + np.log(total))[:, 0]
    return out, lse


def _evaluate_gradient(
    masked: bool, g: Array, q: Array, k: Array, v: Array, lse: Array, delta: Array, *extra: Array,
    scale: float, causal: bool, parts: int, p: float = 0.0,
) -> tuple[Array, ...]:  # fmt: skip
    found = np.zeros(q.shape, q.dtype)
    of_keys, of_values = (
        np.zeros((parts, *x.shape[:-1], columns_for(x.shape[-1])), q.dtype) for x in (k, v)
    )
    heads = _Heads(q, k, extra, masked, scale, causal, p)
    part = np.arange(q.shape[-2]) // QUERIES % parts
    factor = q.dtype.type(scale)
    with np.errstate(all="ignore"):
        for head in heads:
            weights = np.exp(heads.scores(head) - lse[head][:, None])
            kept = heads.kept(head)
            down = weights * (kept * (g[head] @ v[head].T) - delta[head][:, None])
            found[head] = down @ k[head] * factor
            for number in range(parts):
                mine = part == number
                place = (number, *head)
                of_keys[place][:, : k.shape[-1]] = down[mine].T @ (q[head][mine] * factor)
                dropped = (weights * kept)[mine]
                of_values[place][:, : v.shape[-1]] = dropped.T @ g[head][mine]
    return found, of_keys, of_values


# Gradients ----------------------------------------------------------------------------------------


def parts_for(lead: int, queries: int) -> int:
    """In how many parts the gradients of keys and values are summed: for few heads, so many that
    there is work for several threads."""
    return max(1, min(-(-LEAST_TASKS // max(lead, 1)), -(-queries // QUERIES)))


LEAST_TASKS = 8


def _extra(masked: bool, random: bool) -> list[str]:
    return ["mask"] * masked + ["seed", "offset"] * random


def _name(masked: bool, random: bool) -> str:
    return "attention" + "_masked" * masked + "_dropout" * random


def _asking(names: Sequence[str], rule: Callable[[Any, dict[str, Any]], Any]) -> Rule:
    """A gradient rule that asks for these and gets them by name."""

    def run(b: Any, *values: Any) -> Any:
        return rule(b, dict(zip(names, values, strict=True)))

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in ("b", *names)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


def _settings(x: dict[str, Any]) -> dict[str, Any]:
    return {name: x[name] for name in ("scale", "causal", "p", "parts") if name in x}


def _back(b: Any, x: dict[str, Any], operand: str, masked: bool, random: bool) -> Any:
    """The gradient of an operand of attention."""
    out, q, g = x["out"], x["query"], x["g_out"]
    if g is None:
        g = b.full(shape=out.type.shape, value=0.0, dtype=out.type.dtype)
    delta = b.sum(b.mul(g, out), dims=(out.type.rank - 1,), keepdim=False)
    if x["g_lse"] is not None:
        delta = b.sub(delta, x["g_lse"])
    extra = [x[name] for name in _extra(masked, random)]
    operands = (g, q, x["key"], x["value"], x["lse"], delta, *extra)
    if operand == "mask":
        return _plain(b, *operands, **_settings(x), parts=1)[3]
    emit = getattr(b, f"{_name(masked, random)}_grad")
    parts = parts_for(math.prod(q.type.shape[:-2]), q.type.shape[-2])
    results = emit(*operands, **_settings(x), parts=parts)
    if operand == "query":
        return results[0]
    return _summed(b, results[1 if operand == "key" else 2], x[operand].type.shape)


def _summed(b: Any, parts: Any, shape: Shape) -> Any:
    """The parts' sum without the padding of its rows."""
    if parts.type.shape[-1] != shape[-1]:
        parts = _begin(b, parts, (parts.type.shape[0], *shape))
    if parts.type.shape[0] == 1:
        return b.reshape(parts, shape=shape)
    return b.sum(parts, dims=(0,), keepdim=False)


def _back_again(b: Any, x: dict[str, Any], position: int, masked: bool, random: bool) -> Any:
    """The gradient of an operand of attention's gradient."""
    names = [*_BACK_OPERANDS, *_extra(masked, random)]
    settings = _settings(x)
    return reverse_gradient(
        b,
        _name(masked, random),
        lambda inner, operands: list(_plain(inner, *operands, **settings)[:3]),
        [x[name] for name in names],
        [x[f"g_{name}"] for name in _BACK_RESULTS],
        position,
    )


# In other operations, for gradients of gradients and of masks -------------------------------------


def _plain(
    b: Any, g: Any, q: Any, k: Any, v: Any, lse: Any, delta: Any, *extra: Any, scale: float,
    causal: bool, parts: int, p: float = 0.0,
) -> tuple[Any, Any, Any, Any]:  # fmt: skip
    """What the gradient computes, and the gradient of the scores [..., queries, keys], with these
    matrices in memory."""
    shape = (*q.type.shape[:-1], k.type.shape[-2])
    scores = b.mul(_product(b, q, k, "le,se->ls"), scale)
    if len(extra) % 2:
        mask, *extra = extra  # type: ignore[assignment]
        scores = b.add(scores, mask)
    if causal:
        rank = len(shape)
        row, column = (b.iota(shape=shape, dim=d, dtype=i64) for d in (rank - 2, rank - 1))
        scores = b.where(b.ge(row, column), scores, -math.inf)

    def over_keys(x: Any) -> Any:
        return b.expand(b.reshape(x, shape=(*shape[:-1], 1)), shape=shape)

    weights = b.exp(b.sub(scores, over_keys(lse)))
    dropped, arriving = weights, _product(b, g, v, "lv,sv->ls")
    if extra:
        words = b.random_bits(*extra, shape=(*shape[:-1], row_for(shape[-1])))
        kept = b.ge(_begin(b, words, shape), b.constant(value=float(threshold(p)), dtype=u32))
        dropped, arriving = (
            b.where(kept, b.mul(x, 1.0 / (1.0 - p)), 0.0) for x in (weights, arriving)
        )
    down = b.mul(weights, b.sub(arriving, over_keys(delta)))
    of_queries = b.mul(_product(b, down, k, "ls,se->le"), scale)
    of_keys = _by_parts(b, b.mul(down, scale), q, parts)
    return of_queries, of_keys, _by_parts(b, dropped, g, parts), down


def _by_parts(b: Any, x: Any, y: Any, parts: int) -> Any:
    """The products over the queries of each part, [parts, ..., keys, columns]."""
    found = []
    for part in range(parts):
        left, right = _rows(b, x, part, parts), _rows(b, y, part, parts)
        product = _product(b, left, right, "ls,lv->sv")
        width = product.type.shape[-1]
        product = _padded(b, product, columns_for(width) - width)
        found.append(b.reshape(product, shape=(1, *product.type.shape)))
    return found[0] if parts == 1 else b.concat(*found, dim=0)


def _rows(b: Any, x: Any, part: int, parts: int) -> Any:
    """The queries of one part of [..., queries, columns]."""
    if parts == 1:
        return x
    *lead, rows, columns = x.type.shape
    blocks = []
    for start in range(part * QUERIES, rows, parts * QUERIES):
        starts = (*(0 for _ in lead), start, 0)
        stops = (*lead, min(start + QUERIES, rows), columns)
        blocks.append(b.slice(x, starts=starts, stops=stops, steps=(1,) * len(stops)))
    if not blocks:
        return b.slice(x, starts=(0,) * (len(lead) + 2), stops=(*lead, 0, columns),
                       steps=(1,) * (len(lead) + 2))  # fmt: skip
    return blocks[0] if len(blocks) == 1 else b.concat(*blocks, dim=len(lead))


def _product(b: Any, x: Any, y: Any, equation: str) -> Any:
    """A contraction of matrices, for each head."""
    heads = "abcdfghijkmnopqrtuwxyz"[: x.type.rank - 2]
    left, right, result = equation.replace("->", ",").split(",")
    return b.contract(x, y, equation=f"{heads}{left},{heads}{right}->{heads}{result}")


def _begin(b: Any, x: Any, shape: Shape) -> Any:
    """The first elements of each dimension."""
    if x.type.shape == shape:
        return x
    return b.slice(x, starts=(0,) * len(shape), stops=shape, steps=(1,) * len(shape))


def _padded(b: Any, x: Any, more: int) -> Any:
    """With zeros at the end of the last dimension."""
    if more == 0:
        return x
    none = (0,) * x.type.rank
    return b.pad(x, low=none, high=(*none[1:], more), interior=none, value=0.0)


# Declarations -------------------------------------------------------------------------------------

_OPERANDS = ("query", "key", "value")
_BACK_OPERANDS = ("back", "query", "key", "value", "lse", "delta")
_BACK_RESULTS = ("of_query", "of_key", "of_value")


def _declare(masked: bool, random: bool) -> tuple[Op, Op]:
    name, extra = _name(masked, random), _extra(masked, random)
    kinds: dict[str, AttributeKind] = {"scale": float, "causal": bool}
    if random:
        kinds["p"] = float
    derived = [*_OPERANDS, *(["mask"] if masked else [])]
    asked = ("g_out", "g_lse", *_OPERANDS, *extra, "out", "lse", *kinds)

    def types(*given: TensorType, scale: float, causal: bool, p: float = 0.0) -> Any:
        return _types(name, *given, p=p)

    def back_types(
        *given: TensorType, scale: float, causal: bool, parts: int, p: float = 0.0
    ) -> Any:
        return _gradient_types(name + "_grad", *given, p=p, parts=parts)

    words = ", with a mask" * masked + ", with dropout" * random
    forward = declare(
        name,
        "attention",
        " ".join([*_OPERANDS, *extra]),
        infer=types,
        evaluate=partial(_evaluate, masked),
        attributes=kinds,
        results="out lse",
        gradients={
            n: _asking(asked, partial(_back, operand=n, masked=masked, random=random))
            for n in derived
        },
        domain=(-1.0, 1.0),
        doc=f"""softmax(scale query key' ) value{words}: query [..., L, E], key [..., S, E] and
value [..., S, V] to [..., L, V], and the logarithms of the sums of the exponentials, [..., L]. A
query that sees no key gives zeros, and infinity there. `causal` hides the keys after each query.
See `braze.ir.ops.attention` for mask and dropout.""",
    )
    kinds = {**kinds, "parts": int}
    names = [*_BACK_OPERANDS, *extra]
    asked = (*(f"g_{n}" for n in _BACK_RESULTS), *names, *kinds)
    again = {
        n: _asking(asked, partial(_back_again, position=i, masked=masked, random=random))
        for i, n in enumerate(names)
        if n not in ("seed", "offset")
    }
    back = declare(
        f"{name}_grad",
        "attention",
        " ".join(names),
        infer=back_types,
        evaluate=partial(_evaluate_gradient, masked),
        attributes=kinds,
        results=" ".join(_BACK_RESULTS),
        gradients=again,
        domain=(-1.0, 1.0),
        doc=f"""The gradients of the operands of `{name}` from `back`, that of its first result:
delta is the sum of back * out over a row, less the gradient of lse. Those of keys and values are
given in parts, [parts, ..., S, columns], the sum over the queries with number // {QUERIES} % parts,
in rows padded with zeros to a multiple of {COLUMNS}.""",
    )
    return forward, back


attention, attention_grad = _declare(False, False)
attention_masked, attention_masked_grad = _declare(True, False)
attention_dropout, attention_dropout_grad = _declare(False, True)
attention_masked_dropout, attention_masked_dropout_grad = _declare(True, True)
