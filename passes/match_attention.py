"""Attention that is written out becomes one operation.

Needs: composites as they were captured.  Keeps: results but for rounding, where scores are finite
before they are hidden; nan where all scores of a query are hidden.

Two products with a softmax between them, whose matrices of scores nobody else reads, are attention:
one kernel, which has no such matrix in memory. Between the first product and the softmax the scores
may be multiplied by a number, then masks may be added, and some of the scores may become minus
infinity. A graph with the gradient needs the softmax's result, and keeps its products.

In this example, for many sizes, a mask hides some keys of each query.

Before:
    graph @g(%q: f32[2,16,8], %k: f32[2,16,8], %v: f32[2,16,8], %m: f32[16,16]) -> (f32[2,16,8]) {
      %0: f32[] = constant(value=2.0, dtype=f32)
      %1: f32[2,8,16] = permute(%k; dims=(0,2,1))
      %2: f32[2,16,16] = matmul(%q, %1)
      %3: f32[2,16,16] = div(%2, %0)
      %4: f32[2,16,16] = add(%3, %m)
      %5: f32[2,16,16] = softmax(%4; dim=2)
      %6: f32[2,16,8] = matmul(%5, %v)
      return %6
    }
After:
    graph @g(%q: f32[2,16,8], %k: f32[2,16,8], %v: f32[2,16,8], %m: f32[16,16]) -> (f32[2,16,8]) {
      %0: f32[] = constant(value=2.0, dtype=f32)
      %1: f32[2,8,16] = permute(%k; dims=(0,2,1))
      %2: f32[2,16,8] = permute(%1; dims=(0,2,1))
      %3: f32[2,16,16] = expand(%m; shape=(2,16,16))
      %4, %5: f32[2,16,8], f32[2,16] = attention_masked(%q, %2, %v, %3; scale=0.5, causal=false)
      %6: f32[2,16,1] = reshape(%5; shape=(2,16,1))
      %7: f32[] = constant(value=inf, dtype=f32)
      %8: bool[2,16,1] = eq(%6, %7)
      %9: f32[] = constant(value=nan, dtype=f32)
      %10: f32[2,16,8] = where(%8, %9, %4)
      return %10
    }
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from braze.ir.builder import Rewriter
from braze.ir.dtypes import f32, f64
from braze.ir.graph import Graph, Node, Value
from braze.ir.ops.attention import FEWEST_QUERIES
from braze.ir.ops.contract import parse_equation
from braze.ir.types import TensorType
from braze.passes.choices import Choices
from braze.passes.rewriting import constant_number, made_by

# Bytes of scores that stay in a core's cache: two products and a softmax are as fast, or faster.
_LARGE = 1 << 20
_PRODUCTS = ("matmul", "bmm", "mm", "contract")
# A dimension of a product, by what it is called in this product.
_Letter = str


def match_attention(graph: Graph, choices: Choices, *, everywhere: bool = False) -> Graph:
    """The graph with attention as single operations.

    Args:
        choices: for many sizes, attention is matched where it is not faster, too: products whose
            rows and columns are both of any number have no code.
        everywhere: match it whatever its size.
    """
    uses = graph.uses()
    read_once = {value for value, users in uses.items() if len(users) == 1} - set(graph.outputs)
    found: dict[Node, _Attention] = {}
    taken = set[Node]()
    for node in graph.nodes:
        if node.op.name == "softmax":
            (weights,) = node.results
            if weights in read_once:
                (user,) = uses[weights]
                match = _matched(node, user, read_once)
                # One product may be the first of an attention and the second of another.
                if (
                    match is not None
                    and taken.isdisjoint([*match.replaced, user])
                    and _pays(match, choices, everywhere)
                ):
                    found[user] = match
                    taken.update([*match.replaced, user])
    if not found:
        return graph
    new = Rewriter(graph)
    for node in graph.nodes:
        if node in found:
            with new.at(node.location):
                new.replace(node, _emitted(new, node, found[node]))
        elif node not in taken:
            new.keep(node)
    return new.done()


@dataclass(slots=True)
class _Attention:
    """What is matched; letters are those of the scores.

    Attributes:
        scores: the letters of the scores. queries, keys: two of them; the others are `lead`.
        type: of the scores.
        query, key, value: the operands and the letters of their dimensions.
        result: the letters of the result.
        scale: what scores are multiplied by.
        added: masks that are added to scores.
        hidden: conditions, and whether scores become minus infinity where they hold, or elsewhere.
        replaced: the nodes that are no longer needed.
    """

    scores: tuple[_Letter, ...]
    type: TensorType
    queries: _Letter
    keys: _Letter
    query: tuple[Value, tuple[_Letter, ...]]
    key: tuple[Value, tuple[_Letter, ...]]
    depth: _Letter
    scale: float
    added: list[Value]
    hidden: list[tuple[Value, bool]]
    replaced: list[Node]
    value: tuple[Value, tuple[_Letter, ...]] = field(init=False)
    columns: _Letter = field(init=False)
    result: tuple[_Letter, ...] = field(init=False)

    @property
    def lead(self) -> tuple[_Letter, ...]:
        return tuple(d for d in self.scores if d not in (self.queries, self.keys))


def _pays(match: _Attention, choices: Choices, everywhere: bool) -> bool:
    if not all(math.prod(x.shape) for x, _ in (match.query, match.key, match.value)):
        return False
    many = match.type.shape[match.scores.index(match.queries)] >= FEWEST_QUERIES
    many = many and (everywhere or choices.many_sizes or match.type.nbytes > _LARGE)
    return choices.choose("attention", many, lambda _: True)


def _matched(softmax: Node, product: Node, read_once: set[Value]) -> _Attention | None:
    """The attention whose weights a softmax makes, and a product reads."""
    (scores,) = softmax.operands
    dtype, rank = scores.dtype, scores.type.rank
    dim = softmax.attributes["dim"]
    assert isinstance(dim, int)
    if dtype not in (f32, f64) or product.op.name not in _PRODUCTS:
        return None
    match = _scored(scores, dim % rank, read_once)
    if match is None:
        return None
    match.replaced.append(softmax)
    return match if _weighs(product, softmax.result, match) else None


def _scored(scores: Value, dim: int, read_once: set[Value]) -> _Attention | None:
    """The attention whose scores, with masks, a value is; the keys are its dimension `dim`."""
    replaced: list[Node] = []
    added: list[Value] = []
    hidden: list[tuple[Value, bool]] = []
    scale, is_scaled, type = 1.0, False, scores.type
    while scores in read_once and scores.type == type and scores.node is not None:
        node = scores.node
        replaced.append(node)
        if node.op.name in _PRODUCTS:
            return _of_product(node, dim, scale, added, hidden, replaced)
        factor = _factor(node)
        if factor is not None:
            scale, is_scaled = scale * factor, True
            (scores,) = (x for x in node.operands if _number(x) is None)
        elif is_scaled:  # masks inside would be multiplied, too
            return None
        elif node.op.name == "add":
            scores, mask = sorted(node.operands, key=lambda x: not _leads_to_product(x))
            added.append(mask)
        elif node.op.name == "masked_fill" and node.attributes["value"] == -math.inf:
            scores, condition = node.operands
            hidden.append((condition, True))
        elif node.op.name == "where":
            condition, yes, no = node.operands
            if _number(yes) == -math.inf:
                scores = no
                hidden.append((condition, True))
            elif _number(no) == -math.inf:
                scores = yes
                hidden.append((condition, False))
            else:
                return None
        else:
            return None
    return None


def _number(value: Value) -> float | int | bool | None:
    """The number that all elements of a value are; it may be computed from numbers, as the root of
    a width is."""
    found = constant_number(value)
    node = value.node
    if found is not None or node is None or value.type.numel != 1 or node.op.evaluate is None:
        return found
    operands = [_number(x) for x in node.operands]
    if not operands or len(node.results) != 1 or None in operands or node.op.effect:
        return None
    arrays = [
        np.full(x.shape, number, x.dtype.numpy)
        for x, number in zip(node.operands, operands, strict=True)
    ]
    with np.errstate(all="ignore"):
        result = np.asarray(node.op.evaluate(*arrays, **node.attributes)).item()
    assert isinstance(result, (float, int, bool))
    return result


def _factor(node: Node) -> float | None:
    """What an operation multiplies its one operand that is no constant by."""
    if node.op.name not in ("mul", "div"):
        return None
    left, right = map(_number, node.operands)
    if left is not None and right is None and node.op.name == "mul":
        left, right = right, left
    if left is not None or right is None or not math.isfinite(right) or right == 0:
        return None
    return float(right) if node.op.name == "mul" else 1 / float(right)


def _leads_to_product(value: Value) -> bool:
    """Is a value a product of matrices, but for what is done to scores?"""
    while value.node is not None and not made_by(value, *_PRODUCTS):
        if not made_by(value, "mul", "div", "add", "masked_fill", "where"):
            return False
        same = [x for x in value.node.operands if x.type == value.type]
        if not same:
            return False
        value = same[-1] if made_by(value, "where") else same[0]
    return value.node is not None


def _of_product(
    node: Node,
    dim: int,
    scale: float,
    added: list[Value],
    hidden: list[tuple[Value, bool]],
    replaced: list[Node],
) -> _Attention | None:
    letters = _letters(node)
    if letters is None:
        return None
    *sides, scores = letters
    keys = scores[dim]
    key = 0 if keys in sides[0] else 1
    own, other = set(sides[key]), set(sides[1 - key])
    depth, queries = own & other - set(scores), other & set(scores) - own
    if keys in other or len(depth) != 1 or len(queries) != 1:
        return None
    if set(scores) != (own & other & set(scores)) | queries | {keys}:
        return None
    if len(own) != len(scores) or len(other) != len(scores):
        return None
    operands = [(x, s) for x, s in zip(node.operands, sides, strict=True)]
    return _Attention(
        scores, node.result.type, queries.pop(), keys, operands[1 - key], operands[key],
        depth.pop(), scale, added, hidden, replaced,
    )  # fmt: skip


def _weighs(node: Node, weights: Value, match: _Attention) -> bool:
    """Whether a product is that of the weights and values, which the match is given."""
    letters = _letters(node)
    if letters is None or node.operands[0] is node.operands[1]:
        return False
    *sides, result = letters
    first = node.operands.index(weights)
    own = dict(zip(sides[first], match.scores, strict=True))
    new = [d for d in sides[1 - first] if d not in own]
    if len(new) != 1:
        return False
    own[new[0]] = match.columns = f"{new[0]}'"
    value = tuple(own[d] for d in sides[1 - first])
    result = tuple(own[d] for d in result)
    match.value, match.result = (node.operands[1 - first], value), result
    return set(value) == {*match.lead, match.keys, match.columns} and set(result) == {
        *match.lead, match.queries, match.columns,
    }  # fmt: skip


def _letters(node: Node) -> tuple[tuple[_Letter, ...], ...] | None:
    """What the dimensions of a product's operands and of its result are called."""
    x, y = node.operands
    if node.op.name == "contract":
        equation = node.attributes["equation"]
        assert isinstance(equation, str)
        if set(node.attributes) != {"equation"}:
            return None
        left, right, result = map(tuple, parse_equation(equation))
        return left, right, result
    rank = x.type.rank
    if rank != y.type.rank or rank < 2 or x.shape[:-2] != y.shape[:-2]:
        return None
    lead = tuple(f"lead{i}" for i in range(rank - 2))
    return (*lead, "m", "k"), (*lead, "k", "n"), (*lead, "m", "n")


def _emitted(new: Rewriter, node: Node, match: _Attention) -> Value:
    lead = match.lead
    orders = [
        (*lead, match.queries, match.depth),
        (*lead, match.keys, match.depth),
        (*lead, match.keys, match.columns),
    ]
    operands = [
        _permuted(new, new[x], letters, order)
        for (x, letters), order in zip((match.query, match.key, match.value), orders, strict=True)
    ]
    mask = _mask(new, match)
    rows = (*lead, match.queries, match.columns)
    if mask is None:
        out, _ = new.attention(*operands, scale=match.scale, causal=False)
    else:
        out, sums = new.attention_masked(*operands, mask, scale=match.scale, causal=False)
        # A query that sees no key: the operation gives zeros, softmax does not.
        sums = new.reshape(sums, shape=(*sums.shape, 1))
        unseen = new.eq(sums, new.constant(value=math.inf, dtype=out.dtype))
        out = new.where(unseen, new.constant(value=math.nan, dtype=out.dtype), out)
    result = _permuted(new, out, rows, match.result)
    assert result.type == node.result.type
    return result


def _mask(new: Rewriter, match: _Attention) -> Value | None:
    """What is added to the scores, [..., queries, keys]."""
    type = match.type
    terms = [new[x] for x in match.added]
    for condition, hides in match.hidden:
        hide, keep = (new.constant(value=v, dtype=type.dtype) for v in (-math.inf, 0.0))
        given = (hide, keep) if hides else (keep, hide)
        terms.append(new.where(new[condition], *given))
    if not terms:
        return None
    total = terms[0]
    for term in terms[1:]:
        total = new.add(total, term)
    if total.shape != type.shape:
        total = new.expand(total, shape=type.shape)
    return _permuted(new, total, match.scores, (*match.lead, match.queries, match.keys))


def _permuted(
    new: Rewriter, value: Value, letters: Sequence[_Letter], order: Sequence[_Letter]
) -> Value:
    if tuple(letters) == tuple(order):
        return value
    permuted: Value = new.permute(value, dims=tuple(letters.index(d) for d in order))
    return permuted
